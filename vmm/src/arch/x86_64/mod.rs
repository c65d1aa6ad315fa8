//! x86_64: PVH or 64-bit boot of vmlinux and bzImage, APICs in the kernel, hardware-reduced ACPI.

mod acpi;
mod boot;
mod bzimage;
mod chipset;
mod cpuid;
mod elf;
mod features;
mod kernel;
pub mod layout;
mod saved;
#[cfg(test)]
mod testing;
mod vcpu;
mod wdat;
mod xsave;

pub use boot::load;
pub use chipset::Chipset;
pub use features::digest;
pub use kernel::{Entry, examine_kernel};
pub use layout::{MAX_MMIO_SLOTS, generation_id, mmio_slot, ram_ranges};
pub use saved::{ChipsetState, VcpuState, can_be_saved, restore_vcpu, save_vcpu};
#[cfg(test)]
pub(crate) use testing::vmlinux as kernel_for_tests;
pub use vcpu::{after_pause, configure as configure_vcpu, sleeps_for_good};

use std::sync::Arc;

use crate::arch::{Dog, PlatformError};
use crate::devices::power::{self, Power, ResetLine};
use crate::devices::pvpanic::{self, Pvpanic};
use crate::devices::serial::Serial;
use crate::devices::watchdog::ib700::{self, Ib700};
use crate::devices::watchdog::wdat::{LENGTH as WDAT_LENGTH, Wdat};
use crate::devices::watchdog::{Timer, Watch};
use crate::machine::{Bus, Ending, MachineClock, Overlap};
use crate::snapshot::Part;

/// Puts the platform's own registers on the buses, and gives those that keep something.
pub fn add_platform(
    pio: &mut Bus,
    _mmio: &mut Bus,
    ending: &Arc<Ending>,
) -> Result<Vec<Arc<dyn Part>>, Overlap> {
    pio.claim(layout::POWER_PORT.into(), power::LENGTH, Arc::new(Power::new(ending.clone())))?;
    let reset_line = Arc::new(ResetLine::new(ending.clone()));
    pio.claim(layout::RESET_LINE_PORT.into(), power::RESET_LINE_LENGTH, reset_line)?;
    pio.claim(layout::PANIC_PORT.into(), pvpanic::LENGTH, Arc::new(Pvpanic::new(ending.clone())))?;
    // None of them keeps anything.
    Ok(Vec::new())
}

/// Puts the watchdogs in their places and gives what the event loop must serve.
pub fn add_watchdogs(
    pio: &mut Bus,
    _mmio: &mut Bus,
    clock: &Arc<MachineClock>,
    ending: &Arc<Ending>,
) -> Result<Vec<Dog>, PlatformError> {
    let wdat = Watch::<Wdat>::new(clock.clone(), ending.clone()).map_err(PlatformError::Timer)?;
    pio.claim(layout::WDAT_PORT.into(), WDAT_LENGTH, wdat.clone())?;
    let ib700 = Watch::<Ib700>::new(clock.clone(), ending.clone()).map_err(PlatformError::Timer)?;
    pio.claim(ib700::BASE.into(), ib700::LENGTH, ib700.clone())?;
    Ok(vec![
        Dog { part: wdat.clone(), timer: Box::new(Timer(wdat)) },
        Dog { part: ib700.clone(), timer: Box::new(Timer(ib700)) },
    ])
}

/// Puts the serial port where PC software expects it.
pub fn add_serial(pio: &mut Bus, _mmio: &mut Bus, port: Arc<Serial>) -> Result<(), Overlap> {
    pio.claim(layout::SERIAL_PORT.into(), 8, port)
}
