//! Which means of healing comes next.
//!
//! ```text
//! Retry < RestartProcess < Restore < ColdRestart < FreshDisk < RollBack < Quarantine     for a replica
//! ReExec < Reboot < StopPetting                                                          for the box itself
//! ```
//!
//! Duty: the means in the order of what they cost, and a choice with its reason. Not here: carrying it out.
//! Invariant: whatever a policy answers, only a means that the case allows is used: [`choose`] sees to that.

use serde::{Deserialize, Serialize};

use crate::fault::{FaultClass, Source};
use crate::ranking::{Expectation, Ranking};

/// A means of healing, cheapest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Rung {
    /// The same once more.
    Retry,
    /// The workload, within its guest.
    RestartProcess,
    /// A machine from the warm snapshot.
    Restore,
    /// A machine from nothing.
    ColdRestart,
    /// Likewise, with a disk made anew.
    FreshDisk,
    /// The last version that was good.
    RollBack,
    /// No further attempt until somebody says so.
    Quarantine,
    /// The daemon, in place; machines stay.
    ReExec,
    /// The box, in order, with the reason kept.
    Reboot,
    /// The hardware's watchdog ends it.
    StopPetting,
}

impl Rung {
    pub const ALL: [Rung; 10] = [
        Rung::Retry,
        Rung::RestartProcess,
        Rung::Restore,
        Rung::ColdRestart,
        Rung::FreshDisk,
        Rung::RollBack,
        Rung::Quarantine,
        Rung::ReExec,
        Rung::Reboot,
        Rung::StopPetting,
    ];

    const fn place(self) -> usize {
        self as usize
    }

    /// What its use typically costs, in milliseconds of nothing being served. Lost data and lost features weigh as
    /// the hours that people would spend on them.
    pub const fn cost_ms(self) -> u64 {
        match self {
            Rung::Retry => 10,
            Rung::RestartProcess => 50,
            Rung::Restore => 100,
            Rung::ColdRestart => 1_500,
            Rung::FreshDisk => 600_000,
            Rung::RollBack => 1_200_000,
            Rung::Quarantine => 86_400_000,
            Rung::ReExec => 300,
            Rung::Reboot => 60_000,
            Rung::StopPetting => 90_000,
        }
    }

    /// Whether the workload has all of its data, its version and its start by itself afterwards, and the box is left alone.
    pub const fn loses_nothing(self) -> bool {
        matches!(self, Rung::Retry | Rung::RestartProcess | Rung::Restore | Rung::ColdRestart)
    }

    /// Whether it can help against faults from there.
    pub const fn reaches(self, source: Source) -> bool {
        match source {
            // A process cannot help its kernel, nor the hardware or monitor under it.
            Source::GuestKernel | Source::Hardware | Source::Supervisor => {
                !matches!(self, Rung::RestartProcess)
            }
            // A snapshot holds the same view of the disk and of the data.
            Source::Storage | Source::Data => !matches!(self, Rung::RestartProcess | Rung::Restore),
            Source::Workload | Source::Network => true,
        }
    }
}

/// A set of means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rungs(u16);

impl Rungs {
    pub fn of(rungs: &[Rung]) -> Rungs {
        rungs.iter().fold(Rungs::default(), |set, rung| set.with(*rung))
    }

    #[must_use]
    pub const fn with(self, rung: Rung) -> Rungs {
        Rungs(self.0 | 1 << rung.place())
    }

    #[must_use]
    pub const fn without(self, rung: Rung) -> Rungs {
        Rungs(self.0 & !(1 << rung.place()))
    }

    pub const fn has(self, rung: Rung) -> bool {
        self.0 & (1 << rung.place()) != 0
    }

    #[must_use]
    pub const fn and(self, other: Rungs) -> Rungs {
        Rungs(self.0 & other.0)
    }

    /// Cheapest first.
    pub fn iter(self) -> impl DoubleEndedIterator<Item = Rung> {
        Rung::ALL.into_iter().filter(move |rung| self.has(*rung))
    }
}

/// How often each means was used in one incident.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tried([u8; Rung::ALL.len()]);

impl Tried {
    pub const fn times(&self, rung: Rung) -> u8 {
        self.0[rung.place()]
    }

