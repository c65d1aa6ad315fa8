//! Warm snapshots: when one is taken, what is started from it, when it is not trusted.

mod bench;

use std::time::Duration;

use bench::*;
use hearth_core::{
    Action, Allowed, Boot, Breaker, Capacity, Config, DeviceSpec, Event, Kind, Level, Order, Request,
    Resource, SNAPSHOT_AGAIN, STEADY, Said, Spec, StartHow, State, Version, Vm, VmEnd, WorkloadEnd,
};

const RESTORE: Allowed = Allowed { process_restart: false, restore: true, fresh_disk: false, balloon: false };

fn warm(name: &str, replicas: u16) -> Spec {
    Spec { allowed: RESTORE, ..services(name, replicas, &[]) }
}

/// Up for long enough to have been asked for a snapshot.
fn asked() -> (Bench, Vec<Action>) {
    let mut bench = Bench::new(&[warm("web", 1)]);
    let _ = bench.up();
    let _ = bench.runs(0, 1);
    let told = bench.pass(STEADY, &[vm(0, 1)]);
    (bench, told)
}

/// Likewise, and it was taken.
fn kept() -> Bench {
    let (mut bench, _) = asked();
    let _ = bench.say(vm(0, 1), Said::SnapshotTaken);
    bench
}

/// Machines that a snapshot is to be made of.
fn snapshots(actions: &[Action]) -> Vec<Vm> {
    let snapshot = |action: &Action| match action {
        Action::Vm { vm, order: Order::Snapshot } => Some(*vm),
        _ => None,
    };
    actions.iter().filter_map(snapshot).collect()
}

impl Bench {
    fn snapshot(&self) -> Option<Version> {
        self.records.iter().find_map(|record| record.durable.snapshot)
    }

    /// Another daemon, which finds nothing running.
    fn again(&mut self, boot: Boot) -> Vec<Action> {
        self.state = State::new(8);
        let _ = self.begin(boot);
        self.step(Event::Surveyed)
    }
}

#[test]
fn a_machine_that_proved_itself_is_kept_warm_once_for_its_version() {
    let (mut bench, told) = asked();
    assert_eq!(snapshots(&told), [vm(0, 1)]);
    assert_eq!(snapshots(&bench.say(vm(0, 1), Said::SnapshotTaken)), []);
    assert_eq!(snapshots(&bench.pass(STEADY * 4, &[vm(0, 1)])), []);
    assert_eq!(bench.snapshot(), Some(build(1).version));
}

#[test]
fn a_crash_is_answered_with_a_restore_in_the_same_step_and_a_second_one_soon_after_waits() {
    let mut bench = kept();
    let told = bench.vm_ended(0, 1, VmEnd::KilledBy(9));
    assert_eq!(restart(&told), Some((1, Duration::ZERO)));
    assert_eq!(starts(&told), [(vm(0, 2), build(1).version, StartHow::Restore)]);
    let _ = bench.runs(0, 2);
    let told = bench.vm_ended(0, 2, VmEnd::KilledBy(9));
    assert!(restart(&told).is_some_and(|(attempt, delay)| attempt == 2 && !delay.is_zero()), "{told:?}");
    assert_eq!(bench.next(), [start_of(vm(0, 3), 1, StartHow::Cold)]);
}

#[test]
fn a_service_that_ends_well_begins_again_from_its_snapshot() {
    let mut bench = kept();
    let _ = bench.workload_ended(0, 1, WorkloadEnd::Code(0));
    let told = bench.vm_ended(0, 1, VmEnd::PoweredOff);
    assert_eq!(starts(&told), [(vm(0, 2), build(1).version, StartHow::Restore)], "{told:?}");
}

#[test]
fn more_replicas_and_those_of_the_next_boot_come_from_the_snapshot() {
    let mut bench = kept();
    let told = bench.configure(&[warm("web", 2)]);
    assert_eq!(starts(&told), [(vm_at(0, 1, 2), build(1).version, StartHow::Restore)]);
    let told = bench.again(Boot { first_daemon: true, ..Boot::default() });
    let all = [(vm_at(0, 0, 3), StartHow::Restore), (vm_at(0, 1, 4), StartHow::Restore)];
    assert_eq!(starts(&told), all.map(|(vm, how)| (vm, build(1).version, how)));
}

