//! ARM64: Image boot, GICv3 or GICv2, PSCI inside KVM, a flattened device tree.

mod boot;
mod chipset;
mod fdt;
pub mod layout;
mod vcpu;

pub use boot::{Entry, load};
pub use chipset::{Chipset, Gic};
pub use layout::{MAX_MMIO_SLOTS, mmio_slot, ram_ranges};
pub use vcpu::{after_pause, configure as configure_vcpu};

use std::sync::Arc;

use vmm_sys_util::eventfd::EventFd;

use crate::devices::serial::Serial;
use crate::machine::{Bus, Ending, Overlap};
use crate::output::Output;

/// Nothing: power-off and reset are PSCI calls, which KVM reports as system events.
pub fn add_platform(_pio: &mut Bus, _mmio: &mut Bus, _ending: &Arc<Ending>) -> Result<(), Overlap> {
    Ok(())
}

/// Puts the serial port where the device tree says.
pub fn add_serial(_pio: &mut Bus, mmio: &mut Bus, interrupt: EventFd, output: Output) -> Result<(), Overlap> {
    mmio.claim(layout::SERIAL_BASE, layout::SERIAL_LENGTH, Arc::new(Serial::new(interrupt, output)))
}
