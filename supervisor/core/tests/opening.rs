//! A daemon begins on a box that is running: adoption, records, safe mode, and the box's own health.

mod bench;

use std::time::Duration;

use bench::*;
use hearth_core::{
    Action, Announcement, BOX_SETTLED, Boot, BootReason, Breaker, DeviceRecord, End, Event, Found, Lifecycle,
    MOST_REBOOTS, Phase, REBOOTS_FORGIVEN, Request, Run, Rung, Said, Slot, Spec, State, Subsystem, Vm, VmEnd,
    WatchdogSpec, WorkloadEnd,
};

fn found(name: &str, vm: Vm, version: u64) -> Event {
    let Vm { replica, run } = vm;
    Event::Found(Box::new(Found { name: name.into(), slot: replica.slot, run, build: build(version) }))
}

impl Bench {
    /// Another daemon, which finds these machines.
    fn again(&mut self, boot: Boot, machines: &[(&str, Vm, u64)]) -> Vec<Action> {
        self.state = State::new(8);
        let mut actions = self.begin(boot);
        for (name, vm, version) in machines {
            actions.extend(self.step(found(name, *vm, *version)));
        }
        actions.extend(self.step(Event::Surveyed));
        actions
    }
}

#[test]
fn running_machines_are_taken_over_and_not_one_is_touched() {
    let mut bench = Bench::new(&[services("web", 2, &[]), service("echo", &["web"])]);
    let _ = bench.up();
    let machines = [vm_at(0, 0, 1), vm_at(0, 1, 2), vm(1, 1)];
    for machine in machines {
        let _ = bench.runs_at(machine);
    }
    let names = ["web", "web", "echo"];
    let all: Vec<_> = names.into_iter().zip(machines).map(|(name, vm)| (name, vm, 1)).collect();
    let told = bench.again(Boot::default(), &all);
    assert_eq!(told, [say(Announcement::Adopted { machines: 3 })]);
    let mut told = Vec::new();
    for machine in machines {
        told.extend(bench.runs_at(machine));
    }
    assert!(told.contains(&say(Announcement::Ready { ready: 2, of: 2 })), "{told:?}");
    assert_eq!((stops(&told), starts(&told)), (vec![], vec![]));
    let told = bench.vm_ended(1, 1, VmEnd::Panicked);
    assert!(restart(&told).is_some());
    assert_eq!(starts(&bench.next())[0].0.run, Run(2), "numbers go on");
}

#[test]
fn nothing_starts_before_the_last_machine_was_found() {
    let mut bench = Bench::new(&[service("a", &[])]);
    let told = bench.begin(Boot::default());
    assert_eq!(starts(&told), []);
    assert_eq!(bench.wait(Duration::from_secs(1)), []);
    assert_eq!(starts(&bench.step(Event::Surveyed)).len(), 1);
}

#[test]
fn a_machine_that_nobody_wants_any_more_is_stopped() {
    let mut bench = Bench::new(&[service("a", &[])]);
    let told = bench.again(Boot::default(), &[("a", vm(0, 3), 1), ("old", vm(1, 9), 1)]);
    assert_eq!(stops(&told), [vm(1, 9)]);
}

#[test]
fn of_two_machines_with_one_identity_the_newer_stays() {
    let mut bench = Bench::new(&[service("a", &[])]);
    let told = bench.again(Boot::default(), &[("a", vm(0, 4), 1), ("a", vm(0, 3), 1)]);
    assert!(told.contains(&say(Announcement::Duplicate { replica: first(0), run: Run(3) })), "{told:?}");
    assert_eq!(stops(&told), [vm(0, 3)]);
    let told = bench.vm_ended(0, 4, VmEnd::Panicked);
    assert!(restart(&told).is_some(), "{told:?}");
    let _ = bench.wait(Duration::from_secs(1));
    assert_eq!(starts(&bench.step(Event::Tick)), [], "the older one still has the identity");
    let told = bench.vm_ended(0, 3, VmEnd::StoppedByHost);
    assert_eq!(starts(&told)[0].0, vm(0, 5));
}

