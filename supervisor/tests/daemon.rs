//! The real `hearthd` with a stand-in for the monitor: what people see, and what is left when it is gone.

#[path = "daemon/lookout.rs"]
mod lookout;
#[path = "daemon/pressure.rs"]
mod pressure;
#[path = "daemon/probes.rs"]
mod probes;
#[path = "daemon/reload.rs"]
mod reload;
#[path = "daemon/versions.rs"]
mod versions;
#[path = "daemon/warm.rs"]
mod warm;

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hearth_config::vm::VmConfig;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustix::process::PidfdFlags;

#[path = "daemon/door.rs"]
mod door;
#[path = "daemon/exec.rs"]
mod exec;
#[path = "daemon/fleet.rs"]
mod fleet;
#[path = "daemon/fleet_many.rs"]
mod fleet_many;
#[path = "daemon/fleet_streams.rs"]
mod fleet_streams;
#[path = "daemon/poison.rs"]
mod poison;
#[path = "daemon/telemetry.rs"]
mod telemetry;

/// For anything to happen: only a hang takes that long.
const PATIENCE: Duration = Duration::from_secs(60);

/// Becomes readable when the process ends.
fn process(pid: &str) -> smol::Async<OwnedFd> {
    let pid = rustix::process::Pid::from_raw(pid.parse().expect("a number")).expect("not 0");
    let descriptor = rustix::process::pidfd_open(pid, PidfdFlags::empty()).expect("it runs");
    smol::Async::new_nonblocking(descriptor).expect("it can be watched")
}

/// A box in a folder of its own.
struct Site {
    folder: tempfile::TempDir,
}

impl Site {
    fn new(vmm: &Path) -> Site {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir(folder.path().join("workloads")).expect("a folder in it");
        let site = Site { folder };
        let text = format!(
            "[paths]\nvmm = {vmm:?}\nstate = {:?}\n[stop]\nagent_s = 3600\nterminate_s = 3600\n\
             [store]\nfolder = {:?}\n[logs]\nfolder = {:?}\n",
            site.state(),
            site.folder.path().join("store"),
            site.folder.path().join("logs"),
        );
        fs::write(site.config(), text).expect("a file");
        site
    }

    fn with_fake() -> Site {
        Site::new(Path::new(env!("CARGO_BIN_EXE_fake-hearth-vmm")))
    }

    /// Adds a workload; `command` tells the stand-in what to do.
    fn workload(self, name: &str, kind: &str, command: &str, more: &str) -> Site {
        let words: Vec<String> = command.split(' ').map(|word| format!("{word:?}")).collect();
        let text = format!("kind = \"{kind}\"\nimage = \"i\"\ncommand = [{}]\n{more}\n", words.join(", "));
        fs::write(self.folder.path().join("workloads").join(format!("{name}.toml")), text).expect("a file");
        self
    }

    /// Sets how long the rungs of a stop last; without it they last for ever.
    fn stop_times(self, agent_s: u32, terminate_s: u32) -> Site {
        let text = fs::read_to_string(self.config()).expect("the file");
        let text = text.replace("agent_s = 3600", &format!("agent_s = {agent_s}"));
        let text = text.replace("terminate_s = 3600", &format!("terminate_s = {terminate_s}"));
        fs::write(self.config(), text).expect("a file");
        self
    }

    fn config(&self) -> PathBuf {
        self.folder.path().join("hearth.toml")
    }

    fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    /// The process of a machine's monitor.
    fn monitor(&self, replica: &str) -> String {
        fs::read_to_string(self.state().join("vm").join(replica).join("vm.pid")).expect("it is noted")
    }

    /// What its monitor was given.
    fn machine(&self, replica: &str) -> VmConfig {
        VmConfig::load(&self.state().join("vm").join(replica).join("vm.toml")).expect("it is good")
    }

    /// What is in the state folder.
    fn left(&self) -> Vec<String> {
        let entries = self.state().read_dir().expect("the state folder stays");
        entries.map(|entry| entry.expect("readable").file_name().into_string().expect("plain")).collect()
    }

