//! Loads an ARM64 kernel: Image at the start of RAM, device tree and initrd at the far end.

use std::fs::File;
use std::io::{Read, Seek};
use std::path::Path;

use linux_loader::loader::{KernelLoader, pe::PE};
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend};

use super::{Chipset, fdt, layout};
use crate::arch::files::{check_command_line, initrd_below, mapped_kernel, mib_of, open};
use crate::arch::seed::Seed;
use crate::arch::{BootError, BootFile, BootFiles, Fittings};
use crate::memory::GuestRam;

/// How vCPU 0 starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// First instruction.
    pub address: GuestAddress,
    /// What X0 holds.
    pub device_tree: GuestAddress,
}

/// Loads everything the guest starts from and says where it starts.
pub fn load(
    memory: &GuestRam,
    files: &BootFiles<'_>,
    chipset: &Chipset,
    fittings: &Fittings<'_>,
) -> Result<Entry, BootError> {
    check_command_line(files.cmdline, layout::COMMAND_LINE_MAX)?;
    let (address, kernel_end) = load_kernel(memory, files)?;
    let ram = layout::told_ram(memory);
    let end = layout::RAM.0 + ram.min(layout::BOOT_WINDOW);
    let device_tree = (end / layout::FDT_SIZE * layout::FDT_SIZE).saturating_sub(layout::FDT_SIZE);
    if device_tree < kernel_end {
        return Err(BootError::DoesNotFit { what: "the device tree".into(), mib: mib_of(memory) });
    }
    let initrd = initrd_below(memory, files, kernel_end, device_tree)?;
    let (gic, cmdline, seed) = (chipset.gic(), files.cmdline, Seed::of_host());
    let facts = fdt::Facts { ram, fittings: *fittings, gic, cmdline, initrd, seed };
    let tree = fdt::build(&facts).map_err(|error| BootError::NotAKernel {
        path: files.kernel.to_owned(),
        expected: "startable",
        detail: format!(": the device tree cannot be built: {error}"),
    })?;
    memory.write_slice(&tree, GuestAddress(device_tree))?;
    Ok(Entry { address, device_tree: GuestAddress(device_tree) })
}

/// Whether the file is a kernel, as far as its header tells. Nothing is loaded.
pub fn examine_kernel(path: &Path) -> Result<(), BootError> {
    let mut kernel = open(BootFile::Kernel, path)?;
    image_size(&mut kernel).map(drop).map_err(|detail| not_a_kernel(path, detail))
}

/// The header of a kernel, and nothing else.
#[cfg(test)]
pub(crate) fn kernel_for_tests() -> Vec<u8> {
    let mut header = vec![0; 64];
    header.splice(56..60, *b"ARM\x64");
    header
}

fn load_kernel(memory: &GuestRam, files: &BootFiles<'_>) -> Result<(GuestAddress, u64), BootError> {
    use linux_loader::loader::Error::Pe as PeError;
    use linux_loader::loader::pe::Error::ReadKernelImage;

    let mut kernel: File = open(BootFile::Kernel, files.kernel)?;
    let image_size = image_size(&mut kernel).map_err(|detail| not_a_kernel(files.kernel, detail))?;
    let mut image = mapped_kernel(memory, files, &kernel)?;
    let loaded = PE::load(memory, Some(layout::RAM), &mut image, None).map_err(|error| match error {
        PeError(ReadKernelImage) => does_not_fit(memory, files),
        other => not_a_kernel(files.kernel, format!(": {other}")),
    })?;
    // The header's size counts what the kernel clears beyond its file (bss).
    let start = loaded.kernel_load.0;
    let end = start.checked_add(image_size).map_or(u64::MAX, |end| end.max(loaded.kernel_end));
    if memory.check_range(loaded.kernel_load, usize::try_from(end - start).unwrap_or(usize::MAX)) {
        Ok((loaded.kernel_load, end))
    } else {
        Err(does_not_fit(memory, files))
    }
}

fn does_not_fit(memory: &GuestRam, files: &BootFiles<'_>) -> BootError {
    BootError::DoesNotFit { what: format!("{}: the kernel", files.kernel.display()), mib: mib_of(memory) }
}

fn not_a_kernel(path: &Path, detail: String) -> BootError {
    BootError::NotAKernel { path: path.to_owned(), expected: "an uncompressed ARM64 kernel (Image)", detail }
}

/// `image_size` of the kernel's header (Linux `booting.rst`): byte 16, little endian.
fn image_size(kernel: &mut File) -> Result<u64, String> {
    let mut header = [0; 64];
    kernel.read_exact(&mut header).map_err(|_| String::new())?;
    kernel.rewind().map_err(|error| format!(": {error}"))?;
    let (magic, size) = (header.get(56..60), header.get(16..24));
    match (magic, size.and_then(|size| size.try_into().ok())) {
        (Some(b"ARM\x64"), Some(size)) => Ok(u64::from_le_bytes(size)),
        _ => Err(String::new()),
    }
}