#[test]
fn a_done_job_is_done_for_the_next_daemon_and_runs_again_in_the_next_boot() {
    let mut bench = Bench::new(&[job("prepare", &[])]);
    let _ = bench.up();
    let _ = bench.runs(0, 1);
    let _ = bench.workload_ended(0, 1, WorkloadEnd::Code(0));
    let _ = bench.vm_ended(0, 1, VmEnd::PoweredOff);
    let told = bench.again(Boot::default(), &[]);
    assert_eq!(told, [say(Announcement::Ready { ready: 1, of: 1 })]);
    assert_eq!(*bench.lifecycle(0), Lifecycle::Ended(End::Done));
    let boot = Boot { first_daemon: true, ..Boot::default() };
    assert_eq!(starts(&bench.again(boot, &[])).len(), 1);
}

#[test]
fn a_quarantine_outlives_the_daemon_and_is_told_again() {
    let mut spec = service("crash", &[]);
    spec.restart.budget = 0;
    let mut bench = Bench::new(&[spec]);
    let _ = bench.up();
    let _ = bench.vm_ended(0, 1, VmEnd::Panicked);
    let told = bench.again(Boot::default(), &[]);
    let alarm = Announcement::Quarantined { workload: id(0), failure: None, restarts: 0 };
    assert!(told.contains(&say(alarm)), "{told:?}");
    assert_eq!(starts(&told), []);
    assert!(matches!(bench.state.breaker(id(0)), Some(Breaker::Open { .. })));
}

#[test]
fn what_a_person_stopped_stays_stopped() {
    let mut bench = Bench::new(&[service("a", &[])]);
    let _ = bench.up();
    let _ = bench.step(Event::Ask(Request::Stop(id(0))));
    let _ = bench.vm_ended(0, 1, VmEnd::StoppedByHost);
    let boot = Boot { first_daemon: true, ..Boot::default() };
    assert_eq!(starts(&bench.again(boot, &[])), []);
}

#[test]
fn the_budget_goes_on_where_the_last_daemon_left_it() {
    let mut spec = service("crash", &[]);
    spec.restart.budget = 2;
    let mut bench = Bench::new(&[spec]);
    let _ = bench.up();
    for run in 1..=2 {
        let _ = bench.vm_ended(0, run, VmEnd::Panicked);
        let _ = bench.next();
    }
    let _ = bench.again(Boot::default(), &[("crash", vm(0, 3), 1)]);
    let told = bench.vm_ended(0, 3, VmEnd::Panicked);
    assert_eq!(restart(&told), None, "{told:?}");
}

#[test]
fn without_a_record_another_version_that_runs_has_its_successor_proven_against_it() {
    let next = Spec { build: build(2), ..services("web", 2, &[]) };
    let mut bench = Bench::new(&[next]);
    let told = bench.again(Boot::default(), &[("web", vm_at(0, 0, 1), 1), ("web", vm_at(0, 1, 2), 1)]);
    assert!(
        announcements(&told).iter().any(|told| matches!(told, Announcement::RolloutBegan { .. })),
        "{told:?}"
    );
}

#[test]
fn after_too_many_failed_boots_no_workload_starts_until_somebody_says_so() {
    let mut bench = Bench::new(&[service("a", &[])]);
    let boot = Boot { reason: BootReason::Watchdog, first_daemon: true, failed_boots: 3 };
    let told = bench.again(boot, &[]);
    let booted = Announcement::Booted { reason: BootReason::Watchdog, failed_boots: 3 };
    let held = Some(Duration::from_secs(900));
    assert_eq!(told, [say(booted), say(Announcement::SafeMode { failed_boots: 3, held })]);
    assert_eq!(bench.state.phase(), Phase::Safe);
    assert_eq!(bench.wait(BOX_SETTLED), [], "and such a boot does not count as one that came up well");
    assert_eq!(starts(&bench.step(Event::Ask(Request::LeaveSafeMode))).len(), 1);
}

/// A watchdog that wants a pet every ten seconds, and one part that has to speak every fifteen.
fn watched(reboot: bool) -> Bench {
    let mut bench = Bench::new(&[service("a", &[])]);
    let second = Duration::from_secs(1);
    bench.config.device.watchdog = WatchdogSpec {
        period: Some(second * 10),
        critical: vec![(Subsystem::Loop, second * 15)],
        patience: second * 5,
        reboot,
    };
    bench
}

