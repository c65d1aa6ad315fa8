//! A bound that 95 of 100 samples keep.
//!
//! Duty: how far above a forecast the bound lies, learnt from whether bounds held. Not here: forecasts.
//! Invariant: whatever the errors are, the share that breaks the bound approaches [`BROKEN`]: each break raises it
//! nineteen times as much as each sample that holds lowers it.

use serde::{Deserialize, Serialize};

use crate::number;

/// The share of samples that may lie above.
const BROKEN: f32 = 0.05;
/// How far a broken bound moves, in usual errors.
const STEP: f32 = 0.08;
/// At the start: the 95th of 100 errors of a bell curve, in mean errors.
const START: f32 = 2.06;
const MOST: f32 = 50.0;
/// Samples over which the usual error is averaged: short, because calm and storm alternate.
const ERROR_SPAN: f32 = 40.0;

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Bound {
    /// The distance from forecast to bound, in usual errors.
    reach: f32,
    usual_error: f32,
    scored: u32,
}

impl Default for Bound {
    fn default() -> Self {
        Bound { reach: START, usual_error: 0.0, scored: 0 }
    }
}

impl Bound {
    pub(crate) fn above(&self, expected: f32) -> f32 {
        expected + self.reach * self.usual_error
    }

    /// Takes in how a forecast and its bound turned out.
    pub(crate) fn score(&mut self, expected: f32, upper: f32, actual: f32) {
        let broken = if actual > upper { 1.0 } else { 0.0 };
        self.reach = (self.reach + STEP * (broken - BROKEN) / (1.0 - BROKEN)).clamp(0.0, MOST);
        self.usual_error =
            number::blend(self.usual_error, (actual - expected).abs(), self.scored, ERROR_SPAN);
        self.scored = self.scored.saturating_add(1);
    }

    pub(crate) fn is_sound(&self) -> bool {
        (0.0..=MOST).contains(&self.reach) && self.usual_error >= 0.0 && self.usual_error.is_finite()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_of_broken_bounds_is_the_one_that_was_asked_for_whatever_the_errors_are() {
        let mut state = 1u32;
        let mut dice = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            number::real(state >> 8) / 16_777_216.0
        };
        // Flat, heavy-tailed, and one that is mostly zero.
        let shapes: [fn(f32) -> f32; 3] =
            [|dice| dice, |dice| 0.1 / (1.0 - dice).max(1e-4), |dice| if dice < 0.9 { 0.0 } else { dice }];
        for shape in shapes {
            let mut bound = Bound::default();
            let mut broken = 0u32;
            for _ in 0..20_000 {
                let actual = shape(dice());
                let upper = bound.above(0.0);
                broken += u32::from(actual > upper);
                bound.score(0.0, upper, actual);
            }
            let share = number::real(broken) / 20_000.0;
            assert!((0.04..0.06).contains(&share), "{share} were above");
        }
    }
}
