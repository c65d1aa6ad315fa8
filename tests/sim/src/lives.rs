//! Lives of the daemon, and of the box under it.
//!
//! Duty: a daemon that begins with what it finds, dies at any time, and whose last write may be torn; power cycles.
//! Not here: what the core decides in its life (`daemon`), why it dies (`weather`).
//! Invariant: a life ends with the replay of its journal; nothing outlives it but the store, the machines, and on a
//! power cycle not even those.

use std::time::Duration;

use hearth_core::{Boot, BootReason, Event, Found as FoundVm, Request, Run, Slot, VmEnd, WorkloadId};

use crate::daemon::Daemon;
use crate::guest::{Guest, Key, Stage};
use crate::queue::{Doing, Thing};
use crate::wishes::NAMES;
use crate::world::World;

impl World {
    pub(crate) fn daemon_dies(&mut self, away: Duration) {
        self.end_life();
        self.plan(away, Thing::DaemonBegins { reason: None });
    }

    /// The life's journal is replayed, and everybody's connection to it ends.
    pub(crate) fn end_life(&mut self) {
        let Some(daemon) = self.daemon.take() else { return };
        self.stats.lives += 1;
        if let Err(trouble) = self.tamper.replay(&daemon) {
            self.found(trouble);
        }
        self.frozen = false;
        self.inbox.clear();
        // It ends with who made it.
        self.snapping = None;
        for guest in self.guests.values_mut() {
            guest.connected = false;
            guest.traffic = false;
        }
        self.checks.life_ended();
        // Its last write may not have got to the disk.
        if let Some((name, before)) = self.last_write.take()
            && self.is_stormy()
            && self.chance.percent(20)
        {
            self.trace(|| format!("the record of {name} is torn: the one before it counts"));
            self.stats.torn += 1;
            self.checks.forget(&name);
            match before {
                Some(record) => drop(self.store.insert(name, record)),
                None => drop(self.store.remove(&name)),
            }
        }
    }

    pub(crate) fn power_cycle(&mut self, reason: BootReason) {
        self.end_life();
        self.guests.clear();
        self.checks.box_rebooted();
        if !std::mem::take(&mut self.boot_settled) {
            self.failed_boots = self.failed_boots.saturating_add(1);
        }
        self.plan(Duration::from_secs(20), Thing::DaemonBegins { reason: Some(reason) });
    }

    pub(crate) fn daemon_begins(&mut self, reason: Option<BootReason>) {
        if self.daemon.is_some() {
            return;
        }
        self.lives += 1;
        let life = self.lives;
        let seed = self.chance.bits();
        self.daemon = Some(Daemon::new(life, seed, self.now, self.person.wishes.clone()));
        self.trace(|| format!("daemon {life} begins"));
        // Who boots a box or starts a daemon pets until the daemon does.
        self.last_pet = self.now;
        self.recall();
        let boot = Boot {
            reason: reason.unwrap_or_default(),
            first_daemon: reason.is_some(),
            failed_boots: self.failed_boots,
        };
        let records = self.store.values().cloned().collect();
        self.feed(Event::Begin { boot, device: self.device_record, records });
        self.feed(Event::Maintenance(self.window));
        let config = self.person.wishes.config.clone();
        self.images.extend(config.workloads.iter().map(|spec| spec.build.version));
        self.feed(Event::Configured(Box::new(config)));
        if let Some(daemon) = &self.daemon {
            let names: Vec<String> = daemon
                .core
                .ids()
                .map(|id| format!("{}={}", id.number(), daemon.core.name(id).unwrap_or_default()))
                .collect();
            self.trace(|| format!("ids: {}", names.join(" ")));
        }
        if self.is_stormy() && self.chance.percent(5) {
            self.twin();
        }
        let there: Vec<Key> = self.guests.keys().copied().collect();
        for key in there {
            let Some(build) = self.guests.get(&key).map(|guest| guest.build) else { continue };
            let found =
                FoundVm { name: NAMES[key.name].to_owned(), slot: Slot(key.slot), run: Run(key.run), build };
            self.feed(Event::Found(Box::new(found)));
            let after = self.chance.millis(20, 800);
            self.plan(after, Thing::Guest(key, Doing::Reconnects));
        }
        for place in 0..NAMES.len() {
            // What asks for functions asks a new daemon again, before it takes machines for unwanted.
            self.demand(place);
        }
        self.feed(Event::Surveyed);
    }

    /// A machine that should be gone, and is there beside the one that followed it.
    fn twin(&mut self) {
        let keys: Vec<Key> = self.guests.keys().copied().filter(|key| key.run > 1).collect();
        let Some(key) = self.chance.pick(&keys).copied() else { return };
        let older = Key { run: key.run - 1, ..key };
        let known = self.guests.contains_key(&older);
        let Some(guest) = self.guests.get(&key).filter(|_| !known) else { return };
        let twin = Guest { key: older, stage: Stage::Hung, stuck: true, misheard: true, ..guest.clone() };
        self.guests.insert(older, twin);
        if self.chance.percent(50) {
            // The right one goes first, and must not be followed yet.
            let after = self.chance.millis(100, 8_000);
            self.plan(after, Thing::Guest(key, Doing::Ends(VmEnd::Panicked)));
        }
        self.stats.twins += 1;
        self.trace(|| format!("{}.{} run {} is there as well", NAMES[key.name], key.slot, older.run));
    }

    /// What people asked of an earlier daemon is what the store still says of it.
    fn recall(&mut self) {
        let Some(daemon) = &mut self.daemon else { return };
        for (place, name) in NAMES.iter().enumerate() {
            let record = self.store.get(*name);
            daemon.known.stopped[place] = record.is_some_and(|record| record.durable.stopped);
            daemon.known.demand[place] = 0;
            daemon.known.scale[place] = record.and_then(|record| record.durable.scale);
        }
    }

    pub(crate) fn demand(&mut self, place: usize) {
        let replicas = self.person.wishes.demand[place];
        let id = self.daemon.as_ref().and_then(|daemon| daemon.core.id_of(NAMES[place]));
        if let Some(workload) = id.filter(|_| replicas > 0) {
            self.hear(Event::Demand { workload, replicas });
        }
    }

    pub(crate) fn ask(&mut self, place: usize, request: impl FnOnce(WorkloadId) -> Request) {
        if let Some(id) = self.daemon.as_ref().and_then(|daemon| daemon.core.id_of(NAMES[place])) {
            let request = request(id);
            self.trace(|| format!("person: {request:?}"));
            if matches!(request, Request::Start(_)) {
                // Whoever starts what was given up wants it tried again.
                self.checks.forget(NAMES[place]);
            }
            if matches!(request, Request::Restart(_) | Request::UndoRollout(_) | Request::Retry(_)) {
                self.checks.person_asked(place, self.now);
            }
            if matches!(request, Request::Heal(_)) {
                self.checks.forget(NAMES[place]);
                self.checks.person_agreed(place, self.now);
            }
            self.hear(Event::Ask(request));
        }
    }
}
