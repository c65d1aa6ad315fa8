//! What cured which faults.
//!
//! Duty: count cures and failures for each class of fault and rung, and measure how long tries take. Not here: the
//! choice. Invariants: with no evidence every rung has the same chance, so the ladder's own order stands; old evidence
//! fades, so a box that was changed is learnt again.

use serde::{Deserialize, Serialize};

use super::plan::{Chance, Choice, Ladder, Rung};
use crate::{array, number};

/// Tries that were never made but are thought of, for every rung: half of them cured.
const THOUGHT_OF: f32 = 2.0;
const THOUGHT_CURED: f32 = 1.0;
/// What a new try leaves of the old ones: half is gone after some seventy.
const KEEP: f32 = 0.99;
/// Weight of a new try's time in the mean.
const TIME_RATE: f32 = 0.2;
/// Longest try that is believed: a day.
const LONGEST: f32 = 86_400.0;

/// How a try ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    Cured,
    Failed,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Evidence {
    cured: f32,
    failed: f32,
    /// Mean time of a try; 0 is not known yet.
    seconds: f32,
}

/// Evidence for `C` classes of faults and `R` rungs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cures<const C: usize, const R: usize> {
    #[serde(with = "array")]
    classes: [Class<R>; C],
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Class<const R: usize>(#[serde(with = "array")] [Evidence; R]);

impl<const R: usize> Default for Class<R> {
    fn default() -> Self {
        Class([Evidence::default(); R])
    }
}

impl<const C: usize, const R: usize> Default for Cures<C, R> {
    fn default() -> Self {
        Cures { classes: [Class::default(); C] }
    }
}

impl<const C: usize, const R: usize> Cures<C, R> {
    /// A try of a rung ended. What is not a class or a rung changes nothing.
    pub fn tried(&mut self, class: usize, rung: usize, outcome: Outcome, seconds: f32) {
        let Some(evidence) = self.classes.get_mut(class).and_then(|class| class.0.get_mut(rung)) else {
            return;
        };
        evidence.cured *= KEEP;
        evidence.failed *= KEEP;
        match outcome {
            Outcome::Cured => evidence.cured += 1.0,
            Outcome::Failed => evidence.failed += 1.0,
        }
        if let Some(seconds) = number::tame(seconds).filter(|seconds| *seconds > 0.0) {
            let seconds = seconds.min(LONGEST);
            let known = evidence.seconds > 0.0;
            let rate = if known { TIME_RATE } else { 1.0 };
            evidence.seconds += rate * (seconds - evidence.seconds);
        }
    }

    /// How many tries there were against faults of this class; old ones count less.
    pub fn tries(&self, class: usize) -> f32 {
        let count = |evidence: &Evidence| evidence.cured + evidence.failed;
        self.classes.get(class).map_or(0.0, |class| class.0.iter().map(count).sum())
    }

    /// How long a try of this rung takes, whatever it is against; none: it was never tried.
    pub fn takes(&self, rung: usize) -> Option<f32> {
        let known = |class: &Class<R>| class.0.get(rung).map(|evidence| evidence.seconds);
        let known = || self.classes.iter().filter_map(known).filter(|seconds| *seconds > 0.0);
        let (count, sum) = known().fold((0.0, 0.0), |(count, sum), seconds| (count + 1.0, sum + seconds));
        (count > 0.0).then(|| sum / count)
    }

    /// What to try for a fault of this class when the rungs in `tried`, one bit each, did not work. `ladder` says what is
    /// thought of them, and so which comes next without evidence: times are measured with failures in them, which one rung had
    /// and the next may not have had yet, so they are evidence like any other.
    pub fn choose(&self, ladder: &Ladder<R>, class: usize, tried: u8) -> Choice {
        let evidence = self.classes.get(class).copied().unwrap_or_default();
        let mut rungs = ladder.rungs;
        for (place, (rung, evidence)) in rungs.iter_mut().zip(evidence.0).enumerate() {
            let here = Some(evidence.seconds).filter(|seconds| *seconds > 0.0);
            if let Some(seconds) = here.or_else(|| self.takes(place)) {
                *rung = Rung { seconds, ..*rung };
            }
        }
        let usual = ladder.cheapest_left(tried);
        Ladder { rungs, ..*ladder }.choose(usual, tried, &evidence.0.map(Evidence::chance))
    }

    /// Whether restored evidence can be believed.
    pub(crate) fn is_sound(&self) -> bool {
        let sound = |evidence: &Evidence| {
            let counts = [evidence.cured, evidence.failed];
            counts.iter().all(|count| (0.0..=1e3).contains(count))
                && (0.0..=LONGEST).contains(&evidence.seconds)
        };
        self.classes.iter().all(|class| class.0.iter().all(sound))
    }
}

impl Evidence {
    fn chance(self) -> Chance {
        let tries = self.cured + self.failed + THOUGHT_OF;
        let mean = (self.cured + THOUGHT_CURED) / tries;
        Chance { mean, deviation: libm::sqrtf(mean * (1.0 - mean) / (tries + 1.0)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recovery::Basis;

    const LADDER: Ladder<3> = Ladder {
        rungs: [
            Rung { seconds: 1.0, risk: 0.0 },
            Rung { seconds: 2.0, risk: 0.0 },
            Rung { seconds: 3.0, risk: 0.0 },
        ],
        escalation: 300.0,
    };

    #[test]
    fn a_rung_that_never_cures_is_skipped_after_a_few_tries_and_tried_again_when_it_does() {
        let mut cures = Cures::<2, 3>::default();
        assert_eq!(cures.choose(&LADDER, 0, 0).rung, Some(0));
        for _ in 0..20 {
            cures.tried(0, 0, Outcome::Failed, 1.0);
            cures.tried(0, 1, Outcome::Failed, 2.0);
            cures.tried(0, 2, Outcome::Cured, 3.0);
        }
        let choice = cures.choose(&LADDER, 0, 0);
        assert_eq!((choice.rung, choice.basis), (Some(2), Basis::Evidence));
        assert_eq!(cures.choose(&LADDER, 1, 0).rung, Some(0), "other faults are another matter");
        for _ in 0..20 {
            cures.tried(0, 0, Outcome::Cured, 1.0);
        }
        assert_eq!(cures.choose(&LADDER, 0, 0).rung, Some(0));
    }

    #[test]
    fn one_failure_is_no_evidence() {
        let mut cures = Cures::<1, 3>::default();
        cures.tried(0, 0, Outcome::Failed, 0.2);
        cures.tried(0, 1, Outcome::Cured, 1.0);
        assert_eq!(cures.choose(&LADDER, 0, 0).basis, Basis::Ladder);
    }

    #[test]
    fn times_are_measured() {
        let mut cures = Cures::<1, 3>::default();
        for _ in 0..30 {
            cures.tried(0, 0, Outcome::Cured, 9.0);
            cures.tried(0, 1, Outcome::Cured, 1.0);
        }
        let choice = cures.choose(&LADDER, 0, 0);
        assert_eq!(choice.rung, Some(1), "the first rung takes nine seconds here, whatever the ladder says");
    }

    /// A process that nearly always helps at once, and once took long to be seen not to.
    #[test]
    fn one_long_failure_of_what_nearly_always_helps_does_not_bring_another_before_it() {
        let mut cures = Cures::<1, 3>::default();
        for _ in 0..7 {
            cures.tried(0, 0, Outcome::Cured, 0.002);
        }
        // One incident that only the last rung cured.
        cures.tried(0, 0, Outcome::Failed, 5.0);
        cures.tried(0, 1, Outcome::Failed, 5.0);
        cures.tried(0, 2, Outcome::Cured, 0.53);
        let ladder =
            Ladder { rungs: [0.15, 0.3, 1.8].map(|seconds| Rung { seconds, risk: 0.0 }), escalation: 900.0 };
        let choice = cures.choose(&ladder, 0, 0);
        assert_eq!((choice.rung, choice.basis), (Some(0), Basis::Ladder));
    }

    #[test]
    fn times_are_known_of_a_rung_whatever_it_was_tried_against() {
        let mut cures = Cures::<2, 3>::default();
        assert_eq!((cures.takes(1), cures.tries(0)), (None, 0.0));
        cures.tried(0, 1, Outcome::Cured, 9.0);
        cures.tried(1, 1, Outcome::Failed, 1.0);
        assert_eq!((cures.takes(1), cures.takes(0)), (Some(5.0), None));
        assert_eq!((cures.tries(0), cures.tries(7)), (1.0, 0.0));
    }

    #[test]
    fn nonsense_changes_nothing() {
        let mut cures = Cures::<1, 3>::default();
        cures.tried(7, 0, Outcome::Cured, 1.0);
        cures.tried(0, 7, Outcome::Cured, 1.0);
        assert_eq!(cures, Cures::default());
        cures.tried(0, 0, Outcome::Cured, f32::NAN);
        cures.tried(0, 0, Outcome::Cured, f32::INFINITY);
        assert!(cures.is_sound());
        assert_eq!(cures.choose(&LADDER, 9, 0).rung, Some(0));
    }
}
