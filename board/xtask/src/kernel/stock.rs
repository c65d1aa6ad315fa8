//! Debian's cloud kernel as a guest kernel, for the day the source cannot be had.
//!
//! Duty: the image in the form that a monitor loads, and the modules that a guest needs to see its devices.
//! Not here: the decision to use it (`guest`). Invariant: modules and image come from the same package.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use thiserror::Error;

use crate::{
    arch::Arch,
    cache::CacheError,
    command::CommandError,
    debian::{archive::ArchiveError, packages::PackagesError},
    kernel::{
        board::{self, BoardKernelError, Recipe, UnpackedKernel},
        modules::{Module, ModulesError, Weight},
    },
    workshop::Workshop,
};

use Weight::{Optional, Required};

/// What a guest needs beyond what is built in. Some are built in on one architecture only.
const GUEST_MODULES: [(Weight, &str); 11] = [
    (Required, "virtio_mmio"),
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
    Modules(#[from] ModulesError),
    #[error(transparent)]
    Archive(#[from] ArchiveError),
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

/// Writes the ELF inside the bzImage `from` to `to`.
fn decompress(from: &Path, to: &Path) -> Result<(), StockError> {
    let file = fs::read(from).map_err(|source| StockError::Read { path: from.to_owned(), source })?;
    let payload = payload(&file).map_err(|why| StockError::NotAKernel { path: from.to_owned(), why })?;
    let error = |source| StockError::Decompress { path: from.to_owned(), source };
    // xz reads a file more simply than a pipe that this program would have to feed while xz writes.
    let packed = to.with_extension("xz");
    fs::write(&packed, payload).map_err(error)?;
    let out = File::create(to).map_err(error)?;
    // A kernel's stream is followed by its size in four bytes, which xz takes for garbage: one stream only.
    let status = Command::new("xz")
        .args(["-dc", "--single-stream"])
        .stdin(File::open(&packed).map_err(error)?)
        .stdout(out)
        .stderr(Stdio::null())
        .status()
        .map_err(error)?;
    fs::remove_file(&packed).map_err(error)?;
    let unpacked = fs::read(to).map_err(error)?;
    if status.success() && unpacked.starts_with(b"\x7fELF") {
        Ok(())
    } else {
        Err(StockError::NotAKernel { path: from.to_owned(), why: "its payload does not unpack to an ELF" })
    }
}

/// The compressed kernel inside a bzImage, by the fields of the boot protocol (Documentation/x86/boot.rst).
fn payload(file: &[u8]) -> Result<&[u8], &'static str> {
    const SECTOR: usize = 512;
    const XZ_MAGIC: &[u8] = b"\xfd7zXZ\0";
    let byte = |at: usize| file.get(at).copied().ok_or("it is too short");
    let word = |at: usize| {
        let bytes: [u8; 4] = file.get(at..at + 4).and_then(|s| s.try_into().ok()).ok_or("it is too short")?;
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
    let start = (setup_sectors + 1) * SECTOR + word(0x248)?;
    let end = start.checked_add(word(0x24c)?).ok_or("an offset is too large")?;
    let payload = file.get(start..end).ok_or("its payload lies beyond its end")?;
    if payload.starts_with(XZ_MAGIC) { Ok(payload) } else { Err("it is not packed with xz") }
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
    fn the_payload_is_where_the_boot_header_says() {
        let packed = b"\xfd7zXZ\0rest";
        assert_eq!(payload(&image(packed)), Ok(packed.as_slice()));
    }

    #[test]
    fn a_file_that_is_no_kernel_is_refused_by_what_is_wrong() {
        assert_eq!(payload(b"#!/bin/sh"), Err("it has no boot header"));
        assert_eq!(payload(&image(b"\x1f\x8bgzip..")), Err("it is not packed with xz"));
        let mut cut = image(b"\xfd7zXZ\0rest");
        cut.truncate(1041);
        assert_eq!(payload(&cut), Err("its payload lies beyond its end"));
    }
}
