//! A monitor that takes part: its process, and its console read with a deadline.
//!
//! Duty: tell a guest that goes on from one that stands still. Not here: what its lines mean.
//! Invariant: a dropped entrant is dead, and so is its guest.
//!
//! Guests do stand still on boards that count instructions, and it is not their fault. QEMU's emulation of VMRUN (7.2,
//! and later ones) delivers the interrupt that KVM injects and keeps its vector in mind; if QEMU leaves the guest for a
//! timer of its own before the guest's next exit, it delivers the interrupt once more, with interrupts disabled. Where
//! that meets a kernel with a lock held, one processor waits for itself. So a race gives a guest that is stuck another
//! start, a bounded number of times, and says so.

use std::io::{self, BufRead, BufReader};
use std::os::fd::AsFd;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::plan::Contender;

/// Lines of a guest's console that are kept to explain a failure.
const TAIL: usize = 12;

/// Why a line did not come.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Silence {
    #[error("has no command")]
    NoCommand,
    #[error("{program}: {source}")]
    Spawn { program: String, source: io::Error },
    #[error("its console: {0}")]
    Console(#[from] io::Error),
    #[error("its control socket: {why}")]
    Control { why: String },
    #[error("ended; its console said: {tail}")]
    Ended { tail: String },
    #[error("stands still; its console said: {tail}")]
    StandsStill { tail: String },
}

/// A running monitor.
#[derive(Debug)]
pub(crate) struct Entrant {
    child: Child,
    console: BufReader<ChildStdout>,
    tail: Vec<String>,
}

impl Entrant {
    pub(crate) fn start(contender: &Contender) -> Result<Self, Silence> {
        let (program, arguments) = contender.command.split_first().ok_or(Silence::NoCommand)?;
        let spawn = |source| Silence::Spawn { program: program.clone(), source };
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().map_err(spawn)?;
        let console = child.stdout.take().ok_or_else(|| spawn(io::ErrorKind::BrokenPipe.into()))?;
        Ok(Self { child, console: BufReader::new(console), tail: Vec::new() })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The next line of the guest's console, if one begins within `patience`.
    pub(crate) fn line(&mut self, patience: Duration) -> Result<String, Silence> {
        let deadline = Instant::now() + patience;
        while self.console.buffer().is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            let mut console = [PollFd::new(self.console.get_ref().as_fd(), PollFlags::POLLIN)];
            match poll(&mut console, timeout) {
                Ok(0) => return Err(Silence::StandsStill { tail: self.tail.join(" / ") }),
                Ok(_) => break,
                Err(nix::Error::EINTR) => {}
                Err(errno) => return Err(io::Error::from(errno).into()),
            }
        }
        let mut line = Vec::new();
        if self.console.read_until(b'\n', &mut line)? == 0 {
            return Err(Silence::Ended { tail: self.tail.join(" / ") });
        }
        let line = String::from_utf8_lossy(&line).trim().to_owned();
        self.tail.push(line.clone());
        self.tail.drain(..self.tail.len().saturating_sub(TAIL));
        Ok(line)
    }
}

impl Drop for Entrant {
    /// The next contender needs the processor, and the interface.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        // Some are more than one process; the last of them closes the console.
        let _ = io::copy(&mut self.console, &mut io::sink());
    }
}
