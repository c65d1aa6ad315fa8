//! The block device (virtio 1.2, section 5.2): raw images only, one queue.
//!
//! | file | what |
//! |---|---|
//! | `device.rs` | the model: takes requests off the queue, answers each with a status |
//! | `request.rs` | what the driver may ask, parsed from a chain |
//! | `under_way.rs` | what the disk has not answered yet, and which flush waits for what |
//! | `counters.rs` | what it did so far |
//! | `disk.rs` | what the model asks of a disk |
//! | `file.rs` | a disk on a file: which way a request takes |
//! | `image.rs`, `trim.rs` | opening, locking, discarding and zeroing on the host |
//! | `uring.rs` | requests that have to wait, in io_uring |
//! | `trimmer.rs` | discards that have to wait, which io_uring does not have |
//! | `shell.rs` | tells the model of what has come out of io_uring |
//!
//! Invariant: the image's format is never guessed. A guest that writes another format's header into its
//! disk finds it there, as bytes, the next time.
//!
//! Durability: what a driver that accepted FLUSH wrote is durable when a flush after it was answered. To a driver
//! that did not, a write is answered when it is durable (5.2.6.2).

mod counters;
mod device;
mod disk;
mod file;
mod image;
mod request;
mod shell;
mod trim;
mod trimmer;
mod under_way;
mod uring;

use std::path::Path;

pub use self::device::BlockDevice;
pub use self::disk::{Disk, Space, Started, Tag, Work};
pub use self::file::FileDisk;
pub use self::image::OpenError;
pub use self::shell::Completions;
use crate::rate::Limit;

/// A block device on a file or host block device.
pub type Block = BlockDevice<FileDisk>;

impl Block {
    /// Opens `path`; a guest never gets more access than `read_only` says.
    pub fn open(path: &Path, id: &str, read_only: bool, limit: Limit) -> Result<Self, OpenError> {
        Ok(Self::new(FileDisk::open(path, read_only)?, id, read_only, limit))
    }
}

/// Bytes of a sector, the unit of every address in the protocol.
pub const SECTOR: u64 = 512;

/// Feature bits of a block device (5.2.3).
mod feature {
    pub(super) const SEG_MAX: u64 = 1 << 2;
    pub(super) const READ_ONLY: u64 = 1 << 5;
    pub(super) const FLUSH: u64 = 1 << 9;
    pub(super) const DISCARD: u64 = 1 << 13;
    pub(super) const WRITE_ZEROES: u64 = 1 << 14;
}

#[cfg(test)]
mod tests;
