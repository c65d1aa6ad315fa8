//! Means of healing in the order of what cured before.
//!
//! ```text
//! what was learnt of such faults --> each harmless means once, best first --> the ladder, with the tries that are left
//! ```
//!
//! Duty: what whoever learns expects of each means, for faults of one source, and the next means by it. Not here: the
//! learning (`hearth-foresight`), the ladder itself (`policy`).
//! Invariants: only what the case allows is chosen, and each means once in an incident; what loses data or a version is
//! never chosen here, so it comes after all that loses nothing had its tries, whatever was learnt.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::fault::Source;
use crate::policy::{Case, Rung};

/// What is expected of a means in faults of one source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expectation {
    pub rung: Rung,
    /// Of a thousand tries, so many cure.
    pub chance_milli: u16,
    /// How long a try takes.
    pub takes_ms: u32,
    /// Until it is cured, if this is tried now and what stands behind it after that.
    pub expected_ms: u32,
}

/// Best first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ranking {
    source: Source,
    order: Vec<Expectation>,
}

impl Ranking {
    /// Of what somebody says, that which may be followed; none: nothing of it may.
    pub(crate) fn new(source: Source, said: &[Expectation]) -> Option<Ranking> {
        let mut order: Vec<Expectation> = Vec::new();
        for step in said.iter().filter(|step| step.rung.loses_nothing()) {
            if order.iter().all(|known| known.rung != step.rung) {
                order.push(*step);
            }
        }
        (!order.is_empty()).then_some(Ranking { source, order })
    }

    pub(crate) fn source(&self) -> Source {
        self.source
    }

    pub(crate) fn order(&self) -> &[Expectation] {
        &self.order
    }

    pub(crate) fn rungs(&self) -> Vec<Rung> {
        self.order.iter().map(|step| step.rung).collect()
    }

    /// What to try next, as long as something is left that was not tried.
    pub(crate) fn next(&self, case: &Case) -> Option<Expectation> {
        let next = self.order.iter().find(|step| {
            case.possible.has(step.rung)
                && case.tried.times(step.rung) == 0
                && step.rung.reaches(case.class.source)
        });
        next.filter(|_| case.class.source == self.source).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::{FaultClass, Severity};
    use crate::policy::{FixedLadder, Reason, Rungs, Tried, choose};
    use proptest::prelude::*;

    const HARMLESS: [Rung; 3] = [Rung::RestartProcess, Rung::Restore, Rung::ColdRestart];

    fn case(source: Source, possible: &[Rung]) -> Case {
        let class = FaultClass { source, severity: Severity::High };
        Case { class, possible: Rungs::of(possible), tried: Tried::default(), budget_left: 10 }
    }

    fn expected(rung: Rung) -> Expectation {
        Expectation { rung, chance_milli: 920, takes_ms: 200, expected_ms: 3100 }
    }

    fn ranking(source: Source, rungs: &[Rung]) -> Option<Ranking> {
        let said: Vec<Expectation> = rungs.iter().map(|rung| expected(*rung)).collect();
        Ranking::new(source, &said)
    }

    fn climb(ranking: Option<&Ranking>, mut case: Case, steps: usize) -> Vec<Rung> {
        let mut climbed = Vec::new();
        for _ in 0..steps {
            let rung = choose(&FixedLadder, ranking, &case).rung;
            case.tried.note(rung);
            climbed.push(rung);
        }
        climbed
    }

    #[test]
    fn what_was_learnt_comes_first_and_the_ladder_goes_on_behind_it() {
        let learnt = ranking(Source::Workload, &[Rung::ColdRestart, Rung::Restore, Rung::RestartProcess]);
        let mut possible = HARMLESS.to_vec();
        possible.extend([Rung::FreshDisk, Rung::Quarantine]);
        let climbed = climb(learnt.as_ref(), case(Source::Workload, &possible), 6);
        let harmless = [Rung::ColdRestart, Rung::Restore, Rung::RestartProcess];
        assert_eq!(climbed[..3], harmless);
        assert_eq!(climbed[3..], [Rung::ColdRestart, Rung::ColdRestart, Rung::FreshDisk]);
    }

    #[test]
    fn a_choice_says_what_is_expected_and_what_would_come_after_it() {
        let learnt = ranking(Source::Workload, &[Rung::Restore, Rung::ColdRestart]);
        let choice = choose(&FixedLadder, learnt.as_ref(), &case(Source::Workload, &HARMLESS));
        let then = Rung::ColdRestart;
        let reason = Reason::Expected { ms: 3100, chance_milli: 920, takes_ms: 200, then };
        assert_eq!((choice.rung, choice.reason), (Rung::Restore, reason));
    }

    #[test]
    fn faults_of_another_source_are_another_matter() {
        let learnt = ranking(Source::Workload, &[Rung::ColdRestart]);
        let choice = choose(&FixedLadder, learnt.as_ref(), &case(Source::Network, &HARMLESS));
        assert_eq!((choice.rung, choice.reason), (Rung::RestartProcess, Reason::Cheapest));
    }

    #[test]
    fn what_loses_something_is_not_learnt_to_be_tried_first() {
        let lossy = [Rung::FreshDisk, Rung::RollBack, Rung::Quarantine, Rung::Reboot, Rung::StopPetting];
        assert_eq!(ranking(Source::Data, &lossy), None);
        let learnt = ranking(Source::Workload, &[Rung::FreshDisk, Rung::ColdRestart]);
        let all = [Rung::ColdRestart, Rung::FreshDisk, Rung::Quarantine];
        let climbed = climb(learnt.as_ref(), case(Source::Workload, &all), 4);
        assert_eq!(climbed, [Rung::ColdRestart, Rung::ColdRestart, Rung::ColdRestart, Rung::FreshDisk]);
    }

    fn rungs() -> impl Strategy<Value = Vec<Rung>> {
        proptest::collection::vec(proptest::sample::select(Rung::ALL.to_vec()), 0..12)
    }

    fn sources() -> impl Strategy<Value = Source> {
        proptest::sample::select(Source::ALL.to_vec())
    }

    proptest! {
        #[test]
        fn whatever_was_learnt_only_what_is_possible_is_chosen_and_nothing_is_lost_before_its_time(
            source in sources(), of in sources(), said in rungs(), possible in rungs(), steps in 1_usize..14,
        ) {
            let mut possible = possible;
            possible.push(Rung::Quarantine);
            let learnt = ranking(of, &said);
            let case = case(source, &possible);
            let by_ladder = climb(None, case, 20);
            let climbed = climb(learnt.as_ref(), case, steps);
            for (place, rung) in climbed.iter().enumerate() {
                prop_assert!(possible.contains(rung), "{rung:?} of {possible:?}");
                if !rung.loses_nothing() {
                    // All that the ladder tries before it was tried as often.
                    let before: Vec<Rung> = by_ladder.iter().copied().take_while(|other| other != rung).collect();
                    for other in before.iter().filter(|other| other.loses_nothing()) {
                        let times = |list: &[Rung]| list.iter().filter(|one| *one == other).count();
                        prop_assert!(times(&climbed[..place]) >= times(&before), "{climbed:?} {by_ladder:?}");
                    }
                }
            }
        }
    }
}
