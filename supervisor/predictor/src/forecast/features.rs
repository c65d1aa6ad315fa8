//! What a forecast is made from.
//!
//! Duty: the numbers that describe a series at one moment, for one distance. Not here: their weights.
//! Invariants: nothing younger than the moment goes in; every feature is a difference from the newest sample in
//! units of the series' usual magnitude, so a series in bytes and one in percent look alike.

use serde::{Deserialize, Serialize};

use crate::{
    number,
    ring::Ring,
    season::Season,
    time::{Cadence, Seconds},
};

/// Features in use.
pub(crate) const COUNT: usize = 10;
/// Spans of the averages, in samples.
const SPANS: [f32; 5] = [3.0, 8.0, 24.0, 72.0, 288.0];
/// No feature is larger: one outlier must not own a regression.
const LARGEST: f32 = 3.0;
/// What stands for the constant. Small, so that a drift is learnt slowly.
const CONSTANT: f32 = 0.1;

pub(crate) type Features = [f32; COUNT];

/// Averages of the newest samples over several spans.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Averages([f32; SPANS.len()]);

impl Averages {
    /// `steps` counts this sample.
    pub(crate) fn take(&mut self, value: f32, steps: u32) {
        for (average, span) in self.0.iter_mut().zip(SPANS) {
            *average = number::blend(*average, value, steps.saturating_sub(1), (span + 1.0) / 2.0);
        }
    }

    pub(crate) fn is_sound(&self) -> bool {
        self.0.iter().all(|average| average.abs() <= number::LARGEST)
    }
}

/// Everything that is known of a series, to be looked at from one moment of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scene<'a> {
    pub(crate) ring: &'a Ring,
    pub(crate) season: &'a Season,
    pub(crate) cadence: Cadence,
    pub(crate) scale: f32,
    pub(crate) steps: u32,
    /// What is usual at the time of the newest sample, looked up once for all distances.
    pub(crate) usual_now: Option<f32>,
}

impl Scene<'_> {
    /// What is usual at another time.
    pub(crate) fn usual(&self, at: Seconds) -> Option<f32> {
        self.season.usual(at, self.cadence)
    }

    /// The features of a forecast made `age` samples ago for `ahead` samples later, with what is usual at the time it
    /// was made and at the time it was made for.
    pub(crate) fn features(
        &self,
        age: u32,
        ahead: u32,
        usual: (Option<f32>, Option<f32>),
        averages: &Averages,
    ) -> Features {
        let newest = self.ring.aged(age).unwrap_or(0.0);
        let per_scale = 1.0 / self.scale;
        let difference = |value: f32| ((value - newest) * per_scale).clamp(-LARGEST, LARGEST);
        let [a, b, c, d, e] = averages.0.map(difference);
        let (shape, growth) = match usual {
            (Some(now), Some(then)) => {
                let ratio = if now.abs() > self.scale * 1e-6 { (then / now).clamp(0.2, 5.0) } else { 1.0 };
                (difference(newest + then - now), difference(newest * ratio))
            }
            _ => (0.0, 0.0),
        };
        let cycles = self.cycles_ahead(ahead);
        let cycle = |more: u32| self.cycle(age, ahead, cycles.saturating_add(more)).map(difference);
        let first = cycle(0).unwrap_or(0.0);
        let second = cycle(1).or(usual.1.map(|then| difference(then) * 0.3)).unwrap_or(0.0);
        let third = cycle(2).unwrap_or(growth);
        [a, b, c, d, e, shape, third, first, second, CONSTANT]
    }

    /// The sample of the same phase, seen from `age` samples ago, in the newest cycle that is over.
    pub(crate) fn same_phase(&self, age: u32, ahead: u32) -> Option<f32> {
        self.cycle(age, ahead, self.cycles_ahead(ahead))
    }

    /// Whole cycles that a distance takes.
    fn cycles_ahead(&self, ahead: u32) -> u32 {
        let day = self.cadence.per_day();
        if ahead <= day { 1 } else { ahead.div_ceil(day) }
    }

    fn cycle(&self, age: u32, ahead: u32, cycles: u32) -> Option<f32> {
        let back = cycles.saturating_mul(self.cadence.per_day()).checked_sub(ahead)?;
        self.ring.aged(age.saturating_add(back))
    }
}
