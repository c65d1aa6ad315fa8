//! Who lives where in an x86_64 guest.
//!
//! ```text
//! 0x0000_0500  GDT                          0x000e_0000  ACPI tables, 128 KiB
//! 0x0000_6000  PVH start info, memory map   0x0010_0000  kernel, then RAM up to 3 GiB
//! 0x0000_7000  boot parameters              0xc000_0000  hole: no RAM
//! 0x0000_8ff0  boot stack                   0xd000_0000  virtio-mmio, 4 KiB each
//! 0x0000_9000  boot page tables             0xfec0_0000  I/O APIC, local APICs
//! 0x0000_c000  random numbers
//! 0x0002_0000  command line                 0x1_0000_0000 RAM above 4 GiB
//! ```

use vm_memory::GuestAddress;

use crate::arch::MmioSlot;
use crate::memory::GuestRam;

/// Global descriptor table that the first instruction runs with.
pub const GDT: GuestAddress = GuestAddress(0x500);
/// PVH start info; its memory map and module list follow in the same page.
pub const PVH_START_INFO: GuestAddress = GuestAddress(0x6000);
/// The one module (the initrd) of the PVH start info.
pub const PVH_MODULES: GuestAddress = GuestAddress(0x6080);
/// Memory map of the PVH start info.
pub const PVH_MEMORY_MAP: GuestAddress = GuestAddress(0x6100);
/// Boot parameters ("zero page") of the 64-bit protocol.
pub const BOOT_PARAMS: GuestAddress = GuestAddress(0x7000);
/// Stack for the instructions before the kernel sets its own.
pub const BOOT_STACK: u64 = 0x8ff0;
/// First page table of the 64-bit protocol; the next two pages belong to it.
pub const PML4: GuestAddress = GuestAddress(0x9000);
/// One entry: the first 512 GiB.
pub const PDPT: GuestAddress = GuestAddress(0xa000);
/// 512 entries of 2 MiB: the first GiB, one to one.
pub const PAGE_DIRECTORY: GuestAddress = GuestAddress(0xb000);
/// Random numbers for the kernel, as a list of one in the form of the boot protocol.
pub const SETUP_DATA: GuestAddress = GuestAddress(0xc000);
/// Kernel command line.
pub const COMMAND_LINE: GuestAddress = GuestAddress(0x2_0000);
/// The kernel's own limit (COMMAND_LINE_SIZE), without its final zero byte.
pub const COMMAND_LINE_MAX: usize = 2047;
/// Conventional memory ends here; PC firmware would keep its data above.
pub const LOW_MEMORY_END: u64 = 0x9_fc00;
/// ACPI tables: the RSDP first, where kernels search for it, the others behind.
pub const ACPI: GuestAddress = GuestAddress(0xe_0000);
/// Room for all of them.
pub const ACPI_SIZE: u64 = 0x2_0000;
/// The page that the generation ID begins (`devices::generation`): the last one of the tables' room, reserved
/// like all of it.
pub const GENERATION_ID: GuestAddress = GuestAddress(ACPI.0 + ACPI_SIZE - 0x1000);
/// RAM that a kernel may use freely starts here.
pub const HIGH_MEMORY: GuestAddress = GuestAddress(0x10_0000);

/// RAM stops here and goes on at 4 GiB: the hole holds the devices' registers.
const HOLE_START: u64 = 0xc000_0000;
const HOLE_END: u64 = 0x1_0000_0000;

const MMIO_BASE: u64 = 0xd000_0000;
const MMIO_STRIDE: u64 = 0x1000;
/// The first interrupt that no PC device claims.
const MMIO_FIRST_GSI: u32 = 5;
/// The I/O APIC has 24 pins.
pub const MAX_MMIO_SLOTS: u32 = 24 - MMIO_FIRST_GSI;

