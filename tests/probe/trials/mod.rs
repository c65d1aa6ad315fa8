//! Trials of the monitor with real guests: every device, every end, every request, on the board at hand.
//!
//! Duty: one function per trial, run one after the other; a line for each that says whether it held.
//! Invariant: a trial that fails does not keep the next from running.

mod data;
mod ends;
mod vm;

use std::fmt;
use std::io;
use std::process::ExitCode;
use std::time::Instant;

/// Why a trial did not hold.
#[derive(Debug)]
pub(crate) struct Failure(String);

impl Failure {
    fn host(what: &str, error: &io::Error) -> Self {
        Self(format!("{what}: {error}"))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

type Trial = (&'static str, fn() -> Result<(), Failure>);

/// Runs the trials whose names contain `filter`.
pub(crate) fn run(filter: &str) -> ExitCode {
    let (mut held, mut failed) = (0, 0);
    for (name, trial) in [ends::TRIALS, data::TRIALS].into_iter().flatten() {
        if !name.contains(filter) {
            continue;
        }
        let began = Instant::now();
        match trial() {
            Ok(()) => {
                held += 1;
                println!("trial {name}: held after {} ms", began.elapsed().as_millis());
            }
            Err(failure) => {
                failed += 1;
                println!("trial {name}: FAILED: {failure}");
            }
        }
    }
    println!("trials: {held} held, {failed} failed");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What should be the same.
fn same<T: PartialEq + fmt::Debug>(what: &str, found: &T, expected: &T) -> Result<(), Failure> {
    if found == expected {
        Ok(())
    } else {
        Err(Failure(format!("{what}: found {found:?}, expected {expected:?}")))
    }
}
