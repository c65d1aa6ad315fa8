//! Deadlines, and what is due.
//!
//! Duty: when the workload needs a step, and that step. Not here: how long waits are (`deadlines`, the spec).
//! Invariant: after [`Workload::timers`] nothing of the workload is due at that moment.

use core::time::Duration;

use crate::action::Order;
use crate::boot::Phase;
use crate::breaker::Breaker;
use crate::failure::Failure;
use crate::history::Cause;
use crate::id::Slot;
use crate::incident::Incident;
use crate::lifecycle::{Lifecycle, Means, StopReason};
use crate::moment::Moment;
use crate::probe::{Check, Want};
use crate::replica::{Replica, is_active};
use crate::turn::Turn;

use super::Workload;

impl Workload {
    /// Rollouts go on only while the box is up.
    pub(crate) fn deadline(&self, phase: Phase, now: Moment) -> Option<Moment> {
        let replicas = self.replicas.iter().filter_map(|replica| replica.deadline(&self.spec.probes));
        let rollout = self.rollout_deadline().filter(|_| phase == Phase::Up);
        let idle = self.calling.deadline();
        let snapshot = self.snapping_deadline(now).filter(|_| phase == Phase::Up);
        replicas.chain(snapshot).chain(idle).chain(rollout).chain(self.breaker.deadline()).min()
    }

    pub(crate) fn excuse(&mut self, late: Duration) {
        for replica in &mut self.replicas {
            replica.excuse(late);
        }
    }

    pub(crate) fn timers(&mut self, turn: &mut Turn<'_>) {
        turn.moved |= self.calling.turn(turn.now);
        if self.breaker.deadline().is_some_and(|proven| proven <= turn.now) {
            self.breaker = Breaker::Closed;
            turn.moved = true;
        }
        for slot in self.slots() {
            let Some(replica) = self.replica(slot) else { continue };
            if replica.deadline(&self.spec.probes).is_some_and(|deadline| deadline <= turn.now) {
                self.timer(turn, slot);
            }
        }
        // Last: who is healed just now has proved itself.
        self.snapping_turn(turn);
    }

    fn timer(&mut self, turn: &mut Turn<'_>, slot: Slot) {
        self.ghosts_turn(turn, slot);
        let Some(replica) = self.replica(slot) else { return };
        let incident_over = replica.incident.as_ref().and_then(Incident::deadline);
        if matches!(replica.lifecycle, Lifecycle::Running { .. }) {
            self.probes_turn(turn, slot);
        } else if replica.lifecycle.deadline().is_some_and(|deadline| deadline <= turn.now) {
            self.lifecycle_turn(turn, slot);
        }
        // Only if it is still ready after its probes were looked at.
        let ready = self.replica(slot).is_some_and(|replica| replica.lifecycle.is_ready());
        if ready && incident_over.is_some_and(|until| until <= turn.now) {
            self.healed(turn, slot);
        }
    }

    fn lifecycle_turn(&mut self, turn: &mut Turn<'_>, slot: Slot) {
        let Some(replica) = self.replica(slot) else { return };
        match replica.lifecycle.clone() {
            Lifecycle::Waiting | Lifecycle::Running { .. } | Lifecycle::Ended(_) => {}
            Lifecycle::BackingOff { .. } => self.go(turn, slot, Lifecycle::Waiting, Cause::DelayOver),
            // An agent that did not answer in time is not asked.
            Lifecycle::Starting { .. } => {
                self.stop(turn, slot, Means::Terminate, StopReason::Failed(Failure::NotReadyInTime));
            }
            Lifecycle::Restarting { .. } => self.unhealthy(turn, slot, Failure::ProcessNotRestarted),
            Lifecycle::Ending { end, .. } => {
                self.stop(turn, slot, Means::Terminate, StopReason::Overstayed(end));
            }
            Lifecycle::Stopping { means, because, .. } => self.stop_harder(turn, slot, means, because),
        }
    }

    fn probes_turn(&mut self, turn: &mut Turn<'_>, slot: Slot) {
        let vm = self.vm(slot);
        let Some(health) = self.health(slot) else { return };
        let Some(replica) = self.replicas.get_mut(slot.index()) else { return };
        let (mut overdue, proposed) = (false, replica.is_proposed());
        for (place, (spec, probing)) in self.spec.probes.iter().zip(&mut replica.probes).enumerate() {
            if spec.check == Check::Heartbeat {
                if !proposed && replica.heard.after(spec.patience()) <= turn.now {
                    self.unhealthy(turn, slot, Failure::HeartbeatLost);
                    // Where somebody is asked first, the machine stays, and its other probes may be due.
                    if self.replica(slot).is_some_and(Replica::is_proposed) {
                        self.probes_turn(turn, slot);
                    }
                    return;
                }
            } else if is_active(spec, health) {
                match probing.turn(spec, turn.now) {
                    Want::Nothing => {}
                    Want::Overdue => overdue = true,
                    Want::Ask => {
                        let probe = u8::try_from(place).unwrap_or(u8::MAX);
                        turn.order(vm, Order::Probe { probe, timeout: spec.timeout });
                    }
                }
            }
        }
        if overdue {
            self.weigh_probes(turn, slot);
        }
    }
}
