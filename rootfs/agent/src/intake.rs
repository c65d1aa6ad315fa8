//! When the workload's output is read.
//!
//! Duty: hold the workload up for a moment when its output comes faster than it goes, and no longer. A program
//! that prints a megabyte at once then loses nothing, and one whose host sleeps still runs.
//! Not its duty: what is dropped (`outbox`).
//! Invariant: never pauses for longer than `PATIENCE` at a time, nor twice without half the buffer having gone
//! out in between.
//!
//! ```text
//! Flowing --full--> Paused --room again--> Flowing
//!    ^                 |
//!    |                late
//!    |                 v
//!    +-room again-- Dropping
//! ```

use crate::clock::Uptime;
use std::time::Duration;

/// Bytes waiting to go out from which on nothing more is read, and below which it is again.
const FULL: usize = 128 * 1024;
const ROOM: usize = 64 * 1024;

/// Long enough for a busy host to come round to reading, too short to make the workload look hung.
const PATIENCE: Duration = Duration::from_millis(500);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Flowing,
    Paused { until: Uptime },
    Dropping,
}

#[derive(Debug)]
pub(crate) struct Intake(State);

impl Intake {
    pub(crate) const fn new() -> Self {
        Self(State::Flowing)
    }

    /// With so many bytes waiting: is it time to read more?
    pub(crate) fn is_open(&mut self, now: Uptime, waiting: usize) -> bool {
        self.0 = match self.0 {
            State::Flowing if waiting >= FULL => State::Paused { until: now.after(PATIENCE) },
            State::Paused { .. } | State::Dropping if waiting < ROOM => State::Flowing,
            State::Paused { until } if now >= until => State::Dropping,
            same => same,
        };
        self.deadline().is_none()
    }

    /// When to look again, if reading is paused.
    pub(crate) const fn deadline(&self) -> Option<Uptime> {
        match self.0 {
            State::Paused { until } => Some(until),
            State::Flowing | State::Dropping => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: fn(u64) -> Uptime = Uptime::at_millis;

    #[test]
    fn a_burst_is_held_up_until_there_is_room() {
        let mut intake = Intake::new();
        assert!(intake.is_open(AT(0), FULL - 1));
        assert!(!intake.is_open(AT(1), FULL));
        assert_eq!(intake.deadline(), Some(AT(501)));
        assert!(!intake.is_open(AT(2), ROOM));
        assert!(intake.is_open(AT(3), ROOM - 1));
        assert_eq!(intake.deadline(), None);
    }

    #[test]
    fn a_host_that_sleeps_holds_nobody_up_for_long() {
        let mut intake = Intake::new();
        assert!(!intake.is_open(AT(0), FULL));
        assert!(!intake.is_open(AT(499), FULL));
        assert!(intake.is_open(AT(500), FULL));
        assert!(intake.is_open(AT(9000), FULL), "and goes on without another pause");
        assert!(intake.is_open(AT(9001), ROOM - 1));
        assert!(!intake.is_open(AT(9002), FULL), "which a host that woke up earns again");
    }
}
