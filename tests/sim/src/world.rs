//! The world around the core: time, machines, a store, the hardware's watchdog, and a daemon that comes and goes.
//!
//! Duty: one thing after the other, and the steps of the core in between. Not here: carrying its actions out (`deeds`,
//! `machines`), what goes wrong (`weather`), what must not (`checks`), what people want (`wishes`).
//! Invariant: all that happens follows from the seed; virtual time passes only through the queue and the core's own
//! deadlines.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use hearth_core::{BootReason, Build, DeviceRecord, Event, Moment, Record, Request, Said, Version, Window};

use crate::Stats;
use crate::chance::Chance;
use crate::checks::Checks;
use crate::daemon::Daemon;
use crate::guest::{Guest, Key};
use crate::queue::{Queue, Thing};
use crate::tamper::Tamper;
use crate::trouble::{Found, Trouble};
use crate::weather::Season;
use crate::wishes::{Person, SUBSYSTEMS};

/// Unless it is petted for so long, the hardware resets the box.
pub(crate) const HARDWARE_TIMEOUT: Duration = Duration::from_secs(30);
/// What is kept to tell what led to a trouble.
const TRACE: usize = 400;

/// A machine that becomes a snapshot.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Snapping {
    pub(crate) name: usize,
    pub(crate) build: Build,
    pub(crate) until: Moment,
}

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) seed: u64,
    hours: u64,
    pub(crate) chance: Chance,
    pub(crate) now: Moment,
    queue: Queue,
    pub(crate) guests: BTreeMap<Key, Guest>,
    pub(crate) person: Person,
    pub(crate) daemon: Option<Daemon>,
    pub(crate) lives: u32,
    /// SIGSTOP: nothing is fed, words wait.
    pub(crate) frozen: bool,
    pub(crate) inbox: VecDeque<Event>,
    pub(crate) store: BTreeMap<String, Record>,
    /// The last write: whose record, and the one before it, which counts if the write is torn.
    pub(crate) last_write: Option<(String, Option<Record>)>,
    pub(crate) device_record: DeviceRecord,
    /// Versions that are on the disk.
    pub(crate) images: BTreeSet<Version>,
    /// Warm snapshots that are: of which workload, of which version.
    pub(crate) snapshots: BTreeSet<(usize, Version)>,
    /// Those that somebody else removed, which the daemon has to live with.
    pub(crate) cleared: BTreeSet<(usize, Version)>,
    /// The one that is being taken, or was and nobody has heard of it.
    pub(crate) snapping: Option<Snapping>,
    /// When the box was rebooted to heal it.
    pub(crate) reboots: Vec<Moment>,
    pub(crate) last_pet: Moment,
    pub(crate) failed_boots: u8,
    pub(crate) boot_settled: bool,
    pub(crate) mute_until: [Moment; SUBSYSTEMS.len()],
    /// Likewise, whoever starts the daemon or the box again.
    pub(crate) broken_until: [Moment; SUBSYSTEMS.len()],
    pub(crate) season: Season,
    /// As of the clock on the wall.
    pub(crate) window: Window,
    pub(crate) checks: Checks,
    pub(crate) stats: Stats,
    pub(crate) tamper: Tamper,
    /// The box is about to be stopped: no season follows.
    pub(crate) closing: bool,
    pub(crate) finished: bool,
    trace: VecDeque<String>,
    trouble: Option<Trouble>,
}

impl World {
    pub(crate) fn new(seed: u64, hours: u64, tamper: Tamper) -> World {
        let mut chance = Chance::new(seed);
        let person = Person::new(&mut chance);
        let mut world = World {
            seed,
            hours,
            chance,
            now: Moment::START,
            queue: Queue::default(),
            guests: BTreeMap::new(),
            person,
            daemon: None,
            lives: 0,
            frozen: false,
            inbox: VecDeque::new(),
            store: BTreeMap::new(),
            last_write: None,
            device_record: DeviceRecord::default(),
            images: BTreeSet::new(),
            snapshots: BTreeSet::new(),
            cleared: BTreeSet::new(),
            snapping: None,
            reboots: Vec::new(),
            last_pet: Moment::START,
            failed_boots: 0,
            boot_settled: false,
            mute_until: [Moment::START; SUBSYSTEMS.len()],
            broken_until: [Moment::START; SUBSYSTEMS.len()],
            season: Season::Storm,
            window: Window::Always,
            checks: Checks::default(),
            stats: Stats::default(),
            tamper,
            closing: false,
            finished: false,
            trace: VecDeque::new(),
            trouble: None,
        };
        world.plan(Duration::ZERO, Thing::DaemonBegins { reason: Some(BootReason::PowerOn) });
        for subsystem in 0..SUBSYSTEMS.len() {
            world.plan(Duration::from_secs(1), Thing::Subsystem(subsystem));
        }
        world.plan(Duration::from_secs(30), Thing::Weather);
        world.plan(Duration::from_secs(60), Thing::Edit);
        world.plan(Duration::from_secs(40 * 60), Thing::NextSeason);
        world
    }

    pub(crate) fn plan(&mut self, after: Duration, thing: Thing) {
        self.queue.plan(self.now.after(after), thing);
    }

    pub(crate) fn is_stormy(&self) -> bool {
        self.season == Season::Storm
    }

