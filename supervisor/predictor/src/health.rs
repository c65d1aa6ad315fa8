//! Whether a series' models can be trusted.
//!
//! Duty: say when forecasts got worse than they were, when a detector calls too often to be listened to, and when the
//! last value stands in for the forecaster. Not here: what is done about it; to begin anew is to make a new series.
//! Invariant: nothing is said before there is a past to compare with.

use core::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    forecast::Forecast,
    time::{Cadence, DAY},
};

/// Recent errors beyond so many usual ones are drift.
const DRIFT: f32 = 2.0;
/// Share of samples that are called, above which nobody listens any more: one in two hundred.
const NOISY: f32 = 0.005;
/// Samples before anything is said.
const SETTLED: u32 = 1000;

#[must_use]
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Health {
    /// The recent error of the nearest forecast, in shares of the usual one; `None` while that is not known.
    pub error_ratio: Option<f32>,
    pub drifting: bool,
    pub calls_per_day: f32,
    pub noisy: bool,
    pub benched: bool,
}

impl Health {
    pub(crate) fn of(nearest: Option<&Forecast>, calls: f32, seen: u32, cadence: Cadence) -> Health {
        let settled = seen >= SETTLED;
        let ratio = |forecast: &Forecast| forecast.recent_error / forecast.error.max(f32::MIN_POSITIVE);
        let error_ratio = nearest.filter(|_| settled).map(ratio).filter(|ratio| ratio.is_finite());
        Health {
            error_ratio,
            drifting: error_ratio.is_some_and(|ratio| ratio > DRIFT),
            calls_per_day: calls * crate::number::real(DAY) / crate::number::real(cadence.seconds()),
            noisy: settled && calls > NOISY,
            benched: nearest.is_some_and(|forecast| forecast.benched),
        }
    }
}

impl fmt::Display for Health {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        match (self.drifting, self.error_ratio) {
            (true, Some(ratio)) => write!(formatter, "forecasts are {ratio:.1} times as far off as usual")?,
            (_, Some(_)) => formatter.write_str("forecasts as usual")?,
            (_, None) => formatter.write_str("still learning")?,
        }
        if self.benched {
            formatter.write_str("; benched, the last value stands in")?;
        }
        let quality = if self.noisy { ", too many to listen to" } else { "" };
        write!(formatter, "; {:.2} calls a day{quality}", self.calls_per_day)
    }
}

#[cfg(test)]
mod tests {
    use crate::{Cadence, Seconds, Series};

    fn wave(sample: u32) -> f32 {
        let noise = (sample.wrapping_mul(2_654_435_761) >> 20) % 10;
        crate::number::real(sample % 288) + crate::number::real(noise)
    }

    fn fed(mut series: Series<1>, samples: std::ops::Range<u32>, value: impl Fn(u32) -> f32) -> Series<1> {
        for sample in samples {
            let _ = series.observe(Seconds(u64::from(sample) * 300), value(sample));
        }
        series
    }

    fn new() -> Series<1> {
        Series::new(Cadence::every(300), [1])
    }

    #[test]
    fn a_series_that_changes_its_ways_drifts_and_says_so() {
        let mut series = Series::new(Cadence::every(300), [1]);
        let mut feed = |sample: u32, value: f32| {
            let _ = series.observe(Seconds(u64::from(sample) * 300), value);
            series.health()
        };
        let mut health = feed(0, wave(0));
        assert_eq!(health.to_string(), "still learning; 0.00 calls a day");
        for sample in 1..4000 {
            health = feed(sample, wave(sample));
        }
        assert!(!health.drifting && !health.noisy, "{health}");
        assert!(health.to_string().starts_with("forecasts as usual"));
        // The same level, wildly.
        let drifted = (4000..4300).any(|sample| feed(sample, wave(sample.wrapping_mul(7919))).drifting);
        assert!(drifted);
    }

    #[test]
    fn a_detector_that_calls_all_the_time_is_noisy_and_says_so() {
        // Ever wilder: each tenth sample is a record, and only the silence after a call holds the calls back.
        let wilder = |sample: u32| {
            if sample.is_multiple_of(10) { 1.07f32.powi(sample.cast_signed() / 10) } else { 1.0 }
        };
        let health = fed(new(), 0..1100, wilder).health();
        assert!(health.noisy && health.calls_per_day > 1.4, "{health}");
        assert!(health.to_string().ends_with(", too many to listen to"), "{health}");
    }

    #[test]
    fn a_bench_is_told() {
        // A walk without direction: nothing beats the last value.
        let mut state = 1u32;
        let walk = (0..4000).scan(1000.0f32, |level, _| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            *level += if state >> 31 == 0 { 10.0 } else { -10.0 };
            Some(*level)
        });
        let walk: Vec<f32> = walk.collect();
        let series = fed(new(), 0..4000, |sample| walk[crate::number::index(sample)]);
        let health = series.health();
        assert!(
            health.benched && health.to_string().contains("; benched, the last value stands in; "),
            "{health}"
        );
    }
}
