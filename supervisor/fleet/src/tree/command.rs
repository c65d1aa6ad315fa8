//! Commands: what there is, who may give them, and what one says.
//!
//! ```text
//! { "hearth": "command", "for": ["plant/box-7"], "op": "restart-workload", "id": "...", "issued": <ms since 1970>,
//!   "expires": <ms>?, "expected_version": <of the desired state>?, "workload": "web" }
//! ```
//!
//! Duty: from a verified document to an operation. Not here: carrying it out, what streams are (`stream`).
//! Invariant: what is not said right is not guessed.

use serde_json::{Value, json};

use super::Message;
use super::stream::{Stream, Subject};
use crate::sign::{Refusal, Role, Verified};

/// Characters of a command's name.
const MAX_ID: usize = 64;

/// Everything that a fleet may know of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Reboot,
    RestartWorkload,
    Rollback,
    Exec,
    Snapshot,
    FetchLogs,
    SetLogLevel,
    Update,
    Console,
    /// Ends one of those that take their time.
    Cancel,
    /// Other keys.
    Trust,
}

/// Whose signatures a command takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Needs {
    Role(Role),
    /// Whoever started something, in whichever role, may end it.
    Either,
    /// The workload says.
    Workload,
}

impl Kind {
    const ALL: [Kind; 11] = [
        Kind::Reboot,
        Kind::RestartWorkload,
        Kind::Rollback,
        Kind::Exec,
        Kind::Snapshot,
        Kind::FetchLogs,
        Kind::SetLogLevel,
        Kind::Update,
        Kind::Console,
        Kind::Cancel,
        Kind::Trust,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Kind::Reboot => "reboot",
            Kind::RestartWorkload => "restart-workload",
            Kind::Rollback => "rollback",
            Kind::Exec => "exec",
            Kind::Snapshot => "snapshot",
            Kind::FetchLogs => "fetch-logs",
            Kind::SetLogLevel => "set-log-level",
            Kind::Update => "update",
            Kind::Console => "console",
            Kind::Cancel => "cancel",
            Kind::Trust => "trust",
        }
    }

    pub fn of(name: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Who may ask for it. What is inside a guest, and what runs at all, is not everybody's daily work.
    pub(super) fn needs(self) -> Needs {
        match self {
            Kind::Exec | Kind::Console | Kind::FetchLogs => Needs::Workload,
            Kind::Cancel => Needs::Either,
            Kind::Update | Kind::Trust => Needs::Role(Role::Release),
            Kind::Reboot | Kind::RestartWorkload | Kind::Rollback | Kind::Snapshot | Kind::SetLogLevel => {
                Needs::Role(Role::Operate)
            }
        }
    }

    fn arguments(self) -> &'static [&'static str] {
        match self {
            Kind::Reboot | Kind::Trust | Kind::Update => &[],
            Kind::RestartWorkload | Kind::Rollback => &["workload"],
            Kind::Snapshot => &["workload", "name"],
            Kind::SetLogLevel => &["level"],
            Kind::Cancel => &["of"],
            Kind::Exec => &["workload", "command", "input", "max_kib", "timeout_s"],
            Kind::Console => &["workload", "follow_s", "max_kib"],
            Kind::FetchLogs => &["workload", "lines", "max_kib"],
        }
    }

    /// `workloads` are those that allow it, with the role that each of them names; an operation that none allows is
    /// none that the box has, and an empty payload takes back what was said of it.
    pub(super) fn capability(self, workloads: &[(&str, Role)]) -> Message {
        let mut payload = json!({ "version": 1, "arguments": self.arguments() });
        match self.needs() {
            Needs::Role(role) => payload["role"] = role.to_string().into(),
            Needs::Either => payload["role"] = "operate or release".into(),
            Needs::Workload => {
                let roles =
                    workloads.iter().map(|(name, role)| ((*name).to_owned(), role.to_string().into()));
                payload["workloads"] = Value::Object(roles.collect());
            }
        }
        let nobody = self.needs() == Needs::Workload && workloads.is_empty();
        let payload = if nobody { String::new() } else { payload.to_string() };
        Message { place: format!("cmd/{}", self.name()), payload }
    }
}

