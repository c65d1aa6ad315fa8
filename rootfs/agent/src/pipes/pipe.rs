//! One client's way to the host and back.
//!
//! ```text
//! Dialing --connected--> Open --both ends have said all, or one broke--> Gone
//!    \--refused, late-------------------------------------------------> Gone
//! ```
//!
//! Duty: bytes from one end to the other as they are, and the end of each direction. Not its duty: what they mean.
//! Invariant: a direction holds one buffer; who does not take what is in it holds up who sends it, and nobody else.

use crate::{clock::Uptime, link::Dial};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::{
    io::{self, ErrorKind, Read, Write},
    net::{Shutdown, TcpStream},
    ops::Range,
    os::fd::{AsFd, BorrowedFd},
    time::Duration,
};

/// For the host to take the call.
const PATIENCE: Duration = Duration::from_secs(2);
/// Bytes on their way in one direction.
const BUFFER_LEN: usize = 4096;
/// Buffers in a turn, in each direction.
const ROUNDS_PER_TURN: usize = 8;

#[derive(Debug)]
pub(super) struct Pipe<S> {
    client: TcpStream,
    host: S,
    phase: Phase,
    up: Flow,
    down: Flow,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Dialing { until: Uptime },
    Open,
    Gone,
}

/// One direction.
#[derive(Debug)]
struct Flow {
    buffer: Box<[u8; BUFFER_LEN]>,
    /// Read and not written.
    rest: Range<usize>,
    /// Nothing more comes.
    ended: bool,
    /// And that was passed on.
    shut: bool,
    /// There may be more that can be read at once.
    more: bool,
}

impl<S: Read + Write + AsFd> Pipe<S> {
    /// `host` is connected or about to be.
    pub(super) fn new(client: TcpStream, host: S, now: Uptime) -> Self {
        let phase = Phase::Dialing { until: now.after(PATIENCE) };
        Self { client, host, phase, up: Flow::new(), down: Flow::new() }
    }

    pub(super) fn is_gone(&self) -> bool {
        self.phase == Phase::Gone
    }

    /// Whether there is something that the host has not got.
    pub(super) fn is_busy(&self) -> bool {
        self.up.more || !self.up.rest.is_empty() || matches!(self.phase, Phase::Dialing { .. })
    }

    /// Does what can be done at once.
    pub(super) fn turn(&mut self, now: Uptime, dial: &impl Dial<Stream = S>) {
        if let Phase::Dialing { until } = self.phase {
            let ready = poll(&mut [PollFd::new(self.host.as_fd(), PollFlags::POLLOUT)], PollTimeout::ZERO);
            self.phase = match ready {
                Ok(0) if now < until => return,
                Ok(1..) if dial.outcome(&self.host).is_ok() => Phase::Open,
                _ => Phase::Gone,
            };
        }
        if self.phase == Phase::Open && self.pump(dial).is_err() {
            self.phase = Phase::Gone;
        }
    }

    fn pump(&mut self, dial: &impl Dial<Stream = S>) -> io::Result<()> {
        self.up.pump(&mut self.client, &mut self.host)?;
        self.down.pump(&mut self.host, &mut self.client)?;
        if self.up.is_to_be_shut() {
            dial.half_close(&self.host)?;
        }
        if self.down.is_to_be_shut() {
            self.client.shutdown(Shutdown::Write)?;
        }
        // A host that has said all takes nothing any more either: MQTT has no half of a connection.
        if self.down.shut {
            self.phase = Phase::Gone;
        }
        Ok(())
    }

    pub(super) fn deadline(&self) -> Option<Uptime> {
        match self.phase {
            Phase::Dialing { until } => Some(until),
            Phase::Open | Phase::Gone => None,
        }
    }

    /// What to wait for. An end of which nothing is wanted is left out: that it hung up would wake the loop for ever.
    pub(super) fn interest(&self) -> impl Iterator<Item = (BorrowedFd<'_>, PollFlags)> {
        let (client, host) = match self.phase {
            Phase::Dialing { .. } => (PollFlags::empty(), PollFlags::POLLOUT),
            Phase::Open => (flags(&self.up, &self.down), flags(&self.down, &self.up)),
            Phase::Gone => (PollFlags::empty(), PollFlags::empty()),
        };
        [(self.client.as_fd(), client), (self.host.as_fd(), host)]
            .into_iter()
            .filter(|(_, flags)| !flags.is_empty())
    }
}

/// Of an end that one direction comes from and the other goes to.
fn flags(from: &Flow, to: &Flow) -> PollFlags {
    let mut flags = PollFlags::empty();
    flags.set(PollFlags::POLLIN, from.rest.is_empty() && !from.ended);
    flags.set(PollFlags::POLLOUT, !to.rest.is_empty());
    flags
}

impl Flow {
    fn new() -> Self {
        Self { buffer: Box::new([0; BUFFER_LEN]), rest: 0..0, ended: false, shut: false, more: false }
    }

    /// Moves what can be moved at once. An error is that of either end.
    fn pump(&mut self, from: &mut impl Read, to: &mut impl Write) -> io::Result<()> {
        self.more = false;
        for _ in 0..ROUNDS_PER_TURN {
            if self.rest.is_empty() {
                if self.ended {
                    return Ok(());
                }
                let Some(length) = at_once(from.read(self.buffer.as_mut_slice()))? else { return Ok(()) };
                self.rest = 0..length;
                self.ended = length == 0;
            }
            while !self.rest.is_empty() {
                let bytes = self.buffer.get(self.rest.clone()).unwrap_or_default();
                match at_once(to.write(bytes))? {
                    Some(0) => return Err(ErrorKind::WriteZero.into()),
                    Some(length) => self.rest.start = self.rest.start.saturating_add(length),
                    None => return Ok(()),
                }
            }
        }
        self.more = true;
        Ok(())
    }

    /// Once.
    fn is_to_be_shut(&mut self) -> bool {
        let due = self.ended && self.rest.is_empty() && !self.shut;
        self.shut |= due;
        due
    }
}

/// `None`: not now.
fn at_once(result: io::Result<usize>) -> io::Result<Option<usize>> {
    match result {
        Ok(length) => Ok(Some(length)),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(None),
        Err(error) => Err(error),
    }
}
