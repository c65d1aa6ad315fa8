//! The stories that people expect of starting, ending and stopping, told step by step.

mod bench;

use std::time::Duration;

use bench::*;
use hearth_core::{
    Action, Announcement, ENDING, End, Event, Failure, HEARTBEAT_LOST, KILL_STOP, Kind, Lifecycle, Means,
    Moment, Order, RestartPolicy, STALL, START, STEADY, Said, Spec, VmEnd, WorkloadEnd,
};

#[test]
fn a_service_starts_when_what_it_comes_after_runs() {
    let mut bench = Bench::new(&[service("echo", &["clock"]), service("clock", &[])]);
    assert_eq!(bench.up(), [start(1, 1)]);
    assert_eq!(bench.connected(1, 1), []);
    assert_eq!(bench.runs(1, 1), [running(1), start(0, 1)]);
    let ready = say(Announcement::Ready { ready: 2, of: 2 });
    assert_eq!(bench.runs(0, 1), [running(0), ready]);
}

#[test]
fn what_comes_after_a_job_waits_until_it_is_done() {
    let mut bench = Bench::new(&[job("prepare", &[]), service("serve", &["prepare"])]);
    assert_eq!(bench.up(), [start(0, 1)]);
    assert_eq!(bench.runs(0, 1), [running(0)]);
    assert_eq!(bench.workload_ended(0, 1, WorkloadEnd::Code(0)), []);
    assert_eq!(bench.vm_ended(0, 1, VmEnd::PoweredOff), [done(0), start(1, 1)]);
}

#[test]
fn a_job_counts_as_ready_only_when_it_is_done_and_its_machine_is_gone() {
    let mut bench = Bench::new(&[job("hello", &[])]);
    let _ = bench.up();
    assert_eq!(bench.runs(0, 1), [running(0)]);
    assert_eq!(bench.workload_ended(0, 1, WorkloadEnd::Code(0)), []);
    let ready = say(Announcement::Ready { ready: 1, of: 1 });
    assert_eq!(bench.vm_ended(0, 1, VmEnd::PoweredOff), [done(0), ready]);
    assert_eq!(bench.step(Event::Tick), [], "said once");
    assert_eq!(*bench.lifecycle(0), Lifecycle::Ended(End::Done));
    assert_eq!(bench.next(), [Action::BootSettled]);
    assert_eq!(bench.state.next_deadline(), None);
}

#[test]
fn a_failed_job_is_announced_and_blocks_all_that_comes_after_it() {
    let list = [job("a", &[]), service("b", &["a"]), service("c", &["b"]), service("d", &[])];
    let mut bench = Bench::new(&list);
    assert_eq!(bench.up(), [start(0, 1), start(3, 1)]);
    let _ = bench.runs(3, 1);
    let _ = bench.runs(0, 1);
    let _ = bench.workload_ended(0, 1, WorkloadEnd::Code(3));
    let told = bench.vm_ended(0, 1, VmEnd::PoweredOff);
    let blocked = |workload, on| say(Announcement::Blocked { workload: id(workload), on: id(on) });
    let failed = failed(0, Failure::Workload(WorkloadEnd::Code(3)));
    let not_ready = say(Announcement::NotReady { ready: 1, of: 4 });
    assert_eq!(told, [failed, blocked(1, 0), blocked(2, 1), not_ready]);
    assert_eq!(bench.step(Event::Tick), [], "said once");
}

#[test]
fn nothing_is_said_of_the_whole_while_a_job_runs_or_is_about_to_run_again() {
    let mut retried = job("retried", &[]);
    retried.restart.policy = RestartPolicy::OnFailure;
    let mut bench = Bench::new(&[retried, service("clock", &[])]);
    let _ = bench.up();
    assert_eq!(bench.runs(1, 1), [running(1)]);
    assert_eq!(bench.runs(0, 1), [running(0)]);
    assert_eq!(bench.workload_ended(0, 1, WorkloadEnd::Code(1)), []);
    let told = bench.vm_ended(0, 1, VmEnd::PoweredOff);
    assert_eq!(told[0], failed(0, Failure::Workload(WorkloadEnd::Code(1))));
    assert_eq!(told.len(), 2, "{told:?}");
    assert_eq!(bench.next(), [start(0, 2)]);
    let _ = bench.runs(0, 2);
    let _ = bench.workload_ended(0, 2, WorkloadEnd::Code(0));
    let ready = say(Announcement::Ready { ready: 2, of: 2 });
    assert_eq!(bench.vm_ended(0, 2, VmEnd::PoweredOff), [done(0), ready]);
}

