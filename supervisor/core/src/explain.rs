//! Why a workload is in the state that it is in.
//!
//! Duty: one structured answer: what is wanted, what is there, what it waits for, what comes next, what came before.
//! Not here: text. Invariant: it is drawn from the state alone, so a replayed journal explains itself as well.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::action::Hold;
use crate::breaker::Breaker;
use crate::fault::Source;
use crate::history::Transition;
use crate::id::{Run, Slot, Version};
use crate::incident::Incident;
use crate::insight::Scaling;
use crate::lifecycle::{Lifecycle, Place};
use crate::moment::Moment;
use crate::probe::{Finding, ProbeSpec};
use crate::ranking::Expectation;
use crate::replica::Replica;
use crate::rollout::{Compared, Grounds, Judged, Rollout};
use crate::spec::{HealingOrder, Kind};
use crate::workload::Workload;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    pub name: String,
    pub kind: Kind,
    /// In the configuration, and not stopped by a person.
    pub wanted: bool,
    pub stopped: bool,
    /// What it requires is gone.
    pub orphaned: bool,
    /// A person's number of replicas, in place of its file's.
    pub scale: Option<u16>,
    /// The bounds of what is foreseen.
    pub scaling: Option<Scaling>,
    /// Of a function.
    pub calls: Option<CallStory>,
    /// What is foreseen to be enough, where its balloons follow that.
    pub memory: Option<MemoryStory>,
    pub replicas_wanted: usize,
    pub current: Version,
    /// What cured before: for faults of each source, means that are tried before the ladder's, best first.
    pub learnt: Vec<(Source, Vec<Expectation>)>,
    /// The last good one before.
    pub previous: Option<Version>,
    pub rejected: Option<Version>,
    /// Why, if this daemon saw it.
    pub rejected_for: Option<Grounds>,
    /// What a new version and the one before served, and what was last made of it.
    pub compared: Option<Compared>,
    pub judged: Option<Judged>,
    /// What waits for a window of maintenance.
    pub held: Option<Version>,
    pub rollout: Rollout,
    pub breaker: Breaker,
    pub restarts_in_window: u16,
    pub restarts_allowed: u16,
    pub replicas: Vec<ReplicaStory>,
    /// Oldest first.
    pub transitions: Vec<Transition>,
}

/// What balloons leave to each machine of a workload while memory is not short.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryStory {
    pub left_mib: u32,
    pub of_mib: u32,
    pub why: String,
}

/// How a function is called, and what waits for its next call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallStory {
    /// Replicas that are asked for, as far as its file allows.
    pub in_use: u16,
    /// Those beside them.
    pub idle: u16,
    /// For how long they are, if that has an end.
    pub until: Option<Moment>,
    /// What is foreseen; none: its file says so.
    pub why: Option<String>,
    /// Since the daemon began.
    pub calls: u64,
    /// Calls that found no machine ready.
    pub cold: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaStory {
    pub slot: Slot,
    pub run: Run,
    pub version: Version,
    pub place: Place,
    pub lifecycle: Lifecycle,
    pub since_heard: Option<core::time::Duration>,
    pub probes: Vec<ProbeStory>,
    /// What it waits for.
    pub hold: Option<Hold>,
    /// What was tried, and whether it is being verified.
    pub incident: Option<Incident>,
    pub attempts: u32,
    /// When it is looked at again if nothing is heard.
    pub next: Option<Moment>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeStory {
    pub spec: ProbeSpec,
    pub finding: Finding,
    pub bad_in_a_row: u8,
}

pub(crate) fn explain(workload: &Workload, now: Moment) -> Explanation {
    Explanation {
        name: workload.spec.name.clone(),
        kind: workload.spec.kind,
        wanted: workload.wanted,
        stopped: workload.stopped,
        orphaned: workload.orphaned,
        scale: workload.scale,
        scaling: workload.spec.scaling,
        calls: workload.calls(now),
        memory: workload.memory(),
        replicas_wanted: workload.count,
        current: workload.current.version,
        learnt: learnt(workload),
        previous: workload.previous.map(|build| build.version),
        rejected: workload.rejected,
        rejected_for: workload.rejected_for.filter(|_| workload.rejected.is_some()),
        compared: workload.compared(),
        judged: workload.judged.filter(|_| workload.rollout.candidate().is_some()),
        held: workload.held.map(|build| build.version),
        rollout: workload.rollout.clone(),
        breaker: workload.breaker,
        restarts_in_window: workload.restarts.count(),
        restarts_allowed: workload.spec.restart.budget,
        replicas: workload.replicas.iter().map(|replica| story(workload, replica, now)).collect(),
        transitions: workload.history.iter().cloned().collect(),
    }
}

/// What nobody follows is not told.
fn learnt(workload: &Workload) -> Vec<(Source, Vec<Expectation>)> {
    let followed = workload.learnt.iter().filter(|_| workload.spec.healing.order == HealingOrder::Learnt);
    followed.map(|ranking| (ranking.source(), ranking.order().to_vec())).collect()
}

fn story(workload: &Workload, replica: &Replica, now: Moment) -> ReplicaStory {
    let probes = workload.spec.probes.iter().zip(&replica.probes);
    ReplicaStory {
        slot: replica.slot,
        run: replica.run,
        version: replica.build.version,
        place: replica.lifecycle.place(),
        lifecycle: replica.lifecycle.clone(),
        since_heard: replica.lifecycle.is_alive().then(|| now.since(replica.heard)),
        probes: probes
            .map(|(spec, probing)| ProbeStory {
                spec: *spec,
                finding: probing.finding,
                bad_in_a_row: probing.bad_in_a_row(),
            })
            .collect(),
        hold: replica.hold,
        incident: replica.incident.clone(),
        attempts: replica.attempts,
        next: replica.deadline(&workload.spec.probes),
    }
}
