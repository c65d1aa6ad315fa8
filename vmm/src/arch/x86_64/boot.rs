//! Lays out what an x86_64 kernel finds when it starts: start info for PVH, boot parameters for the 64-bit protocol.
//!
//! Not here: the kernel itself (`kernel.rs`).

use linux_loader::configurator::linux::LinuxBootConfigurator;
use linux_loader::configurator::pvh::PvhBootConfigurator;
use linux_loader::configurator::{BootConfigurator, BootParams};
use linux_loader::loader::bootparam::{boot_params, setup_header};
use linux_loader::loader::elf::start_info::{hvm_memmap_table_entry, hvm_modlist_entry, hvm_start_info};
use vm_memory::{
    Address, ByteValued, Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryError, GuestMemoryRegion,
};

use super::kernel::{self, Entry};
use super::{Chipset, acpi, layout, vcpu};
use crate::arch::files::{initrd_below, write_command_line};
use crate::arch::seed::Seed;
use crate::arch::{BootError, BootFiles, Extent, Fittings};
use crate::memory::GuestRam;

const PVH_MAGIC: u32 = 0x336e_c578;
/// The version that has a memory map.
const PVH_VERSION: u32 = 1;
const E820_RAM: u32 = 1;
const E820_RESERVED: u32 = 2;

/// Kernels know it since 6.0; older ones pass it over.
const SETUP_RNG_SEED: u32 = 9;
const BOOT_FLAG: u16 = 0xaa55;
const HEADER_MAGIC: u32 = 0x5372_6448;
/// "A loader that has no number of its own."
const LOADER_UNDEFINED: u8 = 0xff;
const KERNEL_ALIGNMENT: u32 = 0x20_0000;

/// Kernels look for their initrd below 2 GiB (`initrd_addr_max` of the boot protocol).
const INITRD_END_MAX: u64 = 0x8000_0000;

