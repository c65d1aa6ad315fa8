//! Faults that come again and again, healed by the real core: by what was learnt, by cost and by strength.
//!
//! Whether a means cures an incident is thrown before anybody tries, so each way of choosing meets the same incidents.

use std::time::Duration;

use hearth_core::{
    Action, Announcement, Boot, Build, Check, Config, DeviceRecord, Event, HealingOrder, Insight, Kind,
    Moment, Needs, Order, ProbeSpec, Request, Role, Rung, Rungs, Said, Spec, StartHow, State, Version, Vm,
    VmEnd,
};
use hearth_foresight::{Event as Foreseen, Foresight, HealWish, Insight as Told, RolloutWish, Wish};

const RUNS: u64 = 30;
const INCIDENTS: u32 = 25;
const MEANS: [Rung; 3] = [Rung::RestartProcess, Rung::Restore, Rung::ColdRestart];
/// How long each takes, give or take a third.
const TAKES_MS: [u64; MEANS.len()] = [1_500, 400, 3_000];

struct Fault {
    name: &'static str,
    /// Its guest's kernel gives up; otherwise its probe does.
    kernel: bool,
    /// Of a hundred incidents, those that each means cures.
    cures: [u64; MEANS.len()],
}

const FAULTS: [Fault; 5] = [
    Fault { name: "process hangs", kernel: false, cures: [90, 95, 97] },
    Fault { name: "memory leaks", kernel: false, cures: [70, 90, 97] },
    Fault { name: "bad state in the snapshot", kernel: false, cures: [10, 2, 92] },
    Fault { name: "kernel stuck", kernel: true, cures: [0, 95, 95] },
    Fault { name: "kernel stuck, the snapshot's too", kernel: true, cures: [0, 4, 95] },
];

#[derive(Clone, Copy, Default)]
struct Sum {
    ms: u64,
    cured: u64,
    escalated: u64,
}

struct World<'f> {
    fault: &'f Fault,
    core: State,
    foresight: Foresight,
    now: Moment,
    /// Unordered.
    queue: Vec<(Moment, Event)>,
    dice: u64,
    /// Of the incident that is on, which means cure it; none: all is well.
    works: Option<[bool; MEANS.len()]>,
    since: Moment,
    machine: Option<Vm>,
    sum: Sum,
}

impl World<'_> {
    fn below(&mut self, end: u64) -> u64 {
        self.dice = self.dice.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.dice ^ (self.dice >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        ((mixed ^ (mixed >> 27)) >> 13) % end
    }

    fn plan(&mut self, after_ms: u64, event: Event) {
        self.queue.push((self.now.after(Duration::from_millis(after_ms)), event));
    }

    fn say(&mut self, vm: Vm, after_ms: u64, said: Said) {
        self.plan(after_ms, Event::Vm { vm, said });
    }

    fn step(&mut self, event: Event) {
        for action in self.core.step(self.now, event) {
            self.carry_out(&action);
        }
    }

    /// The next thing that is to happen, if that is before `end`.
    fn turn(&mut self, end: Moment) -> bool {
        let next =
            self.queue.iter().enumerate().min_by_key(|(_, (at, _))| *at).map(|(place, (at, _))| (*at, place));
        let deadline = self.core.next_deadline();
        let at = next.map(|(at, _)| at).into_iter().chain(deadline).min().filter(|at| *at < end);
        let Some(at) = at else {
            self.now = end;
            return false;
        };
        self.now = at.max(self.now);
        let event = match next {
            Some((when, place)) if when <= at => self.queue.swap_remove(place).1,
            _ => Event::Tick,
        };
        self.step(event);
        true
    }

    fn pass(&mut self, seconds: u64) {
        let end = self.now.after(Duration::from_secs(seconds));
        while self.turn(end) {}
    }

    fn carry_out(&mut self, action: &Action) {
        match *action {
            Action::Vm { vm, order: Order::Start { how, .. } } => {
                self.machine = Some(vm);
                let place = if how == StartHow::Restore { 1 } else { 2 };
                self.used(vm, place);
            }
            Action::Vm { vm, order: Order::RestartProcess } => self.used(vm, 0),
            Action::Vm { vm, order: Order::AskAgent { .. } | Order::Terminate | Order::Kill } => {
                self.say(vm, 10, Said::Ended(VmEnd::StoppedByHost));
            }
            Action::Vm { vm, order: Order::Probe { probe, .. } } => {
                let good = self.works.is_none() || self.fault.kernel;
                self.say(vm, 5, Said::Probed { probe, good });
            }
            Action::Vm { vm, order: Order::Snapshot } => self.say(vm, 500, Said::SnapshotTaken),
            Action::Announce(Announcement::Quarantined { workload, .. }) => {
                self.sum.escalated += 1;
                self.works = None;
                self.plan(60_000, Event::Ask(Request::Retry(workload)));
            }
            Action::Learn(outcome) => {
                let (source, seconds) = (outcome.class.source, outcome.took.as_secs_f32());
                let (rung, cured) = (outcome.rung, outcome.cured);
                let tried = Foreseen::Tried { workload: "web".to_owned(), source, rung, cured, seconds };
                for told in self.foresight.step(tried) {
                    if let Told::Ranked { source, order, .. } = told {
                        let workload = outcome.workload;
                        self.plan(0, Event::Foresaw(Insight::Ranked { workload, source, order }));
                    }
                }
            }
            _ => {}
        }
    }

    /// One of the means comes to its end, and helps or does not.
    fn used(&mut self, vm: Vm, place: usize) {
        let takes = TAKES_MS[place] * (70 + self.below(60)) / 100;
        self.say(vm, takes, Said::AgentConnected);
        self.say(vm, takes, Said::WorkloadStarted);
        let Some(works) = self.works else { return };
        if works[place] {
            self.sum.ms += u64::try_from(self.now.since(self.since).as_millis()).expect("minutes") + takes;
            self.sum.cured += 1;
            self.works = None;
        } else if self.fault.kernel {
            self.say(vm, takes + 2_000, Said::Alarm(VmEnd::Panicked));
        }
    }

    fn incident(&mut self) {
        let works = self.fault.cures.map(|percent| self.below(100) < percent);
        // What nothing cures is another question than which means to try first.
        let works = if works[1] || works[2] { works } else { [works[0], false, true] };
        (self.works, self.since) = (Some(works), self.now);
        if let Some(vm) = self.machine.filter(|_| self.fault.kernel) {
            self.step(Event::Vm { vm, said: Said::Alarm(VmEnd::Panicked) });
        }
    }
}

