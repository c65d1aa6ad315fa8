//! The breaker between a workload and its restarts.
//!
//! ```text
//!            budget spent, or given up                 retry
//! Closed ---------------------------------> Open ---------------> HalfOpen(one replica on trial)
//!   ^                                        ^  <---- it fails ------+   |
//!   +----------------------------------------|------ it stays ready -----+
//! ```
//!
//! Duty: whether a replica may start. Not here: announcing, which every opening is followed by (`state`).
//! Invariant: while it is open nothing of the workload starts; after a `retry`, one replica at a time until one has
//! proven itself.

use serde::{Deserialize, Serialize};

use crate::backoff::STEADY;
use crate::id::Slot;
use crate::moment::Moment;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Breaker {
    #[default]
    Closed,
    Open {
        since: Moment,
    },
    HalfOpen {
        trial: Option<Trial>,
    },
}

/// The one replica that may show that it works again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trial {
    pub slot: Slot,
    /// It is ready, and proven if it still is by then.
    pub proven: Option<Moment>,
}

impl Breaker {
    pub(crate) fn is_open(self) -> bool {
        matches!(self, Breaker::Open { .. })
    }

    /// Whether this replica may start.
    pub(crate) fn lets(self, slot: Slot) -> bool {
        match self {
            Breaker::Closed => true,
            Breaker::Open { .. } => false,
            Breaker::HalfOpen { trial } => trial.is_none_or(|trial| trial.slot == slot),
        }
    }

    pub(crate) fn started(&mut self, slot: Slot) {
        if let Breaker::HalfOpen { trial } = self {
            *trial = Some(Trial { slot, proven: None });
        }
    }

    pub(crate) fn is_on_trial(self, slot: Slot) -> bool {
        matches!(self, Breaker::HalfOpen { trial: Some(trial) } if trial.slot == slot)
    }

    /// Its readiness changed.
    pub(crate) fn turned(&mut self, slot: Slot, now: Moment, ready: bool) {
        if let Breaker::HalfOpen { trial: Some(trial) } = self
            && trial.slot == slot
        {
            trial.proven = ready.then(|| now.after(STEADY));
        }
    }

    pub(crate) fn deadline(self) -> Option<Moment> {
        match self {
            Breaker::HalfOpen { trial } => trial?.proven,
            Breaker::Closed | Breaker::Open { .. } => None,
        }
    }

    /// The one on trial was taken away for another reason: the next may try.
    pub(crate) fn withdrawn(&mut self, slot: Slot) {
        if self.is_on_trial(slot) {
            *self = Breaker::HalfOpen { trial: None };
        }
    }

    pub(crate) fn proven(&mut self, slot: Slot) {
        if self.is_on_trial(slot) {
            *self = Breaker::Closed;
        }
    }

    pub(crate) fn retry(&mut self) -> bool {
        let open = self.is_open();
        if open {
            *self = Breaker::HalfOpen { trial: None };
        }
        open
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_retry_one_replica_at_a_time_until_one_is_proven() {
        let mut breaker = Breaker::Open { since: Moment::START };
        assert!(!breaker.lets(Slot(0)));
        assert!(breaker.retry());
        assert!(breaker.lets(Slot(1)));
        breaker.started(Slot(1));
        assert!(!breaker.lets(Slot(0)));
        assert!(breaker.lets(Slot(1)), "its own further attempts");
        breaker.proven(Slot(0));
        assert!(breaker.is_on_trial(Slot(1)));
        breaker.turned(Slot(1), Moment::START, true);
        assert_eq!(breaker.deadline(), Some(Moment::START.after(STEADY)));
        breaker.turned(Slot(1), Moment::START, false);
        assert_eq!(breaker.deadline(), None, "only if it stays ready");
        breaker.proven(Slot(1));
        assert_eq!(breaker, Breaker::Closed);
        assert!(!breaker.retry(), "nothing to lift");
    }
}
