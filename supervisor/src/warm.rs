//! Warm snapshots of workloads: made, found, removed.
//!
//! ```text
//! <store>/warm/<workload>/<version>/     what hearth-vmm made: a machine's memory and state
//!                         <version>.of   of which kernel, initrd and monitor
//! <state>/vm/.new/                       the machine that is becoming one, with the pipe of what its monitor says
//! ```
//!
//! Duty: have the monitor make one beside the machines that run, with less right to processors than they; say whether one
//! can be used. Not here: when one is made or used (`hearth-core`), the snapshot itself (`hearth-vmm`).
//! Invariants: one is made at a time, its process ends with the daemon or at the start of the next one, and it is whole
//! or not there. One that a record names, or that no record can name yet, is never removed. Its process is given no file
//! to print into: what it says costs memory of a bounded size, whoever has taken it over.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};

use hearth_config::device::Paths;
use hearth_config::workload::WorkloadConfig;
use hearth_core::{Record, SNAPSHOT_WITHIN, Version};
use nix::sys::signal::Signal;
use rustix::process::{Pid, setpriority_process};
use smol::future::{or, pending, yield_now};
use smol::io::AsyncReadExt;
use smol::{Async, LocalExecutor, Task, Timer};

use crate::contents::Contents;
use crate::machine::{MONITOR, Reporter, What};
use crate::process::Process;
use crate::setup::vm_folder;
use crate::state_dir::StateDir;
use crate::versions::{entries, version_name};
use crate::wording::Took;
use crate::{empty_network, guest_boot, outlet};

/// No replica is called so, and none has a shorter name if snapshots are made of it: its sockets' paths fit.
const MAKING: &str = ".new";
/// Bytes of what the monitor says that are kept, from its end: some lines.
const LAST_WORDS: usize = 2048;
/// Bytes per read of its pipe.
const READ_BYTES: usize = 4096;
/// Reads of what is in the pipe when it has ended: all of the largest one that anybody may ask the kernel for.
const LAST_READS: usize = (1 << 20) / READ_BYTES;
const PRIVATE: u32 = 0o700;
/// Workloads that serve go first.
const NICE: i32 = 10;
/// Sooner than the core gives up.
const MARGIN: Duration = Duration::from_secs(20);

#[derive(Debug)]
pub(crate) struct Warm {
    folder: PathBuf,
    state: PathBuf,
    making: Option<Making>,
}

#[derive(Debug)]
struct Making {
    name: String,
    version: Version,
    process: Option<Rc<Process>>,
    /// Dropping it stops the watch.
    _task: Option<Task<()>>,
}

impl Warm {
    pub(crate) fn new(store: &Path, state: &Path) -> Warm {
        Warm { folder: store.join("warm"), state: state.to_owned(), making: None }
    }

    fn place(&self, name: &str, version: Version) -> PathBuf {
        self.folder.join(name).join(version_name(version))
    }

    /// The snapshot of a version, if it is there and of the kernel and programs that there are.
    pub(crate) fn find(
        &self,
        name: &str,
        version: Version,
        paths: &Paths,
        contents: &mut Contents,
    ) -> Option<PathBuf> {
        let place = self.place(name, version);
        let of = fs::read_to_string(beside(&place)).ok()?;
        (place.is_dir() && of == origin(paths, contents)).then_some(place)
    }

    /// Reads now what would have to be read when a machine is to be restored.
    pub(crate) fn prepare(&self, records: &[Record], paths: &Paths, contents: &mut Contents) {
        if records.iter().any(|record| record.durable.snapshot.is_some()) {
            let _ = origin(paths, contents);
        }
    }

