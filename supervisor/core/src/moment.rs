//! A point in monotonic time.
//!
//! Duty: deadlines that cannot be mixed up with durations. Not here: reading a clock.

use core::time::Duration;

/// Milliseconds since the daemon began. Never wall time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(u64);

impl Moment {
    pub const START: Moment = Moment(0);

    /// From a clock's reading, cut to milliseconds.
    pub fn since_start(elapsed: Duration) -> Moment {
        Moment(millis(elapsed))
    }

    #[must_use]
    pub fn after(self, duration: Duration) -> Moment {
        Moment(self.0.saturating_add(millis(duration)))
    }

    /// Zero when `earlier` is later.
    pub fn since(self, earlier: Moment) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
