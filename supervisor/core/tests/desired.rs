//! What people want, and how the box gets from one wish to the next.

mod bench;

use bench::*;
use hearth_core::{
    Action, Announcement, Capacity, Cause, ConfigFault, Event, Hold, Kind, Level, Lifecycle, Needs, Order,
    Place, Request, Resource, Said, Slot, Spec, VmEnd, WorkloadEnd,
};

fn needs(name: &str, on: &[&str]) -> Spec {
    Spec { requires: on.iter().map(|name| (*name).to_owned()).collect(), ..service(name, &[]) }
}

#[test]
fn a_configuration_that_says_the_same_changes_nothing() {
    let list = [service("a", &[]), services("b", 2, &["a"])];
    let mut bench = Bench::new(&list);
    let _ = bench.up();
    let _ = bench.runs(0, 1);
    let told = bench.configure(&list);
    assert_eq!(told, [say(Announcement::ConfigApplied { added: 0, changed: 0, removed: 0 })]);
}

#[test]
fn a_configuration_with_a_fault_changes_nothing_and_says_what_is_wrong() {
    let mut bench = Bench::new(&[service("a", &[])]);
    let _ = bench.up();
    let before = bench.state.clone();
    let told = bench.configure(&[service("a", &["nobody"]), service("new", &[])]);
    let faults = vec![ConfigFault::UnknownPredecessor { workload: 0, place: 0 }];
    assert_eq!(told, [say(Announcement::ConfigRefused { faults })]);
    assert_eq!(bench.state, before);
}

#[test]
fn what_is_not_about_the_machine_changes_without_touching_it() {
    let mut spec = service("a", &[]);
    let mut bench = Bench::new(&[spec.clone()]);
    let _ = bench.up();
    let _ = bench.runs(0, 1);
    spec.restart.budget = 1;
    spec.probes[0].failures = 50;
    let told = bench.configure(&[spec]);
    assert_eq!(told, [say(Announcement::ConfigApplied { added: 0, changed: 1, removed: 0 })]);
}

#[test]
fn more_replicas_are_started_and_the_last_ones_go_first() {
    let mut bench = Bench::new(&[services("web", 1, &[])]);
    let _ = bench.up();
    let _ = bench.runs(0, 1);
    let told = bench.configure(&[services("web", 3, &[])]);
    let started: Vec<_> = starts(&told).iter().map(|start| start.0).collect();
    assert_eq!(started, [vm_at(0, 1, 2), vm_at(0, 2, 3)]);
    let _ = bench.runs_at(vm_at(0, 1, 2));
    let _ = bench.runs_at(vm_at(0, 2, 3));
    let told = bench.step(Event::Ask(Request::Scale { workload: id(0), replicas: Some(2) }));
    assert_eq!(stops(&told), [vm_at(0, 2, 3)]);
    let _ = bench.say(vm_at(0, 2, 3), Said::Ended(VmEnd::PoweredOff));
    assert_eq!(bench.state.lifecycle(id(0).replica(Slot(2))), None);
    let told = bench.step(Event::Ask(Request::Scale { workload: id(0), replicas: None }));
    assert_eq!(starts(&told)[0].0, vm_at(0, 2, 4), "a new machine, never an old number");
}

#[test]
fn a_removed_workload_goes_after_those_that_come_after_it_and_is_forgotten() {
    let mut bench = Bench::new(&[service("a", &[]), service("b", &["a"])]);
    let _ = bench.up();
    let _ = bench.runs(0, 1);
    let _ = bench.runs(1, 1);
    assert_eq!(stops(&bench.configure(&[])), [vm(1, 1)]);
    let told = bench.vm_ended(1, 1, VmEnd::PoweredOff);
    assert_eq!(stops(&told), [vm(0, 1)]);
    assert!(told.contains(&Action::Forget { workload: id(1), name: "b".into() }), "{told:?}");
    let told = bench.vm_ended(0, 1, VmEnd::PoweredOff);
    assert!(told.contains(&Action::Forget { workload: id(0), name: "a".into() }), "{told:?}");
    assert_eq!(bench.state.ids().count(), 0);
}

