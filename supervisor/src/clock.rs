//! The one clock of the daemon.
//!
//! Duty: moments since the box came up, which mean the same to every daemon of one boot. Not here: wall time.

use std::time::Duration;

use hearth_core::Moment;
use nix::time::{ClockId, clock_gettime};

pub(crate) fn now() -> Moment {
    // It cannot fail: Linux has this clock, and the pointer is good.
    Moment::since_start(clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from))
}
