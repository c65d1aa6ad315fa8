//! The box itself.
//!
//! Duty: the watchdog, the daemon's own late parts, pressure, log budgets, a boot that settles.
//! Not here: how any of them is measured.
//! Invariant: nothing here has connectivity as an input.

use alloc::vec::Vec;

use crate::action::{Action, Announcement};
use crate::boot::{BootReason, Phase, Settling};
use crate::deadlines::{BOX_SETTLED, MOST_REBOOTS, REBOOTS_FORGIVEN};
use crate::fault::{FaultClass, Severity, Source};
use crate::id::{Version, WorkloadId};
use crate::moment::Moment;
use crate::policy::{Case, Rung, Rungs, Tried, choose};
use crate::pressure::{Level, Measure, Resource};
use crate::record::Record;
use crate::turn::Turn;
use crate::watchdog::{Subsystem, Verdict};
use crate::workload::Workload;

use super::State;

impl State {
    pub(super) fn subsystem_alive(&mut self, turn: &mut Turn<'_>, subsystem: Subsystem) -> bool {
        let was_late = self.watchdog.alive(subsystem, turn.now);
        if was_late {
            turn.tell(Announcement::Timely { subsystem });
        }
        was_late
    }

    pub(super) fn care(&mut self, turn: &mut Turn<'_>) {
        while let Some(subsystem) = self.watchdog.find_late(turn.now) {
            turn.tell(Announcement::Late { subsystem });
        }
        match self.watchdog.verdict(turn.now) {
            Verdict::Pet => turn.actions.push(Action::Pet),
            Verdict::Wait | Verdict::Starve => {}
        }
        self.heal_box(turn);
        if let Settling::At(at) = self.settling
            && at <= turn.now
            && self.phase == Phase::Up
        {
            self.settling = Settling::Settled;
            turn.actions.push(Action::BootSettled);
        }
        if self.phase == Phase::Safe && self.safe_until.is_some_and(|until| until <= turn.now) {
            turn.tell(Announcement::SafeModeOver);
            self.leave_safe_mode(turn);
        }
        if self.forgiven_at().is_some_and(|at| at <= turn.now) {
            self.device_record.reboots = 0;
            turn.actions.push(Action::RememberDevice(self.device_record));
        }
        while let Some(measure) = self.pressure.disk_turn(turn.now) {
            match measure {
                Measure::TrimLogs => turn.actions.push(Action::TrimLogs),
                Measure::CollectImages => turn.actions.push(Action::CollectImages { keep: self.versions() }),
                Measure::Tell => turn.tell(Announcement::DiskFull),
            }
        }
    }

    /// When the reboots that were to heal the box count no more.
    fn forgiven_at(&self) -> Option<Moment> {
        let since = self.device_record.healed.max(self.up_since);
        since
            .filter(|_| self.device_record.reboots > 0 && self.phase == Phase::Up)
            .map(|at| at.after(REBOOTS_FORGIVEN))
    }

    /// Every version that is or may be needed again, each once.
    fn versions(&self) -> Vec<Version> {
        let of_records = self.records.iter().flat_map(Record::versions);
        let mut versions: Vec<Version> =
            self.workloads.iter().flat_map(Workload::versions).chain(of_records).collect();
        versions.sort_unstable();
        versions.dedup();
        versions
    }

    /// A part of the daemon that stays late is a fault like any other, with means of its own.
    fn heal_box(&mut self, turn: &mut Turn<'_>) {
        let Some((subsystem, due)) = self.healing_due() else { return };
        if due > turn.now || matches!(self.phase, Phase::Stopping | Phase::Down) {
            return;
        }
        let serves = self.workloads.iter().any(Workload::has_ready);
        let record = &mut self.device_record;
        if record.healed.is_none_or(|healed| turn.now.since(healed) >= BOX_SETTLED) {
            record.tried = Tried::default();
        }
        let mut possible = Rungs::of(&[Rung::ReExec, Rung::StopPetting]);
        // A box that serves nobody has nothing to wait for; and the hardware's watchdog waits for nothing anyway.
        let may_reboot = !self.window.is_shut() || !serves;
        if self.device.watchdog.reboot && record.reboots < MOST_REBOOTS && may_reboot {
            possible = possible.with(Rung::Reboot);
        }
        let class = FaultClass { source: Source::Supervisor, severity: Severity::Critical };
        let case = Case { class, possible, tried: record.tried, budget_left: 0 };
        let choice = choose(turn.policy, None, &case);
        record.tried.note(choice.rung);
        record.reboots = record.reboots.saturating_add(u8::from(choice.rung == Rung::Reboot));
        record.healed = Some(turn.now);
        turn.actions.push(Action::RememberDevice(*record));
        turn.tell(Announcement::HealingBox { subsystem, choice });
        match choice.rung {
            Rung::Reboot => self.begin_shutdown(turn, Some(BootReason::Healing)),
            Rung::ReExec => turn.actions.push(Action::ReExec),
            // The pets have stopped already.
            _ => {}
        }
    }

    /// Which part is late, and when something is done about it.
    fn healing_due(&self) -> Option<(Subsystem, Moment)> {
        let (subsystem, since) = self.watchdog.latest()?;
        let since = self.device_record.healed.map_or(since, |healed| healed.max(since));
        // Where the watchdog was left to decide and there is none, all is tried again after a while.
        let left = self.device_record.tried.times(Rung::StopPetting) > 0;
        let patience = if left { BOX_SETTLED } else { self.device.watchdog.patience };
        Some((subsystem, since.after(patience)))
    }

    pub(super) fn logged(&mut self, turn: &mut Turn<'_>, id: WorkloadId, bytes: u64) {
        let Some(workload) = self.workload_mut(id) else { return };
        let Some(limit) = workload.spec.log_bytes_per_minute else { return };
        if let Some(until) = workload.logs.count(turn.now, bytes, limit) {
            turn.actions.push(Action::LimitLogs { workload: id, until });
            turn.tell(Announcement::LogsLimited { workload: id, until });
        }
    }

    pub(super) fn pressure_is(&mut self, turn: &mut Turn<'_>, resource: Resource, level: Level) {
        let before = match resource {
            Resource::Memory => core::mem::replace(&mut self.pressure.memory, level),
            Resource::Disk => self.pressure.disk_is(level),
        };
        if before != level {
            turn.tell(Announcement::Pressure { resource, level });
        }
        turn.disk_has_room = self.pressure.disk_has_room();
        turn.moved = true;
    }

    pub(super) fn care_deadline(&self) -> Option<Moment> {
        let settling = match self.settling {
            Settling::At(at) if self.phase == Phase::Up => Some(at),
            _ => None,
        };
        let going_down = matches!(self.phase, Phase::Stopping | Phase::Down);
        let healing = self.healing_due().filter(|_| !going_down).map(|(_, due)| due);
        let disk = self.pressure.deadline();
        let safe = self.safe_until.filter(|_| self.phase == Phase::Safe);
        [self.watchdog.deadline(), settling, safe, healing, disk, self.forgiven_at()]
            .into_iter()
            .flatten()
            .min()
    }
}
