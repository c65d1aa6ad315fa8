//! x86_64: PVH or 64-bit boot of vmlinux, APICs in the kernel, hardware-reduced ACPI.

mod acpi;
mod boot;
mod chipset;
mod cpuid;
pub mod layout;
mod vcpu;

pub use boot::{Entry, load};
pub use chipset::Chipset;
pub use layout::{MAX_MMIO_SLOTS, mmio_slot, ram_ranges};
pub use vcpu::{after_pause, configure as configure_vcpu};

use std::sync::Arc;

use vmm_sys_util::eventfd::EventFd;

use crate::devices::power::{self, Power};
use crate::devices::serial::Serial;
use crate::machine::{Bus, Ending, Overlap};
use crate::output::Output;

/// Puts the platform's own registers on the buses.
pub fn add_platform(pio: &mut Bus, _mmio: &mut Bus, ending: &Arc<Ending>) -> Result<(), Overlap> {
    pio.claim(layout::POWER_PORT.into(), power::LENGTH, Arc::new(Power::new(ending.clone())))
}

/// Puts the serial port where PC software expects it.
pub fn add_serial(pio: &mut Bus, _mmio: &mut Bus, interrupt: EventFd, output: Output) -> Result<(), Overlap> {
    pio.claim(layout::SERIAL_PORT.into(), 8, Arc::new(Serial::new(interrupt, output)))
}
