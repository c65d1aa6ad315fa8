//! Both clocks at one moment.

use hearth_core::Moment;

/// Deadlines are counted in `mono`; `wall_ms` is only a label for others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    pub mono: Moment,
    /// Milliseconds since 1970, UTC.
    pub wall_ms: u64,
}

/// Milliseconds since 1970, 2025-01-01: a clock before that was never set, this program is younger.
pub const PLAUSIBLE_MS: u64 = 1_735_689_600_000;

impl Now {
    /// Whether somebody ever set the wall clock.
    #[must_use]
    pub fn is_plausible(&self) -> bool {
        self.wall_ms >= PLAUSIBLE_MS
    }
}
