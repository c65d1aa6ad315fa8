//! What machines do, by themselves and when they are told.
//!
//! Duty: orders carried out, words on their way to the daemon, boots, beats, answers, ends.
//! Not here: what a machine is (`guest`), what goes wrong with it (`weather`).
//! Invariant: the end of a process is always told to a daemon that is there; any other word may be lost or late in a
//! storm, and the machine is then marked as misheard.

use std::time::Duration;

use hearth_core::{Build, Event, Kind, Order, Role, Said, StartHow, Vm, VmEnd, WorkloadEnd};

use crate::guest::{Guest, Key, Quality, Sickness, Stage};
use crate::queue::{Doing, Thing};
use crate::trouble::Trouble;
use crate::wishes::{BEAT, NAMES};
use crate::world::{Snapping, World};

impl World {
    pub(crate) fn order(&mut self, vm: Vm, order: &Order) {
        let Some(place) = self.place_of(vm) else {
            return self.found(Trouble::BadOrder { what: format!("{order:?} for an unknown workload") });
        };
        let key = Key { name: place, slot: vm.replica.slot.0, run: vm.run.0 };
        if !matches!(order, Order::Probe { .. }) {
            self.trace(|| format!("  {}.{} run {}: {order:?}", NAMES[place], key.slot, key.run));
        }
        if let Order::Start { build, how } = *order {
            self.check_start(key, build);
            self.stats.starts += 1;
            return self.spawn(vm, key, build, how);
        }
        self.check_order(key, order);
        let Some(guest) = self.guests.get_mut(&key) else {
            // It ended, and the word of that is on its way.
            return;
        };
        match order {
            Order::Start { .. } => {}
            Order::Balloon { mib } => {
                let has = guest.build.needs.memory_mib;
                if *mib >= has {
                    let what = format!("a balloon of {mib} MiB in a machine of {has} MiB");
                    self.found(Trouble::BadOrder { what });
                }
            }
            Order::Snapshot => self.snapshot(key),
            Order::Traffic { open } => guest.traffic = *open,
            Order::Probe { probe, .. } => self.answer(vm, key, *probe),
            Order::AskAgent { .. } => {
                guest.told_to_stop = true;
                let listens =
                    guest.connected && guest.obeys_agent && guest.stage == Stage::Up && !guest.leaving;
                if listens {
                    guest.leaving = true;
                    let end = WorkloadEnd::Signal(15);
                    let after = self.chance.millis(10, 1500);
                    self.say(key, Said::WorkloadEnded(end), after);
                    let after = self.chance.millis(1500, 3000);
                    self.plan(after, Thing::Guest(key, Doing::Ends(VmEnd::PoweredOff)));
                }
            }
            Order::Terminate => {
                guest.told_to_stop = true;
                if guest.obeys_signal {
                    guest.leaving = true;
                    let after = self.chance.millis(20, 800);
                    self.plan(after, Thing::Guest(key, Doing::Ends(VmEnd::StoppedByHost)));
                }
            }
            Order::Kill => {
                guest.told_to_stop = true;
                guest.leaving = true;
                let after =
                    if guest.stuck { self.chance.millis(4_000, 60_000) } else { self.chance.millis(1, 50) };
                self.plan(after, Thing::Guest(key, Doing::Ends(VmEnd::KilledBy(9))));
            }
            Order::RestartProcess => {
                if guest.stage == Stage::Up && guest.connected && !guest.leaving {
                    self.say(key, Said::WorkloadEnded(WorkloadEnd::Signal(15)), Duration::from_millis(20));
                    let after = self.chance.millis(50, 3000);
                    self.plan(after, Thing::Guest(key, Doing::ProcessRuns));
                }
            }
        }
    }

