//! Trials of the monitor with real guests: every device, every end, every request, on the board at hand.
//!
//! Duty: one function per trial, run one after the other; a line for each that says whether it held.
//! Invariant: a trial that fails does not keep the next from running.

pub(crate) mod client;
pub(crate) mod clones;
mod data;
mod ends;
mod groups;
mod life;
mod rates;
mod snapshots;
pub(crate) mod vm;

use std::fmt;
use std::io;
use std::process::ExitCode;
use std::time::Instant;

use crate::race::STARTS;

/// Why a trial did not hold.
#[derive(Debug)]
pub(crate) enum Failure {
    Wrong(String),
    /// What was waited for did not come.
    StoodStill(String),
}

impl Failure {
    fn host(what: &str, error: &io::Error) -> Self {
        Self::Wrong(format!("{what}: {error}"))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Wrong(text) | Self::StoodStill(text)) = self;
        f.write_str(text)
    }
}

type Trial = (&'static str, fn() -> Result<(), Failure>);

/// What makes time pass on the board.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Clock {
    /// The host's own: how long something takes says nothing.
    Wall,
    /// The number of instructions: rates can be looked at.
    Counted,
}

/// Which trials are run: those whose names contain a word of `filter`, or all where it has none; and of them not
/// those that contain a word with a dash before it. Commas are between words.
fn chosen(filter: &str, name: &str) -> bool {
    let words = || filter.split(',').filter(|word| !word.is_empty());
    let left_out = words().filter_map(|word| word.strip_prefix('-')).any(|word| name.contains(word));
    let mut wanted = words().filter(|word| !word.starts_with('-')).peekable();
    !left_out && (wanted.peek().is_none() || wanted.any(|word| name.contains(word)))
}

/// Runs the trials that `filter` leaves.
pub(crate) fn run(filter: &str, clock: Clock) -> ExitCode {
    let (mut held, mut failed) = (0, 0);
    let of_rates = if clock == Clock::Counted { rates::TRIALS } else { &[] };
    for (name, trial) in [
        ends::TRIALS,
        data::TRIALS,
        life::TRIALS,
        groups::TRIALS,
        snapshots::TRIALS,
        clones::TRIALS,
        of_rates,
    ]
    .into_iter()
    .flatten()
    {
        if !chosen(filter, name) {
            continue;
        }
        let began = Instant::now();
        // Guests of boards that count instructions stand still now and then (`race::entrant` says why).
        let mut again = if clock == Clock::Counted { STARTS - 1 } else { 0 };
        let mut outcome = trial();
        while let (Err(failure @ Failure::StoodStill(_)), 1..) = (&outcome, again) {
            println!("trial {name}: once more after: {failure}");
            again -= 1;
            outcome = trial();
        }
        match outcome {
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
        Err(Failure::Wrong(format!("{what}: found {found:?}, expected {expected:?}")))
    }
}

#[cfg(test)]
mod tests {
    use super::chosen;

    #[test]
    fn words_choose_and_words_with_a_dash_leave_out() {
        let left = |filter| ["disk", "disk_discard", "vsock"].map(|name| chosen(filter, name));
        assert_eq!(left(""), [true; 3]);
        assert_eq!(left("disk"), [true, true, false]);
        assert_eq!(left("vsock,discard"), [false, true, true]);
        assert_eq!(left("-disk"), [false, false, true]);
        assert_eq!(left("disk,-discard"), [true, false, false]);
    }
}