    pub(crate) fn found(&mut self, trouble: Trouble) {
        if self.trouble.is_none() {
            self.trace(|| "  TROUBLE".to_owned());
            self.trouble = Some(trouble);
        }
    }

    pub(crate) fn trace(&mut self, line: impl FnOnce() -> String) {
        if self.trace.len() == TRACE {
            self.trace.pop_front();
        }
        let at = self.now.as_millis();
        self.trace.push_back(format!("{:>8}.{:03} {}", at / 1000, at % 1000, line()));
    }

    /// Lets time pass until `end`, or until something is found.
    pub(crate) fn run(&mut self, end: Moment) -> Result<(), Found> {
        while self.now < end && !self.finished {
            self.turn();
            if let Some(trouble) = self.trouble.take() {
                let trace = self.trace.drain(..).collect();
                return Err(Found { seed: self.seed, hours: self.hours, at: self.now, trouble, trace });
            }
        }
        Ok(())
    }

    fn turn(&mut self) {
        let next = self.queue.next();
        let deadline = self.daemon.as_ref().and_then(|daemon| daemon.core.next_deadline());
        let deadline = deadline.filter(|_| !self.frozen).map(|at| at.max(self.now));
        match (deadline, next) {
            (Some(deadline), next) if next.is_none_or(|next| deadline < next) => {
                self.now = deadline;
                self.feed(Event::Tick);
            }
            _ => {
                if let Some((at, thing)) = self.queue.pop() {
                    self.now = self.now.max(at);
                    self.happen(thing);
                }
            }
        }
        let powered = self.daemon.is_some() && self.now.since(self.last_pet) > HARDWARE_TIMEOUT;
        if powered && !self.finished {
            self.trace(|| "the hardware's watchdog resets the box".to_owned());
            self.stats.resets += 1;
            self.power_cycle(BootReason::Watchdog);
        }
    }

    fn happen(&mut self, thing: Thing) {
        match thing {
            Thing::Guest(key, doing) => self.guest_does(key, doing),
            Thing::Word { life, vm, said } => {
                if self.daemon.as_ref().is_some_and(|daemon| daemon.life == life) {
                    self.hear(Event::Vm { vm, said });
                }
            }
            Thing::Subsystem(place) => {
                let (subsystem, _, period, _) = SUBSYSTEMS[place];
                let silent = self.mute_until[place].max(self.broken_until[place]);
                if self.daemon.is_some() && silent <= self.now {
                    self.hear(Event::Alive(subsystem));
                }
                self.plan(period, Thing::Subsystem(place));
            }
            Thing::DaemonBegins { reason } => self.daemon_begins(reason),
            Thing::Thaws => self.thaw(),
            Thing::PowerFails { cuts } => self.power_fails(cuts),
            Thing::Weather => self.weather(),
            Thing::Edit => self.person_acts(),
            Thing::Regret { place, replicas } => self.person_regrets(place, replicas),
            Thing::Agree { place } => self.ask(place, Request::Heal),
            Thing::NextSeason => self.next_season(),
        }
    }

    /// For the daemon, now or when it runs again.
    pub(crate) fn hear(&mut self, event: Event) {
        if let Event::Configured(config) = &event {
            self.images.extend(config.workloads.iter().map(|spec| spec.build.version));
        }
        if self.frozen { self.inbox.push_back(event) } else { self.feed(event) }
    }

    fn thaw(&mut self) {
        if !std::mem::take(&mut self.frozen) {
            return;
        }
        self.feed(Event::Tick);
        while let Some(event) = self.inbox.pop_front() {
            self.feed(event);
        }
    }

    /// One step of the core, and what it wants done.
    pub(crate) fn feed(&mut self, event: Event) {
        let Some(daemon) = &mut self.daemon else { return };
        let mut at = self.now;
        if self.season == Season::Storm && self.chance.in_million(300) {
            // A clock that went back; the core has to live with it.
            at = Moment::from_millis(at.as_millis().saturating_sub(self.chance.below(10_000)));
            self.stats.clock_steps += 1;
        }
        let life = daemon.life;
        Checks::note(daemon, at, &event);
        if let Event::Vm { vm, said: Said::Ended(_) | Said::NotSpawned(_) } = &event {
            self.checks.heard_end(*vm);
        }
        if let Event::Vm { said: Said::SnapshotTaken | Said::SnapshotFailed, .. } = &event
            && self.snapping.is_some_and(|snapping| snapping.until <= self.now)
        {
            self.snapping = None;
        }
        let actions = daemon.feed(at, event);
        self.stats.steps += 1;
        let actions = self.tamper.change(actions, &mut self.chance);
        let mut actions = actions.into_iter();
        let acted = actions.len() > 0;
        loop {
            // Before the first action, between any two, and after the last.
            let left = actions.len();
            if acted && self.season == Season::Storm && self.chance.in_million(400) {
                self.trace(|| format!("the daemon dies with {left} actions left"));
                self.daemon_dies(Duration::from_millis(500));
                return;
            }
            let Some(action) = actions.next() else { break };
            self.carry_out(action);
            if self.daemon.as_ref().is_none_or(|daemon| daemon.life != life) {
                return;
            }
        }
        if acted {
            self.check_traffic();
        }
        self.check_step();
    }
}
