//! The block device (virtio 1.2, section 5.2): raw images only, one queue.
//!
//! | file | what |
//! |---|---|
//! | `device.rs` | the model: takes requests off the queue, answers each with a status |
//! | `request.rs` | what the driver may ask, parsed from a chain |
//! | `disk.rs` | where the sectors are: a trait, and files behind it |
//!
//! Invariant: the image's format is never guessed. A guest that writes another format's header into its
//! disk finds it there, as bytes, the next time.

mod device;
mod disk;
mod request;

use std::path::Path;

pub use self::device::{BlockDevice, Counters};
pub use self::disk::{Disk, FileDisk, OpenError};

/// A block device on a file or host block device.
pub type Block = BlockDevice<FileDisk>;

impl Block {
    /// Opens `path`; a guest never gets more access than `read_only` says.
    pub fn open(path: &Path, id: &str, read_only: bool) -> Result<Self, OpenError> {
        Ok(Self::new(FileDisk::open(path, read_only)?, id, read_only))
    }
}

/// Bytes of a sector, the unit of every address in the protocol.
pub const SECTOR: u64 = 512;

#[cfg(test)]
mod tests;