    /// Begins to make one. What comes of it is reported as [`What::Snapshot`].
    pub(crate) fn make(
        &mut self,
        executor: &LocalExecutor<'static>,
        paths: &Paths,
        contents: &mut Contents,
        workload: &WorkloadConfig,
        version: Version,
        reporter: Reporter,
    ) {
        self.stop();
        let name = workload.name.as_str().to_owned();
        let place = self.place(&name, version);
        let within = workload.start_within + SNAPSHOT_WITHIN - MARGIN;
        let began = Instant::now();
        let origin = origin(paths, contents);
        let started = self.start(paths, workload, &place, within);
        let process = started.as_ref().ok().map(|(process, _)| Rc::clone(process));
        let watch = async move {
            let result = match started {
                Ok((process, monitor)) => ended(&process, within, monitor).await,
                Err(error) => Err(error.to_string()),
            };
            // Only now can it be found.
            let result =
                result.and_then(|()| fs::write(beside(&place), &origin).map_err(|error| error.to_string()));
            match &result {
                Ok(()) => {
                    let mib = bytes_of(&place) >> 20;
                    reporter.note(&format!(
                        "a warm snapshot of version {version} was taken in {}, {mib} MiB",
                        Took(began.elapsed())
                    ));
                }
                Err(why) => reporter.note(&format!("no warm snapshot: {why}")),
            }
            reporter.report(What::Snapshot { taken: result.is_ok() }).await;
        };
        let task = Some(executor.spawn(watch));
        self.making = Some(Making { name, version, process, _task: task });
    }

    fn making_folder(&self) -> PathBuf {
        vm_folder(&self.state, MAKING)
    }

    fn start(
        &self,
        paths: &Paths,
        workload: &WorkloadConfig,
        place: &Path,
        within: Duration,
    ) -> io::Result<(Rc<Process>, Async<File>)> {
        let folder = self.making_folder();
        StateDir::fresh_folder(&folder)?;
        let file = folder.join("vm.toml");
        let machine = guest_boot::machine_of(workload, paths, &folder, workload.name.as_str());
        fs::write(&file, machine.to_toml().map_err(io::Error::other)?)?;
        if let Some(parent) = place.parent() {
            DirBuilder::new().recursive(true).mode(PRIVATE).create(parent)?;
        }
        let (monitor, stderr) = outlet::make(&folder.join(MONITOR))?;
        let mut child = Command::new(&paths.vmm)
            .arg("template")
            .arg(&file)
            .arg(place)
            // There is one of this version only if it could not be used.
            .arg("--force")
            .args(["--within", &within.as_secs().to_string()])
            .args(empty_network::option())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr)
            .process_group(0)
            .spawn()?;
        let process = Process::open(child.id()).inspect_err(|_| {
            // Nobody could end it.
            let _ = child.kill();
            let _ = child.wait();
        })?;
        if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
            // It makes itself as large as it can without it, only less politely.
            let _ = setpriority_process(Some(pid), NICE);
        }
        Ok((Rc::new(process), monitor))
    }

    /// The core has heard what came of the one of this workload. It may have asked for the next one's by then.
    pub(crate) fn answered(&mut self, name: &str) {
        if self.making.as_ref().is_some_and(|making| making.name == name) {
            self.making = None;
            let _ = StateDir::remove_folder(&self.making_folder());
        }
    }

    /// Ends what is being made.
    pub(crate) fn stop(&mut self) {
        if let Some(making) = self.making.take() {
            if let Some(process) = &making.process {
                process.signal(Signal::SIGKILL);
            }
            let _ = StateDir::remove_folder(&self.making_folder());
        }
    }

    /// The workload's record is this one now.
    pub(crate) fn prune(&self, record: &Record) {
        let kept = record.durable.snapshot;
        self.retain(&record.name, |version| Some(version) == kept);
    }

    /// The workload is gone.
    pub(crate) fn forget(&mut self, name: &str) {
        if self.making.as_ref().is_some_and(|making| making.name == name) {
            self.stop();
        }
        let _ = fs::remove_dir_all(self.folder.join(name));
    }

    /// Room is needed: only these versions stay.
    pub(crate) fn collect(&self, keep: &[Version]) {
        for name in names(&self.folder) {
            self.retain(&name, |version| keep.contains(&version));
        }
    }

    /// What no record names, a daemon that died left behind.
    pub(crate) fn sweep(&self, records: &[Record]) {
        for name in names(&self.folder) {
            match records.iter().find(|record| record.name == name) {
                Some(record) => self.prune(record),
                None => drop(fs::remove_dir_all(self.folder.join(&name))),
            }
        }
    }

    fn retain(&self, name: &str, keep: impl Fn(Version) -> bool) {
        let making = self.making.as_ref().filter(|making| making.name == name).map(|making| making.version);
        // It writes beside its place before it has its name.
        let may_go = |version| Some(version) != making && !keep(version);
        let folder = self.folder.join(name);
        for (version, path) in entries(&folder) {
            if version.is_none_or(may_go) {
                // A machine that came from it has its files open.
                let _ = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
            }
        }
        // If nothing is left.
        let _ = fs::remove_dir(folder);
    }
}

