//! What goes wrong, and when it is calm.
//!
//! ```text
//! Storm --faults stop--> Calm --the person puts right what is his--> Mended --> Storm ...
//! ```
//!
//! Duty: faults at random moments, edits at bad ones, the seasons. Not here: what machines make of it (`world`).
//! Invariant: out of the storm nothing goes wrong that a version does not bring along.

use std::time::Duration;

use hearth_core::{
    Advice, BootReason, Compared, Config, Event, Expectation, Insight, Judged, Level, Request, Resource,
    Rung, Source, Trials, VmEnd, Window, WorkloadId,
};

use crate::guest::{Key, Sickness, Stage};
use crate::queue::{Doing, Thing};
use crate::wishes::{NAMES, SUBSYSTEMS};
use crate::world::World;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Season {
    Storm,
    /// No new faults; what is broken has to be found and healed.
    Calm,
    /// Nothing is left that only a person can mend.
    Mended,
}

/// The box has so long to heal what it can heal by itself; it may be in safe mode for the first half of it.
const CALM: Duration = Duration::from_secs(31 * 60);
/// And so long to do what people want, all of it, once that can be done: trials after quarantines and rollouts, one
/// workload after the other along its dependencies.
const MENDED: Duration = Duration::from_secs(40 * 60);

impl World {
    pub(crate) fn next_season(&mut self) {
        if self.closing {
            return;
        }
        match self.season {
            Season::Storm => {
                self.season = Season::Calm;
                self.clear_up();
                self.plan(CALM, Thing::NextSeason);
            }
            Season::Calm => {
                self.check_healed();
                self.season = Season::Mended;
                self.put_right();
                self.plan(MENDED, Thing::NextSeason);
            }
            Season::Mended => {
                self.check_converged();
                self.season = Season::Storm;
                self.stats.seasons += 1;
                let storm = self.chance.millis(20 * 60_000, 60 * 60_000);
                self.plan(storm, Thing::NextSeason);
            }
        }
        let season = self.season;
        self.trace(|| format!("season: {season:?}"));
    }

    /// What was hidden shows, and nothing new goes wrong.
    fn clear_up(&mut self) {
        self.broken_until = [self.now; SUBSYSTEMS.len()];
        for resource in [Resource::Memory, Resource::Disk] {
            self.hear(Event::Pressure { resource, level: Level::Calm });
        }
        let known = self.daemon.as_ref().map(|daemon| daemon.known.clone()).unwrap_or_default();
        for guest in self.guests.values_mut() {
            let asked = known.spec(guest.key.name).is_some_and(|spec| {
                spec.probes
                    .iter()
                    .any(|probe| probe.role == hearth_core::Role::Liveness && probe.check.is_asked())
            });
            guest.sickness = match guest.sickness {
                // Nobody asks it what would show it.
                Some(Sickness::Broken) if !asked => None,
                Some(Sickness::Lying | Sickness::Flapping) => None,
                Some(Sickness::SlowDeath { .. }) => Some(Sickness::SlowDeath { beats: 12 }),
                other => other,
            };
        }
    }

    fn put_right(&mut self) {
        self.person.put_right(&mut self.chance);
        self.window_turns(true);
        self.hear(Event::Ask(Request::LeaveSafeMode));
        self.save();
        for place in 0..NAMES.len() {
            self.ask(place, Request::Start);
            let replicas = self.person.wishes.scale[place];
            self.ask(place, |workload| Request::Scale { workload, replicas });
            self.ask(place, Request::Retry);
            self.ask(place, Request::Heal);
            self.demand(place);
        }
    }

    /// The files are written, and the daemon sees them.
    fn save(&mut self) {
        let config = self.person.wishes.config.clone();
        self.trace(|| "person: saves the files".to_owned());
        if self.daemon.is_some() {
            self.hear(Event::Configured(Box::new(config)));
        }
    }

    pub(crate) fn person_acts(&mut self) {
        let pause = self.chance.millis(20_000, 600_000);
        self.plan(pause, Thing::Edit);
        if !self.is_stormy() || self.daemon.is_none() {
            return;
        }
        self.stats.edits += 1;
        let place = usize::try_from(self.chance.below(7)).unwrap_or_default();
        match self.chance.below(100) {
            0..=59 => {
                let times = self.chance.between(1, 2);
                for _ in 0..times {
                    self.person.edit(&mut self.chance);
                }
                self.save();
            }
            60..=64 => {
                let config: Config = self.person.nonsense(&mut self.chance);
                self.hear(Event::Configured(Box::new(config)));
            }
            65..=69 => {
                let before = self.person.wishes.scale[place];
                self.person.wishes.stopped[place] = true;
                self.ask(place, Request::Stop);
                self.perhaps_regret(place, before);
            }
            70..=76 => {
                self.person.wishes.stopped[place] = false;
                self.ask(place, Request::Start);
            }
            77..=81 => self.ask(place, Request::Restart),
            82..=84 => self.ask(place, Request::Retry),
            85..=86 => self.ask(place, Request::Heal),
            87..=88 => self.ask(place, Request::UndoRollout),
            89..=93 => {
                let before = self.person.wishes.scale[place];
                let replicas = if self.chance.percent(30) { None } else { Some(self.few(3)) };
                self.person.wishes.scale[place] = replicas;
                self.ask(place, |workload| Request::Scale { workload, replicas });
                self.perhaps_regret(place, before);
            }
            94..=97 => {
                self.person.wishes.demand[place] = self.few(3);
                let replicas = self.person.wishes.demand[place];
                let id = self.daemon.as_ref().and_then(|daemon| daemon.core.id_of(NAMES[place]));
                if let Some(workload) = id {
                    self.hear(Event::Demand { workload, replicas });
                }
            }
            98 => self.hear(Event::Ask(Request::LeaveSafeMode)),
            _ => self.hear(Event::Ask(Request::ReExec)),
        }
    }

