//! Loads an x86_64 kernel: vmlinux by PVH where it has the note, else by the 64-bit boot protocol.

use std::fs::File;
use std::io::Read;

use linux_loader::configurator::linux::LinuxBootConfigurator;
use linux_loader::configurator::pvh::PvhBootConfigurator;
use linux_loader::configurator::{BootConfigurator, BootParams};
use linux_loader::loader::bootparam::boot_params;
use linux_loader::loader::elf::PvhBootCapability;
use linux_loader::loader::elf::start_info::{hvm_memmap_table_entry, hvm_modlist_entry, hvm_start_info};
use linux_loader::loader::{Elf, KernelLoader};
use vm_memory::{
    Address, ByteValued, Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryError, GuestMemoryRegion,
};

use super::{Chipset, acpi, layout, vcpu};
use crate::arch::files::{initrd_below, mapped_kernel, mib_of, open, write_command_line};
use crate::arch::{BootError, BootFile, BootFiles, Extent, Fittings};
use crate::memory::GuestRam;

const PVH_MAGIC: u32 = 0x336e_c578;
/// The version that has a memory map.
const PVH_VERSION: u32 = 1;
const E820_RAM: u32 = 1;
const E820_RESERVED: u32 = 2;

const BOOT_FLAG: u16 = 0xaa55;
const HEADER_MAGIC: u32 = 0x5372_6448;
/// "A loader that has no number of its own."
const LOADER_UNDEFINED: u8 = 0xff;
const KERNEL_ALIGNMENT: u32 = 0x20_0000;

/// Kernels look for their initrd below 2 GiB (`initrd_addr_max` of the boot protocol).
const INITRD_END_MAX: u64 = 0x8000_0000;

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

/// Loads everything the guest starts from and says where it starts.
pub fn load(
    memory: &GuestRam,
    files: &BootFiles<'_>,
    _chipset: &Chipset,
    fittings: &Fittings<'_>,
) -> Result<Entry, BootError> {
    let (entry, kernel_end) = load_kernel(memory, files)?;
    let low_end = memory
        .iter()
        .next()
        .map_or(0, |region| region.start_addr().raw_value() + region.len())
        .min(INITRD_END_MAX);
    if kernel_end > low_end {
        return Err(does_not_fit(memory, files));
    }
    let initrd = initrd_below(memory, files.initrd, kernel_end, low_end)?;
    write_command_line(memory, files.cmdline, layout::COMMAND_LINE, layout::COMMAND_LINE_MAX)?;
    acpi::write(memory, fittings)?;
    let long = matches!(entry, Entry::Linux64 { .. });
    for (index, descriptor) in (0u64..).zip(vcpu::gdt(long)) {
        memory.write_obj(descriptor, layout::GDT.unchecked_add(index * 8))?;
    }
    match entry {
        Entry::Pvh { .. } => write_start_info(memory, files.cmdline, initrd)?,
        Entry::Linux64 { .. } => {
            write_boot_parameters(memory, files.cmdline, initrd)?;
            write_page_tables(memory)?;
        }
    }
    Ok(entry)
}

fn load_kernel(memory: &GuestRam, files: &BootFiles<'_>) -> Result<(Entry, u64), BootError> {
    use linux_loader::loader::Error::Elf as ElfError;
    use linux_loader::loader::elf::Error::ReadKernelImage;

    let mut kernel: File = open(BootFile::Kernel, files.kernel)?;
    if !is_for_x86_64(&mut kernel) {
        return Err(not_a_kernel(files, String::new()));
    }
    let mut image = mapped_kernel(memory, files, &kernel)?;
    let loaded =
        Elf::load(memory, None, &mut image, Some(layout::HIGH_MEMORY)).map_err(|error| match error {
            ElfError(ReadKernelImage) => does_not_fit(memory, files),
            other => not_a_kernel(files, format!(": {other}")),
        })?;
    let entry = match loaded.pvh_boot_cap {
        PvhBootCapability::PvhEntryPresent(address) => Entry::Pvh { address },
        _ => Entry::Linux64 { address: loaded.kernel_load },
    };
    Ok((entry, loaded.kernel_end))
}

/// The loader looks at neither class nor machine, and would start a program of another architecture.
fn is_for_x86_64(kernel: &mut File) -> bool {
    const CLASS_64: u8 = 2;
    const MACHINE_X86_64: [u8; 2] = [62, 0];
    let mut header = [0; 20];
    kernel.read_exact(&mut header).is_ok()
        && header.starts_with(&[0x7f, b'E', b'L', b'F', CLASS_64])
        && header.ends_with(&MACHINE_X86_64)
}

fn not_a_kernel(files: &BootFiles<'_>, detail: String) -> BootError {
    BootError::NotAKernel {
        path: files.kernel.to_owned(),
        expected: "an uncompressed x86_64 kernel (vmlinux, an ELF file)",
        detail,
    }
}

