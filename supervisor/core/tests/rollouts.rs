//! How new versions take over, and how they do not.

mod bench;

use std::time::Duration;

use bench::*;
use hearth_core::{
    Advice, Announcement, Event, Grounds, Insight, Judged, Place, Request, Rollout, Said, Slot, Spec,
    StartHow, Vm, VmEnd,
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
    assert!(told.contains(&say(Announcement::Promoted { workload: id(0), to, judged: None })), "{told:?}");
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

fn judged(bench: &Bench, advice: Advice) -> Event {
    let compared = bench.state.explain(id(0)).and_then(|story| story.compared).expect("two versions");
    Event::Foresaw(Insight::Judged { workload: id(0), judged: Judged { compared, advice, worse_milli: 990 } })
}

/// The canary of version 2 runs beside two of version 1, and each has served.
fn served(canary: (u32, u32), others: (u32, u32)) -> (Bench, Vec<Vm>) {
    let (mut bench, mut machines) = three();
    let _ = bench.configure(&[web(3, 2)]);
    machines[0] = replaced(&mut bench, machines[0], 4);
    for (place, machine) in machines.iter().enumerate() {
        let (requests, errors) = if place == 0 { canary } else { others };
        let _ = bench.say(*machine, Said::Served { requests, errors });
    }
    (bench, machines)
}

#[test]
fn a_version_that_is_surely_worse_goes_back_before_its_window_is_over_and_says_why() {
    let (mut bench, machines) = served((100, 30), (100, 1));
    let told = bench.step(judged(&bench, Advice::RollBack));
    let grounds = Grounds::Judged { old_milli: 10, new_milli: 300, requests: 100, worse_milli: 990 };
    let (from, to) = (build(2).version, build(1).version);
    assert!(
        told.contains(&say(Announcement::RollingBack { workload: id(0), from, to, grounds })),
        "{told:?}"
    );
    assert_eq!(stops(&told), [machines[0]]);
    assert_eq!(bench.state.explain(id(0)).expect("it is known").rejected_for, Some(grounds));
}

#[test]
fn what_is_said_of_too_few_requests_or_of_another_version_changes_nothing() {
    let (mut bench, _) = served((19, 19), (100, 1));
    let event = judged(&bench, Advice::RollBack);
    assert_eq!(bench.step(event), []);
    let (mut bench, _) = served((100, 30), (100, 1));
    let Event::Foresaw(Insight::Judged { workload, mut judged }) = judged(&bench, Advice::RollBack) else {
        return;
    };
    judged.compared.version = build(3).version;
    assert_eq!(bench.step(Event::Foresaw(Insight::Judged { workload, judged })), []);
}

#[test]
fn errors_that_say_nothing_to_who_weighs_them_do_not_take_a_version_back() {
    // Three more of a hundred than the others: beyond the file's margin.
    let (mut bench, machines) = served((100, 4), (100, 1));
    let _ = bench.step(judged(&bench, Advice::GoOn));
    let told = bench.pass(WINDOW, &machines);
    let promoted = announcements(&told).iter().any(|told| {
        matches!(told, Announcement::Promoted { judged: Some(judged), .. } if judged.advice == Advice::GoOn)
    });
    assert!(promoted, "{told:?}");
    // What serves worse when it is on its way to the others goes back, too.
    let told = bench.step(judged(&bench, Advice::RollBack));
    assert!(
        announcements(&told).iter().any(|told| matches!(told, Announcement::RollingBack { .. })),
        "{told:?}"
    );
}

#[test]
fn a_version_goes_back_only_for_being_worse_than_one_that_was_seen() {
    let (mut bench, machines) = served((100, 30), (9, 0));
    let event = judged(&bench, Advice::RollBack);
    assert_eq!(bench.step(event), [], "eighteen requests of the others are too few");
    let _ = bench.say(machines[1], Said::Served { requests: 2, errors: 0 });
    let event = judged(&bench, Advice::RollBack);
    assert_eq!(stops(&bench.step(event)), [machines[0]]);
}

#[test]
fn what_the_version_before_served_counts_when_its_machines_have_made_room() {
    let (mut bench, mut machines) = served((100, 1), (100, 1));
    let _ = bench.pass(WINDOW, &machines);
    machines[1] = replaced(&mut bench, machines[1], 5);
    machines[2] = machines[2].replica.run(hearth_core::Run(6));
    let _ = bench.say(vm_at(0, 2, 3), Said::Ended(VmEnd::PoweredOff));
    let story = bench.state.explain(id(0)).expect("it is known");
    assert!(matches!(story.rollout, Rollout::Spreading { moved: 3, .. }), "{:?}", story.rollout);
    let compared = story.compared.expect("two versions");
    assert_eq!((compared.old.requests, compared.old.errors), (200, 2));
    assert_eq!(compared.new.requests, 100);
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