    pub(crate) fn note(&mut self, rung: Rung) {
        let times = &mut self.0[rung.place()];
        *times = times.saturating_add(1);
    }
}

/// All that a policy may look at.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    pub class: FaultClass,
    pub possible: Rungs,
    pub tried: Tried,
    /// Restarts that the budget still has.
    pub budget_left: u16,
}

/// What a policy decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[must_use = "a choice that is not carried out heals nothing"]
pub struct Choice {
    pub rung: Rung,
    pub reason: Reason,
}

/// Why a means was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reason {
    /// Nothing cheaper is left to try.
    Cheapest,
    /// Cheaper ones do not help against faults from there.
    FitsTheSource(Source),
    /// All were tried, and this one costs least among those that start from nothing.
    AllTried,
    /// The budget of restarts is used up.
    BudgetSpent,
    /// The policy wanted what is not possible here.
    Instead(Rung),
    /// Nothing that undoes less is left to try.
    UndoesLeast,
    /// What cured such faults before says so: healed after `ms` is expected, by this in `chance_milli` of a thousand tries
    /// of `takes_ms`, else by what comes then.
    Expected { ms: u32, chance_milli: u16, takes_ms: u32, then: Rung },
}

impl Choice {
    /// Whether all that the case has was tried as often as it is worth it.
    pub(crate) fn is_last_resort(self) -> bool {
        self.rung == Rung::Quarantine || matches!(self.reason, Reason::AllTried | Reason::BudgetSpent)
    }
}

/// Chooses a means for a case. Deterministic: the same case has the same answer.
pub trait RecoveryPolicy {
    fn choose(&self, case: &Case) -> Choice;
}

/// By what was learnt as far as that goes, and then by the policy.
pub(crate) fn choose(policy: &dyn RecoveryPolicy, learnt: Option<&Ranking>, case: &Case) -> Choice {
    let Some(step) = learnt.and_then(|ranking| ranking.next(case)) else { return held(policy, case) };
    let mut after = *case;
    after.tried.note(step.rung);
    let then = learnt.and_then(|ranking| ranking.next(&after)).map(|next| next.rung);
    let then = then.unwrap_or_else(|| held(policy, &after).rung);
    let Expectation { rung, chance_milli, takes_ms, expected_ms } = step;
    Choice { rung, reason: Reason::Expected { ms: expected_ms, chance_milli, takes_ms, then } }
}

/// Asks the policy, and holds it to what is possible.
fn held(policy: &dyn RecoveryPolicy, case: &Case) -> Choice {
    let choice = policy.choose(case);
    if case.possible.has(choice.rung) {
        return choice;
    }
    let rung = case.possible.iter().next().unwrap_or(Rung::Quarantine);
    Choice { rung, reason: Reason::Instead(choice.rung) }
}

/// Cheapest first, each a fixed number of times within an incident.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FixedLadder;

impl FixedLadder {
    /// How often a means is worth a try before the next dearer one.
    pub const fn tries(rung: Rung) -> u8 {
        match rung {
            Rung::ColdRestart => 3,
            Rung::ReExec => 2,
            _ => 1,
        }
    }
}

impl RecoveryPolicy for FixedLadder {
    fn choose(&self, case: &Case) -> Choice {
        let source = case.class.source;
        let mut passed_over = false;
        for rung in case.possible.iter().filter(|rung| *rung != Rung::Quarantine) {
            if !rung.reaches(source) {
                passed_over = true;
            } else if case.tried.times(rung) < Self::tries(rung) {
                let reason = if passed_over { Reason::FitsTheSource(source) } else { Reason::Cheapest };
                return Choice { rung, reason };
            }
        }
        // Everything was tried. A cause outside may still go away, so what costs no data goes on until the budget ends.
        let again = [Rung::ColdRestart, Rung::Retry].into_iter().find(|rung| case.possible.has(*rung));
        match again {
            Some(rung) if case.budget_left > 0 => Choice { rung, reason: Reason::AllTried },
            _ => {
                let last = case.possible.iter().next_back().unwrap_or(Rung::Quarantine);
                Choice { rung: last, reason: Reason::BudgetSpent }
            }
        }
    }
}

