//! How new versions take over, and how they do not.

mod bench;

use std::time::Duration;

use bench::*;
use hearth_core::{
    Announcement, Event, Grounds, Place, Request, Rollout, Said, Slot, Spec, StartHow, Vm, VmEnd,
};

const WINDOW: Duration = Duration::from_secs(60);

fn web(replicas: u16, version: u64) -> Spec {
    let mut spec = services("web", replicas, &[]);
    spec.build = build(version);
    spec.rollout.window = WINDOW;
    spec
}

/// Three replicas of version 1, all ready.
fn three() -> (Bench, Vec<Vm>) {
    let mut bench = Bench::new(&[web(3, 1)]);
    let _ = bench.up();
    let machines: Vec<Vm> = (0..3).map(|slot| vm_at(0, slot, u32::from(slot) + 1)).collect();
    for machine in &machines {
        let _ = bench.runs_at(*machine);
    }
    (bench, machines)
}

/// The machine is gone, and the next of its identity runs.
fn replaced(bench: &mut Bench, old: Vm, run: u32) -> Vm {
    let told = bench.say(old, Said::Ended(VmEnd::PoweredOff));
    let new = old.replica.run(hearth_core::Run(run));
    assert_eq!(starts(&told)[0].0, new, "{told:?}");
    let _ = bench.runs_at(new);
    new
}

#[test]
fn a_first_version_has_no_canary_and_neither_has_one_that_never_worked() {
    let mut bench = Bench::new(&[web(2, 1)]);
    assert_eq!(starts(&bench.up()).len(), 2);
    for slot in 0..2 {
        let _ = bench.say(vm_at(0, slot, u32::from(slot) + 1), Said::Ended(VmEnd::Panicked));
    }
    let told = bench.configure(&[web(2, 2)]);
    assert!(!announcements(&told).iter().any(|told| matches!(told, Announcement::RolloutBegan { .. })));
    assert_eq!(starts(&told).len(), 2, "and nobody waits out a delay for what is gone");
}

#[test]
fn a_new_version_goes_canary_first_is_watched_and_then_goes_on_one_by_one() {
    let (mut bench, mut machines) = three();
    let told = bench.configure(&[web(3, 2)]);
    let (from, to) = (build(1).version, build(2).version);
    assert!(told.contains(&say(Announcement::RolloutBegan { workload: id(0), from, to, canaries: 1 })));
    assert_eq!(stops(&told), [machines[0]]);
    machines[0] = replaced(&mut bench, machines[0], 4);

    assert_eq!(stops(&bench.pass(WINDOW - Duration::from_secs(1), &machines)), []);
    let told = bench.pass(Duration::from_secs(1), &machines);
    assert!(told.contains(&say(Announcement::Promoted { workload: id(0), to })), "{told:?}");
    assert_eq!(stops(&told), [machines[1]]);
    let told = bench.say(machines[1], Said::Ended(VmEnd::PoweredOff));
    assert_eq!(stops(&told), [], "not before it is ready");
    let told = bench.runs_at(vm_at(0, 1, 5));
    assert_eq!(stops(&told), [machines[2]]);
    let told = bench.say(machines[2], Said::Ended(VmEnd::PoweredOff));
    assert_eq!(starts(&told), [(vm_at(0, 2, 6), to, StartHow::Cold)]);
    let told = bench.runs_at(vm_at(0, 2, 6));
    assert!(told.contains(&say(Announcement::RolledOut { workload: id(0), to })), "{told:?}");
    let explained = bench.state.explain(id(0)).expect("it is known");
    assert_eq!((explained.current, explained.previous), (to, Some(from)));
}

