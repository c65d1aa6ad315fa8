//! `[[probe]]`: how a workload's health is asked for.
//!
//! Duty: which questions there are, and what belongs to which. Not here: asking, and what answers mean.
//! Invariant: there is one heartbeat among the probes of a workload, and every question fits a message to the agent.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::guest;
use crate::reader::{Entry, Table};

/// Probes of one workload: each is asked for ever.
pub const MAX_PROBES: usize = 16;
/// Words of a probe's command, and their bytes with one more for each: what a message to the agent takes.
pub const MAX_PROBE_ARGUMENTS: usize = 16;
pub const MAX_PROBE_COMMAND_BYTES: usize = 512;
/// Bytes of the path that is asked for by HTTP: likewise.
pub const MAX_PROBE_PATH_BYTES: usize = 256;
/// Milliseconds between two questions: oftener is a load, more seldom than hourly is no probe.
const PERIOD_MS: RangeInclusive<u64> = 100..=3_600_000;
/// Milliseconds for an answer.
const TIMEOUT_MS: RangeInclusive<u64> = 1..=600_000;
/// Answers in a row that decide.
const IN_A_ROW: RangeInclusive<u64> = 1..=100;
/// Where a TCP service may listen.
const PORTS: RangeInclusive<u64> = 1..=65_535;

/// What a probe decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Whether the workload is up at last. The others wait for it.
    Startup,
    /// Whether it has to be healed.
    Liveness,
    /// Whether it is ready, and those after it may start.
    Readiness,
}

/// How it is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    /// The agent speaks by itself.
    Heartbeat,
    /// A command in the guest ends with status 0.
    Exec { command: Vec<String> },
    /// A port of the guest takes a connection.
    Tcp { port: u16 },
    /// A GET is answered with a status from 200 to 399.
    Http { port: u16, path: String },
    /// The machine's processors did something since the last question.
    VcpuProgress,
    /// The guest has a watchdog, and pets it.
    Watchdog,
    /// The guest's kernel did not say that it panicked.
    Pvpanic,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    pub role: Role,
    pub check: Check,
    pub period: Duration,
    pub timeout: Duration,
    /// Bad answers in a row that decide.
    pub failures: u8,
    /// Good answers in a row that decide.
    pub successes: u8,
}

impl Probe {
    /// What every workload has that does not say otherwise: thirty beats may be missing.
    pub fn heartbeat() -> Probe {
        Probe {
            role: Role::Liveness,
            check: Check::Heartbeat,
            period: Duration::from_secs(1),
            timeout: Duration::ZERO,
            failures: 30,
            successes: 1,
        }
    }
}

/// The word in the file, without what belongs to it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Word {
    Heartbeat,
    Exec,
    Tcp,
    Http,
    VcpuProgress,
    Watchdog,
    Pvpanic,
}

const WORDS: [(&str, Word); 7] = [
    ("heartbeat", Word::Heartbeat),
    ("exec", Word::Exec),
    ("tcp", Word::Tcp),
    ("http", Word::Http),
    ("vcpu-progress", Word::VcpuProgress),
    ("watchdog", Word::Watchdog),
    ("pvpanic", Word::Pvpanic),
];

const ROLES: [(&str, Role); 3] =
    [("startup", Role::Startup), ("liveness", Role::Liveness), ("readiness", Role::Readiness)];

/// All probes, the heartbeat last if the file leaves it to us.
pub(super) fn list(table: &mut Table<'_>) -> Vec<Probe> {
    let mut beats = false;
    let mut probes = table.sections("probe", MAX_PROBES, |t| probe(t, &mut beats));
    if !probes.iter().any(|probe| probe.check == Check::Heartbeat) {
        probes.push(Probe::heartbeat());
    }
    probes
}