    fn start(&self) -> Daemon {
        self.start_with(&self.config())
    }

    /// Started in its folder, with the box's file named so.
    fn start_with(&self, config: &Path) -> Daemon {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hearthd"));
        command.stdin(Stdio::null());
        self.start_as(command, config)
    }

    fn start_as(&self, mut command: Command, config: &Path) -> Daemon {
        let mut child = command
            .arg("--config")
            .arg(config)
            .current_dir(self.folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .expect("hearthd starts");
        let out = child.stdout.take().expect("a pipe");
        let (sender, lines) = channel();
        thread::spawn(move || {
            BufReader::new(out).lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        Daemon { child, lines, seen: Vec::new() }
    }
}

struct Daemon {
    child: Child,
    lines: Receiver<String>,
    seen: Vec<String>,
}

impl Daemon {
    /// Reads on until a line is `wanted`, names padded as they are.
    fn wait_for(&mut self, wanted: &str) {
        let until = Instant::now() + PATIENCE;
        while self.next(until).unwrap_or_else(|| panic!("no line {wanted:?} in {:#?}", self.seen)) != wanted {
        }
    }

    /// Whatever comes next.
    fn next_line(&mut self) -> String {
        self.next(Instant::now() + PATIENCE).unwrap_or_else(|| panic!("no line behind {:#?}", self.seen))
    }

    /// It stops in order, whatever its lines look like.
    fn stop_quietly(&mut self) {
        self.signal(Signal::SIGTERM);
        assert!(self.ended().success(), "{:#?}", self.seen);
    }

    /// Everything that it said.
    fn seen_until_stopped(&mut self) -> Vec<String> {
        self.stop_quietly();
        self.seen.clone()
    }

    fn wait_until(&mut self, wanted: impl Fn(&str) -> bool) {
        let until = Instant::now() + PATIENCE;
        while !self.next(until).is_some_and(|line| wanted(&line)) {
            assert!(Instant::now() < until, "no such line in {:#?}", self.seen);
        }
    }

    fn wait_for_if_unseen(&mut self, line: &str) {
        if !self.said(line) {
            self.wait_for(line);
        }
    }

    fn next(&mut self, until: Instant) -> Option<String> {
        match self.lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(line) => {
                self.seen.push(line.clone());
                Some(line)
            }
            Err(RecvTimeoutError::Disconnected | RecvTimeoutError::Timeout) => None,
        }
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).expect("a process number"));
        kill(pid, signal).expect("hearthd is there");
    }

    /// Reads to the end and gives how it ended.
    fn ended(&mut self) -> ExitStatus {
        let until = Instant::now() + PATIENCE;
        while self.next(until).is_some() {}
        assert!(Instant::now() < until, "hearthd does not end: {:#?}", self.seen);
        self.child.wait().expect("it can be waited for")
    }

    fn kill(&mut self) {
        self.signal(Signal::SIGKILL);
        let _ = self.child.wait();
    }

    fn stop(&mut self) {
        self.signal(Signal::SIGTERM);
        assert!(self.ended().success(), "{:#?}", self.seen);
        self.place("hearthd | stopped");
    }

    /// Where in all that was seen a line is.
    fn place(&self, line: &str) -> usize {
        self.seen
            .iter()
            .position(|seen| seen == line)
            .unwrap_or_else(|| panic!("no line {line:?} in {:#?}", self.seen))
    }

