//! `[weights]`: what matters more where things are weighed.

use std::ops::RangeInclusive;

use crate::reader::Table;

/// Ten times as much, or a tenth: beyond that only one of them would count.
pub const WEIGHT: RangeInclusive<u64> = 1..=100;
const USUAL: u8 = 10;

/// Each against the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weights {
    /// A second without service.
    pub availability: u8,
    /// What may get lost by what is done.
    pub risk: u8,
    /// A second of a replica.
    pub cost: u8,
    /// A request that waits.
    pub latency: u8,
}

pub(super) fn weights(table: &mut Table<'_>) -> Weights {
    let mut weight = |key| table.entry(key).small(WEIGHT, "").unwrap_or(USUAL);
    Weights {
        availability: weight("availability"),
        risk: weight("risk"),
        cost: weight("cost"),
        latency: weight("latency"),
    }
}
