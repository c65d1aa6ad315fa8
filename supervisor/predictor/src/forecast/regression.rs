//! Least squares that learn one sample at a time.
//!
//! Duty: weights for a fixed set of features, and how sure they are. Not here: what the features are.
//! Invariants: the matrix stays symmetric because only one half of it exists; it is made anew when rounding took
//! its definiteness, and it stops growing when nothing new comes in, so an idle series cannot blow it up.

use serde::{Deserialize, Serialize};

use super::features::{COUNT, Features};
use crate::array;

/// Numbers in the upper half of the matrix, its diagonal included.
const HALF: usize = COUNT * (COUNT + 1) / 2;
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
    /// Row by row, each from its diagonal on.
    #[serde(with = "array")]
    uncertainty: [f32; HALF],
    usual_error: f32,
    learnt: u32,
}

impl Default for Regression {
    fn default() -> Self {
        Regression { weights: [0.0; COUNT], uncertainty: diagonal(START), usual_error: 0.0, learnt: 0 }
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
        let gain = self.spread(features);
        let share = 1.0 + dot(&gain, features);
        let mut error = target - self.predict(features);
        if self.learnt > SETTLED {
            let most = LARGEST_SURPRISE * self.usual_error.max(1e-6);
            error = error.clamp(-most, most);
        }
        self.usual_error = crate::number::blend(self.usual_error, error.abs(), self.learnt, ERROR_SPAN);
        self.learnt = self.learnt.saturating_add(1);
        let step = error / share;
        for (weight, gain) in self.weights.iter_mut().zip(&gain) {
            *weight += gain * step;
        }
        self.shrink(&gain, share);
        let sound = self.weights.iter().all(|weight| weight.is_finite());
        if !sound {
            *self = Regression::default();
        }
    }

    /// The matrix times the features.
    fn spread(&self, features: &Features) -> Features {
        let mut product = [0.0; COUNT];
        let mut rest = self.uncertainty.as_slice();
        for at in 0..COUNT {
            let Some((row, below)) = rest.split_at_checked(COUNT.saturating_sub(at)) else { break };
            rest = below;
            let (Some(right), Some(out)) = (features.get(at..), product.get_mut(at..)) else { break };
            let Some(&own) = right.first() else { break };
            let mut sum = 0.0;
            for (cell, feature) in row.iter().zip(right) {
                sum += cell * feature;
            }
            for (cell, out) in row.iter().zip(out.iter_mut()).skip(1) {
                *out += cell * own;
            }
            if let Some(out) = out.first_mut() {
                *out += sum;
            }
        }
        product
    }

    /// Takes out what a sample told, and forgets a little.
    fn shrink(&mut self, gain: &Features, share: f32) {
        let mut rest = self.uncertainty.as_mut_slice();
        let mut total = 0.0;
        let mut definite = true;
        for at in 0..COUNT {
            let Some((row, below)) = rest.split_at_mut_checked(COUNT.saturating_sub(at)) else { break };
            rest = below;
            let Some(right) = gain.get(at..) else { break };
            let own = right.first().copied().unwrap_or(0.0) / share;
            for (cell, gain) in row.iter_mut().zip(right) {
                *cell -= own * gain;
            }
            let diagonal = row.first().copied().unwrap_or(0.0);
            definite &= diagonal > 0.0;
            total += diagonal;
        }
        if !definite || !total.is_finite() {
            self.uncertainty = diagonal(START);
        } else if total < MOST_UNCERTAINTY {
            for cell in &mut self.uncertainty {
                *cell *= 1.0 / KEEP;
            }
        }
    }

    pub(crate) fn is_sound(&self) -> bool {
        self.usual_error.is_finite()
            && self.weights.iter().chain(&self.uncertainty).all(|number| number.abs() <= 1e12)
    }
}

fn diagonal(value: f32) -> [f32; HALF] {
    let mut half = [0.0; HALF];
    let mut next = 0usize;
    let mut length = COUNT;
    for (at, cell) in half.iter_mut().enumerate() {
        if at == next {
            *cell = value;
            next = next.saturating_add(length);
            length = length.saturating_sub(1);
        }
    }
    half
}

fn dot(left: &Features, right: &Features) -> f32 {
    left.iter().zip(right).map(|(left, right)| left * right).sum()
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
    fn half_a_matrix_multiplies_like_a_whole_one() {
        let mut regression = Regression::default();
        for (at, cell) in regression.uncertainty.iter_mut().enumerate() {
            *cell = crate::number::real(crate::number::count(at)) * 0.1 - 2.0;
        }
        let cell = |row: usize, column: usize| {
            let (row, column) = (row.min(column), row.max(column));
            let before: usize = (0..row).map(|row| COUNT - row).sum();
            regression.uncertainty[before + column - row]
        };
        let whole: [Features; COUNT] =
            core::array::from_fn(|row| core::array::from_fn(|column| cell(row, column)));
        let features: Features = [1.0, -2.0, 3.0, 0.5, 0.0, 1.0, 4.0, -1.0, 2.0, 0.1];
        let product = regression.spread(&features);
        for (row, product) in whole.iter().zip(product) {
            assert!((dot(row, &features) - product).abs() < 1e-3);
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
        assert!(regression.uncertainty.iter().all(|cell| cell.abs() <= 2.0 * MOST_UNCERTAINTY));
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
