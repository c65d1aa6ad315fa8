//! The standard streams of a machine's process.
//!
//! Duty: what the configuration does not use leads nowhere; what it does is for writing only, where that can be had.
//! Not here: how they are written to (`stdio.rs`), and a terminal's settings (`keyboard.rs`).
//!
//! A shell gives a terminal to all three, each for both directions: whoever holds one of them could read what a person
//! types there next, long after the guest was to have a console.

use std::fs::OpenOptions;
use std::io;

use hearth_config::vm::{Input, Output, VmConfig};
use nix::unistd::{dup2_stderr, dup2_stdin, dup2_stdout};

use crate::stdio::{Stream, Way};

/// Takes away what a machine of `config` has no use for; `speaks` is one whose program prints at its end.
pub(super) fn narrow(config: &VmConfig, speaks: bool) -> io::Result<()> {
    let console = config.console.as_ref();
    let typed = [Some(config.serial.input), console.map(|console| console.input)];
    let printed = [config.serial.output.as_ref(), console.map(|console| &console.output)];
    let nowhere = OpenOptions::new().read(true).write(true).open("/dev/null")?;
    if !typed.contains(&Some(Input::Stdin)) {
        dup2_stdin(&nowhere)?;
    }
    if speaks || printed.contains(&Some(&Output::Stdout)) {
        if let Some(stream) = for_writing(io::stdout()) {
            dup2_stdout(stream.file())?;
        }
    } else {
        dup2_stdout(&nowhere)?;
    }
    if let Some(stream) = for_writing(io::stderr()) {
        dup2_stderr(stream.file())?;
    }
    Ok(())
}

/// The stream opened anew, if it is one that can be.
fn for_writing(stream: impl std::os::fd::AsFd) -> Option<Stream> {
    Stream::of(stream).ok().filter(|stream| stream.way() == Way::Flag)
}