#[test]
fn a_service_that_ended_for_good_does_not_count_as_ready_however_well_it_ended() {
    let mut once = service("once", &[]);
    once.restart.policy = RestartPolicy::OnFailure;
    let mut bench = Bench::new(&[once]);
    let _ = bench.up();
    assert_eq!(bench.runs(0, 1), [running(0), say(Announcement::Ready { ready: 1, of: 1 })]);
    let _ = bench.workload_ended(0, 1, WorkloadEnd::Code(0));
    let not_ready = say(Announcement::NotReady { ready: 0, of: 1 });
    assert_eq!(bench.vm_ended(0, 1, VmEnd::PoweredOff), [done(0), not_ready]);
}

#[test]
fn a_service_that_ends_starts_again_after_a_wait_that_doubles() {
    let mut bench = Bench::new(&[service("clock", &[])]);
    let _ = bench.up();
    for (attempt, millis) in [(1, 500), (2, 1000), (3, 2000)] {
        let _ = bench.runs(0, attempt);
        let told = bench.vm_ended(0, attempt, VmEnd::Panicked);
        assert_eq!(told[0], failed(0, Failure::Vm(VmEnd::Panicked)));
        let (said, delay) = restart(&told).expect("a restart");
        assert_eq!(said, attempt);
        let full = Duration::from_millis(millis);
        assert!(delay <= full && delay >= full * 3 / 4, "{delay:?} of {full:?}");
        assert_eq!(bench.wait(delay - Duration::from_millis(1)), []);
        assert_eq!(bench.wait(Duration::from_millis(1)), [start(0, attempt + 1)]);
    }
}

#[test]
fn a_steady_run_makes_the_waits_short_again() {
    let mut bench = Bench::new(&[service("clock", &[])]);
    let _ = bench.up();
    for run in 1..=3 {
        let _ = bench.vm_ended(0, run, VmEnd::MonitorFailed);
        let _ = bench.next();
    }
    let _ = bench.runs(0, 4);
    let healed = bench.pass(STEADY, &[vm(0, 4)]);
    assert!(matches!(announcements(&healed)[..], [Announcement::Healed { .. }]), "{healed:?}");
    let told = bench.vm_ended(0, 4, VmEnd::MonitorFailed);
    assert_eq!(restart(&told).map(|(attempt, _)| attempt), Some(1));
}

#[test]
fn a_service_under_always_starts_again_after_success_too() {
    let mut bench = Bench::new(&[service("clock", &[])]);
    let _ = bench.up();
    let _ = bench.runs(0, 1);
    let _ = bench.workload_ended(0, 1, WorkloadEnd::Code(0));
    let told = bench.vm_ended(0, 1, VmEnd::PoweredOff);
    assert_eq!(told[0], done(0));
    assert_eq!(restart(&told).map(|(attempt, _)| attempt), Some(1));
}

#[test]
fn a_monitor_that_cannot_be_spawned_is_a_failure_like_any_other() {
    let mut bench = Bench::new(&[service("clock", &[])]);
    let _ = bench.up();
    let why = "/usr/bin/hearth-vmm: not found".to_owned();
    let told = bench.say(vm(0, 1), Said::NotSpawned(why.clone()));
    assert_eq!(told[0], failed(0, Failure::NotSpawned(why)));
    assert_eq!(restart(&told).map(|(attempt, _)| attempt), Some(1));
}

#[test]
fn shutdown_goes_in_reverse_order_and_asks_the_agents() {
    let mut bench = Bench::new(&[service("a", &[]), service("b", &["a"]), service("c", &["b"])]);
    let _ = bench.up();
    for index in 0..3 {
        let _ = bench.runs(index, 1);
    }
    assert_eq!(bench.step(Event::Stop), [say(Announcement::Stopping), ask(2, 1)]);
    assert_eq!(bench.step(Event::Stop), [], "asking twice changes nothing");
    assert_eq!(bench.vm_ended(2, 1, VmEnd::PoweredOff), [ask(1, 1)]);
    assert_eq!(bench.vm_ended(1, 1, VmEnd::PoweredOff), [ask(0, 1)]);
    let last = bench.vm_ended(0, 1, VmEnd::PoweredOff);
    assert_eq!(last, [say(Announcement::Stopped), Action::Finish]);
    assert_eq!(bench.step(Event::Tick), []);
}

