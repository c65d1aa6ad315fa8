//! From one guest to many copies of it.
//!
//! Duty: decide when processes stand still for a snapshot, and when they go on.
//! Not its duty: stopping and waking them (`workload`), the identity itself (`identity`).
//! Invariant: processes that were held go on after an identity, a stop, or [`ALONE`] after the host was gone: a copy that
//! nobody looks after stands still for ever otherwise.
//!
//! ```text
//! Loose --Hold--> Held --host gone--> Forsaken
//!   ^               |                    |
//!   +---------------+----- Identify, stop, late
//! ```

use crate::clock::Uptime;
use std::time::Duration;

/// From the loss of the host to going on without an identity. A monitor that restores sends one within milliseconds.
pub(crate) const ALONE: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Copies {
    #[default]
    Loose,
    Held,
    Forsaken {
        until: Uptime,
    },
}

impl Copies {
    /// A snapshot follows.
    pub(crate) fn hold(&mut self) {
        *self = Self::Held;
    }

    /// Whether processes stand still.
    pub(crate) fn holds(&self) -> bool {
        *self != Self::Loose
    }

    /// The connection to the host broke. Says whether this is most likely a copy that has just come to life.
    pub(crate) fn host_gone(&mut self, now: Uptime) -> bool {
        let is_copy = *self == Self::Held;
        if is_copy {
            *self = Self::Forsaken { until: now.after(ALONE) };
        }
        is_copy
    }

    /// Lets go. Says whether somebody was held.
    pub(crate) fn release(&mut self) -> bool {
        std::mem::take(self) != Self::Loose
    }

    /// When [`Self::is_late`] becomes true.
    pub(crate) const fn deadline(&self) -> Option<Uptime> {
        match self {
            Self::Forsaken { until } => Some(*until),
            Self::Loose | Self::Held => None,
        }
    }

    /// Nobody came.
    pub(crate) fn is_late(&self, now: Uptime) -> bool {
        self.deadline().is_some_and(|until| now >= until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: fn(u64) -> Uptime = Uptime::at_millis;

    #[test]
    fn who_is_held_waits_for_an_identity_as_long_as_there_is_a_host() {
        let mut copies = Copies::default();
        assert!(!copies.release());
        copies.hold();
        assert_eq!((copies.deadline(), copies.is_late(AT(1_000_000))), (None, false));
        assert!(copies.release() && !copies.release());
    }

    #[test]
    fn a_copy_without_a_host_goes_on_after_a_while() {
        let mut copies = Copies::default();
        assert!(!copies.host_gone(AT(0)));
        assert_eq!((copies, copies.holds()), (Copies::Loose, false), "nobody was held");
        copies.hold();
        assert!(copies.host_gone(AT(1000)), "this is a copy");
        assert!(!copies.host_gone(AT(3000)) && copies.holds());
        assert!(!copies.is_late(AT(5999)) && copies.is_late(AT(6000)));
        assert!(copies.release());
    }
}
