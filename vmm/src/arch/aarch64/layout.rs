//! Who lives where in an ARM64 guest.
//!
//! ```text
//! 0x0800_0000  GIC distributor              0x0a00_0000  virtio-mmio, 4 KiB each
//! 0x0801_0000  GICv2 CPU interface          0x4000_0000  RAM: the kernel first; the device tree and below
//! 0x080a_0000  GICv3 redistributors                      it the initrd at the end of its first 3 GiB
//! 0x0900_0000  serial port                  its last 64 KiB: the generation ID, left out of the memory map
//! 0x0901_0000  real-time clock
//! 0x0902_0000  watchdog
//! 0x0903_0000  pvpanic
//! ```
//!
//! Interrupts are shared peripheral interrupts, counted from 0: GSI n in KVM is SPI n.

use vm_memory::{Address, GuestAddress, GuestMemoryBackend, GuestMemoryRegion};

use crate::arch::MmioSlot;
use crate::memory::GuestRam;

/// GIC distributor, both versions.
pub const GIC_DISTRIBUTOR: u64 = 0x0800_0000;
/// Its length in the device tree.
pub const GIC_DISTRIBUTOR_LENGTH: u64 = 0x1_0000;
/// CPU interface of a GICv2.
pub const GICV2_CPU: u64 = 0x0801_0000;
/// Its length.
pub const GICV2_CPU_LENGTH: u64 = 0x2000;
/// First redistributor of a GICv3.
pub const GICV3_REDISTRIBUTORS: u64 = 0x080a_0000;
/// Length of one; there is one for each vCPU.
pub const GICV3_REDISTRIBUTOR_LENGTH: u64 = 0x2_0000;

/// Serial port registers.
pub const SERIAL_BASE: u64 = 0x0900_0000;
/// Bytes of bus that the device tree gives it.
pub const SERIAL_LENGTH: u64 = 0x1000;
/// Its interrupt.
pub const SERIAL_GSI: u32 = 0;
/// The power button's interrupt.
pub const POWER_BUTTON_GSI: u32 = 1;
/// Tells that the generation ID changed.
pub const GENERATION_GSI: u32 = 2;

/// Real-time clock registers.
pub const RTC_BASE: u64 = 0x0901_0000;
/// Watchdog registers.
pub const WATCHDOG_BASE: u64 = 0x0902_0000;
/// The byte of pvpanic.
pub const PANIC_BASE: u64 = 0x0903_0000;

const MMIO_BASE: u64 = 0x0a00_0000;
const MMIO_STRIDE: u64 = 0x1000;
const MMIO_FIRST_SPI: u32 = 16;
/// As many as fit before [`SPI_COUNT`].
pub const MAX_MMIO_SLOTS: u32 = SPI_COUNT - MMIO_FIRST_SPI;
/// Shared interrupts that the GIC has.
pub const SPI_COUNT: u32 = 64;

/// First byte of RAM.
pub const RAM: GuestAddress = GuestAddress(0x4000_0000);
/// Boot data stays within this much of the start: kernels map it early, in one window.
pub const BOOT_WINDOW: u64 = 3 << 30;
/// Room for the device tree: the most that kernels map (2 MiB), at a multiple of itself.
pub const FDT_SIZE: u64 = 0x20_0000;
/// The kernel's own limit (COMMAND_LINE_SIZE), without its final zero byte.
pub const COMMAND_LINE_MAX: usize = 2047;

/// What the memory map leaves out at the end of RAM: kernels map the generation ID as device memory, which they
/// refuse to do with RAM, and their pages may be as large as this.
pub const GENERATION_SIZE: u64 = 0x1_0000;

/// RAM that the kernel is told of.
#[must_use]
pub fn told_ram(memory: &GuestRam) -> u64 {
    let bytes: u64 = memory.iter().map(GuestMemoryRegion::len).sum();
    bytes.saturating_sub(GENERATION_SIZE)
}

/// Where a machine with this memory keeps its generation ID.
#[must_use]
pub fn generation_id(memory: &GuestRam) -> GuestAddress {
    RAM.unchecked_add(told_ram(memory))
}

/// The registers and interrupt of virtio device number `index`.
#[must_use]
pub fn mmio_slot(index: u32) -> Option<MmioSlot> {
    (index < MAX_MMIO_SLOTS).then(|| MmioSlot {
        base: MMIO_BASE + u64::from(index) * MMIO_STRIDE,
        interrupt: MMIO_FIRST_SPI + index,
    })
}

/// RAM ranges for `bytes` of memory: one, since every device lies below.
#[must_use]
pub fn ram_ranges(bytes: usize) -> Vec<(GuestAddress, usize)> {
    vec![(RAM, bytes)]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The largest page of an ARM64 host.
    const LARGEST_PAGE: u64 = 64 << 10;

    #[test]
    fn ram_of_every_size_is_whole_pages_of_every_host_above_every_device() {
        for mib in [32, 33, 128, 3072, 65536] {
            let bytes = mib << 20;
            assert_eq!(ram_ranges(bytes), [(RAM, bytes)]);
            assert!(RAM.0.is_multiple_of(2 << 20) && (bytes as u64).is_multiple_of(LARGEST_PAGE));
        }
        let last = mmio_slot(MAX_MMIO_SLOTS - 1).map_or(0, |slot| slot.base + MMIO_STRIDE);
        assert!(last <= RAM.0 && SERIAL_BASE + SERIAL_LENGTH <= MMIO_BASE);
    }

    #[test]
    fn what_kvm_maps_or_emulates_begins_with_a_page_of_every_host() {
        let places = [GIC_DISTRIBUTOR, GICV2_CPU, GICV3_REDISTRIBUTORS, RAM.0];
        assert!(places.iter().all(|place| place.is_multiple_of(LARGEST_PAGE)));
        const {
            assert!(GIC_DISTRIBUTOR + GIC_DISTRIBUTOR_LENGTH <= GICV2_CPU);
            // The CPU interface is a mapping of the host's own: a page of 64 KiB may be mapped in its place.
            assert!(GICV2_CPU + LARGEST_PAGE <= GICV3_REDISTRIBUTORS);
            assert!(GICV3_REDISTRIBUTORS + 16 * GICV3_REDISTRIBUTOR_LENGTH <= SERIAL_BASE);
        }
        assert_eq!(GICV3_REDISTRIBUTOR_LENGTH % LARGEST_PAGE, 0);
    }
}
