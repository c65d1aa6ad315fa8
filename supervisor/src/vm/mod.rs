//! `hearthctl vm`: one monitor, asked directly on its control socket.
//!
//! | file | what |
//! |---|---|
//! | `client.rs` | the connection |
//! | `words.rs` | what the answers look like |
//!
//! Duty: the verbs. It works without a daemon, and beside one.

mod client;
mod words;

use std::error::Error;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::{Subcommand, ValueEnum};
use hearth_wire::control::{Answer, LogLevel, Order, Reply, SnapshotKind, SnapshotName};

pub use self::client::{Client, ClientError, Unknown};

const FAILED: u8 = 1;

/// What a person may want of a machine.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Tells whether the machine runs, and since when
    Status {
        /// One JSON object instead of text
        #[arg(long)]
        json: bool,
    },
    /// Halts the guest between two instructions. Returns when no vCPU runs and no disk works for it any more.
    /// Its clocks go on
    Pause,
    /// Lets a paused guest go on
    Resume,
    /// Stops the machine and returns when it has ended: the guest's agent is asked, then the power button is
    /// pressed, then the guest is ended, each after the time that [stop] in the machine's file says
    Stop {
        /// End the guest without asking it
        #[arg(long)]
        now: bool,
    },
    /// Presses the guest's power button and returns at once; what follows is up to the guest
    PowerButton,
    /// Asks the guest to give memory back, or tells what it has given
    Balloon {
        /// How much the guest is to give back in all, in MiB; without it, the balloon's statistics
        mib: Option<u32>,
    },
    /// Tells what vCPUs and devices did so far
    Statistics {
        /// One JSON object, zeroes included
        #[arg(long)]
        json: bool,
    },
    /// Writes the machine down into a folder of this name among its snapshots ([snapshot] in the machine's file), and
    /// returns when all of it is on stable storage. A machine that runs stands still while its memory is copied; one
    /// that is paused stays so. `hearth-vmm restore` goes on from it
    Snapshot {
        /// 1 to 32 letters, digits, dots, dashes and underscores
        #[arg(value_parser = name)]
        name: SnapshotName,
        /// Only what changed since the full snapshot that the machine's memory is mapped from
        #[arg(long)]
        difference: bool,
    },
    /// Prints what happens to the machine, one line each, until it ends
    Events,
    /// Sets how much the monitor tells on its standard error
    LogLevel { level: Level },
}

/// How much a monitor tells.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Level {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl Verb {
    const fn order(&self) -> Order {
        match self {
            Self::Status { .. } => Order::Status,
            Self::Pause => Order::Pause,
            Self::Resume => Order::Resume,
            Self::Stop { now } => Order::Stop { now: *now },
            Self::PowerButton => Order::PowerButton,
            Self::Balloon { mib: Some(mib) } => Order::BalloonTarget { mib: *mib },
            Self::Balloon { mib: None } => Order::BalloonStatistics,
            Self::Statistics { .. } => Order::Statistics,
            Self::Snapshot { name, difference } => Order::Snapshot {
                name: *name,
                kind: if *difference { SnapshotKind::Difference } else { SnapshotKind::Full },
            },
            Self::Events => Order::Subscribe,
            Self::LogLevel { level } => Order::SetLogLevel(match level {
                Level::Error => LogLevel::Error,
                Level::Warn => LogLevel::Warn,
                Level::Info => LogLevel::Info,
                Level::Debug => LogLevel::Debug,
                Level::Trace => LogLevel::Trace,
            }),
        }
    }

    const fn json(&self) -> bool {
        matches!(self, Self::Status { json: true } | Self::Statistics { json: true })
    }
}

fn name(text: &str) -> Result<SnapshotName, String> {
    let max = SnapshotName::MAX;
    SnapshotName::new(text).ok_or_else(|| {
        format!("expected 1 to {max} letters, digits, dots, dashes or underscores, no dot first")
    })
}

/// How a request went on.
enum Turn {
    /// More answers follow.
    More,
    /// It is done; the program ends with this.
    Last(u8),
}

/// Does what `verb` says with the monitor at `socket`.
#[must_use]
pub fn run(socket: &Path, verb: &Verb) -> ExitCode {
    let outcome = Client::connect(socket).and_then(|client| talk(client, verb));
    ExitCode::from(outcome.unwrap_or_else(|error| {
        let mut line = format!("hearthctl: {error}");
        let mut cause = error.source();
        while let Some(error) = cause {
            line = format!("{line}: {error}");
            cause = error.source();
        }
        eprintln!("{line}");
        FAILED
    }))
}

fn talk(mut client: Client, verb: &Verb) -> Result<u8, ClientError> {
    let wanted = client.ask(verb.order())?;
    let mut parts = Vec::new();
    loop {
        let turn = client.next(|reply| match reply {
            // Among events it is one; elsewhere it may be the answer, and nothing else would come.
            Err(Unknown) if matches!(verb, Verb::Events) => {
                if say("something that this hearthctl does not know") { Turn::More } else { Turn::Last(0) }
            }
            Err(Unknown) => {
                eprintln!("hearthctl: the monitor said something that this hearthctl does not know");
                Turn::Last(FAILED)
            }
            Ok(Reply::Event(event)) => {
                let ended = matches!(event, hearth_wire::control::Event::Ended(_));
                let heard = say(&words::event(&event));
                if ended || !heard { Turn::Last(0) } else { Turn::More }
            }
            // Number 0 is for the whole connection: all places are taken.
            Ok(Reply::Answer { id, answer }) if id == wanted || id == 0 => take(verb, answer, &mut parts),
            Ok(Reply::Answer { .. }) => Turn::More,
        })?;
        if let Turn::Last(status) = turn {
            return Ok(status);
        }
    }
}

fn take(verb: &Verb, answer: Answer<'_>, parts: &mut Vec<String>) -> Turn {
    match answer {
        Answer::Done if matches!(verb, Verb::Events) => return Turn::More,
        Answer::Done => {}
        Answer::Refused { text, .. } => {
            eprintln!("hearthctl: the monitor refused: {text}");
            return Turn::Last(FAILED);
        }
        Answer::Status(status) if verb.json() => drop(say(&words::status_json(&status))),
        Answer::Status(status) => drop(say(&words::status(&status))),
        Answer::Ended(end) => drop(say(&words::ending(end))),
        Answer::Figures { of, figures, more } => {
            if verb.json() {
                parts.push(words::figures_json(of, &figures));
            } else {
                say(&words::figures(of, &figures));
            }
            if more {
                return Turn::More;
            }
            if verb.json() {
                say(&format!("{{{}}}", parts.join(",")));
            }
        }
    }
    Turn::Last(0)
}

/// One line, at once. Says whether somebody still reads.
fn say(line: &str) -> bool {
    let mut out = io::stdout();
    writeln!(out, "{line}").and_then(|()| out.flush()).is_ok()
}
