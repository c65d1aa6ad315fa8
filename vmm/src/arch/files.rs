//! Boot files that are handled alike on every architecture.

use std::fs::File;
use std::io;
use std::path::Path;

use nix::fcntl::OFlag;
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryRegion};

use super::{BootError, BootFile, BootFiles, Extent};
use crate::mapped_file::MappedFile;
use crate::memory::GuestRam;
use crate::places;

/// The initrd starts at a multiple of this: the kernel frees it page by page, and a page has at most 64 KiB.
const INITRD_ALIGNMENT: u64 = 64 * 1024;

/// Opens a boot file for reading. Only regular files: a pipe would keep the open waiting for its other end.
pub(super) fn open(kind: BootFile, path: &Path) -> Result<File, BootError> {
    let unreadable = |source| BootError::Read { file: kind, path: path.to_owned(), source };
    let opened = places::open(path, OFlag::O_RDONLY | OFlag::O_NONBLOCK);
    let file = opened.map_err(unreadable)?;
    if !file.metadata().map_err(unreadable)?.is_file() {
        return Err(unreadable(io::Error::other("not a regular file")));
    }
    Ok(file)
}

/// A kernel that loaders read, and that is mapped where its layout allows.
pub(super) fn mapped_kernel<'a>(
    memory: &'a GuestRam,
    files: &BootFiles<'a>,
    kernel: &'a File,
) -> Result<MappedFile<'a>, BootError> {
    MappedFile::new(kernel, memory, files.mapped).map_err(|source| BootError::Read {
        file: BootFile::Kernel,
        path: files.kernel.to_owned(),
        source,
    })
}

/// All RAM of the guest, for messages.
pub(super) fn mib_of(memory: &GuestRam) -> u64 {
    memory.iter().map(GuestMemoryRegion::len).sum::<u64>() >> 20
}

/// Loads the initrd, if there is one, as high as it fits between `floor` and `end`.
pub(super) fn initrd_below(
    memory: &GuestRam,
    files: &BootFiles<'_>,
    floor: u64,
    end: u64,
) -> Result<Option<Extent>, BootError> {
    let Some(path) = files.initrd else { return Ok(None) };
    let file = open(BootFile::Initrd, path)?;
    let unreadable = |source| BootError::Read { file: BootFile::Initrd, path: path.to_owned(), source };
    let length = file.metadata().map_err(unreadable)?.len();
    if length == 0 {
        return Err(unreadable(io::Error::other("empty, expected an initial RAM file system")));
    }
    let start = end
        .checked_sub(length)
        .map(|start| start / INITRD_ALIGNMENT * INITRD_ALIGNMENT)
        .filter(|start| *start >= floor)
        .ok_or_else(|| BootError::DoesNotFit {
            what: format!("{}: the initrd", path.display()),
            mib: mib_of(memory),
        })?;
    let bytes = usize::try_from(length).unwrap_or(usize::MAX);
    MappedFile::new(&file, memory, files.mapped)
        .and_then(|mut file| {
            memory.read_exact_volatile_from(GuestAddress(start), &mut file, bytes).map_err(io::Error::other)
        })
        .map_err(unreadable)?;
    Ok(Some(Extent { start: GuestAddress(start), length }))
}

/// Writes the command line with its final zero byte.
#[cfg(target_arch = "x86_64")]
pub(super) fn write_command_line(
    memory: &GuestRam,
    cmdline: &str,
    at: GuestAddress,
    max: usize,
) -> Result<(), BootError> {
    check_command_line(cmdline, max)?;
    let mut bytes = Vec::with_capacity(cmdline.len() + 1);
    bytes.extend_from_slice(cmdline.as_bytes());
    bytes.push(0);
    Ok(memory.write_slice(&bytes, at)?)
}

/// Refuses a command line that the kernel would cut.
pub(super) fn check_command_line(cmdline: &str, max: usize) -> Result<(), BootError> {
    if cmdline.len() > max {
        return Err(BootError::CommandLine { length: cmdline.len(), max });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::mapped_file::Mapped;

    #[test]
    fn the_initrd_lies_as_high_as_it_fits_and_never_over_the_kernel() {
        let memory = crate::memory::allocate(&[(GuestAddress(0), 4 << 20)]).unwrap();
        let file = vmm_sys_util::tempfile::TempFile::new().unwrap();
        file.as_file().write_all(&[7; 100_000]).unwrap();
        let mapped = Mapped::default();
        let files =
            BootFiles { kernel: Path::new(""), initrd: Some(file.as_path()), cmdline: "", mapped: &mapped };
        let found = initrd_below(&memory, &files, 1 << 20, 4 << 20).unwrap().unwrap();
        assert_eq!(found, Extent { start: GuestAddress(0x3e_0000), length: 100_000 });
        assert_eq!(memory.read_obj::<u8>(GuestAddress(0x3e_0000 + 99_999)).unwrap(), 7);
        let refused = initrd_below(&memory, &files, 0x3e_0001, 4 << 20).unwrap_err();
        assert!(refused.to_string().ends_with("the initrd does not fit into 4 MiB of guest memory"));
    }
}