#[test]
fn a_stuck_agent_is_followed_by_sigterm_and_sigkill_and_then_by_giving_up() {
    let mut bench = Bench::new(&[service("a", &[])]);
    let _ = bench.up();
    let _ = bench.runs(0, 1);
    assert_eq!(bench.step(Event::Stop), [say(Announcement::Stopping), ask(0, 1)]);
    assert_eq!(bench.wait(times().agent), [stubborn(0, Means::Terminate), terminate(0, 1)]);
    assert_eq!(bench.wait(times().terminate), [stubborn(0, Means::Kill), kill(0, 1)]);
    let lost = say(Announcement::Lost { replica: first(0) });
    assert_eq!(bench.wait(KILL_STOP), [lost, say(Announcement::Stopped), Action::Finish]);
}

#[test]
fn without_an_agent_shutdown_begins_with_sigterm() {
    let mut bench = Bench::new(&[service("a", &[])]);
    let _ = bench.up();
    assert_eq!(bench.step(Event::Stop), [say(Announcement::Stopping), terminate(0, 1)]);
}

#[test]
fn a_second_wish_to_stop_kills_at_once() {
    let mut bench = Bench::new(&[service("a", &[]), service("b", &["a"])]);
    let _ = bench.up();
    let _ = bench.runs(0, 1);
    let _ = bench.runs(1, 1);
    let _ = bench.step(Event::Stop);
    assert_eq!(bench.step(Event::StopNow), [kill(0, 1), kill(1, 1)]);
}

#[test]
fn a_guest_that_never_gets_ready_is_taken_down_and_tried_again() {
    let mut bench = Bench::new(&[service("a", &[])]);
    let _ = bench.up();
    assert_eq!(bench.state.next_deadline(), Some(Moment::START.after(START)));
    assert_eq!(bench.wait(START), [terminate(0, 1)]);
    let told = bench.vm_ended(0, 1, VmEnd::StoppedByHost);
    assert_eq!(told[0], failed(0, Failure::NotReadyInTime));
    assert!(restart(&told).is_some());
}

#[test]
fn a_guest_that_falls_silent_is_taken_down_and_tried_again() {
    let mut bench = Bench::new(&[service("a", &[])]);
    let _ = bench.up();
    let _ = bench.runs(0, 1);
    let almost = HEARTBEAT_LOST - Duration::from_millis(1);
    assert_eq!(bench.wait(almost), []);
    assert_eq!(bench.say(vm(0, 1), Said::Heartbeat), []);
    assert_eq!(bench.wait(Duration::from_millis(1)), [], "the deadline moved on");
    assert_eq!(bench.wait(almost - Duration::from_millis(1)), []);
    assert_eq!(bench.wait(Duration::from_millis(1)), [terminate(0, 1)]);
    let told = bench.vm_ended(0, 1, VmEnd::StoppedByHost);
    assert_eq!(told[0], failed(0, Failure::HeartbeatLost));
}

#[test]
fn silence_while_the_daemon_itself_was_frozen_is_held_against_nobody() {
    let mut bench = Bench::new(&[service("a", &[])]);
    let _ = bench.up();
    let _ = bench.runs(0, 1);
    assert_eq!(bench.wait(Duration::from_secs(3600)), [Action::BootSettled]);
    assert_eq!(bench.wait(STALL), [terminate(0, 1)], "but it has to speak now");
}

#[test]
fn a_machine_that_outstays_its_workload_is_taken_down_and_the_workload_keeps_its_success() {
    let mut bench = Bench::new(&[job("a", &[])]);
    let _ = bench.up();
    let _ = bench.runs(0, 1);
    let _ = bench.workload_ended(0, 1, WorkloadEnd::Code(0));
    assert_eq!(bench.wait(ENDING), [terminate(0, 1)]);
    let told = bench.vm_ended(0, 1, VmEnd::StoppedByHost);
    assert!(told.contains(&done(0)), "{told:?}");
}

#[test]
fn a_workload_that_its_guest_starts_again_runs_again() {
    let mut bench = Bench::new(&[service("a", &[])]);
    let _ = bench.up();
    let _ = bench.runs(0, 1);
    let _ = bench.workload_ended(0, 1, WorkloadEnd::Code(1));
    let again = bench.say(vm(0, 1), Said::WorkloadStarted);
    assert!(again.contains(&running(0)), "{again:?}");
}

