//! One workload: what is wanted of it, and its replicas.
//!
//! | file | what |
//! |---|---|
//! | `ballooning.rs` | what balloons leave to its machines |
//! | `calling.rs` | a function's calls, and what waits for the next |
//! | `hearing.rs` | what machines say |
//! | `healing.rs` | ends, failures, the ladder, quarantine |
//! | `stopping.rs` | means upon means until a machine is gone |
//! | `timing.rs` | deadlines, and what is due |
//! | `rolling.rs` | new versions, replacements |
//! | `snapping.rs` | warm snapshots |
//! | `standing.rs` | how the whole of it stands |
//!
//! Duty: every move of its replicas that no other workload has a say in. Not here: who may start when (`state`).
//! Invariant: every move goes through [`Workload::go`], so it is in the history, and traffic follows readiness.

mod ballooning;
mod calling;
mod healing;
mod hearing;
mod rolling;
mod snapping;
mod standing;
mod stopping;
mod timing;

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::action::{Announcement, Order, StartHow};
use crate::breaker::Breaker;
use crate::budget::{LogMinute, Restarts};
use crate::history::{Cause, History, Transition};
use crate::id::{ReplicaId, Run, Slot, Version, Vm, WorkloadId};
use crate::lifecycle::{End, Health, Lifecycle};
use crate::moment::Moment;
use crate::ranking::Ranking;
use crate::record::Durable;
use crate::replica::Replica;
use crate::rollout::{Grounds, Judged, Rollout, Tally};
use crate::spec::{Build, Spec};
use crate::turn::Turn;

use self::ballooning::Enough;
use self::calling::Calling;
use self::snapping::Snapping;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Workload {
    pub(crate) id: WorkloadId,
    pub(crate) spec: Spec,
    /// It is in the configuration; otherwise it goes as soon as its machines are gone.
    pub(crate) wanted: bool,
    /// A person stopped it.
    pub(crate) stopped: bool,
    pub(crate) scale: Option<u16>,
    /// What was last foreseen to do, or what ran when this daemon began.
    pub(crate) advised: Option<u16>,
    /// At most one for each source of faults.
    pub(crate) learnt: Vec<Ranking>,
    pub(crate) calling: Calling,
    pub(crate) enough: Option<Enough>,
    pub(crate) current: Build,
    pub(crate) good: bool,
    pub(crate) previous: Option<Build>,
    pub(crate) rejected: Option<Version>,
    /// Why, if this daemon saw it.
    pub(crate) rejected_for: Option<Grounds>,
    /// What was last made of how a new version serves.
    pub(crate) judged: Option<Judged>,
    /// What waits for a window of maintenance.
    pub(crate) held: Option<Build>,
    pub(crate) snapshot: Option<Version>,
    pub(crate) snapping: Snapping,
    pub(crate) rollout: Rollout,
    pub(crate) breaker: Breaker,
    pub(crate) restarts: Restarts,
    pub(crate) logs: LogMinute,
    pub(crate) last_run: Run,
    /// Machines that are found were made for another kind of workload.
    pub(crate) of_another_kind: bool,
    pub(crate) after: Vec<WorkloadId>,
    pub(crate) requires: Vec<WorkloadId>,
    /// What it requires is gone for good: it is not wanted for that long.
    pub(crate) orphaned: bool,
    /// How many replicas are wanted, as of the last look.
    pub(crate) count: usize,
    pub(crate) replicas: Vec<Replica>,
    pub(crate) history: History,
    pub(crate) told_blocked: bool,
    pub(crate) remembered: Option<(Durable, Option<Moment>)>,
}

impl Workload {
    pub(crate) fn new(id: WorkloadId, spec: Spec) -> Workload {
        Workload {
            id,
            wanted: true,
            stopped: false,
            scale: None,
            advised: None,
            learnt: Vec::new(),
            calling: Calling::default(),
            enough: None,
            current: spec.build,
            good: false,
            previous: None,
            rejected: None,
            rejected_for: None,
            judged: None,
            held: None,
            snapshot: None,
            snapping: Snapping::Idle,
            rollout: Rollout::Steady,
            breaker: Breaker::Closed,
            restarts: Restarts::default(),
            logs: LogMinute::default(),
            last_run: Run(0),
            of_another_kind: false,
            after: Vec::new(),
            requires: Vec::new(),
            orphaned: false,
            count: 0,
            replicas: Vec::new(),
            history: History::default(),
            told_blocked: false,
            remembered: None,
            spec,
        }
    }

    pub(crate) fn id_of(&self, slot: Slot) -> ReplicaId {
        self.id.replica(slot)
    }

    pub(crate) fn replica(&self, slot: Slot) -> Option<&Replica> {
        self.replicas.get(slot.index())
    }

    pub(crate) fn replica_mut(&mut self, slot: Slot) -> Option<&mut Replica> {
        self.replicas.get_mut(slot.index())
    }

    pub(crate) fn slots(&self) -> impl Iterator<Item = Slot> + use<> {
        (0..self.replicas.len()).map(Slot::at)
    }

    /// What this replica is to run.
    pub(crate) fn target(&self, slot: Slot) -> Build {
        match self.rollout.candidate() {
            Some(candidate) if slot.0 < self.rollout.moved() => candidate,
            _ => self.current,
        }
    }