/// Where KVM may keep three pages of its own (needed on Intel for real mode).
pub const KVM_TSS: usize = 0xfffb_d000;
/// One page more, below.
pub const KVM_IDENTITY_MAP: u64 = 0xfffb_c000;
/// I/O APIC registers.
pub const IO_APIC: u32 = 0xfec0_0000;
/// Local APIC registers.
pub const LOCAL_APIC: u32 = 0xfee0_0000;

/// First serial port.
pub const SERIAL_PORT: u16 = 0x3f8;
/// Its interrupt.
pub const SERIAL_GSI: u32 = 4;
/// The keyboard's on a PC; the power button's here, as there is no keyboard and no PIC.
pub const POWER_BUTTON_GSI: u32 = 1;
/// The second serial port's on a PC; tells that the generation ID changed.
pub const GENERATION_GSI: u32 = 3;
/// Sleep control, sleep status, reset: one byte each (`devices::power`).
pub const POWER_PORT: u16 = 0x600;
/// The keyboard controller's command register, for the reset line on it.
pub const RESET_LINE_PORT: u16 = 0x64;
/// Registers of the watchdog that the WDAT describes (`devices::watchdog::wdat`).
pub const WDAT_PORT: u16 = 0x620;
/// Where QEMU has it; drivers learn it from ACPI.
pub const PANIC_PORT: u16 = 0x505;

/// Where a machine with this memory keeps its generation ID.
#[must_use]
pub const fn generation_id(_memory: &GuestRam) -> GuestAddress {
    GENERATION_ID
}

/// The registers and interrupt of virtio device number `index`.
#[must_use]
pub fn mmio_slot(index: u32) -> Option<MmioSlot> {
    (index < MAX_MMIO_SLOTS).then(|| MmioSlot {
        base: MMIO_BASE + u64::from(index) * MMIO_STRIDE,
        interrupt: MMIO_FIRST_GSI + index,
    })
}

/// RAM ranges for `bytes` of memory.
#[must_use]
pub fn ram_ranges(bytes: usize) -> Vec<(GuestAddress, usize)> {
    let below = bytes.min(usize::try_from(HOLE_START).unwrap_or(usize::MAX));
    let mut ranges = vec![(GuestAddress(0), below)];
    if bytes > below {
        ranges.push((GuestAddress(HOLE_END), bytes - below));
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ram_leaves_the_hole_below_4_gib_free() {
        const GIB: usize = 1 << 30;
        assert_eq!(ram_ranges(GIB), [(GuestAddress(0), GIB)]);
        assert_eq!(ram_ranges(3 * GIB), [(GuestAddress(0), 3 * GIB)]);
        assert_eq!(ram_ranges(5 * GIB), [(GuestAddress(0), 3 * GIB), (GuestAddress(1 << 32), 2 * GIB)]);
    }

    #[test]
    fn ram_of_every_size_is_all_there_in_huge_pages_and_clear_of_the_hole() {
        const MIB: usize = 1 << 20;
        for mib in [32, 128, 3070, 3072, 3074, 4096, 65536] {
            let ranges = ram_ranges(mib * MIB);
            assert_eq!(ranges.iter().map(|(_, size)| size).sum::<usize>(), mib * MIB);
            for (start, size) in ranges {
                assert!(start.0.is_multiple_of(2 << 20) && size.is_multiple_of(2 << 20), "{mib} MiB");
                assert!(start.0 + size as u64 <= HOLE_START || start.0 >= HOLE_END, "{mib} MiB");
            }
        }
        // An odd size, which has no huge pages.
        assert_eq!(ram_ranges(3073 * MIB)[1], (GuestAddress(1 << 32), MIB));
    }

    #[test]
    fn mmio_slots_end_where_the_io_apic_has_no_more_pins() {
        assert_eq!(mmio_slot(0), Some(MmioSlot { base: 0xd000_0000, interrupt: 5 }));
        assert_eq!(mmio_slot(18), Some(MmioSlot { base: 0xd001_2000, interrupt: 23 }));
        assert_eq!(mmio_slot(19), None);
    }
}
