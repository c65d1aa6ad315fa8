//! What is told of healing for somebody to learn from, and what is made of what was learnt.

mod bench;

use std::time::Duration;

use bench::*;
use hearth_core::{
    Action, Announcement, Check, Event, Expectation, FIRST_DELAY, HealingOrder, Insight, Order, Outcome,
    Place, ProbeSpec, Reason, Role, Rung, STEADY, Said, Source, Spec, StartHow, Vm, VmEnd,
};

/// What came of means, of all that happens.
fn outcomes(actions: &[Action]) -> Vec<Outcome> {
    let outcome = |action: &Action| match action {
        Action::Learn(outcome) => Some(*outcome),
        _ => None,
    };
    actions.iter().filter_map(outcome).collect()
}

fn ended(bench: &mut Bench, run: u32) -> Vec<Outcome> {
    outcomes(&bench.step_fully(Event::Vm { vm: vm(0, run), said: Said::Ended(VmEnd::Panicked) }))
}

/// Beats until it is proven, and gives what is learnt of that.
fn steady(bench: &mut Bench, vm: Vm) -> Vec<Outcome> {
    let mut learnt = Vec::new();
    let until = bench.now.after(STEADY);
    while bench.now < until {
        bench.now = bench.now.after(Duration::from_secs(1));
        learnt.extend(outcomes(&bench.step_fully(Event::Vm { vm, said: Said::Heartbeat })));
        learnt.extend(outcomes(&bench.step_fully(Event::Tick)));
    }
    learnt
}

fn ranked(source: Source, rungs: &[Rung]) -> Event {
    let order = rungs.iter().map(|rung| {
        let rung = *rung;
        Expectation { rung, chance_milli: 920, takes_ms: 200, expected_ms: 3100 }
    });
    Event::Foresaw(Insight::Ranked { workload: id(0), source, order: order.collect() })
}

fn told(source: Source, order: &[Rung]) -> Action {
    say(Announcement::Ranked { workload: id(0), source, order: order.to_vec() })
}

/// With all harmless means, and a probe that finds it ill.
fn rich() -> Spec {
    let mut spec = service("web", &[]);
    spec.allowed.process_restart = true;
    spec.allowed.restore = true;
    let second = Duration::from_secs(1);
    let check = Check::Http { port: 80, path: 0 };
    let (role, period, timeout) = (Role::Liveness, second * 10, second * 2);
    spec.probes.push(ProbeSpec { role, check, period, timeout, failures: 1, successes: 1 });
    spec
}

/// Up for a minute, with a snapshot of it.
fn kept() -> Bench {
    kept_of(rich())
}

fn kept_of(spec: Spec) -> Bench {
    let mut bench = Bench::new(&[spec]);
    let _ = bench.up();
    let _ = bench.runs(0, 1);
    for _ in 0..65 {
        let _ = bench.say(vm(0, 1), Said::Probed { probe: 1, good: true });
        let _ = bench.pass(Duration::from_secs(1), &[vm(0, 1)]);
    }
    let _ = bench.say(vm(0, 1), Said::SnapshotTaken);
    bench
}

/// Answers badly as soon as it is asked, until something is done about it.
fn ill(bench: &mut Bench) -> Vec<Action> {
    for _ in 0..15 {
        let said = Said::Probed { probe: 1, good: false };
        let told = bench.step_fully(Event::Vm { vm: vm(0, 1), said });
        let asks = |action: &Action| matches!(action, Action::Vm { order: Order::Probe { .. }, .. });
        if told.iter().any(|action| !asks(action)) {
            return told;
        }
        let _ = bench.pass(Duration::from_secs(1), &[vm(0, 1)]);
    }
    Vec::new()
}

#[test]
fn each_means_is_told_once_with_what_came_of_it_and_how_long_that_took() {
    let mut bench = Bench::new(&[service("web", &[])]);
    let _ = bench.up();
    assert_eq!(ended(&mut bench, 1), [], "nothing was tried before");
    let _ = bench.next();
    bench.now = bench.now.after(Duration::from_secs(5));
    let failed = ended(&mut bench, 2);
    assert_eq!(failed.len(), 1, "{failed:?}");
    let Outcome { class, rung, cured, took, .. } = failed[0];
    assert_eq!((class.source, rung, cured), (Source::GuestKernel, Rung::ColdRestart, false));
    // And the wait that a cold restart brings along, up to that of a first one.
    let wait = FIRST_DELAY * 3 / 4..=FIRST_DELAY;
    assert!(wait.contains(&(took - Duration::from_secs(5))), "{took:?} from the start of its machine");
    let _ = bench.next();
    bench.now = bench.now.after(Duration::from_secs(3));
    let _ = bench.runs(0, 3);
    let cured = steady(&mut bench, vm(0, 3));
    assert_eq!(cured.len(), 1, "{cured:?}");
    let expected = Duration::from_secs(3) + FIRST_DELAY;
    assert_eq!(
        (cured[0].cured, cured[0].took),
        (true, expected),
        "neither its proof counts, nor how the wait grew"
    );
}