#[test]
fn another_version_and_who_asks_for_a_new_machine_start_from_nothing() {
    let mut bench = kept();
    let _ = bench.step(Event::Ask(Request::Restart(id(0))));
    let told = bench.vm_ended(0, 1, VmEnd::PoweredOff);
    assert_eq!(starts(&told), [(vm(0, 2), build(1).version, StartHow::Cold)]);
    let _ = bench.runs(0, 2);
    let _ = bench.configure(&[Spec { build: build(2), ..warm("web", 1) }]);
    let told = bench.vm_ended(0, 2, VmEnd::PoweredOff);
    assert_eq!(starts(&told), [(vm(0, 3), build(2).version, StartHow::Cold)]);
}

#[test]
fn a_version_that_comes_back_proves_itself_from_nothing_although_it_is_kept() {
    let mut bench = kept();
    let _ = bench.configure(&[Spec { build: build(2), ..warm("web", 1) }]);
    let _ = bench.vm_ended(0, 1, VmEnd::PoweredOff);
    let _ = bench.runs(0, 2);
    let _ = bench.pass(Duration::from_secs(125), &[vm(0, 2)]);
    let _ = bench.say(vm(0, 2), Said::SnapshotFailed);
    let _ = bench.configure(&[warm("web", 1)]);
    let told = bench.vm_ended(0, 2, VmEnd::PoweredOff);
    assert_eq!(bench.snapshot(), Some(build(1).version));
    assert_eq!(starts(&told), [(vm(0, 3), build(1).version, StartHow::Cold)]);
}

#[test]
fn a_snapshot_that_could_not_be_taken_is_tried_again_much_later() {
    let (mut bench, _) = asked();
    let _ = bench.say(vm(0, 1), Said::SnapshotFailed);
    assert_eq!(snapshots(&bench.pass(SNAPSHOT_AGAIN / 2, &[vm(0, 1)])), []);
    assert_eq!(snapshots(&bench.pass(SNAPSHOT_AGAIN / 2, &[vm(0, 1)])), [vm(0, 1)]);
}

#[test]
fn a_snapshot_counts_although_the_machine_that_it_is_like_is_gone_by_now() {
    let (mut bench, _) = asked();
    let _ = bench.vm_ended(0, 1, VmEnd::Panicked);
    let told = bench.say(vm(0, 1), Said::SnapshotTaken);
    assert_eq!(starts(&told), [], "what was decided stays");
    assert_eq!(bench.snapshot(), Some(build(1).version));
    assert_eq!(starts(&bench.next()), [(vm(0, 2), build(1).version, StartHow::Cold)]);
}

#[test]
fn none_is_taken_while_disk_or_memory_are_short() {
    for resource in [Resource::Disk, Resource::Memory] {
        let mut bench = Bench::new(&[warm("web", 1)]);
        let _ = bench.up();
        let _ = bench.runs(0, 1);
        let short = |level| Event::Pressure { resource, level };
        let _ = bench.step(short(Level::Short));
        assert_eq!(snapshots(&bench.pass(STEADY * 2, &[vm(0, 1)])), [], "{resource:?}");
        assert_eq!(snapshots(&bench.step(short(Level::Calm))), [vm(0, 1)], "{resource:?}");
    }
}

