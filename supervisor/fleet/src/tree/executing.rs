//! Commands on their way.
//!
//! ```text
//!            init (the fleet's)
//!              |--unsigned, stale, expired, unsupported, another version, too many--> rejected
//!              v
//! executing (kept before it begins) --done--> successful
//!              |--went wrong------------> failed
//!              |--not allowed by now----> rejected
//!              |--the daemon ended------> failed: it may have happened, and is not repeated
//!               \-(a reboot, and the box booted)-> successful
//! ```
//!
//! Duty: the life of each command, and its record. Not here: what it says (`command`).
//! Invariants: a record of a command is on the disk before its order is given; a command with a record is never begun
//! again, and neither is one that is older than all of which there are records.

use std::time::Duration;

use hearth_core::Moment;
use hearth_disk::Disk;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::command::{Command, Kind, Needs, Operation, is_id};
use super::stream::{Remote, Tally};
use super::{Order, Tree};
use crate::Now;
use crate::sign::{Envelope, Refusal, Role, Use};

/// Records of commands. The oldest that ended gives way, and commands as old as it are refused from then on.
const MAX_RECORDS: usize = 128;
/// Commands that the daemon works on at a time.
const MAX_EXECUTING: usize = 8;
/// Answers to what is rejected: so many at once, then one each second. The rest is counted.
const ANSWERS: u32 = 16;
const ANSWER_EVERY: Duration = Duration::from_secs(1);
/// Bytes of a reason.
const MAX_REASON: usize = 512;

/// How a command ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Done,
    Failed(String),
    /// It may not be, or not now: nothing of it was done.
    Rejected(String),
    /// One with output, and why it failed if it did.
    Streamed {
        failure: Option<String>,
        tally: Tally,
    },
}

/// Kept: variants are only ever appended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Stage {
    Executing,
    Successful,
    Failed(String),
    Rejected(String),
    Streamed { failure: Option<String>, tally: Tally },
}

/// What is remembered of a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Execution {
    pub(super) op: String,
    pub(super) id: String,
    pub(super) issued: u64,
    /// The box's boot in which it began.
    pub(super) boot: String,
    pub(super) stage: Stage,
}

/// How many more answers may be given.
#[derive(Debug, Default)]
pub(super) struct Allowance {
    spent: u32,
    since: Option<Moment>,
}

impl Allowance {
    fn take(&mut self, now: Moment) -> bool {
        let since = *self.since.get_or_insert(now);
        let back = now.since(since).as_millis() / ANSWER_EVERY.as_millis();
        if back > 0 {
            self.spent = self.spent.saturating_sub(u32::try_from(back).unwrap_or(u32::MAX));
            self.since = Some(now);
        }
        let may = self.spent < ANSWERS;
        self.spent += u32::from(may);
        may
    }
}

impl Tree {
    pub(super) fn command(
        &mut self,
        disk: &mut dyn Disk,
        now: Now,
        clock_set: bool,
        op: &str,
        id: &str,
        payload: &[u8],
    ) {
        let (Some(kind), true) = (Kind::of(op), is_id(id)) else {
            self.counts.foreign = self.counts.foreign.saturating_add(1);
            return;
        };
        let Ok(envelope) = Envelope::read(payload) else {
            // Our own answer comes back to us on the same topic.
            if !is_answer(payload) {
                self.refuse(now, op, id, "expected an envelope: a JSON object with document and signatures");
            }
            return;
        };
        if let Some(known) = self.kept.executions.iter().find(|one| one.op == op && one.id == id) {
            // Its answer may be lost, or somebody says it again: the answer is the same.
            let payload = answer(&known.stage);
            self.publish(place(op, id), payload);
            return;
        }
        if kind == Kind::Trust {
            match self.rotate(disk, envelope) {
                Ok(()) => self.publish(place(op, id), answer(&Stage::Successful)),
                Err(reason) => self.refuse(now, op, id, &reason),
            }
            return;
        }
        match self.admit(now, clock_set, kind, id, envelope) {
            Ok(command) => self.begin(disk, now, kind, id, command),
            Err(reason) => self.refuse(now, op, id, &reason),
        }
    }

