//! Slopes of the attention.
//!
//! Duty: what it says, and back through it. Not here: what the weights mean; the network itself says so.
//! Invariant: says what the network says.

use hearth_predictor::neural::{DISTANCES, View, WINDOW};

use super::{add, dot, learn_head};

pub(super) const WIDTH: usize = 8;
pub(super) const ROW: usize = 4;
pub(super) const PART: usize = WIDTH * ROW;

pub(super) fn learn(
    weights: &[f32],
    view: &View,
    pull: &mut dyn FnMut([f32; DISTANCES]) -> [f32; DISTANCES],
    gradient: &mut [f32],
) {
    let root = (8.0f32).sqrt();
    let asking = [view.ahead[0], view.ahead[1], view.ahead[2], 1.0];
    let question = rows(&weights[..PART], &asking);
    let mut age = 1.0;
    let tokens: [[f32; ROW]; WINDOW] = std::array::from_fn(|at| {
        age -= 1.0 / 32.0;
        [view.samples[at][0], view.samples[at][1], age, 1.0]
    });
    let keys = tokens.map(|token| rows(&weights[PART..2 * PART], &token));
    let values = tokens.map(|token| rows(&weights[2 * PART..3 * PART], &token));
    let mut shares = keys.map(|key| dot(&key, &question) / root);
    let most = shares.iter().copied().fold(f32::MIN, f32::max);
    shares = shares.map(|share| (share - most).exp());
    let total: f32 = shares.iter().sum();
    shares = shares.map(|share| share / total);
    let mut seen = [0.0; WIDTH];
    for (&share, value) in shares.iter().zip(&values) {
        add(&mut seen, share, value);
    }
    let (parts, last) = gradient.split_at_mut(3 * PART);
    let seen_slopes = learn_head(&weights[3 * PART..], &seen, view, pull, last);
    let share_slopes = values.map(|value| dot(&value, &seen_slopes));
    // A share that grows takes from all others.
    let mean = dot(&share_slopes, &shares);
    let mut question_slopes = [0.0; WIDTH];
    for (at, token) in tokens.iter().enumerate() {
        let score = shares[at] * (share_slopes[at] - mean) / root;
        add(&mut question_slopes, score, &keys[at]);
        for row in 0..WIDTH {
            add(&mut parts[PART + row * ROW..][..ROW], score * question[row], token);
            add(&mut parts[2 * PART + row * ROW..][..ROW], shares[at] * seen_slopes[row], token);
        }
    }
    for (row, slope) in question_slopes.into_iter().enumerate() {
        add(&mut parts[row * ROW..][..ROW], slope, &asking);
    }
}

fn rows(weights: &[f32], inputs: &[f32; ROW]) -> [f32; WIDTH] {
    std::array::from_fn(|row| dot(&weights[row * ROW..][..ROW], inputs))
}