#[test]
fn one_is_taken_at_a_time_and_only_where_there_is_room_for_one_more_machine() {
    let capacity = |machines: u32| Capacity { memory_mib: 100 * machines, ..Capacity::UNLIMITED };
    let with = |machines| {
        let device = DeviceSpec { stop: times(), capacity: capacity(machines), ..DeviceSpec::default() };
        let mut bench = Bench::with(Config { device, workloads: vec![warm("a", 1), warm("b", 1)] });
        let _ = bench.up();
        let _ = bench.runs(0, 1);
        let _ = bench.runs(1, 1);
        bench
    };
    let both = [vm(0, 1), vm(1, 1)];
    assert_eq!(snapshots(&with(2).pass(STEADY * 2, &both)), []);

    let mut bench = with(3);
    assert_eq!(snapshots(&bench.pass(STEADY * 2, &both)), [vm(0, 1)]);
    // Its room is taken as long as it is being made.
    let more = [warm("a", 1), warm("b", 1), service("c", &[])];
    assert_eq!(starts(&bench.configure(&more)), []);
    let told = bench.say(vm(0, 1), Said::SnapshotTaken);
    assert_eq!((starts(&told).len(), snapshots(&told)), (1, vec![]), "{told:?}");
    let told = bench.configure(&more[..2]);
    assert_eq!(stops(&told), [vm(2, 1)]);
    let told = bench.vm_ended(2, 1, VmEnd::StoppedByHost);
    assert_eq!(snapshots(&told), [vm(1, 1)], "{told:?}");
    // No word counts as a failure, and who waits for its room gets it.
    let told = bench.pass(Duration::from_secs(300), &both);
    assert_eq!(snapshots(&told), []);
    assert_eq!(starts(&bench.configure(&more)).len(), 1);
}

#[test]
fn a_snapshot_that_does_not_come_to_life_is_not_used_again() {
    let mut bench = kept();
    let told = bench.vm_ended(0, 1, VmEnd::Panicked);
    assert!(told.contains(&start_of(vm(0, 2), 1, StartHow::Restore)), "{told:?}");
    let _ = bench.vm_ended(0, 2, VmEnd::BadConfiguration);
    assert_eq!(bench.snapshot(), None);
    assert_eq!(bench.next(), [start_of(vm(0, 3), 1, StartHow::Cold)]);
}

#[test]
fn a_snapshot_that_is_gone_is_forgotten_and_taken_anew() {
    let mut bench = kept();
    let _ = bench.vm_ended(0, 1, VmEnd::Panicked);
    let _ = bench.say(vm(0, 2), Said::SnapshotGone);
    assert_eq!(bench.snapshot(), None);
    let _ = bench.runs(0, 2);
    let again = bench.pass(STEADY * 2, &[vm(0, 2)]);
    assert_eq!(snapshots(&again), [vm(0, 2)]);
}

#[test]
fn who_wants_none_any_more_keeps_none() {
    let mut bench = kept();
    let _ = bench.configure(&[service("web", &[])]);
    assert_eq!(bench.snapshot(), None);
    let told = bench.vm_ended(0, 1, VmEnd::Panicked);
    assert!(restart(&told).is_some_and(|(_, delay)| !delay.is_zero()), "{told:?}");
}

#[test]
fn a_job_is_never_kept_warm() {
    let mut bench = Bench::new(&[Spec { kind: Kind::Job, ..warm("job", 1) }]);
    let _ = bench.up();
    let _ = bench.runs(0, 1);
    assert_eq!(snapshots(&bench.pass(STEADY * 2, &[vm(0, 1)])), []);
}

#[test]
fn a_retry_tries_the_workload_and_not_a_snapshot_of_it() {
    let mut spec = warm("web", 2);
    spec.restart.budget = 1;
    let mut bench = Bench::new(&[spec]);
    let _ = bench.up();
    let both = [vm_at(0, 0, 1), vm_at(0, 1, 2)];
    for vm in both {
        let _ = bench.runs_at(vm);
    }
    let _ = bench.pass(STEADY, &both);
    let _ = bench.say(both[0], Said::SnapshotTaken);
    let memory = |level| Event::Pressure { resource: Resource::Memory, level };
    let _ = bench.step(memory(Level::Full));
    // This one is to be restored, and waits for memory when the other one spends the budget.
    let _ = bench.say(both[0], Said::Ended(VmEnd::Panicked));
    let _ = bench.say(both[1], Said::Ended(VmEnd::Panicked));
    assert!(matches!(bench.state.breaker(id(0)), Some(Breaker::Open { .. })));
    let _ = bench.step(memory(Level::Calm));
    let told = bench.step(Event::Ask(Request::Retry(id(0))));
    assert_eq!(starts(&told), [(vm_at(0, 0, 3), build(1).version, StartHow::Cold)]);
}
