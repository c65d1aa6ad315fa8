//! Functions: who finds a warm machine, and how many wait for the next call.

mod bench;

use std::time::Duration;

use bench::*;
use hearth_core::{
    Announcement, CallStory, Event, Found, Insight, KeepWarm, Kind, Run, Said, Slot, Spec, VmEnd,
};

const IDLE: Duration = Duration::from_secs(300);

fn function(keep_warm: Option<KeepWarm>) -> Spec {
    let kind = Kind::Function { most: 3, idle: IDLE };
    Spec { keep_warm, ..Spec::new("resize", kind, build(1)) }
}

fn kept(least: u16, most: u16) -> Spec {
    function(Some(KeepWarm { least, most }))
}

fn demand(replicas: u16) -> Event {
    Event::Demand { workload: id(0), replicas }
}

fn advice(idle: u16, lasts_s: u64) -> Event {
    let lasts = Duration::from_secs(lasts_s);
    Event::Foresaw(Insight::Warm { workload: id(0), idle, lasts, why: "it is likely".to_owned() })
}

fn calls(bench: &Bench) -> CallStory {
    bench.state.explain(id(0)).and_then(|story| story.calls).expect("a function")
}

fn wanted(bench: &Bench) -> usize {
    bench.state.explain(id(0)).expect("the workload").replicas_wanted
}

fn cold(met: u16, calls: u64, cold: u64) -> hearth_core::Action {
    say(Announcement::ColdStart { workload: id(0), met, calls, cold })
}

#[test]
fn a_call_that_finds_no_machine_ready_is_a_cold_start_and_the_next_one_is_not() {
    let mut bench = Bench::new(&[function(None)]);
    let _ = bench.up();
    assert!(bench.step(demand(1)).contains(&cold(1, 1, 1)));
    let _ = bench.runs(0, 1);
    let _ = bench.step(demand(0));
    assert_eq!(bench.step(demand(1)), [], "it was kept");
    let told = bench.step(demand(9));
    assert!(told.contains(&cold(2, 4, 3)), "no more count than there may be: {told:?}");
    let story = calls(&bench);
    assert_eq!((story.in_use, story.calls, story.cold), (3, 4, 3));
}

#[test]
fn a_function_that_others_require_goes_idle_as_any_other() {
    let web = Spec { requires: vec!["resize".to_owned()], ..service("web", &[]) };
    let mut bench = Bench::new(&[function(None), web]);
    let _ = bench.up();
    let _ = bench.runs(1, 1);
    let _ = bench.step(demand(1));
    let _ = bench.runs(0, 1);
    let _ = bench.step(demand(0));
    let told = bench.pass(IDLE, &[vm(0, 1), vm(1, 1)]);
    assert_eq!(stops(&told), [vm(0, 1)], "and web serves on: the next call starts it again");
}

#[test]
fn advice_takes_the_place_of_the_fixed_time_and_ends_with_its_own() {
    let mut bench = Bench::new(&[kept(0, 2)]);
    let _ = bench.up();
    let _ = bench.step(demand(3));
    let machines = [vm_at(0, 0, 1), vm_at(0, 1, 2), vm_at(0, 2, 3)];
    for machine in machines {
        let _ = bench.runs_at(machine);
    }
    assert_eq!(stops(&bench.step(demand(0))), [], "nothing ends before there is advice");
    let told = bench.step(advice(1, 60));
    assert_eq!(stops(&told), machines[1..]);
    for machine in &machines[1..] {
        let _ = bench.say(*machine, Said::Ended(VmEnd::StoppedByHost));
    }
    let (lasts, why) = (Duration::from_secs(60), "it is likely".to_owned());
    assert!(told.contains(&say(Announcement::KeptWarm { workload: id(0), idle: 1, lasts, why })), "{told:?}");
    assert_eq!(calls(&bench).why.as_deref(), Some("it is likely"));
    assert_eq!(stops(&bench.pass(Duration::from_secs(89), &machines[..1])), []);
    assert_eq!(
        stops(&bench.pass(Duration::from_secs(1), &machines[..1])),
        machines[..1],
        "nobody renewed it"
    );
}

#[test]
fn a_call_takes_what_waits_and_advice_says_what_waits_beside_it() {
    let mut bench = Bench::new(&[kept(0, 2)]);
    let _ = bench.up();
    assert_eq!(starts(&bench.step(advice(1, 60))).len(), 1, "before the call");
    let _ = bench.runs(0, 1);
    assert_eq!(bench.step(demand(1)), [], "a warm start, and no machine more");
    assert_eq!(starts(&bench.step(advice(1, 60))).len(), 1, "one more for the next call");
    assert_eq!((calls(&bench).in_use, calls(&bench).idle), (1, 1));
    let told = bench.step(advice(0, 3600));
    assert_eq!(stops(&told), [vm_at(0, 1, 2)]);
}

#[test]
fn no_advice_keeps_more_or_fewer_than_the_file_allows() {
    let mut bench = Bench::new(&[kept(1, 2)]);
    let _ = bench.up();
    assert_eq!(wanted(&bench), 1, "before anybody called");
    for (idle, count) in [(0, 1), (2, 2), (u16::MAX, 2)] {
        let _ = bench.step(advice(idle, 60));
        assert_eq!(wanted(&bench), count, "advised {idle}");
    }
    let _ = bench.step(demand(2));
    let _ = bench.step(advice(2, 60));
    assert_eq!(wanted(&bench), 3, "together no more than its replicas");
    let mut bench = Bench::new(&[function(None)]);
    let _ = bench.up();
    assert_eq!(bench.step(advice(2, 60)), []);
    assert_eq!(wanted(&bench), 0, "a file without bounds allows nothing");
}

#[test]
fn a_daemon_that_begins_anew_ends_no_machine_that_somebody_may_use() {
    let mut bench = Bench::new(&[function(None)]);
    let _ = bench.begin(hearth_core::Boot::default());
    let found = Found { name: "resize".to_owned(), slot: Slot::FIRST, run: Run(5), build: build(1) };
    let _ = bench.step(Event::Found(Box::new(found)));
    let told = bench.step(Event::Surveyed);
    assert_eq!(stops(&told), []);
    assert_eq!(wanted(&bench), 1);
    let machine = [vm_at(0, 0, 5)];
    let _ = bench.runs_at(machine[0]);
    assert_eq!(stops(&bench.pass(IDLE - Duration::from_secs(1), &machine)), []);
    assert!(stops(&bench.pass(Duration::from_secs(1), &machine)).contains(&machine[0]));
}
