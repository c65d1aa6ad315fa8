//! One trouble of one replica, from its first fault until it is proven gone.
//!
//! ```text
//! fault --> Healing(rung) --ready again--> Verifying(until) --stayed ready--> closed: healed
//!              ^  ^                          |       |
//!              |  +------- another fault ----+       |
//!              +---------- ready no more ------------+
//! ```
//!
//! What needs somebody's word is proposed while it is `Healing`, and waits.
//!
//! Duty: what was tried, whether it held, and how long it took. Not here: choosing a means (`policy`), using it (`state`).
//! Invariant: what was tried is forgotten only when the replica has stayed ready for the whole of [`STEADY`]; a fault
//! before that escalates.

use alloc::string::String;
use core::time::Duration;

use serde::{Deserialize, Serialize};

use crate::backoff::STEADY;
use crate::failure::Failure;
use crate::fault::FaultClass;
use crate::id::WorkloadId;
use crate::moment::Moment;
use crate::policy::{Choice, Rung, Tried};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stage {
    Healing,
    Verifying { until: Moment },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Incident {
    pub opened: Moment,
    /// The last fault.
    pub failure: Failure,
    pub class: FaultClass,
    pub tried: Tried,
    pub last: Option<Choice>,
    pub stage: Stage,
    /// The last means, as long as nobody knows what comes of it.
    pub attempt: Option<Attempt>,
    /// Who else most likely began it.
    pub suspect: Option<String>,
    /// What would be done next if somebody agreed.
    pub proposed: Option<Choice>,
    /// Somebody agreed to it.
    pub consent: Option<Choice>,
}

/// A means that was used, and has neither failed nor proven itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    pub rung: Rung,
    /// Of the fault that it was used against.
    pub class: FaultClass,
    pub since: Moment,
    /// The wait before it that this means brings along, whichever attempt it is.
    pub wait: Duration,
}

/// What came of a means: what a policy learns from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    pub workload: WorkloadId,
    pub class: FaultClass,
    pub rung: Rung,
    pub cured: bool,
    /// Until it was ready to stay so, or until it was seen that it did not help; with the wait that it brings along.
    pub took: Duration,
}

impl Incident {
    pub(crate) fn open(now: Moment, failure: &Failure) -> Incident {
        Incident {
            opened: now,
            failure: failure.clone(),
            class: FaultClass::of(failure),
            tried: Tried::default(),
            last: None,
            stage: Stage::Healing,
            attempt: None,
            suspect: None,
            proposed: None,
            consent: None,
        }
    }

    /// The same trouble shows again, perhaps in another way.
    pub(crate) fn again(&mut self, failure: &Failure) {
        self.failure = failure.clone();
        self.class = FaultClass::of(failure);
        self.stage = Stage::Healing;
        self.proposed = None;
    }

    /// From `since` on: a delay that grew before it is not its fault, but `wait` is.
    pub(crate) fn use_rung(&mut self, choice: Choice, since: Moment, wait: Duration) {
        self.tried.note(choice.rung);
        self.last = Some(choice);
        (self.proposed, self.consent) = (None, None);
        self.stage = Stage::Healing;
        self.attempt = Some(Attempt { rung: choice.rung, class: self.class, since, wait });
    }

    /// Its machine is only now being made: it waited for room, or for others. Whatever was asked was asked about the last.
    pub(crate) fn started(&mut self, now: Moment) {
        (self.proposed, self.consent) = (None, None);
        if let Some(attempt) = &mut self.attempt {
            attempt.since = now;
        }
    }

    /// What comes of the means that was used last: it failed, unless this is proven to be healed.
    pub(crate) fn outcome(&mut self, workload: WorkloadId, now: Moment) -> Option<Outcome> {
        let Attempt { rung, class, since, wait } = self.attempt.take()?;
        let proven = self.deadline().filter(|until| *until <= now);
        let took = proven.map_or(now, |until| until).since(since);
        let (cured, proof) = (proven.is_some(), if proven.is_some() { STEADY } else { Duration::ZERO });
        Some(Outcome { workload, class, rung, cured, took: took.saturating_sub(proof) + wait })
    }

    pub(crate) fn ready(&mut self, now: Moment) {
        // What somebody is asked about is not over because another thing is well.
        if self.stage == Stage::Healing && self.proposed.is_none() {
            self.stage = Stage::Verifying { until: now.after(STEADY) };
        }
    }

    pub(crate) fn unready(&mut self) {
        self.stage = Stage::Healing;
    }

    /// When it can be closed.
    pub(crate) fn deadline(&self) -> Option<Moment> {
        match self.stage {
            Stage::Healing => None,
            Stage::Verifying { until } => Some(until),
        }
    }

    /// What healed it.
    pub fn last_rung(&self) -> Option<Rung> {
        self.last.map(|choice| choice.rung)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Reason;

    fn used(from: Moment) -> Incident {
        let mut incident = Incident::open(Moment::START, &Failure::HeartbeatLost);
        incident.use_rung(Choice { rung: Rung::ColdRestart, reason: Reason::Cheapest }, from, Duration::ZERO);
        incident
    }

    fn at(second: u64) -> Moment {
        Moment::from_millis(second * 1000)
    }

    #[test]
    fn a_means_is_measured_from_its_machine_on_until_it_is_ready_to_stay_so() {
        let mut incident = used(at(1));
        incident.started(at(5));
        incident.ready(at(8));
        incident.unready();
        incident.ready(at(12));
        let (workload, class) = (WorkloadId::from_number(3), incident.class);
        let outcome = incident.outcome(workload, at(12).after(STEADY));
        let took = Duration::from_secs(7);
        assert_eq!(outcome, Some(Outcome { workload, class, rung: Rung::ColdRestart, cured: true, took }));
        assert_eq!(incident.outcome(workload, at(100)), None, "it is told once");
    }

    #[test]
    fn one_that_does_not_last_has_failed_when_that_is_seen() {
        let mut incident = used(at(1));
        incident.ready(at(8));
        let outcome = incident.outcome(WorkloadId::from_number(3), at(40)).expect("an outcome");
        assert_eq!((outcome.cured, outcome.took), (false, Duration::from_secs(39)));
    }

    #[test]
    fn only_a_steady_time_closes_it_and_what_was_tried_is_kept_until_then() {
        let mut incident = Incident::open(Moment::START, &Failure::HeartbeatLost);
        incident.use_rung(
            Choice { rung: Rung::ColdRestart, reason: Reason::Cheapest },
            Moment::START,
            Duration::ZERO,
        );
        assert_eq!(incident.deadline(), None);
        incident.ready(Moment::from_millis(500));
        assert_eq!(incident.deadline(), Some(Moment::from_millis(500).after(STEADY)));
        incident.unready();
        assert_eq!(incident.deadline(), None);
        incident.again(&Failure::NotReadyInTime);
        assert_eq!(incident.tried.times(Rung::ColdRestart), 1);
    }
}
