//! Go on with a rollout, wait, or roll back.
//!
//! Duty: weigh what each of the three is expected to cost, from how often the old version failed and how often the new
//! one did. Not here: what a failure is. Invariants: without evidence the answer is to wait; with enough evidence it is
//! one of the other two; a version that never failed is not rolled back.

use core::fmt;

use serde::{Deserialize, Serialize};

use crate::number;

/// Trials of one version, and how many of them failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trials {
    pub all: u32,
    pub failed: u32,
}

impl Trials {
    /// Mean and variance of the chance to fail, with two trials thought of that failed as often as `usual` says.
    fn chance(self, usual: f32) -> (f32, f32) {
        let all = number::real(self.all) + THOUGHT_OF;
        let mean = (number::real(self.failed.min(self.all)) + THOUGHT_OF * usual) / all;
        (mean, mean * (1.0 - mean) / (all + 1.0))
    }
}

/// Trials that were never made but are thought of: a new version is taken for as good as the old one, and little is
/// thought to be known of it.
const THOUGHT_OF: f32 = 2.0;

/// What outcomes cost, in any one unit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stakes {
    /// Going on with a version that is worse.
    pub harm: f32,
    /// Rolling back one that is not.
    pub delay: f32,
    /// One more look.
    pub look: f32,
    /// A version counts as worse if it fails by this much more often, as a share of all trials.
    pub margin: f32,
}

impl Default for Stakes {
    fn default() -> Self {
        Stakes { harm: 100.0, delay: 20.0, look: 0.5, margin: 0.02 }
    }
}

#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Step {
    GoOn,
    Wait,
    RollBack,
}

#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Judgement {
    pub step: Step,
    /// The chance that the new version is worse.
    pub worse: f32,
}

impl fmt::Display for Judgement {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        let step = match self.step {
            Step::GoOn => "go on",
            Step::Wait => "wait",
            Step::RollBack => "roll back",
        };
        write!(formatter, "{step}: worse with a chance of {:.1} %", 100.0 * self.worse)
    }
}

/// Share of the doubt that one more look is expected to leave.
const LEFT_BY_A_LOOK: f32 = 0.8;

pub fn judge(old: Trials, new: Trials, stakes: Stakes) -> Judgement {
    let (old_mean, old_variance) = old.chance(0.05);
    let (new_mean, new_variance) = new.chance(old_mean);
    let margin = if stakes.margin.is_finite() { stakes.margin.clamp(0.0, 1.0) } else { 0.0 };
    let deviation = libm::sqrtf(old_variance + new_variance).max(1e-6);
    // The chance that the difference of two such chances lies above the margin, as if it were a bell curve.
    let away = (new_mean - old_mean - margin) / deviation;
    let worse = 0.5 * libm::erfcf(-away * core::f32::consts::FRAC_1_SQRT_2);
    let cost = |value: f32| if value.is_finite() { value.clamp(0.0, 1e9) } else { 1e9 };
    let go_on = worse * cost(stakes.harm);
    let roll_back = (1.0 - worse) * cost(stakes.delay);
    let wait = cost(stakes.look) + LEFT_BY_A_LOOK * go_on.min(roll_back);
    let step = if wait < go_on.min(roll_back) {
        Step::Wait
    } else if go_on <= roll_back || new.failed == 0 {
        Step::GoOn
    } else {
        Step::RollBack
    };
    Judgement { step, worse }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const OLD: Trials = Trials { all: 1000, failed: 10 };

    #[test]
    fn no_evidence_waits_good_evidence_goes_on_and_bad_rolls_back() {
        let step = |all, failed| judge(OLD, Trials { all, failed }, Stakes::default()).step;
        assert_eq!(step(0, 0), Step::Wait);
        assert_eq!(step(500, 4), Step::GoOn);
        assert_eq!(step(30, 15), Step::RollBack);
        assert_eq!(step(400, 0), Step::GoOn);
    }

    #[test]
    fn a_judgement_reads_like_a_sentence() {
        let judgement = Judgement { step: Step::RollBack, worse: 0.987 };
        assert_eq!(judgement.to_string(), "roll back: worse with a chance of 98.7 %");
    }

    proptest! {
        #[test]
        fn chances_are_chances_and_waiting_ends(
            all in any::<u32>(), failed in any::<u32>(), old in any::<(u32, u32)>(),
            harm in any::<f32>(), delay in any::<f32>(), look in any::<f32>(), margin in any::<f32>(),
        ) {
            let old = Trials { all: old.0, failed: old.1 };
            let judgement = judge(old, Trials { all, failed }, Stakes { harm, delay, look, margin });
            prop_assert!((0.0..=1.0).contains(&judgement.worse));
        }

        #[test]
        fn a_version_that_never_failed_is_not_rolled_back(all in any::<u32>()) {
            prop_assert_ne!(judge(OLD, Trials { all, failed: 0 }, Stakes::default()).step, Step::RollBack);
        }
    }
}
