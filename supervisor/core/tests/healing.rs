//! What is done about a replica that fails: the ladder, its proof, the budget, the quarantine.

mod bench;

use std::time::Duration;

use bench::*;
use hearth_core::{
    Action, Allowed, Announcement, Boot, Breaker, Check, End, Event, Failure, Grounds, Hold, Kind, Lifecycle,
    Means, Order, Place, ProbeSpec, Request, Role, Rung, Rungs, STEADY, Said, Spec, StartHow, VmEnd,
};

/// Healthy by its answers, asked every ten seconds; two bad ones in a row decide.
fn probed(name: &str, replicas: u16, role: Role) -> Spec {
    let mut spec = services(name, replicas, &[]);
    let second = Duration::from_secs(1);
    let check = Check::Http { port: 80, path: 0 };
    spec.probes.push(ProbeSpec {
        role,
        check,
        period: second * 10,
        timeout: second * 2,
        failures: 2,
        successes: 1,
    });
    spec
}

/// Answers every question for a while, one that is under way included, and gives all that came of it.
fn answer(bench: &mut Bench, vm: hearth_core::Vm, seconds: u64, good: bool) -> Vec<Action> {
    let mut actions = bench.say(vm, Said::Probed { probe: 1, good });
    for _ in 0..seconds {
        let mut more = bench.pass(Duration::from_secs(1), &[vm]);
        while more.iter().any(|action| matches!(action, Action::Vm { order: Order::Probe { .. }, .. })) {
            more.retain(|action| !matches!(action, Action::Vm { order: Order::Probe { .. }, .. }));
            more.extend(bench.say(vm, Said::Probed { probe: 1, good }));
        }
        actions.extend(more);
    }
    actions
}

#[test]
fn a_spent_budget_is_a_quarantine_that_is_announced_and_nothing_starts_until_a_retry() {
    let mut spec = service("crash", &[]);
    spec.restart.budget = 3;
    let mut bench = Bench::new(&[spec]);
    let _ = bench.up();
    for run in 1..=3 {
        let _ = bench.vm_ended(0, run, VmEnd::Panicked);
        assert_eq!(starts(&bench.next()).len(), 1);
    }
    let told = bench.vm_ended(0, 4, VmEnd::Panicked);
    let failure = Some(Failure::Vm(VmEnd::Panicked));
    assert!(
        told.contains(&say(Announcement::Quarantined { workload: id(0), failure, restarts: 3 })),
        "{told:?}"
    );
    assert!(told.contains(&say(Announcement::NotReady { ready: 0, of: 1 })));
    assert_eq!(*bench.lifecycle(0), Lifecycle::Ended(End::Quarantined));
    assert_eq!(starts(&bench.wait(Duration::from_secs(36_000))), []);
    let told = bench.step(Event::Ask(Request::Retry(id(0))));
    assert_eq!(told, [say(Announcement::Retried { workload: id(0) }), start(0, 5)]);
}

#[test]
fn failures_that_are_far_apart_do_not_spend_the_budget() {
    let mut spec = service("now-and-then", &[]);
    spec.restart.budget = 2;
    let window = spec.restart.window;
    let mut bench = Bench::new(&[spec]);
    let _ = bench.up();
    for run in 1..=8 {
        let _ = bench.runs(0, run);
        let _ = bench.pass(window / 2, &[vm(0, run)]);
        let told = bench.vm_ended(0, run, VmEnd::Panicked);
        assert!(restart(&told).is_some(), "run {run}: {told:?}");
        let _ = bench.next();
    }
}

#[test]
fn after_a_retry_one_replica_is_on_trial_and_the_others_wait_until_it_is_proven() {
    let mut spec = services("web", 3, &[]);
    spec.restart.budget = 0;
    let mut bench = Bench::new(&[spec]);
    let _ = bench.up();
    for slot in 0..3 {
        let _ = bench.say(vm_at(0, slot, u32::from(slot) + 1), Said::Ended(VmEnd::Panicked));
    }
    let told = bench.step(Event::Ask(Request::Retry(id(0))));
    let on_trial = vm_at(0, 0, 4);
    assert_eq!(starts(&told).iter().map(|start| start.0).collect::<Vec<_>>(), [on_trial]);
    let _ = bench.runs_at(on_trial);
    assert_eq!(starts(&bench.pass(STEADY - Duration::from_secs(1), &[on_trial])), []);
    let told = bench.pass(Duration::from_secs(1), &[on_trial]);
    assert_eq!(starts(&told).len(), 2, "{told:?}");
    assert_eq!(bench.state.breaker(id(0)), Some(Breaker::Closed));
}

