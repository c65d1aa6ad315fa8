//! How a new version of a workload takes over.
//!
//! ```text
//!        new version                canaries as good as the others        every replica moved and ready
//! Steady ------------> Canary ------------------------------------> Spreading --------------------------> Steady
//!   ^                    |  worse, or failed, or undone                 |  failed, or undone
//!   |                    +------------------+---------------------------+
//!   |  all back          v                  |
//!   +--------------- Reverting <------------+
//! ```
//!
//! Duty: the stages, and the comparison of two groups. Not here: which replica is replaced when (`workload::rolling`).
//! Invariant: a version gets to all replicas only over a window in which it was compared, unless there was nothing
//! good to compare it with.

use core::time::Duration;

use serde::{Deserialize, Serialize};

use crate::id::Version;
use crate::moment::Moment;
use crate::spec::{Build, RolloutSpec};

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Rollout {
    #[default]
    Steady,
    Canary {
        candidate: Build,
        canaries: u16,
        failures: u16,
        old_failures: u16,
        /// Since when all of them were ready for the first time.
        since: Option<Moment>,
    },
    Spreading {
        candidate: Build,
        moved: u16,
        failures: u16,
        old_failures: u16,
        /// What those served before that made room for it.
        replaced: Trials,
    },
    Reverting {
        bad: Version,
    },
}

impl Rollout {
    pub fn candidate(&self) -> Option<Build> {
        match self {
            Rollout::Canary { candidate, .. } | Rollout::Spreading { candidate, .. } => Some(*candidate),
            Rollout::Steady | Rollout::Reverting { .. } => None,
        }
    }

    /// How many replicas, from the first, get the candidate.
    pub(crate) fn moved(&self) -> u16 {
        match self {
            Rollout::Canary { canaries, .. } => *canaries,
            Rollout::Spreading { moved, .. } => *moved,
            Rollout::Steady | Rollout::Reverting { .. } => 0,
        }
    }

    /// Counts a failure of the candidate, and gives how many there were.
    pub(crate) fn failed(&mut self) -> u16 {
        match self {
            Rollout::Canary { failures, .. } | Rollout::Spreading { failures, .. } => {
                *failures = failures.saturating_add(1);
                *failures
            }
            Rollout::Steady | Rollout::Reverting { .. } => 0,
        }
    }
}

impl Rollout {
    /// A replica failed that runs what was there before.
    pub(crate) fn old_failed(&mut self) {
        if let Rollout::Canary { old_failures, .. } | Rollout::Spreading { old_failures, .. } = self {
            *old_failures = old_failures.saturating_add(1);
        }
    }

    /// A replica makes room for the candidate: what it served goes on to be what the candidate is compared with.
    pub(crate) fn replaced(&mut self, tally: Tally) {
        if let Rollout::Spreading { replaced, .. } = self {
            replaced.add(tally);
        }
    }

    /// How many failures the candidate may have: those that are granted, and as many for each of its replicas as each
    /// of the others had in the same time.
    pub(crate) fn forgiven(&self, granted: u16, replicas: usize) -> u16 {
        let (moved, old_failures) = match self {
            Rollout::Canary { canaries, old_failures, .. } => (*canaries, *old_failures),
            Rollout::Spreading { moved, old_failures, .. } => (*moved, *old_failures),
            Rollout::Steady | Rollout::Reverting { .. } => return granted,
        };
        let others = replicas.saturating_sub(usize::from(moved)).max(1);
        let alike = (usize::from(old_failures) * usize::from(moved)).div_ceil(others);
        granted.saturating_add(u16::try_from(alike).unwrap_or(u16::MAX))
    }
}

/// How many replicas go first.
pub(crate) fn canaries(spec: &RolloutSpec, replicas: usize) -> u16 {
    let share = replicas.saturating_mul(usize::from(spec.canary_percent)).div_ceil(100);
    u16::try_from(share.clamp(1, replicas.max(1))).unwrap_or(u16::MAX)
}

/// What one replica, or a group of them, did in a window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    pub requests: u32,
    pub errors: u32,
    /// How long it was ready, up to `ready_since`.
    pub ready: Duration,
    pub ready_since: Option<Moment>,
}

