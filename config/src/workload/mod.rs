//! `workloads/NAME.toml`: one workload of the box, read by `hearthd`.
//!
//! Duty: what to run, after what, with how much, how it is asked for its health, healed and replaced; how the keys of
//! the file become that is `shape`'s, `probe`'s and `remote`'s.
//! Not here: whether the order has a cycle (`hearth-core`).
//! Invariant: a `command` survives the trip over the kernel command line word by word.

mod foreseen;
mod heal;
mod probe;
mod remote;
mod shape;
mod telemetry;

use std::fmt;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::fault::{Fault, Faults, Position};
use crate::quantity::Mebibytes;
use crate::reader;
use crate::source::{Form, Source, Strictness};
use crate::vm::Machine;
use crate::writer;

pub use foreseen::{Ballooning, KEPT_WARM, KeepWarm};
pub use heal::{Heal, HealMeans, HealOrder};
pub use probe::{
    Check, MAX_PROBE_ARGUMENTS, MAX_PROBE_COMMAND_BYTES, MAX_PROBE_PATH_BYTES, MAX_PROBES, Probe, Role,
};
pub use remote::{Remote, Signers};
pub use telemetry::{
    Class, MAX_TELEMETRY_TOPICS, Payload, TELEMETRY_BYTES, TELEMETRY_KIB, TELEMETRY_MESSAGES, Telemetry,
};

/// Bytes of a name: it is a folder, a prefix of log lines, later a topic level.
pub const MAX_NAME_BYTES: usize = 32;
/// Workloads on one box.
pub const MAX_WORKLOADS: usize = 64;
/// Words of a command: Linux gives its init at most 32 arguments, the program's own name included, and panics above.
pub const MAX_ARGUMENTS: usize = 31;
/// Bytes of a command: leaves room on the kernel command line for everything else.
pub const MAX_COMMAND_BYTES: usize = 1024;
/// Replicas of one workload: more than a gateway has memory for.
pub const REPLICAS: RangeInclusive<u64> = 1..=64;
/// Seconds of anything that is waited for or watched: a day is longer than anybody looks.
pub const SECONDS: RangeInclusive<u64> = 1..=86_400;
/// Seconds from the start of a machine until its workload runs: above an hour nothing will come any more.
pub const START_S: RangeInclusive<u64> = 1..=3600;
/// Restarts within a window; each is remembered.
pub const BUDGET: RangeInclusive<u64> = 1..=64;
/// Failures that a job's retries or a rollout forgive: more is "for ever", which is written otherwise.
pub const FORGIVEN: RangeInclusive<u64> = 0..=1000;
/// KiB of log in a minute: 16 MiB a second is more than any disk of a gateway should take.
pub const LOG_KIB: RangeInclusive<u64> = 1..=983_040;

/// Milliseconds that a request may wait for a replica, or takes: who may wait longer for less is no request.
pub const WAIT_MS: RangeInclusive<u64> = 1..=600_000;
/// Seconds of a replica that a late request may be worth.
pub const LATE_WORTH_S: RangeInclusive<u64> = 1..=3600;

/// A name that can be a folder and a word: lower-case letters, digits, dashes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkloadName(String);

impl WorkloadName {
    pub const EXPECTED: &'static str = "1 to 32 lower-case letters, digits or -, starting with a letter";