    /// Makes a move, keeps it, and tells who sends traffic.
    pub(crate) fn go(&mut self, turn: &mut Turn<'_>, slot: Slot, next: Lifecycle, why: Cause) {
        let id = self.id_of(slot);
        let Some(replica) = self.replicas.get_mut(slot.index()) else { return };
        let (from, to) = (replica.lifecycle.place(), next.place());
        let (was_ready, is_ready) = (replica.lifecycle.is_ready(), next.is_ready());
        let vm = id.run(replica.run);
        let is_alive = next.is_alive();
        replica.lifecycle = next;
        if was_ready != is_ready {
            replica.tally.turned(turn.now, is_ready);
            self.breaker.turned(slot, turn.now, is_ready);
            if let Some(incident) = &mut replica.incident {
                if is_ready { incident.ready(turn.now) } else { incident.unready() }
            }
            if is_ready && replica.build == self.current {
                self.good = true;
            }
            if is_alive {
                turn.order(vm, Order::Traffic { open: is_ready });
            }
        }
        self.history.push(Transition { at: turn.now, slot, run: vm.run, from, to, why });
        turn.moved = true;
    }

    /// Gives a replica that waits its machine.
    pub(crate) fn start(&mut self, turn: &mut Turn<'_>, slot: Slot) {
        let build = self.target(slot);
        let run = Run(self.last_run.0.wrapping_add(1));
        let deadline = turn.now.after(self.spec.start_within);
        self.last_run = run;
        self.breaker.started(slot);
        self.told_blocked = false;
        let id = self.id_of(slot);
        let how = self.how(slot, build);
        let Some(replica) = self.replicas.get_mut(slot.index()) else { return };
        replica.how = None;
        if replica.build != build {
            replica.incident = None;
            self.rollout.replaced(replica.tally);
        }
        if let Some(incident) = &mut replica.incident {
            incident.started(turn.now);
        }
        replica.run = run;
        replica.made = how;
        replica.build = build;
        replica.agent = false;
        replica.heard = turn.now;
        replica.running_since = None;
        replica.hold = None;
        replica.replace = false;
        replica.balloon_mib = Some(0);
        replica.tally = Tally::default();
        self.go(turn, slot, Lifecycle::Starting { deadline }, Cause::Wanted);
        turn.order(id.run(run), Order::Start { build, how });
    }

    /// From what its next machine is made.
    fn how(&self, slot: Slot, build: Build) -> StartHow {
        let Some(replica) = self.replica(slot) else { return StartHow::Cold };
        // A snapshot is of one version.
        let is_kept = self.is_kept(build);
        match replica.how {
            Some(StartHow::Restore) if !is_kept => StartHow::Cold,
            Some(how) => how,
            // On trial is the workload, not a snapshot of it; and who asks for a new machine means one from nothing.
            None if is_kept && !replica.replace && !self.breaker.is_on_trial(slot) => StartHow::Restore,
            None => StartHow::Cold,
        }
    }

    /// Makes as many slots as are wanted, and drops empty ones behind them. What ended gets another chance where
    /// something changed for it.
    pub(crate) fn resize(&mut self, turn: &mut Turn<'_>) {
        self.count = self.wanted_count(turn.now);
        while self.replicas.len() < self.count {
            let slot = Slot::at(self.replicas.len());
            let build = self.target(slot);
            self.replicas.push(Replica::new(slot, build, turn.now));
            turn.moved = true;
        }
        // What is over stays over if the workload is not wanted only because what it requires is gone: no job is done
        // twice for that.
        let waits = self.orphaned && self.wanted && !self.stopped;
        let goes = |replica: &Replica| replica.is_vacant() && !(waits && replica.is_over());
        while self.replicas.len() > self.count && self.replicas.last().is_some_and(goes) {
            self.replicas.pop();
        }
        for slot in self.slots().take(self.count) {
            let target = self.target(slot);
            let open = self.breaker.is_open();
            let Some(replica) = self.replicas.get_mut(slot.index()) else { continue };
            let other_version = replica.build != target;
            let again = match &replica.lifecycle {
                Lifecycle::Ended(End::Stopped) => true,
                Lifecycle::Ended(End::Done | End::Failed(_)) | Lifecycle::BackingOff { .. } => other_version,
                Lifecycle::Ended(End::Quarantined) => !open,
                _ => false,
            };
            if other_version && again {
                replica.attempts = 0;
                replica.incident = None;
                replica.how = None;
            }
            if again {
                self.go(turn, slot, Lifecycle::Waiting, Cause::Wanted);
            }
            if open && self.replicas[slot.index()].lifecycle == Lifecycle::Waiting {
                self.go(turn, slot, Lifecycle::Ended(End::Quarantined), Cause::Quarantine);
            }
        }
    }

    pub(crate) fn vm(&self, slot: Slot) -> Vm {
        self.id_of(slot).run(self.replica(slot).map_or(Run(0), |replica| replica.run))
    }

    /// A person's or the fleet's word that trying again makes sense.
    pub(crate) fn retry(&mut self, turn: &mut Turn<'_>) {
        let lifted = self.breaker.retry();
        let rejected = self.rejected.take().is_some();
        let mut failed = false;
        for slot in self.slots() {
            let Some(replica) = self.replicas.get_mut(slot.index()) else { continue };
            if matches!(replica.lifecycle, Lifecycle::Ended(End::Failed(_) | End::Quarantined)) {
                failed = true;
                replica.attempts = 0;
                // On trial is the workload, not a snapshot of it.
                replica.how = Some(StartHow::Cold);
                replica.incident = None;
                self.go(turn, slot, Lifecycle::Waiting, Cause::Person);
            }
        }
        let held = self.held.take().is_some();
        if rejected || held {
            // A person's word passes.
            let window = core::mem::take(&mut turn.window);
            self.offer(turn, self.spec.build);
            turn.window = window;
        }
        if lifted || rejected || held || failed {
            self.restarts.forget();
            turn.tell(Announcement::Retried { workload: self.id });
        }
        turn.moved = true;
    }

    pub(crate) fn health(&self, slot: Slot) -> Option<Health> {
        match self.replica(slot)?.lifecycle {
            Lifecycle::Running { health } => Some(health),
            _ => None,
        }
    }
}