/// What the daemon can do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    Reboot,
    RestartWorkload {
        workload: String,
    },
    Rollback {
        workload: String,
    },
    /// Its name, or one that is made.
    Snapshot {
        workload: String,
        name: Option<String>,
    },
    SetLogLevel(LogLevel),
    /// Another command, by its ID.
    Cancel {
        of: String,
    },
    Stream(Box<Stream>),
}

/// What the daemon prints, and all that matters more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    Output,
    Info,
    Alarm,
}

/// What they are called, as in a box's own file.
const LEVELS: [(&str, LogLevel); 3] =
    [("output", LogLevel::Output), ("info", LogLevel::Info), ("alarm", LogLevel::Alarm)];

/// A command that somebody who may has given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Command {
    pub(super) issued: u64,
    pub(super) expires: Option<u64>,
    pub(super) expected_version: Option<u64>,
    pub(super) operation: Operation,
}

pub(super) fn is_id(text: &str) -> bool {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    (1..=MAX_ID).contains(&text.len()) && text.bytes().all(good)
}

impl Command {
    /// For the topic that it came on.
    pub(super) fn read(verified: &Verified, kind: Kind, id: &str) -> Result<Command, Refusal> {
        let malformed = |what: &str| Refusal::Malformed(what.to_owned());
        let text = |key: &str| verified.field(key).and_then(Value::as_str);
        let number = |key: &'static str| match verified.field(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => value
                .as_u64()
                .map(Some)
                .ok_or_else(|| Refusal::Malformed(format!("{key}: expected a number"))),
        };
        // A signature must not serve under another name.
        if text("op") != Some(kind.name()) || text("id") != Some(id) {
            return Err(malformed("op, id: expected those of its topic"));
        }
        let issued =
            number("issued")?.ok_or_else(|| malformed("issued: expected milliseconds since 1970"))?;
        let workload = || {
            let name = text("workload").filter(|name| is_id(name));
            name.map(str::to_owned).ok_or_else(|| malformed("workload: expected the name of one"))
        };
        let operation = match kind {
            Kind::Reboot => Operation::Reboot,
            Kind::RestartWorkload => Operation::RestartWorkload { workload: workload()? },
            Kind::Rollback => Operation::Rollback { workload: workload()? },
            Kind::Snapshot => {
                let name = match verified.field("name") {
                    None | Some(Value::Null) => None,
                    Some(name) => {
                        Some(name.as_str().filter(|name| is_id(name)).map(str::to_owned).ok_or_else(
                            || malformed("name: expected letters, digits, dots, dashes or underscores"),
                        )?)
                    }
                };
                Operation::Snapshot { workload: workload()?, name }
            }
            Kind::SetLogLevel => {
                let level = LEVELS.into_iter().find(|(name, _)| text("level") == Some(name));
                let level =
                    level.ok_or_else(|| malformed("level: expected \"output\", \"info\" or \"alarm\""))?;
                Operation::SetLogLevel(level.1)
            }
            Kind::Cancel => {
                let of = text("of").filter(|of| is_id(of));
                let of = of.ok_or_else(|| malformed("of: expected the ID of another command"))?;
                Operation::Cancel { of: of.to_owned() }
            }
            Kind::Exec => Operation::Stream(Box::new(Stream::read(verified, workload()?, Subject::exec)?)),
            Kind::Console => {
                Operation::Stream(Box::new(Stream::read(verified, workload()?, Subject::console)?))
            }
            Kind::FetchLogs => {
                Operation::Stream(Box::new(Stream::read(verified, workload()?, Subject::logs)?))
            }
            // There is nothing yet that could hold two versions of the box and choose between them.
            Kind::Update => return Err(malformed("update is not supported")),
            Kind::Trust => return Err(malformed("trust is another kind of document")),
        };
        Ok(Command {
            issued,
            expires: number("expires")?,
            expected_version: number("expected_version")?,
            operation,
        })
    }
}
