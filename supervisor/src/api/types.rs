//! What the API answers.
//!
//! Duty: the JSON of `/v1`, once for the daemon that writes it and for the tool that reads it.
//! Not here: how it is come by (`view`), how it is shown (`ctl`).
//! Invariant: within `/v1` fields are added and never change their meaning; words are text, so that an older reader
//! gets over a newer one. Moments are milliseconds on the daemon's monotonic clock: `now_ms` tells how long ago.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::logs::line;

/// A word of a small, documented set.
pub type Word = Cow<'static, str>;

/// `GET /v1/status`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BoxStatus {
    /// Of the daemon.
    pub version: String,
    /// `opening`, `up`, `safe-mode`, `stopping`, `down`
    pub phase: Word,
    pub now_ms: u64,
    /// Workloads that are what they are meant to be, of all that are wanted.
    pub ready: usize,
    pub of: usize,
    pub workloads: Vec<WorkloadStatus>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkloadStatus {
    pub name: String,
    /// `service`, `job`, `function`
    pub kind: Word,
    /// `ready`, `partly-ready`, `done`, `idle`, `stopped`, `quarantined`, `removed`, or the place of the replica that
    /// is furthest from where it should be.
    pub state: Word,
    /// Whether that is what somebody wants of it.
    pub good: bool,
    pub replicas_wanted: usize,
    pub replicas_ready: usize,
    /// A person's number of replicas, in place of its file's.
    pub scale: Option<u16>,
    pub version: String,
    /// `steady`, `canary`, `spreading`, `reverting`
    pub rollout: Word,
    pub restarts_in_window: u16,
    pub restarts_allowed: u16,
    pub replicas: Vec<ReplicaStatus>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaStatus {
    pub name: String,
    pub slot: u16,
    /// Which machine of its workload this is, counted from 1; 0 is none so far.
    pub run: u32,
    pub version: String,
    pub state: Word,
    /// When it last moved; absent where that was too long ago to be remembered.
    pub since_ms: Option<u64>,
    /// When something is due if nothing else happens.
    pub next_ms: Option<u64>,
    /// Why it does not start.
    pub waits_for: Option<String>,
    /// The trouble that it is in, or lately was.
    pub fault: Option<String>,
}

/// `GET /v1/workloads/NAME`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explained {
    pub now_ms: u64,
    pub status: WorkloadStatus,
    /// In sentences: what is wanted, what is in the way, what comes next.
    pub why: Vec<String>,
    pub previous_version: Option<String>,
    pub rejected_version: Option<String>,
    /// `null`: it may tell the fleet nothing.
    #[serde(default)]
    pub telemetry: Option<TelemetryTold>,
    /// By what cured before: which means of healing come first, for faults of which source.
    #[serde(default)]
    pub learnt: Vec<String>,
    pub probes: Vec<ProbeTold>,
    pub incidents: Vec<IncidentTold>,
    /// Oldest first.
    pub transitions: Vec<TransitionTold>,
}

