//! Means upon means until a machine is gone.
//!
//! Duty: asking, ending, killing; ghosts. Not here: why (`healing`, `rolling`, `state`).
//! Invariant: means only get stronger, and each has a deadline, so every stop ends: with the machine gone, or written
//! off as lost.

use crate::action::{Announcement, Order};
use crate::deadlines;
use crate::history::Cause;
use crate::id::{Run, Slot};
use crate::lifecycle::{End, Lifecycle, Means, StopReason};
use crate::replica::Ghost;
use crate::spec::Build;
use crate::turn::Turn;

use super::Workload;

impl Workload {
    /// Brings the machine down, beginning with `means` or, if it is being brought down already, not below it.
    pub(crate) fn stop(&mut self, turn: &mut Turn<'_>, slot: Slot, means: Means, because: StopReason) {
        let vm = self.vm(slot);
        let Some(replica) = self.replicas.get_mut(slot.index()) else { return };
        if !replica.lifecycle.is_alive() {
            return;
        }
        let because = match &replica.lifecycle {
            Lifecycle::Stopping { means: at, .. } if *at >= means => return,
            Lifecycle::Stopping { because, .. } => because.clone(),
            _ => because,
        };
        let (order, wait) = match means {
            Means::Agent => (Order::AskAgent { grace: turn.stop.grace() }, turn.stop.agent),
            Means::Terminate => (Order::Terminate, turn.stop.terminate),
            Means::Kill => (Order::Kill, deadlines::KILL_STOP),
        };
        let why = match &because {
            StopReason::Shutdown => Cause::Shutdown,
            StopReason::Failed(failure) => Cause::Failed(failure.clone()),
            StopReason::Overstayed(_) => Cause::DeadlinePassed,
            StopReason::NotWanted if self.orphaned => Cause::DependencyGone,
            StopReason::NotWanted => Cause::NotWanted,
            StopReason::Replace if replica.replace => Cause::Person,
            StopReason::Replace => Cause::NewVersion,
        };
        let deadline = turn.now.after(wait);
        self.go(turn, slot, Lifecycle::Stopping { means, deadline, because }, why);
        turn.order(vm, order);
    }

    /// The deadline of a stop has passed.
    pub(crate) fn stop_harder(&mut self, turn: &mut Turn<'_>, slot: Slot, means: Means, because: StopReason) {
        let id = self.id_of(slot);
        let harder = match means {
            Means::Agent => Means::Terminate,
            Means::Terminate => Means::Kill,
            Means::Kill => {
                self.go(turn, slot, Lifecycle::Ended(End::Lost), Cause::DeadlinePassed);
                self.breaker.withdrawn(slot);
                return turn.tell(Announcement::Lost { replica: id });
            }
        };
        turn.tell(Announcement::Stubborn { replica: id, means: harder });
        self.stop(turn, slot, harder, because);
    }

    /// Ends a machine whose identity belongs to a newer one.
    pub(crate) fn haunt(&mut self, turn: &mut Turn<'_>, slot: Slot, run: Run, build: Build) {
        let id = self.id_of(slot);
        let deadline = Some(turn.now.after(turn.stop.terminate));
        let Some(replica) = self.replica_mut(slot) else { return };
        replica.ghosts.push(Ghost { run, build, means: Means::Terminate, deadline });
        turn.tell(Announcement::Duplicate { replica: id, run });
        turn.order(id.run(run), Order::Terminate);
        turn.moved = true;
    }

    pub(crate) fn ghosts_turn(&mut self, turn: &mut Turn<'_>, slot: Slot) {
        let id = self.id_of(slot);
        let Some(replica) = self.replica_mut(slot) else { return };
        for ghost in &mut replica.ghosts {
            if ghost.deadline.is_none_or(|deadline| deadline > turn.now) {
                continue;
            }
            if ghost.means == Means::Kill {
                ghost.deadline = None;
                turn.tell(Announcement::Lost { replica: id });
                turn.moved = true;
            } else {
                ghost.means = Means::Kill;
                ghost.deadline = Some(turn.now.after(deadlines::KILL_STOP));
                turn.order(id.run(ghost.run), Order::Kill);
            }
        }
    }
}
