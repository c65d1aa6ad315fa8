//! Frames over blocking byte streams.
//!
//! Duty: `embedded_io` readers and writers in terms of messages.
//! Not its duty: time limits; the stream underneath has them or does not.
//! Invariant: the reader goes through the same `Decoder` as everybody, so there is one way to read a frame.

use crate::{
    decoder::Decoder,
    frame::{FrameFault, MAX_FRAME, TooBig, encode},
    message::Message,
};
use embedded_io::{Error, Read, Write};

/// Why no message came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReadFault<E: Error + 'static> {
    /// The bytes are wrong; the stream is of no more use.
    #[error("peer sent a bad frame")]
    Frame(#[source] FrameFault),
    /// The stream failed; reading again is safe if the stream says it is.
    #[error("cannot read a frame")]
    Io(#[source] E),
}

/// Why a message did not go out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WriteFault<E: Error + 'static> {
    #[error("cannot put a message into a frame")]
    Frame(#[source] TooBig),
    /// Part of the frame may be out already: the stream is of no more use.
    #[error("cannot write a frame")]
    Io(#[source] E),
}

/// Reads messages. May have read beyond the last message that it gave, so the stream belongs to it for good.
#[derive(Debug)]
pub struct FrameReader<R> {
    stream: R,
    decoder: Decoder,
}

impl<R: Read> FrameReader<R>
where
    R::Error: 'static,
{
    pub const fn new(stream: R) -> Self {
        Self { stream, decoder: Decoder::new() }
    }

    /// Waits for the next message. `None`: the peer hung up between two frames.
    pub fn read<M: Message>(&mut self) -> Result<Option<M>, ReadFault<R::Error>> {
        loop {
            if let Some(message) = self.decoder.pop().map_err(ReadFault::Frame)? {
                return Ok(Some(message));
            }
            match self.stream.read(self.decoder.spare()).map_err(ReadFault::Io)? {
                0 => return self.decoder.finish().map(|()| None).map_err(ReadFault::Frame),
                bytes => self.decoder.advance(bytes),
            }
        }
    }
}

/// Writes messages, each with a single `write_all`.
#[derive(Debug)]
pub struct FrameWriter<W> {
    stream: W,
    buf: [u8; MAX_FRAME],
}

impl<W: Write> FrameWriter<W>
where
    W::Error: 'static,
{
    pub const fn new(stream: W) -> Self {
        Self { stream, buf: [0; MAX_FRAME] }
    }

    /// Writes and flushes one message.
    pub fn write<M: Message>(&mut self, message: &M) -> Result<(), WriteFault<W::Error>> {
        let frame = encode(message, &mut self.buf).map_err(WriteFault::Frame)?;
        self.stream.write_all(frame).map_err(WriteFault::Io)?;
        self.stream.flush().map_err(WriteFault::Io)
    }
}
