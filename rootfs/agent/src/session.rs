//! One connection to the host, from hello to hang-up.
//!
//! Duty: what is said when, over any non-blocking byte stream.
//! Not its duty: connecting and reconnecting (`link`), and what a shutdown leads to.
//! Invariant: a turn never blocks and does a bounded amount of work. Nothing but `Hello` goes out before the
//! host's `Welcome`: whoever accepted the connection may not be a supervisor that reads.
//!
//! ```text
//! Greeting --Welcome--> Open        (any fault ends the session)
//! ```

use crate::{clock::Uptime, outbox::Outbox};
use hearth_wire::{
    Decoder, FrameFault, FromAgent, Identity, MAX_FRAME, PROTOCOL_VERSION, Question, ToAgent, Version, encode,
};
use std::{
    io::{self, ErrorKind, Read, Write},
    ops::Range,
    time::Duration,
};

/// Frames written in one turn, so that a fast host and a chatty workload leave time for signals.
const FRAMES_PER_TURN: usize = 64;

/// Reads in one turn. The host has little to say.
const READS_PER_TURN: usize = 8;

/// Bytes of one read.
const READ_LEN: usize = 512;

/// The host chooses how often it wants to hear a heartbeat, within reason: more often would keep the guest
/// from sleeping, more seldom would be no sign of life.
const HEARTBEAT_MS: std::ops::RangeInclusive<u32> = 100..=60_000;

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SessionFault {
    #[error("it hung up")]
    HungUp,
    #[error("it sent a bad frame")]
    Frame(#[source] FrameFault),
    #[error("it speaks protocol {theirs}, this agent speaks {PROTOCOL_VERSION}")]
    Protocol { theirs: u16 },
    #[error("the connection failed")]
    Stream(#[source] io::Error),
}

/// What a turn brought.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Heard {
    /// The session is open since this turn.
    pub(crate) welcomed: bool,
    /// The newest of each kind counts.
    pub(crate) wishes: Wishes,
}

/// What the host wants of the guest.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Wishes {
    /// An end, after this grace.
    pub(crate) stop: Option<Duration>,
    /// Every process to stand still.
    pub(crate) hold: bool,
    pub(crate) identity: Option<Box<Identity>>,
    /// The workload to start again, after this grace.
    pub(crate) restart: Option<Duration>,
    /// In their order.
    pub(crate) asked: Vec<Asked>,
}

/// A question of the host's.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) id: u32,
    pub(crate) timeout: Duration,
    pub(crate) question: Question,
}

impl Wishes {
    /// One more. `Welcome` is none.
    pub(crate) fn add(&mut self, message: ToAgent) {
        match message {
            ToAgent::Welcome { .. } => {}
            ToAgent::Shutdown { grace_ms } => {
                let grace = Duration::from_millis(grace_ms.into());
                self.stop = Some(self.stop.map_or(grace, |earlier| earlier.min(grace)));
            }
            ToAgent::Hold => self.hold = true,
            ToAgent::Identify(identity) => self.identity = Some(Box::new(identity)),
            ToAgent::Restart { grace_ms } => self.restart = Some(Duration::from_millis(grace_ms.into())),
            ToAgent::Ask { id, timeout_ms, question } => {
                // A turn reads a bounded number of bytes, so this list is bounded, too.
                self.asked.push(Asked { id, timeout: Duration::from_millis(timeout_ms.into()), question });
            }
        }
    }
}

#[derive(Debug)]
enum Phase {
    Greeting,
    Open { every: Duration, next_beat: Uptime, seq: u32 },
}

#[derive(Debug)]
pub(crate) struct Session<S> {
    stream: S,
    decoder: Decoder,
    frame: [u8; MAX_FRAME],
    /// The part of `frame` that is not written yet.
    unsent: Range<usize>,
    phase: Phase,
}

impl<S: Read + Write> Session<S> {
    pub(crate) fn new(stream: S, now: Uptime) -> Self {
        let mut session = Self {
            stream,
            decoder: Decoder::new(),
            frame: [0; MAX_FRAME],
            unsent: 0..0,
            phase: Phase::Greeting,
        };
        // A version too long for the message is left out rather than cut.
        let agent_version = Version::try_from(env!("CARGO_PKG_VERSION")).unwrap_or_default();
        let uptime_ms = now.as_millis();
        session.put(&FromAgent::Hello { protocol: PROTOCOL_VERSION, agent_version, uptime_ms });
        session
    }

