//! Takes what the guest printed to where the configuration sends it.
//!
//! Duty: move bytes from [`Output`] to a descriptor without ever waiting for its reader. A pipe or terminal
//! that is full is left until the event loop sees room again; meanwhile the buffer fills and then drops.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd};

use event_manager::{EventOps, EventSet, Events, MutEventSubscriber};
use hearth_config::vm::Serial as Destination;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::devices::serial::Output;

/// A pipe that polls writable has room for this many bytes (PIPE_BUF), so writing them cannot block.
const CHUNK: usize = 4096;
/// How long the last words of a guest wait for a reader that does not read.
const LAST_WORDS_MS: u16 = 1000;

/// Drains the serial port's output.
#[derive(Debug)]
pub(super) struct Console {
    output: Output,
    /// `None` swallows everything.
    target: Option<File>,
    waiting_for_room: bool,
}

impl Console {
    /// Opens the destination.
    pub(super) fn open(destination: &Destination, output: Output) -> io::Result<Self> {
        let target = match destination {
            Destination::Stdout => Some(File::from(io::stdout().as_fd().try_clone_to_owned()?)),
            Destination::Null => None,
            Destination::File(path) => Some(OpenOptions::new().create(true).append(true).open(path)?),
        };
        Ok(Self { output, target, waiting_for_room: false })
    }

    /// Writes what still waits, as far as the reader takes it, and tells what was lost.
    pub(super) fn finish(&mut self) {
        while self.has_room(LAST_WORDS_MS) {
            match self.write_chunk() {
                Ok(0) | Err(_) => break,
                Ok(_) => {}
            }
        }
        let dropped = self.output.take_dropped();
        if dropped > 0 {
            log::warn!(
                "serial port: {dropped} bytes were dropped, the guest printed faster than they were read"
            );
        }
    }

    /// Moves one chunk; returns how many bytes still wait.
    fn write_chunk(&mut self) -> io::Result<usize> {
        let Some(target) = &mut self.target else {
            return self.output.drain(usize::MAX, |bytes| Ok(bytes.len()));
        };
        match self.output.drain(CHUNK, |bytes| target.write(bytes)) {
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                Ok(1)
            }
            other => other,
        }
    }

    fn has_room(&self, wait_ms: u16) -> bool {
        let Some(target) = &self.target else { return true };
        let mut fds = [PollFd::new(target.as_fd(), PollFlags::POLLOUT)];
        matches!(poll(&mut fds, PollTimeout::from(wait_ms)), Ok(ready) if ready > 0)
    }

    fn pump(&mut self, ops: &mut EventOps<'_>) {
        loop {
            if !self.has_room(0) {
                self.wait_for_room(ops, true);
                return;
            }
            match self.write_chunk() {
                Ok(0) => {
                    self.wait_for_room(ops, false);
                    return;
                }
                Ok(_) => {}
                Err(error) => {
                    log::warn!("serial port: its output is gone ({error}); the rest is swallowed");
                    self.wait_for_room(ops, false);
                    self.target = None;
                }
            }
        }
    }

    fn wait_for_room(&mut self, ops: &mut EventOps<'_>, wait: bool) {
        let Some(target) = &self.target else { return };
        if wait != self.waiting_for_room {
            let interest = Events::new_raw(target.as_raw_fd(), EventSet::OUT);
            let changed = if wait { ops.add(interest) } else { ops.remove(interest) };
            if let Err(error) = changed {
                log::warn!("serial port: cannot watch its output: {error}");
            }
            self.waiting_for_room = wait;
        }
    }
}

impl MutEventSubscriber for Console {
    fn process(&mut self, events: Events, ops: &mut EventOps<'_>) {
        if events.fd() == self.output.filled().as_raw_fd() {
            let _ = self.output.filled().read();
        }
        self.pump(ops);
    }

    fn init(&mut self, ops: &mut EventOps<'_>) {
        if let Err(error) = ops.add(Events::new(self.output.filled(), EventSet::IN)) {
            log::error!("serial port: cannot watch its buffer: {error}");
        }
    }
}
