//! What snapshots cost: the probe's figures, and the table of them.
//!
//! Duty: set medians beside what is promised and beside a cold boot of the same
//! guest. Not here: how they are measured (`tests/probe/snapshots.rs`).

use std::fmt;

use super::{
    figures::Figures,
    promises::{Promise, Promises},
};

/// What snapshots cost.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SnapshotFigures(pub(crate) Figures);

/// The last figure of a whole run.
const LAST: &str = "difference_16_kib";

impl SnapshotFigures {
    pub(crate) fn complete(&self) -> bool {
        self.0.has(LAST)
    }

    fn median(&self, name: &str) -> Option<u64> {
        self.0.median(name)
    }

    fn promises(&self) -> Promises {
        let hundredth_ms = |name: &str| self.median(name).map(|ns| ns / 10_000);
        let ratio = |a: Option<u64>, b: Option<u64>| Some(a? * 100 / b?.max(1));
        let list = [
            ("exec to a clone's first instruction", "ms", hundredth_ms("clone_entry_ns"), 4),
            ("exec to a clone that knows who it is", "ms", hundredth_ms("clone_identified_ns"), 15),
            (
                "private memory of a fresh clone, monitor included",
                "MiB",
                self.median("clone_private_kib").map(|kib| kib * 100 / 1024),
                6,
            ),
            (
                "the last ten of fifty clones, to the first ten",
                "times as long",
                ratio(self.median("many_last_identified_ns"), self.median("many_first_identified_ns")),
                // Flat: what is there already slows nobody down by more than a fifth.
                0,
            ),
            (
                "pause for a full snapshot, of a guest that uses 1 MiB",
                "ms",
                hundredth_ms("full_1_pause_ns"),
                60,
            ),
        ];
        let promise = |(what, unit, measured, most): (&str, _, _, u64)| {
            let at_most = if most == 0 { 120 } else { most * 100 };
            Promise { what: what.to_owned(), unit, measured, at_most }
        };
        Promises(list.into_iter().map(promise).collect())
    }
}

/// Thousandths of a unit, as a number with two places.
struct Thousandths(u64);

impl fmt::Display for Thousandths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}.{:02}", self.0 / 1000, self.0 % 1000 / 10))
    }
}

impl fmt::Display for SnapshotFigures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cold = self.median("cold_speaks_ns");
        writeln!(f, "{:<64} {:>10} {:>20}", "from exec, in ms", "median", "of a cold boot")?;
        for (what, name) in [
            ("cold boot to the workload's word", "cold_speaks_ns"),
            ("clone to its first instruction", "clone_entry_ns"),
            ("clone to its identity", "clone_identified_ns"),
            ("clone to the workload's word", "clone_speaks_ns"),
        ] {
            let (Some(ns), Some(cold)) = (self.median(name), cold) else { continue };
            let share = format!("1/{}", Thousandths(cold * 1000 / ns.max(1)));
            writeln!(f, "{what:<64} {:>10} {share:>20}", Thousandths(ns / 1000))?;
        }
        writeln!(
            f,
            "\n{:<64} {:>10} {:>20}",
            "a guest that runs is written down", "pause, ms", "KiB of memory"
        )?;
        for mib in [1, 16] {
            let of = |name: &str| self.median(&format!("{name}_{mib}_pause_ns"));
            if let (Some(full), Some(part), Some(kib)) =
                (of("full"), of("difference"), self.median(&format!("difference_{mib}_kib")))
            {
                let full_what = format!("in full, of a guest that uses {mib} MiB");
                writeln!(f, "{full_what:<64} {:>10} {:>20}", Thousandths(full / 1000), "-")?;
                let part_what = format!("the difference, {mib} MiB written to since");
                writeln!(f, "{part_what:<64} {:>10} {kib:>20}", Thousandths(part / 1000))?;
            }
        }
        if let (Some(private), Some(pss)) = (self.median("many_private_kib"), self.median("many_pss_kib")) {
            writeln!(
                f,
                "\n50 clones of a guest of 128 MiB: {} MiB of their own, {} MiB with their share of the template\n",
                private >> 10,
                pss >> 10
            )?;
        }
        write!(f, "{}", self.promises())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_stand_beside_a_cold_boot() {
        let mut figures = SnapshotFigures::default();
        for line in [
            "figure cold_speaks_ns 100000000",
            "figure clone_entry_ns 9000000",
            "figure clone_entry_ns 2000000",
            "figure clone_entry_ns 1000000",
        ] {
            assert!(figures.0.read(line), "{line}");
        }
        assert!(!figures.0.read("figure x") && !figures.0.read("figure x y") && !figures.complete());
        let text = figures.to_string();
        let line = |start: &str| text.lines().find(|line| line.starts_with(start)).unwrap().to_owned();
        let row = line("clone to its first instruction");
        let words: Vec<_> = row.split_ascii_whitespace().rev().take(2).collect();
        assert_eq!(words, ["1/50.00", "2.00"]);
        assert!(line("exec to a clone's first instruction").ends_with("yes"));
        assert!(line("exec to a clone that knows who it is").ends_with("NO"), "not measured");
        assert!(figures.0.read(&format!("figure {LAST} 5")) && figures.complete());
        assert!(figures.0.to_json().contains("\"clone_entry_ns\":2000000"));
    }
}
