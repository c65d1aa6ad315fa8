//! Random worlds, random orders of events: what must never happen does not.

use std::time::Duration;

use hearth_core::{
    Action, Announcement, Event, Kind, Moment, Plan, RestartPolicy, Run, State, StopTimes, VmEnd, Wanted,
    WorkloadEnd, WorkloadId,
};
use proptest::collection::vec;
use proptest::prelude::*;

#[derive(Clone, Debug)]
struct Want {
    kind: Kind,
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
struct Vm {
    run: Run,
    strongest_ask: u8,
    running: bool,
    ended: Option<i32>,
}

/// The world as somebody who only sees events and actions knows it.
struct World {
    wants: Vec<Want>,
    state: State,
    ids: Vec<WorkloadId>,
    now: Moment,
    vms: Vec<Option<Vm>>,
    runs: Vec<u32>,
    done: Vec<bool>,
    stopping: bool,
    at_once: bool,
    finished: bool,
}

impl World {
    fn new(wants: &[Want]) -> World {
        let names: Vec<String> = (0..wants.len()).map(|n| format!("w{n}")).collect();
        let wanted: Vec<Wanted<'_>> = wants
            .iter()
            .zip(&names)
            .map(|(want, name)| Wanted {
                name,
                kind: want.kind,
                restart: want.restart,
                after: want.after.iter().map(|n| names[*n].as_str()).collect(),
            })
            .collect();
        let plan = Plan::new(&wanted).expect("an order that can be kept");
        let count = wants.len();
        World {
            wants: wants.to_vec(),
            ids: plan.ids().collect(),
            state: State::new(plan, StopTimes::default()),
            now: Moment::START,
            vms: vec![None; count],
            runs: vec![0; count],
            done: vec![false; count],
            stopping: false,
            at_once: false,
            finished: false,
        }
    }

    fn satisfied(&self, index: usize) -> bool {
        match self.wants[index].kind {
            Kind::Service => self.vms[index].is_some_and(|vm| vm.running && vm.strongest_ask == 0),
            Kind::Job => self.done[index],
        }
    }

    fn step(&mut self, dice: u32, event: Event) {
        let actions = self.state.step(self.now, dice, event);
        for action in &actions {
            self.carry_out(action);
        }
        if let Some(deadline) = self.state.next_deadline() {
            assert!(deadline > self.now, "a timer was left due");
        }
        for (index, vm) in self.vms.iter().enumerate() {
            let alive = self.state.lifecycle(self.ids[index]).expect("a known workload").is_alive();
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
            Action::Start { id, run } => {
                let index = id.index();
                assert!(self.vms[index].is_none(), "two machines of workload {index}");
                assert!(!self.stopping, "a start during shutdown");
                assert!(run.0 > self.runs[index], "a run twice");
                for on in &self.wants[index].after {
                    assert!(self.satisfied(*on), "workload {index} started before {on}");
                }
                self.runs[index] = run.0;
                self.vms[index] = Some(Vm { run: *run, strongest_ask: 0, running: false, ended: None });
            }
            Action::AskAgent { id, run, .. } => self.ask(*id, *run, 1),
            Action::Terminate { id, run } => self.ask(*id, *run, 2),
            Action::Kill { id, run } => self.ask(*id, *run, 3),
            Action::Announce(Announcement::Lost { id }) => {
                let vm = self.vms[id.index()].take().expect("lost what was there");
                assert_eq!(vm.strongest_ask, 3, "lost without a kill");
            }
            Action::Announce(Announcement::Ready { .. }) => {
                for index in 0..self.wants.len() {
                    assert!(self.satisfied(index), "ready without workload {index}");
                }
            }
            Action::Announce(_) => {}
            Action::Finish => {
                assert!(self.stopping, "a finish that nobody asked for");
                assert!(self.vms.iter().all(Option::is_none), "a machine left behind");
                self.finished = true;
            }
        }
    }

