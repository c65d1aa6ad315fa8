//! How a replica's health is asked for.
//!
//! ```text
//! Resting(until) --due--> Asked(until) --answer, or none in time--> Resting(until)
//! ```
//!
//! Duty: what is asked when, and what a row of answers means. Not here: asking (the shell), what follows (`state`).
//! Invariant: a probe has at most one question under way, and an answer that nobody waits for changes nothing.

use core::fmt;
use core::time::Duration;

use serde::{Deserialize, Serialize};

use crate::moment::Moment;

/// What a probe decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Role {
    /// Whether the workload is up at last. The others wait for it.
    Startup,
    /// Whether it has to be healed.
    Liveness,
    /// Whether it gets traffic.
    Readiness,
}

/// How it is asked. What a number means (which command, which path) is the shell's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Check {
    /// The agent speaks by itself.
    Heartbeat,
    Exec {
        command: u8,
    },
    Tcp {
        port: u16,
    },
    Http {
        port: u16,
        path: u8,
    },
    /// Whether the machine's processors did anything since the last question.
    VcpuProgress,
    /// The guest's own watchdog expired; the monitor speaks by itself.
    Watchdog,
    /// The guest's kernel said that it panicked; likewise.
    Pvpanic,
}

impl Check {
    /// Whether somebody has to ask.
    pub fn is_asked(self) -> bool {
        !matches!(self, Check::Heartbeat | Check::Watchdog | Check::Pvpanic)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeSpec {
    pub role: Role,
    pub check: Check,
    pub period: Duration,
    /// For one answer.
    pub timeout: Duration,
    /// Bad answers in a row that decide.
    pub failures: u8,
    /// Good answers in a row that decide.
    pub successes: u8,
}

impl ProbeSpec {
    /// A liveness probe by what agents say unasked; silence for `lost` fails it.
    pub fn heartbeat(period: Duration, lost: Duration) -> ProbeSpec {
        let beats = lost.as_millis() / period.as_millis().max(1);
        ProbeSpec {
            role: Role::Liveness,
            check: Check::Heartbeat,
            period,
            timeout: Duration::ZERO,
            failures: u8::try_from(beats).unwrap_or(u8::MAX).max(1),
            successes: 1,
        }
    }

    /// How long silence is forgiven.
    pub(crate) fn patience(&self) -> Duration {
        self.period * u32::from(self.failures)
    }
}

/// What a row of answers says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Finding {
    Unknown,
    Good,
    Bad,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Stage {
    Resting { until: Moment },
    Asked { until: Moment },
}

/// One probe of one replica.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Probing {
    stage: Stage,
    good: u8,
    bad: u8,
    pub(crate) finding: Finding,
}

/// What a probe wants at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a question that nobody asks is a failed probe"]
pub(crate) enum Want {
    Nothing,
    Ask,
    /// No answer came: the finding may have changed.
    Overdue,
}

impl Probing {
    pub(crate) fn new(now: Moment) -> Probing {
        Probing { stage: Stage::Resting { until: now }, good: 0, bad: 0, finding: Finding::Unknown }
    }

    pub(crate) fn deadline(&self) -> Moment {
        match self.stage {
            Stage::Resting { until } | Stage::Asked { until } => until,
        }
    }

    /// Bad answers in a row.
    pub(crate) fn bad_in_a_row(&self) -> u8 {
        self.bad
    }

    pub(crate) fn turn(&mut self, spec: &ProbeSpec, now: Moment) -> Want {
        match self.stage {
            Stage::Resting { until } if until <= now => {
                self.stage = Stage::Asked { until: now.after(spec.timeout.max(Duration::from_millis(1))) };
                Want::Ask
            }
            Stage::Asked { until } if until <= now => {
                self.take(spec, now, false);
                Want::Overdue
            }
            Stage::Resting { .. } | Stage::Asked { .. } => Want::Nothing,
        }
    }

    /// Takes an answer in, if one is waited for.
    pub(crate) fn take(&mut self, spec: &ProbeSpec, now: Moment, good: bool) {
        if !matches!(self.stage, Stage::Asked { .. }) {
            return;
        }
        self.stage = Stage::Resting { until: now.after(spec.period.max(Duration::from_millis(1))) };
        if good {
            (self.good, self.bad) = (self.good.saturating_add(1), 0);
            if self.good >= spec.successes {
                self.finding = Finding::Good;
            }
        } else {
            (self.good, self.bad) = (0, self.bad.saturating_add(1));
            if self.bad >= spec.failures {
                self.finding = Finding::Bad;
            }
        }
    }

    /// The daemon itself was away: whoever was asked gets as much longer.
    pub(crate) fn excuse(&mut self, late: Duration) {
        if let Stage::Asked { until } = &mut self.stage {
            *until = until.after(late);
        }
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Check::Heartbeat => f.write_str("heartbeat"),
            Check::Exec { .. } => f.write_str("exec"),
            Check::Tcp { port } => write!(f, "tcp {port}"),
            Check::Http { port, .. } => write!(f, "http {port}"),
            Check::VcpuProgress => f.write_str("vCPU progress"),
            Check::Watchdog => f.write_str("watchdog"),
            Check::Pvpanic => f.write_str("pvpanic"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPEC: ProbeSpec = ProbeSpec {
        role: Role::Liveness,
        check: Check::Exec { command: 0 },
        period: Duration::from_secs(5),
        timeout: Duration::from_secs(1),
        failures: 3,
        successes: 2,
    };

    fn at(millis: u64) -> Moment {
        Moment::from_millis(millis)
    }

    #[test]
    fn a_row_of_answers_decides_and_one_alone_does_not() {
        let mut probing = Probing::new(at(0));
        let mut findings = Vec::new();
        for (second, good) in [(0, true), (5, true), (10, false), (15, false), (20, true), (25, false)] {
            assert_eq!(probing.turn(&SPEC, at(second * 1000)), Want::Ask);
            probing.take(&SPEC, at(second * 1000), good);
            findings.push(probing.finding);
        }
        assert_eq!(findings[0], Finding::Unknown);
        assert!(findings[1..].iter().all(|finding| *finding == Finding::Good), "{findings:?}");
    }

    #[test]
    fn no_answer_is_a_bad_answer_and_a_late_one_is_none() {
        let mut probing = Probing::new(at(0));
        for round in 0..3 {
            let start = probing.deadline();
            assert_eq!(probing.turn(&SPEC, start), Want::Ask);
            assert_eq!(probing.turn(&SPEC, start), Want::Nothing);
            assert_eq!(probing.turn(&SPEC, start.after(SPEC.timeout)), Want::Overdue);
            probing.take(&SPEC, start.after(SPEC.timeout), true);
            assert_eq!(probing.bad_in_a_row(), round + 1);
        }
        assert_eq!(probing.finding, Finding::Bad);
    }

    #[test]
    fn heartbeats_are_forgiven_as_long_as_was_said() {
        let spec = ProbeSpec::heartbeat(Duration::from_secs(1), Duration::from_secs(30));
        assert_eq!(spec.patience(), Duration::from_secs(30));
        assert!(!spec.check.is_asked());
    }
}
