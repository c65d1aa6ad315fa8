//! Promises about single machines: identities, restarts, room, and that what is well is left alone.
//!
//! Duty: each start and each order, looked at before it is carried out. Not here: the daemon's own duties (`care`), the
//! whole (`wanted`).
//! Invariant: a restart counts for the failure that it answers, at the moment at which that was heard of: that is when
//! the budget is asked.

use hearth_core::{Build, End, Kind, Lifecycle, MAX_REPLICAS, Moment, Order, Phase, Slot, Spec};

use crate::guest::{Guest, Key};
use crate::trouble::Trouble;
use crate::wishes::NAMES;
use crate::world::World;

use super::{Last, Went};

fn label(key: Key) -> String {
    format!("{}.{} run {}", NAMES[key.name], key.slot, key.run)
}

impl World {
    /// Machines whose end the daemon has heard of.
    pub(super) fn settle_ends(&mut self) {
        for vm in std::mem::take(&mut self.checks.ends) {
            let Some(place) = self.place_of(vm) else { continue };
            if let Some(last) = self.checks.last.get_mut(&(place, vm.replica.slot.0))
                && last.run == vm.run.0
            {
                last.went = if last.rightly { Went::Rightly } else { Went::Failed };
                last.ended = self.now;
            }
        }
    }

    pub(crate) fn check_start(&mut self, key: Key, build: Build) {
        self.settle_ends();
        let twin = self.guests.keys().find(|other| other.name == key.name && other.slot == key.slot);
        if let Some(twin) = twin {
            let trouble = Trouble::TwoOnOneIdentity { replica: label(key), old: twin.run, new: key.run };
            return self.found(trouble);
        }
        if !self.images.contains(&build.version) {
            return self.found(Trouble::ImageGone { replica: label(key) });
        }
        self.check_room(build);
        self.check_predecessors(key);
        let before = self.checks.last.get(&(key.name, key.slot)).copied();
        if let Some(last) = before.filter(|last| last.went == Went::Failed && last.build == build) {
            self.restarted(key.name, last.ended);
        }
        let last = Last { build, run: key.run, went: Went::Unheard, rightly: false, ended: self.now };
        self.checks.last.insert((key.name, key.slot), last);
    }

    /// One more restart because of a failure. What is granted for it is granted when the failure is heard of; the
    /// machine may come much later, when there is room again.
    fn restarted(&mut self, place: usize, failed: Moment) {
        let Some(spec) = self.daemon.as_ref().and_then(|daemon| daemon.known.spec(place)) else { return };
        let (budget, window) = (spec.restart.budget, spec.restart.window);
        // No budget holds up a person's word.
        if self.checks.agreed.get(&place).is_some_and(|until| *until > self.now) {
            return;
        }
        let restarts = self.checks.restarts.entry(place).or_default();
        restarts.push(failed);
        restarts.sort_unstable();
        let storm = restarts.windows(usize::from(budget) + 1).any(|some| {
            let within =
                some.first().zip(some.last()).is_some_and(|(first, last)| last.since(*first) < window);
            within && some.contains(&failed)
        });
        let now = self.now;
        restarts.retain(|at| now.since(*at) < 4 * window);
        if storm {
            let all = restarts.clone();
            self.trace(|| format!("restarts for failures at {all:?}"));
            let restarts = usize::from(budget) + 1;
            self.found(Trouble::Storm { name: NAMES[place].to_owned(), restarts, budget });
        }
    }

    pub(crate) fn check_room(&mut self, build: Build) {
        let Some(daemon) = &self.daemon else { return };
        let promised = daemon.known.config.device.capacity.promise();
        let snapping = self.snapping.filter(|snapping| snapping.until > self.now);
        let more = || snapping.map(|snapping| snapping.build.needs).into_iter().chain([build.needs]);
        let all = || self.guests.values().map(|guest| guest.build.needs).chain(more());
        let mib: u64 = all().map(|needs| u64::from(needs.memory_mib)).sum();
        let milli: u64 = all().map(|needs| u64::from(needs.cpu_milli)).sum();
        if mib > u64::from(promised.memory_mib) {
            self.found(Trouble::Overbooked { mib, promised: promised.memory_mib });
        } else if milli > u64::from(promised.cpu_milli) {
            self.found(Trouble::OverbookedCpu { milli, promised: promised.cpu_milli });
        }
    }

