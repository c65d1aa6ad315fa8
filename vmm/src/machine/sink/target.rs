//! Where a guest's output ends up.
//!
//! Invariant: a file never holds more than [`FILE_BYTES`], and with the one before it twice that: a guest that
//! prints for ever costs the host's disk no more.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use hearth_config::vm::Output as Destination;
use nix::fcntl::OFlag;

use crate::jail::{Printer, outside};
use crate::listener::folder_takes;
use crate::places::{self, Place};
use crate::stdio::Stream;

/// Bytes of an output file. It becomes `<path>.1` then, in place of an older one: months of an ordinary guest,
/// and too little to fill the flash of a gateway.
pub(super) const FILE_BYTES: u64 = 16 << 20;
/// A named pipe without a reader is an error then, not a wait.
const FLAGS: OFlag = OFlag::O_WRONLY.union(OFlag::O_APPEND).union(OFlag::O_NONBLOCK).union(OFlag::O_NOCTTY);

#[derive(Debug)]
pub(super) enum Target {
    /// Everything is swallowed.
    Nowhere,
    /// A pipe, a terminal, a device, or what the shell gave as standard output: not ours to cut.
    Stream(Stream),
    /// A file by its path.
    File(BoundedFile),
}

impl Target {
    pub(super) fn open(printer: Printer, destination: &Destination) -> io::Result<Self> {
        match destination {
            Destination::Null => Ok(Self::Nowhere),
            Destination::Stdout => Stream::of(io::stdout()).map(Self::Stream),
            Destination::File(path) => {
                let file = open(path)?;
                let found = file.metadata()?;
                Ok(if found.is_file() {
                    Self::File(BoundedFile::new(file, path, printer, found.len(), FILE_BYTES))
                } else {
                    Self::Stream(Stream::unblocked(file))
                })
            }
        }
    }

    /// Whether the destination could be opened, as far as that can be told without making it.
    pub(super) fn examine(destination: &Destination) -> io::Result<()> {
        let Destination::File(path) = destination else { return Ok(()) };
        match places::open(path, FLAGS) {
            Err(error) if error.kind() == ErrorKind::NotFound => folder_takes(path),
            other => other.map(drop),
        }
    }

    /// What can be waited for.
    pub(super) const fn file(&self) -> Option<&File> {
        match self {
            Self::Stream(stream) => Some(stream.file()),
            // A file always has room, and epoll does not take it.
            Self::Nowhere | Self::File(_) => None,
        }
    }

    /// Whether a chunk can be written without waiting for longer than `wait` first.
    pub(super) fn has_room(&self, wait: Duration) -> bool {
        match self {
            Self::Stream(stream) => stream.has_room(wait),
            Self::Nowhere | Self::File(_) => true,
        }
    }

    /// Writes what fits, perhaps nothing.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Nowhere => Ok(bytes.len()),
            Self::Stream(stream) => stream.write(bytes),
            Self::File(file) => match file.write(bytes) {
                Ok(0) => Err(ErrorKind::WriteZero.into()),
                Err(error) if error.kind() == ErrorKind::Interrupted => Ok(0),
                other => other,
            },
        }
    }
}

/// A file that starts anew when it is full.
#[derive(Debug)]
pub(super) struct BoundedFile {
    file: File,
    /// As it is configured.
    path: PathBuf,
    printer: Printer,
    bytes: u64,
    max: u64,
}

impl BoundedFile {
    pub(super) fn new(file: File, path: &Path, printer: Printer, bytes: u64, max: u64) -> Self {
        Self { file, path: path.to_owned(), printer, bytes, max }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.saturating_add(bytes.len() as u64) > self.max {
            self.start_anew()?;
        }
        let written = self.file.write(bytes)?;
        self.bytes = self.bytes.saturating_add(written as u64);
        Ok(written)
    }

    /// Keeps the full file beside the new one. Where the folder does not take a second file, or no longer has
    /// the first, the bound is worth more than what was printed.
    fn start_anew(&mut self) -> io::Result<()> {
        match outside::put_aside(self.printer, || put_aside(&self.path)) {
            Ok(file) => self.file = file,
            Err(_) => self.file.set_len(0)?,
        }
        self.bytes = 0;
        Ok(())
    }
}

/// Renames the file to `<path>.1` and opens a new one in its place. What is there already goes only if it can be an
/// older one of these: a file, and no longer than they get.
pub(crate) fn put_aside(path: &Path) -> io::Result<File> {
    let place = Place::of(path)?;
    let old = place.beside(".1");
    match fs::symlink_metadata(&old) {
        Ok(found) if !found.is_file() || found.len() > FILE_BYTES => {
            return Err(ErrorKind::AlreadyExists.into());
        }
        _ => {}
    }
    fs::rename(place.path(), &old)?;
    // Whatever somebody puts there meanwhile is not ours to print into.
    place.open(&place.path(), FLAGS | OFlag::O_CREAT | OFlag::O_EXCL)
}

fn open(path: &Path) -> io::Result<File> {
    places::open(path, FLAGS | OFlag::O_CREAT)
}
