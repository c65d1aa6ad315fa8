//! A snapshot, from the rest of its machine to the name of its folder.
//!
//! ```text
//!   machine rests ── copy_in_pause ──▶ Draft ── finish (anywhere, the machine may run) ──▶ NAME/
//! ```
//!
//! Duty: which pages of RAM a snapshot needs, and what goes into which file. Not its duty: bringing a machine to rest,
//! and asking its parts ([`MachineState`] comes whole).
//!
//! Invariant: what takes as long as storage likes, making files durable and summing them up, is in `finish` and not in
//! the pause; and so is copying what no guest can change, pages that are as they are in the file they were mapped from.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use hearth_config::vm::VmConfig;
use hearth_wire::control::SnapshotKind;
use vm_memory::{GuestMemoryBackend, GuestMemoryRegion};

use super::anchored::anchored;
use super::copy::{Zeroes, copy, copy_backed, sum_of};
use super::filling::Filling;
use super::folder::{self, Existing};
use super::state::{Id, MAX_RUNS, MachineState};
use super::{manifest, state};
use crate::arch::SavedError;
use crate::memory::{self, Backed, Content, GuestRam, Run};

/// Why there is no snapshot.
#[derive(Debug, thiserror::Error)]
pub enum TakeError {
    /// A name that is in use.
    #[error("expected a new name, `{0}` is taken")]
    Taken(String),
    /// A difference to nothing.
    #[error("memory is mapped from no snapshot that there could be a difference to")]
    NoBase,
    /// vCPUs or interrupt controllers.
    #[error("the machine's state cannot be read")]
    State(#[from] SavedError),
    /// The configuration cannot be written down.
    #[error(transparent)]
    Config(#[from] hearth_config::vm::WriteError),
    /// Files of the snapshot.
    #[error("{}: cannot be written", path.display())]
    Files {
        /// The snapshots' folder.
        path: PathBuf,
        /// What the host said.
        source: io::Error,
    },
    /// A disk that was to be told from others.
    #[error("disk `{id}` cannot be read")]
    Disk {
        /// What the configuration calls it.
        id: String,
        /// What the host said.
        source: io::Error,
    },
    /// Random numbers for its name.
    #[error("the host has no random numbers")]
    Random(#[source] io::Error),
}

/// What is wanted.
#[derive(Debug)]
pub struct Wish<'a> {
    /// The folder of all snapshots.
    pub folder: &'a Path,
    /// The name of this one.
    pub name: &'a str,
    /// All of memory, or what differs.
    pub kind: SnapshotKind,
    /// What the machine runs with.
    pub config: &'a VmConfig,
    /// What its memory is mapped from.
    pub base: Option<&'a Base>,
    /// What of its memory was mapped from files.
    pub backed: &'a [Backed],
    /// What becomes of one that has the name.
    pub existing: Existing,
    /// What it was made of, if it is a template.
    pub key: Option<&'a str>,
}

/// The file that all of a machine's RAM is mapped from.
#[derive(Debug)]
pub struct Base {
    /// The memory of a full snapshot.
    pub file: File,
    /// Its name; none where that snapshot did not come about.
    pub id: Option<Id>,
}

/// A snapshot that needs the machine no more, and has no name yet.
#[derive(Debug)]
pub struct Draft {
    folder: Filling,
    parent: PathBuf,
    memory: File,
    runs: Vec<Run>,
    /// What is still to be copied.
    later: Vec<Backed>,
    state: MachineState,
}

/// Copies what a snapshot needs of a machine that rests.
pub fn copy_in_pause(wish: &Wish<'_>, ram: &GuestRam, mut state: MachineState) -> Result<Draft, TakeError> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::AlreadyExists => TakeError::Taken(wish.name.to_owned()),
        _ => TakeError::Files { path: wish.folder.to_owned(), source },
    };
    // What cannot be written down is refused before there is a folder.
    anchored(wish.config).to_toml()?;
    let base = match (wish.kind, wish.base.and_then(|base| base.id)) {
        (SnapshotKind::Full, _) => None,
        (SnapshotKind::Difference, None) => return Err(TakeError::NoBase),
        (SnapshotKind::Difference, id) => id,
    };
    let mut folder = Filling::begin(wish.folder, wish.name, wish.existing).map_err(failed)?;
    folder.describe(wish.config, wish.key).map_err(failed)?;
    let memory = folder.file(folder::MEMORY).map_err(failed)?;
    let bytes = ram.iter().map(GuestMemoryRegion::len).sum();
    memory.set_len(bytes).map_err(failed)?;
    let (runs, later) = match base {
        None => {
            let Content { now, later } = memory::content(ram, wish.backed).map_err(failed)?;
            copy(ram, &now, &memory, Zeroes::LeftOut).map_err(failed)?;
            (now, later)
        }
        Some(_) => {
            let runs = memory::coarsened(memory::written(ram).map_err(failed)?, MAX_RUNS);
            copy(ram, &runs, &memory, Zeroes::Written).map_err(failed)?;
            (runs, Vec::new())
        }
    };
    state.about.base = base;
    state.about.memory_bytes = bytes;
    state.runs = if base.is_some() { runs.clone() } else { Vec::new() };
    Ok(Draft { folder, parent: wish.folder.to_owned(), memory, runs, later, state })
}

impl Draft {
    /// The file that holds the machine's memory, for reading.
    pub fn memory_for_reading(&self) -> io::Result<File> {
        self.folder.memory_for_reading()
    }

    /// Its name among all snapshots.
    #[must_use]
    pub const fn id(&self) -> Id {
        self.state.about.id
    }

    /// Copies what need not be copied while the machine rests.
    pub fn complete(&mut self) -> Result<(), TakeError> {
        let failed = |source| TakeError::Files { path: self.parent.clone(), source };
        self.later.drain(..).try_for_each(|part| copy_backed(&part, &self.memory)).map_err(failed)
    }

    /// Makes it durable and gives it its name. Takes as long as storage does.
    pub fn finish(mut self) -> Result<PathBuf, TakeError> {
        self.complete()?;
        let Self { mut folder, parent, memory, runs, mut state, .. } = self;
        let failed = |source| TakeError::Files { path: parent.clone(), source };
        // Of a full one, all that is no hole.
        let runs = if state.about.base.is_some() { runs } else { memory::data(&memory).map_err(failed)? };
        state.about.memory_sum = sum_of(&memory, &runs).map_err(failed)?;
        folder.write(folder::STATE, &state::encode(&state)).map_err(failed)?;
        folder.write(folder::MANIFEST, manifest::text(&state.about).as_bytes()).map_err(failed)?;
        folder.finish(&memory, state.about.memory_sum).map_err(failed)
    }
}
