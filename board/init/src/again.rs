//! How long to wait before something that ended is started again.
//!
//! Duty: one count of ends in a row. Pure. Not here: what is started (`charge`, `companion`).
//! Invariant: no wait is longer than [`LONGEST_WAIT`].

use std::time::Duration;

use hearth_core::{STEADY, delay};

/// A box without its daemon looks after nothing, so no wait for it is longer.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// Ends in a row without a steady run.
#[derive(Debug, Default)]
pub(crate) struct Ends(u32);

impl Ends {
    /// One that ran well is missed at once.
    pub(crate) fn wait_after(&mut self, run: Duration) -> Duration {
        self.0 = if run >= STEADY { 0 } else { self.0.saturating_add(1) };
        if self.0 == 0 { Duration::ZERO } else { delay(self.0, 0).min(LONGEST_WAIT) }
    }
}
