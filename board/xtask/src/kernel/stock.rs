//! Debian's cloud kernel as a guest kernel, for the day the source cannot be had.
//!
//! Duty: the image in the form that a monitor loads, and the modules that a guest needs to see its devices.
//! Not here: the decision to use it (`guest`). Invariant: modules and image come from the same package.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

use thiserror::Error;

use crate::{
    arch::Arch,
    cache::CacheError,
    command::{self, CommandError},
    debian::packages::{self, Need, PackagesError},
    kernel::{
        board::{self, BoardKernelError, Recipe, UnpackedKernel},
        modules::{Module, Weight},
    },
    workshop::Workshop,
};

use Weight::{Optional, Required};

/// What a guest needs beyond what is built in. Some are built in on one architecture only.
const GUEST_MODULES: [(Weight, &str); 18] = [
    (Required, "virtio_mmio"),
    // Early: what goes wrong after it is seen.
    (Required, "virtio_console"),
    (Required, "virtio_blk"),
    (Required, "vmw_vsock_virtio_transport"),
    (Required, "squashfs"),
    (Required, "overlay"),
    // ext4 asks for its checksum by name through modprobe, which a guest does not have.
    (Optional, "crc32c_generic"),
    (Optional, "ext4"),
    (Optional, "erofs"),
    (Optional, "virtio_net"),
    (Optional, "virtio_balloon"),
    (Optional, "virtio_rng"),
    // The platform: watchdogs and the power button of either architecture, and what reports a panic.
    (Optional, "wdat_wdt"),
    (Optional, "sp805_wdt"),
    (Optional, "pvpanic_mmio"),
    (Optional, "evdev"),
    (Optional, "button"),
    (Optional, "gpio_keys"),
];

