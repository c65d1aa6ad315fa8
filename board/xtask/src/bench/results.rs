//! The runs of a race, as a table for people and as JSON for programs.

use std::fmt;

/// One contender's runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) name: String,
    /// Bytes of its program on this machine.
    pub(crate) program_bytes: u64,
    ready_ns: Vec<u64>,
    entry_ns: Vec<u64>,
    private_kib: Vec<u64>,
}

/// All contenders, ours first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Results {
    rows: Vec<Row>,
}

impl Results {
    /// An empty table for these contenders.
    pub(crate) fn new(contenders: impl IntoIterator<Item = (String, u64)>) -> Self {
        let row = |(name, program_bytes)| Row {
            name,
            program_bytes,
            ready_ns: Vec::new(),
            entry_ns: Vec::new(),
            private_kib: Vec::new(),
        };
        Self { rows: contenders.into_iter().map(row).collect() }
    }

    /// Takes a line of the console and says whether it was a run; all others are somebody else's.
    pub(crate) fn read(&mut self, line: &str) -> bool {
        let words: Vec<_> = line.split_ascii_whitespace().collect();
        let [kind, name, numbers @ ..] = words.as_slice() else { return false };
        let Some(row) = self.rows.iter_mut().find(|row| row.name == *name) else { return false };
        let numbers: Result<Vec<u64>, _> = numbers.iter().map(|number| number.parse()).collect();
        match (*kind, numbers.as_deref()) {
            ("run", Ok([ready, kib])) => {
                row.ready_ns.push(*ready);
                row.private_kib.push(*kib);
                true
            }
            ("entry", Ok([entry])) => {
                row.entry_ns.push(*entry);
                true
            }
            _ => false,
        }
    }

    /// Whether every contender has all its runs.
    pub(crate) fn complete(&self, rounds: usize) -> bool {
        self.rows.iter().all(|row| row.ready_ns.len() == rounds)
    }

    /// The run that comes next: contenders take turns.
    pub(crate) fn awaited(&self) -> Option<(usize, &str)> {
        // The first of those that have the fewest.
        let next = self.rows.iter().min_by_key(|row| row.ready_ns.len())?;
        Some((next.ready_ns.len() + 1, &next.name))
    }

    /// The median time to READY, in nanoseconds, of contender `name`.
    pub(crate) fn ready_ns(&self, name: &str) -> Option<u64> {
        let row = self.rows.iter().find(|row| row.name == name)?;
        (!row.ready_ns.is_empty()).then(|| median(&row.ready_ns))
    }

    /// The median time to the first instruction of the guest, in nanoseconds, of contender `name`.
    pub(crate) fn entry_ns(&self, name: &str) -> Option<u64> {
        let row = self.rows.iter().find(|row| row.name == name)?;
        (!row.entry_ns.is_empty()).then(|| median(&row.entry_ns))
    }

    /// One JSON object.
    pub(crate) fn to_json(&self) -> String {
        let rows: Vec<_> = self
            .rows
            .iter()
            .map(|row| {
                format!(
                    "{{\"name\":{:?},\"ready_ns\":{:?},\"entry_ns\":{:?},\"private_kib\":{:?},\"program_bytes\":{}}}",
                    row.name, row.ready_ns, row.entry_ns, row.private_kib, row.program_bytes
                )
            })
            .collect();
        format!("{{\"boot\":[{}]}}\n", rows.join(","))
    }
}

pub(crate) fn median(values: &[u64]) -> u64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied().unwrap_or(0)
}

/// `123.4` out of 123,400,000 nanoseconds.
struct Milliseconds(u64);

impl fmt::Display for Milliseconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tenths = (self.0 + 50_000) / 100_000;
        f.pad(&format!("{}.{}", tenths / 10, tenths % 10))
    }
}

/// `1.25` out of 5 and 4.
pub(crate) struct Ratio(pub(crate) u64, pub(crate) u64);

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hundredths = (u128::from(self.0) * 100 + u128::from(self.1) / 2) / u128::from(self.1.max(1));
        f.pad(&format!("{}.{:02}", hundredths / 100, hundredths % 100))
    }
}

impl fmt::Display for Results {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<16} {:>10} {:>10} {:>10} {:>8} {:>14} {:>13}",
            "monitor", "median ms", "least ms", "most ms", "to first", "memory KiB", "program KiB"
        )?;
        let first = self.rows.first().map_or(1, |row| median(&row.ready_ns));
        for row in &self.rows {
            let (least, most) = (row.ready_ns.iter().min(), row.ready_ns.iter().max());
            writeln!(
                f,
                "{:<16} {:>10} {:>10} {:>10} {:>8} {:>14} {:>13}",
                row.name,
                Milliseconds(median(&row.ready_ns)),
                Milliseconds(least.copied().unwrap_or(0)),
                Milliseconds(most.copied().unwrap_or(0)),
                Ratio(median(&row.ready_ns), first),
                median(&row.private_kib),
                row.program_bytes.div_ceil(1024),
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_become_medians_and_ratios_to_the_first() {
        let mut results = Results::new([("ours".to_owned(), 1 << 20), ("peer".to_owned(), 2 << 20)]);
        for line in
            ["run ours 100000000 900", "noise", "run peer 250000000 5000", "run nobody 1 1", "run ours x 1"]
        {
            let counts = results.read(line);
            assert_eq!(counts, line.ends_with("00"), "{line}");
            if line.starts_with("run ours 1") {
                assert_eq!(results.awaited(), Some((1, "peer")));
            }
        }
        assert_eq!(results.awaited(), Some((2, "ours")));
        assert!(results.complete(1) && !results.complete(2));
        assert!(results.read("entry ours 2000000") && !results.read("entry ours"));
        assert_eq!((results.entry_ns("ours"), results.entry_ns("peer")), (Some(2_000_000), None));
        let table = results.to_string();
        let lines: Vec<_> = table.lines().collect();
        let words = |line: &str| line.split_ascii_whitespace().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(words(lines[1]), ["ours", "100.0", "100.0", "100.0", "1.00", "900", "1024"]);
        assert_eq!(words(lines[2]), ["peer", "250.0", "250.0", "250.0", "2.50", "5000", "2048"]);
        assert!(results.to_json().starts_with(
            r#"{"boot":[{"name":"ours","ready_ns":[100000000],"entry_ns":[2000000],"private_kib":[900],"program_bytes":1048576}"#
        ));
    }
}
