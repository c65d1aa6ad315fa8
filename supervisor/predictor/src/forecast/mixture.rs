//! Who is believed, and how much.
//!
//! Duty: weigh experts by how wrong they were of late; bench the whole when it does worse than the last value.
//! Not here: the experts. Invariants: weights are not negative and add up to one; a bench is left only after doing
//! better than the last value again, for as long as it took to get there.
//!
//! ```text
//!            worse than last for PATIENCE scores
//!   playing ------------------------------------> benched
//!      ^                                             |
//!      +---------------------------------------------+
//!            better than last for PATIENCE scores
//! ```

use core::fmt;

use serde::{Deserialize, Serialize};

use crate::number;

/// Who forecasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Expert {
    /// It stays as it is.
    Last,
    /// It is as it was a day ago.
    Season,
    /// Level, slope and season.
    Trend,
    /// Least squares on the recent past and the calendar.
    Regression,
}

impl Expert {
    pub const ALL: [Expert; 4] = [Expert::Last, Expert::Season, Expert::Trend, Expert::Regression];
}

impl fmt::Display for Expert {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str(match self {
            Expert::Last => "last value",
            Expert::Season => "same time yesterday",
            Expert::Trend => "trend and season",
            Expert::Regression => "regression",
        })
    }
}

/// What each expert says, in the order of [`Expert::ALL`].
pub(crate) type Opinions = [f32; Expert::ALL.len()];

/// Scores over which an error is averaged for the weights.
const RECENT: f32 = 60.0;
/// Scores over which the mixture is compared with the last value.
const LONG: f32 = 2000.0;
/// How fast belief falls with error: an expert whose error is a tenth above the best's counts a third of it.
const SHARPNESS: f32 = 12.0;
/// Scores in a row that bench and unbench.
const PATIENCE: u16 = 500;
/// Worse and better, with a dead band between.
const WORSE: f32 = 1.02;
const BETTER: f32 = 0.99;

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Mixture {
    /// Recent mean error of each expert, in units of the series' magnitude.
    errors: Opinions,
    /// Long mean errors of the mixture and of the last value.
    mixed_error: f32,
    last_error: f32,
    scored: u32,
    /// Scores in a row that speak for a change.
    doubt: u16,
    benched: bool,
}

/// What experts come to together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Consensus {
    pub(crate) value: f32,
    pub(crate) leader: Expert,
    pub(crate) share: f32,
}

impl Mixture {
    pub(crate) fn mix(&self, opinions: &Opinions) -> Consensus {
        let best = self.errors.iter().copied().fold(f32::MAX, f32::min).max(1e-9);
        let sharpness = SHARPNESS / best;
        let weights = self.errors.map(|error| belief((error - best) * sharpness));
        let total: f32 = weights.iter().sum();
        let value =
            weights.iter().zip(opinions).map(|(weight, opinion)| weight * opinion).sum::<f32>() / total;
        let mut leader = (Expert::Last, 0.0);
        for (expert, weight) in Expert::ALL.into_iter().zip(weights) {
            if weight > leader.1 {
                leader = (expert, weight);
            }
        }
        Consensus { value, leader: leader.0, share: leader.1 / total }
    }

    /// Takes in how opinions turned out: their errors in units of the series' magnitude, and the mixture's.
    pub(crate) fn score(&mut self, errors: &Opinions, mixed: f32) {
        for (mean, error) in self.errors.iter_mut().zip(errors) {
            *mean = number::blend(*mean, error.min(ERROR_LIMIT), self.scored, RECENT);
        }
        let [last, ..] = *errors;
        self.mixed_error = number::blend(self.mixed_error, mixed.min(ERROR_LIMIT), self.scored, LONG);
        self.last_error = number::blend(self.last_error, last.min(ERROR_LIMIT), self.scored, LONG);
        self.scored = self.scored.saturating_add(1);
        let speaks_for_change = if self.benched {
            self.mixed_error < self.last_error * BETTER
        } else {
            self.mixed_error > self.last_error * WORSE
        };
        self.doubt = if speaks_for_change { self.doubt.saturating_add(1) } else { 0 };
        if self.doubt >= PATIENCE {
            self.benched = !self.benched;
            self.doubt = 0;
        }
    }

    pub(crate) fn benched(&self) -> bool {
        self.benched
    }

    /// Long mean errors of the mixture and of the last value, in units of the series' magnitude.
    pub(crate) fn long_errors(&self) -> (f32, f32) {
        (self.mixed_error, self.last_error)
    }

    /// The recent mean error of the best expert, in units of the series' magnitude.
    pub(crate) fn recent_error(&self) -> f32 {
        self.errors.iter().copied().fold(f32::MAX, f32::min)
    }

    pub(crate) fn is_sound(&self) -> bool {
        let known = [self.mixed_error, self.last_error];
        self.errors.iter().chain(&known).all(|error| (0.0..=ERROR_LIMIT).contains(error))
    }
}

/// e to the minus of what is not negative, nearly: (1 - x/64)^64 takes six products, and is nothing from 64 on.
fn belief(behind: f32) -> f32 {
    let mut power = (1.0 - behind.max(0.0) * (1.0 / 64.0)).max(0.0);
    for _ in 0..6 {
        power *= power;
    }
    power
}

/// Errors count as at most so many magnitudes: what is further out is as wrong as can be.
const ERROR_LIMIT: f32 = 1e3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_right_leads() {
        let mut mixture = Mixture::default();
        for _ in 0..200 {
            mixture.score(&[0.5, 0.1, 0.4, 0.3], 0.2);
        }
        let consensus = mixture.mix(&[1.0, 2.0, 3.0, 4.0]);
        assert_eq!(consensus.leader, Expert::Season);
        assert!(consensus.share > 0.99 && (consensus.value - 2.0).abs() < 0.01);
    }

    #[test]
    fn a_mixture_that_is_worse_than_the_last_value_is_benched_and_comes_back_when_it_is_better() {
        let mut mixture = Mixture::default();
        for _ in 0..PATIENCE {
            assert!(!mixture.benched());
            mixture.score(&[0.1; 4], 0.2);
        }
        assert!(mixture.benched());
        let mut scores = 0;
        while mixture.benched() {
            mixture.score(&[0.2; 4], 0.1);
            scores += 1;
            assert!(scores < 3000, "a bench must be left");
        }
        assert!(scores > PATIENCE, "{scores}");
    }

    #[test]
    fn belief_falls_as_an_exponential_does() {
        for behind in [-1.0f32, 0.0, 0.5, 1.0, 3.0] {
            assert!((belief(behind) - (-behind.max(0.0)).exp()).abs() < 0.01);
        }
        assert_eq!((belief(64.0), belief(1e30), belief(f32::INFINITY)), (0.0, 0.0, 0.0));
    }

    #[test]
    fn experts_that_are_all_perfect_share_evenly() {
        let consensus = Mixture::default().mix(&[1.0; 4]);
        assert!((consensus.value - 1.0).abs() < 1e-6 && (consensus.share - 0.25).abs() < 1e-6);
    }
}
