//! The person: what is wanted of the box, and edits of it at bad moments.
//!
//! Duty: random configurations without circles, edits, requests, versions and how good they are.
//! Not here: when a person does something (`weather`).

use std::collections::BTreeMap;
use std::time::Duration;

use hearth_core::{
    Allowed, Ballooning, Build, Capacity, Check, Config, DeviceSpec, HealingOrder, KeepWarm, Kind, Needs,
    ProbeSpec, RestartPolicy, Role, Rung, Rungs, Spec, Subsystem, Version, WatchdogSpec,
};

use crate::chance::Chance;
use crate::guest::Quality;

/// Workloads that a person can think of.
pub(crate) const NAMES: [&str; 7] = ["w0", "w1", "w2", "w3", "w4", "w5", "w6"];
/// How often agents beat, and how long silence is forgiven. Slower than a real agent: hours pass sooner.
pub(crate) const BEAT: Duration = Duration::from_secs(5);
const BEAT_LOST: Duration = Duration::from_secs(30);
/// Critical subsystems, how often each speaks, and its limit.
pub(crate) const SUBSYSTEMS: [(Subsystem, &str, Duration, Duration); 3] = [
    (Subsystem::Loop, "loop", Duration::from_secs(4), Duration::from_secs(15)),
    (Subsystem::Store, "store", Duration::from_secs(6), Duration::from_secs(25)),
    (Subsystem::Machines, "machines", Duration::from_secs(5), Duration::from_secs(20)),
];
/// What a balloon leaves to a machine in any case, by what is foreseen.
pub(crate) const LEFT_MIB: u32 = 48;
pub(crate) const PET_PERIOD: Duration = Duration::from_secs(10);

/// What somebody wants of the box.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wishes {
    pub(crate) config: Config,
    pub(crate) stopped: [bool; NAMES.len()],
    pub(crate) scale: [Option<u16>; NAMES.len()],
    pub(crate) demand: [u16; NAMES.len()],
}

impl Wishes {
    pub(crate) fn spec(&self, place: usize) -> Option<&Spec> {
        self.config.workloads.iter().find(|spec| spec.name == NAMES[place])
    }

    /// How many machines of it are wanted.
    pub(crate) fn wants(&self, place: usize) -> u16 {
        let Some(spec) = self.spec(place).filter(|_| !self.stopped[place]) else { return 0 };
        match spec.kind {
            Kind::Service { replicas } => self.scale[place].unwrap_or(replicas),
            Kind::Job => 1,
            Kind::Function { most, .. } => self.demand[place].min(most),
        }
    }
}

/// Who edits the files, and what is in them now.
#[derive(Debug)]
pub(crate) struct Person {
    pub(crate) wishes: Wishes,
    versions: u64,
    quality: BTreeMap<Version, Quality>,
}

impl Person {
    pub(crate) fn new(chance: &mut Chance) -> Person {
        let critical = SUBSYSTEMS.iter().map(|(subsystem, _, _, limit)| (*subsystem, *limit)).collect();
        let watchdog = WatchdogSpec {
            period: Some(PET_PERIOD),
            critical,
            patience: Duration::from_secs(5),
            reboot: chance.percent(50),
        };
        let device = DeviceSpec { watchdog, ..DeviceSpec::default() };
        let config = Config { device, workloads: Vec::new() };
        let wishes = Wishes { config, ..Wishes::default() };
        let mut person = Person { wishes, versions: 0, quality: BTreeMap::new() };
        for place in 0..NAMES.len() {
            if chance.percent(75) {
                person.add(chance, place, Quality::Good);
            }
        }
        person.make_room();
        person
    }

    pub(crate) fn quality(&self, version: Version) -> Quality {
        self.quality.get(&version).copied().unwrap_or(Quality::Good)
    }

    pub(crate) fn spec(&self, place: usize) -> Option<&Spec> {
        self.wishes.spec(place)
    }

    fn spec_mut(&mut self, place: usize) -> Option<&mut Spec> {
        self.wishes.config.workloads.iter_mut().find(|spec| spec.name == NAMES[place])
    }

