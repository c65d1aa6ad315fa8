//! Builds what a guest or a board boots from: initramfs archives and read-only images.
//!
//! Duty: a tree of names in memory, and two ways to write it down: `newc` cpio and squashfs.
//! Not its duty: where the files come from (packages, compilers), or signatures.
//! Invariant: the same tree gives the same bytes, on any machine, as any user: owner 0:0, time 0, order by
//! name. No privilege is needed, device nodes included, because nothing is ever made on the host's disk.
#![forbid(unsafe_code)]

mod cpio;
pub mod demo;
mod guest;
mod path;
mod source;
mod squashfs;
mod tree;

/// The writers' version: to be changed whenever the same tree gives other bytes than before (another compression,
/// another order, another header), so that whoever keeps images by what went into them does not find old ones.
///
/// 1: squashfs with zlib. 2: squashfs with lz4.
pub const RECIPE: &str = "2";

pub use cpio::{CpioFault, write_cpio};
pub use guest::guest_initrd;
pub use path::{PathFault, TreePath};
pub use source::Source;
pub use squashfs::{SquashfsFault, write_squashfs};
pub use tree::{Device, Node, Permissions, Tree, TreeFault};
