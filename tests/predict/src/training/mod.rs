//! Trains the small networks that the mixture is measured against.
//!
//! Duty: examples from the first rows of a series, and weights that answer them with little error. Not here: what the
//! networks are, and files. Invariants: nothing is learnt from rows after the share for training; the same rows and
//! network give the same weights, to the last bit.

mod attention;
mod lstm;

use hearth_predictor::{
    Cadence,
    forecast::Foresees,
    neural::{self, Attention, DISTANCES, Lstm, Network, Neural, View},
};

use crate::{anomalies::narrow, dataset::Row, dice::Dice};

/// Examples that are learnt from, spread evenly, and how often each is.
const EXAMPLES: usize = 20_000;
const ROUNDS: usize = 10;
/// Examples between two steps.
const BATCH: usize = 32;
/// Length of the first step; steps become shorter to the end.
const STEP: f32 = 0.006;
/// Errors beyond this many units count by their magnitude, below by their square.
const SMALL: f32 = 0.5;
/// Longest gradient.
const LONGEST: f32 = 2.0;

/// A network that can be trained.
pub(crate) trait Trained: Network {
    const NAME: &'static str;

    fn with(weights: &[f32]) -> Option<Self>
    where
        Self: Sized;

    /// Numbers that a weight is added up with, for the size of the first weights; `None` in the last layer, which begins
    /// with nothing, so the first thing that a network says is the last value.
    fn fan_in(weight: usize) -> Option<usize>;

    /// What the network says, and adds to `gradient` how each weight would change it: `pull` is asked how what was said
    /// should change.
    fn learn(
        weights: &[f32],
        view: &View,
        pull: &mut dyn FnMut([f32; DISTANCES]) -> [f32; DISTANCES],
        gradient: &mut [f32],
    );
}

/// One view, and how it went on.
struct Example {
    view: View,
    target: [f32; DISTANCES],
}

/// The file of weights for a series.
pub(crate) fn train<N: Trained>(rows: &[Row], cadence: Cadence, ahead: [u16; DISTANCES]) -> Vec<u8> {
    let mut dice = Dice::new(20_260_101);
    let examples = examples(rows, cadence, ahead);
    let mut first = |weight| {
        N::fan_in(weight).map_or(0.0, |all| narrow((2.0 * dice.even() - 1.0) / f64::from(count(all)).sqrt()))
    };
    let mut weights: Vec<f32> = (0..N::WEIGHTS).map(&mut first).collect();
    let mut order: Vec<usize> = (0..examples.len()).collect();
    let steps = examples.len().div_ceil(BATCH) * ROUNDS;
    let mut adam = Adam::new(weights.len());
    for _ in 0..ROUNDS {
        dice.shuffle(&mut order);
        for batch in order.chunks(BATCH) {
            let mut gradient = vec![0.0; weights.len()];
            for &example in batch {
                let Example { view, target } = &examples[example];
                let mut pull = |said: [f32; DISTANCES]| pull(said, *target);
                N::learn(&weights, view, &mut pull, &mut gradient);
            }
            let left = 1.0 - narrow(f64::from(adam.taken)) / narrow(f64::from(count(steps)));
            adam.step(&mut weights, &gradient, STEP * left.max(0.02));
        }
    }
    let mut file = vec![0; neural::file_size(weights.len())];
    // The buffer has the size that was asked for.
    let _ = neural::write(N::KIND, &weights, &mut file);
    file
}

fn examples(rows: &[Row], cadence: Cadence, ahead: [u16; DISTANCES]) -> Vec<Example> {
    let furthest = usize::from(ahead.into_iter().max().unwrap_or(1));
    let last = rows.len().saturating_sub(furthest);
    // The first week only teaches what is usual.
    let first = 7 * 86_400 / usize::try_from(cadence.seconds()).unwrap_or(1);
    let every = last.saturating_sub(first).div_ceil(EXAMPLES).max(1);
    let mut seen = Neural::new(Blank, cadence, ahead);
    let mut examples = Vec::new();
    for (index, row) in rows.iter().enumerate().take(last) {
        seen.observe(row.at, narrow(row.value));
        if index < first || index % every != 0 {
            continue;
        }
        let Some(view) = seen.view() else { continue };
        let target = ahead.map(|ahead| {
            let then = narrow(rows[index + usize::from(ahead)].value);
            ((then - view.last) / view.unit).clamp(-50.0, 50.0)
        });
        examples.push(Example { view, target });
    }
    examples
}

