//! One program that somebody on the host runs by hand, from the call to its last word.
//!
//! ```text
//! Called --Start--> Running --its end--> Ending --all was said--> Leaving --host hangs up, or late--> gone
//!    |  \--cannot start, no place----------------^                   ^
//!    |                 |                   |                         |
//!    +--late, nonsense +--host hangs up----+--> Forsaken --killed and reaped--> gone
//! ```
//!
//! Duty: what is said when, over any stream that does not block; nothing but the program holds anything up, and only its
//! own reader holds the program up.
//! Not its duty: calls (`errands`), the program's streams (`program`).
//! Invariant: one frame is on its way in each direction at most. A person who is gone takes the program along: first by a
//! hang-up, then by a kill.

use super::program::{Moved, Program};
use crate::{child::Child, clock::Uptime};
use hearth_config::guest::GuestConfig;
use hearth_wire::{
    Decoder, ExitStatus, FrameFault, MAX_FRAME, MAX_OUTPUT, Output, encode,
    exec::{FromProgram, Terminal, ToProgram},
};
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::signal::Signal,
};
use socket2::Socket;
use std::{
    io::{ErrorKind, Read, Write},
    ops::Range,
    os::fd::{AsFd, BorrowedFd},
    time::Duration,
};

/// For a call to say what it wants.
const CALL_PATIENCE: Duration = Duration::from_secs(5);
/// For the host to hang up after the last word.
const LEAVE_PATIENCE: Duration = Duration::from_secs(5);
/// From the hang-up to the kill: long enough to save a file.
pub(super) const HANG_UP_GRACE: Duration = Duration::from_secs(2);
/// Frames in a turn, in each direction.
const FRAMES_PER_TURN: usize = 16;
/// The other side has closed its half; nix has no name for it.
const PEER_GONE: PollFlags = PollFlags::from_bits_retain(nix::libc::POLLRDHUP);
/// Bytes of one read of the stream.
const READ_LEN: usize = 1024;

#[derive(Debug)]
pub(super) struct Errand {
    phase: Phase,
    line: Line,
}

#[derive(Debug)]
enum Phase {
    Called { until: Uptime },
    Running { program: Program, typed: Typed },
    Ending { program: Option<Program>, last: FromProgram },
    Leaving { until: Uptime },
    Forsaken { child: Child, kill_at: Option<Uptime> },
    Gone,
}

/// What was typed and is not the program's yet.
#[derive(Debug, Default)]
struct Typed {
    bytes: Output,
    given: usize,
}

impl Typed {
    fn rest(&self) -> &[u8] {
        self.bytes.get(self.given..).unwrap_or_default()
    }
}

impl Errand {
    pub(super) fn new(stream: Socket, now: Uptime) -> Self {
        Self { phase: Phase::Called { until: now.after(CALL_PATIENCE) }, line: Line::new(stream) }
    }

    /// One that there is no place for.
    pub(super) fn refused(stream: Socket) -> Self {
        let phase = Phase::Ending { program: None, last: FromProgram::Busy };
        Self { phase, line: Line::new(stream) }
    }

    pub(super) fn is_gone(&self) -> bool {
        matches!(self.phase, Phase::Gone)
    }

    /// Does what can be done at once.
    pub(super) fn turn(&mut self, now: Uptime, config: &GuestConfig) {
        let there = self.hear(config) && self.speak(now) && !self.line.is_hung_up();
        if !there {
            self.forsake(now);
        }
        match &mut self.phase {
            Phase::Called { until } | Phase::Leaving { until } if now >= *until => self.phase = Phase::Gone,
            Phase::Forsaken { child, kill_at } if kill_at.is_some_and(|at| now >= at) => {
                child.kill();
                *kill_at = None;
            }
            _ => {}
        }
    }

    /// Its process, for whoever reaps.
    pub(super) fn child(&mut self) -> Option<&mut Child> {
        match &mut self.phase {
            Phase::Running { program, .. } => Some(&mut program.child),
            Phase::Forsaken { child, .. } => Some(child),
            _ => None,
        }
    }

