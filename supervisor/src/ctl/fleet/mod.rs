//! `hearthctl fleet`: many boxes, over any broker.
//!
//! | file | what |
//! |---|---|
//! | `keys.rs` | keys, signatures, envelopes |
//! | `broker.rs` | the way to the broker |
//! | `look.rs` | boxes, and what they want and have |
//! | `push.rs` | a desired state, in waves |
//! | `run.rs` | one command on many |
//! | `streams.rs` | commands with output: programs, consoles, logs |
//! | `pieces.rs` | that output, put together |
//! | `prefix.rs` | and on one screen |
//! | `tail.rs` | what they say, as it comes |
//!
//! Duty: arguments into documents and messages, answers into tables. Not here: what boxes do with them (`hearth-fleet`).
//! Invariant: it keeps nothing. What is wanted is in files of the person's and at the broker, and nothing goes out that was
//! not signed here or before.

mod broker;
mod keys;
mod look;
mod pieces;
mod prefix;
mod push;
mod run;
mod streams;
mod tail;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;
use hearth_fleet::shell::VisitorError;
use thiserror::Error;

use self::broker::Way;
use crate::wording::one_line;

const FAILED: u8 = 1;
const USAGE: u8 = 2;
const UNREACHABLE: u8 = 3;
const NOT_GOOD: u8 = 5;

#[derive(Debug, Subcommand)]
pub enum FleetVerb {
    /// Makes a key: NAME.key, which stays here, and NAME.pub, which boxes are told of
    Keygen {
        /// Such as "operate" or "release"; files of minisign's
        name: PathBuf,
        /// The secret key is not encrypted: whoever can read its file can sign
        #[arg(long)]
        no_password: bool,
    },
    /// Signs a file: FILE.minisig lies beside it then, as minisign would make it
    Sign {
        /// A secret key of keygen's or minisign's
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
        file: PathBuf,
    },
    /// Prints a document with its signatures as boxes want it, for mosquitto_pub or files of one's own
    Seal {
        file: PathBuf,
        /// By default FILE.minisig
        signatures: Vec<PathBuf>,
    },
    /// Tells how the boxes of a group stand, and where what they have is not what is wanted
    #[command(after_help = look::HELP)]
    List(look::ListArgs),
    /// Publishes a desired state, in waves: the next one goes when the one before has converged
    ///
    /// The document is {"hearth": "desired", "for": [...], "version": N, "workloads": {...}}, with workloads as in their
    /// files. It is signed here with --key, or was before (FILE.minisig).
    #[command(visible_alias = "send")]
    Push {
        #[command(flatten)]
        way: Way,
        file: PathBuf,
        #[arg(long, value_name = "FILE")]
        key: Vec<PathBuf>,
        /// Only to these boxes; by default to all of the group that ever reported
        #[arg(long = "to", value_name = "NODE")]
        to: Vec<String>,
        /// Percent of the boxes that each wave reaches
        #[arg(long, value_delimiter = ',', default_values_t = [10, 100], value_name = "P,...")]
        waves: Vec<u8>,
        /// Percent of a wave that may fail or be late, and the next one goes all the same
        #[arg(long, default_value_t = 0, value_name = "P")]
        forgive: u8,
        /// Seconds for a wave
        #[arg(long, default_value_t = 300, value_name = "S")]
        wait: u64,
    },
    /// Runs an operation on boxes, and waits for what becomes of it
    #[command(after_help = run::HELP)]
    Run(run::RunArgs),
    /// Runs a program in a workload of boxes, and prints what it says
    #[command(after_help = streams::EXEC_HELP)]
    Exec(streams::ExecArgs),
    /// Prints what guests of a workload show on their consoles
    #[command(after_help = streams::CONSOLE_HELP)]
    Console(streams::ConsoleArgs),
    /// Prints the last lines of a workload's log
    #[command(after_help = streams::LOGS_HELP)]
    Logs(streams::LogsArgs),
    /// Prints telemetry, reports and answers of boxes as they come
    #[command(after_help = tail::HELP)]
    Tail(tail::TailArgs),
}

#[derive(Debug, Error)]
enum FleetError {
    #[error(transparent)]
    Keys(#[from] keys::KeysError),
    #[error(transparent)]
    Way(#[from] broker::WayError),
    #[error("{0}")]
    Usage(String),
    #[error(transparent)]
    Visitor(#[from] VisitorError),
}

impl FleetError {
    fn status(&self) -> u8 {
        match self {
            FleetError::Usage(_) | FleetError::Way(_) => USAGE,
            FleetError::Visitor(_) => UNREACHABLE,
            FleetError::Keys(_) => FAILED,
        }
    }
}

/// A box commands nobody's terminal.
fn harmless(text: &str) -> String {
    text.chars().filter(|one| !one.is_control()).collect()
}

pub fn run(verb: &FleetVerb, json: bool) -> ExitCode {
    let done = match verb {
        FleetVerb::Keygen { name, no_password } => keys::keygen(name, *no_password).map_err(FleetError::from),
        FleetVerb::Sign { key, file } => keys::sign_file(key, file).map_err(FleetError::from),
        FleetVerb::Seal { file, signatures } => keys::seal_file(file, signatures).map_err(FleetError::from),
        FleetVerb::List(args) => look::list(args, json),
        FleetVerb::Push { way, file, key, to, waves, forgive, wait } => {
            let plan = push::Plan { waves: waves.clone(), forgive: *forgive, wait: *wait };
            push::push(way, file, key, to, &plan)
        }
        FleetVerb::Run(args) => run::run(args, json),
        FleetVerb::Exec(args) => streams::exec(args, json),
        FleetVerb::Console(args) => streams::console(args, json),
        FleetVerb::Logs(args) => streams::logs(args, json),
        FleetVerb::Tail(args) => tail::tail(args, json),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            eprintln!("hearthctl: {}", one_line(&error));
            ExitCode::from(error.status())
        }
    }
}
