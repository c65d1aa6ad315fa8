//! What is foreseen of a workload, what is odd about it, and what was learnt of healing it.
//!
//! Duty: the words of whoever foresees for the core, and the bounds within which they count. Not here: how it comes to
//! them (`hearth-foresight`), what follows (`state`).
//! Invariant: advice moves nothing beyond the bounds of a workload's file, and nothing at all where it gives none; a
//! person's own number comes before it.

use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use serde::{Deserialize, Serialize};

use crate::fault::Source;
use crate::id::WorkloadId;
use crate::ranking::Expectation;
use crate::rollout::Judged;
use crate::spec::MAX_REPLICAS;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Insight {
    /// So many replicas of a service would do.
    Replicas { workload: WorkloadId, replicas: u16, why: String },
    /// Something is as it never was; none: about the box itself.
    Odd { workload: Option<WorkloadId>, what: String },
    /// So many machines of a function are worth their memory while nobody uses them, for so long.
    Warm { workload: WorkloadId, idle: u16, lasts: Duration, why: String },
    /// So much memory would do for each machine.
    Memory { workload: WorkloadId, mib: u32, why: String },
    /// The means of healing for faults from there, best first; empty: what was learnt says no more than the ladder.
    Ranked { workload: WorkloadId, source: Source, order: Vec<Expectation> },
    /// Somebody else most likely began what is wrong with a workload.
    Suspected { workload: WorkloadId, whom: String },
    /// What is to become of a new version by what it served beside the one before.
    Judged { workload: WorkloadId, judged: Judged },
}

/// The numbers of replicas that advice may choose among.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scaling {
    pub least: u16,
    pub most: u16,
}

impl Scaling {
    pub(crate) fn hold(self, replicas: u16) -> u16 {
        // Whatever a fleet or an old journal says: the least is never above the most.
        let most = self.most.min(MAX_REPLICAS);
        replicas.clamp(self.least.min(most), most)
    }
}

/// The numbers of machines that may wait for the next call of a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeepWarm {
    /// So many wait in any case.
    pub least: u16,
    pub most: u16,
}

impl KeepWarm {
    pub(crate) fn hold(self, idle: u16) -> u16 {
        idle.clamp(self.least.min(self.most), self.most)
    }
}

/// How little memory a balloon may leave to a machine by what is foreseen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ballooning {
    pub least_mib: u32,
}
