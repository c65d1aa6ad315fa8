//! Snapshots made by a stand-in for the monitor that is a few lines of shell.

use super::*;
use hearth_config::device::DeviceConfig;
use hearth_core::{Run, Slot, WorkloadId};
use smol::channel::{Receiver, bounded};
use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, Mutex};

use crate::console::Console;
use crate::machine::Report;

/// What a console was given.
#[derive(Clone, Default)]
struct Paper(Arc<Mutex<Vec<u8>>>);

impl io::Write for Paper {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Site {
    folder: tempfile::TempDir,
    paths: Paths,
    paper: Paper,
    console: Console,
    reports: (smol::channel::Sender<Report>, Receiver<Report>),
    executor: LocalExecutor<'static>,
    contents: Contents,
    warm: Warm,
}

const VERSION: Version = Version(0xabc);

impl Site {
    /// The monitor is this script, given `template FILE PLACE --force --within SECONDS`.
    fn new(script: &str) -> Site {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("vmm"), format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(path("vmm"), fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(path("state")).unwrap();
        let text = format!(
            "[paths]\nvmm = {:?}\nkernel = {:?}\nstate = {:?}\n",
            path("vmm"),
            path("kernel"),
            path("state")
        );
        let paths = DeviceConfig::parse("hearth.toml", &text).unwrap().paths;
        let paper = Paper::default();
        let console = Console::new(["web"], paper.clone()).unwrap();
        let warm = Warm::new(&path("store"), &path("state"));
        let contents = Contents::open(&path("state"));
        let (executor, reports) = (LocalExecutor::new(), bounded(4));
        Site { folder, paths, paper, console, reports, executor, contents, warm }
    }

    fn make(&mut self) {
        self.make_of("web");
    }

    fn make_of(&mut self, name: &str) {
        let text = "kind = \"service\"\nimage = \"i\"";
        let workload = WorkloadConfig::parse(&format!("{name}.toml"), text).unwrap();
        let reporter = Reporter {
            vm: WorkloadId::from_number(0).replica(Slot(1)).run(Run(1)),
            name: format!("{name}.1").into(),
            workload: name.into(),
            logs: None,
            screens: crate::screens::Screens::default(),
            console: self.console.clone(),
            reports: self.reports.0.clone(),
            guests: crate::guests::Guests::none(&self.console.clone()),
            heartbeat: Duration::from_secs(1),
        };
        self.warm.make(&self.executor, &self.paths, &mut self.contents, &workload, VERSION, reporter);
    }

    fn taken(&mut self) -> bool {
        let report = smol::block_on(self.executor.run(self.reports.1.recv())).unwrap();
        let What::Snapshot { taken } = report.what else { panic!("{report:?}") };
        taken
    }

    fn found(&mut self) -> bool {
        self.warm.find("web", VERSION, &self.paths, &mut self.contents).is_some()
    }

    fn said(self) -> String {
        drop(self.warm);
        self.console.flush(Duration::from_secs(60));
        String::from_utf8(self.paper.0.lock().unwrap().clone()).unwrap()
    }

    fn records(snapshot: Option<Version>) -> Vec<Record> {
        let build = hearth_core::Build { version: VERSION, needs: hearth_core::Needs::default() };
        let durable = hearth_core::Durable {
            last_run: Run(1),
            kind: hearth_core::Kind::Service { replicas: 1 },
            current: build,
            good: true,
            previous: None,
            rejected: None,
            breaker: hearth_core::Tripped::Not,
            stopped: false,
            scale: None,
            done: hearth_core::Slots::default(),
            failed: hearth_core::Slots::default(),
            asked: hearth_core::Slots::default(),
            snapshot,
        };
        vec![Record { name: "web".to_owned(), durable, restarts: hearth_core::Restarts::default() }]
    }
}

const MAKES: &str = "mkdir \"$3\" && cp \"$2\" \"$3/memory\"";

#[test]
fn one_is_found_as_long_as_kernel_and_monitor_are_those_that_it_was_made_with() {
    let mut site = Site::new(MAKES);
    assert!(!site.found());
    site.make();
    assert!(site.taken() && site.found());
    site.warm.answered("web");
    assert!(!site.warm.making_folder().exists());
    fs::write(site.folder.path().join("kernel"), "another one").unwrap();
    assert!(!site.found());
    let said = site.said();
    assert!(said.contains("web: a warm snapshot of version 00000000 was taken in "), "{said}");
}

#[test]
fn why_there_is_none_is_told_in_the_monitors_last_words() {
    let mut site = Site::new("echo one >&2; echo 'hearth-vmm: the guest is not warm' >&2; exit 1");
    site.make();
    assert!(!site.taken() && !site.found());
    let said = site.said();
    assert!(said.contains("web: no warm snapshot: the guest is not warm\n"), "{said}");

    let mut site = Site::new(MAKES);
    site.paths.vmm = site.folder.path().join("none");
    site.make();
    assert!(!site.taken());
    let said = site.said();
    assert!(said.contains("no warm snapshot: No such file"), "{said}");
}

#[test]
fn a_monitor_that_says_more_than_a_pipe_holds_is_heard_to_its_end_and_has_no_file_to_fill() {
    let mut site = Site::new(
        "head -c 300000 /dev/zero | tr '\\0' '.' >&2; \
         [ -p /proc/self/fd/2 ] && printf '\\nhearth-vmm: it was a pipe\\n' >&2; exit 1",
    );
    site.make();
    assert!(!site.taken());
    let said = site.said();
    assert!(said.contains("web: no warm snapshot: it was a pipe\n"), "{said}");
}

#[test]
fn a_monitor_that_its_daemon_left_finds_no_broken_pipe() {
    let mut site = Site::new("read word <\"$0.go\"; echo nobody hears this >&2; echo on >\"$0.went\"");
    let [go, went] = ["vmm.go", "vmm.went"].map(|name| site.folder.path().join(name));
    nix::unistd::mkfifo(&go, nix::sys::stat::Mode::S_IRWXU).unwrap();
    site.make();
    let process = site.warm.making.take().and_then(|making| making.process).unwrap();
    // The daemon's ears go with it.
    drop(site.executor);
    fs::write(go, "go\n").unwrap();
    smol::block_on(process.gone()).unwrap();
    assert!(went.exists());
}

#[test]
fn one_that_is_being_made_ends_with_the_daemon_or_its_workload() {
    for forgotten in [false, true] {
        let mut site = Site::new("exec sleep 3600");
        site.make();
        let process = site.warm.making.as_ref().and_then(|making| making.process.clone()).unwrap();
        if forgotten {
            site.warm.forget("other");
            assert!(site.warm.making.is_some());
            site.warm.forget("web");
        } else {
            site.warm.stop();
        }
        smol::block_on(process.gone()).unwrap();
        assert!(!site.warm.making_folder().exists());
    }
}

#[test]
fn the_next_one_may_be_asked_for_before_the_last_one_is_answered() {
    let mut site = Site::new(MAKES);
    site.make();
    assert!(site.taken());
    // The core hears of it, and asks for another workload's at once.
    site.make_of("other");
    site.warm.answered("web");
    assert!(site.warm.making_folder().exists());
    assert!(site.taken());
    site.warm.answered("other");
    assert!(!site.warm.making_folder().exists());
}

#[test]
fn what_its_record_does_not_name_goes_unless_no_record_can_name_it_yet() {
    let mut site = Site::new(MAKES);
    site.make();
    assert!(site.taken());
    // The core has not heard of it.
    site.warm.prune(&Site::records(None)[0]);
    site.warm.collect(&[]);
    assert!(site.found());
    site.warm.answered("web");
    site.warm.prune(&Site::records(Some(VERSION))[0]);
    site.warm.sweep(&Site::records(Some(VERSION)));
    site.warm.collect(&[VERSION]);
    assert!(site.found());
    site.warm.prune(&Site::records(None)[0]);
    assert!(!site.found());
    assert!(!site.folder.path().join("store/warm/web").exists());
}
