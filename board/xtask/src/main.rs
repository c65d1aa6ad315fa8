//! `cargo xtask`: one program for everything that is done with this project.
//!
//! Duty: read the command line, run the verb, turn its end into a line and an exit status.
//! Not here: the work. Invariant: every failure ends in one chain of reasons on stderr, never in a backtrace.

#![forbid(unsafe_code)]

use std::{error::Error, process::ExitCode};

use clap::Parser;

mod arch;
mod bench;
mod boards;
mod cache;
mod cli;
mod command;
mod debian;
mod digest;
mod kernel;
mod programs;
mod progress;
mod verbs;
mod workshop;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    match verbs::run(&cli.verb) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {}", chain(&error));
            ExitCode::FAILURE
        }
    }
}

/// An error with all its causes, outermost first.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use thiserror::Error;

    #[derive(Debug, Error)]
    #[error("cannot enter")]
    struct Outer(#[source] Middle);

    #[derive(Debug, Error)]
    #[error("the door is locked")]
    struct Middle(#[source] Inner);

    #[derive(Debug, Error)]
    #[error("the key is lost")]
    struct Inner;

    #[test]
    fn a_chain_of_causes_is_one_line() {
        assert_eq!(chain(&Outer(Middle(Inner))), "cannot enter: the door is locked: the key is lost");
    }
}