#[test]
fn a_canary_that_fails_brings_the_good_version_back_and_is_not_tried_again() {
    let (mut bench, machines) = three();
    let _ = bench.configure(&[web(3, 2)]);
    let told = bench.say(machines[0], Said::Ended(VmEnd::PoweredOff));
    let canary = starts(&told)[0].0;
    let told = bench.say(canary, Said::Ended(VmEnd::Panicked));
    let (from, to) = (build(2).version, build(1).version);
    let grounds = Grounds::Failures { count: 1 };
    assert!(
        told.contains(&say(Announcement::RollingBack { workload: id(0), from, to, grounds })),
        "{told:?}"
    );
    assert_eq!(starts(&told), [(vm_at(0, 0, 5), to, StartHow::Cold)], "at once");
    assert_eq!(stops(&told), [], "the others were never touched");
    let _ = bench.runs_at(vm_at(0, 0, 5));
    let told = bench.configure(&[web(3, 2)]);
    assert!(!announcements(&told).iter().any(|told| matches!(told, Announcement::RolloutBegan { .. })));
    let told = bench.step(Event::Ask(Request::Retry(id(0))));
    assert!(announcements(&told).iter().any(|told| matches!(told, Announcement::RolloutBegan { .. })));
}

#[test]
fn a_canary_that_serves_worse_than_the_others_is_taken_back() {
    let (mut bench, mut machines) = three();
    let _ = bench.configure(&[web(3, 2)]);
    machines[0] = replaced(&mut bench, machines[0], 4);
    for machine in &machines {
        let errors = if *machine == machines[0] { 30 } else { 1 };
        let _ = bench.say(*machine, Said::Served { requests: 100, errors });
    }
    let told = bench.pass(WINDOW, &machines);
    let grounds = Grounds::Errors { old_milli: 10, new_milli: 300 };
    let (from, to) = (build(2).version, build(1).version);
    assert!(
        told.contains(&say(Announcement::RollingBack { workload: id(0), from, to, grounds })),
        "{told:?}"
    );
    assert_eq!(stops(&told), [machines[0]], "the canary alone");
}

#[test]
fn a_version_that_is_taken_out_of_the_file_again_goes_as_it_came() {
    let (mut bench, mut machines) = three();
    let _ = bench.configure(&[web(3, 2)]);
    machines[0] = replaced(&mut bench, machines[0], 4);
    let told = bench.configure(&[web(3, 1)]);
    assert_eq!(stops(&told), [machines[0]]);
    let explained = bench.state.explain(id(0)).expect("it is known");
    assert_eq!(explained.rejected, None, "it did nothing wrong");
}

#[test]
fn an_undo_goes_back_to_the_last_good_version() {
    let mut bench = Bench::new(&[web(1, 1)]);
    let _ = bench.up();
    let _ = bench.runs(0, 1);
    let _ = bench.configure(&[web(1, 2)]);
    let new = replaced(&mut bench, vm(0, 1), 2);
    let _ = bench.pass(WINDOW, &[new]);
    let told = bench.step(Event::Ask(Request::UndoRollout(id(0))));
    assert_eq!(stops(&told), [new]);
    let told = bench.say(new, Said::Ended(VmEnd::PoweredOff));
    assert_eq!(starts(&told), [(vm(0, 3), build(1).version, StartHow::Cold)]);
    let _ = bench.runs(0, 3);
    let explained = bench.state.explain(id(0)).expect("it is known");
    assert_eq!(explained.rollout, Rollout::Steady);
    assert_eq!(explained.rejected, Some(build(2).version));
    assert_eq!(explained.replicas[0].place, Place::Ready);
    assert_eq!(explained.replicas[0].slot, Slot::FIRST);
}

#[test]
fn a_job_that_runs_is_let_end_before_its_next_version_runs() {
    let mut bench = Bench::new(&[job("import", &[])]);
    let _ = bench.up();
    let _ = bench.runs(0, 1);
    let next = Spec { build: build(2), ..job("import", &[]) };
    assert_eq!(stops(&bench.configure(&[next])), []);
    let _ = bench.workload_ended(0, 1, hearth_core::WorkloadEnd::Code(0));
    let told = bench.vm_ended(0, 1, VmEnd::PoweredOff);
    assert_eq!(starts(&told), [(vm(0, 2), build(2).version, StartHow::Cold)]);
}