#[test]
fn who_requires_a_workload_goes_before_it_and_comes_back_after_it() {
    let mut bench = Bench::new(&[service("db", &[]), needs("web", &["db"])]);
    let _ = bench.up();
    let _ = bench.runs(0, 1);
    let _ = bench.runs(1, 1);
    assert_eq!(stops(&bench.step(Event::Ask(Request::Stop(id(0))))), [vm(1, 1)]);
    assert_eq!(stops(&bench.vm_ended(1, 1, VmEnd::PoweredOff)), [vm(0, 1)]);
    let _ = bench.vm_ended(0, 1, VmEnd::PoweredOff);
    assert_eq!(starts(&bench.step(Event::Ask(Request::Start(id(0)))))[0].0, vm(0, 2));
    assert_eq!(starts(&bench.runs(0, 2))[0].0, vm(1, 2));
}

#[test]
fn a_dependency_that_is_down_for_a_while_holds_and_costs_no_budget() {
    let mut bench = Bench::new(&[service("db", &[]), needs("web", &["db"])]);
    let _ = bench.up();
    let _ = bench.runs(0, 1);
    let _ = bench.runs(1, 1);
    let told = bench.vm_ended(0, 1, VmEnd::Panicked);
    assert_eq!(stops(&told), [], "it may well work on without it");
    let _ = bench.vm_ended(1, 1, VmEnd::Panicked);
    let _ = bench.next();
    let _ = bench.next();
    let explained = bench.state.explain(id(1)).expect("it is known");
    assert_eq!(explained.replicas[0].hold, Some(Hold::Dependency(id(0))));
    assert_eq!(explained.restarts_in_window, 1, "and no more while it waits");
    assert_eq!(starts(&bench.runs(0, 2)).len(), 1);
}

#[test]
fn memory_is_promised_once_unless_the_owner_says_otherwise() {
    let mut bench = Bench::new(&[services("web", 3, &[])]);
    let capacity = |memory_percent| Capacity { memory_mib: 250, memory_percent, ..Capacity::UNLIMITED };
    bench.config.device.capacity = capacity(100);
    let told = bench.up();
    assert_eq!(starts(&told).len(), 2);
    let hold = Hold::Memory;
    assert!(told.contains(&say(Announcement::NoRoom { replica: id(0).replica(Slot(2)), hold })), "{told:?}");
    bench.config.device.capacity = capacity(120);
    let list = bench.config.workloads.clone();
    assert_eq!(starts(&bench.configure(&list)).len(), 1);
}

#[test]
fn a_workload_does_not_get_over_its_own_ceiling() {
    let mut spec = services("greedy", 3, &[]);
    spec.ceiling = Some(Needs { memory_mib: 100, cpu_milli: 9000 });
    let mut bench = Bench::new(&[spec, service("modest", &[])]);
    let told = bench.up();
    assert_eq!(starts(&told).len(), 2, "one of each");
}

#[test]
fn short_memory_squeezes_balloons_and_full_memory_starts_nothing() {
    let mut spec = services("web", 1, &[]);
    spec.allowed.balloon = true;
    let mut bench = Bench::new(&[spec.clone()]);
    let _ = bench.up();
    let _ = bench.runs(0, 1);
    let pressure = |level| Event::Pressure { resource: Resource::Memory, level };
    let balloon = |mib| order(vm(0, 1), Order::Balloon { mib });
    let told = |level| say(Announcement::Pressure { resource: Resource::Memory, level });
    assert_eq!(bench.step(pressure(Level::Short)), [told(Level::Short), balloon(25)]);
    assert_eq!(bench.step(pressure(Level::Short)), [], "once");
    assert_eq!(bench.step(pressure(Level::Full)), [told(Level::Full), balloon(50)]);
    spec.kind = Kind::Service { replicas: 2 };
    assert_eq!(starts(&bench.configure(&[spec])), []);
    let told = bench.step(pressure(Level::Calm));
    assert!(told.contains(&balloon(0)) && starts(&told).len() == 1, "{told:?}");
}

#[test]
fn too_many_logs_are_cut_and_told() {
    let mut spec = service("chatty", &[]);
    spec.log_bytes_per_minute = Some(1000);
    let mut bench = Bench::new(&[spec]);
    let _ = bench.up();
    assert_eq!(bench.step(Event::Logged { workload: id(0), bytes: 900 }), []);
    let told = bench.step(Event::Logged { workload: id(0), bytes: 900 });
    assert!(matches!(told[0], Action::LimitLogs { .. }), "{told:?}");
}

