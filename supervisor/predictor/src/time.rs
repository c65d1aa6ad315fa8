//! Times of samples.
//!
//! Duty: the phase of the day and the week that a sample has, and how many samples lie between two times.
//! Not here: clocks. Invariant: time decides nothing but which samples belong together; a clock that was set
//! costs a forecast its phase, never its life.

use serde::{Deserialize, Serialize};

/// Seconds in a day.
pub const DAY: u32 = 86_400;
/// Seconds in a week.
pub const WEEK: u32 = 7 * DAY;

/// Seconds on a clock whose multiples of [`DAY`] are midnights where the box stands. The daemon makes it from its
/// monotonic clock and an offset that it looks up once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Seconds(pub u64);

impl Seconds {
    pub(crate) fn of_day(self) -> u32 {
        phase(self.0, DAY)
    }

    pub(crate) fn of_week(self) -> u32 {
        phase(self.0, WEEK)
    }

    #[must_use]
    pub fn after(self, seconds: u64) -> Seconds {
        Seconds(self.0.saturating_add(seconds))
    }

    #[must_use]
    pub fn before(self, seconds: u64) -> Seconds {
        Seconds(self.0.saturating_sub(seconds))
    }
}

fn phase(seconds: u64, period: u32) -> u32 {
    seconds.checked_rem(u64::from(period)).and_then(|phase| u32::try_from(phase).ok()).unwrap_or(0)
}

/// The time between two samples of a series.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Cadence {
    seconds: u32,
    /// Kept, as it is asked for many times for each sample.
    per_day: u32,
}

impl TryFrom<u32> for Cadence {
    type Error = &'static str;

    fn try_from(seconds: u32) -> Result<Self, Self::Error> {
        let cadence = Cadence::every(seconds);
        (cadence.seconds == seconds).then_some(cadence).ok_or("expected one second to one day")
    }
}

impl From<Cadence> for u32 {
    fn from(cadence: Cadence) -> u32 {
        cadence.seconds
    }
}

impl Cadence {
    /// From one second to one day; what is beyond is cut.
    pub fn every(seconds: u32) -> Cadence {
        let seconds = seconds.clamp(1, DAY);
        Cadence { seconds, per_day: DAY.checked_div(seconds).unwrap_or(1) }
    }

    pub fn seconds(self) -> u32 {
        self.seconds
    }

    /// The time of this many samples.
    pub(crate) fn times(self, samples: u32) -> u64 {
        u64::from(self.seconds).saturating_mul(u64::from(samples))
    }

    /// Samples in a day, at least one.
    pub(crate) fn per_day(self) -> u32 {
        self.per_day
    }

    /// Samples that should have come between two that came: none where time stood still or went back.
    pub(crate) fn missing_between(self, earlier: Seconds, later: Seconds) -> u64 {
        let passed = later.0.saturating_sub(earlier.0);
        let half = u64::from(self.seconds / 2);
        passed.saturating_add(half).checked_div(u64::from(self.seconds)).unwrap_or(0).saturating_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_that_did_not_come_are_counted_and_a_clock_that_was_set_counts_none() {
        let every_minute = Cadence::every(60);
        assert_eq!(every_minute.missing_between(Seconds(600), Seconds(660)), 0);
        assert_eq!(every_minute.missing_between(Seconds(600), Seconds(689)), 0);
        assert_eq!(every_minute.missing_between(Seconds(600), Seconds(691)), 1);
        assert_eq!(every_minute.missing_between(Seconds(600), Seconds(1200)), 9);
        assert_eq!(every_minute.missing_between(Seconds(600), Seconds(0)), 0);
    }

    #[test]
    fn a_cadence_is_a_second_to_a_day() {
        assert_eq!(Cadence::every(0).seconds(), 1);
        assert_eq!(Cadence::every(u32::MAX).per_day(), 1);
        assert_eq!(Cadence::every(300).per_day(), 288);
        assert_eq!(Cadence::try_from(300), Ok(Cadence::every(300)));
        assert!(Cadence::try_from(0).is_err() && Cadence::try_from(DAY + 1).is_err());
    }
}