#[test]
fn a_trial_that_fails_is_a_quarantine_again_at_once() {
    let mut spec = service("web", &[]);
    spec.restart.budget = 1;
    let mut bench = Bench::new(&[spec]);
    let _ = bench.up();
    let _ = bench.vm_ended(0, 1, VmEnd::Panicked);
    let _ = bench.next();
    let _ = bench.vm_ended(0, 2, VmEnd::Panicked);
    let _ = bench.step(Event::Ask(Request::Retry(id(0))));
    let told = announcements(&bench.vm_ended(0, 3, VmEnd::Panicked));
    assert!(told.iter().any(|told| matches!(told, Announcement::Quarantined { .. })), "{told:?}");
}

#[test]
fn a_quarantine_leaves_the_healthy_replicas_of_the_workload_alone() {
    let mut spec = services("web", 2, &[]);
    spec.restart.budget = 0;
    let mut bench = Bench::new(&[spec]);
    let _ = bench.up();
    let healthy = vm_at(0, 0, 1);
    let _ = bench.runs_at(healthy);
    let told = bench.say(vm_at(0, 1, 2), Said::Ended(VmEnd::Panicked));
    assert!(matches!(bench.state.breaker(id(0)), Some(Breaker::Open { .. })), "{told:?}");
    assert_eq!(stops(&bench.pass(Duration::from_secs(600), &[healthy])), []);
}

#[test]
fn each_failed_proof_leads_one_rung_up() {
    let mut spec = probed("web", 1, Role::Liveness);
    spec.allowed = Allowed { process_restart: true, restore: true, fresh_disk: true, balloon: false };
    let mut bench = Bench::new(&[spec]);
    let _ = bench.up();
    let _ = bench.runs(0, 1);
    let _ = answer(&mut bench, vm(0, 1), 65, true);
    let _ = bench.say(vm(0, 1), Said::SnapshotTaken);

    let told = answer(&mut bench, vm(0, 1), 25, false);
    assert!(told.contains(&order(vm(0, 1), Order::RestartProcess)), "{told:?}");
    assert_eq!(bench.lifecycle(0).place(), Place::Restarting);
    let _ = bench.say(vm(0, 1), Said::WorkloadStarted);

    let told = answer(&mut bench, vm(0, 1), 25, false);
    assert!(told.contains(&terminate(0, 1)), "{told:?}");
    let told = bench.vm_ended(0, 1, VmEnd::StoppedByHost);
    assert_eq!(restart(&told), Some((1, Duration::ZERO)), "a first restore does not wait");
    assert!(told.contains(&start_of(vm(0, 2), 1, StartHow::Restore)), "{told:?}");

    for run in 2..=4 {
        let _ = bench.vm_ended(0, run, VmEnd::Panicked);
        assert_eq!(bench.next(), [start_of(vm(0, run + 1), 1, StartHow::Cold)]);
    }
    let _ = bench.vm_ended(0, 5, VmEnd::Panicked);
    assert_eq!(bench.next(), [start_of(vm(0, 6), 1, StartHow::FreshDisk)]);
}

#[test]
fn what_stays_ready_is_told_as_healed_and_begins_at_the_foot_of_the_ladder_again() {
    let mut bench = Bench::new(&[service("web", &[])]);
    let _ = bench.up();
    let _ = bench.vm_ended(0, 1, VmEnd::Panicked);
    let _ = bench.next();
    let _ = bench.runs(0, 2);
    let told = announcements(&bench.pass(STEADY, &[vm(0, 2)]));
    let healed = |told: &Announcement| matches!(told, Announcement::Healed { rung: Some(Rung::ColdRestart), took, .. } if *took >= STEADY);
    assert!(told.iter().any(healed), "{told:?}");
    let explained = bench.state.explain(id(0)).expect("it is known");
    assert_eq!(explained.replicas[0].incident, None);
    assert_eq!(explained.replicas[0].attempts, 0);
}

