//! ARM64: Image boot, GICv3 or GICv2, PSCI inside KVM, a flattened device tree.

mod attribute;
mod boot;
mod chipset;
mod fdt;
mod gic;
pub mod layout;
mod saved;
mod vcpu;

#[cfg(test)]
pub(crate) use boot::kernel_for_tests;
pub use boot::{Entry, examine_kernel, load};
pub use chipset::{Chipset, Gic};
pub use layout::{MAX_MMIO_SLOTS, generation_id, mmio_slot, ram_ranges};
pub use saved::{ChipsetState, VcpuState, can_be_saved, digest, restore_vcpu, save_vcpu};
pub use vcpu::{after_pause, configure as configure_vcpu, sleeps_for_good};

use std::sync::Arc;

use crate::arch::{Dog, PlatformError};
use crate::devices::pl031::Rtc;
use crate::devices::primecell;
use crate::devices::pvpanic::{self, Pvpanic};
use crate::devices::serial::Serial;
use crate::devices::watchdog::sp805::Sp805;
use crate::devices::watchdog::{Timer, Watch};
use crate::machine::{Bus, Ending, MachineClock, Overlap};
use crate::snapshot::Part;

/// Puts the platform's own registers on the buses. None is for power-off and reset: those are PSCI calls, which
/// KVM reports as system events. Gives those that keep something.
pub fn add_platform(
    _pio: &mut Bus,
    mmio: &mut Bus,
    ending: &Arc<Ending>,
) -> Result<Vec<Arc<dyn Part>>, Overlap> {
    let clock = Arc::new(Rtc::default());
    mmio.claim(layout::RTC_BASE, primecell::LENGTH, clock.clone())?;
    mmio.claim(layout::PANIC_BASE, pvpanic::LENGTH, Arc::new(Pvpanic::new(ending.clone())))?;
    Ok(vec![clock])
}

/// Puts the watchdog in its place and gives what the event loop must serve.
pub fn add_watchdogs(
    _pio: &mut Bus,
    mmio: &mut Bus,
    clock: &Arc<MachineClock>,
    ending: &Arc<Ending>,
) -> Result<Vec<Dog>, PlatformError> {
    let watch = Watch::<Sp805>::new(clock.clone(), ending.clone()).map_err(PlatformError::Timer)?;
    mmio.claim(layout::WATCHDOG_BASE, primecell::LENGTH, watch.clone())?;
    Ok(vec![Dog { part: watch.clone(), timer: Box::new(Timer(watch)) }])
}

/// Puts the serial port where the device tree says.
pub fn add_serial(_pio: &mut Bus, mmio: &mut Bus, port: Arc<Serial>) -> Result<(), Overlap> {
    mmio.claim(layout::SERIAL_BASE, layout::SERIAL_LENGTH, port)
}
