//! Questions about health, from the file to the agent and back.

use super::door::told;
use super::*;

fn probe(role: &str, check: &str) -> String {
    format!("[[probe]]\nrole = \"{role}\"\nperiod_ms = 100\ntimeout_ms = 60000\nfailures = 1\n{check}\n")
}

#[test]
fn who_waits_for_a_service_waits_until_every_question_was_answered_well() {
    let asked = [
        probe("startup", "check = \"exec\"\ncommand = [\"well\", \"or not\"]"),
        probe("readiness", "check = \"tcp\"\nport = 80"),
        probe("readiness", "check = \"http\"\nport = 80\npath = \"/well\""),
    ];
    let site = Site::with_fake().workload("web", "service", "serve", &asked.concat()).workload(
        "late",
        "service",
        "serve",
        "after = [\"web\"]",
    );
    let mut daemon = site.start();
    daemon.wait_for("hearthd | ready: 2 of 2 workloads");
    assert!(daemon.place("web     | serving") < daemon.place("late    | guest kernel speaking"));
    daemon.stop();
}

#[test]
fn a_service_whose_port_is_shut_is_never_ready_and_one_that_is_sick_is_healed() {
    let site = Site::with_fake()
        .workload("shut", "service", "serve", &probe("readiness", "check = \"tcp\"\nport = 81"))
        .workload("late", "service", "serve", "after = [\"shut\"]")
        .workload("sick", "service", "serve", &probe("liveness", "check = \"http\"\nport = 80"));
    let mut daemon = site.start();
    daemon.wait_for("hearthd | sick: failed: its http 80 probe failed");
    daemon.wait_for("hearthd | sick: failed: its http 80 probe failed");
    assert!(!daemon.said("late    | guest kernel speaking"));
    daemon.stop();
}

#[test]
fn a_sick_service_may_begin_anew_in_its_guest_and_its_machine_stays() {
    let check = "check = \"exec\"\ncommand = [\"well-when-begun-anew\"]";
    let more = format!("restart.in_guest = true\n{}", probe("liveness", check));
    let site = Site::with_fake().workload("web", "service", "serve", &more);
    let mut daemon = site.start();
    daemon.wait_for("web     | begun anew");
    daemon.stop();
    assert_eq!(
        daemon.seen.iter().filter(|line| *line == "web     | serving").count(),
        1,
        "{:#?}",
        daemon.seen
    );
}

#[test]
fn what_is_not_automatic_waits_for_a_word() {
    let site =
        Site::with_fake().workload("web", "service", "crash 12", "heal.automatic = [\"restart-in-guest\"]");
    let mut daemon = site.start();
    daemon.wait_until(|line| {
        line.starts_with("hearthd | web: ALARM: ")
            && line.ends_with(": a cold restart would be next; `heal web` agrees to it")
    });
    let explained = told(&site, &["explain", "web"]);
    assert!(
        explained.contains("web: proposed is a cold restart, the cheapest that is left; `heal` agrees to it"),
        "{explained}"
    );
    assert!(explained.contains("it waits for somebody who agrees to what heals it"), "{explained}");
    told(&site, &["heal", "web"]);
    daemon.wait_until(|line| line.starts_with("hearthd | web: restart 1 in "));
    daemon.stop();
}
