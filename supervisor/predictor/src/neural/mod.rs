//! Small networks, to be measured beside the mixture: ablations, in no daemon.
//!
//! Duty: what a network sees of a series, and forecasts from what it says. Not here: training. Invariants: weights come
//! from a checked file and never change; what goes in is differences from the newest sample in units of the series' own
//! steps, as in training; the last value stands in until a whole window is there.

#[cfg(feature = "attention")]
mod attention;
#[cfg(feature = "lstm")]
mod lstm;
mod weights;

#[cfg(feature = "attention")]
pub use attention::Attention;
#[cfg(feature = "lstm")]
pub use lstm::Lstm;
pub use weights::{WeightsFault, file_size, read, write};

use crate::{
    forecast::Foresees,
    number,
    ring::Ring,
    season::Season,
    time::{Cadence, Seconds},
};

/// Samples that a network looks at.
pub const WINDOW: usize = 32;
/// Distances that a network forecasts at once.
pub const DISTANCES: usize = 3;
/// Samples over which the usual step is averaged.
const STEP_SPAN: f32 = 200.0;
/// No input is larger: what is further out is as far as can be.
const LARGEST: f32 = 20.0;

/// What a network sees.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct View {
    /// The newest samples, the oldest first: each one's value and what is usual at its time.
    pub samples: [[f32; 2]; WINDOW],
    /// What is usual at each distance.
    pub ahead: [f32; DISTANCES],
    /// The newest sample, and the unit of everything else.
    pub last: f32,
    pub unit: f32,
}

/// A network with a fixed number of weights.
pub trait Network {
    /// Tells the networks apart in files.
    const KIND: u8;
    const WEIGHTS: usize;

    /// What it says about each distance, in the view's unit and from its newest sample.
    fn say(&self, view: &View) -> [f32; DISTANCES];
}

/// A series as a network sees it.
#[derive(Clone, Debug)]
pub struct Neural<N> {
    network: N,
    cadence: Cadence,
    ahead: [u16; DISTANCES],
    ring: Ring,
    season: Season,
    last_at: Seconds,
    unit: f32,
    seen: u32,
}

impl<N: Network> Neural<N> {
    pub fn new(network: N, cadence: Cadence, ahead: [u16; DISTANCES]) -> Self {
        Neural {
            network,
            cadence,
            ahead,
            ring: Ring::new(),
            season: Season::new(cadence),
            last_at: Seconds::default(),
            unit: 0.0,
            seen: 0,
        }
    }

    /// `None` before there is a whole window.
    pub fn view(&self) -> Option<View> {
        let last = self.ring.aged(0)?;
        let unit = self.unit.max(last.abs() * 1e-4).max(1e-20);
        let apart = |value: f32| ((value - last) / unit).clamp(-LARGEST, LARGEST);
        let usual = |at: Seconds| self.season.usual(at, self.cadence).map_or(0.0, apart);
        let mut samples = [[0.0; 2]; WINDOW];
        for (sample, age) in samples.iter_mut().rev().zip(0u32..) {
            let at = self.last_at.before(self.cadence.times(age));
            *sample = [apart(self.ring.aged(age)?), usual(at)];
        }
        let ahead = self.ahead.map(|ahead| usual(self.last_at.after(self.cadence.times(u32::from(ahead)))));
        Some(View { samples, ahead, last, unit })
    }
}

impl<N: Network> Foresees for Neural<N> {
    fn observe(&mut self, at: Seconds, value: f32) {
        let Some(value) = number::tame(value) else { return };
        let step = self.ring.aged(0).map_or(0.0, |last| (value - last).abs());
        self.unit = number::blend(self.unit, step, self.seen, STEP_SPAN);
        self.seen = self.seen.saturating_add(1);
        self.ring.push(value);
        self.season.learn(at, value);
        self.last_at = at;
    }

    fn expected(&self, which: usize) -> Option<f32> {
        let last = self.ring.aged(0)?;
        let Some(view) = self.view() else { return Some(last) };
        let said = self.network.say(&view).get(which).copied()?;
        number::tame(view.last + said * view.unit)
    }
}

/// The last layer: what a network made of the samples, what is usual ahead, and one.
fn head<const HIDDEN: usize>(weights: &[f32], hidden: &[f32; HIDDEN], view: &View) -> [f32; DISTANCES] {
    let mut said = [0.0; DISTANCES];
    let inputs = hidden.iter().chain(&view.ahead).chain(&[1.0]);
    for (said, row) in said.iter_mut().zip(weights.chunks_exact(HIDDEN.saturating_add(DISTANCES + 1))) {
        *said = row.iter().zip(inputs.clone()).map(|(weight, input)| weight * input).sum();
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Says what is usual ahead.
    struct Usual;

    impl Network for Usual {
        const KIND: u8 = 99;
        const WEIGHTS: usize = 0;

        fn say(&self, view: &View) -> [f32; DISTANCES] {
            view.ahead
        }
    }

    #[test]
    fn a_view_is_the_same_for_a_series_in_bytes_and_one_in_kilobytes() {
        let view = |factor: f32| {
            let mut neural = Neural::new(Usual, Cadence::every(300), [1, 3, 12]);
            for sample in 0..900u16 {
                let value = f32::from(sample % 288) + f32::from(sample % 7);
                neural.observe(Seconds(u64::from(sample) * 300), value * factor);
            }
            neural.view().expect("a window is there")
        };
        let (bytes, kilobytes) = (view(1024.0), view(1.0));
        assert_eq!((bytes.samples, bytes.ahead), (kilobytes.samples, kilobytes.ahead));
        assert_eq!(bytes.samples[WINDOW - 1][0], 0.0);
    }

    #[test]
    fn the_last_value_stands_in_until_a_window_is_there() {
        let mut neural = Neural::new(Usual, Cadence::every(300), [1, 3, 12]);
        assert_eq!(neural.expected(0), None);
        for sample in 0..31u16 {
            neural.observe(Seconds(u64::from(sample) * 300), f32::from(sample));
            assert_eq!(neural.expected(2), Some(f32::from(sample)));
        }
        neural.observe(Seconds(31 * 300), f32::NAN);
        assert_eq!(neural.view(), None);
    }
}