/// Loads everything the guest starts from and says where it starts.
pub fn load(
    memory: &GuestRam,
    files: &BootFiles<'_>,
    _chipset: &Chipset,
    fittings: &Fittings<'_>,
) -> Result<Entry, BootError> {
    let low_end = memory
        .iter()
        .next()
        .map_or(0, |region| region.start_addr().raw_value() + region.len())
        .min(INITRD_END_MAX);
    let kernel = kernel::load(memory, files, low_end)?;
    let initrd = initrd_below(memory, files, kernel.end, low_end.min(kernel.initrd_end))?;
    write_command_line(memory, files.cmdline, layout::COMMAND_LINE, kernel.command_line_max)?;
    acpi::write(memory, fittings)?;
    let long = matches!(kernel.entry, Entry::Linux64 { .. });
    for (index, descriptor) in (0u64..).zip(vcpu::gdt(long)) {
        memory.write_obj(descriptor, layout::GDT.unchecked_add(index * 8))?;
    }
    match kernel.entry {
        Entry::Pvh { .. } => write_start_info(memory, files.cmdline, initrd)?,
        Entry::Linux64 { .. } => {
            let header = kernel.header.unwrap_or_else(header_of_vmlinux);
            let seed = write_seed(memory, Seed::of_host())?;
            write_boot_parameters(memory, header, files.cmdline, initrd, seed)?;
            write_page_tables(memory)?;
        }
    }
    Ok(kernel.entry)
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

/// What a bzImage says of itself, for a kernel that is not packed in one.
fn header_of_vmlinux() -> setup_header {
    setup_header {
        boot_flag: BOOT_FLAG,
        header: HEADER_MAGIC,
        kernel_alignment: KERNEL_ALIGNMENT,
        ..Default::default()
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the halves of 64-bit addresses, both written")]
fn write_boot_parameters(
    memory: &GuestRam,
    header: setup_header,
    cmdline: &str,
    initrd: Option<Extent>,
    setup_data: u64,
) -> Result<(), GuestMemoryError> {
    let mut parameters = boot_params { hdr: header, ..Default::default() };
    parameters.hdr.type_of_loader = LOADER_UNDEFINED;
    parameters.hdr.cmd_line_ptr = layout::COMMAND_LINE.0 as u32;
    parameters.hdr.cmdline_size = cmdline.len() as u32;
    parameters.hdr.setup_data = setup_data;
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

/// Where the list of what else the kernel is told begins; 0 where it is empty. Only the boot parameters lead there:
/// PVH has no such list.
fn write_seed(memory: &GuestRam, seed: Option<Seed>) -> Result<u64, GuestMemoryError> {
    let Some(seed) = seed else { return Ok(0) };
    let length = u32::try_from(seed.generator.len()).unwrap_or(0);
    let (next, kind) = (0u64.to_le_bytes(), SETUP_RNG_SEED.to_le_bytes());
    let entry = [&next[..], &kind, &length.to_le_bytes(), &seed.generator].concat();
    memory.write_slice(&entry, layout::SETUP_DATA)?;
    Ok(layout::SETUP_DATA.0)
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

#[cfg(test)]
mod tests {
    use std::io::Write;

    use linux_loader::loader::bootparam::boot_e820_entry;
    use vmm_sys_util::tempfile::TempFile;

    use super::super::testing::{LOAD, bz_image, vmlinux};
    use super::*;
    use crate::mapped_file::Mapped;

    const RAM: u64 = 32 << 20;

    fn file(content: &[u8]) -> TempFile {
        let file = TempFile::new().unwrap();
        file.as_file().write_all(content).unwrap();
        file
    }

    fn start(
        kernel: &[u8],
        initrd: Option<&TempFile>,
        cmdline: &str,
    ) -> (GuestRam, Result<Entry, BootError>) {
        let kernel = file(kernel);
        let memory = crate::memory::allocate(&[(GuestAddress(0), 32 << 20)]).unwrap();
        let initrd = initrd.map(TempFile::as_path);
        let mapped = Mapped::default();
        let files = BootFiles { kernel: kernel.as_path(), initrd, cmdline, mapped: &mapped };
        let fittings = Fittings { vcpus: 1, slots: &[], serial: true, watchdog: false };
        let entry = load(&memory, &files, &Chipset, &fittings);
        (memory, entry)
    }

    fn refusal(initrd: Option<&TempFile>, cmdline: &str) -> String {
        start(&vmlinux(), initrd, cmdline).1.unwrap_err().to_string()
    }

    #[test]
    fn a_packed_kernel_gets_its_own_header_back_with_what_the_loader_fills_in() {
        let initrd = file(&[7; 0x1_2345]);
        let (memory, entry) = start(&bz_image(LOAD, 0x40_0000), Some(&initrd), "quiet");
        assert_eq!(entry.unwrap(), Entry::Linux64 { address: GuestAddress(LOAD + 0x200) });
        let parameters: boot_params = memory.read_obj(layout::BOOT_PARAMS).unwrap();
        let header = parameters.hdr;
        let (version, room, loader) = (header.version, header.init_size, header.type_of_loader);
        assert_eq!((version, room, loader), (0x20f, 0x40_0000, LOADER_UNDEFINED));
        let (line, image, size) = (header.cmd_line_ptr, header.ramdisk_image, header.ramdisk_size);
        assert_eq!((u64::from(line), size), (layout::COMMAND_LINE.0, 0x1_2345));
        assert_eq!(memory.read_obj::<[u8; 6]>(layout::COMMAND_LINE).unwrap(), *b"quiet\0");
        assert_eq!(memory.read_obj::<u16>(GuestAddress(u64::from(image) + 0x1_2344)).unwrap(), 7);
        assert!(u64::from(image) >= LOAD + 0x40_0000, "not where the kernel unpacks itself");
    }

    #[test]
    fn a_kernel_starts_with_random_numbers_that_no_other_start_has() {
        let seed_of_a_start = || {
            let (memory, _) = start(&bz_image(LOAD, 0x40_0000), None, "");
            let parameters: boot_params = memory.read_obj(layout::BOOT_PARAMS).unwrap();
            let place = GuestAddress(parameters.hdr.setup_data);
            let entry: [u64; 10] = memory.read_obj(place).unwrap();
            assert_eq!(entry[..2], [0, 64 << 32 | 9], "the last, of this kind and length");
            entry[2..].to_vec()
        };
        let (first, second) = (seed_of_a_start(), seed_of_a_start());
        assert!(first.iter().chain(&second).all(|word| *word != 0));
        assert_ne!(first, second);
        let memory = crate::memory::allocate(&[(GuestAddress(0), 32 << 20)]).unwrap();
        assert_eq!(write_seed(&memory, None).unwrap(), 0, "a host without any gives none");
    }

    #[test]
    fn the_memory_map_of_both_protocols_is_all_ram_but_what_firmware_keeps() {
        let expected = [(0, 0x9_fc00, 1), (0xe_0000, 0x2_0000, 2), (0x10_0000, RAM - 0x10_0000, 1)];
        let (memory, _) = start(&bz_image(LOAD, 0x40_0000), None, "");
        let parameters: boot_params = memory.read_obj(layout::BOOT_PARAMS).unwrap();
        let table: [boot_e820_entry; 128] = parameters.e820_table;
        let told = table.map(|entry| (entry.addr, entry.size, entry.r#type));
        assert_eq!(told[..usize::from(parameters.e820_entries)], expected);

        let (memory, _) = start(&vmlinux(), None, "");
        let info: hvm_start_info = memory.read_obj(layout::PVH_START_INFO).unwrap();
        assert_eq!((info.magic, info.memmap_entries, info.nr_modules), (PVH_MAGIC, 3, 0));
        for (index, expected) in (0u64..).zip(expected) {
            let place = layout::PVH_MEMORY_MAP.unchecked_add(index * 24);
            let entry: hvm_memmap_table_entry = memory.read_obj(place).unwrap();
            assert_eq!((entry.addr, entry.size, entry.type_), expected);
        }
    }

    #[test]
    fn the_gdt_has_code_and_data_where_the_protocol_names_them() {
        let (memory, _) = start(&bz_image(LOAD, 0x40_0000), None, "");
        let gdt: [u64; 4] = memory.read_obj(layout::GDT).unwrap();
        assert_eq!(gdt, [0, 0, 0x00af_9b00_0000_ffff, 0x00cf_9300_0000_ffff]);
    }

    #[test]
    fn an_initrd_larger_than_ram_is_refused() {
        let sparse = TempFile::new().unwrap();
        for length in [RAM, RAM + 1, 1 << 40] {
            sparse.as_file().set_len(length).unwrap();
            let refused = refusal(Some(&sparse), "");
            assert!(refused.ends_with("the initrd does not fit into 32 MiB of guest memory"), "{refused}");
        }
    }

    #[test]
    fn a_command_line_is_as_long_as_the_kernel_takes_and_no_longer() {
        assert!(start(&vmlinux(), None, &"x".repeat(2047)).1.is_ok());
        let refused = refusal(None, &"x".repeat(2048));
        assert_eq!(refused, "kernel command line has 2048 bytes, expected at most 2047");
        let packed = |length| start(&bz_image(LOAD, 0x40_0000), None, &"x".repeat(length)).1;
        assert!(packed(255).is_ok());
        assert!(packed(256).unwrap_err().to_string().ends_with("expected at most 255"));
    }
}
