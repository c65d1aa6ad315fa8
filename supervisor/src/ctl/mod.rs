//! The verbs of `hearthctl` that ask a running `hearthd`.
//!
//! | file | what |
//! |---|---|
//! | `status.rs` | the box as a table |
//! | `explain.rs` | one workload in full |
//! | `forecast/` | the past and the next of a workload, as text, plot and picture |
//! | `top.rs` | the box as it changes |
//! | `console.rs` | what a guest shows on its console |
//! | `fleet/` | many boxes, over a broker |
//! | `exec/` | a program in a guest, with the person's terminal |
//! | `text.rs` | tables and times |
//!
//! Duty: arguments into requests, answers into text or JSON, and an exit status. Not here: the API itself (`api`).
//! Invariant: what goes to standard output is the answer and nothing else; with `--json` it is what the API said.

mod console;
mod exec;
mod explain;
pub mod fleet;
mod forecast;
mod status;
mod text;
mod top;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use thiserror::Error;

use self::console::Harmless;
use self::exec::{Exec, ExecError};
use self::forecast::Forecast;
use self::top::TopError;
use crate::api::client::{Address, Client, ClientError, read};
use crate::api::types::{
    BoxStatus, Demand, EventLine, Explained, LogLine, Scale, Served, SnapshotTaken, SnapshotWanted,
    WorkloadStatus,
};
use crate::wall;
use crate::wording::one_line;

/// Where the socket is if nobody says otherwise: the default state folder's.
const DEFAULT_SOCKET: &str = "/run/hearth/api.sock";
/// Says otherwise for all calls.
const SOCKET_VARIABLE: &str = "HEARTH_SOCKET";

/// What `--help` says of them.
pub const EXIT_STATUS: &str = "\
Exit status:
  0  done
  1  it failed, or hearthd refused it
  2  wrong usage, or a fault in a configuration file
  3  hearthd, or for fleet the broker, cannot be reached
  4  there is no such workload
  5  asked with --check: not all is as it should be
exec has statuses of its own: see hearthctl exec --help";

/// A little longer than the daemon waits for a monitor.
const SNAPSHOT_PATIENCE: Duration = Duration::from_secs(130);

const FAILED: u8 = 1;
const USAGE: u8 = 2;
const UNREACHABLE: u8 = 3;
const NO_SUCH_WORKLOAD: u8 = 4;
const NOT_GOOD: u8 = 5;

#[derive(Clone, Debug, Args)]
pub struct Door {
    /// hearthd's socket; by default $HEARTH_SOCKET, or else /run/hearth/api.sock
    // An id of its own: `vm` has a socket, too.
    #[arg(id = "door", long = "socket", global = true, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Where else hearthd answers, such as http://127.0.0.1:9180: what [api] in its hearth.toml says
    #[arg(long, global = true, value_name = "URL", conflicts_with = "door", requires = "token_file")]
    connect: Option<String>,
    /// The file with the token that it wants there
    #[arg(long, global = true, value_name = "PATH", requires = "connect")]
    token_file: Option<PathBuf>,
    /// What the API answers, as it is, instead of text
    #[arg(long, global = true)]
    json: bool,
}

impl Door {
    fn address(&self) -> Result<Address, DoorError> {
        if let (Some(url), Some(file)) = (&self.connect, &self.token_file) {
            return tcp_address(url, file);
        }
        let said = self.socket.clone().or_else(|| std::env::var_os(SOCKET_VARIABLE).map(PathBuf::from));
        Ok(Address::Socket(said.unwrap_or_else(|| DEFAULT_SOCKET.into())))
    }

    pub fn json(&self) -> bool {
        self.json
    }
}

