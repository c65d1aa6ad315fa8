//! What is typed to the monitor, for a device of the guest: its standard input.
//!
//! Duty: read it when the device has room for it and when it has something, never waiting for either. It is watched
//! edge-triggered: what a guest has no buffer for stays where it is, and does not spin the loop. Not its duty: what
//! the device does with it.
//!
//! Invariant: a pipe or file is never read ahead of the guest: what it does not take is left for the next program. At
//! a terminal every key is read, so that the way out works beside a guest that takes none; of those that it does not
//! take, the last few are kept.

mod terminal;

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, IsTerminal, Read};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use event_manager::{EventOps, EventSet, Events, MutEventSubscriber};
use nix::errno::Errno;
use nix::libc::{O_NOCTTY, O_NONBLOCK};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

pub use self::terminal::give_back as give_terminal_back;
use self::terminal::{Escape, RawTerminal};

/// Keys that are kept at a terminal while the guest takes none.
const AHEAD: usize = 256;
/// Bytes that a terminal holds for whoever reads it.
const TERMINAL_BYTES: usize = 4096;

/// A device that is typed to.
pub trait Typed {
    /// What the log calls it.
    fn name(&self) -> &str;

    /// Takes what it has room for. Whether it left off before there was no more, or no room.
    fn take(&self) -> bool;
}

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

    /// Reads keys that the guest does not want yet, where one of them may be for the monitor. Beyond what is kept, the
    /// oldest go: a person who leans on a key wants to be heard now.
    fn look_ahead(&mut self) {
        if self.escape.is_none() {
            return;
        }
        let mut keys = [0; AHEAD];
        for _ in 0..TERMINAL_BYTES / AHEAD {
            // What is wrong with the input shows when the guest asks for it.
            let count = self.fetch(&mut keys).unwrap_or(0);
            if count == 0 {
                return;
            }
            self.ahead.extend(keys.get(..count).unwrap_or_default());
            self.ahead.drain(..self.ahead.len().saturating_sub(AHEAD));
        }
    }
}

/// Standard input, for a device.
#[derive(Debug)]
pub struct Stdin {
    line: Arc<Mutex<Line>>,
    again: Arc<EventFd>,
}

/// What brings standard input to the device's attention, before there is a device.
#[derive(Debug)]
pub struct Keyboard {
    /// The same input as the device's, for watching only. `None`: a file, which epoll does not take and which
    /// always has something.
    watched: Option<File>,
    line: Arc<Mutex<Line>>,
    again: Arc<EventFd>,
    is_terminal: bool,
}

/// Gives the device its turn when something was typed.
pub struct Typing {
    device: Box<dyn Typed>,
    keyboard: Keyboard,
    /// Once the loop runs: until then a signal simply ends the process, and would leave the terminal raw.
    raw: Option<RawTerminal>,
}

impl std::fmt::Debug for Typing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Typing").field("device", &self.device.name()).finish_non_exhaustive()
    }
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

    pub(crate) fn on(file: File, is_terminal: bool) -> io::Result<(Self, Keyboard)> {
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

    /// Reads what was typed, at most what fits. Nothing yet is `WouldBlock`; zero bytes are the end.
    pub fn read(&self, into: &mut [u8]) -> io::Result<usize> {
        let mut line = lock(&self.line);
        if line.ahead.is_empty() { line.fetch(into) } else { line.ahead.read(into) }
    }

    /// Has the device get a turn: it has room again.
    pub fn wanted(&self) {
        // Fails only when the counter is full, and then it is readable already.
        let _ = self.again.write(1);
    }
}

fn lock(line: &Mutex<Line>) -> MutexGuard<'_, Line> {
    line.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Keyboard {
    /// Whether the device asked for a turn since the last look.
    #[cfg(test)]
    pub(crate) fn is_rung(&self) -> bool {
        self.again.read().is_ok()
    }

    /// Connects it to its device.
    #[must_use]
    pub fn plug(self, device: impl Typed + 'static) -> Typing {
        Typing { device: Box::new(device), keyboard: self, raw: None }
    }
}

impl MutEventSubscriber for Typing {
    fn process(&mut self, events: Events, _ops: &mut EventOps<'_>) {
        if self.keyboard.is_terminal && self.raw.is_none() {
            match RawTerminal::enter() {
                Ok(raw) => self.raw = Some(raw),
                Err(error) => {
                    log::warn!("{}: the terminal keeps keys to itself: {error}", self.device.name());
                    self.keyboard.is_terminal = false;
                }
            }
        }
        let again = &self.keyboard.again;
        if events.fd() == again.as_raw_fd() {
            let _ = again.read();
        }
        if self.device.take() {
            let _ = again.write(1);
        }
        lock(&self.keyboard.line).look_ahead();
    }

    fn init(&mut self, ops: &mut EventOps<'_>) {
        let typed = EventSet::IN | EventSet::EDGE_TRIGGERED;
        let mut watch = |interest| match ops.add(interest) {
            // As a file: /dev/null, which services have as their standard input, always has its end.
            Err(event_manager::Error::Epoll(errno)) if errno.errno() == Errno::EPERM as i32 => {}
            Err(error) => log::error!("{}: its input cannot be watched: {error}", self.device.name()),
            Ok(()) => {}
        };
        watch(Events::new(&*self.keyboard.again, EventSet::IN));
        if let Some(file) = &self.keyboard.watched {
            watch(Events::new(file, typed));
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
    fn the_last_keys_are_kept_and_every_key_is_seen() {
        let (mut line, mut writer) = pipe();
        writer.write_all(&[b'k'; 3 * AHEAD]).unwrap();
        writer.write_all(b"last").unwrap();
        line.look_ahead();
        assert_eq!(line.ahead.len(), AHEAD);
        assert_eq!(line.fetch(&mut [0; 10]).unwrap_err().kind(), ErrorKind::WouldBlock, "all were read");
        assert_eq!(line.ahead.drain(AHEAD - 4..).collect::<Vec<_>>(), b"last");
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