    /// Whether what it waits for serves, as far as the daemon can know: what became of it since is not its fault.
    fn check_predecessors(&mut self, key: Key) {
        let Some(daemon) = &self.daemon else { return };
        let Some(spec) = daemon.known.spec(key.name) else { return };
        let serves = |name: &String| {
            let Some(place) = NAMES.iter().position(|known| known == name) else { return false };
            let kind = daemon.known.spec(place).map(|spec| spec.kind);
            let Some(id) = daemon.core.id_of(name) else { return false };
            let mut lives = (0..MAX_REPLICAS).map_while(|slot| daemon.core.lifecycle(id.replica(Slot(slot))));
            match kind {
                Some(Kind::Job) => lives.any(|life| *life == Lifecycle::Ended(End::Done)),
                Some(Kind::Function { .. }) => !daemon.known.stopped[place],
                Some(Kind::Service { .. }) => lives.any(Lifecycle::is_ready),
                None => false,
            }
        };
        if let Some(on) = spec.after.iter().chain(&spec.requires).find(|name| !serves(name)).cloned() {
            self.found(Trouble::StartedTooEarly { name: NAMES[key.name].to_owned(), on });
        }
    }

    /// On the way down, nothing is asked to stop before all that needs it is gone, or written off.
    fn check_dependents(&mut self, key: Key) {
        let Some(daemon) = self.daemon.as_ref().filter(|daemon| daemon.core.phase() == Phase::Stopping)
        else {
            return;
        };
        let name = NAMES[key.name];
        let needs = |spec: &Spec| spec.after.iter().chain(&spec.requires).any(|other| other == name);
        let dependent = self.guests.values().find(|guest| {
            let other = guest.key.name;
            let id = daemon.core.id_of(NAMES[other]);
            let life = id.and_then(|id| daemon.core.lifecycle(id.replica(Slot(guest.key.slot))));
            daemon.known.spec(other).is_some_and(needs)
                && life.is_some_and(|life| !matches!(life, Lifecycle::Ended(_)))
        });
        if let Some(dependent) = dependent.map(|guest| label(guest.key)) {
            self.found(Trouble::StoppedTooEarly { name: name.to_owned(), dependent });
        }
    }

    /// Requests go to what is ready, and only there.
    pub(crate) fn check_traffic(&mut self) {
        let Some(daemon) = &self.daemon else { return };
        let ready = |guest: &Guest| {
            let id = daemon.core.id_of(NAMES[guest.key.name])?;
            let replica = id.replica(Slot(guest.key.slot));
            let is_its = daemon.core.run(replica)?.0 == guest.key.run;
            Some(is_its && daemon.core.lifecycle(replica)?.is_ready())
        };
        let wrong = self.guests.values().find(|guest| guest.traffic != ready(guest).unwrap_or(false));
        if let Some((key, open)) = wrong.map(|guest| (guest.key, guest.traffic)) {
            self.found(Trouble::Traffic { replica: label(key), ready: !open });
        }
    }

    pub(crate) fn check_order(&mut self, key: Key, order: &Order) {
        let takes_away =
            matches!(order, Order::AskAgent { .. } | Order::Terminate | Order::Kill | Order::RestartProcess);
        if !takes_away {
            return;
        }
        if matches!(order, Order::AskAgent { .. }) {
            self.check_dependents(key);
        }
        let Some(guest) = self.guests.get(&key) else { return };
        let (well, first, order) = (guest.is_well(), !guest.told_to_stop, format!("{order:?}"));
        let rightly = self.may_touch(guest);
        if well && first && !rightly {
            return self.found(Trouble::HealthyTouched { replica: label(key), order });
        }
        if order == "RestartProcess" {
            self.restarted(key.name, self.now);
        } else if rightly && let Some(last) = self.checks.last.get_mut(&(key.name, key.slot)) {
            last.rightly = true;
        }
    }

    /// Whether there is a reason to take a machine away that has nothing to do with its health.
    fn may_touch(&self, guest: &Guest) -> bool {
        let place = guest.key.name;
        let Some(daemon) = &self.daemon else { return false };
        let Some(spec) = daemon.known.spec(place) else { return true };
        let going_down = matches!(daemon.core.phase(), Phase::Stopping | Phase::Down);
        let asked = self.checks.asked.get(&place).is_some_and(|until| *until > self.now);
        going_down
            || guest.key.slot >= daemon.known.wants(place)
            || guest.build != spec.build
            || asked
            // Its word is taken that something it requires is gone, if the world agrees that all is not well there.
            || spec.requires.iter().any(|name| !self.all_well(name))
    }

    fn all_well(&self, name: &str) -> bool {
        let Some(place) = NAMES.iter().position(|known| *known == name) else { return false };
        let Some(daemon) = &self.daemon else { return false };
        let Some(explained) = daemon.core.id_of(name).and_then(|id| daemon.core.explain(id)) else {
            return false;
        };
        let is_job = daemon.known.spec(place).is_some_and(|spec| spec.kind == Kind::Job);
        let settled = explained.replicas.iter().take(explained.replicas_wanted).all(|replica| {
            if is_job {
                replica.lifecycle == Lifecycle::Ended(End::Done)
            } else {
                replica.lifecycle.is_ready()
            }
        });
        settled && explained.replicas_wanted > 0 && daemon.known.wants(place) > 0
    }
}