    fn admit(
        &self,
        now: Now,
        clock_set: bool,
        kind: Kind,
        id: &str,
        envelope: Envelope,
    ) -> Result<Command, String> {
        let of_role = |envelope: Envelope, role| {
            let verified = envelope.verify(&self.keyring, role, Use::Command, &self.rules.topics)?;
            Ok((verified, vec![role]))
        };
        let verified = match kind.needs() {
            Needs::Role(role) => of_role(envelope, role),
            Needs::Either | Needs::Workload => {
                envelope.verify_any(&self.keyring, Use::Command, &self.rules.topics)
            }
        };
        let (verified, signed) = verified.map_err(|refusal: Refusal| refusal.to_string())?;
        if !self.rules.operations.contains(&kind) {
            return Err(format!("{} is not supported", kind.name()));
        }
        let mut command = Command::read(&verified, kind, id).map_err(|refusal| refusal.to_string())?;
        self.permit(kind, &mut command.operation, &signed)?;
        if command.issued <= self.kept.issued_floor {
            return Err("it is older than all commands that are remembered".to_owned());
        }
        match command.expires {
            Some(_) if !clock_set => {
                return Err("it expires, and the box's clock was never set".to_owned());
            }
            Some(expires) if expires <= now.wall_ms => return Err("it is expired".to_owned()),
            _ => {}
        }
        let version = self.current.as_ref().map_or(0, super::Desired::version);
        if let Some(expected) = command.expected_version.filter(|expected| *expected != version) {
            return Err(format!("expected version {expected} of the desired state, found {version}"));
        }
        let executing = self.kept.executions.iter().filter(|one| one.stage == Stage::Executing).count();
        let same = |one: &&Execution| one.id == id && one.stage == Stage::Executing;
        if let Some(other) = self.kept.executions.iter().find(same) {
            return Err(format!("a command {} of the same id is on its way", other.op));
        }
        if executing >= MAX_EXECUTING {
            return Err(format!("{MAX_EXECUTING} commands are on their way already"));
        }
        Ok(command)
    }

    /// What the workload, or the command that is meant, has to say.
    fn permit(&self, kind: Kind, operation: &mut Operation, signed: &[Role]) -> Result<(), String> {
        match operation {
            Operation::Stream(stream) => {
                let workload = stream.workload();
                let standing = self.standings.iter().find(|standing| standing.name == workload);
                let remote: Remote =
                    standing.ok_or_else(|| format!("there is no workload {workload}"))?.remote;
                stream.role = Some(remote.admit(kind, workload, signed)?);
                Ok(())
            }
            Operation::Cancel { of } => {
                let of = |one: &Execution| one.id == *of && one.stage == Stage::Executing;
                let known = self.kept.executions.iter().any(of);
                if known { Ok(()) } else { Err("of: no such command is on its way".to_owned()) }
            }
            _ => Ok(()),
        }
    }

    fn begin(&mut self, disk: &mut dyn Disk, now: Now, kind: Kind, id: &str, command: Command) {
        self.forget_oldest();
        self.kept.executions.push(Execution {
            op: kind.name().to_owned(),
            id: id.to_owned(),
            issued: command.issued,
            boot: self.rules.boot.clone(),
            stage: Stage::Executing,
        });
        if let Err(error) = self.kept.write(disk) {
            // What is not remembered could begin twice.
            self.kept.executions.pop();
            self.refuse(now, kind.name(), id, &format!("it cannot be remembered: {error}"));
            return;
        }
        self.publish(place(kind.name(), id), answer(&Stage::Executing));
        self.order(Order::Run { id: id.to_owned(), operation: command.operation });
    }