    /// A person who takes a wish back while machines are still on their way out for it.
    fn perhaps_regret(&mut self, place: usize, replicas: Option<u16>) {
        if self.chance.percent(40) {
            let after = self.chance.millis(1, 4_000);
            self.plan(after, Thing::Regret { place, replicas });
        }
    }

    pub(crate) fn person_regrets(&mut self, place: usize, replicas: Option<u16>) {
        if !self.is_stormy() {
            return;
        }
        self.stats.regrets += 1;
        self.person.wishes.stopped[place] = false;
        self.ask(place, Request::Start);
        self.person.wishes.scale[place] = replicas;
        self.ask(place, |workload| Request::Scale { workload, replicas });
    }

    fn few(&mut self, most: u64) -> u16 {
        u16::try_from(self.chance.between(0, most)).unwrap_or_default()
    }

    pub(crate) fn weather(&mut self) {
        let pause = self.chance.millis(2_000, 40_000);
        self.plan(pause, Thing::Weather);
        if !self.is_stormy() {
            return;
        }
        self.stats.faults += 1;
        match self.chance.below(100) {
            0..=39 => self.machine_fault(),
            40..=44 => self.out_of_memory(),
            45..=52 => {
                let level =
                    *self.chance.pick(&[Level::Calm, Level::Short, Level::Full]).unwrap_or(&Level::Calm);
                self.hear(Event::Pressure { resource: Resource::Memory, level });
            }
            53..=58 => {
                let level =
                    *self.chance.pick(&[Level::Calm, Level::Short, Level::Full]).unwrap_or(&Level::Calm);
                self.hear(Event::Pressure { resource: Resource::Disk, level });
            }
            59..=63 => {
                self.trace(|| "the daemon is killed".to_owned());
                let away = self.chance.millis(50, 8_000);
                self.daemon_dies(away);
            }
            64..=69 if self.daemon.is_some() && !self.frozen => {
                // Mostly shorter than the hardware waits.
                let most = if self.chance.percent(10) { 60_000 } else { 25_000 };
                let pause = self.chance.millis(100, most);
                self.trace(|| format!("the daemon is frozen for {} ms", pause.as_millis()));
                self.stats.freezes += 1;
                self.frozen = true;
                self.plan(pause, Thing::Thaws);
            }
            70..=74 => {
                let place = usize::try_from(self.chance.below(3)).unwrap_or_default();
                let most = if self.chance.percent(15) { 80_000 } else { 30_000 };
                self.mute_until[place] = self.now.after(self.chance.millis(1_000, most));
                self.trace(|| format!("the {} is stuck", SUBSYSTEMS[place].1));
            }
            75..=79 => {
                let place = usize::try_from(self.chance.below(7)).unwrap_or_default();
                let bytes = self.chance.between(0, 10_000_000);
                let id = self.daemon.as_ref().and_then(|daemon| daemon.core.id_of(NAMES[place]));
                if let Some(workload) = id {
                    self.hear(Event::Logged { workload, bytes });
                }
            }
            81 if self.chance.percent(20) => {
                let place = usize::try_from(self.chance.below(3)).unwrap_or_default();
                self.broken_until[place] = self.now.after(self.chance.millis(60_000, 25 * 60_000));
                self.trace(|| format!("the {} is broken", SUBSYSTEMS[place].1));
                self.stats.broken_parts += 1;
            }
            82..=85 => self.insight(),
            86..=87 => {
                let open = self.chance.percent(60);
                self.stats.windows += 1;
                self.window_turns(open);
            }
            80 if self.chance.percent(40) => {
                let cuts = u8::try_from(self.chance.between(1, 4)).unwrap_or(1);
                self.power_fails(cuts);
            }
            _ => self.machine_fault(),
        }
    }

