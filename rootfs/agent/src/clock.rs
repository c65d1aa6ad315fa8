//! Time since the guest's kernel started.
//!
//! Duty: one clock for everything, and how a span reads to a person.
//! Invariant: never goes backwards, and counts time spent suspended, so that a guest restored from a snapshot
//! does not mistake the gap for no time at all.

use nix::time::{ClockId, clock_gettime};
use std::{fmt, time::Duration};

/// A point in time, as the span since the kernel started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Uptime(Duration);

impl Uptime {
    pub(crate) fn now() -> Self {
        // Linux always has this clock; were it missing, deadlines would never come, which `ZERO` shows at once.
        Self(clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from))
    }

    pub(crate) fn as_millis(self) -> u64 {
        u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX)
    }

    pub(crate) fn after(self, span: Duration) -> Self {
        Self(self.0.saturating_add(span))
    }

    /// How long from here to `later`; nothing if that is past.
    pub(crate) fn until(self, later: Self) -> Duration {
        later.0.saturating_sub(self.0)
    }

    #[cfg(test)]
    pub(crate) const fn at_millis(millis: u64) -> Self {
        Self(Duration::from_millis(millis))
    }
}

impl fmt::Display for Uptime {
    /// `412 ms`, `3.2 s`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.as_millis();
        if millis < 1000 {
            write!(f, "{millis} ms")
        } else {
            write!(f, "{}.{} s", millis / 1000, millis % 1000 / 100)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_read_well() {
        let text = |millis| Uptime::at_millis(millis).to_string();
        assert_eq!([text(0), text(999), text(1000), text(3290)], ["0 ms", "999 ms", "1.0 s", "3.2 s"]);
    }
}
