//! `[predict]`: how closely the box looks at itself.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::reader::Table;

/// Seconds between two readings: at more than five minutes nothing is foreseen in time. 0 is never.
pub const PREDICT_S: RangeInclusive<u64> = 0..=300;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Predict {
    /// From one reading to the next; none: the box does not look.
    pub every: Option<Duration>,
}

pub(super) fn predict(table: &mut Table<'_>) -> Predict {
    Predict {
        every: match table.entry("every_s").number(PREDICT_S, " s").unwrap_or(10) {
            0 => None,
            seconds => Some(Duration::from_secs(seconds)),
        },
    }
}
