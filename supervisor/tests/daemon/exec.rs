//! `hearthctl exec` at a terminal and without one, through `hearthd`, to the stand-in's port for programs.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command, Stdio};

use nix::pty::{Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{LocalFlags, Termios, tcgetattr};
use nix::unistd::Pid;

use super::Site;
use super::door::{ctl, told};

fn hearthctl(site: &Site) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hearthctl"));
    command.arg("--socket").arg(site.state().join("api.sock"));
    command
}

fn signal(child: &Child, signal: Signal) {
    kill(Pid::from_raw(child.id().try_into().expect("a process")), signal).expect("works here");
}

/// Reads until `wanted` is there.
fn until(from: &mut impl Read, wanted: &str) -> String {
    let mut text = String::new();
    let mut buffer = [0; 256];
    while !text.contains(wanted) {
        let length = from.read(&mut buffer).unwrap_or_else(|error| panic!("{error} after {text:?}"));
        assert_ne!(length, 0, "{text:?}");
        text.push_str(std::str::from_utf8(&buffer[..length]).expect("works here"));
    }
    text
}

/// `hearthctl` at a terminal of its own.
struct Desk {
    keys: File,
    screen: File,
    terminal: OwnedFd,
    found: Termios,
    child: Child,
}

impl Desk {
    fn sit_down(site: &Site, words: &[&str]) -> Desk {
        let size = Winsize { ws_row: 33, ws_col: 111, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = openpty(Some(&size), None).expect("works here");
        let found = tcgetattr(&pty.slave).expect("works here");
        let end = || Stdio::from(pty.slave.try_clone().expect("works here"));
        // Where a change of the window's size is a signal.
        let mut command = Command::new("setsid");
        command.arg("--ctty").arg(env!("CARGO_BIN_EXE_hearthctl"));
        command.arg("--socket").arg(site.state().join("api.sock")).args(words).env("TERM", "vt100");
        let child = command.stdin(end()).stdout(end()).stderr(end()).spawn().expect("util-linux is there");
        let keys = File::from(pty.master);
        Desk { screen: keys.try_clone().expect("works here"), keys, terminal: pty.slave, found, child }
    }

    fn see(&mut self, wanted: &str) -> String {
        until(&mut self.screen, wanted)
    }

    fn is_raw(&self) -> bool {
        !tcgetattr(&self.terminal)
            .expect("works here")
            .local_flags
            .intersects(LocalFlags::ICANON | LocalFlags::ISIG)
    }

    /// How it ended, with the terminal as it was found.
    fn leaves(mut self) -> Option<i32> {
        let status = self.child.wait().expect("works here");
        assert_eq!(tcgetattr(&self.terminal).expect("works here"), self.found);
        status.code()
    }
}

#[test]
fn a_terminal_is_the_programs_from_key_to_size_and_is_given_back_at_every_end() {
    let site = Site::with_fake().workload("clock", "service", "serve", "");
    let mut daemon = site.start();
    daemon.wait_for("hearthd | ready: 1 of 1 workloads");
    let sit_down = |site: &Site| {
        let mut desk = Desk::sit_down(site, &["exec", "-it", "clock", "--", "sh", "-l"]);
        desk.see("terminal Some(\"vt100 33x111\"), input true\r\n");
        assert!(desk.is_raw());
        desk
    };

    let mut desk = sit_down(&site);
    desk.keys.write_all(b"ls\x03\x1d").unwrap();
    desk.see("ls\x03\x1d");
    let size = rustix::termios::Winsize { ws_row: 50, ws_col: 90, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(desk.terminal.as_fd(), size).unwrap();
    desk.see("now 50x90\r\n");
    desk.keys.write_all(b"\x1d\x1d\x1d").unwrap();
    assert_eq!(desk.leaves(), Some(125));

    for (ended_by, status) in [(Signal::SIGTERM, 143), (Signal::SIGHUP, 129), (Signal::SIGINT, 130)] {
        let desk = sit_down(&site);
        signal(&desk.child, ended_by);
        assert_eq!(desk.leaves(), Some(status), "{ended_by}");
    }

    let desk = Desk::sit_down(&site, &["exec", "-it", "clock", "--", "exit", "7"]);
    assert_eq!(desk.leaves(), Some(7));
    let events = told(&site, &["events"]);
    assert!(events.contains("clock: uid 0 (process ") && events.contains(") runs sh -l\n"), "{events}");
    daemon.stop();
}

#[test]
fn without_a_terminal_it_is_a_pipe_with_a_status() {
    let site = Site::with_fake().workload("clock", "service", "serve", "");
    let mut daemon = site.start();
    daemon.wait_for("hearthd | ready: 1 of 1 workloads");
    let run = |words: &[&str]| {
        let output = ctl(&site, &[&["exec", "clock", "--"], words].concat());
        let error = String::from_utf8(output.stderr).unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap(), error)
    };
    assert_eq!(run(&["exit", "9"]), (9, String::new(), String::new()));
    let missing = "hearthctl: the program cannot be started: No such file or directory (os error 2)\n";
    assert_eq!(run(&["missing"]), (127, String::new(), missing.to_owned()));
    let busy = "hearthctl: the guest runs as many programs by hand as it may\n";
    assert_eq!(run(&["busy"]), (125, String::new(), busy.to_owned()));
    let lost = "hearthctl: the connection is lost, and with it the program\n";
    assert_eq!(run(&["hang-up"]), (125, String::new(), lost.to_owned()));

    let mut cat = hearthctl(&site)
        .args(["exec", "-i", "clock", "--", "cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let text = "x".repeat(100_000);
    let mut input = cat.stdin.take().unwrap();
    let typing = std::thread::spawn({
        let text = text.clone();
        move || input.write_all(text.as_bytes()).unwrap()
    });
    let output = cat.wait_with_output().unwrap();
    typing.join().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("terminal None, input true\r\n{text}"));
    daemon.stop();
}

#[test]
fn signals_are_passed_on_and_the_third_one_is_enough() {
    let site = Site::with_fake().workload("clock", "service", "serve", "");
    let mut daemon = site.start();
    daemon.wait_for("hearthd | ready: 1 of 1 workloads");
    let start = |word: &str| {
        let mut child =
            hearthctl(&site).args(["exec", "clock", "--", word]).stdout(Stdio::piped()).spawn().unwrap();
        let mut out = child.stdout.take().unwrap();
        until(&mut out, "input false\r\n");
        (child, out)
    };
    let (mut child, mut out) = start("obedient");
    signal(&child, Signal::SIGINT);
    until(&mut out, "signal 2\r\n");
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let (mut child, mut out) = start("stubborn");
    for _ in 0..2 {
        signal(&child, Signal::SIGTERM);
        until(&mut out, "signal 15\r\n");
    }
    signal(&child, Signal::SIGTERM);
    assert_eq!(child.wait().unwrap().code(), Some(143));
    daemon.stop();
}

#[test]
fn readers_that_do_not_read_hold_nobody_up_and_their_number_is_bounded() {
    let site = Site::with_fake().workload("clock", "service", "serve", "");
    let mut daemon = site.start();
    daemon.wait_for("hearthd | ready: 1 of 1 workloads");
    let mut floods: Vec<Child> = (0..4)
        .map(|_| {
            hearthctl(&site).args(["exec", "clock", "--", "flood"]).stdout(Stdio::piped()).spawn().unwrap()
        })
        .collect();
    for flood in &mut floods {
        // It runs; from here on nobody reads.
        let mut first = [0; 1];
        flood.stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
    }
    assert!(told(&site, &["status"]).contains("ready"));
    let fifth = ctl(&site, &["exec", "clock", "--", "exit", "0"]);
    assert_eq!(fifth.status.code(), Some(125));
    let told_so = String::from_utf8(fifth.stderr).unwrap();
    assert_eq!(told_so, "hearthctl: expected at most 4 programs run by hand\n");
    for flood in &mut floods {
        flood.kill().unwrap();
        flood.wait().unwrap();
    }
    // Their places are given back when the daemon has seen them go.
    while ctl(&site, &["exec", "clock", "--", "exit", "3"]).status.code() != Some(3) {}
    // As in "exec ... | head": a reader that is gone ends it.
    let mut flood =
        hearthctl(&site).args(["exec", "clock", "--", "flood"]).stdout(Stdio::piped()).spawn().unwrap();
    drop(flood.stdout.take());
    assert_eq!(flood.wait().unwrap().code(), Some(141));
    daemon.stop();
}

#[test]
fn what_cannot_be_reached_is_told_in_one_line() {
    let site = Site::with_fake().workload("clock", "service", "serve", "");
    let mut daemon = site.start();
    daemon.wait_for("hearthd | ready: 1 of 1 workloads");
    let refused = |words: &[&str]| {
        let output = ctl(&site, words);
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let at = |name: &str| refused(&["exec", name, "--", "true"]);
    let nobody = "hearthctl: expected a workload of this box, found \"nobody\"\n";
    assert_eq!(at("nobody"), (125, nobody.to_owned()));
    let none = "hearthctl: expected a workload that runs, clock.1 has no machine\n";
    assert_eq!(at("clock.1"), (125, none.to_owned()));
    assert_eq!(refused(&["exec", "clock", "--", "exit", "0"]), (0, String::new()));
    assert_eq!(refused(&["exec", "-it", "clock", "--", "sh"]).0, 2, "no terminal here");
    assert_eq!(refused(&["--json", "exec", "clock", "--", "sh"]).0, 2);
    let json = r#"{"command":["true"]}"#;
    let request = format!(
        "POST /v1/workloads/clock/exec HTTP/1.1\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{json}",
        json.len()
    );
    let mut plain = std::os::unix::net::UnixStream::connect(site.state().join("api.sock")).unwrap();
    plain.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    plain.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 426 Upgrade Required\r\n"), "{answer}");
    daemon.stop();
}

#[test]
fn a_console_is_shown_with_what_was_before_and_goes_on_and_cannot_command_a_terminal() {
    let site = Site::with_fake().workload("clock", "service", "show", "");
    let mut daemon = site.start();
    daemon.wait_for("hearthd | ready: 1 of 1 workloads");
    let before = "guest kernel speaking\n";
    while told(&site, &["console", "--once", "clock"]) != format!("{before}^[[2Jcolour\n") {}
    let raw = told(&site, &["console", "--once", "--raw", "clock"]);
    assert_eq!(raw, format!("{before}\u{1b}[2Jcolour\n"));
    let mut onlooker = hearthctl(&site).args(["console", "clock"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut out = onlooker.stdout.take().unwrap();
    until(&mut out, "colour\n");
    told(&site, &["restart", "clock"]);
    assert_eq!(until(&mut out, "colour\n"), format!("{before}^[[2Jcolour\n"));
    onlooker.kill().unwrap();
    onlooker.wait().unwrap();
    told(&site, &["stop", "clock"]);
    daemon.wait_for("clock   | asked to stop");
    assert!(told(&site, &["console", "--once", "clock"]).ends_with("colour\n"), "its last words");
    assert_eq!(ctl(&site, &["console", "nobody"]).status.code(), Some(4));
    daemon.stop();
}

#[test]
fn a_snapshot_is_written_and_told_with_its_place_and_size() {
    let site = Site::with_fake().workload("clock", "service", "serve", "");
    let mut daemon = site.start();
    daemon.wait_for("hearthd | ready: 1 of 1 workloads");
    let folder = site.state().join("snapshots/clock/before");
    let text = told(&site, &["snapshot", "clock", "before"]);
    assert_eq!(text, format!("clock: {}, 0.0 MiB\n", folder.display()));
    assert!(folder.join("memory").exists());
    let json: serde_json::Value =
        serde_json::from_str(&told(&site, &["--json", "snapshot", "clock"])).unwrap();
    assert!(json["bytes"].as_u64().unwrap() >= 8192 && json["name"].as_str().unwrap().len() == 15, "{json}");
    let refused = |words: &[&str]| {
        let output = ctl(&site, words);
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let again = format!("hearthctl: expected a new name, there is {}\n", folder.display());
    assert_eq!(refused(&["snapshot", "clock", "before"]), (1, again));
    let failed = "hearthctl: its monitor refused: no room\n".to_owned();
    assert_eq!(refused(&["snapshot", "clock", "refused"]), (1, failed));
    let (status, words) = refused(&["snapshot", "clock", "../../etc"]);
    assert!(status == 1 && words.starts_with("hearthctl: expected a name of 1 to 32 letters"), "{words}");
    assert_eq!(refused(&["snapshot", "nobody"]).0, 4);
    let events = told(&site, &["events"]);
    assert!(events.contains(&format!(" had a snapshot written, {}\n", folder.display())), "{events}");
    daemon.stop();
}