fn pets(actions: &[Action]) -> usize {
    actions.iter().filter(|action| **action == Action::Pet).count()
}

#[test]
fn the_watchdog_is_petted_while_all_parts_speak_and_only_then() {
    let mut bench = watched(false);
    assert_eq!(pets(&bench.up()), 1);
    let _ = bench.runs(0, 1);
    for _ in 0..6 {
        let told = bench.pass(Duration::from_secs(10), &[vm(0, 1)]);
        assert_eq!(pets(&told), 1, "{told:?}");
        assert_eq!(bench.step(Event::Alive(Subsystem::Loop)), []);
    }
    let told = bench.pass(Duration::from_secs(19), &[vm(0, 1)]);
    assert_eq!(pets(&told), 1, "{told:?}");
    assert!(told.contains(&say(Announcement::Late { subsystem: Subsystem::Loop })));
    let told = bench.step(Event::Alive(Subsystem::Loop));
    assert_eq!(told, [say(Announcement::Timely { subsystem: Subsystem::Loop }), Action::Pet]);
}

#[test]
fn a_part_that_stays_late_costs_the_daemon_then_the_box_and_no_workload_before() {
    let mut bench = watched(true);
    let _ = bench.up();
    let _ = bench.runs(0, 1);
    let told = bench.pass(Duration::from_secs(21), &[vm(0, 1)]);
    assert!(told.contains(&Action::ReExec), "{told:?}");
    assert_eq!(stops(&told), []);
    let told = bench.pass(Duration::from_secs(5), &[vm(0, 1)]);
    assert!(told.contains(&Action::ReExec), "a second try");
    let told = bench.pass(Duration::from_secs(5), &[vm(0, 1)]);
    assert!(told.contains(&say(Announcement::Stopping)), "{told:?}");
    let told = bench.say(vm(0, 1), Said::Ended(VmEnd::PoweredOff));
    assert!(told.contains(&Action::Reboot { reason: BootReason::Healing }), "{told:?}");
}

#[test]
fn what_was_tried_on_the_daemon_is_remembered_by_the_next_one() {
    let mut bench = watched(true);
    let _ = bench.up();
    let told = bench.pass(Duration::from_secs(21), &[]);
    let device = told.iter().find_map(|action| match action {
        Action::RememberDevice(record) => Some(*record),
        _ => None,
    });
    let device = device.expect("a record");
    assert_ne!(device, DeviceRecord::default());
    bench.state = State::new(9);
    let _ = bench.step(Event::Begin { boot: Boot::default(), device, records: Vec::new() });
    let _ = bench.step(Event::Configured(Box::new(bench.config.clone())));
    let _ = bench.step(Event::Surveyed);
    let told = bench.pass(Duration::from_secs(26), &[]);
    assert!(told.contains(&say(Announcement::Stopping)), "one more start of it, then the box: {told:?}");
}

#[test]
fn a_boot_that_stays_up_has_settled_once() {
    let mut bench = Bench::new(&[service("a", &[])]);
    let _ = bench.up();
    let _ = bench.runs(0, 1);
    let told = bench.pass(BOX_SETTLED * 2, &[vm(0, 1)]);
    assert_eq!(told.iter().filter(|action| **action == Action::BootSettled).count(), 1);
}

#[test]
fn a_stop_before_all_was_found_stops_what_is_found() {
    let mut bench = Bench::new(&[service("a", &[])]);
    let _ = bench.begin(Boot::default());
    let _ = bench.step(found("a", vm(0, 3), 1));
    assert_eq!(stops(&bench.step(Event::Stop)), [vm(0, 3)]);
    let told = bench.say(id(0).replica(Slot::FIRST).run(Run(3)), Said::Ended(VmEnd::StoppedByHost));
    assert_eq!(told, [say(Announcement::Stopped), Action::Finish]);
}

