//! One trouble of one replica, from its first fault until it is proven gone.
//!
//! ```text
//! fault --> Healing(rung) --ready again--> Verifying(until) --stayed ready--> closed: healed
//!              ^  ^                          |       |
//!              |  +------- another fault ----+       |
//!              +---------- ready no more ------------+
//! ```
//!
//! Duty: what was tried, and whether it held. Not here: choosing a means (`policy`), using it (`state`).
//! Invariant: what was tried is forgotten only when the replica has stayed ready for the whole of [`STEADY`]; a fault
//! before that escalates.

use serde::{Deserialize, Serialize};

use crate::backoff::STEADY;
use crate::failure::Failure;
use crate::fault::FaultClass;
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
        }
    }

    /// The same trouble shows again, perhaps in another way.
    pub(crate) fn again(&mut self, failure: &Failure) {
        self.failure = failure.clone();
        self.class = FaultClass::of(failure);
        self.stage = Stage::Healing;
    }

    pub(crate) fn use_rung(&mut self, choice: Choice) {
        self.tried.note(choice.rung);
        self.last = Some(choice);
        self.stage = Stage::Healing;
    }

    pub(crate) fn ready(&mut self, now: Moment) {
        if self.stage == Stage::Healing {
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

    #[test]
    fn only_a_steady_time_closes_it_and_what_was_tried_is_kept_until_then() {
        let mut incident = Incident::open(Moment::START, &Failure::HeartbeatLost);
        incident.use_rung(Choice { rung: Rung::ColdRestart, reason: Reason::Cheapest });
        assert_eq!(incident.deadline(), None);
        incident.ready(Moment::from_millis(500));
        assert_eq!(incident.deadline(), Some(Moment::from_millis(500).after(STEADY)));
        incident.unready();
        assert_eq!(incident.deadline(), None);
        incident.again(&Failure::NotReadyInTime);
        assert_eq!(incident.tried.times(Rung::ColdRestart), 1);
    }
}
