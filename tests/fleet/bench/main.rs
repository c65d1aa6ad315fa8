//! What being a member of a fleet costs, and what one broker stands.
//!
//! Duty: the figures that were promised, each beside what it is, whatever it says. Not here: whether the rules are kept
//! (`tests/conformance.rs`), though nobody may be out of order here either.

#![forbid(unsafe_code)]

mod crowd;
mod memory;
mod steady;

use std::process::ExitCode;

use hearth_fleet_tests::broker;

/// Boxes of the crowd, unless somebody wants fewer.
const BOXES: usize = 10_000;

fn main() -> ExitCode {
    let boxes = std::env::args().nth(1).and_then(|word| word.parse().ok()).unwrap_or(BOXES);
    let Some(program) = broker::program() else {
        eprintln!("hearth-fleet-bench: expected mosquitto on this machine");
        return ExitCode::FAILURE;
    };
    let measured = memory::measure(program)
        .and_then(|()| steady::measure(program))
        .and_then(|()| crowd::measure(program, boxes));
    match measured {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hearth-fleet-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

/// One line: what was promised, and what is.
fn line(what: &str, promised: &str, is: &str, kept: bool) {
    println!("{what:<56} {promised:>14} {is:>14}  {}", if kept { "kept" } else { "NOT KEPT" });
}

/// The second number of `/proc/PID/statm`, in KiB.
fn resident_kib(process: &str) -> usize {
    let statm = std::fs::read_to_string(format!("/proc/{process}/statm")).unwrap_or_default();
    // Pages of 4 KiB on every machine that this measures.
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).unwrap_or(0) * 4
}