#[test]
fn an_agent_that_cannot_restart_the_workload_costs_the_machine() {
    let mut spec = probed("web", 1, Role::Liveness);
    spec.allowed.process_restart = true;
    let mut bench = Bench::new(&[spec]);
    let _ = bench.up();
    let _ = bench.runs(0, 1);
    let told = answer(&mut bench, vm(0, 1), 25, false);
    assert!(told.contains(&order(vm(0, 1), Order::RestartProcess)));
    assert_eq!(bench.next(), [terminate(0, 1)]);
    let told = bench.vm_ended(0, 1, VmEnd::StoppedByHost);
    assert_eq!(told[0], failed(0, Failure::ProcessNotRestarted));
}

#[test]
fn an_unready_replica_loses_its_traffic_and_nothing_else() {
    let mut bench = Bench::new(&[probed("web", 1, Role::Readiness)]);
    let _ = bench.up();
    let _ = bench.runs(0, 1);
    assert_eq!(bench.lifecycle(0).place(), Place::Unready, "until it is asked");
    let told = answer(&mut bench, vm(0, 1), 2, true);
    assert!(told.contains(&say(Announcement::Ready { ready: 1, of: 1 })), "{told:?}");
    let told = answer(&mut bench, vm(0, 1), 30, false);
    assert_eq!(bench.lifecycle(0).place(), Place::Unready);
    assert_eq!(stops(&told), []);
}

#[test]
fn a_probe_that_is_taken_out_of_the_file_is_waited_for_no_longer() {
    for role in [Role::Startup, Role::Readiness] {
        let mut bench = Bench::new(&[probed("web", 1, role)]);
        let _ = bench.up();
        let _ = bench.runs(0, 1);
        assert!(!bench.lifecycle(0).is_ready(), "{role:?}");
        let told = bench.configure(&[service("web", &[])]);
        assert!(bench.lifecycle(0).is_ready(), "{role:?}: {told:?}");
        assert_eq!(stops(&told), []);
    }
}

#[test]
fn nothing_else_is_asked_before_the_startup_probe_is_content() {
    let mut spec = probed("slow", 1, Role::Startup);
    let second = Duration::from_secs(1);
    let check = Check::Tcp { port: 80 };
    let liveness =
        ProbeSpec { role: Role::Liveness, check, period: second, timeout: second, failures: 1, successes: 1 };
    spec.probes.push(liveness);
    let mut bench = Bench::new(&[spec]);
    let _ = bench.up();
    let asked = |actions: &[Action], wanted| {
        let is_it = |action: &Action| matches!(action, Action::Vm { order: Order::Probe { probe, .. }, .. } if *probe == wanted);
        actions.iter().any(is_it)
    };
    let told = bench.runs(0, 1);
    assert!(asked(&told, 1) && !asked(&told, 2), "{told:?}");
    let told = bench.say(vm(0, 1), Said::Probed { probe: 1, good: true });
    assert!(asked(&told, 2) && !asked(&told, 1), "{told:?}");
}

#[test]
fn a_lost_machine_keeps_its_identity_until_it_is_seen_to_end() {
    let mut bench = Bench::new(&[service("stuck", &[])]);
    let _ = bench.up();
    let mut told = Vec::new();
    while !told.contains(&say(Announcement::Lost { replica: first(0) })) {
        told.extend(bench.next());
    }
    assert!(told.contains(&stubborn(0, Means::Kill)));
    assert_eq!(starts(&bench.wait(Duration::from_secs(3600))), []);
    let told = bench.vm_ended(0, 1, VmEnd::KilledBy(9));
    assert!(restart(&told).is_some(), "{told:?}");
}

