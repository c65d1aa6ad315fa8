//! Loads an x86_64 kernel: vmlinux by PVH where it has the note, else by the 64-bit boot protocol; bzImage by the
//! latter.
//!
//! Duty: tell the two apart, load the one it is, say where it starts. Not here: what makes a file sound (`elf.rs`,
//! `bzimage.rs`), and what the kernel finds beside itself (`boot.rs`).

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use linux_loader::loader::bootparam::setup_header;
use linux_loader::loader::elf::PvhBootCapability;
use linux_loader::loader::{Elf, KernelLoader};
use vm_memory::{Bytes, GuestAddress};

use super::{bzimage, elf, layout};
use crate::arch::files::{mapped_kernel, mib_of, open};
use crate::arch::{BootError, BootFile, BootFiles};
use crate::mapped_file::MappedFile;
use crate::memory::GuestRam;

/// How vCPU 0 starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// 32-bit protected mode, as the PVH note of the kernel asks.
    Pvh {
        /// First instruction.
        address: GuestAddress,
    },
    /// Long mode, with boot parameters.
    Linux64 {
        /// First instruction.
        address: GuestAddress,
    },
}

/// A kernel in guest memory.
#[derive(Debug)]
pub(super) struct Kernel {
    pub(super) entry: Entry,
    /// First address that it leaves alone.
    pub(super) end: u64,
    /// Where its initrd must end.
    pub(super) initrd_end: u64,
    /// The longest command line that it takes, without the final zero byte.
    pub(super) command_line_max: usize,
    /// What a bzImage says of itself.
    pub(super) header: Option<setup_header>,
}

/// A file whose headers are sound.
enum Plan {
    Elf(elf::Plan),
    BzImage(bzimage::Plan),
}

/// Whether the file is a kernel, as far as its headers tell. Nothing is loaded.
pub fn examine_kernel(path: &Path) -> Result<(), BootError> {
    plan(path, &mut open(BootFile::Kernel, path)?).map(drop)
}

/// Loads the kernel of `files` below `low_end`.
pub(super) fn load(memory: &GuestRam, files: &BootFiles<'_>, low_end: u64) -> Result<Kernel, BootError> {
    let mut file = open(BootFile::Kernel, files.kernel)?;
    let plan = plan(files.kernel, &mut file)?;
    let image = mapped_kernel(memory, files, &file)?;
    match plan {
        Plan::Elf(plan) => load_elf(memory, files, image, &plan, low_end),
        Plan::BzImage(plan) => load_bzimage(memory, files, image, plan, low_end),
    }
}

fn plan(path: &Path, file: &mut File) -> Result<Plan, BootError> {
    let unreadable = |source| BootError::Read { file: BootFile::Kernel, path: path.to_owned(), source };
    let length = file.metadata().map_err(unreadable)?.len();
    let mut head = Vec::with_capacity(bzimage::HEADER_END);
    let wanted = u64::try_from(bzimage::HEADER_END).unwrap_or(0);
    Read::by_ref(file).take(wanted).read_to_end(&mut head).map_err(unreadable)?;
    if head.starts_with(&elf::MAGIC) {
        let faulty = |fault: elf::ElfFault| not_a_kernel(path, format!(": {fault}"));
        let place = elf::table(&head).map_err(faulty)?;
        if place.end > length {
            return Err(faulty(elf::ElfFault::Short));
        }
        let mut table = vec![0; usize::try_from(place.end - place.start).unwrap_or(0)];
        let read = file.seek(SeekFrom::Start(place.start)).and_then(|_| file.read_exact(&mut table));
        read.map_err(|_| faulty(elf::ElfFault::Short))?;
        elf::plan(&table, length).map(Plan::Elf).map_err(faulty)
    } else if bzimage::is_one(&head) {
        let plan = bzimage::plan(&head, length);
        plan.map(Plan::BzImage).map_err(|fault| not_a_kernel(path, format!(": {fault}")))
    } else {
        Err(not_a_kernel(path, String::new()))
    }
}

fn load_elf(
    memory: &GuestRam,
    files: &BootFiles<'_>,
    mut image: MappedFile<'_>,
    plan: &elf::Plan,
    low_end: u64,
) -> Result<Kernel, BootError> {
    if plan.end() > low_end {
        return Err(does_not_fit(memory, files));
    }
    let loaded = Elf::load(memory, None, &mut image, Some(layout::HIGH_MEMORY))
        .map_err(|error| not_a_kernel(files.kernel, format!(": {error}")))?;
    let (entry, address) = match loaded.pvh_boot_cap {
        PvhBootCapability::PvhEntryPresent(address) => (Entry::Pvh { address }, address),
        _ => (Entry::Linux64 { address: loaded.kernel_load }, loaded.kernel_load),
    };
    plan.check_entry(address.0).map_err(|fault| not_a_kernel(files.kernel, format!(": {fault}")))?;
    Ok(Kernel {
        entry,
        end: plan.end(),
        initrd_end: low_end,
        command_line_max: layout::COMMAND_LINE_MAX,
        header: None,
    })
}