#[derive(Debug, Error)]
enum DoorError {
    #[error("--connect: expected http://HOST:PORT, found {0}")]
    Url(String),
    #[error("--token-file: {}", .0.display())]
    File(PathBuf, #[source] io::Error),
    #[error("--token-file: {}: expected a token of printable characters", .0.display())]
    Token(PathBuf),
}

fn tcp_address(url: &str, file: &Path) -> Result<Address, DoorError> {
    let authority = url.strip_prefix("http://").map(|rest| rest.trim_end_matches('/'));
    let is_good = |authority: &&str| {
        let port = authority.rsplit_once(':').map(|(_, port)| port.parse::<u16>());
        matches!(port, Some(Ok(_))) && authority.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/')
    };
    let Some(authority) = authority.filter(is_good) else { return Err(DoorError::Url(url.to_owned())) };
    let text = std::fs::read_to_string(file).map_err(|error| DoorError::File(file.to_owned(), error))?;
    let token = text.trim();
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(DoorError::Token(file.to_owned()));
    }
    Ok(Address::Tcp { authority: authority.to_owned(), token: token.to_owned() })
}

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Tells how the box and its workloads stand
    Status {
        /// Only this workload
        workload: Option<String>,
        /// End with status 5 unless all is as it should be
        #[arg(long)]
        check: bool,
    },
    /// Shows the box as it changes, until q is pressed
    Top,
    /// Tells why a workload is in the state that it is in: what is wanted, probes, faults, last moves, what comes next
    Explain { workload: String },
    /// Shows what the box foresees of a workload, or without one of itself: the last hours and the next, bounds, reasons
    Forecast(Forecast),
    /// Prints what hearthd announced, and with -f what it announces
    Events {
        /// Go on with what happens next
        #[arg(short, long)]
        follow: bool,
        /// Only events with a higher number than this
        #[arg(long, default_value_t = 0)]
        after: u64,
    },
    /// Prints what a workload said last, and with -f what it says
    Logs {
        workload: String,
        /// Go on with what is said next
        #[arg(short, long)]
        follow: bool,
        /// How many lines from the end
        #[arg(short = 'n', long, default_value_t = 100)]
        lines: usize,
    },
    /// Prints what a guest shows on its console: what it showed lately, and on
    ///
    /// That is the guest's kernel and its agent; what its workload says goes another way: see logs. What would command
    /// a terminal is shown instead of done.
    Console {
        /// A workload, or one of its replicas: NAME.NUMBER
        workload: String,
        /// Only what was shown so far
        #[arg(long)]
        once: bool,
        /// As it is, for a program that knows what to do with it
        #[arg(long)]
        raw: bool,
    },
    /// Writes down a running machine, and tells where
    ///
    /// The guest stands still while its memory is copied. hearth-vmm restore goes on from it. Whoever takes snapshots
    /// removes them: they lie in the daemon's state folder, and are gone after a reboot where that is in memory.
    Snapshot {
        /// A workload, or one of its replicas: NAME.NUMBER
        workload: String,
        /// 1 to 32 letters, digits, dots, dashes or underscores; by default the time
        name: Option<String>,
    },
    /// Runs a program in a workload's guest, with a terminal if -it says so
    #[command(long_about = exec::HELP)]
    Exec(Exec),
    /// Gives a workload new machines, one replica after the other
    Restart { workload: String },
    /// Ends a workload's machines as a crash would, to see it heal
    Kill { workload: String },
    /// Stops a workload until somebody starts it, even over reboots
    Stop { workload: String },
    /// Lifts a stop
    Start { workload: String },
    /// Runs another number of replicas than the workload's file says
    ///
    /// Of a function it is how many are asked for, as with call; "file" is none.
    Scale {
        workload: String,
        /// A number, or "file" for what the file says
        #[arg(value_parser = replicas)]
        replicas: Replicas,
    },
    /// Asks for replicas of a function: they start now, and stop some time after fewer are asked for
    Call {
        workload: String,
        /// How many are to run
        #[arg(default_value_t = 1, value_parser = clap::value_parser!(u16).range(0..=i64::from(hearth_core::MAX_REPLICAS)))]
        replicas: u16,
    },
    /// Tells of requests that somebody passed on to a workload, by which [scale] in its file goes
    ///
    /// To be told at least twice a minute, none as well: otherwise requests are unknown, and nothing is advised.
    Served {
        workload: String,
        /// Since the last time
        requests: u32,
        /// Milliseconds of work in all of them
        #[arg(long, default_value_t = 0)]
        busy_ms: u64,
        /// Those that wait for a replica now
        #[arg(long, default_value_t = 0)]
        waiting: u32,
        /// Of the requests, those that went wrong; only along with the replica that served them
        #[arg(long, default_value_t = 0)]
        errors: u32,
        /// The replica that served them, such as web or web.1: while a new version takes over, it is judged by that
        #[arg(long, value_name = "NAME")]
        replica: Option<String>,
    },
    /// Lifts a quarantine, and lets a rejected version try again
    Retry { workload: String },
    /// Agrees to what the box proposes to heal a workload, where its file wants somebody asked ([heal] automatic)
    Heal { workload: String },
    /// Follows or takes back a workload's new version
    Rollout {
        #[command(subcommand)]
        verb: RolloutVerb,
    },
    /// Does something to the box as a whole
    Box {
        #[command(subcommand)]
        verb: BoxVerb,
    },
}

#[derive(Clone, Copy, Debug, Subcommand)]
pub enum BoxVerb {
    /// Starts workloads although the last boots failed
    LeaveSafeMode,
    /// Has hearthd begin again in place, with the program that lies there by now; no workload is touched
    BeginAgain,
    /// Stops all workloads in order and boots the box again
    Reboot,
}

