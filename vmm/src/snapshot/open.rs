//! A snapshot's folder, checked.
//!
//! Duty: everything that can be found out without a machine: whether the files are whole, unaltered, of this program
//! and this architecture, and say the same. Not its duty: whether this host's processor and this configuration will do
//! (`machine/restored.rs`).

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use hearth_config::vm::{MEMORY_MIB, VCPUS};
use nix::fcntl::OFlag;

use super::copy::sum_of;
use super::folder::{CONFIG, MANIFEST, MEMORY, STATE};
use super::state::{self, Fault, MAX_BYTES, MachineState};
use super::{manifest, seal};
use crate::logger::chain;
use crate::memory;
use crate::places;

/// Bytes of a manifest, at most: sixteen disks take a quarter of it.
const MAX_MANIFEST: u64 = 16 << 10;

/// Why a snapshot is refused, and which of its files is at fault.
#[derive(Debug)]
pub struct Refusal {
    file: PathBuf,
    why: String,
}

impl Refusal {
    /// A fault of the file `name` in `folder`.
    pub fn new(folder: &Path, name: &str, why: impl Into<String>) -> Self {
        Self { file: folder.join(name), why: why.into() }
    }

    /// A fault of what `state` says.
    pub fn of_state(folder: &Path, why: impl Into<String>) -> Self {
        Self::new(folder, STATE, why)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.file.display(), self.why)
    }
}

impl std::error::Error for Refusal {}

/// A snapshot that is whole.
#[derive(Debug)]
pub struct Opened {
    /// Where it is.
    pub folder: PathBuf,
    /// All but memory.
    pub state: MachineState,
    /// Memory.
    pub memory: File,
}

/// Opens a regular file for reading: a pipe would keep the open waiting for its other end.
fn regular(folder: &Path, name: &str) -> Result<File, Refusal> {
    let refused = |error: io::Error| Refusal::new(folder, name, format!("cannot be read: {error}"));
    let opened = places::open(&folder.join(name), OFlag::O_RDONLY | OFlag::O_NONBLOCK);
    let file = opened.map_err(refused)?;
    if file.metadata().map_err(refused)?.is_file() {
        Ok(file)
    } else {
        Err(Refusal::new(folder, name, "not a regular file"))
    }
}

fn read(folder: &Path, name: &str, max: u64) -> Result<Vec<u8>, Refusal> {
    let mut content = Vec::new();
    let file = regular(folder, name)?;
    // One more, so that a file that is too long shows.
    file.take(max.saturating_add(1))
        .read_to_end(&mut content)
        .map_err(|error| Refusal::new(folder, name, format!("cannot be read: {error}")))?;
    Ok(content)
}

/// Opens and checks a snapshot. Memory is read whole unless its seal says that it was and is the same file since; with
/// `thorough` it is read whole in any case.
pub fn open(folder: &Path, thorough: bool) -> Result<Opened, Refusal> {
    let at_fault = |fault: Fault| Refusal::of_state(folder, fault.to_string());
    let state = state::decode(&read(folder, STATE, MAX_BYTES as u64)?).map_err(at_fault)?;
    check(&state).map_err(|why| Refusal::of_state(folder, why))?;
    if read(folder, MANIFEST, MAX_MANIFEST)? != manifest::text(&state.about).as_bytes() {
        return Err(Refusal::new(folder, MANIFEST, "does not say what `state` says: altered, or another's"));
    }
    let refused = |error: io::Error| Refusal::new(folder, MEMORY, format!("cannot be read: {error}"));
    let memory = regular(folder, MEMORY)?;
    let (expected, found) = (state.about.memory_bytes, memory.metadata().map_err(refused)?.len());
    if expected != found {
        let why = format!("has {found} bytes, expected {expected}: cut short or not all of it");
        return Err(Refusal::new(folder, MEMORY, why));
    }
    if thorough || !seal::holds(folder, &memory, state.about.memory_sum) {
        let of_full = || memory::data(&memory).map_err(refused);
        let runs = if state.about.base.is_some() { state.runs.clone() } else { of_full()? };
        if sum_of(&memory, &runs).map_err(refused)? != state.about.memory_sum {
            let why = "its checksum does not match: altered or damaged";
            return Err(Refusal::new(folder, MEMORY, why));
        }
        seal::write(folder, &memory, state.about.memory_sum);
    }
    Ok(Opened { folder: folder.to_owned(), state, memory })
}

/// What no part can say: counts and sizes that contradict each other.
fn check(state: &MachineState) -> Result<(), String> {
    let about = &state.about;
    if usize::from(about.vcpus) != state.vcpus.len() || !VCPUS.contains(&about.vcpus) {
        return Err(format!("says that it has {} vCPUs and has {}", about.vcpus, state.vcpus.len()));
    }
    let mib = u32::try_from(about.memory_bytes >> 20).unwrap_or(u32::MAX);
    if u64::from(mib) << 20 != about.memory_bytes || !MEMORY_MIB.contains(&mib) {
        return Err(format!("has {} bytes of memory, which no machine has", about.memory_bytes));
    }
    if about.base.is_none() && !state.runs.is_empty() {
        return Err("is full and lists pages that differ".into());
    }
    memory::check_runs(&state.runs, about.memory_bytes)
        .map_err(|_| "lists pages that its memory does not have".to_owned())
}

impl Opened {
    /// The file with what the machine ran with.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.folder.join(CONFIG)
    }

    /// The manifest.
    #[must_use]
    pub fn manifest(&self) -> String {
        manifest::text(&self.state.about)
    }

    /// A fault of what `state` says.
    pub fn refuse(&self, error: &(dyn std::error::Error + 'static)) -> Refusal {
        Refusal::of_state(&self.folder, chain(error))
    }
}
