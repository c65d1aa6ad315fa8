//! What the core wants done, done.
//!
//! Duty: every action but those for single machines (`machines`). Not here: what comes of them (`lives`, `checks`).
//! Invariant: actions are carried out in their order, and one that was carried out stays so, whoever dies next.

use hearth_core::{Action, Announcement, BootReason, Failure, Run, Slot, Version, Vm};

use crate::guest::Key;
use crate::queue::Thing;
use crate::wishes::{NAMES, SUBSYSTEMS};
use crate::world::World;

use std::time::Duration;

impl World {
    pub(crate) fn carry_out(&mut self, action: Action) {
        match action {
            Action::Vm { vm, order } => self.order(vm, &order),
            Action::Announce(announcement) => {
                self.trace(|| format!("  {announcement:?}"));
                self.announced(&announcement);
            }
            Action::Remember(record) => {
                // Whoever may come back without this record still finds the one that the record before it names.
                let place = NAMES.iter().position(|name| *name == record.name);
                let last = self.store.get(&record.name).and_then(|before| before.durable.snapshot);
                let snapping = self.snapping.map(|snapping| (snapping.name, snapping.build.version));
                self.snapshots.retain(|kept| {
                    Some(kept.0) != place
                        || Some(kept.1) == record.durable.snapshot
                        || Some(kept.1) == last
                        || Some(*kept) == snapping
                });
                let before = self.store.insert(record.name.clone(), (*record).clone());
                self.last_write = Some((record.name, before));
            }
            Action::RememberDevice(record) => self.device_record = record,
            Action::Forget { name, .. } => {
                self.store.remove(&name);
                // What is being made of it ends.
                let place = NAMES.iter().position(|other| *other == name);
                self.snapping = self.snapping.filter(|snapping| Some(snapping.name) != place);
                self.checks.forget(&name);
            }
            Action::Pet => {
                self.check_pet();
                self.last_pet = self.now;
            }
            Action::BootSettled => (self.boot_settled, self.failed_boots) = (true, 0),
            Action::TrimLogs | Action::LimitLogs { .. } => {}
            Action::Learn(outcome) => self.check_outcome(&outcome),
            Action::CollectImages { keep } => {
                // Whoever removes what a record no longer names has that record on the disk.
                self.last_write = None;
                self.stats.collections += 1;
                let named: Vec<Version> =
                    self.person.wishes.config.workloads.iter().map(|spec| spec.build.version).collect();
                self.images.retain(|version| keep.contains(version) || named.contains(version));
                let snapping = self.snapping.map(|snapping| snapping.build.version);
                self.snapshots.retain(|(_, version)| keep.contains(version) || Some(*version) == snapping);
            }
            Action::ReExec => {
                self.stats.reexecs += 1;
                self.daemon_dies(Duration::from_millis(100));
                // Whatever kept a part of it from speaking was in the old process.
                self.mute_until = [self.now; SUBSYSTEMS.len()];
            }
            Action::Reboot { reason } => {
                if reason == BootReason::Healing {
                    self.check_reboot();
                }
                self.power_cycle(reason);
            }
            Action::Finish => self.finished = true,
        }
    }

    fn announced(&mut self, announcement: &Announcement) {
        match announcement {
            Announcement::Quarantined { .. } => self.stats.quarantines += 1,
            Announcement::RolledOut { .. } => self.stats.rollouts += 1,
            Announcement::RollingBack { .. } => self.stats.rollbacks += 1,
            // In a storm nobody looks, but by chance.
            Announcement::Proposed { replica, .. } => {
                self.stats.proposals += 1;
                if let Some(place) = self.place_by_id(replica.workload).filter(|_| !self.is_stormy()) {
                    let after = self.chance.millis(1_000, 60_000);
                    self.plan(after, Thing::Agree { place });
                }
            }
            Announcement::Healed { .. } => self.stats.healed += 1,
            Announcement::Lost { .. } => self.stats.lost += 1,
            Announcement::Failed { failure: Failure::HeartbeatLost, .. } => self.stats.silences += 1,
            Announcement::Adopted { machines } => self.stats.adopted += *machines,
            Announcement::SafeMode { .. } => self.stats.safe_modes += 1,
            _ => {}
        }
        self.check_announcement(announcement);
    }

    pub(crate) fn place_of(&self, vm: Vm) -> Option<usize> {
        let name = self.daemon.as_ref()?.core.name(vm.replica.workload)?;
        NAMES.iter().position(|known| *known == name)
    }

    /// How the daemon of this life calls a machine.
    pub(crate) fn vm(&self, key: Key) -> Option<Vm> {
        let id = self.daemon.as_ref()?.core.id_of(NAMES[key.name])?;
        Some(id.replica(Slot(key.slot)).run(Run(key.run)))
    }
}
