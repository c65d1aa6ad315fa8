//! Watchdogs: a guest that stops petting its watchdog ends its machine.
//!
//! ```text
//!            start                        deadline
//!  Stopped ─────────▶ Counting ──────────────────────▶ bites: Outcome::WatchdogExpired
//!     ▲                │    ▲
//!     └─────stop───────┘    └─ pet: a new deadline
//! ```
//!
//! Duty: registers that mainline Linux has drivers for, and a deadline. Not its duty: petting; a program in the
//! guest opens `/dev/watchdog` and decides what being well means.
//!
//! | model | where | driver | in Debian's kernels |
//! |---|---|---|---|
//! | [`wdat`] | x86_64, described by an ACPI table | `wdat_wdt` | cloud and generic |
//! | [`ib700`] | x86_64, fixed ports that cannot be discovered | `ib700wdt` | generic |
//! | [`sp805`] | ARM64, described by the device tree | `sp805_wdt` | cloud and generic |
//!
//! Why two on x86_64: IB700 is what QEMU users know, but its driver finds the ports whether or not anything
//! answers there, ends at 30 seconds and is missing from cloud kernels. WDAT has none of these limits. They count
//! apart; a guest uses one.
//!
//! Why SP805 on ARM64: the SBSA watchdog counts the host's system counter, whose rate a monitor can only learn by
//! an instruction of its own and whose value does not rest in a pause; SP805 counts a clock of ours. The per-vCPU
//! stall detector is petted by the kernel alone, so it misses a guest whose programs hang, and no distribution
//! builds it.

pub mod ib700;
mod shell;
pub mod sp805;
pub mod wdat;

pub use shell::{Timer, Watch};

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::snapshot::Unfit;

/// A watchdog that was saved. Times are the machine's own, which goes on where it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum WatchdogState {
    /// ACPI's.
    Wdat {
        /// From where it counts.
        count: [u8; 2],
        /// When it bites.
        deadline: Option<Duration>,
    },
    /// The board's.
    Ib700 {
        /// When it bites.
        deadline: Option<Duration>,
    },
    /// ARM's.
    Sp805 {
        /// From where it counts.
        load: u32,
        /// Its control register.
        control: u32,
        /// Its registers take no value.
        locked: bool,
        /// Since when it counts, and whether its interrupt was there by then.
        counting: Option<(Duration, bool)>,
        /// Where it stopped.
        stopped_at: u32,
    },
}

/// The registers of a watchdog. Every time is one of the machine's own clock, which stands still in a pause, and
/// none is before the one of the call before.
pub trait Watchdog: Send {
    /// What messages call it.
    const NAME: &'static str;

    /// Reads registers from `offset` on.
    fn read(&self, now: Duration, offset: u64, data: &mut [u8]);

    /// Writes registers from `offset` on.
    fn write(&mut self, now: Duration, offset: u64, data: &[u8]);

    /// When it bites, as things are.
    fn deadline(&self) -> Option<Duration>;

    /// Its registers.
    fn save(&self) -> WatchdogState;

    /// The registers of another one. Whatever they are, it bites at its deadline, which may have passed.
    fn restore(&mut self, state: &WatchdogState) -> Result<(), Unfit>;
}

#[cfg(test)]
mod tests;
