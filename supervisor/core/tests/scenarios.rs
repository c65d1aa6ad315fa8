//! The stories that people expect, told step by step.

use std::time::Duration;

use hearth_core::{
    Action, Announcement, ENDING, End, Event, Failure, HEARTBEAT_LOST, KILL_STOP, Kind, Lifecycle, Moment,
    Plan, RestartPolicy, Run, START, STEADY, State, StopTimes, VmEnd, Wanted, WorkloadEnd, WorkloadId,
};

/// A box in virtual time.
struct Bench {
    state: State,
    now: Moment,
    ids: Vec<WorkloadId>,
}

fn service<'a>(name: &'a str, after: &[&'a str]) -> Wanted<'a> {
    Wanted { name, kind: Kind::Service, restart: RestartPolicy::Always, after: after.to_vec() }
}

fn job<'a>(name: &'a str, after: &[&'a str]) -> Wanted<'a> {
    Wanted { name, kind: Kind::Job, restart: RestartPolicy::Never, after: after.to_vec() }
}

impl Bench {
    fn new(wanted: &[Wanted<'_>]) -> Bench {
        let plan = Plan::new(wanted).expect("an order that can be kept");
        let ids = plan.ids().collect();
        Bench { state: State::new(plan, times()), now: Moment::START, ids }
    }

    fn step(&mut self, event: Event) -> Vec<Action> {
        self.state.step(self.now, 0, event)
    }

    fn wait(&mut self, duration: Duration) -> Vec<Action> {
        self.now = self.now.after(duration);
        self.step(Event::Tick)
    }

    fn connected(&mut self, index: usize, run: u32) -> Vec<Action> {
        self.step(Event::AgentConnected { id: self.ids[index], run: Run(run) })
    }

    /// The agent connects and starts the workload.
    fn runs(&mut self, index: usize, run: u32) -> Vec<Action> {
        let mut actions = self.connected(index, run);
        actions.extend(self.step(Event::WorkloadStarted { id: self.ids[index], run: Run(run) }));
        actions
    }

    fn workload_ended(&mut self, index: usize, run: u32, end: WorkloadEnd) -> Vec<Action> {
        self.step(Event::WorkloadEnded { id: self.ids[index], run: Run(run), end })
    }

    fn vm_ended(&mut self, index: usize, run: u32, end: VmEnd) -> Vec<Action> {
        self.step(Event::VmEnded { id: self.ids[index], run: Run(run), end })
    }

    fn start(&self, index: usize, run: u32) -> Action {
        Action::Start { id: self.ids[index], run: Run(run) }
    }

    fn ask(&self, index: usize, run: u32) -> Action {
        Action::AskAgent { id: self.ids[index], run: Run(run), grace: times().grace() }
    }

    fn terminate(&self, index: usize, run: u32) -> Action {
        Action::Terminate { id: self.ids[index], run: Run(run) }
    }

    fn kill(&self, index: usize, run: u32) -> Action {
        Action::Kill { id: self.ids[index], run: Run(run) }
    }

    fn failed(&self, index: usize, failure: Failure) -> Action {
        say(Announcement::Failed { id: self.ids[index], failure })
    }

    fn restart_in(&self, index: usize, attempt: u32, millis: u64) -> Action {
        say(Announcement::RestartIn { id: self.ids[index], attempt, delay: Duration::from_millis(millis) })
    }

    fn stubborn(&self, index: usize, means: &'static str) -> Action {
        say(Announcement::Stubborn { id: self.ids[index], means })
    }
}

/// Not the defaults, so that a forgotten setting shows.
fn times() -> StopTimes {
    StopTimes { agent: Duration::from_secs(30), terminate: Duration::from_secs(7) }
}

fn say(announcement: Announcement) -> Action {
    Action::Announce(announcement)
}

#[test]
fn a_service_starts_when_what_it_comes_after_runs() {
    let mut bench = Bench::new(&[service("echo", &["clock"]), service("clock", &[])]);
    assert_eq!(bench.step(Event::Tick), [bench.start(1, 1)]);
    assert_eq!(bench.connected(1, 1), []);
    let running = say(Announcement::Running { id: bench.ids[1] });
    assert_eq!(bench.runs(1, 1), [running, bench.start(0, 1)]);
    let ready = say(Announcement::Ready { ready: 2, of: 2 });
    assert_eq!(bench.runs(0, 1), [say(Announcement::Running { id: bench.ids[0] }), ready]);
}

#[test]
fn what_comes_after_a_job_waits_until_it_is_done() {
    let mut bench = Bench::new(&[job("prepare", &[]), service("serve", &["prepare"])]);
    assert_eq!(bench.step(Event::Tick), [bench.start(0, 1)]);
    assert_eq!(bench.runs(0, 1), [say(Announcement::Running { id: bench.ids[0] })]);
    assert_eq!(bench.workload_ended(0, 1, WorkloadEnd::Code(0)), []);
    let done = say(Announcement::Done { id: bench.ids[0] });
    assert_eq!(bench.vm_ended(0, 1, VmEnd::PoweredOff), [done, bench.start(1, 1)]);
}

#[test]
fn a_job_counts_as_ready_only_when_it_is_done_and_its_machine_is_gone() {
    let mut bench = Bench::new(&[job("hello", &[])]);
    let _ = bench.step(Event::Tick);
    assert_eq!(bench.runs(0, 1), [say(Announcement::Running { id: bench.ids[0] })]);
    assert_eq!(bench.workload_ended(0, 1, WorkloadEnd::Code(0)), []);
    let ready = say(Announcement::Ready { ready: 1, of: 1 });
    assert_eq!(
        bench.vm_ended(0, 1, VmEnd::PoweredOff),
        [say(Announcement::Done { id: bench.ids[0] }), ready]
    );
    assert_eq!(bench.step(Event::Tick), [], "said once");
    assert_eq!(bench.state.lifecycle(bench.ids[0]), Some(&Lifecycle::Ended(End::Done)));
    assert_eq!(bench.state.next_deadline(), None);
}

#[test]
fn a_failed_job_is_announced_and_blocks_all_that_comes_after_it() {
    let mut bench =
        Bench::new(&[job("a", &[]), service("b", &["a"]), service("c", &["b"]), service("d", &[])]);
    assert_eq!(bench.step(Event::Tick), [bench.start(0, 1), bench.start(3, 1)]);
    let _ = bench.runs(3, 1);
    let _ = bench.runs(0, 1);
    let _ = bench.workload_ended(0, 1, WorkloadEnd::Code(3));
    let told = bench.vm_ended(0, 1, VmEnd::PoweredOff);
    let blocked = |id: usize, on: usize| say(Announcement::Blocked { id: bench.ids[id], on: bench.ids[on] });
    let failed = bench.failed(0, Failure::Workload(WorkloadEnd::Code(3)));
    let not_ready = say(Announcement::NotReady { ready: 1, of: 4 });
    assert_eq!(told, [failed, blocked(1, 0), blocked(2, 1), not_ready]);
    assert_eq!(bench.step(Event::Tick), [], "said once");
}

#[test]
fn nothing_is_said_of_the_whole_while_a_job_runs_or_is_about_to_run_again() {
    let retried = Wanted { restart: RestartPolicy::OnFailure, ..job("retried", &[]) };
    let mut bench = Bench::new(&[retried, service("clock", &[])]);
    let _ = bench.step(Event::Tick);
    assert_eq!(bench.runs(1, 1), [say(Announcement::Running { id: bench.ids[1] })]);
    assert_eq!(bench.runs(0, 1), [say(Announcement::Running { id: bench.ids[0] })]);
    assert_eq!(bench.workload_ended(0, 1, WorkloadEnd::Code(1)), []);
    let failed = bench.failed(0, Failure::Workload(WorkloadEnd::Code(1)));
    assert_eq!(bench.vm_ended(0, 1, VmEnd::PoweredOff), [failed, bench.restart_in(0, 1, 500)]);
    assert_eq!(bench.wait(Duration::from_millis(500)), [bench.start(0, 2)]);
    let _ = bench.runs(0, 2);
    let _ = bench.workload_ended(0, 2, WorkloadEnd::Code(0));
    let ready = say(Announcement::Ready { ready: 2, of: 2 });
    assert_eq!(
        bench.vm_ended(0, 2, VmEnd::PoweredOff),
        [say(Announcement::Done { id: bench.ids[0] }), ready]
    );
}

#[test]
fn a_service_that_ended_for_good_does_not_count_as_ready_however_well_it_ended() {
    let once = Wanted { restart: RestartPolicy::OnFailure, ..service("once", &[]) };
    let mut bench = Bench::new(&[once]);
    let _ = bench.step(Event::Tick);
    let ready = say(Announcement::Ready { ready: 1, of: 1 });
    assert_eq!(bench.runs(0, 1), [say(Announcement::Running { id: bench.ids[0] }), ready]);
    let _ = bench.workload_ended(0, 1, WorkloadEnd::Code(0));
    let not_ready = say(Announcement::NotReady { ready: 0, of: 1 });
    assert_eq!(
        bench.vm_ended(0, 1, VmEnd::PoweredOff),
        [say(Announcement::Done { id: bench.ids[0] }), not_ready]
    );
}

#[test]
fn a_service_that_ends_starts_again_after_a_wait_that_doubles() {
    let mut bench = Bench::new(&[service("clock", &[])]);
    let _ = bench.step(Event::Tick);
    for (attempt, millis) in [(1, 500), (2, 1000), (3, 2000)] {
        let _ = bench.runs(0, attempt);
        let told = bench.vm_ended(0, attempt, VmEnd::Panicked);
        let failed = bench.failed(0, Failure::Vm(VmEnd::Panicked));
        assert_eq!(told, [failed, bench.restart_in(0, attempt, millis)]);
        assert_eq!(bench.wait(Duration::from_millis(millis - 1)), []);
        assert_eq!(bench.wait(Duration::from_millis(1)), [bench.start(0, attempt + 1)]);
    }
}

#[test]
fn a_steady_run_makes_the_waits_short_again() {
    let mut bench = Bench::new(&[service("clock", &[])]);
    let _ = bench.step(Event::Tick);
    for run in 1..=3 {
        let _ = bench.vm_ended(0, run, VmEnd::MonitorFailed);
        let _ = bench.wait(Duration::from_secs(10));
    }
    let _ = bench.runs(0, 4);
    let mut ran = Duration::ZERO;
    while ran < STEADY {
        ran += Duration::from_secs(1);
        bench.now = bench.now.after(Duration::from_secs(1));
        assert_eq!(bench.step(Event::Heartbeat { id: bench.ids[0], run: Run(4) }), []);
    }
    assert!(bench.vm_ended(0, 4, VmEnd::MonitorFailed).contains(&bench.restart_in(0, 1, 500)));
}

#[test]
fn a_service_under_always_starts_again_after_success_too() {
    let mut bench = Bench::new(&[service("clock", &[])]);
    let _ = bench.step(Event::Tick);
    let _ = bench.runs(0, 1);
    let _ = bench.workload_ended(0, 1, WorkloadEnd::Code(0));
    let told = bench.vm_ended(0, 1, VmEnd::PoweredOff);
    assert_eq!(told, [say(Announcement::Done { id: bench.ids[0] }), bench.restart_in(0, 1, 500)]);
}

#[test]
fn a_monitor_that_cannot_be_spawned_is_a_failure_like_any_other() {
    let mut bench = Bench::new(&[service("clock", &[])]);
    let _ = bench.step(Event::Tick);
    let why = "/usr/bin/hearth-vmm: not found".to_owned();
    let told = bench.step(Event::NotSpawned { id: bench.ids[0], run: Run(1), why: why.clone() });
    assert_eq!(told, [bench.failed(0, Failure::NotSpawned(why)), bench.restart_in(0, 1, 500)]);
}

#[test]
fn shutdown_goes_in_reverse_order_and_asks_the_agents() {
    let mut bench = Bench::new(&[service("a", &[]), service("b", &["a"]), service("c", &["b"])]);
    let _ = bench.step(Event::Tick);
    for index in 0..3 {
        let _ = bench.runs(index, 1);
    }
    assert_eq!(bench.step(Event::Stop), [say(Announcement::Stopping), bench.ask(2, 1)]);
    assert_eq!(bench.step(Event::Stop), [], "asking twice changes nothing");
    assert_eq!(bench.vm_ended(2, 1, VmEnd::PoweredOff), [bench.ask(1, 1)]);
    assert_eq!(bench.vm_ended(1, 1, VmEnd::PoweredOff), [bench.ask(0, 1)]);
    let last = bench.vm_ended(0, 1, VmEnd::PoweredOff);
    assert_eq!(last, [say(Announcement::Stopped), Action::Finish]);
    assert_eq!(bench.step(Event::Tick), []);
}

#[test]
fn a_stuck_agent_is_followed_by_sigterm_and_sigkill_and_then_by_giving_up() {
    let mut bench = Bench::new(&[service("a", &[])]);
    let _ = bench.step(Event::Tick);
    let _ = bench.runs(0, 1);
    assert_eq!(bench.step(Event::Stop), [say(Announcement::Stopping), bench.ask(0, 1)]);
    assert_eq!(bench.wait(times().agent), [bench.stubborn(0, "SIGTERM"), bench.terminate(0, 1)]);
    assert_eq!(bench.wait(times().terminate), [bench.stubborn(0, "SIGKILL"), bench.kill(0, 1)]);
    let lost = say(Announcement::Lost { id: bench.ids[0] });
    assert_eq!(bench.wait(KILL_STOP), [lost, say(Announcement::Stopped), Action::Finish]);
}

#[test]
fn without_an_agent_shutdown_begins_with_sigterm() {
    let mut bench = Bench::new(&[service("a", &[])]);
    let _ = bench.step(Event::Tick);
    assert_eq!(bench.step(Event::Stop), [say(Announcement::Stopping), bench.terminate(0, 1)]);
}

#[test]
fn a_second_wish_to_stop_kills_at_once() {
    let mut bench = Bench::new(&[service("a", &[]), service("b", &["a"])]);
    let _ = bench.step(Event::Tick);
    let _ = bench.runs(0, 1);
    let _ = bench.runs(1, 1);
    let _ = bench.step(Event::Stop);
    assert_eq!(bench.step(Event::StopNow), [bench.kill(0, 1), bench.kill(1, 1)]);
}

#[test]
fn a_guest_that_never_gets_ready_is_taken_down_and_tried_again() {
    let mut bench = Bench::new(&[service("a", &[])]);
    let _ = bench.step(Event::Tick);
    assert_eq!(bench.state.next_deadline(), Some(Moment::START.after(START)));
    assert_eq!(bench.wait(START), [bench.terminate(0, 1)]);
    let told = bench.vm_ended(0, 1, VmEnd::StoppedByHost);
    assert_eq!(told, [bench.failed(0, Failure::NotReadyInTime), bench.restart_in(0, 1, 500)]);
}

#[test]
fn a_guest_that_falls_silent_is_taken_down_and_tried_again() {
    let mut bench = Bench::new(&[service("a", &[])]);
    let _ = bench.step(Event::Tick);
    let _ = bench.runs(0, 1);
    let almost = HEARTBEAT_LOST - Duration::from_millis(1);
    assert_eq!(bench.wait(almost), []);
    assert_eq!(bench.step(Event::Heartbeat { id: bench.ids[0], run: Run(1) }), []);
    assert_eq!(bench.wait(almost), []);
    assert_eq!(bench.wait(Duration::from_millis(1)), [bench.terminate(0, 1)]);
    let told = bench.vm_ended(0, 1, VmEnd::StoppedByHost);
    assert_eq!(told[0], bench.failed(0, Failure::HeartbeatLost));
}

#[test]
fn a_machine_that_outstays_its_workload_is_taken_down_and_the_workload_keeps_its_success() {
    let mut bench = Bench::new(&[job("a", &[])]);
    let _ = bench.step(Event::Tick);
    let _ = bench.runs(0, 1);
    let _ = bench.workload_ended(0, 1, WorkloadEnd::Code(0));
    assert_eq!(bench.wait(ENDING), [bench.terminate(0, 1)]);
    let told = bench.vm_ended(0, 1, VmEnd::StoppedByHost);
    assert!(told.contains(&say(Announcement::Done { id: bench.ids[0] })), "{told:?}");
}

#[test]
fn a_workload_that_its_guest_starts_again_runs_again() {
    let mut bench = Bench::new(&[service("a", &[])]);
    let _ = bench.step(Event::Tick);
    let _ = bench.runs(0, 1);
    let _ = bench.workload_ended(0, 1, WorkloadEnd::Code(1));
    let again = bench.step(Event::WorkloadStarted { id: bench.ids[0], run: Run(1) });
    assert!(again.contains(&say(Announcement::Running { id: bench.ids[0] })), "{again:?}");
}

#[test]
fn what_an_earlier_machine_still_says_changes_nothing() {
    let mut bench = Bench::new(&[service("a", &[])]);
    let _ = bench.step(Event::Tick);
    let _ = bench.vm_ended(0, 1, VmEnd::Panicked);
    let _ = bench.wait(Duration::from_millis(500));
    assert_eq!(bench.runs(0, 1), []);
    assert_eq!(bench.vm_ended(0, 1, VmEnd::Panicked), []);
    assert!(matches!(bench.state.lifecycle(bench.ids[0]), Some(Lifecycle::Starting { .. })));
}

#[test]
fn an_empty_box_is_ready_and_stops() {
    let mut bench = Bench::new(&[]);
    assert_eq!(bench.step(Event::Tick), [say(Announcement::Ready { ready: 0, of: 0 })]);
    assert_eq!(
        bench.step(Event::Stop),
        [say(Announcement::Stopping), say(Announcement::Stopped), Action::Finish]
    );
}

#[test]
fn a_thick_web_of_orders_is_assessed_in_no_time() {
    let names: Vec<String> = (0..64).map(|n| format!("w{n}")).collect();
    let wanted: Vec<Wanted<'_>> = (0..64)
        .map(|n| service(&names[n], &names[..n].iter().map(String::as_str).collect::<Vec<_>>()))
        .collect();
    let mut bench = Bench::new(&wanted);
    assert_eq!(bench.step(Event::Tick), [bench.start(0, 1)]);
}

#[test]
fn a_failure_during_shutdown_is_told_and_not_mended() {
    let mut bench = Bench::new(&[service("a", &[]), service("b", &["a"])]);
    let _ = bench.step(Event::Tick);
    let _ = bench.runs(0, 1);
    let _ = bench.runs(1, 1);
    let _ = bench.step(Event::Stop);
    assert_eq!(bench.vm_ended(0, 1, VmEnd::Panicked), [bench.failed(0, Failure::Vm(VmEnd::Panicked))]);
    assert_eq!(bench.vm_ended(1, 1, VmEnd::PoweredOff), [say(Announcement::Stopped), Action::Finish]);
}
