//! What a workload went through lately.
//!
//! Duty: a bounded ring of moves, each with before, after, why and when. Not here: making moves (`state`).
//! Invariant: it holds the last [`DEPTH`] moves and never more; keeping one allocates nothing once it is full.

use alloc::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::failure::{Failure, WorkloadEnd};
use crate::id::{Run, Slot};
use crate::lifecycle::Place;
use crate::moment::Moment;
use crate::policy::Choice;

/// Moves that are kept: some five restarts of one replica.
pub const DEPTH: usize = 32;

/// Why a replica moved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cause {
    /// All that it waited for is there.
    Wanted,
    /// It was found running.
    Adopted,
    /// The agent said so.
    AgentSaid,
    /// Its probes said so.
    Probes,
    WorkloadEnded(WorkloadEnd),
    Failed(Failure),
    /// A means of healing was chosen.
    Healing(Choice),
    /// It stayed ready for long enough.
    Healed,
    DeadlinePassed,
    DelayOver,
    /// It is wanted no more: scaled down, stopped by a person, or removed.
    NotWanted,
    /// What it requires is gone.
    DependencyGone,
    /// Another version takes its place.
    NewVersion,
    /// A person asked for it.
    Person,
    Shutdown,
    Quarantine,
    /// The machine is gone.
    MachineGone,
}

/// One move.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transition {
    pub at: Moment,
    pub slot: Slot,
    pub run: Run,
    pub from: Place,
    pub to: Place,
    pub why: Cause,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct History(VecDeque<Transition>);

impl History {
    pub(crate) fn push(&mut self, transition: Transition) {
        if self.0.len() == DEPTH {
            self.0.pop_front();
        }
        self.0.push_back(transition);
    }

    /// Oldest first.
    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = &Transition> {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ring_keeps_the_last_moves_and_never_more() {
        let mut history = History::default();
        for run in 0..100 {
            history.push(Transition {
                at: Moment::START,
                slot: Slot::FIRST,
                run: Run(run),
                from: Place::Waiting,
                to: Place::Starting,
                why: Cause::Wanted,
            });
        }
        let runs: Vec<u32> = history.iter().map(|transition| transition.run.0).collect();
        assert_eq!(runs, (68..100).collect::<Vec<_>>());
    }
}