    pub fn new(text: &str) -> Option<WorkloadName> {
        let ok = (1..=MAX_NAME_BYTES).contains(&text.len())
            && text.starts_with(|c: char| c.is_ascii_lowercase())
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        ok.then(|| WorkloadName(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for WorkloadName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkloadConfig {
    pub name: WorkloadName,
    /// The file it was read from, for faults found later.
    pub file: String,
    pub kind: Kind,
    /// A name to look up in the box's folder of images, or an absolute path: see [`WorkloadConfig::image_in`].
    pub image: PathBuf,
    /// Empty: the image says what to run.
    pub command: Vec<String>,
    /// Starts once these are ready.
    pub after: Vec<After>,
    /// Likewise, and stops when one of these stops.
    pub requires: Vec<After>,
    /// From the start of a machine until its workload runs.
    pub start_within: Duration,
    pub resources: Machine,
    /// Whether its machines give memory back when the box is short of it.
    pub balloon: bool,
    /// What all its replicas may take together.
    pub ceiling: Ceiling,
    /// KiB that it may log in a minute; none is: no limit.
    pub log_kib_per_minute: Option<u32>,
    pub restart: Restart,
    pub heal: Heal,
    /// Whether a snapshot is kept of a machine that has just become warm, from which others start in no time.
    pub warm: bool,
    /// How its health is asked for; the agent's heartbeat is always one of them.
    pub probes: Vec<Probe>,
    pub rollout: Rollout,
    /// None: it has as many replicas as its file says, or a person.
    pub scale: Option<Scale>,
    /// None: all machines of a function are kept for as long as its kind says.
    pub keep_warm: Option<KeepWarm>,
    /// None: its balloons follow only what the box is short of.
    pub ballooning: Option<Ballooning>,
    /// What the fleet may do in it.
    pub remote: Remote,
    /// None: it tells the fleet nothing.
    pub telemetry: Option<Telemetry>,
}

/// What it means that the workload ended, and how many of it there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Meant to run for ever.
    Service { replicas: u16 },
    /// Meant to end.
    Job,
    /// Runs while somebody wants it, and `idle` longer.
    Function { most: u16, idle: Duration },
}

/// None is: what the box has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ceiling {
    pub memory: Option<Mebibytes>,
    pub vcpus: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restart {
    pub policy: RestartPolicy,
    /// How often a job may fail and be tried again; none is: as often as the budget lets it.
    pub retries: Option<u16>,
    /// Restarts within the window, of all replicas together.
    pub budget: u16,
    pub window: Duration,
    /// Whether the agent may start the command again in the same guest before anything costs more.
    pub in_guest: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestartPolicy {
    Always,
    OnFailure,
    Never,
}

/// How a new version takes over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rollout {
    pub canary_percent: u8,
    pub window: Duration,
    pub failures: u16,
    /// Thousandths.
    pub error_margin_milli: u16,
    /// Thousandths.
    pub readiness_margin_milli: u16,
    pub requests: u32,
}

/// Between which numbers of replicas it follows what is foreseen, and what that is to weigh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scale {
    pub least: u16,
    pub most: u16,
    /// That a request may wait for a replica.
    pub wait: Duration,
    /// Seconds of a replica that one request which waits for longer is worth.
    pub late_worth_s: u16,
    /// Of all requests, those that may wait for longer whatever replicas cost.
    pub late_percent: u8,
    /// For so long fewer have to do before there are fewer.
    pub patience: Duration,
    /// In one request, while nobody told how much it is.
    pub work: Duration,
    /// Otherwise it is shown what would be done, and nothing is done.
    pub automatic: bool,
}

/// A workload to wait for, and where that is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct After {
    pub name: WorkloadName,
    /// The file that says it, a drop-in perhaps.
    pub file: String,
    pub position: Position,
}

impl WorkloadConfig {
    /// The name is the file's, without `.toml`.
    pub fn load(path: &Path) -> Result<WorkloadConfig, Faults> {
        let name = name_of(path)?;
        let file = path.display().to_string();
        reader::load_with_drop_ins(path, |table| shape::workload(table, name, file))
    }

    /// `file` as in "workloads/clock.toml".
    pub fn parse(file: &str, text: &str) -> Result<WorkloadConfig, Faults> {
        let name = name_of(Path::new(file))?;
        reader::parse(file, text, |table| shape::workload(table, name, file.to_owned()))
    }

    /// The same keys as JSON, which is how a fleet says them. `file` is what faults call it.
    pub fn parse_json(name: &str, file: &str, text: &str) -> Result<WorkloadConfig, Faults> {
        let expected = || Fault::of_file(file, format!("expected a name of {}", WorkloadName::EXPECTED));
        let name = WorkloadName::new(name).ok_or_else(expected)?;
        let source = Source::text(file, text).taken_for(Form::Json);
        let read =
            reader::read(&source, Strictness::Strict, |table| shape::workload(table, name, file.to_owned()));
        read.map(|(workload, _)| workload)
    }

