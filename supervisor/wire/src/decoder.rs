//! Frames out of a stream that arrives in pieces of any size.
//!
//! Duty: hold the unfinished frame, hand out finished ones. For shells that own their reads, such as an event
//! loop; `stream::FrameReader` is the same thing for blocking readers.
//! Not its duty: reading.
//! Invariant: holds at most `MAX_FRAME` bytes, and after a fault gives that fault for ever.
//!
//! ```text
//! Open --bad frame--> Broken(fault)      (no way back)
//! ```

use crate::{
    frame::{FrameFault, HEADER_LEN, MAX_FRAME, decode, frame_len, payload},
    message::Message,
};
use core::{fmt, ops::Range};

/// Takes bytes in, gives messages out.
///
/// ```
/// # use hearth_wire::{Decoder, ToAgent, encode};
/// # let mut buf = [0; hearth_wire::MAX_FRAME];
/// # let mut input = encode(&ToAgent::Shutdown { grace_ms: 1 }, &mut buf).unwrap();
/// # let mut seen = 0;
/// let mut decoder = Decoder::new();
/// while !input.is_empty() {
///     input = decoder.push(input);
///     while let Some(message) = decoder.pop::<ToAgent>()? {
///         # let _ = message; seen += 1;
///         // act on it
///     }
/// }
/// # assert_eq!(seen, 1);
/// # Ok::<(), hearth_wire::FrameFault>(())
/// ```
pub struct Decoder {
    buf: [u8; MAX_FRAME],
    /// The bytes of `buf` that are not handed out yet.
    held: Range<usize>,
    state: State,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Open,
    Broken(FrameFault),
}

impl Decoder {
    #[must_use]
    pub const fn new() -> Self {
        Self { buf: [0; MAX_FRAME], held: 0..0, state: State::Open }
    }

    /// Takes as much of `bytes` as there is room for and returns the rest. Once `pop` has said `None` there is
    /// room for at least one byte, so a loop of `push` and `pop` always gets on. A broken decoder takes
    /// everything and keeps nothing.
    #[must_use = "what did not fit must be pushed again after `pop`"]
    pub fn push<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        if let State::Broken(_) = self.state {
            return &[];
        }
        let spare = self.spare();
        let (taken, rest) = bytes.split_at(bytes.len().min(spare.len()));
        spare[..taken.len()].copy_from_slice(taken);
        self.advance(taken.len());
        rest
    }

    /// The next whole message, or `None` if more bytes are needed.
    pub fn pop<M: Message>(&mut self) -> Result<Option<M>, FrameFault> {
        if let State::Broken(fault) = self.state {
            return Err(fault);
        }
        self.next().inspect_err(|&fault| self.state = State::Broken(fault))
    }

    /// The payload of the next whole frame, for a reader that answers what it does not know instead of hanging
    /// up. A frame that is none still ends it all.
    pub fn pop_payload(&mut self) -> Result<Option<&[u8]>, FrameFault> {
        if let State::Broken(fault) = self.state {
            return Err(fault);
        }
        match self.whole() {
            Ok(Some(frame)) => {
                self.held.start += frame.len();
                Ok(self.buf.get(frame.start + HEADER_LEN..frame.end))
            }
            Ok(None) => Ok(None),
            Err(fault) => {
                self.state = State::Broken(fault);
                Err(fault)
            }
        }
    }

    /// Call when the stream ended: tells whether it ended between two frames, as it should.
    pub fn finish(&self) -> Result<(), FrameFault> {
        match self.state {
            State::Broken(fault) => Err(fault),
            State::Open if self.held.is_empty() => Ok(()),
            State::Open => Err(FrameFault::UnexpectedEof),
        }
    }

    /// The part of the buffer that can be written to; tell `advance` how much was.
    pub(crate) fn spare(&mut self) -> &mut [u8] {
        self.buf.copy_within(self.held.clone(), 0);
        self.held = 0..self.held.len();
        &mut self.buf[self.held.end..]
    }

    pub(crate) fn advance(&mut self, bytes: usize) {
        self.held.end = self.held.end.saturating_add(bytes).min(MAX_FRAME);
    }

    /// Where in the buffer the next frame is, if all of it is there and its checksum is right.
    fn whole(&self) -> Result<Option<Range<usize>>, FrameFault> {
        let held = &self.buf[self.held.clone()];
        let Some(len) = frame_len(held)? else { return Ok(None) };
        let Some(frame) = held.get(..len) else { return Ok(None) };
        payload(frame)?;
        Ok(Some(self.held.start..self.held.start + len))
    }

    fn next<M: Message>(&mut self) -> Result<Option<M>, FrameFault> {
        let held = &self.buf[self.held.clone()];
        let Some(len) = frame_len(held)? else { return Ok(None) };
        let Some(frame) = held.get(..len) else { return Ok(None) };
        let message = decode(frame)?;
        self.held.start += len;
        Ok(Some(message))
    }
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Decoder {
    /// Without the bytes: they are the guest's and may be anything.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decoder")
            .field("held", &self.held.len())
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}
