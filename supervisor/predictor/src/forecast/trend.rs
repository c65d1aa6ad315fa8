//! Holt and Winters: a level, a slope that fades, and the season on top.
//!
//! Duty: smooth what is left of a series without its season. Not here: the season itself, which the series shares
//! among its models. Invariant: a slope fades to nothing within some forty samples, so no forecast runs away.

use serde::{Deserialize, Serialize};

use crate::number;

/// Weight of the newest sample in the level.
const LEVEL_RATE: f32 = 0.5;
/// Weight of the newest surprise in the slope.
const SLOPE_RATE: f32 = 0.05;
/// What is left of a slope one sample later.
const DAMPING: f32 = 0.9;

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Trend {
    level: f32,
    slope: f32,
}

impl Trend {
    /// `steps` counts this sample.
    pub(crate) fn take(&mut self, value: f32, steps: u32) {
        if steps <= 1 {
            *self = Trend { level: value, slope: 0.0 };
            return;
        }
        let foreseen = self.level + DAMPING * self.slope;
        let surprise = value - foreseen;
        self.level = foreseen + LEVEL_RATE * surprise;
        self.slope = DAMPING * self.slope + SLOPE_RATE * surprise;
    }

    /// Where it leads, `damped` slopes on.
    pub(crate) fn ahead(&self, damped: f32) -> f32 {
        self.level + self.slope * damped
    }

    pub(crate) fn is_sound(&self) -> bool {
        [self.level, self.slope].iter().all(|number| number.abs() <= 10.0 * number::LARGEST)
    }
}

/// Slopes that a distance adds up to: the sum of the powers of the damping.
pub(crate) fn damped(ahead: u32) -> f32 {
    (1.0 - libm::powf(DAMPING, number::real(ahead.min(1000)))) * DAMPING / (1.0 - DAMPING)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ramp_is_followed_and_no_forecast_runs_away() {
        let mut trend = Trend::default();
        for step in 1..200u32 {
            trend.take(number::real(step), step);
        }
        assert!(trend.ahead(damped(1)) > 198.0);
        assert!((damped(2) - (0.9 + 0.81)).abs() < 1e-5);
        assert!((damped(500) - damped(1000)).abs() < 1e-4);
    }
}
