//! A box in virtual time: the core, a clock, and short words for what tests say often.
#![allow(dead_code, reason = "each test program uses a part of it")]

use std::time::Duration;

use hearth_core::{
    Action, Announcement, Boot, Build, Config, DeviceRecord, DeviceSpec, Event, Failure, Kind, Lifecycle,
    Means, Moment, Needs, Order, Record, ReplicaId, Run, Said, Slot, Spec, StartHow, State, StopTimes,
    Version, Vm, VmEnd, WorkloadEnd, WorkloadId,
};

pub(crate) struct Bench {
    pub(crate) state: State,
    pub(crate) now: Moment,
    pub(crate) config: Config,
    /// The last record of each workload.
    pub(crate) records: Vec<Record>,
}

pub(crate) fn build(version: u64) -> Build {
    Build { version: Version(version), needs: Needs { memory_mib: 100, cpu_milli: 1000 } }
}

pub(crate) fn service(name: &str, after: &[&str]) -> Spec {
    services(name, 1, after)
}

pub(crate) fn services(name: &str, replicas: u16, after: &[&str]) -> Spec {
    let after = after.iter().map(|name| (*name).to_owned()).collect();
    Spec { after, ..Spec::new(name, Kind::Service { replicas }, build(1)) }
}

pub(crate) fn job(name: &str, after: &[&str]) -> Spec {
    let after = after.iter().map(|name| (*name).to_owned()).collect();
    Spec { after, ..Spec::new(name, Kind::Job, build(1)) }
}

/// Not the defaults, so that a forgotten setting shows.
pub(crate) fn times() -> StopTimes {
    StopTimes { agent: Duration::from_secs(30), terminate: Duration::from_secs(7) }
}

pub(crate) fn say(announcement: Announcement) -> Action {
    Action::Announce(announcement)
}

pub(crate) fn id(index: u32) -> WorkloadId {
    WorkloadId::from_number(index)
}

pub(crate) fn first(index: u32) -> ReplicaId {
    id(index).replica(Slot::FIRST)
}

pub(crate) fn vm(index: u32, run: u32) -> Vm {
    first(index).run(Run(run))
}

pub(crate) fn vm_at(index: u32, slot: u16, run: u32) -> Vm {
    id(index).replica(Slot(slot)).run(Run(run))
}

pub(crate) fn order(vm: Vm, order: Order) -> Action {
    Action::Vm { vm, order }
}

pub(crate) fn start(index: u32, run: u32) -> Action {
    start_of(vm(index, run), 1, StartHow::Cold)
}

pub(crate) fn start_of(vm: Vm, version: u64, how: StartHow) -> Action {
    order(vm, Order::Start { build: build(version), how })
}

pub(crate) fn ask(index: u32, run: u32) -> Action {
    order(vm(index, run), Order::AskAgent { grace: times().grace() })
}

pub(crate) fn terminate(index: u32, run: u32) -> Action {
    order(vm(index, run), Order::Terminate)
}

pub(crate) fn kill(index: u32, run: u32) -> Action {
    order(vm(index, run), Order::Kill)
}

pub(crate) fn running(index: u32) -> Action {
    say(Announcement::Running { replica: first(index) })
}

pub(crate) fn done(index: u32) -> Action {
    say(Announcement::Done { replica: first(index) })
}

pub(crate) fn failed(index: u32, failure: Failure) -> Action {
    say(Announcement::Failed { replica: first(index), failure })
}

pub(crate) fn stubborn(index: u32, means: Means) -> Action {
    say(Announcement::Stubborn { replica: first(index), means })
}

/// The attempt and the delay of a restart that was announced; the jitter takes up to a quarter off.
pub(crate) fn restart(actions: &[Action]) -> Option<(u32, Duration)> {
    actions.iter().find_map(|action| match action {
        Action::Announce(Announcement::RestartIn { attempt, delay, .. }) => Some((*attempt, *delay)),
        _ => None,
    })
}

/// The machines that were started, with version and way.
pub(crate) fn starts(actions: &[Action]) -> Vec<(Vm, Version, StartHow)> {
    let start = |action: &Action| match action {
        Action::Vm { vm, order: Order::Start { build, how } } => Some((*vm, build.version, *how)),
        _ => None,
    };
    actions.iter().filter_map(start).collect()
}

/// The machines that were asked, ended or killed.
pub(crate) fn stops(actions: &[Action]) -> Vec<Vm> {
    let stop = |action: &Action| match action {
        Action::Vm { vm, order: Order::AskAgent { .. } | Order::Terminate | Order::Kill } => Some(*vm),
        _ => None,
    };
    actions.iter().filter_map(stop).collect()
}

