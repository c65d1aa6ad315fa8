//! The box's API as people meet it: `hearthctl` beside a running `hearthd`.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Command, Output, Stdio};

use super::Site;

pub(crate) fn ctl(site: &Site, words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_hearthctl"))
        .arg("--socket")
        .arg(site.state().join("api.sock"))
        .args(words)
        .output()
        .expect("hearthctl starts")
}

/// What it prints if it ends well.
pub(crate) fn told(site: &Site, words: &[&str]) -> String {
    let output = ctl(site, words);
    assert!(output.status.success(), "{words:?}: {output:?}");
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn the_box_is_shown_with_every_workload_and_the_check_fails_until_all_is_well() {
    let site =
        Site::with_fake().workload("bad", "job", "exit 3", "").workload("clock", "service", "serve", "");
    let mut daemon = site.start();
    daemon.wait_for("hearthd | not ready: 1 of 2 workloads");
    let text = told(&site, &["status"]);
    let lines: Vec<&str> = text.lines().collect();
    assert!(
        lines[0].starts_with("hearthd ")
            && lines[0].ends_with(", up: 1 of 2 workloads are as they should be")
    );
    assert!(lines[2].starts_with("bad    job      failed  0/1"), "{text}");
    assert!(lines[3].starts_with("clock  service  ready   1/1"), "{text}");
    assert_eq!(ctl(&site, &["status", "--check"]).status.code(), Some(5));
    assert_eq!(ctl(&site, &["status", "clock", "--check"]).status.code(), Some(0));
    let json: serde_json::Value = serde_json::from_str(&told(&site, &["status", "--json"])).unwrap();
    assert_eq!(json["workloads"][0]["state"], "failed");
    assert_eq!(json["workloads"][0]["replicas"][0]["fault"], "exit 3");
    daemon.stop();
}

#[test]
fn a_workload_is_stopped_started_and_restarted_by_hand_and_explains_itself() {
    let site = Site::with_fake().workload("clock", "service", "serve", "");
    let mut daemon = site.start();
    daemon.wait_for("hearthd | ready: 1 of 1 workloads");
    assert_eq!(told(&site, &["stop", "clock"]), "clock: stopping, 0 of 0 ready\n");
    daemon.wait_for("clock   | asked to stop");
    let explained = told(&site, &["explain", "clock"]);
    assert!(explained.contains("\n  somebody stopped it; `start` lifts that\n"), "{explained}");
    assert!(explained.contains("ready -> stopping"), "{explained}");
    told(&site, &["start", "clock"]);
    daemon.wait_for("hearthd | ready: 1 of 1 workloads");
    told(&site, &["restart", "clock"]);
    daemon.wait_for("hearthd | clock: running, guest ready in 312 ms");
    let json: serde_json::Value =
        serde_json::from_str(&told(&site, &["explain", "clock", "--json"])).unwrap();
    assert_eq!(json["status"]["replicas"][0]["run"], 3);
    daemon.stop();
}

#[test]
fn a_machine_that_somebody_kills_is_healed_like_one_that_crashed() {
    let site = Site::with_fake().workload("clock", "service", "serve", "");
    let mut daemon = site.start();
    daemon.wait_for("hearthd | ready: 1 of 1 workloads");
    assert_eq!(
        told(&site, &["kill", "clock"]),
        "clock: ready, 1 of 1 ready\n",
        "nothing has been seen of it yet"
    );
    daemon.wait_for("hearthd | clock: somebody wants to see its machine crash: SIGKILL");
    daemon.wait_for("hearthd | clock: running, guest ready in 312 ms");
    let json: serde_json::Value =
        serde_json::from_str(&told(&site, &["explain", "clock", "--json"])).unwrap();
    assert_eq!(json["status"]["replicas"][0]["run"], 2);
    daemon.stop();
}

#[test]
fn a_failed_job_is_tried_again_when_somebody_says_so() {
    let site = Site::with_fake().workload("bad", "job", "exit 3", "");
    let mut daemon = site.start();
    daemon.wait_for("hearthd | not ready: 0 of 1 workloads");
    told(&site, &["retry", "bad"]);
    daemon.wait_for("hearthd | bad: is tried again");
    daemon.wait_for("hearthd | bad: failed: exit 3");
    daemon.stop();
}

#[test]
fn a_scale_is_kept_until_the_file_shall_count_again() {
    let site = Site::with_fake().workload("clock", "service", "serve", "");
    let mut daemon = site.start();
    daemon.wait_for("hearthd | ready: 1 of 1 workloads");
    assert_eq!(told(&site, &["scale", "clock", "0"]), "clock: stopping, 0 of 0 ready\n");
    daemon.wait_for("clock   | asked to stop");
    told(&site, &["scale", "clock", "file"]);
    daemon.wait_for("hearthd | clock: running, guest ready in 312 ms");
    assert_eq!(ctl(&site, &["scale", "clock", "many"]).status.code(), Some(2));
    assert_eq!(ctl(&site, &["scale", "clock", "65"]).status.code(), Some(1));
    daemon.stop();
}

#[test]
fn events_are_those_of_the_console_and_go_on_until_the_daemon_ends() {
    let site = Site::with_fake().workload("clock", "service", "serve", "");
    let mut daemon = site.start();
    daemon.wait_for("hearthd | ready: 1 of 1 workloads");
    let text = told(&site, &["events"]);
    let events: Vec<&str> = text.lines().collect();
    let shown = events.iter().find(|line| line.ends_with(" clock: running, guest ready in 312 ms"));
    assert!(shown.is_some(), "{text}");
    let last = events.len().to_string();
    assert!(text.ends_with(&format!(" {last} ready: 1 of 1 workloads\n")), "{text}");
    let mut follower = Command::new(env!("CARGO_BIN_EXE_hearthctl"))
        .arg("--socket")
        .arg(site.state().join("api.sock"))
        .args(["events", "-f", "--after", &last, "--json"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    told(&site, &["restart", "clock"]);
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines();
    let first: serde_json::Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
    assert_eq!((&first["number"], &first["kind"]), (&(events.len() + 1).into(), &"running".into()));
    assert_eq!(first["replica"], "clock");
    daemon.stop();
    assert!(lines.all(|line| line.is_ok()));
    assert!(follower.wait().unwrap().success());
    assert_eq!(site.left(), ["lock"]);
}

#[test]
fn what_a_workload_says_is_kept_in_its_file_and_followed_over_restarts() {
    let site = Site::with_fake().workload("clock", "service", "serve", "");
    let mut daemon = site.start();
    daemon.wait_for("hearthd | ready: 1 of 1 workloads");
    let mut follower = Command::new(env!("CARGO_BIN_EXE_hearthctl"))
        .arg("--socket")
        .arg(site.state().join("api.sock"))
        .args(["logs", "clock", "-f"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.ends_with("Z clock serving")));
    told(&site, &["restart", "clock"]);
    assert!(lines.any(|line| line.ends_with("Z clock asked to stop")));
    assert!(lines.any(|line| line.ends_with("Z clock serving")));
    let last = told(&site, &["logs", "clock", "-n", "1", "--json"]);
    let last: serde_json::Value = serde_json::from_str(&last).unwrap();
    assert_eq!((&last["replica"], &last["text"]), (&"clock".into(), &"serving".into()));
    assert_eq!(ctl(&site, &["logs", "web"]).status.code(), Some(4));
    daemon.stop();
    assert!(follower.wait().unwrap().success());
    let kept = std::fs::read_to_string(site.folder.path().join("logs/clock.log")).unwrap();
    assert!(kept.ends_with(" clock asked to stop\n"), "what it said last is on the disk: {kept}");
}

#[test]
fn a_scraper_finds_the_box_its_workloads_their_logs_and_the_daemon_itself() {
    let site =
        Site::with_fake().workload("bad", "job", "exit 3", "").workload("clock", "service", "serve", "");
    let mut daemon = site.start();
    daemon.wait_for("hearthd | not ready: 1 of 2 workloads");
    let mut scraper = UnixStream::connect(site.state().join("api.sock")).unwrap();
    scraper.write_all(b"GET /metrics HTTP/1.1\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    scraper.read_to_string(&mut text).unwrap();
    for line in [
        "Content-Type: text/plain; version=0.0.4; charset=utf-8\r",
        "hearth_box_phase{phase=\"up\"} 1",
        "hearth_workload_replicas_ready{workload=\"clock\"} 1",
        "hearth_workload_good{workload=\"bad\"} 0",
        "hearth_events_total{kind=\"failed\",workload=\"bad\"} 1",
        "hearth_log_dropped_lines_total{workload=\"clock\"} 0",
        "# TYPE process_resident_memory_bytes gauge",
    ] {
        assert!(text.split('\n').any(|found| found == line), "no {line:?} in {text}");
    }
    daemon.stop();
}

#[test]
fn shells_are_told_every_verb() {
    let site = Site::with_fake();
    for shell in ["bash", "zsh", "fish"] {
        let script = told(&site, &["completions", shell]);
        for verb in ["status", "explain", "events", "logs", "restart", "scale", "rollout", "doctor", "check"]
        {
            assert!(script.contains(verb), "{shell} does not know {verb}");
        }
    }
    assert_eq!(ctl(&site, &["top"]).status.code(), Some(2), "a pipe is no terminal");
}

#[test]
fn who_asks_for_what_there_is_not_is_told_so_with_a_status_of_its_own() {
    let site = Site::with_fake().workload("clock", "service", "serve", "");
    assert_eq!(ctl(&site, &["status"]).status.code(), Some(3));
    let mut daemon = site.start();
    daemon.wait_for("hearthd | ready: 1 of 1 workloads");
    for verb in ["explain", "restart", "stop", "start", "retry"] {
        let refused = ctl(&site, &[verb, "web"]);
        assert_eq!(refused.status.code(), Some(4), "{verb}");
        let line = "hearthctl: expected a workload of this box, found \"web\"\n";
        assert_eq!(String::from_utf8_lossy(&refused.stderr), line);
    }
    assert_eq!(ctl(&site, &["stop", "../status"]).status.code(), Some(4));
    daemon.stop();
}

#[test]
fn clients_that_hang_flood_or_speak_nonsense_keep_nobody_out_for_good() {
    let site = Site::with_fake().workload("clock", "service", "serve", "");
    let mut daemon = site.start();
    daemon.wait_for("hearthd | ready: 1 of 1 workloads");
    let connect = || UnixStream::connect(site.state().join("api.sock")).unwrap();
    let hanging: Vec<UnixStream> = (0..20).map(|_| connect()).collect();
    let mut late = String::new();
    connect().read_to_string(&mut late).unwrap();
    assert!(late.starts_with("HTTP/1.1 503 "), "{late}");
    for mut client in hanging {
        // It may have been refused half way.
        let _ = client.write_all(&[b'x'; 100_000]);
    }
    // Each hears what was wrong, hangs up, and leaves its place to others.
    let status = std::iter::repeat_with(|| ctl(&site, &["status"]).status.code());
    assert!(status.take(100).any(|code| code == Some(0)));
    daemon.stop();
}

#[test]
fn a_reboot_stops_all_in_order_and_is_the_daemons_exit_status() {
    let site = Site::with_fake().workload("clock", "service", "serve", "");
    let mut daemon = site.start();
    daemon.wait_for("hearthd | ready: 1 of 1 workloads");
    let told = told(&site, &["box", "reboot"]);
    assert!(told.contains(", stopping: "), "{told}");
    assert_eq!(daemon.ended().code(), Some(3));
    daemon.place("clock   | asked to stop");
    daemon.place("hearthd | stopped");
    assert_eq!(site.left(), ["lock"]);
}

#[test]
fn who_asks_the_daemon_to_begin_again_is_answered_before_it_does() {
    let site = Site::with_fake().workload("clock", "service", "serve", "");
    let mut daemon = site.start();
    daemon.wait_for("hearthd | ready: 1 of 1 workloads");
    let monitor = site.monitor("clock");
    let told = told(&site, &["box", "begin-again"]);
    assert!(told.contains("1 of 1 workloads are as they should be"), "{told}");
    daemon.wait_for("hearthd | begins again in place, its machines stay");
    daemon.wait_for("hearthd | ready: 1 of 1 workloads");
    assert_eq!(site.monitor("clock"), monitor);
    daemon.stop();
}

#[test]
fn after_boots_that_failed_the_box_waits_in_safe_mode_for_somebody() {
    let site = Site::with_fake().workload("clock", "service", "serve", "");
    // What a box leaves whose last boot was its fourth that did not settle.
    let payload = [3, 1, b'x', 3, 0, 0, 0, 0];
    let header = 8_u32.to_le_bytes();
    let sum = crc::Crc::<u32>::new(&crc::CRC_32_ISCSI).checksum(&[&header[..], &payload].concat());
    let records = [&b"HRTHREC2"[..], &header, &sum.to_le_bytes(), &payload].concat();
    let store = site.folder.path().join("store");
    std::fs::create_dir(&store).unwrap();
    std::fs::write(store.join("records"), records).unwrap();
    for _ in 0..2 {
        let mut daemon = site.start();
        daemon.wait_for("hearthd | ALARM: safe mode after 4 failed boots: no workload starts for 900.0 s; `box leave-safe-mode` ends it");
        // Killed, it comes back to the same boot, and counts nothing.
        daemon.kill();
    }
    let mut daemon = site.start();
    daemon.wait_for("hearthd | ALARM: safe mode after 4 failed boots: no workload starts for 900.0 s; `box leave-safe-mode` ends it");
    assert!(told(&site, &["status"]).contains(", safe-mode: "));
    assert!(told(&site, &["explain", "clock"]).contains("the box is in safe mode"));
    told(&site, &["box", "leave-safe-mode"]);
    daemon.wait_for("hearthd | ready: 1 of 1 workloads");
    daemon.stop();
    let mut daemon = site.start();
    daemon.wait_for("hearthd | ready: 1 of 1 workloads");
    daemon.stop();
}

#[test]
fn over_tcp_a_token_is_asked_for_and_whoever_has_it_is_served_like_anybody() {
    let site = Site::with_fake().workload("clock", "service", "serve", "");
    let token = site.state().with_file_name("api.token");
    // A port that was free a moment ago.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let text = std::fs::read_to_string(site.config()).unwrap();
    std::fs::write(site.config(), format!("{text}[api]\ntcp = \"{free}\"\ntoken_file = {token:?}\n"))
        .unwrap();
    let mut daemon = site.start();
    daemon.wait_for("hearthd | ready: 1 of 1 workloads");
    assert!(daemon.said(&format!("hearthd | API: a token was made, {}", token.display())));
    let over_tcp = |token: &std::path::Path, words: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hearthctl"));
        command.args(["--connect", &format!("http://{free}/"), "--token-file"]).arg(token).args(words);
        let output = command.output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    };
    let (status, out, _) = over_tcp(&token, &["status"]);
    assert!(status == 0 && out.contains("clock  service  ready"), "{out}");
    let (status, _, error) = over_tcp(&token, &["exec", "clock", "--", "exit", "0"]);
    assert_eq!((status, error.as_str()), (125, "hearthctl: expected a caller on the daemon's own socket\n"));
    let other = site.state().with_file_name("other.token");
    std::fs::write(&other, "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef").unwrap();
    let (status, _, error) = over_tcp(&other, &["stop", "clock"]);
    assert!(status == 1 && error.contains("with the token of api.token_file"), "{error}");
    let mut plain = std::net::TcpStream::connect(free).unwrap();
    plain.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").unwrap();
    let mut answer = String::new();
    plain.read_to_string(&mut answer).unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 401 Unauthorized\r\n")
            && answer.contains("WWW-Authenticate: Bearer\r\n")
    );
    // Who only connects there fills places there.
    let idle: Vec<_> = (0..8).map(|_| std::net::TcpStream::connect(free).unwrap()).collect();
    let mut late = String::new();
    std::net::TcpStream::connect(free).unwrap().read_to_string(&mut late).unwrap();
    assert!(late.starts_with("HTTP/1.1 503 "), "{late}");
    assert!(told(&site, &["status"]).contains("ready"));
    drop(idle);
    let known = std::fs::read_to_string(&token).unwrap();
    while over_tcp(&token, &["status"]).0 != 0 {}
    let mut scraper = std::net::TcpStream::connect(free).unwrap();
    let request = format!(
        "GET /metrics HTTP/1.1\r\nConnection: close\r\nAuthorization: Bearer {}\r\n\r\n",
        known.trim()
    );
    scraper.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    scraper.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains("hearth_"), "{answer}");
    daemon.stop();
}

#[test]
fn for_programs_every_line_is_an_object() {
    let site = Site::with_fake().workload("clock", "service", "serve", "");
    let mut command = Command::new(env!("CARGO_BIN_EXE_hearthd"));
    command.args(["--log-format", "json"]);
    let mut daemon = site.start_as(command, &site.config());
    let mut kinds = Vec::new();
    while kinds.last().is_none_or(|kind| kind != "ready") {
        let line = daemon.next_line();
        let line: serde_json::Value =
            serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert_eq!(line["time"].as_str().unwrap().len(), 24);
        if line["kind"] == "output" {
            assert_eq!((&line["workload"], &line["replica"]), (&"clock".into(), &"clock".into()));
        }
        kinds.push(line["kind"].as_str().unwrap().to_owned());
    }
    assert!(
        ["note", "output", "running"].iter().all(|kind| kinds.iter().any(|one| one == kind)),
        "{kinds:?}"
    );
    daemon.stop_quietly();
}

#[test]
fn a_function_runs_while_somebody_asks_for_it() {
    let site = Site::with_fake().workload("clock", "service", "serve", "").workload(
        "once",
        "function",
        "serve",
        "replicas = 2\nidle_s = 1",
    );
    let mut daemon = site.start();
    daemon.wait_for("hearthd | clock: running, guest ready in 312 ms");
    assert!(told(&site, &["status", "once"]).contains("idle"));
    assert_eq!(told(&site, &["call", "once"]), "once: starting, 0 of 1 ready\n");
    daemon.wait_for("hearthd | once: running, guest ready in 312 ms");
    let why = told(&site, &["explain", "once"]);
    assert!(why.contains("a function, 1 of at most 2 replicas asked for"), "{why}");
    assert!(why.contains("once has been ready for "), "{why}");
    told(&site, &["scale", "once", "2"]);
    daemon.wait_for("hearthd | once.1: running, guest ready in 312 ms");
    told(&site, &["call", "once", "0"]);
    daemon.wait_for("once    | asked to stop");
    assert_eq!(ctl(&site, &["call", "once", "65"]).status.code(), Some(2));
    let service = ctl(&site, &["call", "clock"]);
    assert_eq!(service.status.code(), Some(1));
    let message = String::from_utf8(service.stderr).unwrap();
    assert_eq!(message, "hearthctl: expected a function, clock is another kind\n");
    daemon.stop();
}

#[test]
fn a_check_is_told_to_programs_too_and_completions_are_not() {
    let site = Site::with_fake().workload("clock", "service", "serve", "");
    let bad = site.state().with_file_name("vm.toml");
    std::fs::write(&bad, "[machine]\nvcpus = 0\n").unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_hearthctl"))
        .args(["--json", "check"])
        .args([&site.config(), &bad])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&lines[0]["good"], &lines[0]["workloads"]), (&true.into(), &1.into()));
    assert_eq!(lines[1]["good"], false);
    let faults = lines[1]["faults"].as_array().unwrap();
    let fault = faults.iter().find(|fault| fault["key"] == "machine.vcpus").unwrap();
    assert_eq!((&fault["line"], &fault["column"]), (&2.into(), &1.into()), "{fault}");
    assert_eq!(ctl(&site, &["--json", "completions", "bash"]).status.code(), Some(2));
}
