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
}

#[cfg(test)]
mod tests;
