//! Warm snapshots: what is made from them, and what happens to them.

use std::fs;
use std::path::PathBuf;

use hearth_config::device::Store as StoreConfig;
use hearth_config::workload::WorkloadConfig;
use hearth_core::{Action, Boot, Config, Event, Kind, Moment, Record, Said, Spec, State};
use hearth_supervisor::store::Store;
use hearth_supervisor::wanted;

use super::{Signal, Site};

const WARM: &str = "snapshot.warm = true\nrestart.budget = 64";

impl Site {
    fn web(&self) -> WorkloadConfig {
        WorkloadConfig::load(&self.folder.path().join("workloads/web.toml")).expect("it is good")
    }

    /// Where a snapshot of the workload's version belongs.
    fn snapshot(&self) -> PathBuf {
        let version = wanted::build(&self.web()).version;
        self.folder.path().join("store/warm/web").join(format!("{:016x}", version.0))
    }

    /// Has the store say that there is one, as after some time of an earlier daemon.
    fn with_record(self) -> Site {
        let folder = self.folder.path().join("store");
        let (mut store, _) = Store::open(&StoreConfig { folder, journal_mib: 1 }, 1, false);
        store.remember(&record(&self.web()));
        assert_eq!(store.words().next(), None);
        self
    }

    /// And puts one there.
    fn with_snapshot(self, memory: &str) -> Site {
        let place = self.snapshot();
        fs::create_dir_all(&place).expect("a folder");
        fs::write(place.join("memory"), memory).expect("a file");
        let name = place.file_name().and_then(|name| name.to_str()).expect("text").to_owned();
        fs::write(place.with_file_name(format!("{name}.of")), self.origin()).expect("a file");
        self.with_record()
    }

    /// A file of the monitor, and neither kernel nor initrd.
    fn origin(&self) -> String {
        let vmm = fs::read(env!("CARGO_BIN_EXE_fake-hearth-vmm")).expect("it is there");
        format!("{:016x}\n{:016x}\n{:016x}\n", xxhash_rust::xxh64::xxh64(&vmm, 0), 0, 0)
    }
}

/// What the core keeps of a workload of which a snapshot was taken.
fn record(web: &WorkloadConfig) -> Record {
    let build = wanted::build(web);
    let mut spec = Spec::new("web", Kind::Service { replicas: 1 }, build);
    spec.allowed.restore = true;
    let mut core = State::new(1);
    let mut last = None;
    let boot = Boot { first_daemon: true, ..Boot::default() };
    let config = Config { workloads: vec![spec], ..Config::default() };
    let begin = Event::Begin { boot, device: Default::default(), records: Vec::new() };
    let mut events = vec![(0, begin), (0, Event::Configured(Box::new(config))), (0, Event::Surveyed)];
    let mut vm = None;
    while let Some((at, event)) = (!events.is_empty()).then(|| events.remove(0)) {
        for action in core.step(Moment::from_millis(at), event) {
            match action {
                Action::Remember(record) => last = Some(*record),
                Action::Vm { vm: started, order: hearth_core::Order::Start { .. } } => vm = Some(started),
                _ => {}
            }
        }
        if let Some(vm) = vm.take() {
            let say = |said| Event::Vm { vm, said };
            events.extend([(1, say(Said::AgentConnected)), (1, say(Said::WorkloadStarted))]);
            for second in 1..=62 {
                events.extend([(second * 1000, say(Said::Heartbeat)), (second * 1000, Event::Tick)]);
            }
            events.push((63_000, say(Said::SnapshotTaken)));
        }
    }
    let record = last.expect("it was kept");
    assert_eq!(record.durable.snapshot, Some(build.version));
    record
}

#[test]
fn a_crashed_machine_comes_back_from_its_snapshot_at_once_and_so_does_one_of_the_next_daemon() {
    let site = Site::with_fake().workload("web", "service", "serve", WARM).with_snapshot("warm");
    let mut daemon = site.start();
    daemon.wait_for("web     | guest goes on as web");
    daemon.wait_for("hearthd | web: running, from its warm snapshot");
    let folder = site.snapshot();
    let command = fs::read_to_string(format!("/proc/{}/cmdline", site.monitor("web"))).expect("it runs");
    assert!(command.contains(&format!("\0{}\0", folder.display())), "{command}");

    daemon.kill();
    let mut daemon = site.start();
    daemon.wait_for("hearthd | 1 running machines taken over");
    daemon.wait_for("hearthd | web: running");
    super::kill(super::Pid::from_raw(site.monitor("web").parse().expect("a number")), Signal::SIGKILL)
        .expect("it is there");
    daemon.wait_for("hearthd | web: restart 1 in 0 ms by a restore from the snapshot");
    daemon.wait_for("hearthd | web: running, from its warm snapshot");
    daemon.stop();
    assert!(folder.exists());
}

#[test]
fn a_snapshot_that_is_gone_or_of_other_programs_is_told_to_the_core_and_the_machine_boots() {
    let spoil: [fn(&Site); 2] = [
        |site| fs::remove_dir_all(site.snapshot()).expect("it is there"),
        |site| fs::write(site.snapshot().with_extension("of"), "another kernel").expect("a file"),
    ];
    for spoil in spoil {
        let site = Site::with_fake().workload("web", "service", "serve", WARM).with_snapshot("warm");
        spoil(&site);
        let mut daemon = site.start();
        daemon.wait_for("hearthd | web: running, guest ready in 312 ms");
        daemon.stop();
        assert!(!site.snapshot().parent().expect("a folder").exists(), "what is left of it has gone");
    }
}

#[test]
fn a_snapshot_that_the_monitor_refuses_is_not_used_again() {
    let site = Site::with_fake().workload("web", "service", "serve", WARM).with_snapshot("bad");
    let mut daemon = site.start();
    daemon.wait_for("hearthd | web: running, guest ready in 312 ms");
    assert!(!site.snapshot().exists());
    daemon.stop();
}

#[test]
fn what_no_record_names_is_removed_when_a_daemon_begins() {
    let site = Site::with_fake().workload("web", "service", "serve", WARM);
    let strays =
        ["web/0000000000000001/memory", "web/.0000000000000002.new/memory", "gone/0000000000000003/memory"];
    let warm = site.folder.path().join("store/warm");
    for stray in strays {
        let stray = warm.join(stray);
        fs::create_dir_all(stray.parent().expect("a folder")).expect("a folder");
        fs::write(stray, "x").expect("a file");
    }
    let site = site.with_record();
    let mut daemon = site.start();
    daemon.wait_for("hearthd | web: running, guest ready in 312 ms");
    daemon.stop();
    assert_eq!(warm.read_dir().expect("a folder").count(), 0);
}

/// It takes the minute in which the machine proves itself.
#[test]
fn a_machine_that_proved_itself_gets_a_snapshot_beside_it() {
    let site = Site::with_fake().workload("web", "service", "serve", WARM);
    let mut daemon = site.start();
    daemon.wait_for("hearthd | web: running, guest ready in 312 ms");
    while !daemon.seen.iter().any(|line| line.contains("a warm snapshot of version")) {
        daemon.next(std::time::Instant::now() + std::time::Duration::from_secs(120)).expect("a line");
    }
    let monitor = site.monitor("web");
    super::kill(super::Pid::from_raw(monitor.parse().expect("a number")), Signal::SIGKILL)
        .expect("it is there");
    daemon.wait_for("hearthd | web: running, from its warm snapshot");
    daemon.stop();
}
