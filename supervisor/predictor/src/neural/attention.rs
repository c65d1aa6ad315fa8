//! One head of attention over the newest samples.
//!
//! Duty: run it over a view. Not here: training. Invariant: shares of attention are positive and add up to one.
//!
//! Weights: the question, eight rows of what is usual at each distance and one; then keys and values, eight rows each of
//! a sample's two numbers, its age in windows, and one; then the last layer.

use super::{DISTANCES, Network, View, WINDOW, head};

const WIDTH: usize = 8;
const ROW: usize = 4;
const PART: usize = WIDTH * ROW;
const WEIGHTS: usize = 3 * PART + DISTANCES * (WIDTH + DISTANCES + 1);
/// The root of the width: products of as many numbers are that much larger than one.
const ROOT: f32 = 2.828_427_2;

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Attention {
    weights: [f32; WEIGHTS],
}

impl Attention {
    pub fn new(weights: [f32; WEIGHTS]) -> Attention {
        Attention { weights }
    }
}

impl Network for Attention {
    const KIND: u8 = 2;
    const WEIGHTS: usize = WEIGHTS;

    fn say(&self, view: &View) -> [f32; DISTANCES] {
        let (asks, rest) = self.weights.split_at_checked(PART).unwrap_or_default();
        let (keys, rest) = rest.split_at_checked(PART).unwrap_or_default();
        let (values, last) = rest.split_at_checked(PART).unwrap_or_default();
        let [a, b, c] = view.ahead;
        let question = rows(asks, [a, b, c, 1.0]);
        let mut ages = [0.0; WINDOW];
        let mut age = 1.0;
        for slot in &mut ages {
            age -= 1.0 / 32.0;
            *slot = age;
        }
        let token = |(&[value, usual], &age): (&[f32; 2], &f32)| [value, usual, age, 1.0];
        let tokens = view.samples.iter().zip(&ages).map(token);
        let mut shares = [0.0; WINDOW];
        let mut most = f32::MIN;
        for (share, token) in shares.iter_mut().zip(tokens.clone()) {
            let key = rows(keys, token);
            *share = key.iter().zip(question).map(|(key, question)| key * question).sum::<f32>() / ROOT;
            most = most.max(*share);
        }
        let mut total = 0.0;
        for share in &mut shares {
            *share = libm::expf(*share - most);
            total += *share;
        }
        let mut seen = [0.0; WIDTH];
        for (share, token) in shares.iter().zip(tokens) {
            for (sum, value) in seen.iter_mut().zip(rows(values, token)) {
                *sum += share / total * value;
            }
        }
        head(last, &seen, view)
    }
}

/// A matrix of eight rows times four numbers.
fn rows(weights: &[f32], inputs: [f32; ROW]) -> [f32; WIDTH] {
    let mut sums = [0.0; WIDTH];
    for (sum, row) in sums.iter_mut().zip(weights.chunks_exact(ROW)) {
        *sum = row.iter().zip(inputs).map(|(weight, input)| weight * input).sum();
    }
    sums
}
