//! The shell of the console's input: the monitor's standard input.
//!
//! Duty: read it when the guest has room for it and when it has something, never waiting for either. It is watched
//! edge-triggered: what a guest has no buffer for stays where it is, and does not spin the loop.
//!
//! Invariant: a pipe or file is never read ahead of the guest: what it does not take is left for the next program. At
//! a terminal a few keys are, so that the way out works beside a guest that takes none.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, IsTerminal, Read};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use event_manager::{EventOps, EventSet, Events, MutEventSubscriber};
use nix::libc::{O_NOCTTY, O_NONBLOCK};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use super::device::{Console, Input};
use super::terminal::{Escape, RawTerminal};
use crate::virtio::device::Backlog;
use crate::virtio::mmio::Transport;
use crate::virtio::rings::Writer;

/// Bytes that one read takes: a line that a person types, a piece of what a program does.
const PIECE: usize = 512;

/// Keys that are read ahead at a terminal.
const AHEAD: usize = 256;

/// What is typed, as far as it was read.
#[derive(Debug)]
struct Line {
    file: File,
    /// There where a person types.
    escape: Option<Escape>,
    ahead: VecDeque<u8>,
}

impl Line {
    /// Reads what there is, at most what fits.
    fn fetch(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let mut fds = [PollFd::new(self.file.as_fd(), PollFlags::POLLIN)];
        if !matches!(poll(&mut fds, PollTimeout::ZERO), Ok(ready) if ready > 0) {
            return Err(ErrorKind::WouldBlock.into());
        }
        let count = self.file.read(into)?;
        let typed = into.get(..count).unwrap_or_default();
        if self.escape.as_mut().is_some_and(|escape| escape.wanted(typed)) {
            kill(Pid::this(), Signal::SIGTERM)?;
        }
        Ok(count)
    }

    /// Reads keys that the guest does not want yet, where one of them may be for the monitor.
    fn look_ahead(&mut self) {
        let mut keys = [0; AHEAD];
        let room = AHEAD.saturating_sub(self.ahead.len());
        if self.escape.is_none() || room == 0 {
            return;
        }
        // What is wrong with the input shows when the guest asks for it.
        let count = self.fetch(keys.get_mut(..room).unwrap_or_default()).unwrap_or(0);
        self.ahead.extend(keys.get(..count).unwrap_or_default());
    }
}

/// Standard input, for the model.
#[derive(Debug)]
pub struct Stdin {
    line: Arc<Mutex<Line>>,
    again: Arc<EventFd>,
}

/// What brings standard input to the model's attention, before there is a device.
#[derive(Debug)]
pub struct Keyboard {
    /// The same input as the model's, for watching only. `None`: a file, which epoll does not take and which
    /// always has something.
    watched: Option<File>,
    line: Arc<Mutex<Line>>,
    again: Arc<EventFd>,
    is_terminal: bool,
}

/// Gives the device its turn when something was typed.
#[derive(Debug)]
pub struct Typing {
    transport: Arc<Transport<Console>>,
    keyboard: Keyboard,
    /// Once the loop runs: until then a signal simply ends the process, and would leave the terminal raw.
    raw: Option<RawTerminal>,
}

impl Stdin {
    /// Standard input, and who watches it.
    pub fn open() -> io::Result<(Self, Keyboard)> {
        let stdin = io::stdin();
        let is_terminal = stdin.is_terminal();
        let file = if is_terminal {
            // Opened anew, because the flag on the shared description would be the shell's, too.
            OpenOptions::new().read(true).custom_flags(O_NONBLOCK | O_NOCTTY).open("/proc/self/fd/0")?
        } else {
            File::from(stdin.as_fd().try_clone_to_owned()?)
        };
        Self::on(file, is_terminal)
    }