#[derive(Debug, Error)]
pub(crate) enum StockError {
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} is not a compressed x86 kernel that this program understands: {why}", path.display())]
    NotAKernel { path: PathBuf, why: &'static str },
    #[error("cannot decompress {}", path.display())]
    Decompress { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Kernel(#[from] BoardKernelError),
    #[error(transparent)]
    Packages(#[from] PackagesError),
    #[error(transparent)]
    Command(#[from] CommandError),
    #[error(transparent)]
    Cache(#[from] CacheError),
}

/// The kernel and what its guests must load.
#[derive(Debug)]
pub(crate) struct StockKernel {
    pub(crate) image: PathBuf,
    pub(crate) release: String,
    pub(crate) modules: Vec<Module>,
}

/// Debian's cloud kernel for `arch`.
pub(crate) fn cloud_kernel(shop: &Workshop, arch: Arch) -> Result<StockKernel, StockError> {
    packages::require(shop, &[Need::StockKernel])?;
    let recipe = Recipe {
        kind: "stock-kernel",
        meta_package: format!("linux-image-cloud-{}", arch.debian()),
        modules: &GUEST_MODULES,
    };
    let kernel = board::unpack(shop, arch, &recipe, |unpacked: &UnpackedKernel<'_>| match arch {
        Arch::X86_64 => decompress(unpacked.vmlinuz, unpacked.image),
        Arch::Aarch64 => fs::copy(unpacked.vmlinuz, unpacked.image)
            .map(drop)
            .map_err(|source| StockError::Read { path: unpacked.vmlinuz.to_owned(), source }),
    })?;
    Ok(StockKernel { image: kernel.image, release: kernel.release, modules: kernel.modules })
}

/// A way in which kernels are packed.
#[derive(Debug, PartialEq, Eq)]
struct Packing {
    magic: &'static [u8],
    program: &'static str,
}

/// Debian 12 packs with lz4, in its old format; others have used xz.
const PACKINGS: [Packing; 2] =
    [Packing { magic: b"\x02\x21\x4c\x18", program: "lz4" }, Packing { magic: b"\xfd7zXZ\0", program: "xz" }];

/// A kernel inside a bzImage.
#[derive(Debug, PartialEq, Eq)]
struct Packed<'a> {
    packing: &'static Packing,
    stream: &'a [u8],
    unpacked_size: usize,
}

/// Writes the ELF inside the bzImage `from` to `to`.
fn decompress(from: &Path, to: &Path) -> Result<(), StockError> {
    let file = fs::read(from).map_err(|source| StockError::Read { path: from.to_owned(), source })?;
    let refuse = |why| StockError::NotAKernel { path: from.to_owned(), why };
    let Packed { packing, stream, unpacked_size } = packed(&file).map_err(refuse)?;
    let error = |source| StockError::Decompress { path: from.to_owned(), source };
    // A file, because a pipe would have to be fed and drained at the same time.
    let stream_file = to.with_extension("packed");
    fs::write(&stream_file, stream).map_err(error)?;
    let unpacked = command::ask_bytes(Command::new(packing.program).arg("-dc").arg(&stream_file))?;
    fs::remove_file(&stream_file).map_err(error)?;
    if unpacked.len() != unpacked_size || !unpacked.starts_with(b"\x7fELF") {
        return Err(refuse("its payload does not unpack to an ELF of the stated size"));
    }
    fs::write(to, unpacked).map_err(error)
}

/// Finds the packed kernel by the fields of the boot protocol (Documentation/x86/boot.rst).
fn packed(file: &[u8]) -> Result<Packed<'_>, &'static str> {
    const SECTOR: usize = 512;
    const SIZE_BYTES: usize = 4;
    let byte = |at: usize| file.get(at).copied().ok_or("it is too short");
    let word = |at: usize| {
        let bytes = at.checked_add(SIZE_BYTES).and_then(|end| file.get(at..end));
        let bytes: [u8; SIZE_BYTES] = bytes.and_then(|s| s.try_into().ok()).ok_or("it is too short")?;
        usize::try_from(u32::from_le_bytes(bytes)).map_err(|_| "an offset is too large")
    };
    if file.get(0x202..0x206) != Some(b"HdrS".as_slice()) {
        return Err("it has no boot header");
    }
    // 0 means 4, for kernels from before the field.
    let setup_sectors = match byte(0x1f1)? {
        0 => 4,
        n => usize::from(n),
    };
    let beyond = "its payload lies beyond its end";
    let start = (setup_sectors + 1) * SECTOR + word(0x248)?;
    let end = start.checked_add(word(0x24c)?).ok_or(beyond)?;
    // The unpacked size stands behind the stream, inside the payload.
    let size_at = end.checked_sub(SIZE_BYTES).ok_or(beyond)?;
    let stream = file.get(start..size_at).ok_or(beyond)?;
    let unpacked_size = word(size_at).map_err(|_| beyond)?;
    let packing = PACKINGS.iter().find(|packing| stream.starts_with(packing.magic));
    Ok(Packed { packing: packing.ok_or("it is packed neither with lz4 nor with xz")?, stream, unpacked_size })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(payload: &[u8]) -> Vec<u8> {
        let mut file = vec![0; 1024];
        file[0x1f1] = 1;
        file[0x202..0x206].copy_from_slice(b"HdrS");
        file[0x248..0x24c].copy_from_slice(&16_u32.to_le_bytes());
        file[0x24c..0x250].copy_from_slice(&u32::try_from(payload.len()).unwrap().to_le_bytes());
        file.extend([0; 16]);
        file.extend(payload);
        file
    }

    #[test]
    fn the_packed_kernel_is_where_the_boot_header_says() {
        let file = image(b"\x02\x21\x4c\x18rest\x07\0\0\0");
        let found = packed(&file).unwrap();
        assert_eq!(found.packing.program, "lz4");
        assert_eq!(found.stream, b"\x02\x21\x4c\x18rest");
        assert_eq!(found.unpacked_size, 7);
    }

    #[test]
    fn a_file_that_is_no_kernel_is_refused_by_what_is_wrong() {
        assert_eq!(packed(b"#!/bin/sh"), Err("it has no boot header"));
        assert_eq!(packed(&image(b"\x1f\x8bgzip....")), Err("it is packed neither with lz4 nor with xz"));
        let mut cut = image(b"\xfd7zXZ\0rest\x07\0\0\0");
        cut.truncate(1041);
        assert_eq!(packed(&cut), Err("its payload lies beyond its end"));
    }
}
