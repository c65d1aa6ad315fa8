//! A difference and the full snapshot that it is one to, as one full snapshot.
//!
//! Duty: a new folder; both others stay as they are. Invariant: both are read whole before, so nothing damaged is
//! merged.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;

use super::folder::{self, Existing, Unfinished};
use super::state::{self, Id, MachineState};
use super::{Opened, Refusal, copy, manifest, open, seal};
use crate::memory::{self, Run};
use crate::places;

/// Bytes that are copied at once.
const PIECE: usize = 1 << 20;

/// Why two snapshots were not merged.
#[derive(Debug, thiserror::Error)]
pub enum MergeError {
    /// One of them is at fault.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// They do not belong together.
    #[error("{}: {why}", folder.display())]
    Unrelated {
        /// The difference.
        folder: PathBuf,
        /// What it should be.
        why: String,
    },
    /// The new one cannot be written.
    #[error("{}: cannot be written", path.display())]
    Files {
        /// Where it should be.
        path: PathBuf,
        /// What the host said.
        source: io::Error,
    },
}

/// Writes what `difference` makes of `base` to the new folder `out`.
pub fn merge(base: &Path, difference: &Path, out: &Path) -> Result<(), MergeError> {
    let (base, difference) = (open(base, true)?, open(difference, true)?);
    let unrelated = |why| MergeError::Unrelated { folder: difference.folder.clone(), why };
    let (whole, part) = (&base.state.about, &difference.state.about);
    match part.base {
        None => return Err(unrelated("is a full snapshot, expected a difference".into())),
        Some(_) if whole.base.is_some() => {
            return Err(MergeError::Unrelated {
                folder: base.folder.clone(),
                why: "is a difference, expected a full snapshot".into(),
            });
        }
        Some(id) if id != whole.id => {
            return Err(unrelated(format!("is a difference to {id}, expected one to {}", whole.id)));
        }
        Some(_) if whole.memory_bytes != part.memory_bytes => {
            return Err(unrelated("has another size of memory than its base".into()));
        }
        Some(_) => {}
    }
    write(&base, &difference, out).map_err(|source| MergeError::Files { path: out.to_owned(), source })
}

fn write(base: &Opened, difference: &Opened, out: &Path) -> io::Result<()> {
    let name = out.file_name().and_then(|name| name.to_str()).ok_or(io::ErrorKind::InvalidInput)?;
    let parent = out.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut folder = Unfinished::begin(parent, name, Existing::Kept)?;
    let memory = folder.file(folder::MEMORY)?;
    memory.set_len(base.state.about.memory_bytes)?;
    copy_runs(&base.memory, &memory::data(&base.memory)?, &memory)?;
    copy_runs(&difference.memory, &difference.state.runs, &memory)?;
    let mut state = MachineState { runs: Vec::new(), ..difference.state.clone() };
    state.about.base = None;
    state.about.id = Id::draw()?;
    state.about.memory_sum = copy::sum_of(&memory, &memory::data(&memory)?)?;
    folder.write(folder::STATE, &state::encode(&state))?;
    folder.write(folder::MANIFEST, manifest::text(&state.about).as_bytes())?;
    folder.write(
        folder::CONFIG,
        io::read_to_string(places::open(&difference.config(), OFlag::O_RDONLY)?)?.as_bytes(),
    )?;
    let place = folder.finish()?;
    seal::write(&place, &memory, state.about.memory_sum);
    Ok(())
}

fn copy_runs(from: &File, runs: &[Run], to: &File) -> io::Result<()> {
    let mut buffer = vec![0; PIECE];
    for run in runs {
        let mut at = run.offset;
        while at < run.end() {
            let bytes = usize::try_from(run.end() - at).unwrap_or(PIECE).min(PIECE);
            let piece = buffer.get_mut(..bytes).unwrap_or_default();
            from.read_exact_at(piece, at)?;
            to.write_all_at(piece, at)?;
            at += bytes as u64;
        }
    }
    Ok(())
}