#[test]
fn with_nothing_cheaper_left_the_version_before_comes_back() {
    let mut spec = service("web", &[]);
    spec.rollout.window = Duration::from_secs(30);
    let mut bench = Bench::new(&[spec.clone()]);
    let _ = bench.up();
    let _ = bench.runs(0, 1);
    spec.build = build(2);
    let _ = bench.configure(&[spec]);
    let _ = bench.vm_ended(0, 1, VmEnd::PoweredOff);
    let _ = bench.runs(0, 2);
    let told = announcements(&bench.pass(Duration::from_secs(40), &[vm(0, 2)]));
    assert!(told.contains(&Announcement::RolledOut { workload: id(0), to: build(2).version }), "{told:?}");
    let mut run = 2;
    let told = loop {
        let told = bench.vm_ended(0, run, VmEnd::Panicked);
        if restart(&told).is_none() {
            break told;
        }
        let _ = bench.next();
        run += 1;
    };
    let (from, to) = (build(2).version, build(1).version);
    let back = Announcement::RollingBack { workload: id(0), from, to, grounds: Grounds::LastResort };
    assert!(told.contains(&say(back)), "{told:?}");
    assert!(told.contains(&start_of(vm(0, run + 1), 1, StartHow::Cold)), "{told:?}");
}

#[test]
fn a_version_that_fails_on_trial_after_another_was_offered_does_not_quarantine_that_one() {
    let mut spec = service("web", &[]);
    spec.restart.budget = 1;
    let mut bench = Bench::new(&[spec.clone()]);
    let _ = bench.up();
    let _ = bench.vm_ended(0, 1, VmEnd::Panicked);
    let _ = bench.next();
    let _ = bench.vm_ended(0, 2, VmEnd::Panicked);
    assert!(matches!(bench.state.breaker(id(0)), Some(Breaker::Open { .. })));
    let _ = bench.step(Event::Ask(Request::Retry(id(0))));
    spec.build = build(2);
    let _ = bench.configure(&[spec]);
    let told = bench.vm_ended(0, 3, VmEnd::Panicked);
    assert!(told.contains(&start_of(vm(0, 4), 2, StartHow::Cold)), "{told:?}");
}

/// Fails its probe as soon as somebody asks it, until something else than asking happens.
fn answers_badly(bench: &mut Bench) -> Vec<Action> {
    for _ in 0..30 {
        let said = Said::Probed { probe: 1, good: false };
        let told = bench.step_fully(Event::Vm { vm: vm(0, 1), said });
        if told.iter().any(|action| !matches!(action, Action::Vm { order: Order::Probe { .. }, .. })) {
            return told;
        }
        let _ = bench.pass(Duration::from_secs(1), &[vm(0, 1)]);
    }
    Vec::new()
}

fn asked(automatic: &[Rung]) -> Spec {
    let mut spec = service("web", &[]);
    spec.allowed.process_restart = true;
    let second = Duration::from_secs(1);
    let check = Check::Http { port: 80, path: 0 };
    let (role, period, timeout) = (Role::Liveness, second * 10, second * 2);
    spec.probes.push(ProbeSpec { role, check, period, timeout, failures: 1, successes: 1 });
    spec.healing.automatic = Rungs::of(automatic);
    spec
}

fn proposed(told: &[Action]) -> Option<Rung> {
    announcements(told).iter().find_map(|told| match told {
        Announcement::Proposed { choice, .. } => Some(choice.rung),
        _ => None,
    })
}

fn heal() -> Event {
    Event::Ask(Request::Heal(id(0)))
}

#[test]
fn what_is_not_automatic_is_proposed_once_all_else_was_tried_and_waits_for_a_word_without_its_machine() {
    let mut bench = Bench::new(&[asked(&[Rung::RestartProcess])]);
    let _ = bench.up();
    let _ = bench.runs(0, 1);
    let _ = bench.step(heal());
    let told = bench.vm_ended(0, 1, VmEnd::Panicked);
    assert_eq!(proposed(&told), Some(Rung::ColdRestart), "{told:?}");
    assert_eq!(starts(&bench.pass(Duration::from_secs(3600), &[])), [], "nobody agreed, or only before");
    let story = bench.state.explain(id(0)).expect("it is known");
    assert_eq!((story.replicas[0].place, story.replicas[0].hold), (Place::Waiting, Some(Hold::Consent)));
    let _ = bench.step(heal());
    assert_eq!(bench.next(), [start_of(vm(0, 2), 1, StartHow::Cold)]);
    let _ = bench.runs(0, 2);
    let again = bench.vm_ended(0, 2, VmEnd::Panicked);
    assert_eq!(proposed(&again), Some(Rung::ColdRestart), "a word is for once");
}

