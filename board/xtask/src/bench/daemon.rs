//! What the daemon costs and how quick it is, beside what is promised of it.
//!
//! Duty: the table. Not here: how the figures are measured (`tests/probe/hurt/care.rs`).

use std::fmt;

use super::{
    figures::Figures,
    promises::{Promise, Promises},
};

/// What was measured of a daemon with ten workloads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct DaemonFigures(pub(crate) Figures);

/// What a whole run measures.
const ALL: [&str; 5] = ["daemon_resident_kib", "daemon_idle_ns_per_min", "warm_ns", "cold_ns", "adoption_ns"];

impl DaemonFigures {
    pub(crate) fn complete(&self) -> bool {
        ALL.iter().all(|name| self.0.has(name))
    }
}

impl fmt::Display for DaemonFigures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hundredths = |name: &str, one: u64| self.0.median(name).map(|value| value * 100 / one);
        const MS: u64 = 1_000_000;
        const MIB: u64 = 1024;
        // Of sixty billion nanoseconds.
        const PERCENT_OF_A_MINUTE: u64 = 600 * MS;
        let list = [
            ("resident memory, ten workloads", "MiB", hundredths("daemon_resident_kib", MIB), 1000),
            (
                "processor time of an idle minute",
                "% of a core",
                hundredths("daemon_idle_ns_per_min", PERCENT_OF_A_MINUTE),
                20,
            ),
            (
                "crash to the replacement's workload, from its snapshot",
                "ms",
                hundredths("warm_ns", MS),
                10_000,
            ),
            ("crash to the replacement's workload, booted", "ms", hundredths("cold_ns", MS), 150_000),
            (
                "daemon killed to all machines adopted, none restarted",
                "ms",
                hundredths("adoption_ns", MS),
                30_000,
            ),
        ];
        let promise = |(what, unit, measured, at_most): (&str, _, _, _)| Promise {
            what: what.to_owned(),
            unit,
            measured,
            at_most,
        };
        write!(f, "{}", Promises(list.into_iter().map(promise).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_stand_in_the_units_of_their_promises() {
        let mut figures = DaemonFigures::default();
        for line in [
            "figure daemon_resident_kib 5120",
            "figure daemon_idle_ns_per_min 60000000",
            "figure cold_ns 1600000000",
        ] {
            assert!(figures.0.read(line), "{line}");
        }
        let text = figures.to_string();
        let row = |start: &str| text.lines().find(|line| line.starts_with(start)).unwrap().to_owned();
        assert!(row("resident memory").contains(" 5.00 "), "{text}");
        assert!(row("processor time").contains(" 0.10 "), "{text}");
        assert!(row("crash to the replacement's workload, booted").ends_with("NO"), "{text}");
        assert!(!figures.complete());
    }
}