impl Tally {
    pub(crate) fn fresh(now: Moment, is_ready: bool) -> Tally {
        Tally { ready_since: is_ready.then_some(now), ..Tally::default() }
    }

    pub(crate) fn turned(&mut self, now: Moment, ready: bool) {
        if let Some(since) = self.ready_since.take() {
            self.ready = self.ready.saturating_add(now.since(since));
        }
        self.ready_since = ready.then_some(now);
    }

    pub(crate) fn was_ready(&self) -> bool {
        self.ready_since.is_some() || !self.ready.is_zero()
    }

    pub(crate) fn served(&mut self, requests: u32, errors: u32) {
        self.requests = self.requests.saturating_add(requests);
        self.errors = self.errors.saturating_add(errors.min(requests));
    }
}

/// The tallies of several replicas.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Group {
    replicas: u32,
    requests: u64,
    errors: u64,
    ready: Duration,
}

impl Group {
    pub(crate) fn add(&mut self, mut tally: Tally, now: Moment) {
        tally.turned(now, false);
        self.replicas += 1;
        self.requests += u64::from(tally.requests);
        self.errors += u64::from(tally.errors);
        self.ready += tally.ready;
    }

    fn errors_milli(&self) -> u64 {
        self.errors * 1000 / self.requests.max(1)
    }

    fn readiness_milli(&self, window: Duration) -> u64 {
        let whole = window.as_millis().saturating_mul(u128::from(self.replicas)).max(1);
        u64::try_from(self.ready.as_millis() * 1000 / whole).unwrap_or(u64::MAX)
    }
}

/// Requests that were served, and those of them that went wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trials {
    pub requests: u32,
    pub errors: u32,
}

impl Trials {
    pub(crate) fn add(&mut self, tally: Tally) {
        self.requests = self.requests.saturating_add(tally.requests);
        self.errors = self.errors.saturating_add(tally.errors);
    }

    fn errors_milli(self) -> u16 {
        let milli = u64::from(self.errors) * 1000 / u64::from(self.requests.max(1));
        u16::try_from(milli).unwrap_or(u16::MAX)
    }
}

/// A new version beside the one before, since both are watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compared {
    /// The new one.
    pub version: Version,
    pub old: Trials,
    pub new: Trials,
}

/// What to do with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Advice {
    GoOn,
    Wait,
    RollBack,
}

/// What somebody makes of a comparison who weighs evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judged {
    pub compared: Compared,
    pub advice: Advice,
    /// Of a thousand such comparisons, those in which the new version is the worse one.
    pub worse_milli: u16,
}

impl Judged {
    pub(crate) fn grounds(&self) -> Grounds {
        let Compared { old, new, .. } = self.compared;
        Grounds::Judged {
            old_milli: old.errors_milli(),
            new_milli: new.errors_milli(),
            requests: new.requests,
            worse_milli: self.worse_milli,
        }
    }
}

/// Why a version is taken or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Grounds {
    Failures {
        count: u16,
    },
    Errors {
        old_milli: u16,
        new_milli: u16,
    },
    Readiness {
        old_milli: u16,
        new_milli: u16,
    },
    NotReadyInTime,
    /// A person or the configuration took it back.
    Undone,
    /// The ladder of healing had nothing cheaper left.
    LastResort,
    /// Somebody who weighs evidence is sure enough, and did not wait for the window's end.
    Judged {
        old_milli: u16,
        new_milli: u16,
        requests: u32,
        worse_milli: u16,
    },
}

/// What a window of comparison says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a canary that nobody judges stays a canary"]
pub(crate) enum Verdict {
    Promote,
    Reject(Grounds),
}