fn load_bzimage(
    memory: &GuestRam,
    files: &BootFiles<'_>,
    mut image: MappedFile<'_>,
    plan: bzimage::Plan,
    low_end: u64,
) -> Result<Kernel, BootError> {
    if plan.end > low_end {
        return Err(does_not_fit(memory, files));
    }
    let bytes = usize::try_from(plan.length).unwrap_or(usize::MAX);
    image
        .seek(SeekFrom::Start(plan.offset))
        .map_err(vm_memory::GuestMemoryError::IOError)
        .and_then(|_| memory.read_exact_volatile_from(GuestAddress(plan.address), &mut image, bytes))
        .map_err(|error| BootError::Read {
            file: BootFile::Kernel,
            path: files.kernel.to_owned(),
            source: std::io::Error::other(error),
        })?;
    // Since protocol 2.6 the header tells it; it is never less than our own limit, and a kernel that says so is asked.
    let limit = usize::try_from(plan.header.cmdline_size).unwrap_or(usize::MAX);
    Ok(Kernel {
        entry: Entry::Linux64 { address: GuestAddress(plan.entry()) },
        end: plan.end,
        initrd_end: plan.initrd_end(),
        command_line_max: layout::COMMAND_LINE_MAX.min(limit),
        header: Some(plan.header),
    })
}

fn not_a_kernel(path: &Path, detail: String) -> BootError {
    BootError::NotAKernel {
        path: path.to_owned(),
        expected: "an x86_64 kernel (vmlinux, an ELF file, or bzImage)",
        detail,
    }
}

fn does_not_fit(memory: &GuestRam, files: &BootFiles<'_>) -> BootError {
    BootError::DoesNotFit { what: format!("{}: the kernel", files.kernel.display()), mib: mib_of(memory) }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;
    use vmm_sys_util::tempfile::TempFile;

    use super::super::testing::{LOAD, bytes_into, bz_image, vmlinux};
    use super::*;
    use crate::mapped_file::Mapped;

    const RAM: u64 = 32 << 20;

    fn load_file(content: &[u8]) -> (GuestRam, Result<Kernel, BootError>) {
        let file = TempFile::new().unwrap();
        file.as_file().write_all(content).unwrap();
        let memory = crate::memory::allocate(&[(GuestAddress(0), 32 << 20)]).unwrap();
        let mapped = Mapped::default();
        let files = BootFiles { kernel: file.as_path(), initrd: None, cmdline: "", mapped: &mapped };
        let loaded = load(&memory, &files, RAM);
        (memory, loaded)
    }

    fn refusal(content: &[u8]) -> String {
        load_file(content).1.unwrap_err().to_string()
    }

    #[test]
    fn a_vmlinux_starts_at_its_pvh_note_and_without_one_at_its_entry() {
        let (memory, kernel) = load_file(&vmlinux());
        let kernel = kernel.unwrap();
        assert_eq!(kernel.entry, Entry::Pvh { address: GuestAddress(LOAD + 0x40) });
        assert_eq!(kernel.end, LOAD + 0x19_0000);
        assert_eq!(memory.read_obj::<u16>(GuestAddress(LOAD + 0x1_8122)).unwrap(), 0x90);
        let mut without = vmlinux();
        without[64 + 2 * 56] = 0;
        let kernel = load_file(&without).1.unwrap();
        assert_eq!(kernel.entry, Entry::Linux64 { address: GuestAddress(LOAD) });
    }

    #[test]
    fn a_bzimage_is_loaded_whole_where_it_prefers() {
        let (memory, kernel) = load_file(&bz_image(LOAD, 0x40_0000));
        let kernel = kernel.unwrap();
        assert_eq!(kernel.entry, Entry::Linux64 { address: GuestAddress(LOAD + 0x200) });
        assert_eq!((kernel.end, kernel.initrd_end), (LOAD + 0x40_0000, 0x8000_0000));
        assert_eq!(kernel.command_line_max, 255);
        assert_eq!(memory.read_obj::<u64>(GuestAddress(LOAD)).unwrap(), 0x9090_9090_9090_9090);
        assert_eq!(memory.read_obj::<u8>(GuestAddress(LOAD + 0x1_ffff)).unwrap(), 0x90);
        assert_eq!(memory.read_obj::<u8>(GuestAddress(LOAD + 0x2_0000)).unwrap(), 0);
    }

    #[test]
    fn kernels_that_do_not_fit_say_so_and_others_name_both_forms() {
        let room = refusal(&bz_image(LOAD, 31 << 20));
        assert!(room.ends_with("the kernel does not fit into 32 MiB of guest memory"), "{room}");
        let mut large = vmlinux();
        bytes_into(&mut large, 64 + 56 + 40, &RAM.to_le_bytes());
        assert!(refusal(&large).ends_with("the kernel does not fit into 32 MiB of guest memory"));
        for content in [&b""[..], b"\x7f", b"#!/bin/sh\n", &[0; 0x1000]] {
            let refused = refusal(content);
            assert!(
                refused.ends_with("not an x86_64 kernel (vmlinux, an ELF file, or bzImage)"),
                "{refused}"
            );
        }
        assert!(refusal(b"\x7fELF").ends_with(": cut short within its headers"));
        let mut astray = vmlinux();
        bytes_into(&mut astray, 0x200 + 16, &0x10_0000u32.to_le_bytes());
        assert!(refusal(&astray).ends_with(": starts at 0x100000, where nothing is loaded"));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]
        #[test]
        fn whatever_the_headers_say_what_is_loaded_lies_below_the_end(
            packed: bool,
            changes in prop::collection::vec((0usize..0x280, any::<[u8; 4]>()), 1..6),
            length in prop_oneof![4 => Just(usize::MAX), 1 => 0usize..0x2_2000],
        ) {
            let mut content = if packed { bz_image(LOAD, 0x40_0000) } else { vmlinux() };
            for (at, bytes) in changes {
                bytes_into(&mut content, at, &bytes);
            }
            content.truncate(length);
            if let Ok(kernel) = load_file(&content).1 {
                let (Entry::Pvh { address } | Entry::Linux64 { address }) = kernel.entry;
                prop_assert!(kernel.end <= RAM);
                prop_assert!(address.0 >= layout::HIGH_MEMORY.0 && address.0 < kernel.end);
            }
        }
    }
}
