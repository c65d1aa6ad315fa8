//! Who starts and who stops, in which order.
//!
//! Duty: dependencies, admission, orphans, the way down. Not here: moves of a single workload (`workload`).
//! Invariants: nothing starts before what it waits for serves, nor beyond what the box has; nothing is stopped before
//! what needs it, unless somebody is in a hurry.

use crate::action::{Action, Announcement, Hold};
use crate::boot::Phase;
use crate::history::Cause;
use crate::id::{Slot, WorkloadId};
use crate::lifecycle::{End, Lifecycle, Means, StopReason};
use crate::pressure::Level;
use crate::replica::Replica;
use crate::spec::Needs;
use crate::turn::Turn;
use crate::workload::Workload;

use super::State;

impl State {
    pub(super) fn progress(&mut self, turn: &mut Turn<'_>) {
        match self.phase {
            Phase::Up => {
                // An orphan makes orphans of what requires it: nothing starts before all of them are known.
                for _ in 0..=self.workloads.len() {
                    for workload in &mut self.workloads {
                        workload.resize(turn);
                    }
                    if !self.find_orphans() {
                        break;
                    }
                    turn.moved = true;
                }
                for workload in &mut self.workloads {
                    workload.roll(turn);
                }
                self.stop_unwanted(turn);
                self.start_waiting(turn);
                let pressure = self.pressure;
                for workload in &mut self.workloads {
                    workload.squeeze(turn, |mib| pressure.balloon_target(mib));
                }
                self.remove_gone(turn);
            }
            Phase::Stopping => self.stop_next(turn),
            Phase::Opening | Phase::Safe | Phase::Down => {}
        }
    }

    /// A workload that requires one that nobody will bring up is not wanted until that changes. Says whether anything
    /// did.
    fn find_orphans(&mut self) -> bool {
        let mut found = false;
        for place in 0..self.workloads.len() {
            let workload = &self.workloads[place];
            let mut needed = workload.requires.iter().filter_map(|id| self.workload(*id));
            let orphaned = needed.any(|other| other.is_given_up(self.clock));
            found |= self.workloads[place].orphaned != orphaned;
            self.workloads[place].orphaned = orphaned;
        }
        found
    }

    fn stop_unwanted(&mut self, turn: &mut Turn<'_>) {
        for place in 0..self.workloads.len() {
            let workload = &self.workloads[place];
            let count = workload.count;
            let waits = count == 0 && !workload.idles() && self.is_needed(workload.id);
            if workload.replicas.len() <= count || waits {
                continue;
            }
            for slot in self.workloads[place].slots().skip(count) {
                let workload = &mut self.workloads[place];
                let Some(replica) = workload.replica(slot) else { continue };
                match replica.lifecycle {
                    Lifecycle::Starting { .. }
                    | Lifecycle::Running { .. }
                    | Lifecycle::Restarting { .. }
                    | Lifecycle::Ending { .. } => {
                        let means = replica.polite();
                        workload.stop(turn, slot, means, StopReason::NotWanted);
                    }
                    Lifecycle::Waiting | Lifecycle::BackingOff { .. } => {
                        workload.go(turn, slot, Lifecycle::Ended(End::Stopped), Cause::NotWanted);
                    }
                    Lifecycle::Stopping { .. } | Lifecycle::Ended(_) => {}
                }
            }
        }
    }

    /// Whether machines of others are there that have to go first.
    fn is_needed(&self, id: WorkloadId) -> bool {
        self.workloads.iter().any(|other| {
            other.has_machine()
                && (other.requires.contains(&id) || (other.count == 0 && other.after.contains(&id)))
        })
    }

    fn start_waiting(&mut self, turn: &mut Turn<'_>) {
        let mut promised = None;
        for place in 0..self.workloads.len() {
            for slot in self.workloads[place].slots().take(self.workloads[place].count) {
                let workload = &self.workloads[place];
                if !workload.replica(slot).is_some_and(|replica| replica.lifecycle == Lifecycle::Waiting) {
                    continue;
                }
                let promised = promised.get_or_insert_with(|| self.promised());
                let hold = self.hold(place, slot, *promised);
                let workload = &mut self.workloads[place];
                match hold {
                    None => {
                        *promised = promised.plus(workload.target(slot).needs);
                        workload.start(turn, slot);
                    }
                    Some(hold) => {
                        let id = workload.id_of(slot);
                        let Some(replica) = workload.replica_mut(slot) else { continue };
                        if replica.hold != Some(hold) {
                            replica.hold = Some(hold);
                            if hold.is_room() {
                                turn.tell(Announcement::NoRoom { replica: id, hold });
                            }
                        }
                    }
                }
            }
        }
    }

