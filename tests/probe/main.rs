//! `hearth-probe`: runs inside boards and inside their guests, for tests and benchmarks.
//!
//! | verb | where | what |
//! |---|---|---|
//! | `boot PLAN` | box | races monitors to a workload that is ready (`race`) |
//! | `vmm PLAN` | box | the same, then races them at work (`work`) |
//! | `try [FILTER]` | box | lets guests use every device of our monitor, and checks what came of it (`trials`) |
//! | `snapshots` | box | what snapshots, restores and clones cost (`snapshots`) |
//! | `hurt [FILTER]` | box | hurts the box beside whose daemon it runs, and watches it heal (`hurt`) |
//! | `care` | box | what the daemon beside it costs, and how quick it is (`hurt/care`) |
//! | `recover` | box | makes workloads of the box beside it fall ill again and again (`recovery`) |
//! | `day` | box | sends the load of a shop's day to the box beside it, and watches its replicas (`day`) |
//! | `plug LAST` | box | decides things until the plug is pulled, and knows them after that (`hurt/plug`) |
//! | `guest ...` | guest | the other half of all (`guest`) |
//!
//! Not here: what figures mean, tables, comparisons; `cargo xtask` makes them of the lines that this prints.
#![forbid(unsafe_code)]

mod day;
mod events;
mod family;
mod guest;
mod hurt;
mod patient;
mod pattern;
mod race;
mod recovery;
mod snapshots;
mod trials;
mod word;
mod work;

use std::process::ExitCode;

use trials::Clock;

const HELP: &str = "\
hearth-probe: runs inside a board and its guests; `cargo xtask bench` and `cargo xtask board try` start it

USAGE
    hearth-probe boot PLAN       Races the contenders of PLAN and prints a line for each run:
                                 run NAME ready_ns private_kib
    hearth-probe vmm PLAN        The same, and then the work race of the workers in PLAN:
                                 result NAME WORK operations bytes ns, memory NAME private_kib threads
    hearth-probe try [--counted] [FILTER]
                                 Runs the trials of the monitor whose names contain FILTER, or a word of
                                 it, with commas between; a dash before a word leaves them out. A line for
                                 each: trial NAME: held | trial NAME: FAILED: why
                                 --counted says that the board's clock counts instructions
    hearth-probe snapshots       Measures snapshots, restores and clones; a line for each figure:
                                 figure NAME VALUE
    hearth-probe hurt [FILTER]   Beside the daemon: hurts its box in every way that is known, or in those whose
                                 names contain a word of FILTER, with commas between. A line for each:
                                 fault NAME: healed in MS ms: how | fault NAME: FAILED: why
    hearth-probe care            Beside the daemon: measures what it costs; a line for each figure:
                                 figure NAME VALUE
    hearth-probe recover         Beside the daemon: makes its workloads fall ill, over and over, and times how they are
                                 healed. A line for each incident, times in milliseconds:
                                 incident FAULT cured UNTIL_NOTICED UNTIL_REPAIRED | incident FAULT escalated
    hearth-probe day             Beside the daemon: the load of a shop's day, with a fault in its midst. A line for
                                 each finding: day: WHAT: held: how | day: WHAT: FAILED: how
    hearth-probe plug LAST [finish]
                                 Beside the daemon: says whether the box knows decision LAST, and decides on until
                                 the plug is pulled; with finish, until the box is in full health
    hearth-probe guest VERB ...  What a guest does in a trial or a benchmark
";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["boot", plan] => match race::plan::read(plan.as_ref()).and_then(|plan| race::run(&plan)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => complain(&error.to_string(), 1),
        },
        ["vmm", plan] => match race::plan::read(plan.as_ref()) {
            Ok(plan) => all_races(&plan),
            Err(error) => complain(&error.to_string(), 1),
        },
        ["try"] => trials::run("", Clock::Wall),
        ["try", "--counted"] => trials::run("", Clock::Counted),
        ["try", "--counted", filter] => trials::run(filter, Clock::Counted),
        ["try", filter] => trials::run(filter, Clock::Wall),
        ["snapshots"] => match snapshots::run() {
            Ok(()) => ExitCode::SUCCESS,
            Err(failure) => complain(&failure.to_string(), 1),
        },
        ["hurt"] => hurt::run(""),
        ["hurt", filter] => hurt::run(filter),
        ["plug", last] => hurt::decide(last, false),
        ["plug", last, "finish"] => hurt::decide(last, true),
        ["care"] => hurt::measure(),
        ["recover"] => recovery::run(),
        ["day"] => day::run(),
        ["guest", words @ ..] => match guest::run(words) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => complain(&error.to_string(), 1),
        },
        ["-h" | "--help"] => {
            print!("{HELP}");
            ExitCode::SUCCESS
        }
        _ => complain(
            "expected `boot PLAN`, `vmm PLAN`, `try`, `snapshots`, `hurt`, `care`, `recover`, `day`, `plug LAST` or `guest VERB`",
            2,
        ),
    }
}

fn all_races(plan: &race::plan::Plan) -> ExitCode {
    if let Err(error) = race::run(plan) {
        return complain(&error.to_string(), 1);
    }
    match work::run(plan) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(&error.to_string(), 1),
    }
}

fn complain(message: &str, status: u8) -> ExitCode {
    eprintln!("hearth-probe: {message}");
    ExitCode::from(status)
}