impl BoxVerb {
    const fn path(self) -> &'static str {
        match self {
            BoxVerb::LeaveSafeMode => "/v1/leave-safe-mode",
            BoxVerb::BeginAgain => "/v1/begin-again",
            BoxVerb::Reboot => "/v1/reboot",
        }
    }
}

#[derive(Debug, Subcommand)]
pub enum RolloutVerb {
    /// Tells which versions there are and how far the new one got
    Status { workload: String },
    /// Goes back to the last good version
    Undo { workload: String },
}

/// How many; none is: what the file says.
#[derive(Clone, Copy, Debug)]
pub struct Replicas(Option<u16>);

fn replicas(text: &str) -> Result<Replicas, String> {
    if text == "file" {
        return Ok(Replicas(None));
    }
    let expected = |_| format!("expected a number from 0 to {} or \"file\"", hearth_core::MAX_REPLICAS);
    text.parse().map(|number| Replicas(Some(number))).map_err(expected)
}

#[must_use]
pub fn run(door: &Door, verb: &Verb) -> ExitCode {
    let address = match door.address() {
        Ok(address) => address,
        Err(error) => {
            eprintln!("hearthctl: {}", one_line(&error));
            return ExitCode::from(USAGE);
        }
    };
    match verb {
        Verb::Top => return look_on(&address),
        Verb::Exec(exec) => return run_there(&address, door.json, exec),
        _ => {}
    }
    let done = carry_out(door, &address, verb);
    ExitCode::from(done.unwrap_or_else(|error| {
        eprintln!("hearthctl: {}", one_line(&error));
        match error {
            ClientError::Unreachable(..) => UNREACHABLE,
            ClientError::Refused(refused) if refused.error == "no-such-workload" => NO_SUCH_WORKLOAD,
            _ => FAILED,
        }
    }))
}

/// It says itself how it ended.
fn run_there(address: &Address, json: bool, exec: &Exec) -> ExitCode {
    let status = exec::run(address, json, exec).unwrap_or_else(|error| {
        eprintln!("hearthctl: {}", one_line(&error));
        match error {
            ExecError::Json | ExecError::NoTerminal => USAGE,
            _ => exec::NOT_RUN,
        }
    });
    ExitCode::from(status)
}

fn look_on(address: &Address) -> ExitCode {
    let Err(error) = top::run(address) else { return ExitCode::SUCCESS };
    eprintln!("hearthctl: {}", one_line(&error));
    ExitCode::from(match error {
        TopError::Client(ClientError::Unreachable(..)) => UNREACHABLE,
        TopError::NoTerminal => USAGE,
        _ => FAILED,
    })
}