#[test]
fn a_person_s_restart_takes_one_replica_after_the_other() {
    let mut bench = Bench::new(&[services("web", 2, &[])]);
    let _ = bench.up();
    let _ = bench.runs_at(vm_at(0, 0, 1));
    let _ = bench.runs_at(vm_at(0, 1, 2));
    assert_eq!(stops(&bench.step(Event::Ask(Request::Restart(id(0))))), [vm_at(0, 0, 1)]);
    let told = bench.say(vm_at(0, 0, 1), Said::Ended(VmEnd::PoweredOff));
    assert_eq!((starts(&told)[0].0, stops(&told)), (vm_at(0, 0, 3), vec![]));
    let told = bench.runs_at(vm_at(0, 0, 3));
    assert_eq!(stops(&told), [vm_at(0, 1, 2)]);
}

#[test]
fn a_service_that_becomes_a_job_gets_a_machine_that_ends() {
    let mut bench = Bench::new(&[service("a", &[])]);
    let _ = bench.up();
    let _ = bench.runs(0, 1);
    assert_eq!(stops(&bench.configure(&[job("a", &[])])), [vm(0, 1)]);
}

#[test]
fn an_explanation_tells_what_is_waited_for_and_what_came_before() {
    let mut bench = Bench::new(&[service("db", &[]), service("web", &["db"])]);
    let _ = bench.up();
    let waiting = bench.state.explain(id(1)).expect("it is known");
    assert_eq!(waiting.replicas[0].hold, Some(Hold::Dependency(id(0))));
    assert!(waiting.transitions.is_empty());
    let _ = bench.runs(0, 1);
    let _ = bench.vm_ended(0, 1, VmEnd::Panicked);
    let failed = bench.state.explain(id(0)).expect("it is known");
    let story: Vec<Place> = failed.transitions.iter().map(|transition| transition.to).collect();
    assert_eq!(story, [Place::Starting, Place::Ready, Place::BackingOff]);
    assert!(matches!(failed.transitions[2].why, Cause::Healing(_)));
    assert_eq!(failed.replicas[0].next, bench.state.next_deadline());
    assert!(matches!(failed.replicas[0].lifecycle, Lifecycle::BackingOff { .. }));
}

#[test]
fn a_job_that_is_done_is_not_done_again_because_what_it_requires_went_and_came_back() {
    let needs = Spec { requires: vec!["base".into()], ..job("migrate", &[]) };
    let mut bench = Bench::new(&[service("base", &[]), needs]);
    let _ = bench.up();
    let _ = bench.runs(0, 1);
    let _ = bench.runs(1, 1);
    let _ = bench.workload_ended(1, 1, WorkloadEnd::Code(0));
    let _ = bench.vm_ended(1, 1, VmEnd::PoweredOff);
    let _ = bench.step(Event::Ask(Request::Stop(id(0))));
    let _ = bench.vm_ended(0, 1, VmEnd::PoweredOff);
    assert!(bench.state.explain(id(1)).is_some_and(|explained| explained.orphaned));
    let _ = bench.step(Event::Ask(Request::Start(id(0))));
    assert_eq!(starts(&bench.runs(0, 2)), []);
    assert_eq!(bench.lifecycle(1).place(), Place::Done);
}

#[test]
fn a_full_disk_costs_no_version_that_is_or_may_be_needed_again() {
    let mut spec = services("web", 2, &[]);
    let mut bench = Bench::new(&[spec.clone()]);
    let _ = bench.up();
    for slot in 0..2 {
        let _ = bench.runs_at(vm_at(0, slot, u32::from(slot) + 1));
    }
    spec.build = build(2);
    let _ = bench.configure(&[spec]);
    let mut told = bench.step(Event::Pressure { resource: Resource::Disk, level: Level::Full });
    assert!(told.contains(&Action::TrimLogs), "{told:?}");
    while !told.iter().any(|action| matches!(action, Action::CollectImages { .. })) {
        told = bench.next();
    }
    let keep = vec![build(1).version, build(2).version];
    assert!(told.contains(&Action::CollectImages { keep }), "{told:?}");
}