#[test]
fn what_an_earlier_machine_still_says_changes_nothing() {
    let mut bench = Bench::new(&[service("a", &[])]);
    let _ = bench.up();
    let _ = bench.vm_ended(0, 1, VmEnd::Panicked);
    let _ = bench.next();
    assert_eq!(bench.runs(0, 1), []);
    assert_eq!(bench.vm_ended(0, 1, VmEnd::Panicked), []);
    assert!(matches!(bench.lifecycle(0), Lifecycle::Starting { .. }));
}

#[test]
fn an_empty_box_is_ready_and_stops() {
    let mut bench = Bench::new(&[]);
    assert_eq!(bench.up(), [say(Announcement::Ready { ready: 0, of: 0 })]);
    let last = [say(Announcement::Stopping), say(Announcement::Stopped), Action::Finish];
    assert_eq!(bench.step(Event::Stop), last);
}

#[test]
fn a_thick_web_of_orders_is_assessed_in_no_time() {
    let names: Vec<String> = (0..64).map(|n| format!("w{n}")).collect();
    let wanted: Vec<Spec> = (0..64)
        .map(|n| service(&names[n], &names[..n].iter().map(String::as_str).collect::<Vec<_>>()))
        .collect();
    let mut bench = Bench::new(&wanted);
    assert_eq!(bench.up(), [start(0, 1)]);
}

#[test]
fn a_failure_during_shutdown_is_told_and_not_mended() {
    let mut bench = Bench::new(&[service("a", &[]), service("b", &["a"])]);
    let _ = bench.up();
    let _ = bench.runs(0, 1);
    let _ = bench.runs(1, 1);
    let _ = bench.step(Event::Stop);
    assert_eq!(bench.vm_ended(0, 1, VmEnd::Panicked), [failed(0, Failure::Vm(VmEnd::Panicked))]);
    let last = [say(Announcement::Stopped), Action::Finish];
    assert_eq!(bench.vm_ended(1, 1, VmEnd::PoweredOff), last);
}

#[test]
fn a_job_is_tried_as_often_as_its_file_says() {
    let mut tried = job("tried", &[]);
    tried.restart.policy = RestartPolicy::OnFailure;
    tried.restart.retries = Some(2);
    let mut bench = Bench::new(&[tried]);
    let _ = bench.up();
    for run in 1..=2 {
        let _ = bench.vm_ended(0, run, VmEnd::Panicked);
        assert_eq!(bench.next(), [start(0, run + 1)]);
    }
    let told = bench.vm_ended(0, 3, VmEnd::Panicked);
    assert_eq!(restart(&told), None);
    assert!(matches!(bench.lifecycle(0), Lifecycle::Ended(End::Failed(_))));
}

#[test]
fn a_function_runs_while_it_is_asked_for_and_a_while_longer() {
    let idle = Duration::from_secs(60);
    let function = Spec::new("resize", Kind::Function { most: 2, idle }, build(1));
    let mut bench = Bench::new(&[function]);
    assert_eq!(bench.up(), [say(Announcement::Ready { ready: 1, of: 1 })], "idle, it is as it should be");
    let demand = |replicas| Event::Demand { workload: id(0), replicas };
    let told = bench.step(demand(5));
    assert_eq!(starts(&told).len(), 2, "not more than its file says");
    let machines = [vm_at(0, 0, 1), vm_at(0, 1, 2)];
    for machine in machines {
        let _ = bench.runs_at(machine);
    }
    assert_eq!(stops(&bench.step(demand(0))), []);
    assert_eq!(stops(&bench.pass(idle - Duration::from_secs(1), &machines)), []);
    let told = bench.pass(Duration::from_secs(1), &machines);
    assert_eq!(stops(&told), machines);
}

#[test]
fn traffic_follows_readiness_and_stops_before_the_machine_does() {
    let mut bench = Bench::new(&[service("a", &[])]);
    let _ = bench.up();
    let traffic = |open| order(vm(0, 1), Order::Traffic { open });
    let _ = bench.say(vm(0, 1), Said::AgentConnected);
    let told = bench.step_fully(Event::Vm { vm: vm(0, 1), said: Said::WorkloadStarted });
    assert!(told.contains(&traffic(true)), "{told:?}");
    let told = bench.step_fully(Event::Stop);
    let place = |wanted: &Action| told.iter().position(|action| action == wanted);
    assert!(place(&traffic(false)).is_some(), "{told:?}");
    assert!(place(&traffic(false)) < place(&ask(0, 1)), "{told:?}");
}
