//! How far out a series ever was, in each of several ways.
//!
//! Duty: remember for each [`Kind`] of strangeness the furthest, and say by how much a new one goes beyond.
//! Not here: what strangeness is. Invariants: a record never falls faster than [`HALF_LIFE`] says, so a series
//! that repeats itself sets none; of a series that never changes, the n-th sample is a record with a chance of
//! 1/n, so false calls grow with the logarithm of time and need no threshold in the series' own unit.

use core::fmt;

use serde::{Deserialize, Serialize};

/// Samples in which a record loses half of itself: eight weeks of samples in five minutes.
const HALF_LIFE: f32 = 16_000.0;
/// What one sample leaves of a record: 2^(-1/`HALF_LIFE`).
const KEEP: f32 = 1.0 - core::f32::consts::LN_2 / HALF_LIFE;
/// Further beyond a record is as good as this: a series that was always the same has a record of nothing.
const MOST: f32 = 1e6;

/// The ways in which a sample can be strange.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// One sample far above the level.
    High,
    /// One sample far below it.
    Low,
    /// Some samples together above the level.
    HighForMinutes,
    /// Many samples together above it.
    HighForLong,
    /// Many samples together below it.
    LowForLong,
    /// Far from what is usual at this time of the day and week.
    OffSeason,
    /// The same, many samples long.
    OffSeasonForLong,
}

impl Kind {
    pub const ALL: [Kind; 7] = [
        Kind::High,
        Kind::Low,
        Kind::HighForMinutes,
        Kind::HighForLong,
        Kind::LowForLong,
        Kind::OffSeason,
        Kind::OffSeasonForLong,
    ];
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str(match self {
            Kind::High => "above its level",
            Kind::Low => "below its level",
            Kind::HighForMinutes => "above its level for some samples",
            Kind::HighForLong => "above its level for many samples",
            Kind::LowForLong => "below its level for many samples",
            Kind::OffSeason => "off what is usual at this time",
            Kind::OffSeasonForLong => "off what is usual at this time for many samples",
        })
    }
}

/// Distances of one sample, in the order of [`Kind::ALL`]. Negative is the other way and never a record.
pub(crate) type Distances = [f32; Kind::ALL.len()];

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Records(Distances);

impl Records {
    /// Takes a sample's distances in; `slack` is added to both sides of the comparison. Gives the kind that went furthest beyond its record, and its ratio to it.
    pub(crate) fn take(&mut self, distances: &Distances, slack: f32) -> (Kind, f32) {
        let slack = slack + 1e-20;
        let mut furthest = (Kind::High, 0.0);
        for ((record, &distance), kind) in self.0.iter_mut().zip(distances).zip(Kind::ALL) {
            let ratio = ((distance + slack) / (*record + slack)).min(MOST);
            if ratio > furthest.1 {
                furthest = (kind, ratio);
            }
            *record = (*record * KEEP).max(distance);
        }
        furthest
    }

    pub(crate) fn is_sound(&self) -> bool {
        self.0.iter().all(|record| record.is_finite() && *record >= 0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn going_beyond_a_record_is_told_with_its_kind_and_only_once() {
        let mut records = Records::default();
        records.take(&[4.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0], 0.3);
        let beyond = [4.0, 2.0, 0.0, 0.0, 0.0, 0.0, 0.0];
        let (kind, ratio) = records.take(&beyond, 0.3);
        assert_eq!(kind, Kind::Low);
        assert!((ratio - 2.3 / 1.3).abs() < 1e-3, "{ratio}");
        assert!(records.take(&beyond, 0.3).1 < 1.001);
    }

    #[test]
    fn a_record_fades_by_half_in_its_half_life() {
        let mut records = Records::default();
        records.take(&[8.0; 7], 0.0);
        for _ in 0..16_000 {
            records.take(&[0.0; 7], 0.0);
        }
        assert!(records.0.iter().all(|record| (record - 4.0).abs() < 0.05));
    }
}
