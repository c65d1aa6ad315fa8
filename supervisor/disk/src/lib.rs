//! Files that outlive power cuts.
//!
//! Duty: checked pieces of a file ([`frame`]), what is done to files of one folder ([`Disk`]), and, for tests, a disk
//! that forgets and fails. Not here: what is worth keeping, what is in the pieces.
//! Invariant: nothing comes out that did not go in; what was synced stays.

#![forbid(unsafe_code)]

mod disk;
#[cfg(any(test, feature = "faulty"))]
pub mod faulty;
pub mod frame;

pub use disk::{Disk, Folder, MAX_FILE};