fn probe(table: &mut Table<'_>, beats: &mut bool) -> Probe {
    let check = table.required("check", "how it is asked, such as \"tcp\"");
    let word = check.choice(&WORDS);
    let unasked = matches!(word, Some(Word::Heartbeat | Word::Watchdog | Word::Pvpanic));
    let role = role(table, unasked);
    if word == Some(Word::Heartbeat) {
        if *beats {
            check.fault("expected one heartbeat, found a second one");
        }
        *beats = true;
    }
    let asked = asked(table, word);
    let beat = word == Some(Word::Heartbeat);
    let millis = |entry: &Entry<'_>, range, default| {
        Duration::from_millis(entry.number(range, " ms").unwrap_or(default))
    };
    let timeout = table.entry("timeout_ms");
    let successes = table.entry("successes");
    if unasked {
        for entry in [&timeout, &successes] {
            if entry.is_there() {
                entry.fault("expected only for a probe that is asked, this one speaks by itself");
            }
        }
    }
    Probe {
        role,
        check: asked,
        period: millis(&table.entry("period_ms"), PERIOD_MS, if beat { 1000 } else { 10_000 }),
        timeout: if unasked { Duration::ZERO } else { millis(&timeout, TIMEOUT_MS, 1000) },
        failures: table.entry("failures").small(IN_A_ROW, "").unwrap_or(if beat { 30 } else { 3 }),
        successes: successes.small(IN_A_ROW, "").unwrap_or(1),
    }
}

fn role(table: &mut Table<'_>, unasked: bool) -> Role {
    let entry = table.entry("role");
    let role = entry.choice(&ROLES);
    match role {
        Some(Role::Startup | Role::Readiness) if unasked => {
            entry.fault("expected \"liveness\" for a probe that nobody asks");
        }
        None if !entry.is_there() && !unasked => {
            entry.fault("missing, expected \"startup\", \"liveness\" or \"readiness\"");
        }
        _ => {}
    }
    role.unwrap_or(Role::Liveness)
}

/// The question with what belongs to it; what belongs to another one is a fault.
fn asked(table: &mut Table<'_>, word: Option<Word>) -> Check {
    let (port, path, command) = (table.entry("port"), table.entry("path"), table.entry("command"));
    let keys = [
        (&port, [Word::Tcp, Word::Http].as_slice(), "the port in the guest", "tcp or http"),
        (&command, &[Word::Exec], "a program and its arguments", "exec"),
        (&path, &[Word::Http], "", "http"),
    ];
    for (entry, words, what, whose) in keys {
        let Some(word) = word else { break };
        if words.contains(&word) {
            if !entry.is_there() && !what.is_empty() {
                entry.fault(format!("missing, expected {what}"));
            }
        } else if entry.is_there() {
            entry.fault(format!("expected only for a check by {whose}"));
        }
    }
    let number = port.small(PORTS, "").unwrap_or(1);
    let words = exec(&command);
    let url = path
        .text_as(&format!("/ and up to {MAX_PROBE_PATH_BYTES} bytes without spaces"), |text| {
            let good = text.starts_with('/')
                && text.len() <= MAX_PROBE_PATH_BYTES
                && text.bytes().all(|byte| byte.is_ascii_graphic());
            good.then(|| text.to_owned())
        })
        .unwrap_or_else(|| "/".to_owned());
    match word {
        Some(Word::Exec) => Check::Exec { command: words },
        Some(Word::Tcp) => Check::Tcp { port: number },
        Some(Word::Http) => Check::Http { port: number, path: url },
        Some(Word::VcpuProgress) => Check::VcpuProgress,
        Some(Word::Watchdog) => Check::Watchdog,
        Some(Word::Pvpanic) => Check::Pvpanic,
        Some(Word::Heartbeat) | None => Check::Heartbeat,
    }
}

fn exec(entry: &Entry<'_>) -> Vec<String> {
    let words = guest::command(entry, MAX_PROBE_ARGUMENTS, |_| Ok(()));
    let bytes: usize = words.iter().map(|word| word.len() + 1).sum();
    if bytes > MAX_PROBE_COMMAND_BYTES {
        entry.fault(format!(
            "expected at most {MAX_PROBE_COMMAND_BYTES} bytes, found {bytes}; put it into a script in the image"
        ));
    }
    words
}
