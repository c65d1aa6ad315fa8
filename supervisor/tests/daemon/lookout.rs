//! What the box measures and foresees, and what follows from it.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use super::door::{ctl, told};
use super::{Daemon, PATIENCE, Site};

/// Between two reports of requests, unless a line comes before.
const REPORT: Duration = Duration::from_millis(200);

fn site(more: &str) -> Site {
    let site = Site::with_fake().workload("web", "service", "serve", more);
    let config = fs::read_to_string(site.config()).expect("the file");
    fs::write(site.config(), format!("{config}[predict]\nevery_s = 1\n")).expect("a file");
    site
}

/// Reports requests until a line is there.
fn served_until(site: &Site, daemon: &mut Daemon, wanted: impl Fn(&str) -> bool) {
    let until = Instant::now() + PATIENCE;
    while !daemon.seen.iter().any(|line| wanted(line)) {
        assert!(Instant::now() < until, "{:#?}", daemon.seen);
        told(site, &["served", "web", "400", "--busy-ms", "40000"]);
        daemon.next(Instant::now() + REPORT);
    }
}

#[test]
fn replicas_rise_with_requests_within_the_bounds_of_the_file_and_the_journal_says_why() {
    let site = site("[scale]\nmost = 3");
    let mut daemon = site.start();
    daemon.wait_for("hearthd | ready: 1 of 1 workloads");
    let rises = |line: &str| line.starts_with("hearthd | web: 3 replicas in place of 1: ");
    served_until(&site, &mut daemon, rises);
    daemon.wait_until(|line| line.starts_with("hearthd | web.2: running"));
    let explained = told(&site, &["explain", "web"]);
    assert!(
        explained.contains("3 of at most 64 replicas wanted: of 1 to 3, by what is foreseen"),
        "{explained}"
    );
    assert!(explained.contains("\n  3 replicas would do, of 1 to 3, which the box follows: "), "{explained}");
    let journal = site.folder.path().join("store/journal");
    let replayed = told(&site, &["replay", journal.to_str().expect("text")]);
    assert!(replayed.contains("web: 3 replicas would do: "), "{replayed}");
    daemon.stop();
}

#[test]
fn a_version_whose_requests_fail_is_taken_back_before_its_window_is_over_and_says_why() {
    let rollout = "replicas = 2\n[rollout]\nwindow_s = 86400";
    let site = site(rollout);
    let mut daemon = site.start();
    daemon.wait_for("hearthd | ready: 1 of 1 workloads");
    let refused = ctl(&site, &["served", "web", "10", "--replica", "web.2"]);
    assert!(!refused.status.success(), "there is no such replica");
    let site = site.workload("web", "service", "serve", &format!("resources.memory_mib = 96\n{rollout}"));
    daemon.wait_until(|line| line.starts_with("hearthd | web: version ") && line.ends_with(" on 1 first"));
    daemon.wait_for("hearthd | web: running, guest ready in 312 ms");
    let served = |replica, errors| {
        told(&site, &["served", "web", "100", "--errors", errors, "--replica", replica]);
    };
    served("web.1", "1");
    served("web", "3");
    let explained = told(&site, &["explain", "web"]);
    assert!(
        explained.contains("of its requests 3 of 100 failed, and 1 of 100 with the version before"),
        "{explained}"
    );
    served("web", "97");
    daemon.wait_until(|line| {
        line.starts_with("hearthd | web: ALARM: back from version ")
            && line.contains(": 50.0 % of its 200 requests fail, 1.0 % before: worse with a chance of ")
    });
    let explained = told(&site, &["explain", "web"]);
    assert!(explained.contains(" was rejected, as 50.0 % of its 200 requests fail"), "{explained}");
    let journal = site.folder.path().join("store/journal");
    let replayed = told(&site, &["replay", journal.to_str().expect("text")]);
    assert!(replayed.contains("it is to go back, being worse with a chance of "), "{replayed}");
    daemon.stop();
}

#[test]
fn a_function_is_kept_warm_by_when_calls_came_and_cold_starts_are_counted() {
    let site = Site::with_fake().workload("clock", "service", "serve", "").workload(
        "once",
        "function",
        "serve",
        "replicas = 2\nidle_s = 86400\n[keep_warm]\nmost = 1\ncold_start_worth_s = 600",
    );
    let mut daemon = site.start();
    daemon.wait_for("hearthd | clock: running, guest ready in 312 ms");
    told(&site, &["call", "once", "2"]);
    daemon.wait_for("hearthd | once: 2 met a cold start, 2 of 2 calls so far");
    daemon.wait_for("hearthd | once.1: running, guest ready in 312 ms");
    told(&site, &["call", "once", "0"]);
    let advised = |line: &str| {
        line.starts_with("hearthd | once: 1 kept warm for ") && line.contains(": a call comes within ")
    };
    daemon.wait_until(advised);
    daemon.wait_for("once.1  | asked to stop");
    // One is there for it. The second call that came with the first a moment ago may come again: one more begins.
    told(&site, &["call", "once", "1"]);
    told(&site, &["call", "once", "0"]);
    let why = told(&site, &["explain", "once"]);
    assert!(
        why.contains("  a function, 0 of at most 2 replicas asked for, 1 more kept warm\n  1 kept warm for "),
        "{why}"
    );
    assert!(
        why.contains(" and a cold start is worth 10 min of a warm one\n  2 of 3 calls met a cold start\n"),
        "{why}"
    );
    let scraped = metrics(&site);
    assert!(
        scraped.contains("\nhearth_function_calls_total{workload=\"once\",start=\"cold\"} 2\n"),
        "{scraped}"
    );
    assert!(
        scraped.contains("\nhearth_function_calls_total{workload=\"once\",start=\"warm\"} 1\n"),
        "{scraped}"
    );
    assert!(scraped.contains("\nhearth_advised_machines_idle{workload=\"once\"} 1\n"), "{scraped}");
    let journal = site.folder.path().join("store/journal");
    let replayed = told(&site, &["replay", journal.to_str().expect("text")]);
    assert!(replayed.contains("once: 1 idle ones are worth it for "), "{replayed}");
    daemon.stop();
}

