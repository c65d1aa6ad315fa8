//! What is foreseen, and how far the box follows it.

mod bench;

use bench::*;
use hearth_core::{
    Announcement, Ballooning, Event, Found, Insight, Level, Order, Request, Resource, Run, Scaling, Slot,
    Spec, Vm,
};

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

fn lends(least_mib: u32) -> Spec {
    let mut spec = service("web", &[]);
    spec.build.needs.memory_mib = 256;
    spec.allowed.balloon = true;
    spec.ballooning = Some(Ballooning { least_mib });
    spec
}

fn enough(mib: u32) -> Event {
    Event::Foresaw(Insight::Memory { workload: id(0), mib, why: "it needs less".to_owned() })
}

fn balloons(actions: &[hearth_core::Action]) -> Vec<(Vm, u32)> {
    let ordered = actions.iter().filter_map(|action| match action {
        hearth_core::Action::Vm { vm, order: Order::Balloon { mib } } => Some((*vm, *mib)),
        _ => None,
    });
    ordered.collect()
}

#[test]
fn a_balloon_takes_what_is_foreseen_to_be_spare_and_leaves_what_the_file_says() {
    let mut bench = Bench::new(&[lends(64)]);
    let _ = bench.up();
    let _ = bench.runs(0, 1);
    let told = bench.step(enough(100));
    assert_eq!(balloons(&told), [(vm(0, 1), 156)]);
    let why = "it needs less".to_owned();
    let ballooned = Announcement::Ballooned { workload: id(0), left_mib: 100, of_mib: 256, why };
    assert!(told.contains(&say(ballooned)), "{told:?}");
    assert_eq!(bench.step(enough(100)), [], "it is no news any more");
    assert_eq!(balloons(&bench.step(enough(1))), [(vm(0, 1), 192)], "never less than the file says");
    assert_eq!(balloons(&bench.step(enough(1000))), [(vm(0, 1), 0)]);
}

#[test]
fn pressure_takes_more_than_advice_and_gives_back_only_what_it_took() {
    let mut bench = Bench::new(&[lends(64)]);
    let _ = bench.up();
    let _ = bench.runs(0, 1);
    let _ = bench.step(enough(200));
    let pressure = |level| Event::Pressure { resource: Resource::Memory, level };
    assert_eq!(balloons(&bench.step(pressure(Level::Full))), [(vm(0, 1), 128)]);
    assert_eq!(balloons(&bench.step(enough(180))), [], "it holds more already");
    assert_eq!(balloons(&bench.step(pressure(Level::Calm))), [(vm(0, 1), 76)]);
}

#[test]
fn where_the_file_does_not_say_so_no_balloon_follows_advice() {
    for spec in
        [Spec { ballooning: None, ..lends(64) }, Spec { allowed: service("web", &[]).allowed, ..lends(64) }]
    {
        let mut bench = Bench::new(&[spec]);
        let _ = bench.up();
        let _ = bench.runs(0, 1);
        assert_eq!(bench.step(enough(100)), []);
    }
}

#[test]
fn a_balloon_that_an_earlier_daemon_filled_is_emptied() {
    let mut bench = Bench::new(&[lends(64)]);
    let _ = bench.begin(hearth_core::Boot::default());
    let build = lends(64).build;
    let found = Found { name: "web".to_owned(), slot: Slot::FIRST, run: Run(5), build };
    let _ = bench.step(Event::Found(Box::new(found)));
    let _ = bench.step(Event::Surveyed);
    let _ = bench.say(vm(0, 5), hearth_core::Said::AgentConnected);
    let told = bench.step_fully(Event::Vm { vm: vm(0, 5), said: hearth_core::Said::WorkloadStarted });
    assert_eq!(balloons(&told), [(vm(0, 5), 0)]);
}
