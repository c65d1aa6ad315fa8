//! Takes what the guest printed to where the configuration sends it.
//!
//! Duty: move bytes from [`Output`] to a descriptor without ever waiting for its reader. A pipe or terminal
//! that is full is left until the event loop sees room again; meanwhile the buffer fills and then drops.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::OpenOptionsExt;

use event_manager::{EventOps, EventSet, Events, MutEventSubscriber};
use hearth_config::vm::Output as Destination;
use nix::libc::{O_NOCTTY, O_NONBLOCK};
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
    /// Taken from the buffer and not written yet; at most [`CHUNK`].
    pending: Vec<u8>,
    waiting_for_room: bool,
}

impl Console {
    /// Opens the destination.
    pub(super) fn open(destination: &Destination, output: Output) -> io::Result<Self> {
        let target = match destination {
            Destination::Stdout => Some(standard_output()?),
            Destination::Null => None,
            Destination::File(path) => {
                // A named pipe without a reader is an error then, not a wait.
                let mut options = OpenOptions::new();
                Some(options.create(true).append(true).custom_flags(O_NONBLOCK).open(path)?)
            }
        };
        Ok(Self { output, target, pending: Vec::with_capacity(CHUNK), waiting_for_room: false })
    }

    /// Writes what still waits, as far as the reader takes it, and tells what was lost.
    pub(super) fn finish(&mut self) {
        while self.refill() && self.has_room(LAST_WORDS_MS) && self.write_pending().is_ok() {}
        let dropped = self.output.take_dropped();
        if dropped > 0 {
            log::warn!(
                "serial port: {dropped} bytes were dropped, the guest printed faster than they were read"
            );
        }
    }

    /// Whether there is something to write.
    fn refill(&mut self) -> bool {
        if self.pending.is_empty() {
            self.output.take(CHUNK, &mut self.pending);
        }
        !self.pending.is_empty()
    }

    fn write_pending(&mut self) -> io::Result<()> {
        let written = match &mut self.target {
            None => Ok(self.pending.len()),
            Some(target) => target.write(&self.pending),
        };
        match written {
            Ok(0) => Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                self.pending.drain(..written.min(self.pending.len()));
                Ok(())
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn has_room(&self, wait_ms: u16) -> bool {
        let Some(target) = &self.target else { return true };
        let mut fds = [PollFd::new(target.as_fd(), PollFlags::POLLOUT)];
        matches!(poll(&mut fds, PollTimeout::from(wait_ms)), Ok(ready) if ready > 0)
    }

    fn pump(&mut self, ops: &mut EventOps<'_>) {
        while self.refill() {
            if !self.has_room(0) {
                self.wait_for_room(ops, true);
                return;
            }
            if let Err(error) = self.write_pending() {
                log::warn!("serial port: its output is gone ({error}); the rest is swallowed");
                self.wait_for_room(ops, false);
                self.target = None;
            }
        }
        self.wait_for_room(ops, false);
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

/// Standard output, for writing without waiting.
///
/// A terminal says that it has room when it has little, and a write of more then waits for whoever stopped it
/// with Ctrl-S. It is opened anew, because the flag on the shared description would be the shell's, too.
fn standard_output() -> io::Result<File> {
    if io::stdout().is_terminal() {
        let mut options = OpenOptions::new();
        options.write(true).custom_flags(O_NONBLOCK | O_NOCTTY);
        if let Ok(terminal) = options.open("/proc/self/fd/1") {
            return Ok(terminal);
        }
    }
    Ok(File::from(io::stdout().as_fd().try_clone_to_owned()?))
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