    pub(super) fn on(file: File, is_terminal: bool) -> io::Result<(Self, Keyboard)> {
        let watched = if file.metadata()?.is_file() { None } else { Some(file.try_clone()?) };
        let again = Arc::new(EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)?);
        let line = Line { file, escape: is_terminal.then(Escape::default), ahead: VecDeque::new() };
        let line = Arc::new(Mutex::new(line));
        let keyboard = Keyboard { watched, line: line.clone(), again: again.clone(), is_terminal };
        // The first turn comes by itself.
        let stdin = Self { line, again };
        stdin.wanted();
        Ok((stdin, keyboard))
    }
}

impl Input for Stdin {
    fn read(&mut self, into: &mut Writer<'_>) -> io::Result<usize> {
        let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        let mut piece = [0; PIECE];
        let room = into.remaining().min(PIECE);
        let room = piece.get_mut(..room).unwrap_or_default();
        let count = if line.ahead.is_empty() { line.fetch(room)? } else { line.ahead.read(room)? };
        Ok(into.write(piece.get(..count).unwrap_or_default()))
    }

    fn wanted(&self) {
        // Fails only when the counter is full, and then it is readable already.
        let _ = self.again.write(1);
    }
}

impl Keyboard {
    /// Connects it to its device.
    #[must_use]
    pub fn plug(self, transport: Arc<Transport<Console>>) -> Typing {
        Typing { transport, keyboard: self, raw: None }
    }
}

impl MutEventSubscriber for Typing {
    fn process(&mut self, events: Events, _ops: &mut EventOps<'_>) {
        if self.keyboard.is_terminal && self.raw.is_none() {
            match RawTerminal::enter() {
                Ok(raw) => self.raw = Some(raw),
                Err(error) => {
                    log::warn!("console: the terminal keeps keys to itself: {error}");
                    self.keyboard.is_terminal = false;
                }
            }
        }
        let again = &self.keyboard.again;
        if events.fd() == again.as_raw_fd() {
            let _ = again.read();
        }
        let now = Instant::now();
        // What a rate limit could hold back is output only.
        if self.transport.work(|console| console.input_ready(now)) == Backlog::More {
            let _ = again.write(1);
        }
        self.keyboard.line.lock().unwrap_or_else(PoisonError::into_inner).look_ahead();
    }

    fn init(&mut self, ops: &mut EventOps<'_>) {
        let typed = EventSet::IN | EventSet::EDGE_TRIGGERED;
        let all = [
            Some(Events::new(&*self.keyboard.again, EventSet::IN)),
            self.keyboard.watched.as_ref().map(|file| Events::new(file, typed)),
        ];
        for interest in all.into_iter().flatten() {
            if let Err(error) = ops.add(interest) {
                log::error!("console: its input cannot be watched: {error}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::fd::OwnedFd;

    use super::*;

    fn pipe() -> (Line, io::PipeWriter) {
        let (reader, writer) = io::pipe().unwrap();
        let file = File::from(OwnedFd::from(reader));
        (Line { file, escape: Some(Escape::default()), ahead: VecDeque::new() }, writer)
    }

    #[test]
    fn keys_are_read_ahead_up_to_their_bound_and_not_lost() {
        let (mut line, mut writer) = pipe();
        writer.write_all(&[b'k'; AHEAD + 1]).unwrap();
        for _ in 0..3 {
            line.look_ahead();
        }
        assert_eq!(line.ahead.len(), AHEAD);
        assert_eq!(line.fetch(&mut [0; 10]).unwrap(), 1, "the rest is where it was");
    }

    #[test]
    fn what_no_person_types_is_not_read_ahead() {
        let (mut line, mut writer) = pipe();
        line.escape = None;
        writer.write_all(b"script").unwrap();
        line.look_ahead();
        assert_eq!(line.ahead.len(), 0);
    }

    #[test]
    fn input_that_is_not_there_is_not_waited_for() {
        let (mut line, writer) = pipe();
        assert_eq!(line.fetch(&mut [0; 1]).unwrap_err().kind(), ErrorKind::WouldBlock);
        drop(writer);
        assert_eq!(line.fetch(&mut [0; 1]).unwrap(), 0);
    }
}