    /// Every `*.toml` of the folder, by name; the faults of all files together.
    pub fn load_all(folder: &Path) -> Result<Vec<WorkloadConfig>, Faults> {
        let cannot = |error: std::io::Error| {
            Fault::of_file(folder.display().to_string(), format!("cannot be read: {error}"))
        };
        let mut paths = Vec::new();
        let mut drop_ins = Vec::new();
        for entry in folder.read_dir().map_err(cannot)? {
            let path = entry.map_err(cannot)?.path();
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("toml") => paths.push(path),
                Some("d") => drop_ins.push(path),
                _ => {}
            }
        }
        paths.sort();
        drop_ins.sort();
        if paths.len() > MAX_WORKLOADS {
            let message = format!("expected at most {MAX_WORKLOADS} workloads, found {}", paths.len());
            return Err(Fault::of_file(folder.display().to_string(), message).into());
        }
        let mut workloads = Vec::new();
        let mut faults = Vec::new();
        for lonely in drop_ins.iter().filter(|folder| !paths.contains(&folder.with_extension("toml"))) {
            let message = format!("expected {} beside it", lonely.with_extension("toml").display());
            faults.push(Fault::of_file(lonely.display().to_string(), message));
        }
        for path in &paths {
            match WorkloadConfig::load(path) {
                Ok(workload) => workloads.push(workload),
                Err(more) => faults.extend(more.into_list()),
            }
        }
        Faults::from_list(faults).map_or(Ok(workloads), Err)
    }

    /// How often its agents are to beat.
    pub fn heartbeat(&self) -> Option<Duration> {
        self.probes.iter().find(|probe| probe.check == Check::Heartbeat).map(|probe| probe.period)
    }

    /// The image as a path, given the box's folder of images.
    pub fn image_in(&self, images: &Path) -> PathBuf {
        images.join(&self.image)
    }

    /// The command as the kernel command line carries it behind `--`; empty when there is none.
    pub fn command_line(&self) -> String {
        self.command.iter().map(|word| quote_for_kernel(word)).collect::<Vec<_>>().join(" ")
    }

    /// A file that leads to the same machines, and says nothing else.
    pub fn machine_toml(&self) -> String {
        let words: Vec<String> = self.command.iter().map(|word| writer::string(word)).collect();
        let command =
            if words.is_empty() { String::new() } else { format!("command = [{}]\n", words.join(", ")) };
        let watched = self.probes.iter().any(|probe| probe.check == Check::Watchdog);
        format!(
            "kind = \"service\"\nimage = {}\n{command}\n[resources]\nvcpus = {}\nmemory_mib = {}\nballoon = {}\n{}{}",
            writer::string(&self.image.to_string_lossy()),
            self.resources.vcpus,
            self.resources.memory.0,
            self.balloon,
            if watched { "\n[[probe]]\ncheck = \"watchdog\"\n" } else { "" },
            self.telemetry
                .as_ref()
                .map_or_else(String::new, |one| format!("\n[telemetry]\nport = {}\n", one.port)),
        )
    }

    /// Whom it waits for: `after`, then `requires`.
    pub fn predecessors(&self) -> impl Iterator<Item = &After> {
        self.after.iter().chain(&self.requires)
    }

    /// A fault at one of the [`WorkloadConfig::predecessors`].
    pub fn fault_of_predecessor(&self, place: usize, message: impl Into<String>) -> Fault {
        let key = match place.checked_sub(self.after.len()) {
            None => format!("after[{place}]"),
            Some(place) => format!("requires[{place}]"),
        };
        let named = self.predecessors().nth(place);
        Fault {
            file: named.map_or_else(|| self.file.clone(), |one| one.file.clone()),
            position: named.map(|one| one.position),
            key,
            message: message.into(),
        }
    }
}

fn name_of(path: &Path) -> Result<WorkloadName, Faults> {
    let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    WorkloadName::new(stem).ok_or_else(|| {
        let message = format!("expected a file name of {}, then .toml", WorkloadName::EXPECTED);
        Fault::of_file(path.display().to_string(), message).into()
    })
}

/// Linux splits at white space outside double quotes and takes the quotes off. It takes bytes for Latin-1, where
/// the second half of an "à" is a space: all that is not plain ASCII goes into quotes.
fn quote_for_kernel(word: &str) -> String {
    let plain = !word.is_empty() && word.bytes().all(|b| b.is_ascii_graphic());
    if plain { word.to_owned() } else { format!("\"{word}\"") }
}