    fn ask(&mut self, id: WorkloadId, run: Run, strength: u8) {
        if self.stopping && !self.at_once && strength == 1 {
            for (other, want) in self.wants.iter().enumerate() {
                let needs_it = want.after.contains(&id.index());
                assert!(
                    !(needs_it && self.vms[other].is_some()),
                    "asked to stop before its dependant {other}"
                );
            }
        }
        let vm = self.vms[id.index()].as_mut().expect("asked a machine that is there");
        assert_eq!(vm.run, run);
        assert!(strength > vm.strongest_ask, "asked again, or less strongly");
        vm.strongest_ask = strength;
    }

    fn nudge(&mut self, index: usize, dice: u32, nudge: Nudge) {
        let id = self.ids[index];
        // A workload without a machine hears from its last one: a stale word.
        let run = self.vms[index].map_or(Run(self.runs[index]), |vm| vm.run);
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
                Event::NotSpawned { id, run, why: "gone".into() }
            }
            Nudge::Connected => Event::AgentConnected { id, run },
            Nudge::Started => {
                if let Some(vm) = self.vms[index].as_mut().filter(|vm| vm.strongest_ask == 0) {
                    vm.running = true;
                    vm.ended = None;
                }
                Event::WorkloadStarted { id, run }
            }
            Nudge::Beat => Event::Heartbeat { id, run },
            Nudge::Ended(code) => {
                if let Some(vm) = self.vms[index].as_mut().filter(|vm| vm.strongest_ask == 0) {
                    vm.running = false;
                    vm.ended = Some(code);
                }
                Event::WorkloadEnded { id, run, end: WorkloadEnd::Code(code) }
            }
            Nudge::AgentLost => Event::AgentLost { id, run },
            Nudge::VmEnded(end) => {
                self.gone(index);
                Event::VmEnded { id, run, end }
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
        self.step(dice, event);
    }

    fn gone(&mut self, index: usize) {
        if let Some(vm) = self.vms[index].take() {
            self.done[index] = vm.ended == Some(0);
        }
    }
}

fn wants() -> impl Strategy<Value = Vec<Want>> {
    let one = (any::<bool>(), 0..3u8, any::<u8>());
    vec(one, 1..6).prop_map(|list| {
        let count = list.len();
        list.into_iter()
            .enumerate()
            .map(|(index, (job, restart, mask))| Want {
                kind: if job { Kind::Job } else { Kind::Service },
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

fn nudges(stops: bool) -> impl Strategy<Value = Vec<(usize, u32, Nudge)>> {
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
    vec((0..5usize, any::<u32>(), one), 0..120)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_order_of_events_breaks_the_rules_and_every_shutdown_ends(
        wants in wants(),
        before in nudges(true),
        during in nudges(false),
        killed_machines_die in any::<bool>(),
    ) {
        let mut world = World::new(&wants);
        world.step(0, Event::Tick);
        for (index, dice, nudge) in before {
            if !world.finished {
                world.nudge(index % wants.len(), dice, nudge);
            }
        }
        if !world.finished {
            world.nudge(0, 0, Nudge::Stop);
        }
        let asked = world.now;
        for (index, dice, nudge) in during {
            if !world.finished && !matches!(nudge, Nudge::Wait(_)) {
                world.nudge(index % wants.len(), dice, nudge);
            }
        }
        // From here on nobody says anything: only deadlines pass, and kills may work.
        let mut turns = 0;
        while !world.finished {
            turns += 1;
            prop_assert!(turns < 200, "the shutdown does not end");
            let killed = world.vms.iter().position(|vm| vm.is_some_and(|vm| vm.strongest_ask == 3));
            match killed.filter(|_| killed_machines_die) {
                Some(index) => world.nudge(index, 0, Nudge::VmEnded(VmEnd::KilledBy(9))),
                None => {
                    prop_assert!(world.state.next_deadline().is_some(), "nothing left to wait for");
                    world.nudge(0, 0, Nudge::ToDeadline);
                }
            }
        }
        let limit = StopTimes::default().worst() * u32::try_from(wants.len()).unwrap();
        prop_assert!(world.now.since(asked) <= limit, "took {:?}", world.now.since(asked));
    }
}