/// How what was said should change: towards the target, by the error's sign where it is large.
fn pull(said: [f32; DISTANCES], target: [f32; DISTANCES]) -> [f32; DISTANCES] {
    std::array::from_fn(|at| ((said[at] - target[at]) / SMALL).clamp(-1.0, 1.0))
}

/// Looks only.
struct Blank;

impl Network for Blank {
    const KIND: u8 = 0;
    const WEIGHTS: usize = 0;

    fn say(&self, _view: &View) -> [f32; DISTANCES] {
        [0.0; DISTANCES]
    }
}

/// Steps of a length of their own for each weight, by how its gradient was of late.
struct Adam {
    mean: Vec<f32>,
    square: Vec<f32>,
    taken: u32,
}

impl Adam {
    fn new(weights: usize) -> Adam {
        Adam { mean: vec![0.0; weights], square: vec![0.0; weights], taken: 0 }
    }

    fn step(&mut self, weights: &mut [f32], gradient: &[f32], length: f32) {
        const MEAN: f32 = 0.9;
        const SQUARE: f32 = 0.999;
        self.taken += 1;
        let size = gradient.iter().map(|slope| slope * slope).sum::<f32>().sqrt() / 32.0;
        let shorter = (LONGEST / size.max(1e-9)).min(1.0) / 32.0;
        let taken = i32::try_from(self.taken).unwrap_or(i32::MAX);
        let (young_mean, young_square) = (1.0 - MEAN.powi(taken), 1.0 - SQUARE.powi(taken));
        let state = self.mean.iter_mut().zip(&mut self.square);
        for ((weight, slope), (mean, square)) in weights.iter_mut().zip(gradient).zip(state) {
            let slope = slope * shorter;
            *mean = MEAN * *mean + (1.0 - MEAN) * slope;
            *square = SQUARE * *square + (1.0 - SQUARE) * slope * slope;
            *weight -= length * (*mean / young_mean) / ((*square / young_square).sqrt() + 1e-6);
        }
    }
}

/// The last layer: what it says, and the slopes of its weights and of the hidden numbers.
fn learn_head<const HIDDEN: usize>(
    weights: &[f32],
    hidden: &[f32; HIDDEN],
    view: &View,
    pull: &mut dyn FnMut([f32; DISTANCES]) -> [f32; DISTANCES],
    gradient: &mut [f32],
) -> [f32; HIDDEN] {
    let row = HIDDEN + DISTANCES + 1;
    let inputs: Vec<f32> = hidden.iter().chain(&view.ahead).chain(&[1.0]).copied().collect();
    let said = std::array::from_fn(|at| dot(&weights[at * row..][..row], &inputs));
    let mut slopes = [0.0; HIDDEN];
    for (at, slope) in pull(said).into_iter().enumerate() {
        add(&mut gradient[at * row..][..row], slope, &inputs);
        add(&mut slopes, slope, &weights[at * row..][..HIDDEN]);
    }
    slopes
}

fn dot(left: &[f32], right: &[f32]) -> f32 {
    left.iter().zip(right).map(|(left, right)| left * right).sum()
}

fn add(sums: &mut [f32], factor: f32, numbers: &[f32]) {
    for (sum, number) in sums.iter_mut().zip(numbers) {
        *sum += factor * number;
    }
}

