//! How the box came up, and whether it should trust itself.
//!
//! ```text
//! Opening --surveyed--> Up --stop--> Stopping --all down--> Down
//!                \--too many early failures--> Safe --leave, or held long enough--> Up
//! ```
//!
//! Duty: boot reasons, the phases of the box. Not here: counting failed boots over a reboot (who boots the box does),
//! moves (`state`).
//! Invariant: in [`Phase::Safe`] no workload runs; the box answers people and the fleet. It tries again by itself after a
//! while, since what looked like failures may have been power cuts, and nobody comes by.

use serde::{Deserialize, Serialize};

use crate::moment::Moment;

/// Why the box came up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum BootReason {
    #[default]
    PowerOn,
    /// Somebody asked for a reboot.
    Asked,
    /// The daemon asked for one, to heal itself.
    Healing,
    /// The hardware's watchdog.
    Watchdog,
    /// The kernel panicked.
    Panic,
    Update,
    Unknown,
}

/// What is known when a daemon begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Boot {
    pub reason: BootReason,
    /// The first daemon since the box came up; otherwise an earlier one was there, and moments of its records count.
    pub first_daemon: bool,
    /// Boots in a row before this one that did not settle.
    pub failed_boots: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// Machines of an earlier daemon are being found; nothing is started or stopped.
    Opening,
    Up,
    Safe,
    Stopping,
    Down,
}

/// Whether this boot counts as one that came up well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Settling {
    Not,
    At(Moment),
    Settled,
}

impl Boot {
    pub(crate) fn wants_safe_mode(&self, after: u8) -> bool {
        after > 0 && self.failed_boots >= after
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn safe_mode_comes_after_as_many_failed_boots_as_said_and_never_if_none_are_said() {
        let boot = |failed_boots| Boot { failed_boots, ..Boot::default() };
        assert!(!boot(2).wants_safe_mode(3));
        assert!(boot(3).wants_safe_mode(3));
        assert!(!boot(200).wants_safe_mode(0));
    }
}