fn does_not_fit(memory: &GuestRam, files: &BootFiles<'_>) -> BootError {
    BootError::DoesNotFit {
        what: format!("{}: the kernel (or the file is cut short)", files.kernel.display()),
        mib: mib_of(memory),
    }
}

/// RAM and what the guest must leave alone, in address order.
fn memory_map(memory: &GuestRam) -> Vec<(Extent, u32)> {
    let extent = |start: u64, end: u64| Extent { start: GuestAddress(start), length: end - start };
    let mut map = vec![
        (extent(0, layout::LOW_MEMORY_END), E820_RAM),
        (Extent { start: layout::ACPI, length: layout::ACPI_SIZE }, E820_RESERVED),
    ];
    for region in memory.iter() {
        let start = region.start_addr().max(layout::HIGH_MEMORY).raw_value();
        map.push((extent(start, region.start_addr().raw_value() + region.len()), E820_RAM));
    }
    map
}

fn write_start_info(
    memory: &GuestRam,
    cmdline: &str,
    initrd: Option<Extent>,
) -> Result<(), GuestMemoryError> {
    let map: Vec<_> = memory_map(memory)
        .into_iter()
        .map(|(extent, kind)| hvm_memmap_table_entry {
            addr: extent.start.0,
            size: extent.length,
            type_: kind,
            reserved: 0,
        })
        .collect();
    let modules: Vec<_> = initrd
        .into_iter()
        .map(|extent| hvm_modlist_entry { paddr: extent.start.0, size: extent.length, ..Default::default() })
        .collect();
    let info = hvm_start_info {
        magic: PVH_MAGIC,
        version: PVH_VERSION,
        nr_modules: u32::try_from(modules.len()).unwrap_or(0),
        modlist_paddr: if modules.is_empty() { 0 } else { layout::PVH_MODULES.0 },
        cmdline_paddr: if cmdline.is_empty() { 0 } else { layout::COMMAND_LINE.0 },
        rsdp_paddr: layout::ACPI.0,
        memmap_paddr: layout::PVH_MEMORY_MAP.0,
        memmap_entries: u32::try_from(map.len()).unwrap_or(0),
        ..Default::default()
    };
    let mut parameters = BootParams::new(&info, layout::PVH_START_INFO);
    parameters.set_sections(&map, layout::PVH_MEMORY_MAP);
    parameters.set_modules(&modules, layout::PVH_MODULES);
    PvhBootConfigurator::write_bootparams(&parameters, memory)
        .map_err(|_| GuestMemoryError::InvalidGuestAddress(layout::PVH_START_INFO))
}

#[expect(clippy::cast_possible_truncation, reason = "the halves of 64-bit addresses, both written")]
fn write_boot_parameters(
    memory: &GuestRam,
    cmdline: &str,
    initrd: Option<Extent>,
) -> Result<(), GuestMemoryError> {
    let mut parameters = boot_params::default();
    parameters.hdr.boot_flag = BOOT_FLAG;
    parameters.hdr.header = HEADER_MAGIC;
    parameters.hdr.type_of_loader = LOADER_UNDEFINED;
    parameters.hdr.kernel_alignment = KERNEL_ALIGNMENT;
    parameters.hdr.cmd_line_ptr = layout::COMMAND_LINE.0 as u32;
    parameters.hdr.cmdline_size = cmdline.len() as u32;
    parameters.acpi_rsdp_addr = layout::ACPI.0;
    if let Some(initrd) = initrd {
        // Below 2 GiB by INITRD_END_MAX.
        parameters.hdr.ramdisk_image = initrd.start.0 as u32;
        parameters.hdr.ramdisk_size = initrd.length as u32;
    }
    let map = memory_map(memory);
    parameters.e820_entries = map.len() as u8;
    for (slot, (extent, kind)) in parameters.e820_table.iter_mut().zip(map) {
        slot.addr = extent.start.0;
        slot.size = extent.length;
        slot.r#type = kind;
    }
    LinuxBootConfigurator::write_bootparams(&BootParams::new(&parameters, layout::BOOT_PARAMS), memory)
        .map_err(|_| GuestMemoryError::InvalidGuestAddress(layout::BOOT_PARAMS))
}

/// The first GiB one to one, in 2 MiB pages.
fn write_page_tables(memory: &GuestRam) -> Result<(), GuestMemoryError> {
    const PRESENT_WRITABLE: u64 = 0x3;
    const HUGE: u64 = 0x80;
    memory.write_obj(layout::PDPT.0 | PRESENT_WRITABLE, layout::PML4)?;
    memory.write_obj(layout::PAGE_DIRECTORY.0 | PRESENT_WRITABLE, layout::PDPT)?;
    let mut entries = [0u64; 512];
    for (page, entry) in (0u64..).zip(&mut entries) {
        *entry = (page << 21) | PRESENT_WRITABLE | HUGE;
    }
    for (index, entry) in (0u64..).zip(entries) {
        memory.write_slice(entry.as_slice(), layout::PAGE_DIRECTORY.unchecked_add(index * 8))?;
    }
    Ok(())
}
