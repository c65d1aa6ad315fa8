//! What balloons leave to a workload's machines.
//!
//! Duty: the larger of what pressure wants and what is foreseen to be spare. Not here: how short the box is (`pressure`), what
//! a machine needs (`hearth-foresight`).
//! Invariants: advice leaves no machine less than its file says; pressure may; an order is given once.

use alloc::string::String;

use serde::{Deserialize, Serialize};

use crate::action::{Announcement, Order};
use crate::explain::MemoryStory;
use crate::lifecycle::Lifecycle;
use crate::turn::Turn;

use super::Workload;

/// So much would do for each machine, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Enough {
    mib: u32,
    why: String,
}

impl Workload {
    /// Follows pressure on memory, and what is foreseen.
    pub(crate) fn squeeze(&mut self, turn: &mut Turn<'_>, target: impl Fn(u32) -> u32) {
        if !self.spec.allowed.balloon {
            return;
        }
        let (id, enough) = (self.id, self.left());
        for replica in &mut self.replicas {
            let has = replica.build.needs.memory_mib;
            let spare = enough.map_or(0, |enough| has.saturating_sub(enough));
            let mib = target(has).max(spare);
            if replica.balloon_mib != Some(mib) && matches!(replica.lifecycle, Lifecycle::Running { .. }) {
                replica.balloon_mib = Some(mib);
                turn.order(id.replica(replica.slot).run(replica.run), Order::Balloon { mib });
            }
        }
    }

    /// Told once it counts.
    pub(crate) fn have_enough(&mut self, turn: &mut Turn<'_>, mib: u32, why: String) {
        if self.spec.ballooning.is_none() || !self.spec.allowed.balloon {
            return;
        }
        let of_mib = self.spec.build.needs.memory_mib;
        let left = |workload: &Workload| workload.left().map_or(of_mib, |left| left.min(of_mib));
        let before = left(self);
        self.enough = Some(Enough { mib, why: why.clone() });
        let left_mib = left(self);
        if left_mib != before {
            turn.tell(Announcement::Ballooned { workload: self.id, left_mib, of_mib, why });
            turn.moved = true;
        }
    }

    /// MiB that advice leaves to a machine, if any is followed.
    fn left(&self) -> Option<u32> {
        Some(self.enough.as_ref()?.mib.max(self.spec.ballooning?.least_mib))
    }

    pub(crate) fn memory(&self) -> Option<MemoryStory> {
        let of_mib = self.spec.build.needs.memory_mib;
        let left_mib = self.left()?.min(of_mib);
        Some(MemoryStory { left_mib, of_mib, why: self.enough.as_ref()?.why.clone() })
    }
}
