//! The path that is walked for every heartbeat of every guest takes nothing from the heap.

mod bench;

use allocation_counter::measure;
use bench::*;
use hearth_core::{Event, Said, Spec, Subsystem};

/// A box of ten workloads that run, the first of which had its share of trouble.
fn busy() -> Bench {
    let list: Vec<Spec> = (0..10).map(|number| service(&format!("w{number}"), &[])).collect();
    let mut bench = Bench::new(&list);
    let _ = bench.up();
    for number in 0..10 {
        let _ = bench.runs(number, 1);
    }
    bench
}

#[test]
fn a_heartbeat_allocates_nothing() {
    let mut bench = busy();
    let mut actions = 0;
    let counted = measure(|| {
        for number in 0..10 {
            let event = Event::Vm { vm: vm(number, 1), said: Said::Heartbeat };
            actions += bench.state.step(bench.now, event).len();
        }
    });
    assert_eq!((counted.count_total, actions), (0, 0));
}

#[test]
fn neither_does_a_word_about_traffic_a_late_word_or_a_sign_of_life_of_the_daemon() {
    let mut bench = busy();
    let counted = measure(|| {
        let served = Said::Served { requests: 10, errors: 1 };
        let events = [
            Event::Vm { vm: vm(3, 1), said: served },
            Event::Vm { vm: vm(3, 7), said: Said::Heartbeat },
            Event::Alive(Subsystem::Loop),
        ];
        for event in events {
            assert!(bench.state.step(bench.now, event).is_empty());
        }
    });
    assert_eq!(counted.count_total, 0);
}
