//! Frames for the guest.
//!
//! Duty: take buffers off the ring, read a frame into them, give back those that it filled. Not its duty: why a
//! turn is given, and interrupts.
//!
//! ```text
//!             read                 all of it in buffers           limit passes
//!   no frame ──────▶ frame in hand ──────────────────▶ frame placed ─────────▶ no frame
//!      ▲               │ too long, or no buffers for too long
//!      └── dropped ◀───┘
//! ```
//!
//! A frame's length is known once it was read, so buffers for as much as the last frame was long are offered to
//! it, with a spill buffer behind them: short frames do not pay for buffers that they do not fill, and long ones
//! in a row go straight to where they belong.
//!
//! Invariant: the driver sees all buffers of a frame at once, or none (5.1.6.4).

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::ops::Range;
use std::time::{Duration, Instant};

use super::Port;
use super::device::{Counters, TURN_BYTES};
use super::header::{HEADER_BYTES, MAX_FRAME_BYTES, NUM_BUFFERS_AT};
use crate::memory::GuestRam;
use crate::rate::{Limit, Verdict};
use crate::virtio::device::Backlog;
use crate::virtio::rings::{Chain, GuestSlice, Ring, RingFault};
use crate::virtio::state::RingState;
use crate::virtio::vectored::{MAX_PIECES, Pieces};

/// Frames in one turn, wanted or not. Protects the other devices of the event loop.
const FRAMES_PER_TURN: usize = 256;
/// Bytes of the spill buffer: one more than the longest frame, so that one that was cut shows.
const SPILL_BYTES: usize = HEADER_BYTES + MAX_FRAME_BYTES + 1;
/// How long a frame waits for the rest of its buffers. A driver that never gives it as many loses the frame, and
/// not all that come after it.
const PATIENCE: Duration = Duration::from_secs(1);

/// What a turn works with besides the ring.
pub(super) struct Desk<'a, P> {
    pub(super) port: &'a mut P,
    pub(super) memory: &'a GuestRam,
    pub(super) limit: &'a mut Limit,
    pub(super) counters: &'a mut Counters,
    pub(super) now: Instant,
}

/// A frame that was read and that the driver has not got yet.
#[derive(Debug)]
struct Frame {
    /// Its bytes, header included.
    bytes: usize,
    /// How many of the gathered chains have some of it.
    chains: usize,
    /// What of the spill buffer is still to be placed.
    spilled: Range<usize>,
    /// Since when there have been no buffers for it.
    waits_since: Option<Instant>,
}

/// What came of one step.
enum Step {
    /// Go on with the next.
    Went,
    /// Something was thrown away; begin again.
    Threw,
    /// There is nothing to go on with: no buffer, or no frame.
    Stuck,
}

/// The guest's receiving end.
#[derive(Debug)]
pub(super) struct Receiver {
    ring: Ring,
    /// One frame may lie in several chains (VIRTIO_NET_F_MRG_RXBUF).
    mergeable: bool,
    /// The guest knows what the header's flags mean (VIRTIO_NET_F_GUEST_CSUM).
    knows_flags: bool,
    /// Chains taken off the ring, in order, for this frame and the next.
    gathered: VecDeque<Chain>,
    /// Bytes of the last frame.
    expected: usize,
    frame: Option<Frame>,
    spill: Vec<u8>,
    /// What came before the driver was there is not for it, and was made for another agreement on offloads.
    stale: bool,
}

impl Receiver {
    pub(super) fn new(ring: Ring, mergeable: bool, knows_flags: bool) -> Self {
        Self {
            ring,
            mergeable,
            knows_flags,
            gathered: VecDeque::new(),
            expected: 1,
            frame: None,
            spill: vec![0; SPILL_BYTES],
            stale: true,
        }
    }

    /// The ring, with what was gathered on offer again: that is what was taken off it last.
    pub(super) fn save(&self) -> RingState {
        self.ring.save()
    }

    /// Nothing that waits in the interface is stale.
    pub(super) const fn welcome_all(&mut self) {
        self.stale = false;
    }

