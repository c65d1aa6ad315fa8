//! Least squares that learn one sample at a time.
//!
//! Duty: weights for a fixed set of features, and how sure they are. Not here: what the features are.
//! Invariants: the matrix stays symmetric to the last bit, as both halves are made of the same products; it is made
//! anew when rounding took its definiteness, and it stops growing when nothing new comes in, so an idle series cannot
//! blow it up.

use serde::{Deserialize, Serialize};

use super::features::{COUNT, Features};
use crate::number;
/// Uncertainty of each weight at the start: small, so a few odd samples at the start do not make wild weights.
const START: f32 = 0.1;
/// What every sample leaves of the samples before: half is forgotten in 3500.
const KEEP: f32 = 0.9998;
/// Sum of the uncertainties above which nothing is forgotten.
const MOST_UNCERTAINTY: f32 = 1000.0;
/// Errors count as at most so many usual ones.
const LARGEST_SURPRISE: f32 = 6.0;
/// Samples before errors are cut, and the span of the usual error.
const SETTLED: u32 = 200;
const ERROR_SPAN: f32 = 3000.0;

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Regression {
    weights: Features,
    uncertainty: [Features; COUNT],
    usual_error: f32,
    learnt: u32,
}

impl Default for Regression {
    fn default() -> Self {
        Regression { weights: [0.0; COUNT], uncertainty: diagonal(), usual_error: 0.0, learnt: 0 }
    }
}

impl Regression {
    pub(crate) fn predict(&self, features: &Features) -> f32 {
        dot(&self.weights, features)
    }

    /// Samples learnt.
    pub(crate) fn learnt(&self) -> u32 {
        self.learnt
    }

    pub(crate) fn learn(&mut self, features: &Features, target: f32) {
        // The matrix times the features. It is symmetric, so its rows are added up as columns: many sums at once.
        let mut gain = [0.0; COUNT];
        for (row, feature) in self.uncertainty.iter().zip(features) {
            for (sum, cell) in gain.iter_mut().zip(row) {
                *sum += cell * feature;
            }
        }
        let per_share = 1.0 / (1.0 + dot(&gain, features));
        let mut error = target - self.predict(features);
        if self.learnt > SETTLED {
            let most = LARGEST_SURPRISE * self.usual_error.max(1e-6);
            error = error.clamp(-most, most);
        }
        self.usual_error = number::blend(self.usual_error, error.abs(), self.learnt, ERROR_SPAN);
        self.learnt = self.learnt.saturating_add(1);
        let step = error * per_share;
        for (weight, gain) in self.weights.iter_mut().zip(&gain) {
            *weight += gain * step;
        }
        let told = libm::sqrtf(per_share);
        self.shrink(gain.map(|gain| gain * told));
        let sound = self.weights.iter().all(|weight| weight.is_finite());
        if !sound {
            *self = Regression::default();
        }
    }

    /// Takes out what a sample told, and forgets a little.
    fn shrink(&mut self, told: Features) {
        let mut total = 0.0;
        let mut definite = true;
        for ((row, own), at) in self.uncertainty.iter_mut().zip(told).zip(0..) {
            for (cell, other) in row.iter_mut().zip(told) {
                *cell -= own * other;
            }
            let diagonal = row.get::<usize>(at).copied().unwrap_or(0.0);
            definite &= diagonal > 0.0;
            total += diagonal;
        }
        if !definite || !total.is_finite() {
            self.uncertainty = diagonal();
        } else if total < MOST_UNCERTAINTY {
            for cell in self.uncertainty.as_flattened_mut() {
                *cell *= 1.0 / KEEP;
            }
        }
    }

    pub(crate) fn is_sound(&self) -> bool {
        self.usual_error.is_finite()
            && self.weights.iter().chain(self.uncertainty.as_flattened()).all(|number| number.abs() <= 1e12)
    }
}

fn diagonal() -> [Features; COUNT] {
    core::array::from_fn(|row| core::array::from_fn(|column| if row == column { START } else { 0.0 }))
}

const _: () = assert!(COUNT.is_multiple_of(2));

fn dot(left: &Features, right: &Features) -> f32 {
    // Two sums side by side are twice as fast as one.
    let (mut even, mut odd) = (0.0, 0.0);
    for (left, right) in left.as_chunks::<2>().0.iter().zip(right.as_chunks::<2>().0) {
        let ([a, b], [c, d]) = (left, right);
        even += a * c;
        odd += b * d;
    }
    even + odd
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers without a pattern, and always the same ones.
    fn noise(state: &mut u32) -> f32 {
        *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        crate::number::real(*state >> 8) / 16_777_216.0 - 0.5
    }

    #[test]
    fn weights_become_those_that_made_the_targets() {
        let truth: Features = [0.5, -1.0, 2.0, 0.0, 0.25, 1.5, -0.5, 0.0, 1.0, 3.0];
        let mut regression = Regression::default();
        let mut state = 7;
        for _ in 0..4000 {
            let features: Features = core::array::from_fn(|_| noise(&mut state));
            regression.learn(&features, dot(&truth, &features) + 0.01 * noise(&mut state));
        }
        for (weight, truth) in regression.weights.iter().zip(truth) {
            assert!((weight - truth).abs() < 0.06, "{weight} should be {truth}");
        }
    }

    #[test]
    fn the_matrix_stays_symmetric_to_the_last_bit() {
        let mut regression = Regression::default();
        let mut state = 11;
        for _ in 0..3000 {
            let features: Features = core::array::from_fn(|_| 6.0 * noise(&mut state));
            regression.learn(&features, noise(&mut state));
        }
        for (row, cells) in regression.uncertainty.iter().enumerate() {
            for (column, cell) in cells.iter().enumerate() {
                assert_eq!(cell.to_bits(), regression.uncertainty[column][row].to_bits());
            }
        }
    }

    #[test]
    fn an_idle_series_does_not_blow_it_up() {
        let mut regression = Regression::default();
        let mut features = [0.0; COUNT];
        features[9] = 0.1;
        for _ in 0..200_000 {
            regression.learn(&features, 0.0);
        }
        assert!(regression.is_sound());
        assert!(
            regression.uncertainty.as_flattened().iter().all(|cell| cell.abs() <= 2.0 * MOST_UNCERTAINTY)
        );
    }

    #[test]
    fn one_outlier_moves_the_weights_little() {
        let mut regression = Regression::default();
        let mut state = 3;
        for _ in 0..1000 {
            let features: Features = core::array::from_fn(|_| noise(&mut state));
            regression.learn(&features, features[0] + 0.1 * noise(&mut state));
        }
        regression.learn(&[0.5; COUNT], 1e9);
        assert!((regression.weights[0] - 1.0).abs() < 0.1);
    }
}
