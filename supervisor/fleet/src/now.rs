//! Both clocks at one moment.

use hearth_core::Moment;

/// Deadlines are counted in `mono`; `wall_ms` is only a label for others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    pub mono: Moment,
    /// Milliseconds since 1970, UTC.
    pub wall_ms: u64,
}
