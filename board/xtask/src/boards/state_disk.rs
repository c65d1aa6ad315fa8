//! The disk that a board keeps its state on: its `/var`, over resets and power cuts.
//!
//! Duty: make the image file of an empty one. Not here: finding and mounting it (`board/init`).
//! Invariant: a file that is there is never touched.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use thiserror::Error;

use crate::command::CommandError;
use crate::workshop::Workshop;

/// What init knows it by.
pub(crate) const NAME: &str = "hearth-state";
/// Room for the store, the journals, the logs and some warm snapshots of a small box. The file is sparse.
const BYTES: u64 = 256 << 20;

#[derive(Debug, Error)]
pub(crate) enum StateDiskError {
    #[error("cannot {what} {}", path.display())]
    Io { what: &'static str, path: PathBuf, source: io::Error },
    #[error(transparent)]
    Format(#[from] CommandError),
}

/// Makes an empty one where there is no file yet.
pub(crate) fn provide(shop: &Workshop, path: &Path) -> Result<(), StateDiskError> {
    if path.exists() {
        return Ok(());
    }
    let failed = |what| move |source| StateDiskError::Io { what, path: path.to_owned(), source };
    // Under another name until it is one: an interruption leaves no file that looks like a disk.
    let unfinished = path.with_extension("unfinished");
    File::create(&unfinished).and_then(|file| file.set_len(BYTES)).map_err(failed("make"))?;
    // Of Debian's e2fsprogs, which is on every machine; not always in an ordinary user's search path.
    let mut format = Command::new("/sbin/mke2fs");
    format.args(["-q", "-F", "-t", "ext4", "-L", NAME]).arg(&unfinished);
    shop.job("a disk for the board's state", "mke2fs").run(format)?;
    fs::rename(&unfinished, path).map_err(failed("name"))
}
