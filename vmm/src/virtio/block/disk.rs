//! Where the sectors are.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use vm_memory::VolatileMemoryError;

use super::SECTOR;
use crate::virtio::rings::{Reader, Writer};

/// Sectors that can be read, written and made durable. Offsets are within [`Disk::bytes`].
pub trait Disk: Send {
    /// Size of the disk, a multiple of [`SECTOR`].
    fn bytes(&self) -> u64;
    /// Fills `into` with `bytes` from `offset` on.
    fn read(&mut self, offset: u64, into: &mut Writer<'_>, bytes: usize) -> io::Result<()>;
    /// Takes `bytes` out of `from` and puts them at `offset`.
    fn write(&mut self, offset: u64, from: &mut Reader<'_>, bytes: usize) -> io::Result<()>;
    /// Returns when everything written is durable.
    fn flush(&mut self) -> io::Result<()>;
}

/// Why a disk cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The host does not give it.
    #[error("{}: cannot be opened", path.display())]
    Open {
        /// Which file.
        path: PathBuf,
        /// What the host said.
        source: io::Error,
    },
    /// A folder, a pipe, a terminal.
    #[error("{}: not a disk image, expected a file or a block device", path.display())]
    NotADisk {
        /// Which file.
        path: PathBuf,
    },
    /// Not one sector in it.
    #[error("{}: has {bytes} bytes, expected at least {SECTOR}", path.display())]
    TooSmall {
        /// Which file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
    },
}

/// A raw image in a file, or a block device of the host.
#[derive(Debug)]
pub struct FileDisk {
    file: File,
    bytes: u64,
}

impl FileDisk {
    /// Opens an image, for reading only where `read_only` says so.
    pub fn open(path: &Path, read_only: bool) -> Result<Self, OpenError> {
        let failed = |source| OpenError::Open { path: path.to_owned(), source };
        // A named pipe would keep the open waiting for its other end; non-blocking, it is looked at and refused.
        let mut options = OpenOptions::new();
        options.read(true).write(!read_only).custom_flags(nix::libc::O_NONBLOCK);
        let mut file = options.open(path).map_err(failed)?;
        let kind = file.metadata().map_err(failed)?.file_type();
        if !(kind.is_file() || kind.is_block_device()) {
            return Err(OpenError::NotADisk { path: path.to_owned() });
        }
        // The end of a block device is found by going there; its metadata says 0.
        let size = file.seek(SeekFrom::End(0)).map_err(failed)?;
        let torn = size.checked_rem(SECTOR).unwrap_or(0);
        let bytes = size.saturating_sub(torn);
        if bytes == 0 {
            return Err(OpenError::TooSmall { path: path.to_owned(), bytes: size });
        }
        if torn > 0 {
            log::warn!("{}: its last {torn} bytes are no whole sector; not shown", path.display());
        }
        Ok(Self { file, bytes })
    }
}

/// Calls `step` until it moved `bytes`. Zero is an end that came too early; an interruption is none.
fn move_all(
    mut bytes: usize,
    mut step: impl FnMut(usize) -> Result<usize, VolatileMemoryError>,
) -> io::Result<()> {
    while bytes > 0 {
        match step(bytes) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(moved) => bytes = bytes.saturating_sub(moved),
            Err(VolatileMemoryError::IOError(error)) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(VolatileMemoryError::IOError(error)) => return Err(error),
            Err(other) => return Err(io::Error::other(other)),
        }
    }
    Ok(())
}

impl Disk for FileDisk {
    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn read(&mut self, offset: u64, into: &mut Writer<'_>, bytes: usize) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(offset))?;
        move_all(bytes, |left| into.read_from(&mut self.file, left))
    }

    fn write(&mut self, offset: u64, from: &mut Reader<'_>, bytes: usize) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(offset))?;
        move_all(bytes, |left| from.write_to(&mut self.file, left))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }
}
