//! A point in monotonic time.
//!
//! Duty: deadlines that cannot be mixed up with durations. Not here: reading a clock.
//! Invariant: arithmetic saturates; no deadline wraps into the past.

use core::time::Duration;

use serde::{Deserialize, Serialize};

/// Milliseconds since an origin that the caller chooses; whoever keeps [`Record`](crate::Record)s over a restart of
/// the daemon counts from the box's boot. Never wall time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Moment(u64);

impl Moment {
    pub const START: Moment = Moment(0);

    /// From a clock's reading, cut to milliseconds.
    pub fn since_start(elapsed: Duration) -> Moment {
        Moment(millis(elapsed))
    }

    pub const fn from_millis(millis: u64) -> Moment {
        Moment(millis)
    }

    pub const fn as_millis(self) -> u64 {
        self.0
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
    // Not `as_millis`: a division of 128 bits on the path of every heartbeat.
    duration.as_secs().saturating_mul(1000).saturating_add(u64::from(duration.subsec_millis()))
}
