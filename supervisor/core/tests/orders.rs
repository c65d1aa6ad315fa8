//! Random worlds, random orders of events: what must never happen does not.

use std::time::Duration;

use hearth_core::{
    Action, Announcement, Boot, Build, Config, DeviceRecord, Event, Kind, Lifecycle, Moment, Needs, Order,
    ReplicaId, RestartPolicy, Run, Said, Slot, Spec, State, StopTimes, Version, Vm, VmEnd, WorkloadEnd,
    WorkloadId,
};
use proptest::collection::vec;
use proptest::prelude::*;

#[derive(Clone, Debug)]
struct Want {
    job: bool,
    restart: RestartPolicy,
    /// Places further down the list: no cycle.
    after: Vec<usize>,
}

#[derive(Clone, Copy, Debug)]
enum Nudge {
    Wait(u32),
    ToDeadline,
    NotSpawned,
    Connected,
    Started,
    Beat,
    Ended(i32),
    AgentLost,
    VmEnded(VmEnd),
    Stop,
    StopNow,
}

#[derive(Clone, Copy, Debug)]
struct Machine {
    run: Run,
    strongest_ask: u8,
    running: bool,
    ended: Option<i32>,
}

/// The world as somebody who only sees events and actions knows it.
struct World {
    wants: Vec<Want>,
    state: State,
    now: Moment,
    vms: Vec<Option<Machine>>,
    runs: Vec<u32>,
    done: Vec<bool>,
    stopping: bool,
    at_once: bool,
    finished: bool,
}

impl World {
    fn new(wants: &[Want], seed: u64) -> World {
        let name = |n: usize| format!("w{n}");
        let build = Build { version: Version(1), needs: Needs::default() };
        let spec = |(n, want): (usize, &Want)| {
            let kind = if want.job { Kind::Job } else { Kind::Service { replicas: 1 } };
            let mut spec = Spec::new(&name(n), kind, build);
            spec.restart.policy = want.restart;
            spec.after = want.after.iter().copied().map(name).collect();
            spec
        };
        let workloads = wants.iter().enumerate().map(spec).collect();
        let config = Config { workloads, ..Config::default() };
        let count = wants.len();
        let mut world = World {
            wants: wants.to_vec(),
            state: State::new(seed),
            now: Moment::START,
            vms: vec![None; count],
            runs: vec![0; count],
            done: vec![false; count],
            stopping: false,
            at_once: false,
            finished: false,
        };
        let boot = Boot { first_daemon: true, ..Boot::default() };
        world.step(Event::Begin { boot, device: DeviceRecord::default(), records: Vec::new() });
        world.step(Event::Configured(Box::new(config)));
        world.step(Event::Surveyed);
        world
    }

    fn satisfied(&self, index: usize) -> bool {
        if self.wants[index].job {
            self.done[index]
        } else {
            self.vms[index].is_some_and(|vm| vm.running && vm.strongest_ask == 0)
        }
    }

    fn step(&mut self, event: Event) {
        let actions = self.state.step(self.now, event);
        for action in &actions {
            self.carry_out(action);
        }
        if let Some(deadline) = self.state.next_deadline() {
            assert!(deadline > self.now, "a timer was left due");
        }
        for (index, vm) in self.vms.iter().enumerate() {
            let alive = self.state.lifecycle(replica(index)).is_some_and(Lifecycle::is_alive);
            assert_eq!(
                vm.is_some(),
                alive,
                "workload {index}: core and world disagree whether a machine exists"
            );
        }
    }