    /// It ended.
    pub(super) fn ended(&mut self, status: ExitStatus) {
        self.phase = match std::mem::replace(&mut self.phase, Phase::Gone) {
            Phase::Running { program, .. } => {
                Phase::Ending { program: Some(program), last: FromProgram::Ended { status } }
            }
            // What it left behind in its group is nobody's.
            Phase::Forsaken { child, .. } => {
                child.kill();
                Phase::Gone
            }
            other => other,
        };
    }

    /// Takes it to its end, now.
    pub(super) fn kill(&mut self) {
        if let Some(child) = self.child() {
            child.kill();
        }
    }

    pub(super) fn deadline(&self) -> Option<Uptime> {
        match &self.phase {
            Phase::Called { until } | Phase::Leaving { until } => Some(*until),
            Phase::Forsaken { kill_at, .. } => *kill_at,
            Phase::Running { .. } | Phase::Ending { .. } | Phase::Gone => None,
        }
    }

    /// What to wait for.
    pub(super) fn interest(&self) -> Vec<(BorrowedFd<'_>, PollFlags)> {
        let quiet = self.line.unsent.is_empty();
        let (hears, mut fds) = match &self.phase {
            Phase::Called { .. } => (true, Vec::new()),
            Phase::Leaving { .. } => (false, Vec::new()),
            Phase::Running { program, typed } => {
                let hears = typed.rest().is_empty();
                (hears, program.interest(quiet, !hears))
            }
            Phase::Ending { program, .. } => {
                (false, program.iter().flat_map(|program| program.interest(quiet, false)).collect())
            }
            Phase::Forsaken { .. } | Phase::Gone => return Vec::new(),
        };
        let mut flags = PEER_GONE;
        flags.set(PollFlags::POLLIN, hears);
        flags.set(PollFlags::POLLOUT, !quiet);
        fds.push((self.line.stream.as_fd(), flags));
        fds
    }

    /// Says whether the host is still there.
    fn hear(&mut self, config: &GuestConfig) -> bool {
        for _ in 0..FRAMES_PER_TURN {
            match &mut self.phase {
                Phase::Running { program, typed } => {
                    if !give(program, typed) {
                        return true;
                    }
                }
                Phase::Called { .. } => {}
                // Whatever it says now, it is too late.
                _ => return true,
            }
            match self.line.hear() {
                Ok(Some(message)) => {
                    if !self.take(message, config) {
                        return false;
                    }
                }
                Ok(None) => return true,
                Err(HungUp) => return false,
            }
        }
        true
    }

    /// Says whether that made sense.
    fn take(&mut self, message: ToProgram, config: &GuestConfig) -> bool {
        match (&mut self.phase, message) {
            (Phase::Called { .. }, ToProgram::Start { command, terminal, input }) => {
                self.start(&command, terminal.as_ref(), input, config);
            }
            (Phase::Running { typed, .. }, ToProgram::Input(bytes)) => *typed = Typed { bytes, given: 0 },
            (Phase::Running { program, .. }, ToProgram::EndOfInput) => program.end_input(),
            (Phase::Running { program, .. }, ToProgram::Resize(size)) => program.resize(size),
            (Phase::Running { program, .. }, ToProgram::Signal { number }) => program.child.signal(number),
            _ => return false,
        }
        true
    }

    fn start(&mut self, words: &[u8], terminal: Option<&Terminal>, input: bool, config: &GuestConfig) {
        let words = words.strip_suffix(&[0]).unwrap_or(words);
        let command: Vec<String> =
            words.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect();
        self.phase = match Program::start(config, &command, terminal, input) {
            Ok(program) => {
                self.line.put(&FromProgram::Started { pid: program.child.pid() });
                Phase::Running { program, typed: Typed::default() }
            }
            Err(errno) => {
                let status = ExitStatus::NotStarted(errno as i32);
                Phase::Ending { program: None, last: FromProgram::Ended { status } }
            }
        };
    }