#[test]
fn a_machine_that_is_there_stays_as_it_is_until_somebody_agrees() {
    let mut bench = Bench::new(&[asked(&[Rung::RestartProcess])]);
    let _ = bench.up();
    let _ = bench.runs(0, 1);
    let told = answers_badly(&mut bench);
    assert!(told.contains(&order(vm(0, 1), Order::RestartProcess)), "that is automatic: {told:?}");
    let _ = bench.say(vm(0, 1), Said::WorkloadStarted);
    let told = answers_badly(&mut bench);
    assert_eq!((proposed(&told), stops(&told)), (Some(Rung::ColdRestart), vec![]));
    assert_eq!(answers_badly(&mut bench), [], "it is proposed once");
    let told = bench.step(heal());
    assert_eq!(stops(&told), [vm(0, 1)]);
    let _ = bench.vm_ended(0, 1, VmEnd::StoppedByHost);
    assert_eq!(bench.next(), [start_of(vm(0, 2), 1, StartHow::Cold)]);
}

#[test]
fn what_gets_well_by_itself_needs_nobody_s_word() {
    let mut bench = Bench::new(&[asked(&[])]);
    let _ = bench.up();
    let _ = bench.runs(0, 1);
    assert_eq!(proposed(&answers_badly(&mut bench)), Some(Rung::RestartProcess));
    let mut told = Vec::new();
    for second in 0..80 {
        let _ = bench.say(vm(0, 1), Said::Probed { probe: 1, good: true });
        told.extend(bench.pass(Duration::from_secs(1), &[vm(0, 1)]));
        if second == 12 {
            assert_eq!(bench.step(heal()), []);
        }
    }
    let healed = |told: &Announcement| matches!(told, Announcement::Healed { rung: None, .. });
    assert!(announcements(&told).iter().any(healed), "{told:?}");
    assert_eq!(stops(&told), []);
}

#[test]
fn a_guest_that_falls_silent_is_told_of_once_and_leaves_no_timer_due() {
    let mut bench = Bench::new(&[asked(&[])]);
    let _ = bench.up();
    let _ = bench.runs(0, 1);
    // Nobody beats.
    let told = bench.pass(Duration::from_secs(600), &[]);
    let times =
        announcements(&told).iter().filter(|told| matches!(told, Announcement::Proposed { .. })).count();
    assert_eq!((times, stops(&told)), (1, vec![]), "{told:?}");
    assert!(bench.state.next_deadline().is_none_or(|at| at > bench.now));
}

#[test]
fn nothing_is_lost_sooner_because_somebody_wants_to_be_asked_about_what_loses_nothing() {
    let mut spec = asked(&[Rung::FreshDisk]);
    spec.allowed.fresh_disk = true;
    let mut bench = Bench::new(&[spec]);
    let _ = bench.up();
    let _ = bench.runs(0, 1);
    assert_eq!(proposed(&bench.vm_ended(0, 1, VmEnd::Panicked)), Some(Rung::ColdRestart));
}

#[test]
fn another_daemon_does_not_do_what_nobody_agreed_to() {
    let mut bench = Bench::new(&[asked(&[])]);
    let _ = bench.up();
    let _ = bench.runs(0, 1);
    let _ = bench.vm_ended(0, 1, VmEnd::Panicked);
    let mut next = Bench { records: bench.records.clone(), ..Bench::new(&[asked(&[])]) };
    let mut told = next.begin(Boot::default());
    told.extend(next.step(Event::Surveyed));
    assert_eq!((starts(&told), proposed(&told)), (vec![], Some(Rung::ColdRestart)), "{told:?}");
    let _ = next.step(heal());
    assert_eq!(starts(&next.pass(Duration::from_secs(2), &[])).len(), 1);
}