    fn spawn(&mut self, vm: Vm, key: Key, build: Build, how: StartHow) {
        let kept = (key.name, build.version);
        let gone = how == StartHow::Restore
            && (self.cleared.contains(&kept) || self.is_stormy() && self.chance.percent(10));
        let how = if gone { StartHow::Cold } else { how };
        if gone {
            // Somebody cleared the disk, or the kernel is another one.
            self.snapshots.remove(&kept);
            self.cleared.insert(kept);
            self.stats.snapshots_gone += 1;
            self.word(vm, Said::SnapshotGone, Duration::from_millis(1));
        }
        if how == StartHow::Restore && !self.snapshots.contains(&kept) {
            let replica = format!("{}.{} run {}", NAMES[key.name], key.slot, key.run);
            return self.found(Trouble::NoSnapshot { replica });
        }
        if self.is_stormy() && self.chance.percent(2) {
            let said = Said::NotSpawned("out of descriptors".to_owned());
            self.word(vm, said, Duration::from_millis(1));
            return;
        }
        let stormy = self.is_stormy();
        let mut odds = |percent| stormy && self.chance.percent(percent);
        let guest = Guest {
            key,
            build,
            quality: self.person.quality(build.version),
            stage: Stage::Booting,
            sickness: None,
            connected: false,
            traffic: false,
            misheard: false,
            obeys_agent: !odds(15),
            obeys_signal: !odds(15),
            stuck: odds(10),
            leaving: false,
            told_to_stop: false,
            up_since: None,
        };
        self.guests.insert(key, guest);
        let boot = match how {
            StartHow::Restore => self.chance.millis(30, 300),
            StartHow::Cold | StartHow::FreshDisk => self.chance.millis(500, 12_000),
        };
        let doing = match self.chance.below(100) {
            0..=3 if stormy => Doing::Hangs,
            // A snapshot that does not come to life, and not because of the weather.
            4..=13 if how == StartHow::Restore => Doing::Ends(VmEnd::BadConfiguration),
            4..=6 if stormy => Doing::Ends(VmEnd::Panicked),
            _ => Doing::ComesUp,
        };
        self.plan(boot, Thing::Guest(key, doing));
    }

    /// One like it is kept, unless the disk or the monitor will not have it, and the word of that may be lost.
    fn snapshot(&mut self, key: Key) {
        self.stats.snapshots += 1;
        if self.snapping.is_some_and(|other| other.until > self.now) {
            return self.found(Trouble::BadOrder { what: "two snapshots at a time".to_owned() });
        }
        let Some(build) = self.guests.get(&key).map(|guest| guest.build) else { return };
        self.check_room(build);
        let fails = self.is_stormy() && self.chance.percent(20);
        let after = self.chance.millis(200, 20_000);
        self.snapping = Some(Snapping { name: key.name, build, until: self.now.after(after) });
        if fails {
            return self.say(key, Said::SnapshotFailed, after);
        }
        self.snapshots.insert((key.name, build.version));
        self.cleared.remove(&(key.name, build.version));
        self.say(key, Said::SnapshotTaken, after);
    }

    /// A machine says something, if it can, and if nobody loses it.
    pub(crate) fn say(&mut self, key: Key, said: Said, after: Duration) {
        let Some(vm) = self.vm(key) else { return };
        let mut after = after;
        let process = matches!(said, Said::Ended(_) | Said::NotSpawned(_));
        if self.is_stormy() && !process {
            let draw = self.chance.below(10_000);
            if let Some(guest) = self.guests.get_mut(&key).filter(|_| draw < 20) {
                guest.misheard = true;
                self.stats.words_lost += 1;
                return;
            }
            if let Some(guest) = self.guests.get_mut(&key).filter(|_| draw < 60) {
                guest.misheard = true;
                self.stats.words_late += 1;
                after += self.chance.millis(1_000, 8_000);
            }
        }
        self.word(vm, said, after);
    }

    fn word(&mut self, vm: Vm, said: Said, after: Duration) {
        let Some(life) = self.daemon.as_ref().map(|daemon| daemon.life) else { return };
        if after.is_zero() && !self.frozen {
            return self.feed(Event::Vm { vm, said });
        }
        self.plan(after, Thing::Word { life, vm, said });
    }