    fn build(&mut self, chance: &mut Chance, quality: Quality) -> Build {
        self.versions += 1;
        // Not in order, as digests are not.
        let version = Version(self.versions.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        self.quality.insert(version, quality);
        let memory_mib = u32::try_from(chance.between(1, 4)).unwrap_or(1) * 64;
        Build { version, needs: Needs { memory_mib, cpu_milli: 500 } }
    }

    fn add(&mut self, chance: &mut Chance, place: usize, quality: Quality) {
        let build = self.build(chance, quality);
        let kind = match chance.below(10) {
            0..=6 => Kind::Service { replicas: u16::try_from(chance.between(1, 3)).unwrap_or(1) },
            7..=8 => Kind::Job,
            _ => Kind::Function { most: 2, idle: Duration::from_secs(120) },
        };
        let mut spec = Spec::new(NAMES[place], kind, build);
        spec.probes = probes(chance);
        spec.start_within = Duration::from_secs(60);
        spec.restart.budget = u16::try_from(chance.between(3, 8)).unwrap_or(3);
        spec.restart.policy = match kind {
            Kind::Service { .. } => RestartPolicy::Always,
            _ => RestartPolicy::OnFailure,
        };
        if kind == Kind::Job && chance.percent(50) {
            spec.restart.retries = Some(3);
        }
        spec.rollout.window = Duration::from_secs(60);
        spec.allowed = Allowed {
            process_restart: chance.percent(40),
            restore: chance.percent(40),
            fresh_disk: chance.percent(20),
            balloon: chance.percent(40),
        };
        let orders = [HealingOrder::Learnt, HealingOrder::Cost, HealingOrder::Strength];
        spec.healing.order = chance.pick(&orders).copied().unwrap_or_default();
        if chance.percent(20) {
            // Somebody wants to be asked.
            let some = Rung::ALL.into_iter().filter(|_| chance.percent(50));
            spec.healing.automatic = Rungs::of(&some.collect::<Vec<_>>());
        }
        // What advice may move.
        let is_function = matches!(kind, Kind::Function { .. });
        spec.keep_warm = (is_function && chance.percent(60)).then_some(KeepWarm { least: 0, most: 2 });
        let lends = spec.allowed.balloon && chance.percent(60);
        spec.ballooning = lends.then_some(Ballooning { least_mib: LEFT_MIB });
        // Only on those before it: no circle.
        for (other, name) in NAMES.iter().enumerate().take(place) {
            if self.spec(other).is_some() && chance.percent(15) {
                let name = (*name).to_owned();
                if chance.percent(50) { spec.after.push(name) } else { spec.requires.push(name) }
            }
        }
        self.wishes.config.workloads.push(spec);
        self.wishes.config.workloads.sort_by(|a, b| a.name.cmp(&b.name));
        self.wishes.stopped[place] = false;
        self.wishes.scale[place] = None;
        self.wishes.demand[place] = 0;
    }

    fn remove(&mut self, place: usize) {
        let name = NAMES[place];
        self.wishes.config.workloads.retain(|spec| spec.name != name);
        for spec in &mut self.wishes.config.workloads {
            spec.after.retain(|other| other != name);
            spec.requires.retain(|other| other != name);
        }
    }

    /// One edit of the files, at random.
    pub(crate) fn edit(&mut self, chance: &mut Chance) {
        let place = usize::try_from(chance.below(7)).unwrap_or_default();
        if self.spec(place).is_none() {
            self.add(chance, place, Quality::Good);
            return;
        }
        match chance.below(10) {
            0 => self.remove(place),
            1..=5 => {
                let quality = match chance.below(100) {
                    0..=59 => Quality::Good,
                    60..=74 => Quality::Crashes,
                    75..=87 => Quality::Errs,
                    _ => Quality::NeverReady,
                };
                self.renew(chance, place, quality);
            }
            6..=7 => {
                let replicas = u16::try_from(chance.between(0, 4)).unwrap_or(1);
                let spec = self.spec_mut(place);
                if let Some(Spec { kind: Kind::Service { replicas: now }, .. }) = spec {
                    *now = replicas;
                }
            }
            8 => {
                let probes = probes(chance);
                if let Some(spec) = self.spec_mut(place) {
                    spec.probes = probes;
                }
            }
            _ => {
                let percent = chance.between(15, 130);
                self.make_room();
                let capacity = &mut self.wishes.config.device.capacity;
                let part = |all: u32| u32::try_from(u64::from(all) * percent / 100).unwrap_or(u32::MAX);
                if chance.percent(70) {
                    capacity.memory_mib = part(capacity.memory_mib);
                } else {
                    capacity.cpu_milli = part(capacity.cpu_milli);
                }
            }
        }
    }

    fn renew(&mut self, chance: &mut Chance, place: usize, quality: Quality) {
        let build = self.build(chance, quality);
        if let Some(spec) = self.spec_mut(place) {
            spec.build = build;
        }
    }

    /// A text that says two things at once.
    pub(crate) fn nonsense(&self, chance: &mut Chance) -> Config {
        let mut config = self.wishes.config.clone();
        if let Some(first) = config.workloads.first_mut() {
            let own = first.name.clone();
            first.after.push(if chance.percent(50) { own } else { "nobody".to_owned() });
        } else {
            let build = Build { version: Version(1), needs: Needs::default() };
            let mut spec = Spec::new("w0", Kind::Job, build);
            spec.requires.push("nobody".to_owned());
            config.workloads.push(spec);
        }
        config
    }

    /// Everything is put right that only a person can put right.
    pub(crate) fn put_right(&mut self, chance: &mut Chance) {
        for place in 0..NAMES.len() {
            let bad = self.spec(place).is_some_and(|spec| self.quality(spec.build.version) != Quality::Good);
            if bad {
                self.renew(chance, place, Quality::Good);
            }
            self.wishes.stopped[place] = false;
            // What others need is not scaled to nothing.
            self.wishes.scale[place] = self.wishes.scale[place].filter(|replicas| *replicas > 0);
            if let Some(Spec { kind: Kind::Service { replicas }, .. }) = self.spec_mut(place) {
                *replicas = (*replicas).max(1);
            }
        }
        self.make_room();
    }

    /// Room for all that is wanted, with one to spare for machines on their way out.
    fn make_room(&mut self) {
        let most = |spec: &Spec, scale: Option<u16>| match spec.kind {
            Kind::Service { replicas } => scale.unwrap_or(replicas).max(replicas).max(4),
            Kind::Job => 1,
            Kind::Function { most, .. } => most,
        };
        let mib: u32 = (0..NAMES.len())
            .filter_map(|place| {
                let spec = self.spec(place)?;
                Some(256 * u32::from(most(spec, self.wishes.scale[place]) + 1))
            })
            .sum();
        self.wishes.config.device.capacity = Capacity {
            memory_mib: mib.max(256),
            // Each machine takes half of one, and as much memory as that at most.
            cpu_milli: mib.max(256) / 256 * 500,
            memory_percent: 100,
            cpu_percent: 100,
        };
    }
}

fn probes(chance: &mut Chance) -> Vec<ProbeSpec> {
    let mut probes = vec![ProbeSpec::heartbeat(BEAT, BEAT_LOST)];
    let mut ask = |role, check, percent| {
        if chance.percent(percent) {
            let period = Duration::from_secs(chance.between(5, 30));
            let timeout = Duration::from_secs(3);
            probes.push(ProbeSpec { role, check, period, timeout, failures: 3, successes: 1 });
        }
    };
    ask(Role::Startup, Check::Exec { command: 0 }, 30);
    ask(Role::Liveness, Check::Http { port: 80, path: 0 }, 40);
    ask(Role::Liveness, Check::VcpuProgress, 20);
    ask(Role::Readiness, Check::Tcp { port: 80 }, 50);
    probes
}
