//! A tree as a squashfs image, what a guest mounts as its root.
//!
//! Duty: hand the tree to `backhand`, with every choice that could differ between two runs made here.
//! Not its duty: the format itself.
//! Invariant: as the crate's.
//!
//! The compressor is lz4, because unpacking is part of every guest's boot. Counted in instructions, from the
//! kernel's start to the first line of a shell script in the demo image: 27 ms without compression, 32 with lz4,
//! 67 with zstd, 75 with zlib; the image is 1.9, 1.4, 0.9 and 1.0 MiB. The guest kernels of this project and
//! Debian's own have lz4 turned on. Its Rust implementation needs no C compiler, so images are built the same
//! on and for both architectures.

use crate::tree::{Device, Node, Permissions, Tree};
use backhand::{
    BackhandError, FilesystemCompressor, FilesystemWriter, NodeHeader,
    compression::{CompressionOptions, Compressor, Lz4},
    kind::{Kind, LE_V4_0},
};
use std::io::{self, Seek, Write};

/// Bytes of a data block: mksquashfs's choice too; larger would compress better but make a guest read more to
/// get a little.
const BLOCK_SIZE: u32 = 128 * 1024;

/// The only version of the block format that the kernel takes, and no flags: flag 1 would claim the slow,
/// denser compression that this writer does not have.
const LZ4: Lz4 = Lz4 { version: 1, flags: 0 };

/// Why an image could not be written.
#[derive(Debug, thiserror::Error)]
pub enum SquashfsFault {
    #[error("cannot write the image")]
    Io(#[source] io::Error),
    #[error("{0}: the squashfs writer refuses it")]
    Refused(String),
}

/// Writes `tree` and returns the number of bytes, a multiple of 4096, so that it can be used as a disk as it is.
pub fn write_squashfs(tree: &Tree, out: impl Write + Seek) -> Result<u64, SquashfsFault> {
    let mut image = FilesystemWriter::default();
    image.set_kind(Kind::from_const(LE_V4_0).map_err(|kind| SquashfsFault::Refused(kind.to_string()))?);
    image.set_block_size(BLOCK_SIZE);
    image.set_time(0);
    image.set_only_root_id();
    image.set_root_mode(Permissions::PROGRAM.bits());
    let lz4 = FilesystemCompressor::new(Compressor::Lz4, Some(CompressionOptions::Lz4(LZ4)));
    image.set_compressor(lz4.map_err(|error| fault("lz4", error))?);
    // The writer takes files for equal when a 64-bit hash and the length are; not enough to stake contents on.
    image.set_no_duplicate_files(false);
    for (path, node) in tree.iter() {
        let name = path.as_str();
        match node {
            Node::Folder(permissions) => image.push_dir(name, header(*permissions)),
            Node::File(permissions, source) => image.push_file(source.reader(), name, header(*permissions)),
            Node::Symlink(target) => image.push_symlink(target, name, header(Permissions::from_bits(0o777))),
            Node::CharDevice(permissions, device) => {
                image.push_char_device(number(*device), name, header(*permissions))
            }
        }
        .map_err(|error| fault(name, error))?;
    }
    let (_, bytes) = image.write(out).map_err(|error| fault("the tree", error))?;
    Ok(bytes)
}

fn header(permissions: Permissions) -> NodeHeader {
    NodeHeader { permissions: permissions.bits(), uid: 0, gid: 0, mtime: 0 }
}

/// The kernel's packing of a device number into 32 bits: the low byte of the minor at the bottom, the rest of
/// it above the major.
fn number(device: Device) -> u32 {
    let (major, minor) = (u32::from(device.major), u32::from(device.minor));
    (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12)
}

/// The writer's own texts are left out of its build (they would pull in a logging framework), so only what the
/// variant says is known.
fn fault(what: &str, error: BackhandError) -> SquashfsFault {
    match error {
        BackhandError::StdIo(error) => SquashfsFault::Io(error),
        _ => SquashfsFault::Refused(what.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_numbers_are_packed_as_the_kernel_does() {
        assert_eq!(number(Device { major: 5, minor: 1 }), 0x0501);
        assert_eq!(number(Device { major: 8, minor: 0x123 }), 0x0010_0823);
    }
}
