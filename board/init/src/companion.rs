//! A program that is kept running beside the daemon, and that nobody waits for.
//!
//! ```text
//!          +------ delay over ------+
//!          v                        |
//! start -> Running -----ended----> Waiting
//! ```
//!
//! Duty: which programs a box has beside its daemon, and when each is started. Pure. Not here: processes (`watch`).
//! Invariant: a companion never ends the box, and its end is told.

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use hearth_core::Moment;

use crate::again::Ends;
use crate::charge::{Command, Ended};

/// Links, addresses, name servers.
const NETWORK: &str = "/usr/bin/hearth-network";
/// Lets the machine that a board in QEMU runs on reach the daemon.
const RELAY: &str = "/usr/bin/hearth-relay";
/// What must stand on the kernel command line for it: only who starts the kernel can say that.
const RELAY_WORD: &str = "hearth.relay=";

/// Which of them this box has. Where a program runs in the daemon's place it is alone: it measures, or it mends.
pub(crate) fn of(command: &Command, command_line: &str, is_there: impl Fn(&Path) -> bool) -> Vec<Companion> {
    let Command::Daemon { .. } = command else { return Vec::new() };
    let relay = command_line.split_whitespace().any(|word| word.starts_with(RELAY_WORD));
    let programs = [(NETWORK, true), (RELAY, relay)];
    let wanted = programs.into_iter().filter(|(program, wanted)| *wanted && is_there(Path::new(program)));
    wanted.map(|(program, _)| Companion::new(program)).collect()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Running { since: Moment },
    Waiting { until: Moment },
}

#[derive(Debug)]
pub(crate) struct Companion {
    program: &'static str,
    phase: Phase,
    ends: Ends,
}

impl Companion {
    fn new(program: &'static str) -> Companion {
        Companion { program, phase: Phase::Waiting { until: Moment::START }, ends: Ends::default() }
    }

    pub(crate) fn words(&self) -> [OsString; 1] {
        [self.program.into()]
    }

    /// When [`Companion::is_due`] will be true.
    pub(crate) fn next_deadline(&self) -> Option<Moment> {
        match self.phase {
            Phase::Waiting { until } => Some(until),
            Phase::Running { .. } => None,
        }
    }

    /// Whether it is to be started now; from then on it is taken to run.
    #[must_use = "one that is due and not started is waited for in vain"]
    pub(crate) fn is_due(&mut self, now: Moment) -> bool {
        let due = self.next_deadline().is_some_and(|until| until <= now);
        if due {
            self.phase = Phase::Running { since: now };
        }
        due
    }

    /// What is said of it.
    #[must_use]
    pub(crate) fn ended(&mut self, now: Moment, ended: Ended) -> String {
        let run = match self.phase {
            Phase::Running { since } => now.since(since),
            Phase::Waiting { .. } => Duration::ZERO,
        };
        let wait = self.ends.wait_after(run);
        self.phase = Phase::Waiting { until: now.after(wait) };
        let name = Path::new(self.program).file_name().unwrap_or_default().to_string_lossy();
        format!("{name} ended: {ended}; again in {:.1} s", wait.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Moment {
        Moment::since_start(Duration::from_millis(millis))
    }

    fn programs(command: &Command, line: &str, there: &[&str]) -> Vec<&'static str> {
        let is_there = |path: &Path| there.iter().any(|known| Path::new(known) == path);
        of(command, line, is_there).iter().map(|companion| companion.program).collect()
    }

    #[test]
    fn the_relay_is_started_only_where_the_kernel_was_told_so_and_nothing_beside_a_lone_program() {
        let daemon = Command::Daemon { daemon: vec![], beside: None };
        let all = [NETWORK, RELAY];
        assert_eq!(programs(&daemon, "console=ttyS0 quiet", &all), [NETWORK]);
        assert_eq!(programs(&daemon, "quiet hearth.relay=00ff\n", &all), all);
        assert_eq!(programs(&daemon, "hearth.relay=00ff", &[NETWORK]), [NETWORK], "an image without it");
        assert!(programs(&daemon, "", &[]).is_empty());
        assert!(programs(&Command::Program(vec![]), "hearth.relay=00ff", &all).is_empty());
    }

    #[test]
    fn one_that_ends_is_started_again_after_waits_that_grow() {
        let mut network = Companion::new(NETWORK);
        assert!(network.is_due(at(0)));
        assert!(!network.is_due(at(9)), "it runs");
        assert_eq!(network.next_deadline(), None);
        let told = network.ended(at(10), Ended::Code(1));
        assert_eq!(told, "hearth-network ended: exit 1; again in 0.5 s");
        assert_eq!(network.next_deadline(), Some(at(510)));
        assert!(!network.is_due(at(509)) && network.is_due(at(510)));
        assert_eq!(
            network.ended(at(520), Ended::Signal(9)),
            "hearth-network ended: signal 9; again in 1.0 s"
        );
        assert!(network.is_due(at(1520)));
        let told = network.ended(at(100_000), Ended::Signal(9));
        assert_eq!(told, "hearth-network ended: signal 9; again in 0.0 s", "it had run well");
    }
}