fn count(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

impl Trained for Lstm {
    const NAME: &'static str = "lstm";

    fn with(weights: &[f32]) -> Option<Self> {
        weights.try_into().ok().map(Lstm::new)
    }

    fn fan_in(weight: usize) -> Option<usize> {
        (weight < lstm::GATES).then_some(lstm::ROW)
    }

    fn learn(
        weights: &[f32],
        view: &View,
        pull: &mut dyn FnMut([f32; DISTANCES]) -> [f32; DISTANCES],
        gradient: &mut [f32],
    ) {
        lstm::learn(weights, view, pull, gradient);
    }
}

impl Trained for Attention {
    const NAME: &'static str = "attention";

    fn with(weights: &[f32]) -> Option<Self> {
        weights.try_into().ok().map(Attention::new)
    }

    fn fan_in(weight: usize) -> Option<usize> {
        (weight < 3 * attention::PART).then_some(attention::ROW)
    }

    fn learn(
        weights: &[f32],
        view: &View,
        pull: &mut dyn FnMut([f32; DISTANCES]) -> [f32; DISTANCES],
        gradient: &mut [f32],
    ) {
        attention::learn(weights, view, pull, gradient);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hearth_predictor::{Seconds, neural::WINDOW};

    fn thrown(seed: u64) -> (View, impl FnMut() -> f32) {
        let mut dice = Dice::new(seed);
        let mut number = move || narrow(2.0 * dice.even() - 1.0);
        let mut samples = [[0.0; 2]; WINDOW];
        samples.as_flattened_mut().fill_with(&mut number);
        let ahead = [number(), number(), number()];
        (View { samples, ahead, last: 5.0, unit: 1.0 }, number)
    }

    fn slopes_are_right<N: Trained>() {
        let (view, mut number) = thrown(3);
        let weights: Vec<f32> = (0..N::WEIGHTS).map(|_| 0.5 * number()).collect();
        let wanted = [0.3, -0.7, 0.5];
        let mut gradient = vec![0.0; N::WEIGHTS];
        let mut heard = [0.0; DISTANCES];
        let mut pull = |said| {
            heard = said;
            wanted
        };
        N::learn(&weights, &view, &mut pull, &mut gradient);
        let say = |weights: &[f32]| N::with(weights).expect("as many as it has").say(&view);
        for (heard, said) in heard.into_iter().zip(say(&weights)) {
            assert!((heard - said).abs() < 1e-5, "trainer and network say different things: {heard}, {said}");
        }
        for weight in (0..N::WEIGHTS).step_by(3) {
            let moved = |by: f32| {
                let mut weights = weights.clone();
                weights[weight] += by;
                f64::from(dot(&say(&weights), &wanted))
            };
            let slope = (moved(0.01) - moved(-0.01)) / 0.02;
            let learnt = f64::from(gradient[weight]);
            assert!(
                (slope - learnt).abs() < 2e-3 + 0.02 * slope.abs(),
                "{weight}: {learnt} should be {slope}"
            );
        }
    }

    #[test]
    fn the_slopes_of_the_lstm_are_those_of_what_it_says() {
        slopes_are_right::<Lstm>();
    }

    #[test]
    fn the_slopes_of_the_attention_are_those_of_what_it_says() {
        slopes_are_right::<Attention>();
    }

    #[test]
    fn a_trained_network_beats_the_last_value_on_a_wave() {
        let wave = |sample: u32| 100.0 + 40.0 * (f64::from(sample) * std::f64::consts::TAU / 16.0).sin();
        let rows: Vec<Row> = (0..1500u32)
            .map(|sample| Row { at: Seconds(u64::from(sample) * 3600), value: wave(sample) })
            .collect();
        let cadence = Cadence::every(3600);
        let file = train::<Attention>(&rows, cadence, [1, 2, 4]);
        let weights: Vec<f32> =
            neural::read::<{ Attention::WEIGHTS }>(Attention::KIND, &file).expect("sound").into();
        let mut trained = Neural::new(Attention::with(&weights).expect("as many"), cadence, [1, 2, 4]);
        let (mut ours, mut last) = (0.0, 0.0);
        for (sample, row) in (0u32..).zip(&rows) {
            trained.observe(row.at, narrow(row.value));
            if sample > 500 {
                let then = wave(sample + 4);
                ours += (f64::from(trained.expected(2).expect("a sample came")) - then).abs();
                last += (row.value - then).abs();
            }
        }
        assert!(ours < 0.5 * last, "{ours} should be less than half of {last}");
    }
}
