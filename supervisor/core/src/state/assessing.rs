//! What is told of the whole, and what is kept for the next daemon.
//!
//! Duty: whether the box got where it will get; records. Not here: words (the shell).
//! Invariant: everything of the whole is told once until it changes; a record stands before the actions that rely on
//! it having been kept.

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::action::{Action, Announcement};
use crate::boot::Phase;
use crate::id::WorkloadId;
use crate::lifecycle::Lifecycle;
use crate::record::Record;
use crate::turn::Turn;
use crate::workload::Workload;

use super::{Standing, State};

impl State {
    /// Tells when the whole got where it will get.
    pub(super) fn assess(&mut self, turn: &mut Turn<'_>) {
        if self.phase != Phase::Up {
            return;
        }
        let blocked = self.blocked(turn);
        for (workload, on) in self.workloads.iter_mut().zip(&blocked) {
            if let Some(on) = *on
                && !workload.told_blocked
            {
                workload.told_blocked = true;
                turn.tell(Announcement::Blocked { workload: workload.id, on });
            }
        }
        let wanted = || self.workloads.iter().zip(&blocked).filter(|(workload, _)| workload.wanted);
        let of = wanted().count();
        let ready = wanted().filter(|(workload, _)| workload.is_complete()).count();
        let settled = wanted().all(|(workload, blocked)| {
            workload.is_complete() || blocked.is_some() || workload.is_given_up(turn.now)
        });
        let standing = match settled {
            false => Standing::Unsettled,
            true if ready == of => Standing::Ready,
            true => Standing::Short { ready },
        };
        if standing != self.standing {
            self.standing = standing;
            match standing {
                Standing::Unsettled => {}
                Standing::Ready => turn.tell(Announcement::Ready { ready, of }),
                Standing::Short { ready } => turn.tell(Announcement::NotReady { ready, of }),
            }
        }
    }

    /// For each workload, what it waits for in vain.
    fn blocked(&self, turn: &Turn<'_>) -> Vec<Option<WorkloadId>> {
        let mut blocked = alloc::vec![None; self.workloads.len()];
        // Spreads one predecessor further in each round: not by recursion, whose paths may be exponentially many.
        loop {
            let mut spread = false;
            for (place, workload) in self.workloads.iter().enumerate() {
                if blocked[place].is_some() || !waits(workload) {
                    continue;
                }
                let mut predecessors = workload.after.iter().chain(&workload.requires).copied();
                blocked[place] = predecessors.find(|id| {
                    self.place(*id).is_some_and(|other| {
                        blocked[other].is_some() || self.workloads[other].is_given_up(turn.now)
                    })
                });
                spread |= blocked[place].is_some();
            }
            if !spread {
                return blocked;
            }
        }
    }

    pub(super) fn remember(&mut self, turn: &mut Turn<'_>) {
        if matches!(self.phase, Phase::Opening) {
            return;
        }
        let mut kept = 0;
        for workload in self.workloads.iter_mut().filter(|workload| workload.wanted) {
            let state = (workload.durable(), workload.restarts.last());
            if workload.remembered == Some(state) {
                continue;
            }
            workload.remembered = Some(state);
            let record = Record {
                name: workload.spec.name.clone(),
                durable: state.0,
                restarts: workload.restarts.clone(),
            };
            turn.actions.insert(kept, Action::Remember(Box::new(record)));
            kept += 1;
        }
    }
}

fn waits(workload: &Workload) -> bool {
    let wanted = workload.replicas.iter().take(workload.count);
    wanted.clone().any(|replica| replica.lifecycle == Lifecycle::Waiting)
        && !wanted.clone().any(|replica| replica.lifecycle.is_alive())
}
