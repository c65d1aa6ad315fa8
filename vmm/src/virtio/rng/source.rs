//! Where random bytes come from.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;

use nix::libc::O_NONBLOCK;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use vm_memory::VolatileMemoryError;

use crate::virtio::rings::Writer;

/// Random bytes.
pub trait Entropy: Send {
    /// Puts at most `max` bytes into `into` and says how many. Nothing yet is `WouldBlock`.
    fn fill(&mut self, into: &mut Writer<'_>, max: usize) -> io::Result<usize>;
}

/// The generator of the host's kernel.
///
/// `/dev/random` and neither of its relatives: a descriptor from the start needs no path and no further system
/// call than `read` once the process is confined, and reads go straight to guest memory. It is the one that gives
/// nothing before the host has seeded its generator, and on a box that starts its guests seconds after power-on
/// that is no theory: `/dev/urandom` would give every such box the same keys.
#[derive(Debug)]
pub struct HostEntropy {
    file: File,
    /// A generator that was seeded once stays so.
    seeded: bool,
}

impl HostEntropy {
    /// Opens the generator.
    pub fn open() -> io::Result<Self> {
        let file = OpenOptions::new().read(true).custom_flags(O_NONBLOCK).open("/dev/random")?;
        Ok(Self { file, seeded: false })
    }

    /// The generator itself, if it gives anything yet.
    #[must_use]
    pub fn into_seeded(mut self) -> Option<File> {
        self.is_seeded().then_some(self.file)
    }

    /// Asked by polling: kernels from 5.6 to 5.17 let a read wait whatever its flags say.
    fn is_seeded(&mut self) -> bool {
        if !self.seeded {
            let mut fds = [PollFd::new(self.file.as_fd(), PollFlags::POLLIN)];
            self.seeded = matches!(poll(&mut fds, PollTimeout::ZERO), Ok(ready) if ready > 0);
        }
        self.seeded
    }
}

impl Entropy for HostEntropy {
    fn fill(&mut self, into: &mut Writer<'_>, max: usize) -> io::Result<usize> {
        if !self.is_seeded() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        into.read_from(&mut self.file, max).map_err(|error| match error {
            VolatileMemoryError::IOError(error) => error,
            other => io::Error::other(other),
        })
    }
}