    fn carry_out(&mut self, action: &Action) {
        assert!(!self.finished, "{action:?} after the finish");
        match action {
            Action::Vm { vm: Vm { replica, run }, order: Order::Start { .. } } => {
                let index = index_of(*replica);
                assert!(self.vms[index].is_none(), "two machines of workload {index}");
                assert!(!self.stopping, "a start during shutdown");
                assert!(run.0 > self.runs[index], "a run twice");
                for on in &self.wants[index].after {
                    assert!(self.satisfied(*on), "workload {index} started before {on}");
                }
                self.runs[index] = run.0;
                self.vms[index] = Some(Machine { run: *run, strongest_ask: 0, running: false, ended: None });
            }
            Action::Vm { vm, order: Order::AskAgent { .. } } => self.ask(*vm, 1),
            Action::Vm { vm, order: Order::Terminate } => self.ask(*vm, 2),
            Action::Vm { vm, order: Order::Kill } => self.ask(*vm, 3),
            Action::Announce(Announcement::Lost { replica }) => {
                let vm = self.vms[index_of(*replica)].take().expect("lost what was there");
                assert_eq!(vm.strongest_ask, 3, "lost without a kill");
            }
            Action::Announce(Announcement::Ready { .. }) => {
                for index in 0..self.wants.len() {
                    assert!(self.satisfied(index), "ready without workload {index}");
                }
            }
            Action::Announce(_) | Action::Remember(_) | Action::Learn(_) | Action::BootSettled => {}
            Action::Vm { order: Order::Traffic { .. }, .. } => {}
            Action::Finish => {
                assert!(self.stopping, "a finish that nobody asked for");
                assert!(self.vms.iter().all(Option::is_none), "a machine left behind");
                self.finished = true;
            }
            other => panic!("{other:?} was not asked for"),
        }
    }

    fn ask(&mut self, Vm { replica, run }: Vm, strength: u8) {
        let index = index_of(replica);
        if self.stopping && !self.at_once && strength == 1 {
            for (other, want) in self.wants.iter().enumerate() {
                let needs_it = want.after.contains(&index);
                assert!(
                    !(needs_it && self.vms[other].is_some()),
                    "asked to stop before its dependant {other}"
                );
            }
        }
        let vm = self.vms[index].as_mut().expect("asked a machine that is there");
        assert_eq!(vm.run, run);
        assert!(strength > vm.strongest_ask, "asked again, or less strongly");
        vm.strongest_ask = strength;
    }

    fn nudge(&mut self, index: usize, nudge: Nudge) {
        // A workload without a machine hears from its last one: a stale word.
        let run = self.vms[index].map_or(Run(self.runs[index]), |vm| vm.run);
        let vm = replica(index).run(run);
        let said = |said| Event::Vm { vm, said };
        let event = match nudge {
            Nudge::Wait(millis) => {
                self.now = self.now.after(Duration::from_millis(u64::from(millis)));
                Event::Tick
            }
            Nudge::ToDeadline => {
                self.now = self.state.next_deadline().unwrap_or(self.now);
                Event::Tick
            }
            Nudge::NotSpawned => {
                self.gone(index);
                said(Said::NotSpawned("gone".into()))
            }
            Nudge::Connected => said(Said::AgentConnected),
            Nudge::Started => {
                if let Some(vm) = self.vms[index].as_mut().filter(|vm| vm.strongest_ask == 0) {
                    vm.running = true;
                    vm.ended = None;
                }
                said(Said::WorkloadStarted)
            }
            Nudge::Beat => said(Said::Heartbeat),
            Nudge::Ended(code) => {
                if let Some(vm) = self.vms[index].as_mut().filter(|vm| vm.strongest_ask == 0) {
                    vm.running = false;
                    vm.ended = Some(code);
                }
                said(Said::WorkloadEnded(WorkloadEnd::Code(code)))
            }
            Nudge::AgentLost => said(Said::AgentLost),
            Nudge::VmEnded(end) => {
                self.gone(index);
                said(Said::Ended(end))
            }
            Nudge::Stop => {
                self.stopping = true;
                Event::Stop
            }
            Nudge::StopNow => {
                self.stopping = true;
                self.at_once = true;
                Event::StopNow
            }
        };
        self.step(event);
    }

    fn gone(&mut self, index: usize) {
        if let Some(vm) = self.vms[index].take() {
            self.done[index] = vm.ended == Some(0);
        }
    }
}

fn replica(index: usize) -> ReplicaId {
    WorkloadId::from_number(u32::try_from(index).expect("few workloads")).replica(Slot::FIRST)
}