fn carry_out(door: &Door, address: &Address, verb: &Verb) -> Result<u8, ClientError> {
    let mut client = Client::reach(address)?;
    match verb {
        // They have connections of their own.
        Verb::Top | Verb::Exec(_) => {}
        Verb::Status { workload: None, check } => {
            let body = client.get("/v1/status")?;
            let status: BoxStatus = read(&body)?;
            print(door, &body, || status::of_box(&status));
            return Ok(if *check && status.ready < status.of { NOT_GOOD } else { 0 });
        }
        Verb::Status { workload: Some(name), check } => {
            let body = client.get(&path(name, ""))?;
            let explained: Explained = read(&body)?;
            let own = serde_json::to_vec(&explained.status)?;
            print(door, &own, || status::of_workload(&explained.status, explained.now_ms));
            return Ok(if *check && !explained.status.good { NOT_GOOD } else { 0 });
        }
        Verb::Explain { workload } => {
            let body = client.get(&path(workload, ""))?;
            let explained: Explained = read(&body)?;
            // A daemon that foresees nothing explains as well.
            let foreseen = Client::reach(address)?.get(&path(workload, "/forecast"));
            let foreseen = foreseen.and_then(|body| read(&body)).map(|view| forecast::lines(&view));
            print(door, &body, || explain::of(&explained) + &foreseen.unwrap_or_default());
        }
        Verb::Forecast(asked) => return forecast::run(door, &mut client, asked),
        Verb::Rollout { verb: RolloutVerb::Status { workload } } => {
            let body = client.get(&path(workload, ""))?;
            let explained: Explained = read(&body)?;
            print(door, &body, || explain::of_rollout(&explained));
        }
        Verb::Events { follow, after } => {
            let path = format!("/v1/events?after={after}&follow={follow}");
            client.lines(&path, |line| {
                let text = if door.json { line.to_owned() } else { event(line) };
                say(&format!("{text}\n"))
            })?;
        }
        Verb::Box { verb } => {
            let body = client.post(verb.path(), b"")?;
            let status: BoxStatus = read(&body)?;
            print(door, &body, || status::of_box(&status));
        }
        Verb::Logs { workload, follow, lines } => {
            let path = path(workload, &format!("/logs?lines={lines}&follow={follow}"));
            client.lines(&path, |line| {
                let text = if door.json { line.to_owned() } else { log_line(line) };
                say(&format!("{text}\n"))
            })?;
        }
        Verb::Call { workload, replicas } => {
            let body = serde_json::to_vec(&Demand { replicas: *replicas })?;
            ask(door, client, workload, "/demand", &body)?;
        }
        Verb::Served { workload, requests, busy_ms, waiting, errors, replica } => {
            let served = Served {
                requests: *requests,
                busy_ms: *busy_ms,
                waiting: *waiting,
                errors: *errors,
                replica: replica.clone(),
            };
            ask(door, client, workload, "/served", &serde_json::to_vec(&served)?)?;
        }
        Verb::Console { workload, once, raw } => {
            let path = path(workload, &format!("/console?follow={}", !once));
            let mut harmless = Harmless::default();
            client.pieces(&path, |piece| if *raw { say_bytes(piece) } else { say(&harmless.text(piece)) })?;
        }
        Verb::Snapshot { workload, name } => {
            let body = serde_json::to_vec(&SnapshotWanted { name: name.clone() })?;
            let body = client.post_patiently(&path(workload, "/snapshot"), &body, SNAPSHOT_PATIENCE)?;
            let taken: SnapshotTaken = read(&body)?;
            print(door, &body, || {
                let kib = taken.bytes.div_ceil(1024);
                format!(
                    "{}: {}, {}.{} MiB\n",
                    taken.replica,
                    taken.folder,
                    kib / 1024,
                    kib % 1024 * 10 / 1024
                )
            });
        }
        Verb::Restart { workload } => ask(door, client, workload, "/restart", b"")?,
        Verb::Kill { workload } => ask(door, client, workload, "/kill", b"")?,
        Verb::Stop { workload } => ask(door, client, workload, "/stop", b"")?,
        Verb::Start { workload } => ask(door, client, workload, "/start", b"")?,
        Verb::Heal { workload } => ask(door, client, workload, "/heal", b"")?,
        Verb::Retry { workload } => ask(door, client, workload, "/retry", b"")?,
        Verb::Rollout { verb: RolloutVerb::Undo { workload } } => ask(door, client, workload, "/undo", b"")?,
        Verb::Scale { workload, replicas: Replicas(replicas) } => {
            let body = serde_json::to_vec(&Scale { replicas: *replicas })?;
            ask(door, client, workload, "/scale", &body)?;
        }
    }
    Ok(0)
}

/// A name that a path cannot hold is nobody's.
fn path(workload: &str, deed: &str) -> String {
    let plain = workload.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte));
    let name = if plain && !workload.is_empty() { workload } else { "%3F" };
    format!("/v1/workloads/{name}{deed}")
}

fn ask(door: &Door, mut client: Client, workload: &str, deed: &str, body: &[u8]) -> Result<(), ClientError> {
    let body = client.post(&path(workload, deed), body)?;
    let status: WorkloadStatus = read(&body)?;
    print(door, &body, || {
        format!(
            "{}: {}, {} of {} ready\n",
            status.name, status.state, status.replicas_ready, status.replicas_wanted
        )
    });
    Ok(())
}

fn event(line: &str) -> String {
    match serde_json::from_str(line) {
        Ok(EventLine::Told(told)) => {
            format!("{} {:>5} {}", wall::stamp(told.unix_ms), told.number, told.text)
        }
        Ok(EventLine::Lost { lost }) => format!("({lost} events before this are not remembered any more)"),
        // A newer daemon's.
        Err(_) => line.to_owned(),
    }
}

fn log_line(line: &str) -> String {
    match serde_json::from_str(line) {
        Ok(LogLine { time: Some(time), replica: Some(replica), text }) => format!("{time} {replica} {text}"),
        Ok(LogLine { text, .. }) => text,
        Err(_) => line.to_owned(),
    }
}

fn print(door: &Door, body: &[u8], text: impl FnOnce() -> String) {
    if door.json {
        say(&format!("{}\n", String::from_utf8_lossy(body)));
    } else {
        say(&text());
    }
}

/// Says whether somebody still reads.
fn say(text: &str) -> bool {
    say_bytes(text.as_bytes())
}

fn say_bytes(bytes: &[u8]) -> bool {
    let mut out = io::stdout();
    out.write_all(bytes).and_then(|()| out.flush()).is_ok()
}