    /// Why a replica that waits may not start yet.
    fn hold(&self, place: usize, slot: Slot, promised: Needs) -> Option<Hold> {
        let workload = &self.workloads[place];
        // A new version goes on trial in place of the one that is: it may be what was wrong.
        if !workload.breaker.lets(slot) && (workload.breaker.is_open() || !workload.is_canary(slot)) {
            return Some(Hold::Trial);
        }
        if workload.replica(slot).is_some_and(|replica| !replica.ghosts.is_empty()) {
            return Some(Hold::Identity);
        }
        // Another version is not what was proposed to be healed, and who wants a new machine has answered.
        let proposed = |replica: &Replica| {
            replica.is_proposed() && !replica.replace && replica.build == workload.target(slot)
        };
        if workload.replica(slot).is_some_and(proposed) {
            return Some(Hold::Consent);
        }
        let mut predecessors = workload.after.iter().chain(&workload.requires);
        if let Some(id) = predecessors.find(|id| !self.workload(**id).is_some_and(Workload::serves)) {
            return Some(Hold::Dependency(*id));
        }
        let needs = workload.target(slot).needs;
        if let Some(ceiling) = workload.spec.ceiling
            && !reserved(workload).plus(needs).fits(ceiling)
        {
            return Some(Hold::Ceiling);
        }
        let (together, promise) = (promised.plus(needs), self.device.capacity.promise());
        if together.memory_mib > promise.memory_mib {
            return Some(Hold::Memory);
        }
        if together.cpu_milli > promise.cpu_milli {
            return Some(Hold::Cpu);
        }
        (self.pressure.memory == Level::Full).then_some(Hold::Pressure)
    }

    /// What all machines that are there, or about to come back, may take together.
    fn promised(&self) -> Needs {
        let snapping = self.workloads.iter().filter_map(Workload::snapping_needs);
        self.workloads.iter().map(reserved).chain(snapping).fold(Needs::default(), Needs::plus)
    }

    /// What is left for a machine that is written down as soon as it is warm, if that is the time for it.
    pub(super) fn room_to_snap(&self) -> Option<Needs> {
        let busy = self.workloads.iter().any(|workload| workload.snapping_needs().is_some());
        // Whoever waits for room comes first.
        let mut replicas = self.workloads.iter().flat_map(|workload| &workload.replicas);
        let starved = replicas.any(|replica| {
            replica.lifecycle == Lifecycle::Waiting && replica.hold.is_some_and(Hold::is_room)
        });
        let (promise, promised) = (self.device.capacity.promise(), self.promised());
        (!busy && !starved && self.pressure.memory == Level::Calm).then(|| Needs {
            memory_mib: promise.memory_mib.saturating_sub(promised.memory_mib),
            cpu_milli: promise.cpu_milli.saturating_sub(promised.cpu_milli),
        })
    }

    fn remove_gone(&mut self, turn: &mut Turn<'_>) {
        let before = self.workloads.len();
        self.workloads.retain(|workload| {
            let gone = !workload.wanted && workload.replicas.is_empty();
            if gone {
                let name = workload.spec.name.clone();
                turn.actions.push(Action::Forget { workload: workload.id, name });
            }
            !gone
        });
        turn.moved |= self.workloads.len() != before;
    }

    /// On the way down: what nobody needs any more.
    fn stop_next(&mut self, turn: &mut Turn<'_>) {
        for place in 0..self.workloads.len() {
            let id = self.workloads[place].id;
            let needed = self.workloads.iter().any(|other| {
                other.has_machine() && (other.after.contains(&id) || other.requires.contains(&id))
            });
            for slot in self.workloads[place].slots() {
                let workload = &mut self.workloads[place];
                let Some(replica) = workload.replica(slot) else { continue };
                let polite = replica.polite();
                match replica.lifecycle {
                    Lifecycle::Waiting | Lifecycle::BackingOff { .. } => {
                        workload.go(turn, slot, Lifecycle::Ended(End::Stopped), Cause::Shutdown);
                    }
                    Lifecycle::Starting { .. } | Lifecycle::Running { .. } | Lifecycle::Restarting { .. }
                        if !needed =>
                    {
                        workload.stop(turn, slot, polite, StopReason::Shutdown);
                    }
                    // Most likely it powers off just now, and then the question does no harm.
                    Lifecycle::Ending { end, .. } if !needed => {
                        workload.stop(turn, slot, polite, StopReason::Overstayed(end));
                    }
                    _ => {}
                }
            }
        }
        let down = self.workloads.iter().flat_map(|workload| &workload.replicas).all(|replica| {
            matches!(replica.lifecycle, Lifecycle::Ended(_))
                && replica.ghosts.iter().all(|ghost| ghost.deadline.is_none())
        });
        if down {
            self.finish(turn);
        }
    }

    pub(super) fn kill_all(&mut self, turn: &mut Turn<'_>) {
        for workload in &mut self.workloads {
            for slot in workload.slots() {
                workload.stop(turn, slot, Means::Kill, StopReason::Shutdown);
            }
        }
    }
}

fn reserved(workload: &Workload) -> Needs {
    let machines = workload.replicas.iter().filter(|replica| replica.is_reserved());
    let ghosts = workload.replicas.iter().flat_map(|replica| &replica.ghosts);
    let needs = machines.map(|replica| replica.build.needs).chain(ghosts.map(|ghost| ghost.build.needs));
    needs.fold(Needs::default(), Needs::plus)
}