fn beside(place: &Path) -> PathBuf {
    place.with_extension("of")
}

fn names(folder: &Path) -> Vec<String> {
    let entries = folder.read_dir().into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

/// What a snapshot is of, beside its workload's version: whichever of them is another one now, it is of no use.
fn origin(paths: &Paths, contents: &mut Contents) -> String {
    let files = [&paths.vmm, &paths.kernel, &paths.initrd];
    files.map(|file| format!("{:016x}\n", contents.of(file).unwrap_or_default())).concat()
}

async fn ended(process: &Process, within: Duration, mut monitor: Async<File>) -> Result<(), String> {
    let mut words = LastWords::default();
    let gone = async { process.gone().await.map_err(|error| error.to_string()) };
    let late = async {
        // The monitor keeps to the time itself, unless it hangs.
        Timer::after(within + MARGIN / 2).await;
        Err(format!("it was not made within {} s", within.as_secs()))
    };
    let listens = async {
        words.hear(&mut monitor).await;
        pending().await
    };
    let result = or(or(gone, late), listens).await;
    if result.is_err() {
        process.signal(Signal::SIGKILL);
        let _ = process.gone().await;
    }
    let status = process.status();
    result?;
    match status {
        Some(status) if status.success() => Ok(()),
        Some(status) => {
            words.hear_rest(monitor.get_ref());
            Err(words.last_line().unwrap_or_else(|| status.to_string()))
        }
        None => Err("its maker's end cannot be seen".to_owned()),
    }
}

/// The end of what a monitor says.
#[derive(Debug, Default)]
struct LastWords(Vec<u8>);

impl LastWords {
    /// As long as it speaks: what a full pipe does not take is lost, and why there is no snapshot is said last.
    async fn hear(&mut self, pipe: &mut Async<File>) {
        let mut buffer = [0; READ_BYTES];
        while let Ok(length @ 1..) = pipe.read(&mut buffer).await {
            self.keep(&buffer[..length]);
            // A talkative one takes turns with everything else.
            yield_now().await;
        }
    }

    /// What is in the pipe now, which does not block: of a monitor that has ended, the rest.
    fn hear_rest(&mut self, mut pipe: &File) {
        let mut buffer = [0; READ_BYTES];
        for _ in 0..LAST_READS {
            let Ok(length @ 1..) = pipe.read(&mut buffer) else { break };
            self.keep(&buffer[..length]);
        }
    }

    fn keep(&mut self, heard: &[u8]) {
        self.0.extend_from_slice(heard);
        self.0.drain(..self.0.len().saturating_sub(LAST_WORDS));
    }

    fn last_line(&self) -> Option<String> {
        let text = String::from_utf8_lossy(&self.0);
        let line = text.lines().rfind(|line| !line.trim().is_empty())?;
        Some(line.trim_start_matches("hearth-vmm: ").to_owned())
    }
}

/// What it takes of the disk.
fn bytes_of(place: &Path) -> u64 {
    let sizes =
        names(place).into_iter().filter_map(|name| Some(fs::metadata(place.join(name)).ok()?.blocks()));
    sizes.map(|blocks| blocks * 512).sum()
}

#[cfg(test)]
#[path = "warm_tests.rs"]
mod tests;