fn index_of(replica: ReplicaId) -> usize {
    assert_eq!(replica.slot, Slot::FIRST, "one replica of each");
    usize::try_from(replica.workload.number()).expect("few workloads")
}

fn wants() -> impl Strategy<Value = Vec<Want>> {
    let one = (any::<bool>(), 0..3u8, any::<u8>());
    vec(one, 1..6).prop_map(|list| {
        let count = list.len();
        list.into_iter()
            .enumerate()
            .map(|(index, (job, restart, mask))| Want {
                job,
                restart: match restart {
                    0 if !job => RestartPolicy::Always,
                    1 => RestartPolicy::OnFailure,
                    _ => RestartPolicy::Never,
                },
                after: (index + 1..count).filter(|other| mask & (1 << other) != 0).collect(),
            })
            .collect()
    })
}

fn nudges(stops: bool) -> impl Strategy<Value = Vec<(usize, Nudge)>> {
    let quiet = prop_oneof![
        2 => (0..40_000u32).prop_map(Nudge::Wait),
        3 => Just(Nudge::ToDeadline),
        1 => Just(Nudge::NotSpawned),
        6 => Just(Nudge::Connected),
        8 => Just(Nudge::Started),
        4 => Just(Nudge::Beat),
        4 => prop_oneof![3 => Just(0), 1 => Just(3)].prop_map(Nudge::Ended),
        1 => Just(Nudge::AgentLost),
        4 => prop_oneof![Just(VmEnd::PoweredOff), Just(VmEnd::Panicked)].prop_map(Nudge::VmEnded),
    ];
    let loud = prop_oneof![Just(Nudge::Stop), Just(Nudge::StopNow)];
    let one = prop_oneof![40 => quiet, u32::from(stops) => loud];
    vec((0..5usize, one), 0..120)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_order_of_events_breaks_the_rules_and_every_shutdown_ends(
        wants in wants(),
        seed in any::<u64>(),
        before in nudges(true),
        during in nudges(false),
        killed_machines_die in any::<bool>(),
    ) {
        let mut world = World::new(&wants, seed);
        for (index, nudge) in before {
            if !world.finished {
                world.nudge(index % wants.len(), nudge);
            }
        }
        if !world.finished {
            world.nudge(0, Nudge::Stop);
        }
        let asked = world.now;
        for (index, nudge) in during {
            if !world.finished && !matches!(nudge, Nudge::Wait(_)) {
                world.nudge(index % wants.len(), nudge);
            }
        }
        // From here on nobody says anything: only deadlines pass, and kills may work.
        let mut turns = 0;
        while !world.finished {
            turns += 1;
            prop_assert!(turns < 200, "the shutdown does not end");
            let killed = world.vms.iter().position(|vm| vm.is_some_and(|vm| vm.strongest_ask == 3));
            match killed.filter(|_| killed_machines_die) {
                Some(index) => world.nudge(index, Nudge::VmEnded(VmEnd::KilledBy(9))),
                None => {
                    prop_assert!(world.state.next_deadline().is_some(), "nothing left to wait for");
                    world.nudge(0, Nudge::ToDeadline);
                }
            }
        }
        let limit = StopTimes::default().worst() * u32::try_from(wants.len()).unwrap();
        prop_assert!(world.now.since(asked) <= limit, "took {:?}", world.now.since(asked));
    }
}

#[test]
fn a_look_after_a_long_silence_leaves_nothing_due() {
    let want = Want { job: false, restart: RestartPolicy::Always, after: Vec::new() };
    let mut world = World::new(&[want.clone(), want], 0);
    for (index, nudge) in [
        (0, Nudge::VmEnded(VmEnd::PoweredOff)),
        (0, Nudge::Wait(390)),
        (1, Nudge::VmEnded(VmEnd::PoweredOff)),
        (0, Nudge::Started),
        (0, Nudge::Wait(2447)),
        (0, Nudge::Beat),
        (0, Nudge::Wait(30_000)),
    ] {
        world.nudge(index, nudge);
    }
}
