//! Forecasts of one series at several distances.
//!
//! Duty: take samples in, keep an expert mixture with a calibrated bound for each distance. Not here: what is done
//! about a forecast. Invariants: a forecast that was made is scored only against the sample it was made for; the
//! cost of a sample does not depend on the distances; a gap costs scores, never wrong ones.

mod bound;
mod features;
mod horizon;
mod mixture;
mod regression;
mod trend;

use serde::{Deserialize, Serialize};

pub use mixture::Expert;

use crate::{
    array, number,
    ring::Ring,
    season::Season,
    time::{Cadence, Seconds},
};
use features::{Averages, Scene};
use horizon::Horizon;
use trend::Trend;

/// Missing samples that are filled in with the last one. After more the recent past is forgotten; what was learnt
/// stays.
pub const LONGEST_FILL: u64 = 12;
/// The furthest distance, in samples: features reach back from where a forecast was made, and the ring is a day.
pub const FURTHEST: u16 = 144;
/// Samples over which the usual magnitude of a series is averaged.
const MAGNITUDE_SPAN: f32 = 100.0;

/// What a series of nothing but zeros is measured in.
const LEAST_MAGNITUDE: f32 = 1e-20;

/// Whatever forecasts one series at several distances.
pub trait Foresees {
    /// Takes a sample in.
    fn observe(&mut self, at: Seconds, value: f32);
    /// What is expected at one of its distances. `None` before the first sample.
    fn expected(&self, which: usize) -> Option<f32>;
}

impl<const H: usize> Foresees for Forecaster<H> {
    fn observe(&mut self, at: Seconds, value: f32) {
        Forecaster::observe(self, at, value);
    }

    fn expected(&self, which: usize) -> Option<f32> {
        self.forecast(which).map(|forecast| forecast.expected)
    }
}

/// What one distance looks like from now.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Forecast {
    /// How far ahead, in samples.
    pub ahead: u16,
    pub expected: f32,
    /// 95 of 100 samples lie at or below.
    pub upper: f32,
    /// Who counted most.
    pub leader: Expert,
    /// Its share, 0 to 1.
    pub share: f32,
    /// How far off such forecasts are on average, and how far off the last value would be, in the unit of the series.
    pub error: f32,
    pub last_error: f32,
    /// How far off the best of the experts was of late.
    pub recent_error: f32,
    /// The mixture did worse than the last value for so long that the last value stands in for it.
    pub benched: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Forecaster<const H: usize> {
    cadence: Cadence,
    ring: Ring,
    season: Season,
    averages: Averages,
    trend: Trend,
    #[serde(with = "array")]
    horizons: [Horizon; H],
    last_at: Seconds,
    /// Samples since the recent past was last forgotten.
    steps: u32,
    /// Samples ever, for averages that began long ago.
    seen: u32,
    magnitude: f32,
    /// The least sample so far: a series that was never negative is not forecast to be.
    least: f32,
}

impl<const H: usize> Forecaster<H> {
    /// Distances in samples, each 1 to [`FURTHEST`]; what is beyond is cut.
    pub fn new(cadence: Cadence, ahead: [u16; H]) -> Self {
        Forecaster {
            cadence,
            ring: Ring::new(),
            season: Season::new(cadence),
            averages: Averages::default(),
            trend: Trend::default(),
            horizons: ahead.map(|ahead| Horizon::new(ahead.clamp(1, FURTHEST))),
            last_at: Seconds::default(),
            steps: 0,
            seen: 0,
            magnitude: 0.0,
            least: f32::MAX,
        }
    }

    /// Takes a sample in. One that is no number counts as not having come.
    pub fn observe(&mut self, at: Seconds, value: f32) {
        let Some(value) = number::tame(value) else { return };
        if self.seen > 0 {
            let missing = self.cadence.missing_between(self.last_at, at);
            if missing > LONGEST_FILL {
                self.forget_recent();
            } else if let Some(last) = self.ring.aged(0) {
                for _ in 0..missing {
                    self.step(self.last_at.after(u64::from(self.cadence.seconds())), last);
                }
            }
        }
        self.step(at, value);
    }

    /// What each distance looks like. `None` before the first sample.
    pub fn forecast(&self, which: usize) -> Option<Forecast> {
        self.ring.aged(0)?;
        self.horizons.get(which).map(|horizon| horizon.newest(self.scale()))
    }

    pub fn forecasts(&self) -> [Option<Forecast>; H] {
        let mut all = [None; H];
        for (slot, horizon) in all.iter_mut().zip(&self.horizons) {
            *slot = self.ring.aged(0).map(|_| horizon.newest(self.scale()));
        }
        all
    }

    pub fn cadence(&self) -> Cadence {
        self.cadence
    }

    /// The newest samples, by age.
    pub fn sample(&self, age: u32) -> Option<f32> {
        self.ring.aged(age)
    }

    pub(crate) fn season(&self) -> &Season {
        &self.season
    }

    fn step(&mut self, at: Seconds, value: f32) {
        self.ring.push(value);
        self.steps = self.steps.saturating_add(1);
        self.magnitude = number::blend(self.magnitude, value.abs(), self.seen, MAGNITUDE_SPAN);
        self.least = self.least.min(value);
        self.averages.take(value, self.steps);
        let usual_now = self.season.usual(at, self.cadence);
        self.trend.take(value - usual_now.unwrap_or(0.0), self.steps);
        let (cadence, steps) = (self.cadence, self.steps);
        let scale = self.scale();
        let scene = Scene { ring: &self.ring, season: &self.season, cadence, scale, steps, usual_now };
        for horizon in &mut self.horizons {
            horizon.learn(&scene, at, value);
        }
        // After the horizons learnt: what they were told of the season when they forecast, they are told again.
        self.season.learn(at, value);
        let usual_now = self.season.usual(at, cadence);
        let scene = Scene { ring: &self.ring, season: &self.season, cadence, scale, steps, usual_now };
        for horizon in &mut self.horizons {
            horizon.predict(&scene, at, &self.averages, &self.trend, self.least);
        }
        self.last_at = at;
        self.seen = self.seen.saturating_add(1);
    }

    fn scale(&self) -> f32 {
        self.magnitude.max(LEAST_MAGNITUDE)
    }

    fn forget_recent(&mut self) {
        self.ring.forget();
        self.steps = 0;
        self.averages = Averages::default();
        self.trend = Trend::default();
        for horizon in &mut self.horizons {
            horizon.forget_recent();
        }
    }

    /// Whether a restored forecaster can be believed.
    pub(crate) fn is_sound(&self) -> bool {
        self.ring.is_sound()
            && self.season.is_sound(self.cadence)
            && self.averages.is_sound()
            && self.trend.is_sound()
            && self.magnitude.is_finite()
            && self.magnitude >= 0.0
            && !self.least.is_nan()
            && self.horizons.iter().all(Horizon::is_sound)
    }
}
