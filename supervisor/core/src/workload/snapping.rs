//! The warm snapshot that machines are restored from.
//!
//! ```text
//!        a replica stayed ready for a while            taken
//! Idle -------------------------------------> Asked ----------> Idle, and there is one of this version
//!  ^                                            |
//!  +-- not before some time: failed, or no word +
//! ```
//!
//! Duty: when one is asked for, and when one is not to be trusted. Not here: how it is taken: a machine like the one
//! that proved itself is made beside it, and written down when it is warm (the shell); when it is used (`healing`, and
//! every start that nobody wants to be from nothing).
//! Invariant: only a version that proved itself is kept, one on the whole box at a time, and only while there is room
//! on the disk and for one more machine, whose room is promised to it until it is taken; one that did not come to life
//! again is not used a second time.

use serde::{Deserialize, Serialize};

use crate::action::{Order, StartHow};
use crate::backoff::STEADY;
use crate::boot::Phase;
use crate::deadlines::{SNAPSHOT_AGAIN, SNAPSHOT_WITHIN};
use crate::id::{Slot, Vm};
use crate::moment::Moment;
use crate::rollout::Rollout;
use crate::spec::{Build, Needs};
use crate::turn::Turn;

use super::Workload;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Snapping {
    #[default]
    Idle,
    /// One failed.
    Resting { until: Moment },
    /// One of `build`, of whom `vm` is one.
    Asked { vm: Vm, build: Build, until: Moment },
}

impl Workload {
    /// Whether machines of this build can be restored. A version that has to prove itself does so from nothing: what is
    /// wrong with a snapshot must not speak against it.
    pub(crate) fn is_kept(&self, build: Build) -> bool {
        self.spec.allowed.restore
            && self.snapshot == Some(build.version)
            && self.rollout.candidate() != Some(build)
    }

    /// What one that is being taken needs for the time.
    pub(crate) fn snapping_needs(&self) -> Option<Needs> {
        match self.snapping {
            Snapping::Asked { build, .. } => Some(build.needs),
            Snapping::Idle | Snapping::Resting { .. } => None,
        }
    }

    pub(crate) fn snapping_turn(&mut self, turn: &mut Turn<'_>) {
        if !self.spec.allowed.restore {
            // Who wants none any more wants its place on the disk.
            self.snapshot = None;
        }
        match self.snapping {
            Snapping::Resting { until } if until <= turn.now => self.snapping = Snapping::Idle,
            Snapping::Asked { until, .. } if until <= turn.now => self.snapshot_failed(turn),
            _ => {}
        }
        if self.snapping == Snapping::Idle
            && turn.phase == Phase::Up
            && turn.disk_has_room
            && let Some((slot, proven)) = self.model()
            && proven <= turn.now
            && turn.room_to_snap.is_some_and(|room| self.current.needs.fits(room))
        {
            let vm = self.vm(slot);
            let until = turn.now.after(self.spec.start_within.saturating_add(SNAPSHOT_WITHIN));
            self.snapping = Snapping::Asked { vm, build: self.current, until };
            turn.room_to_snap = None;
            turn.order(vm, Order::Snapshot);
        }
    }

    /// The replica that proves itself first, and when it has.
    fn model(&self) -> Option<(Slot, Moment)> {
        let wanted = self.spec.allowed.restore
            && !self.spec.kind.ends()
            && self.rollout == Rollout::Steady
            && self.snapshot != Some(self.current.version);
        let fit = self.replicas.iter().take(self.count).filter(|replica| {
            replica.lifecycle.is_ready()
                && replica.agent
                && replica.build == self.current
                && replica.incident.is_none()
                && !replica.replace
        });
        let proven = fit.filter_map(|replica| Some((replica.slot, replica.tally.ready_since?.after(STEADY))));
        proven.filter(|_| wanted).min_by_key(|(_, proven)| *proven)
    }

    /// A moment of the past says that it is due but for something that wakes the core when it changes.
    pub(crate) fn snapping_deadline(&self, now: Moment) -> Option<Moment> {
        match self.snapping {
            Snapping::Idle => self.model().map(|(_, proven)| proven).filter(|proven| *proven > now),
            Snapping::Resting { until } | Snapping::Asked { until, .. } => Some(until),
        }
    }

    /// Says whether it was asked for. What comes when nobody waits for it any more may have been removed again.
    pub(crate) fn snapshot_taken(&mut self, turn: &mut Turn<'_>, of: Vm) -> bool {
        let Snapping::Asked { vm, build, .. } = self.snapping else { return false };
        if vm != of {
            return false;
        }
        self.snapshot = Some(build.version);
        self.snapping = Snapping::Idle;
        // Its room is free, and others may wait for their turn.
        turn.moved = true;
        true
    }

    /// Likewise.
    pub(crate) fn snapshot_not_taken(&mut self, turn: &mut Turn<'_>, of: Vm) -> bool {
        let ours = matches!(self.snapping, Snapping::Asked { vm, .. } if vm == of);
        if ours {
            self.snapshot_failed(turn);
        }
        ours
    }

    fn snapshot_failed(&mut self, turn: &mut Turn<'_>) {
        self.snapping = Snapping::Resting { until: turn.now.after(SNAPSHOT_AGAIN) };
        turn.moved = true;
    }

    /// The one that a machine was to come from is not there. It proves itself, and another one is taken.
    pub(crate) fn snapshot_gone(&mut self, turn: &mut Turn<'_>, slot: Slot) {
        let version = self.replica(slot).map(|replica| replica.build.version);
        if version.is_some() && self.snapshot == version {
            self.snapshot = None;
            turn.moved = true;
        }
    }

    /// A machine is gone that did not work; says whether its snapshot is to blame: it was restored and never got ready.
    pub(crate) fn doubt_snapshot(&mut self, turn: &mut Turn<'_>, slot: Slot) -> bool {
        let to_blame = self
            .replica(slot)
            .is_some_and(|replica| replica.made == StartHow::Restore && !replica.tally.was_ready());
        if to_blame {
            self.snapshot = None;
            // Another one that is being made goes on: two at a time are not promised any room.
            if self.snapping_needs().is_none() {
                self.snapshot_failed(turn);
            }
        }
        to_blame
    }
}
