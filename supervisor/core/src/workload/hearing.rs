//! What machines say.
//!
//! Duty: from words to moves. Not here: what an end leads to (`healing`).
//! Invariant: a word about an earlier run changes nothing; a heartbeat changes a moment and allocates nothing.

use crate::action::{Announcement, StartHow};
use crate::deadlines;
use crate::event::Said;
use crate::failure::Failure;
use crate::history::Cause;
use crate::id::{Slot, Vm};
use crate::lifecycle::{End, Health, Lifecycle, StopReason};
use crate::probe::{Finding, Probing, Role};
use crate::turn::Turn;

use super::Workload;

impl Workload {
    /// Says whether deadlines other than that of a heartbeat may have changed.
    pub(crate) fn hear(&mut self, turn: &mut Turn<'_>, vm: Vm, said: Said) -> bool {
        let slot = vm.replica.slot;
        // It is the workload's: its machine may be gone by now.
        match said {
            Said::SnapshotTaken => return self.snapshot_taken(turn, vm),
            Said::SnapshotFailed => return self.snapshot_not_taken(turn, vm),
            _ => {}
        }
        let Some(replica) = self.replicas.get_mut(slot.index()) else { return false };
        if replica.run != vm.run || !replica.lifecycle.is_taken() {
            let ghosts = replica.ghosts.len();
            if matches!(said, Said::Ended(_) | Said::NotSpawned(_)) {
                replica.ghosts.retain(|ghost| ghost.run != vm.run);
                turn.moved |= replica.ghosts.len() != ghosts;
            }
            return turn.moved;
        }
        match said {
            Said::Heartbeat => {
                // Never back: who was excused for a while has a deadline that nobody brings forward.
                replica.heard = replica.heard.max(turn.now);
                if replica.is_proposed() {
                    self.beats_again(turn, slot);
                }
                return false;
            }
            Said::Served { requests, errors } => {
                replica.tally.served(requests, errors);
                return false;
            }
            Said::AgentConnected => {
                replica.agent = true;
                replica.heard = turn.now;
            }
            Said::AgentLost => replica.agent = false,
            Said::Probed { probe, good } => {
                let probe = usize::from(probe);
                if let (Some(spec), Some(probing)) =
                    (self.spec.probes.get(probe), replica.probes.get_mut(probe))
                {
                    probing.take(spec, turn.now, good);
                    self.weigh_probes(turn, slot);
                }
            }
            Said::SnapshotTaken | Said::SnapshotFailed => {}
            Said::SnapshotGone => {
                replica.made = StartHow::Cold;
                self.snapshot_gone(turn, slot);
            }
            Said::WorkloadStarted => self.workload_started(turn, slot),
            Said::WorkloadEnded(end) => match replica.lifecycle {
                Lifecycle::Starting { .. } | Lifecycle::Running { .. } | Lifecycle::Ending { .. } => {
                    let deadline = turn.now.after(deadlines::ENDING);
                    self.go(turn, slot, Lifecycle::Ending { end, deadline }, Cause::WorkloadEnded(end));
                }
                _ => {}
            },
            Said::Alarm(end) => match replica.lifecycle {
                Lifecycle::Starting { .. } | Lifecycle::Running { .. } | Lifecycle::Restarting { .. } => {
                    self.unhealthy(turn, slot, Failure::Vm(end));
                }
                _ => {}
            },
            Said::NotSpawned(why) => self.machine_gone(turn, slot, Failure::NotSpawned(why)),
            Said::Ended(end) => self.machine_gone(turn, slot, Failure::Vm(end)),
        }
        true
    }

    fn workload_started(&mut self, turn: &mut Turn<'_>, slot: Slot) {
        let id = self.id_of(slot);
        self.restarts_after_all(turn, slot);
        let Some(replica) = self.replicas.get_mut(slot.index()) else { return };
        replica.heard = turn.now;
        match replica.lifecycle {
            // From Ending: the guest's own policy started it again.
            Lifecycle::Starting { .. } | Lifecycle::Ending { .. } | Lifecycle::Restarting { .. } => {
                // A word that overtook the agent's hello is as good as one.
                replica.agent = true;
                replica.running_since = Some(turn.now);
                replica.probes.clear();
                replica.probes.extend(self.spec.probes.iter().map(|_| Probing::new(turn.now)));
                let health = self.first_health();
                turn.tell(Announcement::Running { replica: id });
                self.go(turn, slot, Lifecycle::Running { health }, Cause::AgentSaid);
            }
            _ => {}
        }
    }