    pub(crate) fn guest_does(&mut self, key: Key, doing: Doing) {
        let stormy = self.is_stormy();
        let Some(guest) = self.guests.get_mut(&key) else { return };
        match doing {
            Doing::ComesUp => {
                if guest.stage != Stage::Booting || guest.leaving {
                    return;
                }
                guest.stage = Stage::Up;
                guest.up_since = Some(self.now);
                self.plan(BEAT, Thing::Guest(key, Doing::Beats));
                self.plan(Duration::from_millis(1), Thing::Guest(key, Doing::Reconnects));
                self.fate(key);
            }
            Doing::Reconnects => {
                if guest.stage == Stage::Up && !guest.leaving {
                    guest.connected = true;
                    self.say(key, Said::AgentConnected, Duration::from_millis(1));
                    self.say(key, Said::WorkloadStarted, Duration::from_millis(2));
                }
            }
            Doing::Beats => self.beat(key),
            Doing::WorkloadEnds(end) => {
                if guest.stage != Stage::Up || guest.leaving {
                    return;
                }
                guest.stage = Stage::Done;
                self.say(key, Said::WorkloadEnded(end), Duration::from_millis(1));
                // Some machines do not power off by themselves.
                if !(stormy && self.chance.percent(10)) {
                    let after = self.chance.millis(100, 1_000);
                    self.plan(after, Thing::Guest(key, Doing::Ends(VmEnd::PoweredOff)));
                }
            }
            Doing::ProcessRuns => {
                if guest.stage == Stage::Up && !guest.leaving {
                    if guest.sickness.is_some_and(|sickness| sickness != Sickness::Lying) {
                        guest.sickness = None;
                    }
                    self.say(key, Said::WorkloadStarted, Duration::from_millis(1));
                }
            }
            Doing::Hangs => {
                if matches!(guest.stage, Stage::Booting | Stage::Up) {
                    guest.stage = Stage::Hung;
                    guest.obeys_signal &= !stormy;
                }
            }
            Doing::Ends(end) => {
                self.guests.remove(&key);
                let after = self.chance.millis(1, 20);
                self.say(key, Said::Ended(end), after);
            }
        }
    }

    /// What becomes of a machine that came up, as far as its version has a say in it.
    fn fate(&mut self, key: Key) {
        let Some(guest) = self.guests.get(&key) else { return };
        let is_job = self.person.spec(key.name).is_some_and(|spec| spec.kind == Kind::Job);
        let quality = guest.quality;
        let stormy = self.is_stormy();
        if quality == Quality::Crashes {
            let after = self.chance.millis(200, 20_000);
            let doing = if self.chance.percent(50) {
                Doing::WorkloadEnds(WorkloadEnd::Code(1))
            } else {
                Doing::Ends(VmEnd::Panicked)
            };
            self.plan(after, Thing::Guest(key, doing));
        } else if is_job {
            let after = self.chance.millis(1_000, 120_000);
            let code = if stormy && self.chance.percent(20) { 2 } else { 0 };
            self.plan(after, Thing::Guest(key, Doing::WorkloadEnds(WorkloadEnd::Code(code))));
        }
    }

    fn beat(&mut self, key: Key) {
        let Some(guest) = self.guests.get_mut(&key) else { return };
        if guest.stage != Stage::Up {
            return;
        }
        let mut skip = guest.leaving || !guest.connected;
        if let Some(Sickness::SlowDeath { beats }) = &mut guest.sickness {
            *beats = beats.saturating_add(1);
            let beats = u64::from(*beats);
            skip |= self.chance.below(12) < beats;
        }
        let served = guest.traffic.then_some(guest.quality == Quality::Errs);
        if !skip {
            self.say(key, Said::Heartbeat, Duration::ZERO);
            if let Some(errs) = served {
                self.say(
                    key,
                    Said::Served { requests: 10, errors: if errs { 5 } else { 0 } },
                    Duration::ZERO,
                );
            }
        }
        self.plan(BEAT, Thing::Guest(key, Doing::Beats));
    }

    fn answer(&mut self, vm: Vm, key: Key, probe: u8) {
        let spec = self.daemon.as_ref().and_then(|daemon| daemon.known.spec(key.name));
        let role = spec.and_then(|spec| Some(spec.probes.get(usize::from(probe))?.role));
        let Some(guest) = self.guests.get(&key) else { return };
        if guest.stage != Stage::Up || guest.leaving || !guest.connected {
            return;
        }
        let never = guest.quality == Quality::NeverReady && role == Some(Role::Readiness);
        let good = match guest.sickness {
            None => !never,
            Some(Sickness::SlowDeath { beats }) => self.chance.below(12) >= u64::from(beats),
            Some(Sickness::Broken) => false,
            Some(Sickness::Lying) => self.chance.percent(50),
            Some(Sickness::Flapping) => role != Some(Role::Readiness) || self.chance.percent(50),
        };
        let after = self.chance.millis(1, 50);
        self.word(vm, Said::Probed { probe, good }, after);
    }
}