#[test]
fn who_wants_a_new_machine_gets_one_whatever_was_asked_about_the_last() {
    let mut bench = Bench::new(&[asked(&[])]);
    let _ = bench.up();
    let _ = bench.runs(0, 1);
    assert_eq!(proposed(&answers_badly(&mut bench)), Some(Rung::RestartProcess));
    let restart = || Event::Ask(Request::Restart(id(0)));
    assert_eq!(stops(&bench.step(restart())), [vm(0, 1)]);
    let told = bench.vm_ended(0, 1, VmEnd::StoppedByHost);
    assert_eq!(starts(&told).len(), 1, "{told:?}");
    // Its troubles are its own: it is asked about anew, and without a machine likewise.
    let _ = bench.runs(0, 2);
    assert_eq!(proposed(&bench.vm_ended(0, 2, VmEnd::Panicked)), Some(Rung::ColdRestart));
    assert_eq!(starts(&bench.step(restart())).len(), 1);
}

#[test]
fn a_machine_that_ends_before_it_is_its_turn_to_be_replaced_is_not_asked_about() {
    let mut bench = Bench::new(&[Spec { kind: Kind::Service { replicas: 2 }, ..asked(&[]) }]);
    let _ = bench.up();
    let machines = [vm(0, 1), vm_at(0, 1, 2)];
    for machine in machines {
        let _ = bench.runs_at(machine);
    }
    assert_eq!(stops(&bench.step(Event::Ask(Request::Restart(id(0))))), [machines[0]]);
    let told = bench.say(machines[1], Said::Ended(VmEnd::Panicked));
    assert_eq!((proposed(&told), starts(&told).len()), (None, 1), "{told:?}");
}

#[test]
fn who_agreed_to_what_is_not_possible_any_more_is_asked_again_before_the_machine_goes() {
    let mut bench = Bench::new(&[asked(&[])]);
    let _ = bench.up();
    let _ = bench.runs(0, 1);
    assert_eq!(proposed(&answers_badly(&mut bench)), Some(Rung::RestartProcess));
    let _ = bench.say(vm(0, 1), Said::AgentLost);
    let told = bench.step(heal());
    assert_eq!((proposed(&told), stops(&told)), (Some(Rung::ColdRestart), vec![]), "{told:?}");
    assert_eq!(stops(&bench.step(heal())), [vm(0, 1)], "to that somebody agreed");
}

#[test]
fn who_agreed_to_a_snapshot_that_is_gone_is_asked_again() {
    let mut spec = service("web", &[]);
    spec.allowed.restore = true;
    spec.healing.automatic = Rungs::of(&[]);
    let mut bench = Bench::new(&[spec.clone()]);
    let _ = bench.up();
    let _ = bench.runs(0, 1);
    let _ = bench.pass(STEADY, &[vm(0, 1)]);
    let _ = bench.say(vm(0, 1), Said::SnapshotTaken);
    assert_eq!(proposed(&bench.vm_ended(0, 1, VmEnd::Panicked)), Some(Rung::Restore));
    spec.allowed.restore = false;
    let _ = bench.configure(&[spec]);
    assert_eq!(proposed(&bench.step(heal())), Some(Rung::ColdRestart));
    assert_eq!(starts(&bench.pass(Duration::from_secs(60), &[])), []);
    let _ = bench.step(heal());
    assert_eq!(bench.next(), [start_of(vm(0, 2), 1, StartHow::Cold)]);
}

#[test]
fn a_spent_budget_is_no_leave_to_take_a_machine() {
    let mut spec = asked(&[Rung::RestartProcess]);
    spec.restart.budget = 1;
    let mut bench = Bench::new(&[spec]);
    let _ = bench.up();
    let _ = bench.runs(0, 1);
    assert!(answers_badly(&mut bench).contains(&order(vm(0, 1), Order::RestartProcess)));
    let _ = bench.say(vm(0, 1), Said::WorkloadStarted);
    // Long enough for what was wrong to be over, and not for the budget.
    for _ in 0..80 {
        let _ = bench.say(vm(0, 1), Said::Probed { probe: 1, good: true });
        let _ = bench.pass(Duration::from_secs(1), &[vm(0, 1)]);
    }
    let told = answers_badly(&mut bench);
    assert_eq!((proposed(&told), stops(&told)), (Some(Rung::ColdRestart), vec![]), "{told:?}");
}

/// Its workload is to be started again within the guest, and that does not happen.
fn restarts_late() -> (Bench, Vec<Action>) {
    let mut bench = Bench::new(&[asked(&[Rung::RestartProcess])]);
    let _ = bench.up();
    let _ = bench.runs(0, 1);
    assert!(answers_badly(&mut bench).contains(&order(vm(0, 1), Order::RestartProcess)));
    let told = bench.pass(Duration::from_secs(600), &[vm(0, 1)]);
    (bench, told)
}

