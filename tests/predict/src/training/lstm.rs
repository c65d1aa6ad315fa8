//! Slopes of the long short-term memory.
//!
//! Duty: what it says with every step remembered, and back through them. Not here: what the weights mean; the network
//! itself says so. Invariant: says what the network says.

use hearth_predictor::neural::{DISTANCES, View};

use super::{add, dot, learn_head};

pub(super) const CELLS: usize = 16;
pub(super) const ROW: usize = 2 + CELLS + 1;
pub(super) const GATES: usize = 4 * CELLS * ROW;

/// What one step of the window came to.
struct Step {
    inputs: [f32; ROW],
    /// In, forget, out and new, after their curves.
    gates: [[f32; CELLS]; 4],
    before: [f32; CELLS],
    curved: [f32; CELLS],
}

pub(super) fn learn(
    weights: &[f32],
    view: &View,
    pull: &mut dyn FnMut([f32; DISTANCES]) -> [f32; DISTANCES],
    gradient: &mut [f32],
) {
    let (gates, last) = weights.split_at(GATES);
    let (mut outputs, mut cells) = ([0.0f32; CELLS], [0.0f32; CELLS]);
    let mut steps = Vec::with_capacity(view.samples.len());
    for sample in &view.samples {
        let mut inputs = [1.0; ROW];
        inputs[..2].copy_from_slice(sample);
        inputs[2..2 + CELLS].copy_from_slice(&outputs);
        let mut step = Step { inputs, gates: [[0.0; CELLS]; 4], before: cells, curved: [0.0; CELLS] };
        for (gate, row) in step.gates.as_flattened_mut().iter_mut().zip(gates.chunks_exact(ROW)) {
            *gate = dot(row, &inputs);
        }
        let [take, keep, give, new] = &mut step.gates;
        for gate in take.iter_mut().chain(keep.iter_mut()).chain(give.iter_mut()) {
            *gate = 1.0 / (1.0 + (-*gate).exp());
        }
        new.iter_mut().for_each(|new| *new = new.tanh());
        for cell in 0..CELLS {
            cells[cell] = keep[cell] * cells[cell] + take[cell] * new[cell];
            step.curved[cell] = cells[cell].tanh();
            outputs[cell] = give[cell] * step.curved[cell];
        }
        steps.push(step);
    }
    let (gate_slopes, head_slopes) = gradient.split_at_mut(GATES);
    let mut output_slopes = learn_head(last, &outputs, view, pull, head_slopes);
    let mut cell_slopes = [0.0; CELLS];
    for step in steps.iter().rev() {
        let [take, keep, give, new] = &step.gates;
        let mut slopes = [[0.0; CELLS]; 4];
        for cell in 0..CELLS {
            let curved = step.curved[cell];
            let slope = cell_slopes[cell] + output_slopes[cell] * give[cell] * (1.0 - curved * curved);
            slopes[0][cell] = slope * new[cell] * take[cell] * (1.0 - take[cell]);
            slopes[1][cell] = slope * step.before[cell] * keep[cell] * (1.0 - keep[cell]);
            slopes[2][cell] = output_slopes[cell] * curved * give[cell] * (1.0 - give[cell]);
            slopes[3][cell] = slope * take[cell] * (1.0 - new[cell] * new[cell]);
            cell_slopes[cell] = slope * keep[cell];
        }
        output_slopes = [0.0; CELLS];
        let rows = gates.chunks_exact(ROW).zip(gate_slopes.chunks_exact_mut(ROW));
        for (&slope, (row, sums)) in slopes.as_flattened().iter().zip(rows) {
            add(sums, slope, &step.inputs);
            add(&mut output_slopes, slope, &row[2..2 + CELLS]);
        }
    }
}
