//! `hearth-sim`: simulated hours from seeds, in figures.
//!
//! Duty: the command line around [`hearth_sim::run`]. Not here: the world.

#![forbid(unsafe_code)]

use std::process::ExitCode;
use std::time::Instant;

use hearth_sim::{Found, Stats, run};

const HELP: &str = "\
hearth-sim: the supervisor's core in a world that goes wrong, under virtual time

USAGE
    hearth-sim [--seeds N] [--hours H] [--from SEED]
    hearth-sim --seed SEED [--hours H]

OPTIONS
    --seeds N     How many seeds; default: 200
    --from SEED   The first of them; default: 0
    --seed SEED   This one alone, and what led to the trouble if there is one
    --hours H     Simulated hours for each seed; default: 10
";

struct Wanted {
    from: u64,
    seeds: u64,
    hours: u64,
}

fn main() -> ExitCode {
    match wanted() {
        Ok(Some(wanted)) => campaign(&wanted),
        Ok(None) => {
            print!("{HELP}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("hearth-sim: {error}; see hearth-sim --help");
            ExitCode::from(2)
        }
    }
}

fn wanted() -> Result<Option<Wanted>, lexopt::Error> {
    use lexopt::prelude::*;
    let mut wanted = Wanted { from: 0, seeds: 200, hours: 10 };
    let mut parser = lexopt::Parser::from_env();
    while let Some(arg) = parser.next()? {
        match arg {
            Long("seeds") => wanted.seeds = parser.value()?.parse()?,
            Long("from") => wanted.from = parser.value()?.parse()?,
            Long("hours") => wanted.hours = parser.value()?.parse()?,
            Long("seed") => (wanted.from, wanted.seeds) = (parser.value()?.parse()?, 1),
            Short('h') | Long("help") => return Ok(None),
            other => return Err(other.unexpected()),
        }
    }
    Ok(Some(wanted))
}

fn campaign(wanted: &Wanted) -> ExitCode {
    let began = Instant::now();
    let mut all = Stats::default();
    for seed in wanted.from..wanted.from + wanted.seeds {
        match run(seed, wanted.hours) {
            Ok(stats) => all.add(&stats),
            Err(found) => {
                tell(&found);
                return ExitCode::FAILURE;
            }
        }
    }
    for (name, figure) in all.figures() {
        println!("{figure:>12} {name}");
    }
    let hours = wanted.seeds * wanted.hours;
    let minutes = began.elapsed().as_secs_f64() / 60.0;
    #[expect(clippy::cast_precision_loss, reason = "hours are far below 2^52")]
    let rate = hours as f64 / minutes;
    println!("sim: {hours} simulated hours of {} seeds hold; {rate:.0} hours per minute", wanted.seeds);
    ExitCode::SUCCESS
}

fn tell(found: &Found) {
    for line in &found.trace {
        eprintln!("{line}");
    }
    eprintln!("hearth-sim: {found}");
}
