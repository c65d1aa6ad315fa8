//! One distance: its experts, its forecasts under way, its bound.
//!
//! Duty: make a forecast, keep it until its sample comes, learn from it. Not here: the models.
//! Invariants: at most [`UNDER_WAY`] forecasts wait, however far ahead they look: of a longer distance only every
//! second, fourth ... is kept for scoring; the regression learns from every sample.

use serde::{Deserialize, Serialize};

use super::{
    Forecast,
    bound::Bound,
    features::{Averages, Scene},
    mixture::{Expert, Mixture, Opinions},
    regression::Regression,
    trend::{self, Trend},
};
use crate::{array, number, time::Seconds};

/// Forecasts that wait for their sample. Each is 20 bytes, for each distance of each series.
const UNDER_WAY: usize = 8;
/// Samples that the regression learns before it is asked.
const REGRESSION_READY: u32 = 100;
/// A regression may move a forecast by so many usual moves.
const LARGEST_MOVE: f32 = 5.0;
const MOVE_SPAN: f32 = 50.0;

/// A forecast that waits for its sample. The last value is not kept: the ring has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Waiting {
    season: f32,
    trend: f32,
    regression: f32,
    mixed: f32,
    upper: f32,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Horizon {
    ahead: u16,
    /// Slopes that the distance adds up to.
    slopes: f32,
    benched: bool,
    leader: Expert,
    share: f32,
    expected: f32,
    upper: f32,
    regression: Regression,
    /// The averages as they were when the forecasts were made that are due now.
    averages: Averages,
    /// The usual distance between a sample and the one this far on, in magnitudes.
    usual_move: f32,
    mixture: Mixture,
    bound: Bound,
    #[serde(with = "array")]
    waiting: [Waiting; UNDER_WAY],
}

impl Default for Horizon {
    fn default() -> Self {
        Horizon::new(1)
    }
}

impl Horizon {
    pub(crate) fn new(ahead: u16) -> Horizon {
        Horizon {
            ahead,
            slopes: trend::damped(u32::from(ahead)),
            benched: false,
            leader: Expert::Last,
            share: 0.0,
            expected: 0.0,
            upper: 0.0,
            regression: Regression::default(),
            averages: Averages::default(),
            usual_move: 0.0,
            mixture: Mixture::default(),
            bound: Bound::default(),
            waiting: [Waiting::default(); UNDER_WAY],
        }
    }

    pub(crate) fn newest(&self, scale: f32) -> Forecast {
        let (error, last_error) = self.mixture.long_errors();
        Forecast {
            ahead: self.ahead,
            expected: self.expected,
            upper: self.upper,
            leader: self.leader,
            share: self.share,
            error: error * scale,
            recent_error: self.mixture.recent_error() * scale,
            last_error: last_error * scale,
            benched: self.benched,
        }
    }

    /// What the newest sample says about the forecast that was made for it. Not inlined, nor is [`Horizon::predict`]: the
    /// callers are generic, so they are compiled where they are used, for size, and would take the loops with them.
    #[inline(never)]
    pub(crate) fn learn(&mut self, scene: &Scene, at: Seconds, actual: f32) {
        let ahead = u32::from(self.ahead);
        let Some(origin) = scene.ring.aged(ahead) else { return };
        let made = scene.steps.saturating_sub(ahead);
        self.averages.take(origin, made);
        let usual = (scene.usual(at.before(scene.cadence.times(ahead))), scene.usual_now);
        let features = scene.features(ahead, ahead, usual, &self.averages);
        let moved = ((actual - origin) / scene.scale).clamp(-1e3, 1e3);
        self.usual_move = number::blend(self.usual_move, moved.abs(), self.regression.learnt(), MOVE_SPAN);
        self.regression.learn(&features, moved);
        let Some(waiting) = self.slot(made).and_then(|slot| self.waiting.get(slot)).copied() else { return };
        let per_scale = 1.0 / scene.scale;
        let error = |opinion: f32| (actual - opinion).abs() * per_scale;
        let errors = [origin, waiting.season, waiting.trend, waiting.regression].map(error);
        self.mixture.score(&errors, error(waiting.mixed));
        self.bound.score(if self.benched { origin } else { waiting.mixed }, waiting.upper, actual);
        self.benched = self.mixture.benched();
    }

    #[inline(never)]
    pub(crate) fn predict(
        &mut self,
        scene: &Scene,
        at: Seconds,
        averages: &Averages,
        trend: &Trend,
        least: f32,
    ) {
        let ahead = u32::from(self.ahead);
        let last = scene.ring.aged(0).unwrap_or(0.0);
        let usual = scene.usual(at.after(scene.cadence.times(ahead)));
        let season = scene.same_phase(0, ahead).or(usual).unwrap_or(last);
        let holt_winters = trend.ahead(self.slopes) + usual.unwrap_or(0.0);
        let regression = if self.regression.learnt() > REGRESSION_READY {
            let most = LARGEST_MOVE * self.usual_move;
            let features = scene.features(0, ahead, (scene.usual_now, usual), averages);
            last + self.regression.predict(&features).clamp(-most, most) * scene.scale
        } else {
            last
        };
        let floor = if least >= 0.0 { 0.0 } else { -f32::MAX };
        let opinions: Opinions = [last, season, holt_winters, regression].map(|opinion| opinion.max(floor));
        let consensus = self.mixture.mix(&opinions);
        (self.expected, self.leader, self.share) = if self.benched {
            (last, Expert::Last, 1.0)
        } else {
            (consensus.value, consensus.leader, consensus.share)
        };
        self.upper = self.bound.above(self.expected);
        let [_, season, trend, regression] = opinions;
        let waiting = Waiting { season, trend, regression, mixed: consensus.value, upper: self.upper };
        if let Some(slot) = self.slot(scene.steps).and_then(|slot| self.waiting.get_mut(slot)) {
            *slot = waiting;
        }
    }

    /// Where the forecast made at a step waits, if it is one of those that do.
    fn slot(&self, step: u32) -> Option<usize> {
        let stride = u32::from(self.ahead).div_ceil(number::count(UNDER_WAY)).next_power_of_two();
        let kept = step.trailing_zeros() >= stride.trailing_zeros();
        kept.then(|| number::index(step >> stride.trailing_zeros()) % UNDER_WAY)
    }

    pub(crate) fn forget_recent(&mut self) {
        self.averages = Averages::default();
    }

    pub(crate) fn is_sound(&self) -> bool {
        let numbers = [self.slopes, self.share, self.expected, self.upper, self.usual_move];
        (1..=super::FURTHEST).contains(&self.ahead)
            && numbers.iter().all(|number| number.is_finite())
            && self.regression.is_sound()
            && self.averages.is_sound()
            && self.mixture.is_sound()
            && self.bound.is_sound()
            && self.waiting.iter().all(|waiting| waiting.mixed.is_finite() && waiting.upper.is_finite())
    }
}
