//! What the daemon's lines on the console say.
//!
//! Duty: read `hearthd  | ready: 3 of 3 workloads` and its like. The lines are the daemon's interface for people
//! and programs alike; what is not understood is somebody's output and no fault.

use std::{collections::BTreeMap, fmt};

/// The name under which the daemon itself speaks.
const DAEMON: &str = "hearthd";
/// Under this one the box's network speaks, which is no workload either.
const NETWORK: &str = "hearth-network";

/// How far the box has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Progress {
    #[default]
    Starting,
    /// Every workload has reached its goal; the daemon's words.
    Ready(String),
    /// One of them will not; the daemon's words.
    NotReady(String),
}

/// What a console has told so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) progress: Progress,
    kvm: Option<String>,
    /// The first line of each workload.
    said: BTreeMap<String, String>,
}

impl Seen {
    /// Takes one line of the console.
    pub(crate) fn read(&mut self, line: &str) {
        let Some((speaker, words)) = line.split_once("| ") else { return };
        let (speaker, words) = (speaker.trim(), words.trim());
        if speaker != DAEMON {
            if speaker != NETWORK && !speaker.contains(' ') && !is_machinery(words) {
                self.said.entry(speaker.to_owned()).or_insert_with(|| words.to_owned());
            }
        } else if let Some(kvm) = words.strip_prefix("kvm: ") {
            self.kvm = Some(kvm.to_owned());
        } else if words.starts_with("ready: ") {
            self.progress = Progress::Ready(words.to_owned());
        } else if words.starts_with("not ready: ") {
            self.progress = Progress::NotReady(words.to_owned());
        }
    }
}

/// What a guest's kernel or agent says, not its workload.
fn is_machinery(words: &str) -> bool {
    words.is_empty() || words.starts_with('[') || words.starts_with("hearth-agent: ")
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KVM there: {}", self.kvm.as_deref().unwrap_or("not said"))?;
        if let Progress::Ready(words) | Progress::NotReady(words) = &self.progress {
            write!(f, "; {words}")?;
        }
        for (workload, line) in &self.said {
            write!(f, "; {workload}: \"{line}\"")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_daemons_lines_are_told_from_everybody_elses() {
        let mut seen = Seen::default();
        for line in [
            "[    0.1] a kernel line | ready: 9 of 9",
            "hearthd  | kvm: complete",
            "hearth-network | eth0: 10.0.2.15/24 from 10.0.2.2 for 24 h",
            "hello    | ready: 1 of 1 workloads",
            "hello    | second line",
            "clock    | hearth-agent: ready in 312 ms",
            "clock    | [    0.5] reboot: Power down",
        ] {
            seen.read(line);
        }
        assert_eq!(seen.progress, Progress::Starting);
        seen.read("hearthd  | ready: 3 of 3 workloads");
        assert_eq!(seen.progress, Progress::Ready("ready: 3 of 3 workloads".into()));
        let line = seen.to_string();
        assert_eq!(line, "KVM there: complete; ready: 3 of 3 workloads; hello: \"ready: 1 of 1 workloads\"");
        seen.read("hearthd  | not ready: 2 of 3 workloads");
        assert_eq!(seen.progress, Progress::NotReady("not ready: 2 of 3 workloads".into()));
    }
}