#[test]
fn a_job_that_was_done_before_a_reboot_is_not_taken_for_done_by_the_second_daemon_after_it() {
    let mut bench = Bench::new(&[job("migrate", &[])]);
    let _ = bench.up();
    let _ = bench.runs(0, 1);
    let _ = bench.workload_ended(0, 1, WorkloadEnd::Code(0));
    let _ = bench.vm_ended(0, 1, VmEnd::PoweredOff);
    let done = |bench: &Bench| bench.records.iter().any(|record| record.durable.done.has(Slot::FIRST));
    assert!(done(&bench));
    bench.state = State::new(8);
    let _ = bench.up();
    assert!(!done(&bench), "the record of another boot is replaced");
    bench.state = State::new(9);
    let _ = bench.begin(Boot::default());
    assert_eq!(starts(&bench.step(Event::Surveyed)).len(), 1);
}

#[test]
fn safe_mode_that_a_person_ended_does_not_come_back_with_the_next_daemon() {
    let mut bench = Bench::new(&[service("web", &[])]);
    let boot = Boot { first_daemon: true, failed_boots: 3, reason: BootReason::Watchdog };
    let _ = bench.again(boot, &[]);
    let told = bench.step(Event::Ask(Request::LeaveSafeMode));
    let kept = DeviceRecord { left_safe_mode: true, ..DeviceRecord::default() };
    assert_eq!(told[0], Action::RememberDevice(kept));
    bench.state = State::new(8);
    let boot = Boot { first_daemon: false, ..boot };
    let _ = bench.step(Event::Begin { boot, device: kept, records: Vec::new() });
    let _ = bench.step(Event::Configured(Box::new(bench.config.clone())));
    let _ = bench.step(Event::Surveyed);
    assert_eq!(bench.state.phase(), Phase::Up);
}

#[test]
fn safe_mode_ends_by_itself_after_a_while_since_nobody_comes_by() {
    let boot = Boot { first_daemon: true, failed_boots: 3, reason: BootReason::PowerOn };
    let mut bench = Bench::new(&[service("web", &[])]);
    let _ = bench.again(boot, &[]);
    let until = bench.now.after(Duration::from_secs(900));
    assert_eq!(bench.state.next_deadline(), Some(until));
    bench.now = until;
    let told = bench.step(Event::Tick);
    let kept = DeviceRecord { left_safe_mode: true, ..DeviceRecord::default() };
    assert_eq!(told[..2], [say(Announcement::SafeModeOver), Action::RememberDevice(kept)]);
    assert_eq!((bench.state.phase(), starts(&told).len()), (Phase::Up, 1));

    let mut bench = Bench::new(&[service("web", &[])]);
    bench.config.device.safe_mode_for = None;
    let _ = bench.again(boot, &[]);
    assert_eq!(bench.state.next_deadline(), None, "somebody is expected");
}

#[test]
fn a_box_that_reboots_did_not_heal_is_not_rebooted_all_day() {
    let mut bench = watched(true);
    let device = DeviceRecord { reboots: MOST_REBOOTS, ..DeviceRecord::default() };
    let boot = Boot { first_daemon: true, ..Boot::default() };
    let _ = bench.step(Event::Begin { boot, device, records: Vec::new() });
    let _ = bench.step(Event::Configured(Box::new(bench.config.clone())));
    let _ = bench.step(Event::Surveyed);
    let _ = bench.runs(0, 1);
    let told = bench.pass(Duration::from_secs(60), &[vm(0, 1)]);
    assert_eq!(stops(&told), [], "{told:?}");
    let last = announcements(&told).into_iter().rev().find_map(|told| match told {
        Announcement::HealingBox { choice, .. } => Some(choice.rung),
        _ => None,
    });
    assert_eq!(last, Some(Rung::StopPetting));
    let told = bench.pass(BOX_SETTLED / 2, &[vm(0, 1)]);
    assert_eq!(told, [], "that is said once");
    let mut forgiven = false;
    let hours = REBOOTS_FORGIVEN.as_secs() / 10 + 60;
    for _ in 0..hours {
        let mut told = bench.step(Event::Alive(Subsystem::Loop));
        told.extend(bench.pass(Duration::from_secs(10), &[vm(0, 1)]));
        forgiven |=
            told.iter().any(|action| matches!(action, Action::RememberDevice(record) if record.reboots == 0));
    }
    assert!(forgiven);
}