    pub(crate) fn stream(&self) -> &S {
        &self.stream
    }

    pub(crate) fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open { .. })
    }

    pub(crate) fn wants_write(&self, outbox: &Outbox) -> bool {
        !self.unsent.is_empty() || (self.is_open() && !outbox.is_empty())
    }

    /// When the next heartbeat is due.
    pub(crate) fn next_beat(&self) -> Option<Uptime> {
        match self.phase {
            Phase::Greeting => None,
            Phase::Open { next_beat, .. } => Some(next_beat),
        }
    }

    /// Reads and writes what can be done at once.
    pub(crate) fn turn(&mut self, now: Uptime, outbox: &mut Outbox) -> Result<Heard, SessionFault> {
        let heard = self.read(now)?;
        if heard.welcomed {
            // The agent may have something to put first.
            return Ok(heard);
        }
        self.write(now, outbox)?;
        Ok(heard)
    }

    fn read(&mut self, now: Uptime) -> Result<Heard, SessionFault> {
        let mut heard = Heard::default();
        let mut buf = [0; READ_LEN];
        for _ in 0..READS_PER_TURN {
            let mut bytes = match self.stream.read(&mut buf) {
                Ok(0) => return Err(SessionFault::HungUp),
                Ok(len) => buf.get(..len).unwrap_or_default(),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(broken(error)),
            };
            while !bytes.is_empty() {
                bytes = self.decoder.push(bytes);
                while let Some(message) = self.decoder.pop().map_err(SessionFault::Frame)? {
                    self.hear(now, message, &mut heard)?;
                }
            }
        }
        Ok(heard)
    }

    fn hear(&mut self, now: Uptime, message: ToAgent, heard: &mut Heard) -> Result<(), SessionFault> {
        match message {
            ToAgent::Welcome { protocol, .. } if protocol != PROTOCOL_VERSION => {
                return Err(SessionFault::Protocol { theirs: protocol });
            }
            ToAgent::Welcome { heartbeat_ms, .. } => {
                let millis = heartbeat_ms.clamp(*HEARTBEAT_MS.start(), *HEARTBEAT_MS.end());
                let every = Duration::from_millis(millis.into());
                let seq = match self.phase {
                    Phase::Greeting => {
                        heard.welcomed = true;
                        0
                    }
                    Phase::Open { seq, .. } => seq,
                };
                self.phase = Phase::Open { every, next_beat: now, seq };
            }
            wish => heard.wishes.add(wish),
        }
        Ok(())
    }

    fn write(&mut self, now: Uptime, outbox: &mut Outbox) -> Result<(), SessionFault> {
        for _ in 0..FRAMES_PER_TURN {
            if self.unsent.is_empty() {
                match self.next_message(now, outbox) {
                    Some(message) => self.put(&message),
                    None => break,
                }
            }
            if !self.send()? {
                break;
            }
        }
        Ok(())
    }

    /// A heartbeat goes before output, so that a chatty workload does not make the guest look dead.
    fn next_message(&mut self, now: Uptime, outbox: &mut Outbox) -> Option<FromAgent> {
        let Phase::Open { every, next_beat, seq } = &mut self.phase else { return None };
        if now < *next_beat {
            return outbox.pop();
        }
        *seq = seq.wrapping_add(1);
        // From now, not from when it was due: a guest that was suspended owes nobody a burst.
        *next_beat = now.after(*every);
        Some(FromAgent::Heartbeat { seq: *seq, uptime_ms: now.as_millis() })
    }

    fn put(&mut self, message: &FromAgent) {
        // Every message fits `MAX_FRAME`; that is the wire crate's own promise and test.
        let len = encode(message, &mut self.frame).map_or(0, <[u8]>::len);
        self.unsent = 0..len;
    }

    /// Writes the unsent part; `false` if the stream takes no more now.
    fn send(&mut self) -> Result<bool, SessionFault> {
        while let Some(bytes) = self.frame.get(self.unsent.clone()).filter(|bytes| !bytes.is_empty()) {
            match self.stream.write(bytes) {
                Ok(0) => return Err(SessionFault::HungUp),
                Ok(len) => self.unsent.start += len,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(broken(error)),
            }
        }
        Ok(true)
    }
}

/// A host that is killed hangs up in several ways.
fn broken(error: io::Error) -> SessionFault {
    match error.kind() {
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => SessionFault::HungUp,
        _ => SessionFault::Stream(error),
    }
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
