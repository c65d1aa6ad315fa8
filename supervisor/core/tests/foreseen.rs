//! What is foreseen, and how far the box follows it.

mod bench;

use bench::*;
use hearth_core::{Announcement, Event, Found, Insight, Request, Run, Scaling, Slot, Spec};

fn scaled(replicas: u16, least: u16, most: u16) -> Spec {
    Spec { scaling: Some(Scaling { least, most }), ..services("web", replicas, &[]) }
}

fn advice(replicas: u16) -> Event {
    Event::Foresaw(Insight::Replicas { workload: id(0), replicas, why: "a peak".to_owned() })
}

fn wanted(bench: &Bench) -> usize {
    bench.state.explain(id(0)).expect("the workload").replicas_wanted
}

#[test]
fn replicas_follow_what_is_foreseen_and_the_number_is_told_once() {
    let mut bench = Bench::new(&[scaled(1, 1, 3)]);
    let _ = bench.up();
    let _ = bench.runs(0, 1);
    let told = bench.step(advice(3));
    assert_eq!(starts(&told).len(), 2);
    let scaled = Announcement::Scaled { workload: id(0), from: 1, to: 3, why: "a peak".to_owned() };
    assert!(told.contains(&say(scaled)), "{told:?}");
    assert_eq!(bench.step(advice(3)), [], "it is no news any more");
    let machines = [vm_at(0, 1, 2), vm_at(0, 2, 3)];
    for machine in machines {
        let _ = bench.runs_at(machine);
    }
    assert_eq!(stops(&bench.step(advice(1))), machines);
}

#[test]
fn no_advice_leads_beyond_the_bounds_of_the_file() {
    let mut bench = Bench::new(&[scaled(9, 2, 4)]);
    let _ = bench.up();
    assert_eq!(wanted(&bench), 4, "nor does the file's own number");
    for (advised, count) in [(0, 2), (3, 3), (u16::MAX, 4)] {
        let _ = bench.step(advice(advised));
        assert_eq!(wanted(&bench), count, "advised {advised}");
    }
}

#[test]
fn without_bounds_advice_is_only_advice_and_a_person_comes_before_it() {
    let mut bench = Bench::new(&[services("web", 1, &[])]);
    let _ = bench.up();
    assert_eq!(bench.step(advice(3)), []);
    assert_eq!(wanted(&bench), 1);
    let mut bench = Bench::new(&[scaled(1, 1, 3)]);
    let _ = bench.up();
    let _ = bench.step(Event::Ask(Request::Scale { workload: id(0), replicas: Some(2) }));
    assert_eq!(bench.step(advice(3)), []);
    assert_eq!(wanted(&bench), 2);
}

#[test]
fn a_daemon_that_begins_anew_stops_none_of_what_an_earlier_one_foresaw() {
    let mut bench = Bench::new(&[scaled(1, 1, 3)]);
    let _ = bench.begin(hearth_core::Boot::default());
    for slot in [0, 2] {
        let found = Found {
            name: "web".to_owned(),
            slot: Slot(slot),
            run: Run(5 + u32::from(slot)),
            build: build(1),
        };
        let _ = bench.step(Event::Found(Box::new(found)));
    }
    let told = bench.step(Event::Surveyed);
    assert_eq!(stops(&told), []);
    assert_eq!(wanted(&bench), 3);
}

#[test]
fn what_is_odd_is_told_and_moves_nothing() {
    let mut bench = Bench::new(&[service("web", &[])]);
    let _ = bench.up();
    let what = "cpu: 93 % is above its level".to_owned();
    let told = bench.step(Event::Foresaw(Insight::Odd { workload: Some(id(0)), what: what.clone() }));
    assert_eq!(told, [say(Announcement::Odd { workload: Some(id(0)), what })]);
}