/// What a workload told the fleet since the daemon began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TelemetryTold {
    /// Connected now.
    pub clients: usize,
    /// Messages that were taken, and their bytes with their names.
    pub messages: u64,
    pub bytes: u64,
    pub refused: u64,
    /// Messages that waited because of its quota.
    pub delayed: u64,
    /// Commands that clients were handed, and those that they missed.
    pub heard: u64,
    pub missed: u64,
    /// Otherwise the box is in no fleet, and what is told is dropped.
    pub reaches_fleet: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeTold {
    pub replica: String,
    /// `startup`, `liveness`, `readiness`
    pub role: Word,
    pub check: String,
    /// `unknown`, `good`, `bad`
    pub finding: Word,
    pub bad_in_a_row: u8,
    /// Bad answers in a row that decide.
    pub failures: u8,
    pub period_ms: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IncidentTold {
    pub replica: String,
    pub opened_ms: u64,
    pub fault: String,
    pub source: Word,
    pub severity: Word,
    /// What was done last, and why that.
    pub means: Option<String>,
    /// Who else most likely began it.
    #[serde(default)]
    pub suspect: Option<String>,
    /// Closed at this moment if it stays ready; absent while it is being healed.
    pub verified_ms: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransitionTold {
    pub at_ms: u64,
    pub replica: String,
    pub run: u32,
    pub from: Word,
    pub to: Word,
    pub why: String,
}

/// One line of `GET /v1/events`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum EventLine {
    Told(EventTold),
    /// Events that are not remembered any more.
    Lost {
        lost: u64,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventTold {
    /// Counts from 1 with the daemon's start.
    pub number: u64,
    pub at_ms: u64,
    /// A label for people: the wall clock may have been wrong.
    pub unix_ms: u64,
    pub kind: Word,
    /// Somebody should look.
    pub alarm: bool,
    pub workload: Option<String>,
    pub replica: Option<String>,
    pub text: String,
}

/// One line of `GET /v1/workloads/NAME/logs`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// By the wall clock, in UTC; absent in a line that a power cut tore, and in notes about missing lines.
    pub time: Option<String>,
    pub replica: Option<String>,
    pub text: String,
}

impl LogLine {
    pub(crate) fn of(line: &str) -> LogLine {
        match line::parse(line) {
            Some((time, replica, text)) => LogLine {
                time: Some(time.to_owned()),
                replica: Some(replica.to_owned()),
                text: text.to_owned(),
            },
            None => LogLine::note(line),
        }
    }

    pub(crate) fn note(text: &str) -> LogLine {
        LogLine { time: None, replica: None, text: text.to_owned() }
    }
}

/// Body of `POST /v1/workloads/NAME/scale`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scale {
    /// `null`: what its file says.
    #[serde(deserialize_with = "Option::deserialize")]
    pub replicas: Option<u16>,
}

/// Body of `POST /v1/workloads/NAME/demand`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Demand {
    /// Asked for, of a function; it starts no more than its file allows.
    pub replicas: u16,
}

/// Body of `POST /v1/workloads/NAME/served`: from whoever passes requests on to a workload, at least twice a minute.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Served {
    /// Since the last time.
    pub requests: u32,
    /// Milliseconds of work in all of them.
    #[serde(default)]
    pub busy_ms: u64,
    /// Those that wait for a replica now.
    #[serde(default)]
    pub waiting: u32,
    /// Of the requests, those that went wrong. They speak for or against a version, so without a replica they are refused.
    #[serde(default)]
    pub errors: u32,
    /// The one that served them: its version is judged by it. Left out: the requests count for the workload as a whole.
    #[serde(default)]
    pub replica: Option<String>,
}

/// Body of `POST /v1/workloads/NAME/forecast/teach`: how it was before this box looked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lesson {
    /// As in `GET .../forecast`.
    pub metric: String,
    /// Seconds since 1970 at which the first sample began.
    pub from_s: u64,
    /// In the metric's unit, as far apart as `sample_s` there says.
    pub values: Vec<f32>,
}

/// Body of `POST /v1/workloads/NAME/exec`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExecWanted {
    pub command: Vec<String>,
    /// A terminal of its own; without one, its outputs are two pipes.
    #[serde(default)]
    pub terminal: Option<TerminalWanted>,
    /// Whether anything will be typed.
    #[serde(default)]
    pub input: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TerminalWanted {
    pub rows: u16,
    pub columns: u16,
    /// What `TERM` is to say; empty: nothing.
    #[serde(default)]
    pub name: String,
}

/// Body of `POST /v1/workloads/NAME/snapshot`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SnapshotWanted {
    /// `null` or left out: the wall clock's digits.
    #[serde(default)]
    pub name: Option<String>,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotTaken {
    pub replica: String,
    pub name: String,
    /// On the box.
    pub folder: String,
    /// What it takes of the disk.
    pub bytes: u64,
}

/// Within the daemon: a machine that is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reached {
    pub workload: String,
    pub replica: String,
}

/// Body of every answer from 400 on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// For programs: `bad-request`, `no-such-workload`, ...
    pub error: Word,
    /// For people.
    pub message: String,
}
