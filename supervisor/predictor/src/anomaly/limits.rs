//! Control limits around a moving average: the simple mode.
//!
//! Duty: say whether a sample lies further from the average than so many deviations. Not here: seasons, records,
//! silence. Invariant: a sample is judged by what was before it.

use serde::{Deserialize, Serialize};

use crate::number;

/// Samples before anything is outside.
const WARM_UP: u32 = 30;

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ControlLimits {
    average: f32,
    variance: f32,
    seen: u32,
    span: f32,
    width: f32,
}

impl ControlLimits {
    /// An average over about `span` samples, limits `width` deviations to either side.
    pub fn new(span: f32, width: f32) -> ControlLimits {
        let known =
            |value: f32, least: f32, other: f32| if value.is_nan() { other } else { value.max(least) };
        ControlLimits {
            average: 0.0,
            variance: 0.0,
            seen: 0,
            span: known(span, 1.0, 100.0),
            width: known(width, 0.0, 3.0),
        }
    }

    /// Takes a sample in. Gives its distance in widths: above 1 it is outside. `None` while settling, and for what
    /// is no number.
    pub fn observe(&mut self, value: f32) -> Option<f32> {
        let value = number::tame(value)?;
        let away = value - self.average;
        let limit = self.width * libm::sqrtf(self.variance);
        let judged = (self.seen >= WARM_UP).then(|| match away.abs() {
            0.0 => 0.0,
            away => (away / limit.max(f32::MIN_POSITIVE)).min(number::LARGEST),
        });
        let rate = number::rate(self.seen, self.span);
        self.average += away * rate;
        // The exact recurrence for an exponentially weighted variance.
        self.variance = (1.0 - rate) * (self.variance + rate * away * away);
        self.seen = self.seen.saturating_add(1);
        judged
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_outside_is_told_and_what_is_no_number_is_not() {
        let mut limits = ControlLimits::new(50.0, 3.0);
        for sample in 0..200u16 {
            let judged = limits.observe(10.0 + f32::from(sample % 3));
            assert_eq!(judged.is_some(), sample >= 30);
            assert!(judged.is_none_or(|distance| distance < 1.0));
        }
        assert_eq!(limits.observe(f32::NAN), None);
        assert!(limits.observe(20.0).is_some_and(|distance| distance > 1.0));
    }

    #[test]
    fn a_flat_series_has_no_width_and_any_move_is_outside() {
        let mut limits = ControlLimits::new(50.0, 3.0);
        for _ in 0..100 {
            limits.observe(5.0);
        }
        assert_eq!(limits.observe(5.0), Some(0.0));
        assert!(limits.observe(5.1).is_some_and(|distance| distance > 1.0));
    }
}
