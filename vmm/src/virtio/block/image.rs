//! A raw image: a file, or a block device of the host.
//!
//! Duty: open it so that nobody else changes it, say what can be done with it, and do what needs no guest memory.
//! Not here: reading and writing ([`FileDisk`](super::FileDisk)).
//!
//! Invariant: the host's permission is no more than the configuration's: a read-only image has a descriptor that
//! cannot write.

use std::fs::{File, TryLockError};
use std::io::{self, Seek, SeekFrom};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, FcntlArg, OFlag, fallocate, fcntl};

use crate::places;

use super::{SECTOR, trim};

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
    /// Two machines that write one file system destroy it; so does one that writes and one that reads.
    #[error(
        "{}: is in use by another disk, expected one {}", path.display(),
        if *read_only { "that nobody writes" } else { "that nobody else uses" }
    )]
    InUse {
        /// Which file.
        path: PathBuf,
        /// How it was to be used.
        read_only: bool,
    },
}

/// An open image.
#[derive(Debug)]
pub(super) struct Image {
    file: File,
    bytes: u64,
    device: bool,
    /// The piece that the host's storage is handed out in.
    block: u64,
    discards: bool,
}

impl Image {
    /// Opens an image, for reading only where `read_only` says so, and locks it for as long as it is open:
    /// shared among those that read, for itself alone where it may be written.
    pub(super) fn open(path: &Path, read_only: bool) -> Result<Self, OpenError> {
        let failed = |source| OpenError::Open { path: path.to_owned(), source };
        let in_use = || OpenError::InUse { path: path.to_owned(), read_only };
        // A named pipe would keep the open waiting for its other end; non-blocking, it is looked at and refused.
        // O_EXCL without O_CREAT means something for block devices alone: not one that the host has mounted.
        let flags =
            OFlag::O_NONBLOCK | if read_only { OFlag::O_RDONLY } else { OFlag::O_RDWR | OFlag::O_EXCL };
        let opened = places::open(path, flags);
        let mut file = match opened {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => return Err(in_use()),
            other => other.map_err(failed)?,
        };
        let metadata = file.metadata().map_err(failed)?;
        let device = metadata.file_type().is_block_device();
        if !(device || metadata.is_file()) {
            return Err(OpenError::NotADisk { path: path.to_owned() });
        }
        // io_uring would answer "not now" instead of waiting.
        fcntl(&file, FcntlArg::F_SETFL(OFlag::empty())).map_err(|errno| failed(errno.into()))?;
        match if read_only { file.try_lock_shared() } else { file.try_lock() } {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(in_use()),
            Err(TryLockError::Error(error)) => {
                log::warn!(
                    "{}: cannot be locked, so nothing keeps others from writing it: {error}",
                    path.display()
                );
            }
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
        let block = metadata.blksize().max(SECTOR);
        let mut image = Self { file, bytes, device, block, discards: false };
        image.discards = !read_only && image.can_discard(size);
        Ok(image)
    }

    /// Asked by discarding what is past the end: the answer comes, and nothing changes.
    fn can_discard(&self, size: u64) -> bool {
        if self.device {
            return trim::is_supported(self.file.as_fd());
        }
        let past_the_end = size.checked_next_multiple_of(self.block).unwrap_or(size);
        self.fallocate(punch(), past_the_end, self.block).is_ok()
    }

    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The piece to discard in, if discarding works.
    pub(super) fn discards(&self) -> Option<u64> {
        self.discards.then_some(self.block)
    }

    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Reads what the host has, while no request is under way.
    pub(super) fn read_exact_at(&self, into: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(into, offset)
    }

    pub(super) fn flush(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// The call that discards, where it is a call that io_uring has too.
    pub(super) fn discarding(&self) -> Option<FallocateFlags> {
        (!self.device).then(punch)
    }

    /// The blocks that are wholly in a range, where there are any. To discard less is allowed, and devices refuse halves.
    pub(super) fn whole_blocks(&self, offset: u64, bytes: u64) -> Option<(u64, u64)> {
        let end = offset.saturating_add(bytes);
        let first = offset.checked_next_multiple_of(self.block)?;
        let last = end.saturating_sub(end.checked_rem(self.block).unwrap_or(0));
        last.checked_sub(first).filter(|bytes| *bytes > 0).map(|bytes| (first, bytes))
    }

    /// Whether a write of this range replaces whole blocks: of a part that is not at hand, the rest is read first.
    pub(super) const fn is_whole(&self, offset: u64, bytes: u64) -> bool {
        offset.is_multiple_of(self.block) && bytes.is_multiple_of(self.block)
    }

    pub(super) fn discard(&self, offset: u64, bytes: u64) -> io::Result<()> {
        if !self.device {
            return self.fallocate(punch(), offset, bytes);
        }
        match self.whole_blocks(offset, bytes) {
            None => Ok(()),
            Some((first, bytes)) => trim::discard(self.file.as_fd(), first, bytes),
        }
    }

    /// The call that zeroes, if any does here: it fails as unsupported where the host has no such call, and as invalid
    /// for parts of a device's blocks.
    pub(super) fn zeroing(&self, unmap: bool) -> FallocateFlags {
        if unmap && self.discards { punch() } else { zero_range() }
    }

    pub(super) fn fallocate(&self, call: FallocateFlags, offset: u64, bytes: u64) -> io::Result<()> {
        let signed = |number: u64| i64::try_from(number).map_err(|_| io::ErrorKind::InvalidInput);
        let (offset, bytes) = (signed(offset)?, signed(bytes)?);
        loop {
            match fallocate(&self.file, call, offset, bytes) {
                Err(Errno::EINTR) => {}
                done => return done.map_err(io::Error::from),
            }
        }
    }
}

/// Gives storage back; reads as zero from then on.
const fn punch() -> FallocateFlags {
    FallocateFlags::FALLOC_FL_PUNCH_HOLE.union(FallocateFlags::FALLOC_FL_KEEP_SIZE)
}

/// Marks storage as zero without giving it back.
const fn zero_range() -> FallocateFlags {
    FallocateFlags::FALLOC_FL_ZERO_RANGE.union(FallocateFlags::FALLOC_FL_KEEP_SIZE)
}
