//! The warm snapshot that a failed machine is restored from.
//!
//! ```text
//!        a replica stayed ready for a while            taken
//! Idle -------------------------------------> Asked ----------> Idle, and there is one of this version
//!  ^ ^                                          |  |
//!  | +------------- the machine went -----------+  |
//!  +-- not before some time: failed, or no word ---+
//! ```
//!
//! Duty: when one is asked for, and when one is not to be trusted. Not here: how it is taken (the monitor), when it is
//! used (`healing`).
//! Invariant: only a machine that proved itself is kept, one at a time and only while the disk has room; one that did
//! not come to life again is not used a second time.

use serde::{Deserialize, Serialize};

use crate::action::{Order, StartHow};
use crate::backoff::STEADY;
use crate::boot::Phase;
use crate::deadlines::{SNAPSHOT_AGAIN, SNAPSHOT_WITHIN};
use crate::id::{Run, Slot};
use crate::moment::Moment;
use crate::rollout::Rollout;
use crate::turn::Turn;

use super::Workload;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Snapping {
    #[default]
    Idle,
    /// One failed.
    Resting {
        until: Moment,
    },
    Asked {
        slot: Slot,
        run: Run,
        until: Moment,
    },
}

impl Workload {
    pub(crate) fn snapping_turn(&mut self, turn: &mut Turn<'_>) {
        match self.snapping {
            Snapping::Resting { until } if until <= turn.now => self.snapping = Snapping::Idle,
            Snapping::Asked { until, .. } if until <= turn.now => self.snapshot_failed(turn.now),
            Snapping::Asked { slot, run, .. } => {
                if !self
                    .replica(slot)
                    .is_some_and(|replica| replica.run == run && replica.lifecycle.is_ready())
                {
                    self.snapping = Snapping::Idle;
                }
            }
            Snapping::Idle | Snapping::Resting { .. } => {}
        }
        if self.snapping == Snapping::Idle
            && turn.phase == Phase::Up
            && turn.disk_has_room
            && let Some((slot, proven)) = self.model()
            && proven <= turn.now
        {
            let vm = self.vm(slot);
            let until = turn.now.after(SNAPSHOT_WITHIN);
            self.snapping = Snapping::Asked { slot, run: vm.run, until };
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

    pub(crate) fn snapshot_taken(&mut self, slot: Slot) {
        self.snapshot = self.replica(slot).map(|replica| replica.build.version);
        self.snapping = Snapping::Idle;
    }

    pub(crate) fn snapshot_failed(&mut self, now: Moment) {
        self.snapping = Snapping::Resting { until: now.after(SNAPSHOT_AGAIN) };
    }

    /// A machine is gone that did not work; if it was restored and never got ready, its snapshot is to blame as well.
    pub(crate) fn doubt_snapshot(&mut self, now: Moment, slot: Slot) {
        let Some(replica) = self.replica(slot) else { return };
        if replica.made == StartHow::Restore && !replica.tally.was_ready() {
            self.snapshot = None;
            self.snapshot_failed(now);
        }
    }
}
