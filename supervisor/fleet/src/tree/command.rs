//! Commands: what there is, who may give them, and what one says.
//!
//! ```text
//! { "hearth": "command", "for": ["plant/box-7"], "op": "restart-workload", "id": "...", "issued": <ms since 1970>,
//!   "expires": <ms>?, "expected_version": <of the desired state>?, "workload": "web" }
//! ```
//!
//! Duty: from a verified document to an operation. Not here: carrying it out. Invariant: what is not said right is not
//! guessed.

use serde_json::{Value, json};

use super::Message;
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
    /// Other keys.
    Trust,
}

impl Kind {
    const ALL: [Kind; 10] = [
        Kind::Reboot,
        Kind::RestartWorkload,
        Kind::Rollback,
        Kind::Exec,
        Kind::Snapshot,
        Kind::FetchLogs,
        Kind::SetLogLevel,
        Kind::Update,
        Kind::Console,
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
            Kind::Trust => "trust",
        }
    }

    pub fn of(name: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Who may ask for it. What is inside a guest, and what runs at all, is not everybody's daily work.
    pub fn role(self) -> Role {
        match self {
            Kind::Exec | Kind::Console | Kind::Update | Kind::Trust => Role::Release,
            _ => Role::Operate,
        }
    }

    pub(super) fn capability(self) -> Message {
        let arguments: &[&str] = match self {
            Kind::Reboot | Kind::Trust | Kind::Update => &[],
            _ => &["workload"],
        };
        let payload = json!({ "version": 1, "role": self.role().to_string(), "arguments": arguments });
        Message { place: format!("cmd/{}", self.name()), payload: payload.to_string() }
    }
}

/// What the daemon can do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    Reboot,
    RestartWorkload { workload: String },
    Rollback { workload: String },
}

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
            _ => return Err(Refusal::Malformed(format!("{} is not supported", kind.name()))),
        };
        Ok(Command {
            issued,
            expires: number("expires")?,
            expected_version: number("expected_version")?,
            operation,
        })
    }
}