fn spec(healing: HealingOrder) -> Spec {
    let build = Build { version: Version(1), needs: Needs { memory_mib: 64, cpu_milli: 500 } };
    let mut spec = Spec::new("web", Kind::Service { replicas: 1 }, build);
    let second = Duration::from_secs(1);
    let check = Check::Http { port: 80, path: 0 };
    let (role, period, timeout) = (Role::Liveness, second * 5, second);
    spec.probes = vec![ProbeSpec { role, check, period, timeout, failures: 1, successes: 1 }];
    spec.allowed.process_restart = true;
    spec.allowed.restore = true;
    spec.healing.order = healing;
    spec
}

fn lives(way: HealingOrder, fault: &Fault, seed: u64) -> Sum {
    let mut foresight = Foresight::new(10);
    let healing = HealWish { means: Rungs::of(&MEANS), availability: 1.0, risk: 1.0 };
    let wish = Wish {
        name: "web".to_owned(),
        rests_on: Vec::new(),
        scaling: None,
        keeping: None,
        balloon: None,
        memory_mib: 64,
        healing,
        rollout: RolloutWish { requests: 20, margin: 0.02 },
    };
    let _ = foresight.step(Foreseen::Configured { tick_s: 10, wishes: vec![wish] });
    let (core, now) = (State::new(seed), Moment::START);
    let (queue, sum, dice) = (Vec::new(), Sum::default(), seed.wrapping_mul(0x2545_f491_4f6c_dd1d));
    let (works, since, machine) = (None, now, None);
    let mut world = World { fault, core, foresight, now, queue, dice, works, since, machine, sum };
    let boot = Boot { first_daemon: true, ..Boot::default() };
    world.step(Event::Begin { boot, device: DeviceRecord::default(), records: Vec::new() });
    let config = Config { workloads: vec![spec(way)], ..Config::default() };
    world.step(Event::Configured(Box::new(config)));
    world.step(Event::Surveyed);
    world.pass(120);
    for incident in 0..u64::from(INCIDENTS) {
        // The same incident whatever was drawn for the last one.
        world.dice = seed.wrapping_mul(0x2545_f491_4f6c_dd1d) ^ incident.wrapping_mul(0x6a09_e667_f3bc_c909);
        world.incident();
        world.pass(1_200);
    }
    world.sum
}

fn mean(sum: Sum) -> f64 {
    let count = |value: u64| f64::from(u32::try_from(value).expect("few"));
    count(sum.ms) / count(sum.cured.max(1)) / 1000.0
}

#[test]
fn what_was_learnt_heals_sooner_than_strength_does_and_no_later_than_cost() {
    let ways = [HealingOrder::Strength, HealingOrder::Cost, HealingOrder::Learnt];
    let mut all = [Sum::default(); 3];
    println!("mean s to cure: by strength, by cost, learnt; escalated: by strength, by cost, learnt");
    for fault in &FAULTS {
        let mut sums = [Sum::default(); 3];
        for seed in 0..RUNS {
            for (place, way) in ways.into_iter().enumerate() {
                let sum = lives(way, fault, seed);
                for to in [&mut sums[place], &mut all[place]] {
                    to.ms += sum.ms;
                    to.cured += sum.cured;
                    to.escalated += sum.escalated;
                }
            }
        }
        let [strength, cost, learnt] = sums.map(mean);
        let escalated = sums.map(|sum| sum.escalated);
        println!("{:34} {strength:6.2} {cost:6.2} {learnt:6.2}  {escalated:?}", fault.name);
        assert!(learnt <= 1.02 * cost, "{}: {learnt} s, {cost} s by cost", fault.name);
    }
    let [strength, cost, learnt] = all.map(mean);
    println!("{:34} {strength:6.2} {cost:6.2} {learnt:6.2}", "all");
    assert!(learnt <= 0.9 * strength, "{learnt} s, {strength} s by strength");
    assert!(all[2].escalated <= all[1].escalated, "nobody is called more often");
}
