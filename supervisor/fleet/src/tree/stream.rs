//! Commands that take their time and give output: a program in a guest, its console, its log.
//!
//! ```text
//! cmd/exec/ID/out/0   bytes of the program's output, as they are
//! cmd/exec/ID/err/1   and of its errors; both have one number, so their order is known
//! cmd/exec/ID/end/2   { "chunks": 2, "bytes": ..., "dropped": ..., "exit": 0 }
//! cmd/exec/ID         { "state": "successful", and the same }
//! ```
//!
//! Duty: what may be asked for, its bounds, whose workloads allow it, the tally at the end. Not here: where output comes
//! from (the daemon).
//! Invariant: off unless a workload's own configuration names a role. All that is asked for is in what was signed, a
//! program's input included.

use std::ops::RangeInclusive;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::command::Kind;
use crate::sign::{Refusal, Role, Verified};

/// Words of a command.
const MAX_WORDS: usize = 256;
/// Bytes that a program is given to read. What is larger belongs into its image.
pub const MAX_INPUT: usize = 32 << 10;
/// KiB of output of one command: some minutes of a slow link.
const MAX_KIB: RangeInclusive<u64> = 1..=1024;
const DEFAULT_KIB: u64 = 256;
/// Seconds that a program may take, or a console is looked at.
const SECONDS: RangeInclusive<u64> = 1..=3600;
const DEFAULT_S: u64 = 60;
/// Lines of a log.
const LINES: RangeInclusive<u64> = 1..=100_000;
const DEFAULT_LINES: u64 = 100;

/// One of them, as it was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stream {
    /// A workload's name, or a replica's.
    pub target: String,
    pub subject: Subject,
    /// Bytes of output; what is beyond is dropped and counted.
    pub most_bytes: u64,
    /// The role in which it was asked for.
    pub role: Option<Role>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// Whose input is at its end behind `input`.
    Exec { command: Vec<String>, input: String, within: Duration },
    /// What is there, and what comes for so long.
    Console { follow: Duration },
    /// The last lines.
    Logs { lines: usize },
}

/// Who may ask a workload for what. `None`: nobody.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Remote {
    pub exec: Option<Role>,
    pub console: Option<Role>,
    pub fetch_logs: Option<Role>,
}

/// What became of the output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Numbered messages, the end's not among them.
    pub chunks: u32,
    /// Bytes in them.
    pub bytes: u64,
    /// Bytes that there was no room for.
    pub dropped: u64,
    /// Of a program that ran to its end, as a shell says it.
    pub exit: Option<u8>,
}

impl Stream {
    pub(super) fn read(
        verified: &Verified,
        target: String,
        subject: fn(&Verified) -> Result<Subject, Refusal>,
    ) -> Result<Stream, Refusal> {
        let most_bytes = number(verified, "max_kib", MAX_KIB, DEFAULT_KIB)? << 10;
        Ok(Stream { target, subject: subject(verified)?, most_bytes, role: None })
    }

    pub fn workload(&self) -> &str {
        self.target.split('.').next().unwrap_or_default()
    }

    pub fn kind(&self) -> Kind {
        match self.subject {
            Subject::Exec { .. } => Kind::Exec,
            Subject::Console { .. } => Kind::Console,
            Subject::Logs { .. } => Kind::FetchLogs,
        }
    }
}

impl Subject {
    pub(super) fn exec(verified: &Verified) -> Result<Subject, Refusal> {
        let expected = || Refusal::Malformed(format!("command: expected a list of 1 to {MAX_WORDS} words"));
        let words = verified.field("command").and_then(Value::as_array);
        let words = words.filter(|words| (1..=MAX_WORDS).contains(&words.len())).ok_or_else(expected)?;
        let word = |word: &Value| word.as_str().map(str::to_owned).ok_or_else(expected);
        let command = words.iter().map(word).collect::<Result<_, _>>()?;
        let input = match verified.field("input") {
            None | Some(Value::Null) => String::new(),
            Some(Value::String(input)) if input.len() <= MAX_INPUT => input.clone(),
            Some(_) => {
                return Err(Refusal::Malformed(format!(
                    "input: expected a text of at most {MAX_INPUT} bytes"
                )));
            }
        };
        let within = Duration::from_secs(number(verified, "timeout_s", SECONDS, DEFAULT_S)?);
        Ok(Subject::Exec { command, input, within })
    }

    pub(super) fn console(verified: &Verified) -> Result<Subject, Refusal> {
        Ok(Subject::Console {
            follow: Duration::from_secs(number(verified, "follow_s", 0..=*SECONDS.end(), 0)?),
        })
    }

    pub(super) fn logs(verified: &Verified) -> Result<Subject, Refusal> {
        let lines = number(verified, "lines", LINES, DEFAULT_LINES)?;
        Ok(Subject::Logs { lines: usize::try_from(lines).unwrap_or(usize::MAX) })
    }
}

fn number(verified: &Verified, key: &str, range: RangeInclusive<u64>, default: u64) -> Result<u64, Refusal> {
    match verified.field(key) {
        None | Some(Value::Null) => Ok(default),
        Some(value) => value.as_u64().filter(|number| range.contains(number)).ok_or_else(|| {
            Refusal::Malformed(format!("{key}: expected a number, {} to {}", range.start(), range.end()))
        }),
    }
}

impl Remote {
    pub fn role(&self, kind: Kind) -> Option<Role> {
        match kind {
            Kind::Exec => self.exec,
            Kind::Console => self.console,
            Kind::FetchLogs => self.fetch_logs,
            _ => None,
        }
    }

    /// The role of those who signed that may do it; or whose key would allow it.
    pub fn admit(&self, kind: Kind, workload: &str, signed: &[Role]) -> Result<Role, String> {
        let (name, key) = (kind.name(), kind.name().replace('-', "_"));
        match self.role(kind) {
            Some(role) if signed.contains(&role) => Ok(role),
            Some(role) => {
                Err(format!("{workload}: {name} takes signatures by keys of {role} (its remote.{key})"))
            }
            None => Err(format!(
                "{workload}: {name} is off; remote.{key} = \"operate\" or \"release\" in its configuration allows it"
            )),
        }
    }
}

impl Tally {
    pub fn to_json(&self) -> Map<String, Value> {
        let told = json!({ "chunks": self.chunks, "bytes": self.bytes, "dropped": self.dropped });
        let mut told = if let Value::Object(told) = told { told } else { Map::new() };
        if let Some(exit) = self.exit {
            told.insert("exit".to_owned(), exit.into());
        }
        told
    }
}