    fn forget_oldest(&mut self) {
        while self.kept.executions.len() >= MAX_RECORDS {
            let ended =
                self.kept.executions.iter().enumerate().filter(|(_, one)| one.stage != Stage::Executing);
            let Some((place, _)) = ended.min_by_key(|(_, one)| one.issued) else { return };
            let oldest = self.kept.executions.remove(place);
            self.kept.issued_floor = self.kept.issued_floor.max(oldest.issued);
        }
    }

    pub(super) fn ended(&mut self, disk: &mut dyn Disk, id: &str, outcome: Outcome) {
        let of = |one: &&mut Execution| one.id == id && one.stage == Stage::Executing;
        let Some(execution) = self.kept.executions.iter_mut().find(of) else { return };
        execution.stage = match outcome {
            Outcome::Done => Stage::Successful,
            Outcome::Failed(reason) => Stage::Failed(cut(&reason)),
            Outcome::Rejected(reason) => {
                self.counts.rejected_commands = self.counts.rejected_commands.saturating_add(1);
                Stage::Rejected(cut(&reason))
            }
            Outcome::Streamed { failure, tally } => {
                Stage::Streamed { failure: failure.map(|reason| cut(&reason)), tally }
            }
        };
        let (place, payload) = (place(&execution.op, id), answer(&execution.stage));
        // If that fails, a restart says that it may have happened, which is so.
        let _ = self.kept.write(disk);
        self.publish(place, payload);
    }

    /// What an earlier daemon began, and did not see the end of.
    pub(super) fn end_interrupted(&mut self, disk: &mut dyn Disk) {
        let mut answers = Vec::new();
        for execution in &mut self.kept.executions {
            if execution.stage != Stage::Executing {
                continue;
            }
            let rebooted = execution.op == Kind::Reboot.name() && execution.boot != self.rules.boot;
            execution.stage = if rebooted {
                Stage::Successful
            } else {
                Stage::Failed(
                    "the daemon ended meanwhile: it may have happened, and is not repeated".to_owned(),
                )
            };
            answers.push((place(&execution.op, &execution.id), answer(&execution.stage)));
        }
        if !answers.is_empty() {
            let _ = self.kept.write(disk);
            answers.into_iter().for_each(|(place, payload)| self.publish(place, payload));
        }
    }

    fn refuse(&mut self, now: Now, op: &str, id: &str, reason: &str) {
        self.counts.rejected_commands = self.counts.rejected_commands.saturating_add(1);
        self.report.touch();
        if self.allowance.take(now.mono) {
            let payload = json!({ "state": "rejected", "reason": cut(reason) }).to_string();
            self.publish(place(op, id), payload);
        }
    }
}

/// The daemon's side of an operation that has no end of its own here: the next daemon sees it.
impl Operation {
    pub fn ends_the_daemon(&self) -> bool {
        *self == Operation::Reboot
    }
}

fn place(op: &str, id: &str) -> String {
    format!("cmd/{op}/{id}")
}

fn answer(stage: &Stage) -> String {
    match stage {
        Stage::Executing => json!({ "state": "executing" }),
        Stage::Successful => json!({ "state": "successful" }),
        Stage::Failed(reason) => json!({ "state": "failed", "reason": reason }),
        Stage::Rejected(reason) => json!({ "state": "rejected", "reason": reason }),
        Stage::Streamed { failure, tally } => {
            let mut told = tally.to_json();
            let state = if failure.is_some() { "failed" } else { "successful" };
            told.insert("state".to_owned(), state.into());
            told.extend(failure.iter().map(|reason| ("reason".to_owned(), reason.as_str().into())));
            Value::Object(told)
        }
    }
    .to_string()
}

fn is_answer(payload: &[u8]) -> bool {
    let value: Option<Value> = serde_json::from_slice(payload).ok();
    let state = value.as_ref().and_then(|value| value.get("state")).and_then(Value::as_str);
    matches!(state, Some("executing" | "successful" | "failed" | "rejected"))
}

fn cut(reason: &str) -> String {
    let end = (0..=MAX_REASON.min(reason.len())).rev().find(|end| reason.is_char_boundary(*end));
    reason[..end.unwrap_or(0)].to_owned()
}