    /// Says whether the host still takes what is said.
    fn speak(&mut self, now: Uptime) -> bool {
        for _ in 0..FRAMES_PER_TURN {
            match self.line.send() {
                Ok(true) => {}
                Ok(false) => return true,
                Err(HungUp) => return false,
            }
            match &mut self.phase {
                Phase::Running { program, .. } => {
                    if !self.line.relay(program) {
                        return true;
                    }
                }
                Phase::Ending { program, last } => {
                    if !program.as_mut().is_some_and(|program| self.line.relay(program)) {
                        let last = std::mem::replace(last, FromProgram::Busy);
                        self.line.put(&last);
                        self.phase = Phase::Leaving { until: now.after(LEAVE_PATIENCE) };
                    }
                }
                _ => return true,
            }
        }
        true
    }

    /// Nobody is there any more.
    fn forsake(&mut self, now: Uptime) {
        self.phase = match std::mem::replace(&mut self.phase, Phase::Gone) {
            Phase::Running { program, .. } => {
                // The terminal goes here; what has none is told.
                let child = program.into_child();
                child.signal(Signal::SIGHUP as i32);
                Phase::Forsaken { child, kill_at: Some(now.after(HANG_UP_GRACE)) }
            }
            forsaken @ Phase::Forsaken { .. } => forsaken,
            _ => Phase::Gone,
        };
    }
}

/// Whether all that was typed is the program's.
fn give(program: &mut Program, typed: &mut Typed) -> bool {
    while !typed.rest().is_empty() {
        match program.write(typed.rest()) {
            Moved::Bytes(length) => typed.given += length,
            Moved::Nothing => return false,
            // It reads no more.
            Moved::Closed => *typed = Typed::default(),
        }
    }
    true
}

/// The host is gone, or speaks in tongues.
struct HungUp;

impl From<FrameFault> for HungUp {
    fn from(_: FrameFault) -> Self {
        Self
    }
}

/// The stream, and one frame in each direction.
#[derive(Debug)]
struct Line {
    stream: Socket,
    decoder: Box<Decoder>,
    frame: Box<[u8; MAX_FRAME]>,
    /// The part of `frame` that is not written yet.
    unsent: Range<usize>,
}

impl Line {
    fn new(stream: Socket) -> Self {
        let frame = Box::new([0; MAX_FRAME]);
        Self { stream, decoder: Box::default(), frame, unsent: 0..0 }
    }

    /// The next message, if all of it has come.
    fn hear(&mut self) -> Result<Option<ToProgram>, HungUp> {
        loop {
            if let Some(message) = self.decoder.pop()? {
                return Ok(Some(message));
            }
            let mut buf = [0; READ_LEN];
            match self.stream.read(&mut buf) {
                Ok(0) => return Err(HungUp),
                // There is room: a frame is larger than a read, and one that is whole is taken out.
                Ok(length) => drop(self.decoder.push(buf.get(..length).unwrap_or_default())),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(_) => return Err(HungUp),
            }
        }
    }

    /// To be called when all before is sent.
    fn put(&mut self, message: &FromProgram) {
        // Every message fits `MAX_FRAME`; that is the wire crate's own promise and test.
        self.unsent = 0..encode(message, self.frame.as_mut()).map_or(0, <[u8]>::len);
    }

    /// Puts a piece of what the program wrote; `false` if there is none now.
    fn relay(&mut self, program: &mut Program) -> bool {
        let mut bytes = [0; MAX_OUTPUT];
        let (stream, Moved::Bytes(length)) = program.read(&mut bytes) else { return false };
        let bytes = bytes.get(..length).and_then(|bytes| Output::from_slice(bytes).ok()).unwrap_or_default();
        self.put(&FromProgram::Output { stream, bytes });
        true
    }

    /// Whether all is sent.
    fn send(&mut self) -> Result<bool, HungUp> {
        while let Some(bytes) = self.frame.get(self.unsent.clone()).filter(|bytes| !bytes.is_empty()) {
            match self.stream.write(bytes) {
                Ok(0) => return Err(HungUp),
                Ok(length) => self.unsent.start += length,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Err(HungUp),
            }
        }
        Ok(true)
    }

    /// The host never closes its half alone.
    fn is_hung_up(&self) -> bool {
        let mut fds = [PollFd::new(self.stream.as_fd(), PEER_GONE)];
        poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
    }
}