    /// Whether the driver wants to hear of what was completed.
    pub(super) fn wants_interrupt(&mut self) -> Result<bool, RingFault> {
        self.ring.wants_interrupt()
    }

    /// Reads frames while there are both frames and buffers.
    pub(super) fn deliver<P: Port>(&mut self, desk: &mut Desk<'_, P>) -> Result<Backlog, RingFault> {
        let mut moved = 0usize;
        for _ in 0..FRAMES_PER_TURN {
            if moved >= TURN_BYTES {
                break;
            }
            let step = if self.stale {
                self.discard(desk)
            } else if self.frame.is_none() {
                match self.gather(desk)? {
                    Step::Went => self.read(desk)?,
                    other => other,
                }
            } else {
                Step::Went
            };
            match step {
                Step::Went => {}
                Step::Threw => continue,
                Step::Stuck => return Ok(Backlog::Done),
            }
            match self.place(desk)? {
                Step::Went => {}
                Step::Threw => continue,
                Step::Stuck => return Ok(Backlog::Done),
            }
            let Some(Frame { bytes, .. }) = self.frame else { continue };
            let without_header = bytes.saturating_sub(HEADER_BYTES) as u64;
            if let Verdict::Wait(time) = desk.limit.take(without_header, desk.now) {
                return Ok(Backlog::Until(time));
            }
            self.hand_over(bytes, desk.memory)?;
            desk.counters.received_frames = desk.counters.received_frames.saturating_add(1);
            desk.counters.received_bytes = desk.counters.received_bytes.saturating_add(without_header);
            moved = moved.saturating_add(bytes);
        }
        Ok(Backlog::More)
    }

    /// Throws one old frame away.
    fn discard<P: Port>(&mut self, desk: &mut Desk<'_, P>) -> Step {
        // The kernel cuts a frame, but not its header.
        let mut nowhere = [0u8; HEADER_BYTES];
        let mut pieces = Pieces::new();
        let _ = pieces.push(GuestSlice::from(&mut nowhere[..]));
        match desk.port.receive(&pieces) {
            Ok(_) => desk.counters.drop_received(),
            // The end of them, or an interface that fails: that is seen, and counted, by the next read.
            Err(_) => self.stale = false,
        }
        Step::Threw
    }

    /// Takes one more chain off the ring.
    fn gather_one(&mut self, counters: &mut Counters) -> Result<Step, RingFault> {
        let Some(chain) = self.ring.pop()? else { return Ok(Step::Stuck) };
        if chain.readable_bytes() > 0 || chain.writable_bytes() < HEADER_BYTES {
            counters.refuse_buffer();
            self.ring.complete(chain, 0)?;
            return Ok(Step::Threw);
        }
        self.gathered.push_back(chain);
        Ok(Step::Went)
    }

    /// Sees to it that there is room for a frame like the last one, as far as the ring has some.
    fn gather<P>(&mut self, desk: &mut Desk<'_, P>) -> Result<Step, RingFault> {
        let mut room = self.gathered.iter().map(Chain::writable_bytes).fold(0, usize::saturating_add);
        while room < self.wanted() {
            match self.gather_one(desk.counters)? {
                Step::Went => {
                    let newest = self.gathered.back().map_or(0, Chain::writable_bytes);
                    room = room.saturating_add(newest);
                }
                Step::Stuck if room > 0 => break,
                other => return Ok(other),
            }
        }
        Ok(Step::Went)
    }

    /// Bytes of room to offer to the next frame; at least one chain's.
    const fn wanted(&self) -> usize {
        if self.mergeable { self.expected } else { 1 }
    }

