//! `workloads/NAME.toml`: one workload of the box, read by `hearthd`.
//!
//! Duty: what to run, after what, with how much. Not here: whether the order has a cycle (`hearth-core`).
//! Invariant: a `command` survives the trip over the kernel command line word by word.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::fault::{Fault, Faults, Position};
use crate::guest;
use crate::reader::{self, Entry, Table};
use crate::vm::{self, Machine};

/// Bytes of a name: it is a folder, a prefix of log lines, later a topic level.
pub const MAX_NAME_BYTES: usize = 32;
/// Workloads on one box.
pub const MAX_WORKLOADS: usize = 64;
/// Words of a command: Linux gives its init at most 32 arguments, the program's own name included, and panics above.
pub const MAX_ARGUMENTS: usize = 31;
/// Bytes of a command: leaves room on the kernel command line for everything else.
pub const MAX_COMMAND_BYTES: usize = 1024;

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
    pub after: Vec<After>,
    pub resources: Machine,
    pub restart: RestartPolicy,
}

/// What it means that the workload ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Meant to run for ever.
    Service,
    /// Meant to end.
    Job,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestartPolicy {
    Always,
    OnFailure,
    Never,
}

/// A workload to wait for, and where that is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct After {
    pub name: WorkloadName,
    pub position: Position,
}

impl WorkloadConfig {
    /// The name is the file's, without `.toml`.
    pub fn load(path: &Path) -> Result<WorkloadConfig, Faults> {
        let name = name_of(path)?;
        let file = path.display().to_string();
        reader::load(path, |table| shape(table, name, file))
    }

    /// `file` as in "workloads/clock.toml".
    pub fn parse(file: &str, text: &str) -> Result<WorkloadConfig, Faults> {
        let name = name_of(Path::new(file))?;
        reader::parse(file, text, |table| shape(table, name, file.to_owned()))
    }

    /// Every `*.toml` of the folder, by name; the faults of all files together.
    pub fn load_all(folder: &Path) -> Result<Vec<WorkloadConfig>, Faults> {
        let cannot = |error: std::io::Error| {
            Fault::of_file(folder.display().to_string(), format!("cannot be read: {error}"))
        };
        let mut paths = Vec::new();
        for entry in folder.read_dir().map_err(cannot)? {
            let path = entry.map_err(cannot)?.path();
            if path.extension().is_some_and(|extension| extension == "toml") {
                paths.push(path);
            }
        }
        paths.sort();
        if paths.len() > MAX_WORKLOADS {
            let message = format!("expected at most {MAX_WORKLOADS} workloads, found {}", paths.len());
            return Err(Fault::of_file(folder.display().to_string(), message).into());
        }
        let mut workloads = Vec::new();
        let mut faults = Vec::new();
        for path in &paths {
            match WorkloadConfig::load(path) {
                Ok(workload) => workloads.push(workload),
                Err(more) => faults.extend(more.into_list()),
            }
        }
        Faults::from_list(faults).map_or(Ok(workloads), Err)
    }

    /// The image as a path, given the box's folder of images.
    pub fn image_in(&self, images: &Path) -> PathBuf {
        images.join(&self.image)
    }

    /// The command as the kernel command line carries it behind `--`; empty when there is none.
    pub fn command_line(&self) -> String {
        self.command.iter().map(|word| quote_for_kernel(word)).collect::<Vec<_>>().join(" ")
    }

    /// A fault at one of the places of `after`.
    pub fn fault_after(&self, index: usize, message: impl Into<String>) -> Fault {
        Fault {
            file: self.file.clone(),
            position: self.after.get(index).map(|after| after.position),
            key: format!("after[{index}]"),
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

fn shape(table: &mut Table<'_>, name: WorkloadName, file: String) -> WorkloadConfig {
    let kinds = [("service", Kind::Service), ("job", Kind::Job)];
    let kind = table.required("kind", "\"service\" or \"job\"").choice(&kinds).unwrap_or(Kind::Service);
    let image = table
        .required("image", "the name of a squashfs image")
        .text_as("the name of a squashfs image", |text| {
            (!text.is_empty() && !text.contains('\0')).then(|| text.into())
        });
    WorkloadConfig {
        file,
        kind,
        image: image.unwrap_or_default(),
        command: command(&table.entry("command")),
        after: after(&table.entry("after"), &name),
        resources: table.section("resources", |t| vm::machine(t, Machine::default())),
        restart: table.section("restart", |t| restart(t, kind)),
        name,
    }
}

fn restart(table: &mut Table<'_>, kind: Kind) -> RestartPolicy {
    let entry = table.entry("policy");
    let policies = [
        ("always", RestartPolicy::Always),
        ("on-failure", RestartPolicy::OnFailure),
        ("never", RestartPolicy::Never),
    ];
    let policy = entry.choice(&policies);
    match (kind, policy) {
        (Kind::Job, Some(RestartPolicy::Always)) => {
            entry.fault("expected \"on-failure\" or \"never\" for a job, found \"always\"");
            RestartPolicy::Never
        }
        (_, Some(policy)) => policy,
        (Kind::Service, None) => RestartPolicy::Always,
        (Kind::Job, None) => RestartPolicy::Never,
    }
}

fn after(entry: &Entry<'_>, own: &WorkloadName) -> Vec<After> {
    let mut list: Vec<After> = Vec::new();
    for item in entry.items("an array of workload names", MAX_WORKLOADS).unwrap_or_default() {
        let Some(name) =
            item.text_as(&format!("a workload's name, {}", WorkloadName::EXPECTED), WorkloadName::new)
        else {
            continue;
        };
        if name == *own {
            item.fault("expected another workload, found itself");
        } else if list.iter().any(|before| before.name == name) {
            item.fault(format!("expected each workload once, found \"{name}\" again"));
        }
        list.push(After { name, position: item.position() });
    }
    list
}

fn command(entry: &Entry<'_>) -> Vec<String> {
    let words = guest::command(entry, MAX_ARGUMENTS, |word| {
        // What the kernel's own splitting of its command line cannot carry.
        if word == "--" {
            Err(
                "expected no bare --, the kernel would cut the command there; put it into a script in the image",
            )
        } else if word.contains('"') || word.chars().any(char::is_control) {
            Err("expected no double quotes and control characters; put them into a script in the image")
        } else {
            Ok(())
        }
    });
    let bytes: usize = words.iter().map(|word| word.len() + 1).sum();
    if bytes > MAX_COMMAND_BYTES {
        entry.fault(format!(
            "expected at most {MAX_COMMAND_BYTES} bytes, found {bytes}; put it into a script in the image"
        ));
    }
    words
}

/// Linux splits at white space outside double quotes and takes the quotes off. It takes bytes for Latin-1, where
/// the second half of an "à" is a space: all that is not plain ASCII goes into quotes.
fn quote_for_kernel(word: &str) -> String {
    let plain = !word.is_empty() && word.bytes().all(|b| b.is_ascii_graphic());
    if plain { word.to_owned() } else { format!("\"{word}\"") }
}