/// What undoes least first, and then as the ladder by cost: a machine from nothing is what its file says, one from a
/// snapshot is what somebody else's memory says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StrengthLadder;

impl RecoveryPolicy for StrengthLadder {
    fn choose(&self, case: &Case) -> Choice {
        let weakest_first = [Rung::Retry, Rung::RestartProcess, Rung::ColdRestart, Rung::Restore];
        let left = weakest_first.into_iter().find(|rung| {
            case.possible.has(*rung) && case.tried.times(*rung) == 0 && rung.reaches(case.class.source)
        });
        left.map_or_else(|| FixedLadder.choose(case), |rung| Choice { rung, reason: Reason::UndoesLeast })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::Severity;

    fn case(source: Source, possible: &[Rung]) -> Case {
        Case {
            class: FaultClass { source, severity: Severity::High },
            possible: Rungs::of(possible),
            tried: Tried::default(),
            budget_left: 10,
        }
    }

    fn climb(mut case: Case, steps: usize) -> Vec<Rung> {
        let mut climbed = Vec::new();
        for _ in 0..steps {
            let choice = choose(&FixedLadder, None, &case);
            case.tried.note(choice.rung);
            climbed.push(choice.rung);
        }
        climbed
    }

    const ALL: [Rung; 6] = [
        Rung::RestartProcess,
        Rung::Restore,
        Rung::ColdRestart,
        Rung::FreshDisk,
        Rung::RollBack,
        Rung::Quarantine,
    ];

    #[test]
    fn the_ladder_is_climbed_by_cost() {
        assert!(Rung::ALL[..7].windows(2).all(|pair| pair[0].cost_ms() < pair[1].cost_ms()));
        let climbed = climb(case(Source::Workload, &ALL), 8);
        assert_eq!(climbed[..3], [Rung::RestartProcess, Rung::Restore, Rung::ColdRestart]);
        assert_eq!(climbed[5..], [Rung::FreshDisk, Rung::RollBack, Rung::ColdRestart]);
    }

    #[test]
    fn what_cannot_reach_the_cause_is_passed_over_and_that_is_the_reason() {
        let choice = FixedLadder.choose(&case(Source::GuestKernel, &ALL));
        let reason = Reason::FitsTheSource(Source::GuestKernel);
        assert_eq!(choice, Choice { rung: Rung::Restore, reason });
        assert_eq!(FixedLadder.choose(&case(Source::Storage, &ALL)).rung, Rung::ColdRestart);
    }

    #[test]
    fn by_strength_a_snapshot_comes_after_a_machine_from_nothing_and_then_the_ladder_goes_on() {
        let mut case = case(Source::Workload, &ALL);
        let mut climbed = Vec::new();
        for _ in 0..6 {
            let choice = choose(&StrengthLadder, None, &case);
            case.tried.note(choice.rung);
            climbed.push(choice.rung);
        }
        assert_eq!(climbed[..3], [Rung::RestartProcess, Rung::ColdRestart, Rung::Restore]);
        assert_eq!(climbed[3..], [Rung::ColdRestart, Rung::ColdRestart, Rung::FreshDisk]);
    }

    #[test]
    fn without_a_budget_nothing_is_tried_again() {
        let mut spent = case(Source::Workload, &[Rung::ColdRestart, Rung::Quarantine]);
        spent.budget_left = 0;
        for _ in 0..3 {
            spent.tried.note(Rung::ColdRestart);
        }
        assert_eq!(FixedLadder.choose(&spent).rung, Rung::Quarantine);
    }

    #[test]
    fn a_policy_that_wants_the_impossible_gets_the_cheapest_possible() {
        struct Stubborn;
        impl RecoveryPolicy for Stubborn {
            fn choose(&self, _: &Case) -> Choice {
                Choice { rung: Rung::Reboot, reason: Reason::Cheapest }
            }
        }
        let choice = choose(&Stubborn, None, &case(Source::Workload, &[Rung::ColdRestart, Rung::Quarantine]));
        assert_eq!(choice, Choice { rung: Rung::ColdRestart, reason: Reason::Instead(Rung::Reboot) });
    }
}