    /// And once more while the box comes up, perhaps.
    pub(crate) fn power_fails(&mut self, cuts: u8) {
        if cuts == 0 || !self.is_stormy() {
            return;
        }
        self.trace(|| "the power fails".to_owned());
        self.stats.power_cuts += 1;
        self.power_cycle(BootReason::PowerOn);
        let again = self.chance.millis(25_000, 200_000);
        self.plan(again, Thing::PowerFails { cuts: cuts - 1 });
    }

    /// Somebody foresees something, rightly or not.
    fn insight(&mut self) {
        let place = usize::try_from(self.chance.below(7)).unwrap_or_default();
        let id = self.daemon.as_ref().and_then(|daemon| daemon.core.id_of(NAMES[place]));
        let Some(workload) = id else { return };
        self.stats.insights += 1;
        let why = || "somebody thinks so".to_owned();
        let insight = match self.chance.below(16) {
            // More than any file allows, too; the longest end before anybody looks whether all is as wanted.
            10..=11 => {
                let idle = u16::try_from(self.chance.below(5)).unwrap_or_default();
                Insight::Warm { workload, idle, lasts: self.chance.millis(0, 60_000), why: why() }
            }
            12..=13 => {
                let mib = u32::try_from(self.chance.below(400)).unwrap_or_default();
                Insight::Memory { workload, mib, why: why() }
            }
            14..=15 => match self.judged(workload) {
                Some(judged) => Insight::Judged { workload, judged },
                None => return,
            },
            0 => Insight::Odd { workload: Some(workload), what: "odd".to_owned() },
            1 => Insight::Suspected { workload, whom: "the host".to_owned() },
            _ => {
                let source = *self.chance.pick(&Source::ALL).unwrap_or(&Source::Workload);
                let steps = self.chance.below(6);
                // Those too that nobody may choose.
                let order = (0..steps).filter_map(|_| self.chance.pick(&Rung::ALL).copied());
                let order = order.map(|rung| Expectation {
                    rung,
                    chance_milli: 500,
                    takes_ms: 1_000,
                    expected_ms: 2_000,
                });
                Insight::Ranked { workload, source, order: order.collect() }
            }
        };
        self.hear(Event::Foresaw(insight));
    }

    /// Of a rollout that there is, or of one that is long over.
    fn judged(&mut self, workload: WorkloadId) -> Option<Judged> {
        let story = self.daemon.as_ref()?.core.explain(workload)?;
        let trials = |requests, errors| Trials { requests, errors };
        let over = Compared { version: story.current, old: trials(100, 1), new: trials(100, 50) };
        let compared = story.compared.unwrap_or(over);
        let advice = *self.chance.pick(&[Advice::GoOn, Advice::Wait, Advice::RollBack])?;
        Some(Judged { compared, advice, worse_milli: 500 })
    }

    fn window_turns(&mut self, open: bool) {
        self.window = if open { Window::Open } else { Window::Shut { opens_s: None } };
        self.hear(Event::Maintenance(self.window));
    }

    fn some_guest(&mut self) -> Option<Key> {
        let keys: Vec<Key> = self.guests.keys().copied().collect();
        self.chance.pick(&keys).copied()
    }

    fn machine_fault(&mut self) {
        let Some(key) = self.some_guest() else { return };
        let draw = self.chance.below(100);
        let Some(guest) = self.guests.get_mut(&key) else { return };
        if guest.stage != Stage::Up {
            return;
        }
        let soon = Duration::from_millis(1);
        let (what, doing) = match draw {
            0..=14 => ("panics", Some(Doing::Ends(VmEnd::Panicked))),
            15..=29 => ("hangs", Some(Doing::Hangs)),
            30..=39 => {
                let end = hearth_core::WorkloadEnd::Code(1);
                ("'s workload fails", Some(Doing::WorkloadEnds(end)))
            }
            40..=44 => ("meets a fault of KVM", Some(Doing::Ends(VmEnd::KvmInternalError))),
            45..=59 => {
                guest.sickness = Some(Sickness::SlowDeath { beats: 0 });
                ("begins to die", None)
            }
            60..=74 => {
                guest.sickness = Some(Sickness::Broken);
                ("answers badly", None)
            }
            75..=84 => {
                guest.sickness = Some(Sickness::Lying);
                ("lies", None)
            }
            _ => {
                guest.sickness = Some(Sickness::Flapping);
                ("flaps", None)
            }
        };
        self.trace(|| format!("{}.{} run {} {what}", NAMES[key.name], key.slot, key.run));
        if let Some(doing) = doing {
            self.plan(soon, Thing::Guest(key, doing));
        }
    }

    fn out_of_memory(&mut self) {
        self.hear(Event::Pressure { resource: Resource::Memory, level: Level::Full });
        let Some(key) = self.some_guest() else { return };
        self.trace(|| format!("{}.{} run {} is killed for its memory", NAMES[key.name], key.slot, key.run));
        self.plan(Duration::from_millis(5), Thing::Guest(key, Doing::Ends(VmEnd::KilledBy(9))));
    }
}
