//! A snapshot's folder being filled: by this process, or in a jail by the porter, file by file.
//!
//! Duty: the same few steps either way. Not here: what the files hold (`take.rs`).

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use hearth_config::vm::VmConfig;

use super::folder::{Existing, FILES, Unfinished};
use crate::jail::outside;

#[derive(Debug)]
pub(super) enum Filling {
    Here(Unfinished),
    /// With the files that were made, to be synced here: the porter waits for no storage that it can help.
    Outside {
        draft: outside::Draft,
        place: PathBuf,
        files: Vec<File>,
    },
}

impl Filling {
    pub(super) fn begin(parent: &Path, name: &str, existing: Existing) -> io::Result<Self> {
        match outside::Draft::begin(name, existing == Existing::Replaced) {
            Some(draft) => Ok(Self::Outside { draft: draft?, place: parent.join(name), files: Vec::new() }),
            None => Unfinished::begin(parent, name, existing).map(Self::Here),
        }
    }

    /// A new file, one of [`FILES`].
    pub(super) fn file(&mut self, name: &str) -> io::Result<File> {
        match self {
            Self::Here(folder) => folder.file(name),
            Self::Outside { draft, files, .. } => {
                let number = FILES.iter().position(|file| *file == name).and_then(|at| u8::try_from(at).ok());
                let file = draft.file(number.ok_or(io::ErrorKind::InvalidInput)?)?;
                files.push(file.try_clone()?);
                Ok(file)
            }
        }
    }

    /// The file for memory, for reading.
    pub(super) fn memory_for_reading(&self) -> io::Result<File> {
        match self {
            Self::Here(folder) => folder.memory_for_reading(),
            Self::Outside { draft, .. } => draft.memory_for_reading(),
        }
    }

    /// Says what it is of. In a jail the porter has done so.
    pub(super) fn describe(&mut self, config: &VmConfig, key: Option<&str>) -> io::Result<()> {
        match self {
            Self::Here(folder) => folder.describe(config, key),
            Self::Outside { .. } => Ok(()),
        }
    }

    /// A new file with this content.
    pub(super) fn write(&mut self, name: &str, content: &[u8]) -> io::Result<()> {
        self.file(name)?.write_all(content)
    }

    /// Makes it durable, gives it its name and seals it for `memory`. Where it is then.
    pub(super) fn finish(self, memory: &File, sum: u64) -> io::Result<PathBuf> {
        match self {
            Self::Here(folder) => folder.finish_sealed(Some(memory), sum),
            Self::Outside { draft, place, files } => {
                files.iter().try_for_each(File::sync_all)?;
                draft.finish(sum)?;
                Ok(place)
            }
        }
    }
}