pub(crate) fn announcements(actions: &[Action]) -> Vec<Announcement> {
    let told = |action: &Action| match action {
        Action::Announce(announcement) => Some(announcement.clone()),
        _ => None,
    };
    actions.iter().filter_map(told).collect()
}

impl Bench {
    pub(crate) fn new(workloads: &[Spec]) -> Bench {
        let device = DeviceSpec { stop: times(), ..DeviceSpec::default() };
        Bench::with(Config { device, workloads: workloads.to_vec() })
    }

    pub(crate) fn with(config: Config) -> Bench {
        config.check().expect("a configuration without faults");
        Bench { state: State::new(7), now: Moment::START, config, records: Vec::new() }
    }

    /// The first daemon of a boot, with nothing found.
    pub(crate) fn up(&mut self) -> Vec<Action> {
        let boot = Boot { first_daemon: true, ..Boot::default() };
        let mut actions = self.begin(boot);
        actions.extend(self.step(Event::Surveyed));
        actions
    }

    pub(crate) fn begin(&mut self, boot: Boot) -> Vec<Action> {
        let records = self.records.clone();
        let mut actions = self.step(Event::Begin { boot, device: DeviceRecord::default(), records });
        actions.extend(self.step(Event::Configured(Box::new(self.config.clone()))));
        actions
    }

    /// Without records, traffic and what is to be learnt, which have tests of their own.
    pub(crate) fn step(&mut self, event: Event) -> Vec<Action> {
        let mut actions = self.step_fully(event);
        actions.retain(|action| {
            let traffic = matches!(action, Action::Vm { order: Order::Traffic { .. }, .. });
            !traffic && !matches!(action, Action::Remember(_) | Action::Learn(_))
        });
        actions
    }

    pub(crate) fn step_fully(&mut self, event: Event) -> Vec<Action> {
        let actions = self.state.step(self.now, event);
        if let Some(deadline) = self.state.next_deadline() {
            assert!(deadline > self.now, "a timer was left due");
        }
        for action in &actions {
            if let Action::Remember(record) = action {
                self.records.retain(|old| old.name != record.name);
                self.records.push((**record).clone());
            }
        }
        actions
    }

    pub(crate) fn configure(&mut self, workloads: &[Spec]) -> Vec<Action> {
        self.config.workloads = workloads.to_vec();
        self.step(Event::Configured(Box::new(self.config.clone())))
    }

    pub(crate) fn say(&mut self, vm: Vm, said: Said) -> Vec<Action> {
        self.step(Event::Vm { vm, said })
    }

    pub(crate) fn wait(&mut self, duration: Duration) -> Vec<Action> {
        self.now = self.now.after(duration);
        self.step(Event::Tick)
    }

    /// Goes on to the next deadline.
    pub(crate) fn next(&mut self) -> Vec<Action> {
        self.now = self.state.next_deadline().expect("something to wait for");
        self.step(Event::Tick)
    }

    /// Time passes, and these machines beat; what comes of it.
    pub(crate) fn pass(&mut self, duration: Duration, alive: &[Vm]) -> Vec<Action> {
        let until = self.now.after(duration);
        let mut actions = Vec::new();
        while self.now < until {
            let next = self.state.next_deadline().unwrap_or(until);
            self.now = next.min(self.now.after(Duration::from_secs(1))).min(until);
            for vm in alive {
                actions.extend(self.say(*vm, Said::Heartbeat));
            }
            actions.extend(self.step(Event::Tick));
        }
        actions
    }

    pub(crate) fn connected(&mut self, index: u32, run: u32) -> Vec<Action> {
        self.say(vm(index, run), Said::AgentConnected)
    }

    /// The agent connects and starts the workload.
    pub(crate) fn runs(&mut self, index: u32, run: u32) -> Vec<Action> {
        self.runs_at(vm(index, run))
    }

    pub(crate) fn runs_at(&mut self, vm: Vm) -> Vec<Action> {
        let mut actions = self.say(vm, Said::AgentConnected);
        actions.extend(self.say(vm, Said::WorkloadStarted));
        actions
    }

    pub(crate) fn workload_ended(&mut self, index: u32, run: u32, end: WorkloadEnd) -> Vec<Action> {
        self.say(vm(index, run), Said::WorkloadEnded(end))
    }

    pub(crate) fn vm_ended(&mut self, index: u32, run: u32, end: VmEnd) -> Vec<Action> {
        self.say(vm(index, run), Said::Ended(end))
    }

    pub(crate) fn lifecycle(&self, index: u32) -> &Lifecycle {
        self.state.lifecycle(first(index)).expect("a workload with a replica")
    }
}