#[test]
fn a_machine_whose_workload_does_not_start_again_is_asked_about_once() {
    let (mut bench, told) = restarts_late();
    assert_eq!((proposed(&told), stops(&told)), (Some(Rung::ColdRestart), vec![]), "{told:?}");
    let told = announcements(&told);
    let times = told.iter().filter(|told| matches!(told, Announcement::Proposed { .. }));
    assert_eq!(times.count(), 1, "{told:?}");
    assert_eq!(stops(&bench.step(heal())), [vm(0, 1)]);
    let _ = bench.vm_ended(0, 1, VmEnd::StoppedByHost);
    assert_eq!(bench.next(), [start_of(vm(0, 2), 1, StartHow::Cold)]);
}

#[test]
fn one_that_starts_again_late_needs_nobody_s_word() {
    let (mut bench, _) = restarts_late();
    let _ = bench.say(vm(0, 1), Said::WorkloadStarted);
    assert_eq!(bench.step(heal()), []);
    assert!(matches!(bench.lifecycle(0), Lifecycle::Running { .. }));
}

#[test]
fn who_waits_for_a_word_amid_a_restart_is_in_nobody_s_way() {
    let (mut bench, _) = restarts_late();
    assert_eq!(stops(&bench.step(Event::Ask(Request::Restart(id(0))))), [vm(0, 1)]);
    let (mut bench, _) = restarts_late();
    let next = Spec { build: build(2), ..asked(&[Rung::RestartProcess]) };
    assert_eq!(stops(&bench.configure(&[next])), [vm(0, 1)]);
}

#[test]
fn what_is_automatic_now_is_done_and_nobody_is_asked_any_more() {
    let mut bench = Bench::new(&[asked(&[])]);
    let _ = bench.up();
    let _ = bench.runs(0, 1);
    assert_eq!(proposed(&answers_badly(&mut bench)), Some(Rung::RestartProcess));
    let told = bench.configure(&[asked(&[Rung::Restore])]);
    assert_eq!((announcements(&told).len(), stops(&told)), (1, vec![]), "that is another means: {told:?}");
    let told = bench.configure(&[asked(&[Rung::RestartProcess])]);
    assert!(told.contains(&order(vm(0, 1), Order::RestartProcess)), "{told:?}");

    assert_eq!(proposed(&bench.vm_ended(0, 1, VmEnd::Panicked)), Some(Rung::ColdRestart));
    let told = bench.configure(&[asked(&[Rung::ColdRestart])]);
    assert!(restart(&told).is_some(), "{told:?}");
    assert_eq!(bench.next(), [start_of(vm(0, 2), 1, StartHow::Cold)]);
}

#[test]
fn another_daemon_asks_by_the_file_of_now() {
    let mut bench = Bench::new(&[asked(&[])]);
    let _ = bench.up();
    let _ = bench.runs(0, 1);
    let _ = bench.vm_ended(0, 1, VmEnd::Panicked);
    let now = asked(&[Rung::ColdRestart]);
    let mut next = Bench { records: bench.records.clone(), ..Bench::new(&[now]) };
    let mut told = next.begin(Boot::default());
    told.extend(next.step(Event::Surveyed));
    told.extend(next.pass(Duration::from_secs(2), &[]));
    assert_eq!((starts(&told).len(), proposed(&told)), (1, None), "{told:?}");
}

#[test]
fn who_is_stopped_and_wanted_again_before_its_machine_is_gone_is_not_asked_about() {
    let mut bench = Bench::new(&[asked(&[])]);
    let _ = bench.up();
    let _ = bench.runs(0, 1);
    assert_eq!(proposed(&answers_badly(&mut bench)), Some(Rung::RestartProcess));
    assert_eq!(stops(&bench.step(Event::Ask(Request::Stop(id(0))))), [vm(0, 1)]);
    let _ = bench.step(Event::Ask(Request::Start(id(0))));
    let told = bench.vm_ended(0, 1, VmEnd::StoppedByHost);
    assert_eq!(starts(&told).len(), 1, "{told:?}");
}
