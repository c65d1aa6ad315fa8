//! A daemon begins on a box that may be running already.
//!
//! ```text
//! Begin(records) --> Configured --> Found* --> Surveyed: up, or safe mode
//! ```
//!
//! Duty: take up what earlier daemons left: records, and machines. Not here: finding them (the shell).
//! Invariant: no machine that is still wanted is touched because the daemon was away; of two machines of one identity
//! the newer stays.

use alloc::vec::Vec;

use crate::action::{Action, Announcement};
use crate::boot::{Boot, BootReason, Phase, Settling};
use crate::breaker::Breaker;
use crate::budget::Restarts;
use crate::deadlines::BOX_SETTLED;
use crate::event::Found;
use crate::failure::Failure;
use crate::history::Cause;
use crate::id::{Slot, WorkloadId};
use crate::lifecycle::{End, Lifecycle};
use crate::record::{DeviceRecord, Record, Slots, Tripped};
use crate::replica::Replica;
use crate::spec::{Kind, MAX_REPLICAS, Spec};
use crate::turn::Turn;
use crate::workload::Workload;

use super::State;

impl State {
    pub(super) fn begin(
        &mut self,
        turn: &mut Turn<'_>,
        boot: Boot,
        device: DeviceRecord,
        records: Vec<Record>,
    ) {
        self.boot = boot;
        self.device_record = device;
        self.records = records;
        if boot.first_daemon {
            // Their moments are those of another boot, and jobs are done once for each boot.
            let of_this_boot = DeviceRecord { reboots: device.reboots, ..DeviceRecord::default() };
            if self.device_record != of_this_boot {
                turn.actions.push(Action::RememberDevice(of_this_boot));
            }
            self.device_record = of_this_boot;
            if boot.reason != BootReason::PowerOn || boot.failed_boots > 0 {
                let (reason, failed_boots) = (boot.reason, boot.failed_boots);
                turn.tell(Announcement::Booted { reason, failed_boots });
            }
            for record in &mut self.records {
                record.restarts = Restarts::default();
                record.durable.done = Slots::default();
                record.durable.failed = Slots::default();
                record.durable.asked = Slots::default();
            }
        }
        turn.moved = true;
    }

    /// A workload that has just become known, with what was kept of it.
    pub(super) fn admit(&mut self, turn: &mut Turn<'_>, spec: Spec) -> usize {
        let id = WorkloadId(self.next_id);
        self.next_id += 1;
        let record = self.records.iter().position(|record| record.name == spec.name);
        let wanted = spec.build;
        let mut workload = Workload::new(id, spec);
        if let Some(place) = record {
            let record = self.records.swap_remove(place);
            restore(&mut workload, turn, record);
            if self.boot.first_daemon {
                // What was kept is of another boot: it is written anew before a second daemon takes it for this one's.
                workload.remembered = None;
            }
            workload.offer(turn, wanted);
        }
        self.workloads.push(workload);
        self.workloads.len() - 1
    }

    /// A machine of an earlier daemon.
    pub(super) fn adopt(&mut self, turn: &mut Turn<'_>, found: &Found) {
        if found.slot.0 >= MAX_REPLICAS {
            // Nobody started it; it cannot be given a place, so it is left alone.
            return;
        }
        let known = self.workloads.iter().position(|workload| workload.spec.name == found.name);
        let place = known.unwrap_or_else(|| {
            let stub = Spec::new(&found.name, Kind::Service { replicas: 0 }, found.build);
            let place = self.admit(turn, stub);
            self.workloads[place].wanted = false;
            place
        });
        let workload = &mut self.workloads[place];
        workload.last_run = workload.last_run.max(found.run);
        if workload.remembered.is_none() && !workload.good && !workload.has_machine() {
            // Nothing was kept, but this ran: what is wanted instead has to prove itself against it.
            let wanted = core::mem::replace(&mut workload.current, found.build);
            workload.good = true;
            workload.count = workload.wanted_count(turn.now);
            workload.offer(turn, wanted);
        }
        // What runs was wanted a moment ago: what was foreseen outlives the daemon that foresaw it.
        workload.advised = workload.advised.max(Some(found.slot.0.saturating_add(1)));
        workload.keep_found(found.slot, turn.now);
        while workload.replicas.len() <= found.slot.index() {
            let slot = Slot::at(workload.replicas.len());
            let build = workload.target(slot);
            workload.replicas.push(Replica::new(slot, build, turn.now));
        }
        let replica = &mut workload.replicas[found.slot.index()];
        if replica.lifecycle.is_taken() {
            let (older, its) = if replica.run > found.run {
                (found.run, found.build)
            } else {
                let its = core::mem::replace(&mut replica.build, found.build);
                (core::mem::replace(&mut replica.run, found.run), its)
            };
            return workload.haunt(turn, found.slot, older, its);
        }
        replica.run = found.run;
        replica.build = found.build;
        replica.heard = turn.now;
        replica.balloon_mib = None;
        // One that runs what is wanted was made for what is wanted; the record may be older than it.
        replica.replace = workload.of_another_kind && found.build != workload.spec.build;
        let deadline = turn.now.after(workload.spec.start_within);
        workload.go(turn, found.slot, Lifecycle::Starting { deadline }, Cause::Adopted);
        self.adopted += 1;
    }