    fn said(&self, line: &str) -> bool {
        self.seen.iter().any(|seen| seen == line)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Only if a test failed half way; its monitors end with their stream.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn workloads_start_in_order_and_stop_in_reverse_order_and_nothing_is_left() {
    let site = Site::with_fake()
        .workload("a", "service", "serve", "after = [\"b\"]")
        .workload("b", "service", "serve", "");
    let mut daemon = site.start();
    daemon.wait_for("hearthd | ready: 2 of 2 workloads");
    let mode = fs::metadata(site.state()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700, "others must not reach the machines' sockets");
    daemon.stop();
    let order = [
        "hearthd | b: running, guest ready in 312 ms",
        "hearthd | a: running, guest ready in 312 ms",
        "hearthd | ready: 2 of 2 workloads",
        "hearthd | stopping",
        "a       | asked to stop",
        "b       | asked to stop",
        "hearthd | stopped",
    ];
    let places: Vec<usize> = order.iter().map(|line| daemon.place(line)).collect();
    assert!(places.is_sorted(), "{:#?}", daemon.seen);
    assert_eq!(site.left(), ["lock"]);
}

#[test]
fn lines_of_guest_monitor_and_workload_carry_the_name() {
    let site = Site::with_fake().workload("temperature", "job", "exit 0", "");
    let mut daemon = site.start();
    daemon.wait_for("hearthd     | temperature: done: exit 0");
    for line in [
        "temperature | guest kernel speaking",
        "temperature | hearth-vmm: warn: monitor speaking",
        "temperature | half a line",
        "temperature | and an unfinished one",
    ] {
        assert!(daemon.said(line), "no {line:?} before the end in {:#?}", daemon.seen);
    }
    assert!(!site.state().join("vm/temperature").exists(), "an ended machine leaves nothing");
    daemon.signal(Signal::SIGTERM);
    assert!(daemon.ended().success());
}

#[test]
fn what_a_dead_machine_still_had_to_say_is_heard_before_its_end_is_told() {
    let site = Site::with_fake().workload("burst", "job", "burst", "");
    let mut daemon = site.start();
    daemon.wait_for("hearthd | burst: done: exit 0");
    assert!(daemon.said("burst   | last word"), "{:#?}", daemon.seen);
    assert!(daemon.said("burst   | last word of the kernel"), "{:#?}", daemon.seen);
    daemon.stop();
}

#[test]
fn what_comes_after_a_job_starts_when_it_is_done() {
    let site = Site::with_fake()
        .workload("after", "service", "serve", "after = [\"before\"]")
        .workload("before", "job", "exit 0", "");
    let mut daemon = site.start();
    daemon.wait_for("hearthd | ready: 2 of 2 workloads");
    assert!(daemon.place("hearthd | before: done: exit 0") < daemon.place("after   | guest kernel speaking"));
    daemon.stop();
}

#[test]
fn the_box_is_ready_only_when_its_jobs_are_done() {
    let site =
        Site::with_fake().workload("clock", "service", "serve", "").workload("hello", "job", "exit 0", "");
    let mut daemon = site.start();
    daemon.wait_for("hearthd | ready: 2 of 2 workloads");
    daemon.place("hearthd | hello: done: exit 0");
    daemon.stop();
}

#[test]
fn a_box_that_is_named_from_its_own_folder_runs_like_any_other() {
    let site = Site::with_fake().workload("clock", "service", "serve", "");
    let text = fs::read_to_string(site.config()).unwrap();
    let state = format!("state = {:?}", site.state());
    assert!(text.contains(&state));
    fs::write(site.config(), text.replace(&state, "state = \"state\"\ninitrd = \"initrd\"")).unwrap();
    let mut daemon = site.start_with(Path::new("hearth.toml"));
    daemon.wait_for("hearthd | ready: 1 of 1 workloads");
    let vm = VmConfig::load(&site.state().join("vm/clock/vm.toml")).unwrap();
    assert_eq!(vm.boot.initrd.unwrap(), site.folder.path().join("initrd"));
    daemon.stop();
}

#[test]
fn a_failed_job_is_told_with_its_status_and_so_is_what_waits_for_it() {
    let site = Site::with_fake()
        .workload("bad", "job", "exit 3", "")
        .workload("good", "service", "serve", "")
        .workload("late", "service", "serve", "after = [\"bad\"]");
    let mut daemon = site.start();
    daemon.wait_for("hearthd | not ready: 1 of 3 workloads");
    daemon.place("hearthd | bad: failed: exit 3");
    daemon.wait_for_if_unseen("hearthd | late: does not start, bad did not get there");
    daemon.stop();
}

#[test]
fn a_crashing_service_is_started_again_with_waits() {
    let site = Site::with_fake().workload("crash", "service", "crash 12", "");
    let mut daemon = site.start();
    for attempt in 1..=2 {
        daemon.wait_for("hearthd | crash: failed: the guest panicked");
        let until = Instant::now() + PATIENCE;
        let line = daemon.next(until).unwrap_or_default();
        assert!(line.starts_with(&format!("hearthd | crash: restart {attempt} in ")), "{line}");
    }
    daemon.stop();
}

#[test]
fn a_missing_monitor_is_one_line_and_tried_again() {
    let site = Site::new(Path::new("/nonexistent/hearth-vmm")).workload("clock", "service", "serve", "");
    let mut daemon = site.start();
    let line = "hearthd | clock: failed: cannot start /nonexistent/hearth-vmm: No such file or directory (os error 2)";
    daemon.wait_for(line);
    daemon.wait_for(line);
    daemon.stop();
}

#[test]
fn an_agent_that_does_not_stop_is_followed_by_sigterm() {
    let site = Site::with_fake().workload("deaf", "service", "deaf", "").stop_times(1, 3600);
    let mut daemon = site.start();
    daemon.wait_for("hearthd | ready: 1 of 1 workloads");
    daemon.stop();
    daemon.place("hearthd | deaf: does not stop, SIGTERM follows");
    assert!(!daemon.said("hearthd | deaf: does not stop, SIGKILL follows"));
}

#[test]
fn a_monitor_that_ignores_sigterm_is_killed() {
    let site = Site::with_fake().workload("stubborn", "service", "stubborn", "").stop_times(1, 1);
    let mut daemon = site.start();
    daemon.wait_for("hearthd  | ready: 1 of 1 workloads");
    daemon.signal(Signal::SIGTERM);
    assert!(daemon.ended().success());
    daemon.place("hearthd  | stubborn: does not stop, SIGTERM follows");
    daemon.place("hearthd  | stubborn: does not stop, SIGKILL follows");
    daemon.place("hearthd  | stopped");
    assert_eq!(site.left(), ["lock"]);
}

#[test]
fn a_second_signal_kills_at_once() {
    let site = Site::with_fake().workload("stubborn", "service", "stubborn", "");
    let mut daemon = site.start();
    daemon.wait_for("hearthd  | ready: 1 of 1 workloads");
    daemon.signal(Signal::SIGINT);
    daemon.wait_for("hearthd  | stopping");
    daemon.signal(Signal::SIGINT);
    assert!(daemon.ended().success());
}

#[test]
fn a_guest_without_an_agent_stops_by_sigterm() {
    let site = Site::with_fake().workload("mute", "service", "mute", "");
    let mut daemon = site.start();
    daemon.wait_for("mute    | guest kernel speaking");
    daemon.stop();
}

#[test]
fn garbage_and_bad_manners_from_guests_close_their_connections_and_nothing_else() {
    let site = Site::with_fake()
        .workload("bad", "service", "garbage", "")
        .workload("rude", "service", "rude", "")
        .workload("good", "service", "serve", "");
    let mut daemon = site.start();
    let until = Instant::now() + PATIENCE;
    for wanted in [
        "hearthd | bad: the agent's connection is closed: its frames are not good",
        "hearthd | rude: the agent's connection is closed: it did not say hello first",
    ] {
        while !daemon.seen.iter().any(|line| line.starts_with(wanted)) {
            assert!(daemon.next(until).is_some(), "{:#?}", daemon.seen);
        }
    }
    daemon.wait_for_if_unseen("hearthd | good: running, guest ready in 312 ms");
    daemon.stop();
}

#[test]
fn a_flood_of_output_does_not_keep_the_daemon_from_stopping() {
    let site =
        Site::with_fake().workload("flood", "service", "flood", "").workload("calm", "service", "serve", "");
    let mut daemon = site.start();
    daemon.wait_for("hearthd | ready: 2 of 2 workloads");
    daemon.stop();
}

#[test]
fn a_flood_without_end_starves_neither_signals_nor_timers_nor_other_guests() {
    let site = Site::with_fake()
        .workload("flood", "service", "endless", "")
        .workload("calm", "service", "serve", "after = [\"flood\"]")
        .stop_times(1, 3600);
    let mut daemon = site.start();
    daemon.wait_for("hearthd | ready: 2 of 2 workloads");
    daemon.stop();
    // It hears nothing while it floods; that SIGTERM follows is a timer's doing. What `calm` says meanwhile may be
    // lost in the flood, which only the daemon's own lines are safe from.
    daemon.place("hearthd | flood: does not stop, SIGTERM follows");
}

#[test]
fn a_second_daemon_on_the_same_state_is_refused_and_the_first_lives() {
    let site = Site::with_fake().workload("clock", "service", "serve", "");
    let mut daemon = site.start();
    daemon.wait_for("hearthd | ready: 1 of 1 workloads");
    let second =
        Command::new(env!("CARGO_BIN_EXE_hearthd")).arg("--config").arg(site.config()).output().unwrap();
    assert_eq!(second.status.code(), Some(1));
    let told = String::from_utf8_lossy(&second.stderr);
    assert_eq!(
        told,
        format!("hearthd: {}: another hearthd uses this state folder\n", site.state().display())
    );
    daemon.stop();
}

#[test]
fn a_killed_daemons_machines_are_taken_over_and_not_one_restarts() {
    let site = Site::with_fake()
        .workload("clock", "service", "serve", "")
        .workload("deaf", "service", "deaf", "after = [\"clock\"]")
        .workload("hello", "job", "exit 0", "")
        .stop_times(1, 3600);
    let mut first = site.start();
    first.wait_for("hearthd | ready: 3 of 3 workloads");
    let monitors = [site.monitor("clock"), site.monitor("deaf")];
    for _ in 0..3 {
        first.kill();
        let mut next = site.start();
        next.wait_for("hearthd | ready: 3 of 3 workloads");
        next.place("hearthd | 2 running machines taken over");
        assert_eq!([site.monitor("clock"), site.monitor("deaf")], monitors);
        for line in ["clock   | guest kernel speaking", "hello   | guest kernel speaking"] {
            assert!(!next.said(line), "something started: {:#?}", next.seen);
        }
        first = next;
    }
    first.stop();
    // Both ways to stop a machine reach one that somebody else started.
    first.place("clock   | asked to stop");
    first.place("hearthd | deaf: does not stop, SIGTERM follows");
    assert_eq!(site.left(), ["lock"]);
}

#[test]
fn what_is_wanted_no_more_when_the_next_daemon_begins_is_stopped_and_the_others_stay() {
    let site =
        Site::with_fake().workload("clock", "service", "serve", "").workload("old", "service", "serve", "");
    let mut first = site.start();
    first.wait_for("hearthd | ready: 2 of 2 workloads");
    let clock = site.monitor("clock");
    let old = process(&site.monitor("old"));
    first.kill();
    fs::remove_file(site.folder.path().join("workloads/old.toml")).unwrap();
    let mut second = site.start();
    second.wait_for("hearthd | ready: 1 of 1 workloads");
    let patience = async {
        smol::Timer::after(PATIENCE).await;
        panic!("it does not end");
    };
    smol::block_on(smol::future::or(old.readable(), patience)).expect("it ends");
    assert_eq!(site.monitor("clock"), clock);
    second.stop();
}

#[test]
fn a_machine_that_ended_while_nobody_looked_is_started_again() {
    let site = Site::with_fake().workload("clock", "service", "serve", "");
    let mut first = site.start();
    first.wait_for("hearthd | ready: 1 of 1 workloads");
    let monitor = site.monitor("clock");
    first.kill();
    kill(Pid::from_raw(monitor.parse().unwrap()), Signal::SIGKILL).unwrap();
    let mut second = site.start();
    second.wait_for("hearthd | ready: 1 of 1 workloads");
    assert_ne!(site.monitor("clock"), monitor);
    second.stop();
}

#[test]
fn an_adopted_machine_that_crashes_is_replaced() {
    let site = Site::with_fake().workload("clock", "service", "serve", "");
    let mut first = site.start();
    first.wait_for("hearthd | ready: 1 of 1 workloads");
    first.kill();
    let mut second = site.start();
    second.wait_for("hearthd | ready: 1 of 1 workloads");
    kill(Pid::from_raw(site.monitor("clock").parse().unwrap()), Signal::SIGKILL).unwrap();
    second.wait_for("clock   | guest kernel speaking");
    second.wait_for("hearthd | clock: running, guest ready in 312 ms");
    second.stop();
}

#[test]
fn a_daemon_begins_again_in_place_and_no_machine_notices() {
    let site = Site::with_fake().workload("clock", "service", "serve", "");
    let mut daemon = site.start();
    daemon.wait_for("hearthd | ready: 1 of 1 workloads");
    let monitor = site.monitor("clock");
    for _ in 0..2 {
        daemon.signal(Signal::SIGUSR2);
        daemon.wait_for("hearthd | begins again in place, its machines stay");
        daemon.wait_for("hearthd | 1 running machines taken over");
        daemon.wait_for("hearthd | ready: 1 of 1 workloads");
        assert_eq!(site.monitor("clock"), monitor);
    }
    // It is still a child: how it ends is known.
    kill(Pid::from_raw(monitor.parse().unwrap()), Signal::SIGKILL).unwrap();
    daemon.wait_for("hearthd | clock: failed: the monitor was killed by signal 9");
    daemon.stop();
    assert_eq!(daemon.seen.iter().filter(|line| *line == "clock   | guest kernel speaking").count(), 1);
}

#[test]
fn a_watchdog_is_petted_and_only_a_daemon_that_leaves_in_order_disarms_it() {
    let site = Site::with_fake().workload("clock", "service", "serve", "");
    let device = site.folder.path().join("watchdog");
    fs::write(&device, "").unwrap();
    let text = fs::read_to_string(site.config()).unwrap();
    fs::write(site.config(), format!("{text}[watchdog]\ndevice = {device:?}\n")).unwrap();
    let said = format!("hearthd | watchdog: {} is petted, and does not say when it resets", device.display());
    let mut first = site.start();
    first.wait_for(&said);
    first.wait_for("hearthd | ready: 1 of 1 workloads");
    first.kill();
    assert!(!fs::read(&device).unwrap().contains(&b'V'), "it counts on when its daemon is killed");
    fs::write(&device, "").unwrap();
    let mut second = site.start();
    second.wait_for("hearthd | ready: 1 of 1 workloads");
    second.stop();
    let written = fs::read(&device).unwrap();
    assert!(written.len() > 1 && written.ends_with(b"V"), "{written:?}");
}

#[test]
fn the_journal_of_a_killed_daemon_replays_its_decisions() {
    let site = Site::with_fake().workload("crash", "service", "crash 12", "");
    let mut daemon = site.start();
    daemon.wait_for("hearthd | crash: failed: the guest panicked");
    daemon.wait_for("hearthd | crash: failed: the guest panicked");
    daemon.kill();
    let said: Vec<&str> =
        daemon.seen.iter().filter_map(|line| line.strip_prefix("hearthd | crash: ")).collect();
    let journal = site.folder.path().join("store/journal");
    let replay = Command::new(env!("CARGO_BIN_EXE_hearthctl")).arg("replay").arg(&journal).output().unwrap();
    assert!(replay.status.success(), "{replay:?}");
    let told = String::from_utf8_lossy(&replay.stdout);
    let again: Vec<&str> =
        told.lines().filter_map(|line| line.trim_start().strip_prefix("> says: crash: ")).collect();
    assert!(again.starts_with(&said), "{said:#?} is not how this begins:\n{told}");
    let refused =
        Command::new(env!("CARGO_BIN_EXE_hearthctl")).arg("replay").arg(site.config()).output().unwrap();
    assert_eq!(refused.status.code(), Some(2));
    let told = String::from_utf8_lossy(&refused.stderr);
    assert!(told.ends_with("hearth.toml: expected a journal of this version of hearthd\n"), "{told}");
}

#[test]
fn after_a_stop_in_order_the_next_daemon_does_its_jobs_anew() {
    let site = Site::with_fake().workload("hello", "job", "exit 0", "");
    for _ in 0..2 {
        let mut daemon = site.start();
        daemon.wait_for("hearthd | ready: 1 of 1 workloads");
        daemon.place("hello   | guest kernel speaking");
        daemon.stop();
    }
}

#[test]
fn a_store_that_cannot_be_used_is_told_and_the_box_runs() {
    let site = Site::with_fake().workload("clock", "service", "serve", "");
    fs::write(site.folder.path().join("store"), "a file, not a folder").unwrap();
    let mut daemon = site.start();
    daemon.wait_for("hearthd | ready: 1 of 1 workloads");
    let told =
        format!("hearthd | ALARM: store: {}: opening fails: ", site.folder.path().join("store").display());
    assert!(daemon.seen.iter().any(|line| line.starts_with(&told)), "{:#?}", daemon.seen);
    daemon.stop();
}

#[test]
fn faults_are_lines_on_standard_error_and_status_2() {
    let site = Site::with_fake().workload("a", "service", "serve", "afer = []\nresources.memory_mib = 4");
    let refused =
        Command::new(env!("CARGO_BIN_EXE_hearthd")).arg("--config").arg(site.config()).output().unwrap();
    assert_eq!(refused.status.code(), Some(2));
    let file = site.folder.path().join("workloads/a.toml");
    let file = file.display();
    assert_eq!(
        String::from_utf8_lossy(&refused.stderr),
        format!(
            "{file}:4:1: afer: unknown key, did you mean after? (known here: kind, replicas, idle_s, image, command, after, requires, start_within_s, log_kib_per_minute, resources, ceiling, restart, heal, snapshot, probe, rollout, scale, keep_warm, balloon, remote, telemetry)\n\
             {file}:5:11: resources.memory_mib: expected at least 32 MiB, found 4\n"
        )
    );
}

#[test]
fn hearthctl_checks_files_of_every_kind() {
    let site = Site::with_fake().workload("a", "service", "serve", "");
    let check = |files: &[&Path]| {
        Command::new(env!("CARGO_BIN_EXE_hearthctl")).arg("check").args(files).output().unwrap()
    };
    let good = check(&[&site.config(), &site.folder.path().join("workloads/a.toml")]);
    assert!(good.status.success(), "{good:?}");
    assert!(String::from_utf8_lossy(&good.stdout).contains("hearth.toml: good, 1 workloads\n"));
    let bad = check(&[&site.folder.path().join("vm.toml"), Path::new("what.toml")]);
    assert_eq!(bad.status.code(), Some(2));
    let told = String::from_utf8_lossy(&bad.stderr);
    assert!(told.contains("vm.toml: cannot be read: No such file"), "{told}");
    assert!(told.contains("what.toml: expected a file whose kind its name tells, or --kind"), "{told}");
}

#[test]
fn an_agent_that_has_spoken_is_asked_however_soon_the_signal_comes() {
    let site = Site::with_fake().workload("clock", "service", "serve", "");
    for _ in 0..10 {
        let mut daemon = site.start();
        daemon.wait_for("clock   | serving");
        daemon.stop();
        daemon.place("clock   | asked to stop");
    }
}
