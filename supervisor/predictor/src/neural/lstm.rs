//! A long short-term memory of sixteen cells.
//!
//! Duty: run it over a view. Not here: training. Invariant: it begins with an empty memory at every view, so it costs the
//! same each time and nothing has to be saved.
//!
//! Weights: for each gate (in, forget, out, new) and cell a row of the sample's two numbers, the sixteen outputs of the
//! step before, and one; then the last layer.

use super::{DISTANCES, Network, View, head};

const CELLS: usize = 16;
const ROW: usize = 2 + CELLS + 1;
const GATES: usize = 4 * CELLS * ROW;
const WEIGHTS: usize = GATES + DISTANCES * (CELLS + DISTANCES + 1);

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lstm {
    weights: [f32; WEIGHTS],
}

impl Lstm {
    pub fn new(weights: [f32; WEIGHTS]) -> Lstm {
        Lstm { weights }
    }
}

impl Network for Lstm {
    const KIND: u8 = 1;
    const WEIGHTS: usize = WEIGHTS;

    fn say(&self, view: &View) -> [f32; DISTANCES] {
        let (gates, last) = self.weights.split_at_checked(GATES).unwrap_or_default();
        let (mut outputs, mut cells) = ([0.0; CELLS], [0.0; CELLS]);
        for sample in &view.samples {
            let inputs = sample.iter().chain(&outputs).chain(&[1.0]);
            let mut sums = [[0.0; CELLS]; 4];
            for (sum, row) in sums.as_flattened_mut().iter_mut().zip(gates.chunks_exact(ROW)) {
                *sum = row.iter().zip(inputs.clone()).map(|(weight, input)| weight * input).sum();
            }
            let [take, keep, give, new] = sums;
            let gates = take.iter().zip(keep).zip(give).zip(new);
            for ((cell, output), (((take, keep), give), new)) in cells.iter_mut().zip(&mut outputs).zip(gates)
            {
                *cell = sigmoid(keep) * *cell + sigmoid(*take) * libm::tanhf(new);
                *output = sigmoid(give) * libm::tanhf(*cell);
            }
        }
        head(last, &outputs, view)
    }
}

fn sigmoid(value: f32) -> f32 {
    1.0 / (1.0 + libm::expf(-value))
}
