//! What waits for a window of maintenance, and what does not.

mod bench;

use std::time::Duration;

use bench::*;
use hearth_core::{
    Announcement, Boot, Config, DeviceSpec, Event, Found, Insight, Request, Run, Rung, Slot, Spec, Subsystem,
    Version, VmEnd, WatchdogSpec, Window,
};

const SHUT: Event = Event::Maintenance(Window::Shut { opens_s: Some(1_795_291_200) });
const OPEN: Event = Event::Maintenance(Window::Open);

fn web(version: u64) -> Spec {
    Spec { build: build(version), ..service("web", &[]) }
}

fn waits(version: u64) -> hearth_core::Action {
    say(Announcement::RolloutWaits { workload: id(0), to: Version(version) })
}

fn began(version: u64) -> hearth_core::Action {
    let (from, to) = (Version(1), Version(version));
    say(Announcement::RolloutBegan { workload: id(0), from, to, canaries: 1 })
}

/// A service that works, on a box whose window is shut.
fn shut() -> Bench {
    let mut bench = Bench::new(&[web(1)]);
    let _ = bench.step(SHUT);
    let _ = bench.up();
    let _ = bench.runs(0, 1);
    bench
}

fn held(bench: &Bench) -> Option<Version> {
    bench.state.explain(id(0)).expect("it is known").held
}

#[test]
fn a_new_version_waits_for_its_window_and_goes_when_it_opens() {
    let mut bench = shut();
    let told = bench.configure(&[web(2)]);
    assert!(told.contains(&waits(2)) && !told.contains(&began(2)), "{told:?}");
    assert_eq!(held(&bench), Some(Version(2)));
    assert_eq!(stops(&bench.pass(Duration::from_secs(600), &[vm(0, 1)])), []);
    let told = bench.step(OPEN);
    assert!(told.contains(&began(2)), "{told:?}");
    assert_eq!(held(&bench), None);
}

#[test]
fn the_last_of_several_goes_and_one_that_was_taken_back_does_not() {
    let mut bench = shut();
    let _ = bench.configure(&[web(2)]);
    assert!(bench.configure(&[web(3)]).contains(&waits(3)));
    assert!(bench.step(OPEN).contains(&began(3)));
    let mut bench = shut();
    let _ = bench.configure(&[web(2)]);
    let _ = bench.configure(&[web(1)]);
    assert_eq!(held(&bench), None);
    assert_eq!(bench.step(OPEN), []);
}

#[test]
fn a_persons_word_passes() {
    let mut bench = shut();
    let _ = bench.configure(&[web(2)]);
    let told = bench.step(Event::Ask(Request::Retry(id(0))));
    assert!(told.contains(&began(2)), "{told:?}");
    assert!(bench.configure(&[web(3)]).contains(&waits(3)), "and it was one word");
}

#[test]
fn what_takes_the_place_of_what_never_worked_does_not_wait_and_healing_does_not_either() {
    let mut bench = Bench::new(&[web(1)]);
    let _ = bench.step(SHUT);
    let _ = bench.up();
    let told = bench.configure(&[web(2)]);
    assert!(!told.contains(&waits(2)), "{told:?}");
    let mut bench = shut();
    let _ = bench.vm_ended(0, 1, VmEnd::Panicked);
    assert_eq!(bench.next(), [start(0, 2)]);
}

#[test]
fn a_daemon_that_begins_anew_goes_on_waiting() {
    let mut bench = shut();
    let _ = bench.configure(&[web(2)]);
    let mut bench = Bench { state: hearth_core::State::new(8), ..bench };
    let _ = bench.step(SHUT);
    let _ = bench.begin(Boot::default());
    let found = Found { name: "web".to_owned(), slot: Slot::FIRST, run: Run(1), build: build(1) };
    let _ = bench.step(Event::Found(Box::new(found)));
    assert_eq!(stops(&bench.step(Event::Surveyed)), []);
    assert_eq!(held(&bench), Some(Version(2)));
    let _ = bench.runs(0, 1);
    assert!(bench.step(OPEN).contains(&began(2)));
}

/// What is done to a box whose loop stays late, one after the other.
fn healings(window: Event, serves: bool) -> Vec<Rung> {
    let watchdog = WatchdogSpec {
        period: None,
        critical: vec![(Subsystem::Store, Duration::from_secs(10))],
        patience: Duration::from_secs(5),
        reboot: true,
    };
    let device = DeviceSpec { watchdog, stop: times(), ..DeviceSpec::default() };
    let mut bench = Bench::with(Config { device, workloads: vec![web(1)] });
    let _ = bench.step(window);
    let _ = bench.up();
    if serves {
        let _ = bench.runs(0, 1);
    }
    let told = announcements(&bench.pass(Duration::from_secs(60), &[vm(0, 1)]));
    let rung = |told: &Announcement| match told {
        Announcement::HealingBox { choice, .. } => Some(choice.rung),
        _ => None,
    };
    told.iter().filter_map(rung).take(3).collect()
}

#[test]
fn a_box_that_serves_is_not_rebooted_outside_of_its_window() {
    assert_eq!(healings(SHUT, true), [Rung::ReExec, Rung::ReExec, Rung::StopPetting]);
    assert_eq!(healings(SHUT, false), [Rung::ReExec, Rung::ReExec, Rung::Reboot], "it serves nobody");
    assert_eq!(healings(OPEN, true), [Rung::ReExec, Rung::ReExec, Rung::Reboot]);
}

#[test]
fn who_else_began_it_is_kept_with_what_is_wrong_and_told_once() {
    let mut bench = Bench::new(&[web(1)]);
    let _ = bench.up();
    let _ = bench.runs(0, 1);
    let whom = "the host (71 %: strange 40.0 s after the first)".to_owned();
    let suspected = || Event::Foresaw(Insight::Suspected { workload: id(0), whom: whom.clone() });
    assert_eq!(bench.step(suspected()), [], "nothing is wrong with it");
    let _ = bench.vm_ended(0, 1, VmEnd::Panicked);
    let told = [say(Announcement::Suspected { workload: id(0), whom: whom.clone() })];
    assert_eq!(bench.step(suspected()), told);
    assert_eq!(bench.step(suspected()), []);
    let explained = bench.state.explain(id(0)).expect("it is known");
    let incident = explained.replicas[0].incident.as_ref().expect("an incident");
    assert_eq!(incident.suspect, Some(whom));
}