#[test]
fn a_machine_that_its_workload_could_be_restarted_in_is_one_failure_and_not_two() {
    let mut bench = kept();
    let asked = ill(&mut bench);
    assert!(asked.contains(&order(vm(0, 1), Order::RestartProcess)), "{asked:?}");
    assert_eq!(outcomes(&asked), []);
    let _ = bench.say(vm(0, 1), Said::WorkloadStarted);
    let again = ill(&mut bench);
    assert_eq!(outcomes(&again).len(), 1, "{again:?}");
    assert_eq!(outcomes(&again)[0].rung, Rung::RestartProcess);
    assert_eq!(ended(&mut bench, 1), []);
}

#[test]
fn a_better_order_is_followed_and_told_when_it_changes() {
    let mut bench = kept();
    let order = [Rung::ColdRestart, Rung::Restore];
    assert_eq!(bench.step(ranked(Source::Workload, &order)), [told(Source::Workload, &order)]);
    assert_eq!(bench.step(ranked(Source::Workload, &order)), [], "it is no news any more");
    let ill = ill(&mut bench);
    assert!(ill.contains(&terminate(0, 1)), "no restart in the guest: {ill:?}");
    let restart = announcements(&bench.vm_ended(0, 1, VmEnd::StoppedByHost));
    let choice = restart.iter().find_map(|told| match told {
        Announcement::RestartIn { choice, .. } => Some(*choice),
        _ => None,
    });
    let choice = choice.expect("a restart");
    let then = Rung::Restore;
    assert_eq!(choice.rung, Rung::ColdRestart);
    assert_eq!(choice.reason, Reason::Expected { ms: 3100, chance_milli: 920, takes_ms: 200, then });
    assert_eq!(bench.next(), [start_of(vm(0, 2), 1, StartHow::Cold)]);
    assert_eq!(bench.step(ranked(Source::Workload, &[])), [told(Source::Workload, &[])]);
}

#[test]
fn a_file_that_wants_another_order_has_it_whatever_was_learnt() {
    for (healing, made) in [(HealingOrder::Cost, StartHow::Restore), (HealingOrder::Strength, StartHow::Cold)]
    {
        let mut spec = rich();
        spec.healing.order = healing;
        let mut bench = kept_of(spec);
        let order = match healing {
            HealingOrder::Cost => [Rung::ColdRestart, Rung::Restore],
            _ => [Rung::Restore, Rung::ColdRestart],
        };
        assert_eq!(bench.step(ranked(Source::GuestKernel, &order)), [], "nobody follows it");
        assert_eq!(bench.state.explain(id(0)).expect("it is known").learnt, []);
        // A first restore is at once.
        let mut done = bench.vm_ended(0, 1, VmEnd::Panicked);
        done.extend(bench.next());
        assert!(done.contains(&start_of(vm(0, 2), 1, made)), "{healing:?}: {done:?}");
    }
}

#[test]
fn what_the_file_does_not_allow_is_not_done_because_it_was_learnt() {
    let mut bench = Bench::new(&[service("web", &[])]);
    let _ = bench.up();
    let _ = bench.runs(0, 1);
    let order = [Rung::RestartProcess, Rung::Restore, Rung::FreshDisk, Rung::ColdRestart];
    let _ = bench.step(ranked(Source::GuestKernel, &order));
    let _ = bench.vm_ended(0, 1, VmEnd::Panicked);
    assert_eq!(bench.next(), [start_of(vm(0, 2), 1, StartHow::Cold)]);
}

#[test]
fn what_was_learnt_grants_no_restart_beyond_the_budget() {
    let mut spec = service("web", &[]);
    spec.restart.budget = 1;
    let mut bench = Bench::new(&[spec]);
    let _ = bench.up();
    let _ = bench.step(ranked(Source::GuestKernel, &[Rung::ColdRestart]));
    let _ = bench.vm_ended(0, 1, VmEnd::Panicked);
    let _ = bench.next();
    let _ = bench.vm_ended(0, 2, VmEnd::Panicked);
    assert_eq!(bench.lifecycle(0).place(), Place::Quarantined);
}
