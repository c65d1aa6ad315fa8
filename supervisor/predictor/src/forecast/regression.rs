//! Least squares that learn one sample at a time.
//!
//! Duty: weights for a fixed set of features, and how sure they are. Not here: what the features are.
//! Invariants: the matrix is symmetric, as only one half of it is there; it is made anew when rounding took its
//! definiteness, and it stops growing when nothing new comes in, so an idle series cannot blow it up.

use serde::{Deserialize, Serialize};

use super::features::{COUNT, Features};
use crate::{array, number};

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

/// Cells on and right of a matrix' diagonal.
const CELLS: usize = COUNT * (COUNT + 1) / 2;

/// The right upper half of a symmetric matrix, row by row: each begins on the diagonal.
type Half = [f32; CELLS];

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Regression {
    weights: Features,
    #[serde(with = "array")]
    uncertainty: Half,
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
        let gain = times(&self.uncertainty, features);
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
        each_row(&mut self.uncertainty, |at, row| {
            let own = told.get(at).copied().unwrap_or(0.0);
            let left = row.first().map_or(0.0, |diagonal| diagonal - own * own);
            definite &= left > 0.0;
            total += left;
        });
        if !definite || !total.is_finite() {
            self.uncertainty = diagonal();
            return;
        }
        let grown = if total < MOST_UNCERTAINTY { 1.0 / KEEP } else { 1.0 };
        each_row(&mut self.uncertainty, |at, row| {
            let from = told.get(at..).unwrap_or_default();
            let own = from.first().copied().unwrap_or(0.0);
            for (cell, other) in row.iter_mut().zip(from) {
                *cell = (*cell - own * other) * grown;
            }
        });
    }

    pub(crate) fn is_sound(&self) -> bool {
        self.usual_error.is_finite()
            && self.weights.iter().chain(&self.uncertainty).all(|number| number.abs() <= 1e12)
    }
}

fn each_row(half: &mut Half, mut work: impl FnMut(usize, &mut [f32])) {
    let mut rest = half.as_mut_slice();
    for at in 0..COUNT {
        let Some((row, below)) = rest.split_at_mut_checked(COUNT.saturating_sub(at)) else { return };
        work(at, row);
        rest = below;
    }
}

/// The whole matrix times the features: a cell counts for its own row and, as its mirror image, for another.
fn times(half: &Half, features: &Features) -> Features {
    let mut product = [0.0; COUNT];
    let mut rest = half.as_slice();
    for at in 0..COUNT {
        let Some((row, below)) = rest.split_at_checked(COUNT.saturating_sub(at)) else { break };
        rest = below;
        let (Some(sums), Some([own, others @ ..])) = (product.get_mut(at..), features.get(at..)) else {
            break;
        };
        let (Some((sum, sums)), Some((diagonal, row))) = (sums.split_first_mut(), row.split_first()) else {
            break;
        };
        let mut mine = *sum + diagonal * own;
        for ((cell, other), theirs) in row.iter().zip(others).zip(sums) {
            mine += cell * other;
            *theirs += cell * own;
        }
        *sum = mine;
    }
    product
}

fn diagonal() -> Half {
    let mut half = [0.0; CELLS];
    each_row(&mut half, |_, row| {
        if let Some(diagonal) = row.first_mut() {
            *diagonal = START;
        }
    });
    half
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
    fn half_a_matrix_multiplies_like_the_whole() {
        let mut state = 11;
        let half: Half = core::array::from_fn(|_| noise(&mut state));
        let features: Features = core::array::from_fn(|_| noise(&mut state));
        let cell = |row: usize, column: usize| {
            let (row, column) = (row.min(column), row.max(column));
            half[(0..row).map(|above| COUNT - above).sum::<usize>() + column - row]
        };
        for (row, product) in times(&half, &features).into_iter().enumerate() {
            let whole: f32 = (0..COUNT).map(|column| cell(row, column) * features[column]).sum();
            assert!((product - whole).abs() < 1e-5, "row {row}: {product} should be {whole}");
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