    pub(super) fn surveyed(&mut self, turn: &mut Turn<'_>) {
        if self.phase != Phase::Opening {
            return;
        }
        if self.adopted > 0 {
            turn.tell(Announcement::Adopted { machines: self.adopted });
        }
        let left = self.device_record.left_safe_mode;
        if self.boot.wants_safe_mode(self.device.safe_mode_after) && !left {
            self.phase = Phase::Safe;
            let held = self.device.safe_mode_for;
            self.safe_until = held.map(|held| turn.now.after(held));
            turn.tell(Announcement::SafeMode { failed_boots: self.boot.failed_boots, held });
        } else {
            self.go_up(turn);
        }
        turn.phase = self.phase;
        turn.moved = true;
    }

    pub(super) fn leave_safe_mode(&mut self, turn: &mut Turn<'_>) {
        // A daemon that dies before the boot has settled does not undo it.
        self.device_record.left_safe_mode = true;
        turn.actions.push(Action::RememberDevice(self.device_record));
        self.go_up(turn);
    }

    pub(super) fn go_up(&mut self, turn: &mut Turn<'_>) {
        self.phase = Phase::Up;
        turn.phase = Phase::Up;
        self.up_since = Some(turn.now);
        self.safe_until = None;
        self.settling = Settling::At(turn.now.after(BOX_SETTLED));
        turn.moved = true;
    }
}

fn restore(workload: &mut Workload, turn: &mut Turn<'_>, record: Record) {
    let durable = record.durable;
    workload.last_run = durable.last_run;
    workload.of_another_kind = durable.kind.ends() != workload.spec.kind.ends();
    workload.current = durable.current;
    workload.good = durable.good;
    workload.previous = durable.previous;
    workload.rejected = durable.rejected;
    workload.stopped = durable.stopped;
    workload.scale = durable.scale;
    workload.snapshot = durable.snapshot;
    workload.restarts = record.restarts;
    workload.breaker = match durable.breaker {
        Tripped::Not => Breaker::Closed,
        Tripped::Quarantined => {
            // The alarm stands, and whoever listens to this daemon has not heard it.
            let restarts = workload.restarts.count();
            turn.tell(Announcement::Quarantined { workload: workload.id, failure: None, restarts });
            Breaker::Open { since: turn.now }
        }
        Tripped::OnTrial => Breaker::HalfOpen { trial: None },
    };
    workload.remembered = Some((durable, workload.restarts.last()));
    workload.count = workload.wanted_count(turn.now);
    // What is over is not begun again because the daemon did.
    let done = durable.done.iter().map(|slot| (slot, End::Done));
    let failed = durable.failed.iter().map(|slot| (slot, End::Failed(Failure::Earlier)));
    for (slot, end) in done.chain(failed).filter(|(slot, _)| slot.index() < workload.count) {
        while workload.replicas.len() <= slot.index() {
            let next = Slot::at(workload.replicas.len());
            workload.replicas.push(Replica::new(next, durable.current, turn.now));
        }
        workload.replicas[slot.index()].lifecycle = Lifecycle::Ended(end);
    }
    // Nor is what nobody agreed to done because another daemon comes.
    let count = workload.count;
    for slot in durable.asked.iter().filter(|slot| slot.index() < count) {
        while workload.replicas.len() <= slot.index() {
            let next = Slot::at(workload.replicas.len());
            workload.replicas.push(Replica::new(next, durable.current, turn.now));
        }
        workload.ask_again(turn, slot);
    }
}