    /// Of a workload that has just started.
    fn first_health(&self) -> Health {
        let asks = |role| self.spec.probes.iter().any(|spec| spec.check.is_asked() && spec.role == role);
        match (asks(Role::Startup), asks(Role::Readiness)) {
            (true, _) => Health::StartingUp,
            (false, true) => Health::Unready,
            (false, false) => Health::Ready,
        }
    }

    /// Draws conclusions from all that was answered so far.
    pub(crate) fn weigh_probes(&mut self, turn: &mut Turn<'_>, slot: Slot) {
        let Some(health) = self.health(slot) else { return };
        let Some(replica) = self.replicas.get(slot.index()) else { return };
        let asked = |role: Role| {
            let both = self.spec.probes.iter().zip(&replica.probes);
            both.filter(move |(spec, _)| spec.role == role && spec.check.is_asked())
        };
        let deciding = if health == Health::StartingUp { Role::Startup } else { Role::Liveness };
        if let Some((spec, _)) = asked(deciding).find(|(_, probing)| probing.finding == Finding::Bad) {
            let failure = Failure::Probe(spec.check);
            return self.unhealthy(turn, slot, failure);
        }
        let next = match health {
            Health::StartingUp => {
                if !asked(Role::Startup).all(|(_, probing)| probing.finding == Finding::Good) {
                    return;
                }
                let waits = asked(Role::Readiness).next().is_some();
                if waits { Health::Unready } else { Health::Ready }
            }
            Health::Ready | Health::Unready => {
                if asked(Role::Readiness).any(|(_, probing)| probing.finding == Finding::Bad) {
                    Health::Unready
                } else if asked(Role::Readiness).all(|(_, probing)| probing.finding == Finding::Good) {
                    Health::Ready
                } else {
                    health
                }
            }
        };
        if next != health {
            if health == Health::StartingUp {
                // The others are asked from now on, not from when nobody was there to answer.
                for probing in self.replicas.iter_mut().filter(|r| r.slot == slot).flat_map(|r| &mut r.probes)
                {
                    *probing = Probing::new(turn.now);
                }
            }
            self.go(turn, slot, Lifecycle::Running { health: next }, Cause::Probes);
        }
        self.answers_again(turn, slot);
    }

    /// The list of probes is another one: what the old ones found says nothing about it.
    pub(crate) fn reprobe(&mut self, turn: &mut Turn<'_>) {
        let count = self.spec.probes.len();
        for replica in &mut self.replicas {
            replica.heard = replica.heard.max(turn.now);
            if matches!(replica.lifecycle, Lifecycle::Running { .. }) {
                replica.probes.clear();
                replica.probes.extend((0..count).map(|_| Probing::new(turn.now)));
            }
        }
        // Whoever waited for an answer that nobody asks for any more waits no longer.
        for slot in self.slots() {
            self.weigh_probes(turn, slot);
        }
    }

    /// The machine is no more; `failure` tells why, should nothing better be known.
    pub(crate) fn machine_gone(&mut self, turn: &mut Turn<'_>, slot: Slot, failure: Failure) {
        let Some(replica) = self.replicas.get_mut(slot.index()) else { return };
        replica.agent = false;
        let outcome = match &replica.lifecycle {
            Lifecycle::Ending { end, .. } => end.outcome(),
            Lifecycle::Restarting { failure, .. } => Err(failure.clone()),
            Lifecycle::Ended(End::Lost) => Err(Failure::Lost),
            Lifecycle::Stopping { because, .. } => match because {
                StopReason::Overstayed(end) => end.outcome(),
                StopReason::Failed(first) => Err(first.clone()),
                StopReason::Shutdown | StopReason::NotWanted => {
                    // Nobody has to agree to anything about a machine that was not wanted.
                    if let Some(incident) = &mut replica.incident {
                        (incident.proposed, incident.consent) = (None, None);
                    }
                    self.breaker.withdrawn(slot);
                    return self.go(turn, slot, Lifecycle::Ended(End::Stopped), Cause::MachineGone);
                }
                StopReason::Replace => {
                    self.breaker.withdrawn(slot);
                    return self.go(turn, slot, Lifecycle::Waiting, Cause::MachineGone);
                }
            },
            _ => Err(failure),
        };
        self.conclude(turn, slot, outcome);
    }
}
