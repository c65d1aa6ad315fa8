//! `ctl`: the person's tool, asked of the box that `up` runs in another terminal.
//!
//! Duty: find the box and the program. Not here: the way to a board (`boards/door`), what is asked (`hearthctl`).
//! Invariant: from the moment that `hearthctl` starts, terminal, signals and exit status are its own.

use std::{
    ffi::OsString,
    fs, io,
    os::unix::{net::UnixStream, process::CommandExt},
    path::PathBuf,
    process::Command,
};

use thiserror::Error;

use super::up;
use crate::{arch::Arch, boards::image, cache::CacheError, programs::ProgramsError, workshop::Workshop};

/// How `hearthctl` learns which daemon is meant.
const SOCKET_VARIABLE: &str = "HEARTH_SOCKET";
/// And which broker, if the box has one.
const BROKER_VARIABLE: &str = "HEARTH_BROKER";

#[derive(Debug, Error)]
pub(crate) enum CtlError {
    #[error("no box runs that 'cargo xtask up' started: please start one in another terminal")]
    NoBox,
    #[error(transparent)]
    Cache(#[from] CacheError),
    #[error(transparent)]
    Programs(#[from] ProgramsError),
    #[error("cannot start {}", path.display())]
    Start { path: PathBuf, source: io::Error },
}

/// What asks no daemon: help, and words that are about files or brokers.
fn needs_no_box(words: &[OsString]) -> bool {
    let is = |word: &OsString, known: &[&str]| known.iter().any(|known| word == known);
    // What stands behind two dashes is somebody else's.
    let words: Vec<_> = words.iter().take_while(|word| *word != "--").collect();
    words.iter().any(|word| is(word, &["--help", "-h", "--version", "-V"]))
        || words
            .iter()
            .find(|word| !word.as_encoded_bytes().starts_with(b"-"))
            .is_some_and(|verb| is(verb, &["check", "replay", "vm", "fleet", "doctor", "help"]))
}

/// Returns only if it cannot be done.
pub(crate) fn run(shop: &Workshop, words: &[OsString]) -> Result<std::convert::Infallible, CtlError> {
    let (door, own) = up::places(shop)?;
    let socket = [door.socket(), own].into_iter().find(|socket| UnixStream::connect(socket).is_ok());
    if socket.is_none() && !needs_no_box(words) {
        return Err(CtlError::NoBox);
    }
    let path = match door.program().filter(|_| socket.is_some()) {
        Some(program) => program,
        // A board of the other architecture has none that runs here.
        None => image::programs(shop, Arch::HOST)?.path("hearthctl"),
    };
    let mut command = Command::new(&path);
    command.args(words).envs(socket.map(|socket| (SOCKET_VARIABLE, socket)));
    if let Ok(broker) = fs::read_to_string(up::broker_note(shop)?) {
        command.env(BROKER_VARIABLE, broker);
    }
    let source = command.exec();
    Err(CtlError::Start { path, source })
}
