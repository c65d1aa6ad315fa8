//! When what can wait is done.
//!
//! ```text
//! Always: there are no windows        Open <--the shell's calendar--> Shut
//! ```
//!
//! Duty: whether it is time for new versions and for reboots of a box that serves. Not here: calendars and wall clocks (the
//! shell), what waits (`workload::rolling`, `state::caring`).
//! Invariants: what heals a workload never waits, nor does what takes the place of a version that never worked; a person's
//! word passes.

use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Window {
    /// Nobody wants any.
    #[default]
    Always,
    Open,
    Shut {
        /// Seconds since 1970, for whoever asks; none: the box does not know the time.
        opens_s: Option<u64>,
    },
}

impl Window {
    pub fn is_shut(self) -> bool {
        matches!(self, Window::Shut { .. })
    }
}