    /// Reads one frame into what was gathered.
    fn read<P: Port>(&mut self, desk: &mut Desk<'_, P>) -> Result<Step, RingFault> {
        let wanted = self.wanted();
        let (mut room, mut chains) = (0usize, 0usize);
        let mut pieces = Pieces::new();
        for chain in &self.gathered {
            if room >= wanted || !push_all(chain, desk.memory, &mut pieces) {
                break;
            }
            room = room.saturating_add(chain.writable_bytes());
            chains = chains.saturating_add(1);
        }
        if chains == 0 {
            drop(pieces);
            if let Some(chain) = self.gathered.pop_front() {
                desk.counters.refuse_buffer();
                self.ring.complete(chain, 0)?;
            }
            return Ok(Step::Threw);
        }
        // There is a place for it: `push_all` leaves one.
        let _ = pieces.push(GuestSlice::from(self.spill.as_mut_slice()));
        let bytes = match desk.port.receive(&pieces) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Step::Stuck),
            Err(error) => {
                desk.counters.fail_to_receive(&error);
                return Ok(Step::Stuck);
            }
        };
        let spilled = bytes.saturating_sub(room);
        if bytes < HEADER_BYTES || spilled >= SPILL_BYTES || (spilled > 0 && !self.mergeable) {
            desk.counters.drop_received();
            return Ok(Step::Threw);
        }
        self.expected = bytes;
        self.frame = Some(Frame { bytes, chains, spilled: 0..spilled, waits_since: None });
        Ok(Step::Went)
    }

    /// Puts what spilled into further buffers.
    fn place<P>(&mut self, desk: &mut Desk<'_, P>) -> Result<Step, RingFault> {
        // Ends: each round fills a chain, and a ring has only so many.
        while let Some(frame) = &mut self.frame
            && !frame.spilled.is_empty()
        {
            let part = self.spill.get(frame.spilled.clone()).unwrap_or_default();
            if let Some(chain) = self.gathered.get(frame.chains) {
                let count = chain.writer(desk.memory).write(part);
                frame.spilled.start = frame.spilled.start.saturating_add(count);
                frame.chains = frame.chains.saturating_add(1);
                desk.counters.copied_bytes = desk.counters.copied_bytes.saturating_add(count as u64);
                continue;
            }
            let since = *frame.waits_since.get_or_insert(desk.now);
            match self.gather_one(desk.counters)? {
                Step::Went => {}
                Step::Stuck if self.gives_up(since, desk.now) => {
                    self.frame = None;
                    desk.counters.drop_received();
                    return Ok(Step::Threw);
                }
                other => return Ok(other),
            }
        }
        Ok(Step::Went)
    }

    /// Whether a frame that waits for buffers waits for nothing: the device has all of them, or it took too long.
    fn gives_up(&self, since: Instant, now: Instant) -> bool {
        let buffers = self.gathered.iter().map(Chain::buffers).fold(0, usize::saturating_add);
        buffers >= usize::from(self.ring.size()) || now.saturating_duration_since(since) >= PATIENCE
    }

    /// Gives the driver the buffers that the frame is in.
    fn hand_over(&mut self, bytes: usize, memory: &GuestRam) -> Result<(), RingFault> {
        self.frame = None;
        let (mut chains, mut before_last) = (0u16, 0usize);
        for chain in &self.gathered {
            chains = chains.saturating_add(1);
            let with = before_last.saturating_add(chain.writable_bytes());
            if with >= bytes {
                break;
            }
            before_last = with;
        }
        if let Some(first) = self.gathered.front() {
            let mut header = first.writer(memory);
            if !self.knows_flags {
                header.clone().write(&[0]);
            }
            // The kernel fills in all of the header but this.
            header.skip(NUM_BUFFERS_AT);
            header.write(&chains.to_le_bytes());
        }
        for _ in 1..chains {
            if let Some(chain) = self.gathered.pop_front() {
                let all = chain.writable_bytes();
                self.ring.complete_with_next(chain, all)?;
            }
        }
        match self.gathered.pop_front() {
            Some(chain) => self.ring.complete(chain, bytes.saturating_sub(before_last)),
            None => Ok(()),
        }
    }
}

/// Adds all pieces of a chain that is for the device to write, or none; one place is left free.
fn push_all<'a>(chain: &'a Chain, memory: &'a GuestRam, pieces: &mut Pieces<'a>) -> bool {
    let before = pieces.len();
    for piece in chain.writer(memory).pieces() {
        if pieces.len() >= MAX_PIECES.saturating_sub(1) || pieces.push(piece).is_err() {
            pieces.truncate(before);
            return false;
        }
    }
    true
}
