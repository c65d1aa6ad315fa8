//! The box as its API shows it.
//!
//! Duty: its state, its events, its processes. Not here: what is done to it.
//! Invariant: nothing is waited for without a deadline; what a person would see on the socket is all that is believed.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use hearth_supervisor::api::client::{self, Client};
use hearth_supervisor::api::types::{BoxStatus, EventLine, EventTold, WorkloadStatus};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const STATE: &str = "/run/hearth";
/// For a box to be in full health, from whatever state: an emulated one takes a minute to boot and start ten guests.
const PATIENCE: Duration = Duration::from_secs(240);
/// Between two questions while something is waited for.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Why a fault was not healed.
#[derive(Debug)]
pub(crate) struct Trouble(pub(super) String);

impl Trouble {
    pub(crate) fn of(what: &str, error: &dyn fmt::Display) -> Trouble {
        Trouble(format!("{what}: {error}"))
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which machine each replica is; another number is another machine.
pub(crate) type Runs = BTreeMap<String, u32>;

/// The box beside which this program runs.
#[derive(Default)]
pub(crate) struct Patient {
    /// The number of the last event that was seen.
    seen: u64,
}

impl Patient {
    pub(crate) fn state() -> &'static Path {
        Path::new(STATE)
    }

    /// A machine's folder.
    pub(crate) fn machine(replica: &str) -> PathBuf {
        Patient::state().join("vm").join(replica)
    }

    /// `None` while no daemon answers.
    pub(crate) fn status(&self) -> Option<BoxStatus> {
        let mut client = Client::connect(&Patient::state().join("api.sock")).ok()?;
        client::read(&client.get("/v1/status").ok()?).ok()
    }

    /// Waits until the box is as `wanted` says.
    pub(crate) fn wait_until(
        &self,
        what: &str,
        mut wanted: impl FnMut(&BoxStatus) -> bool,
    ) -> Result<(), Trouble> {
        let end = Instant::now() + PATIENCE;
        let mut last = None;
        while Instant::now() < end {
            if let Some(status) = self.status() {
                if wanted(&status) {
                    return Ok(());
                }
                last = Some(status);
            }
            thread::sleep(LOOK_AGAIN);
        }
        let last = last.map_or_else(|| "no daemon answers".to_owned(), |status| shown(&status));
        Err(Trouble(format!("not {what} within {} s: {last}", PATIENCE.as_secs())))
    }

    pub(crate) fn wait_until_well(&self) -> Result<(), Trouble> {
        self.wait_until("in full health", is_well)
    }

    pub(crate) fn runs(&self) -> Result<Runs, Trouble> {
        let status = self.status().ok_or_else(|| Trouble("no daemon answers".to_owned()))?;
        Ok(runs(&status))
    }

    /// Events that were not seen yet.
    pub(crate) fn events(&mut self) -> Vec<EventTold> {
        let path = format!("/v1/events?after={}", self.seen);
        let Ok(client) = Client::connect(&Patient::state().join("api.sock")) else { return Vec::new() };
        let mut events = Vec::new();
        let taken = client.lines(&path, |line| {
            if let Ok(EventLine::Told(told)) = serde_json::from_str(line) {
                events.push(told);
            }
            true
        });
        if taken.is_ok()
            && let Some(last) = events.last()
        {
            self.seen = last.number;
        }
        events
    }

    /// What the box has said of a workload since the last question, each with its time after `began` on the wall clock.
    pub(crate) fn story(&mut self, workload: &str, began: Duration) -> String {
        let began = u64::try_from(began.as_millis()).unwrap_or(u64::MAX);
        let told = self.events().into_iter().filter(|event| event.workload.as_deref() == Some(workload));
        // Each begins with the workload's name, which the reader knows.
        let short =
            |text: &str| text.split_once(": ").map_or_else(|| text.to_owned(), |(_, rest)| rest.to_owned());
        let lines =
            told.map(|event| format!("{} ms {}", event.unix_ms.saturating_sub(began), short(&event.text)));
        lines.collect::<Vec<_>>().join(", ")
    }

    /// What the daemon says about why the box booted.
    pub(crate) fn boot_reason(&mut self) -> Result<String, Trouble> {
        self.seen = 0;
        let told = self.events().into_iter().find(|event| event.kind == "booted");
        told.map(|event| event.text)
            .ok_or_else(|| Trouble("the daemon does not say why the box booted".to_owned()))
    }

    /// A daemon that began anew counts its events from one.
    pub(crate) fn forget_events(&mut self) {
        self.seen = 0;
    }

    pub(crate) fn daemon(&self) -> Result<Pid, Trouble> {
        let found = processes()
            .into_iter()
            .find(|(_, words)| words.first().is_some_and(|word| word == "/usr/bin/hearthd"));
        found.map(|(pid, _)| pid).ok_or_else(|| Trouble("there is no hearthd".to_owned()))
    }

    /// The monitor of a replica.
    pub(crate) fn monitor(&self, replica: &str) -> Result<Pid, Trouble> {
        let folder = Patient::machine(replica);
        let noted = fs::read_to_string(folder.join("vm.pid")).ok().and_then(|text| text.trim().parse().ok());
        noted.map(Pid::from_raw).ok_or_else(|| Trouble(format!("{replica} has no monitor")))
    }

    pub(crate) fn signal(&self, pid: Pid, signal: Signal) -> Result<(), Trouble> {
        kill(pid, signal).map_err(|errno| Trouble(format!("{signal} to process {pid}: {}", errno.desc())))
    }
}

pub(crate) fn is_well(status: &BoxStatus) -> bool {
    status.phase == "up"
        && status.ready == status.of
        && status
            .workloads
            .iter()
            .all(|workload| workload.good && workload.replicas_ready == workload.replicas_wanted)
}

pub(crate) fn runs(status: &BoxStatus) -> Runs {
    let replicas = status.workloads.iter().flat_map(|workload| &workload.replicas);
    replicas.map(|replica| (replica.name.clone(), replica.run)).collect()
}

fn shown(status: &BoxStatus) -> String {
    let one = |workload: &WorkloadStatus| format!("{} {}", workload.name, workload.state);
    let workloads: Vec<_> = status.workloads.iter().filter(|workload| !workload.good).map(one).collect();
    format!("phase {}, {} of {} ready; {}", status.phase, status.ready, status.of, workloads.join(", "))
}

/// Every process with its words.
fn processes() -> Vec<(Pid, Vec<String>)> {
    let one = |entry: io::Result<fs::DirEntry>| {
        let entry = entry.ok()?;
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let line = fs::read(entry.path().join("cmdline")).ok()?;
        let words = line.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned());
        Some((Pid::from_raw(pid), words.collect()))
    };
    fs::read_dir("/proc").into_iter().flatten().filter_map(one).collect()
}