#[test]
fn what_a_workload_uses_is_drawn_and_what_was_learnt_outlives_the_daemon() {
    let site = site("");
    let mut daemon = site.start();
    daemon.wait_for("hearthd | ready: 1 of 1 workloads");
    let until = Instant::now() + PATIENCE;
    let picture = site.folder.path().join("web.svg");
    let svg = picture.to_str().expect("text");
    let drawn = || {
        let drawn = ctl(&site, &["forecast", "web", "--metric", "memory", "--svg", svg]);
        String::from_utf8(drawn.stdout).expect("text")
    };
    let mut text = drawn();
    while !text.contains("in 90 s ") {
        assert!(Instant::now() < until, "{text}");
        daemon.next(Instant::now() + REPORT);
        text = drawn();
    }
    assert!(text.starts_with("web, memory in MiB\n"), "{text}");
    let scraped = metrics(&site);
    assert!(
        scraped.contains("\nhearth_forecast_upper{workload=\"web\",metric=\"memory_bytes\",ahead=\"90s\"} "),
        "{scraped}"
    );
    assert!(scraped.contains("\nhearth_forecast_benched{metric=\"cpu_ratio\"} "), "{scraped}");
    assert!(fs::read_to_string(&picture).expect("a picture").contains("web: memory in MiB"));
    let host = told(&site, &["forecast"]);
    assert!(host.contains("the host, cpu in %") && !host.contains("the host, balloon"), "{host}");
    assert_eq!(ctl(&site, &["forecast", "nobody"]).status.code(), Some(4));
    daemon.stop();

    let learnt = site.folder.path().join("store/foresight");
    assert!(learnt.exists());
    let mut daemon = site.start();
    daemon.wait_for("hearthd | ready: 1 of 1 workloads");
    assert!(!daemon.seen.iter().any(|line| line.contains("foresight:")), "{:#?}", daemon.seen);
    assert!(told(&site, &["forecast", "web"]).contains("memory"), "without a new sample");
    assert!(told(&site, &["forecast", "web", "--reset"]).ends_with("nothing was measured yet\n"));
    daemon.stop();

    fs::write(&learnt, "nonsense").expect("a file");
    let mut daemon = site.start();
    daemon.wait_until(|line| line.ends_with("; begun anew, it is now foresight.bad"));
    daemon.stop();
}

#[test]
fn what_was_measured_elsewhere_can_be_told_from_a_file() {
    let site = site("");
    let mut daemon = site.start();
    daemon.wait_for("hearthd | ready: 1 of 1 workloads");
    let file = site.folder.path().join("week.csv");
    let path = file.to_str().expect("text");
    let lines: String = (0..1200).map(|minute| format!("{},{}\n", minute * 60, minute % 50)).collect();
    fs::write(&file, format!("time,requests\n{lines}")).expect("a file");
    let drawn = told(&site, &["forecast", "web", "--teach", path, "--metric", "requests"]);
    assert!(drawn.starts_with("web, requests in /s\n") && drawn.contains("in 90 s "), "{drawn}");
    fs::write(&file, "0,1\n60,many\n").expect("a file");
    let refused = ctl(&site, &["forecast", "web", "--teach", path]);
    assert_eq!(refused.status.code(), Some(2));
    let expected =
        format!("hearthctl: --teach: {path}:2: expected SECONDS_SINCE_1970,VALUE, found \"60,many\"\n");
    assert_eq!(String::from_utf8_lossy(&refused.stderr), expected);
    daemon.stop();
}

#[test]
fn a_box_that_is_not_to_look_says_so() {
    let site = Site::with_fake().workload("web", "service", "serve", "");
    let config = fs::read_to_string(site.config()).expect("the file");
    fs::write(site.config(), format!("{config}[predict]\nevery_s = 0\n")).expect("a file");
    let mut daemon = site.start();
    daemon.wait_for("hearthd | ready: 1 of 1 workloads");
    let refused = ctl(&site, &["forecast", "web"]);
    assert_eq!(refused.status.code(), Some(1));
    assert_eq!(
        String::from_utf8_lossy(&refused.stderr),
        "hearthctl: predict.every_s is 0: nothing is measured\n"
    );
    assert!(!told(&site, &["explain", "web"]).contains("Foreseen"));
    daemon.stop();
}

/// What Prometheus would read.
fn metrics(site: &Site) -> String {
    let mut scraper = UnixStream::connect(site.state().join("api.sock")).expect("the API");
    scraper.write_all(b"GET /metrics HTTP/1.1\r\nConnection: close\r\n\r\n").expect("a request");
    let mut text = String::new();
    scraper.read_to_string(&mut text).expect("an answer");
    text
}
