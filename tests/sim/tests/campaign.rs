//! Thousands of simulated hours in every test run, and a look at whether the checks see what they are for.

use hearth_sim::{Found, Stats, Tamper, Trouble, run, run_with};

/// Hours that each seed lives through: some four storms and calms.
const HOURS: u64 = 10;

/// Lives through a part of the seeds. Parts run side by side.
fn part(first: u64, seeds: u64) {
    let mut all = Stats::default();
    for seed in first..first + seeds {
        match run(seed, HOURS) {
            Ok(stats) => all.add(&stats),
            Err(found) => panic!("{}\n{found}", found.trace.join("\n")),
        }
    }
    for (what, times) in all.figures() {
        println!("{times:>12} {what}");
        assert!(times > 0, "in {seeds} seeds there were no {what}");
    }
    println!("{} simulated hours of {seeds} seeds hold", seeds * HOURS);
}

#[test]
fn every_promise_holds_in_a_thousand_simulated_hours() {
    part(0, 105);
}

#[test]
fn every_promise_holds_in_a_thousand_more() {
    part(105, 105);
}

/// The first trouble that such a core is found with, in a few seeds.
fn trouble(tamper: Tamper) -> Found {
    let found = (0..20).find_map(|seed| run_with(seed, HOURS, tamper).err());
    *found.unwrap_or_else(|| panic!("{tamper:?} is not found"))
}

#[test]
fn a_core_that_starts_two_machines_on_one_identity_is_found() {
    let found = trouble(Tamper::StartsTwice);
    assert!(matches!(found.trouble, Trouble::TwoOnOneIdentity { .. }), "{found}");
}

#[test]
fn a_core_that_touches_healthy_machines_is_found() {
    let found = trouble(Tamper::TouchesHealthy);
    assert!(matches!(found.trouble, Trouble::HealthyTouched { .. }), "{found}");
}

#[test]
fn a_core_that_restarts_beyond_the_budget_is_found() {
    let found = trouble(Tamper::Storms);
    assert!(matches!(found.trouble, Trouble::Storm { .. }), "{found}");
}

#[test]
fn a_core_that_keeps_a_quarantine_to_itself_is_found() {
    let found = trouble(Tamper::HidesQuarantine);
    assert!(matches!(found.trouble, Trouble::SilentQuarantine { .. }), "{found}");
}

#[test]
fn a_core_that_pets_although_a_part_is_late_is_found() {
    let found = trouble(Tamper::PetsAlways);
    assert!(matches!(found.trouble, Trouble::PettedWhileLate { .. }), "{found}");
}

#[test]
fn a_core_that_lets_the_watchdog_starve_is_found() {
    let found = trouble(Tamper::Starves);
    assert!(matches!(found.trouble, Trouble::Starved { .. }), "{found}");
}

#[test]
fn a_core_that_does_not_get_to_what_is_wanted_is_found() {
    let found = trouble(Tamper::ForgetsStarts);
    assert!(matches!(found.trouble, Trouble::NotConverged { .. }), "{found}");
}

#[test]
fn a_journal_that_is_not_what_happened_is_found() {
    let found = trouble(Tamper::LosesJournal);
    assert!(matches!(found.trouble, Trouble::ReplayDiffers { .. }), "{found}");
}

#[test]
fn a_core_that_promises_more_than_there_is_is_found() {
    let found = trouble(Tamper::Overbooks);
    assert!(matches!(found.trouble, Trouble::Overbooked { .. }), "{found}");
}

#[test]
fn a_core_that_does_not_stop_is_found() {
    let found = trouble(Tamper::IgnoresShutdown);
    assert!(matches!(found.trouble, Trouble::DoesNotStop { .. }), "{found}");
}

#[test]
fn the_same_seed_lives_through_the_same_hours() {
    let lived = |seed| run(seed, 3).expect("no trouble");
    assert_eq!(lived(3), lived(3));
    assert_ne!(lived(3), lived(4));
}