/// Compares the candidate's replicas with the others; where there are no others, with what is expected of anybody. Who weighs
/// evidence knows better than a margin what errors say.
pub(crate) fn judge(
    spec: &RolloutSpec,
    old: &Group,
    new: &Group,
    window: Duration,
    advice: Option<Advice>,
) -> Verdict {
    let milli = |value: u64| u16::try_from(value).unwrap_or(u16::MAX);
    let (old_errors, new_errors) = (old.errors_milli(), new.errors_milli());
    if advice != Some(Advice::GoOn)
        && new.requests >= u64::from(spec.requests)
        && new_errors > old_errors.saturating_add(u64::from(spec.error_margin_milli))
    {
        return Verdict::Reject(Grounds::Errors {
            old_milli: milli(old_errors),
            new_milli: milli(new_errors),
        });
    }
    let old_ready = if old.replicas == 0 { 1000 } else { old.readiness_milli(window) };
    let new_ready = new.readiness_milli(window);
    if new_ready.saturating_add(u64::from(spec.readiness_margin_milli)) < old_ready {
        return Verdict::Reject(Grounds::Readiness {
            old_milli: milli(old_ready),
            new_milli: milli(new_ready),
        });
    }
    Verdict::Promote
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Needs;

    const WINDOW: Duration = Duration::from_secs(100);

    fn group(requests: u32, errors: u32, ready: u64) -> Group {
        let mut group = Group::default();
        let ready = Duration::from_secs(ready);
        group.add(Tally { requests, errors, ready, ready_since: None }, Moment::START);
        group
    }

    #[test]
    fn at_least_one_goes_first_and_never_more_than_there_are() {
        let percent = |canary_percent| RolloutSpec { canary_percent, ..RolloutSpec::default() };
        assert_eq!([1, 3, 10, 25].map(|replicas| canaries(&percent(10), replicas)), [1, 1, 1, 3]);
        assert_eq!(canaries(&percent(200), 3), 3);
        assert_eq!(canaries(&percent(0), 3), 1);
    }

    #[test]
    fn a_candidate_is_rejected_for_errors_only_if_they_are_more_than_the_others_have() {
        let spec = RolloutSpec::default();
        let old = group(1000, 100, 100);
        assert_eq!(judge(&spec, &old, &group(100, 11, 100), WINDOW, None), Verdict::Promote);
        let verdict = judge(&spec, &old, &group(100, 20, 100), WINDOW, None);
        assert_eq!(verdict, Verdict::Reject(Grounds::Errors { old_milli: 100, new_milli: 200 }));
        assert_eq!(judge(&spec, &old, &group(5, 5, 100), WINDOW, None), Verdict::Promote, "too few to say");
        let verdict = judge(&spec, &old, &group(100, 20, 100), WINDOW, Some(Advice::GoOn));
        assert_eq!(verdict, Verdict::Promote, "who weighs them says that these say nothing");
    }

    #[test]
    fn a_candidate_may_fail_as_often_as_the_others_do_and_no_oftener() {
        let candidate = Build { version: Version(2), needs: Needs::default() };
        let mut rollout =
            Rollout::Canary { candidate, canaries: 1, failures: 0, old_failures: 0, since: None };
        assert_eq!(rollout.forgiven(0, 4), 0);
        rollout.old_failed();
        assert_eq!(rollout.forgiven(0, 4), 1, "one of three others failed once");
        for _ in 0..5 {
            rollout.old_failed();
        }
        assert_eq!(rollout.forgiven(1, 4), 3);
        assert_eq!(Rollout::Steady.forgiven(2, 4), 2);
    }

    #[test]
    fn a_candidate_that_is_ready_less_often_is_rejected() {
        let spec = RolloutSpec::default();
        let verdict = judge(&spec, &Group::default(), &group(0, 0, 80), WINDOW, None);
        assert_eq!(verdict, Verdict::Reject(Grounds::Readiness { old_milli: 1000, new_milli: 800 }));
        assert_eq!(judge(&spec, &group(0, 0, 70), &group(0, 0, 80), WINDOW, None), Verdict::Promote);
    }

    #[test]
    fn time_counts_as_ready_only_while_it_was() {
        let at = |second: u64| Moment::from_millis(second * 1000);
        let mut tally = Tally::fresh(at(0), true);
        tally.turned(at(30), false);
        tally.turned(at(50), true);
        let mut group = Group::default();
        group.add(tally, at(100));
        assert_eq!(group.readiness_milli(WINDOW), 800);
    }
}
