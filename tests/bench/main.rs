//! `hearth-bench`: the stopwatch that runs inside a board, and the workload that it waits for.
//!
//! Duty: start each contender with the same kernel and initramfs, take the time from before its start to the
//! guest's READY on the serial console, look at its memory, end it, and print one line for each run.
//! Not here: what the figures mean, tables, comparisons; `cargo xtask bench` makes them of the lines.
//!
//! Invariant: contenders take turns, so that a drift of the board's speed meets all of them alike.
#![forbid(unsafe_code)]

mod memory;
mod plan;
mod race;

use std::io::Write;
use std::process::ExitCode;

/// What the guest prints when its workload runs.
const READY: &str = "READY";

const HELP: &str = "\
hearth-bench: runs inside a board; `cargo xtask bench` starts it

USAGE
    hearth-bench boot PLAN   Races the contenders of PLAN and prints a line for each run:
                             run NAME ready_ns private_kib
    hearth-bench ready       The guest's workload: prints READY and stays
";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["boot", plan] => match plan::read(plan.as_ref()).and_then(|plan| race::run(&plan)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => complain(&error.to_string(), 1),
        },
        ["ready"] => ready(),
        ["-h" | "--help"] => {
            print!("{HELP}");
            ExitCode::SUCCESS
        }
        _ => complain("expected `boot PLAN` or `ready`", 2),
    }
}

fn ready() -> ExitCode {
    let mut out = std::io::stdout();
    if let Err(error) = writeln!(out, "{READY}").and_then(|()| out.flush()) {
        return complain(&error.to_string(), 1);
    }
    loop {
        std::thread::park();
    }
}

fn complain(message: &str, status: u8) -> ExitCode {
    eprintln!("hearth-bench: {message}");
    ExitCode::from(status)
}
