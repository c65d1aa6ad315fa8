//! Figures of the work race: what a request and a byte cost on each monitor.

use std::collections::BTreeMap;
use std::fmt;

use super::results::Ratio;

/// One kind of work on one monitor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cost {
    operations: u64,
    bytes: u64,
    instructions: u64,
}

/// What a monitor takes of its host while it works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Footprint {
    pub(crate) private_kib: u64,
    pub(crate) threads: u64,
}

/// All work of all contenders, ours first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Work {
    contenders: Vec<String>,
    /// In the order in which the guest does it.
    kinds: Vec<String>,
    costs: BTreeMap<(String, String), Cost>,
    footprints: BTreeMap<String, Footprint>,
}

impl Work {
    pub(crate) fn new(contenders: impl IntoIterator<Item = String>) -> Self {
        Self { contenders: contenders.into_iter().collect(), ..Self::default() }
    }

    /// Takes a line of the console and says whether it was one of the race.
    pub(crate) fn read(&mut self, line: &str) -> bool {
        let words: Vec<_> = line.split_ascii_whitespace().collect();
        let known = |name: &str| self.contenders.iter().any(|contender| contender == name);
        match words.as_slice() {
            ["result", name, kind, operations, bytes, instructions] if known(name) => {
                let (Ok(operations), Ok(bytes), Ok(instructions)) =
                    (operations.parse(), bytes.parse(), instructions.parse())
                else {
                    return false;
                };
                if !self.kinds.iter().any(|other| other == kind) {
                    self.kinds.push((*kind).to_owned());
                }
                let cost = Cost { operations, bytes, instructions };
                self.costs.insert(((*name).to_owned(), (*kind).to_owned()), cost);
                true
            }
            ["memory", name, kib, threads] if known(name) => {
                let (Ok(private_kib), Ok(threads)) = (kib.parse(), threads.parse()) else { return false };
                self.footprints.insert((*name).to_owned(), Footprint { private_kib, threads });
                true
            }
            _ => false,
        }
    }

    /// Whether every contender told of its end.
    pub(crate) fn complete(&self) -> bool {
        self.contenders.iter().all(|name| self.footprints.contains_key(name))
    }

    /// Who is at work, for people.
    pub(crate) fn awaited(&self) -> Option<&str> {
        self.contenders.iter().find(|name| !self.footprints.contains_key(*name)).map(String::as_str)
    }

    pub(crate) fn footprint(&self, name: &str) -> Option<Footprint> {
        self.footprints.get(name).copied()
    }

    /// Every kind of work with our instructions for it and the peer's, in hundredths of theirs.
    pub(crate) fn ratios(&self) -> Vec<(String, u64, u64)> {
        let [ours, peer, ..] = self.contenders.as_slice() else { return Vec::new() };
        let of = |name: &String, kind: &String| {
            self.costs.get(&(name.clone(), kind.clone())).map(|cost| cost.instructions)
        };
        self.kinds.iter().filter_map(|kind| Some((kind.clone(), of(ours, kind)?, of(peer, kind)?))).collect()
    }

    /// One JSON object.
    pub(crate) fn to_json(&self) -> String {
        let costs = self.costs.iter().map(|((name, kind), cost)| {
            format!(
                "{{\"name\":{name:?},\"work\":{kind:?},\"operations\":{},\"bytes\":{},\"instructions\":{}}}",
                cost.operations, cost.bytes, cost.instructions
            )
        });
        format!("[{}]", costs.collect::<Vec<_>>().join(","))
    }
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<18}", "instructions per")?;
        for name in &self.contenders {
            write!(f, " {:>16} {:>9}", name, "byte")?;
        }
        writeln!(f, " {:>8}", "ratio")?;
        for kind in &self.kinds {
            write!(f, "{kind:<18}")?;
            let costs: Vec<_> =
                self.contenders.iter().map(|name| self.costs.get(&(name.clone(), kind.clone()))).collect();
            for cost in &costs {
                match cost {
                    Some(cost) => {
                        let per_operation = cost.instructions / cost.operations.max(1);
                        write!(f, " {per_operation:>16} {:>9}", Ratio(cost.instructions, cost.bytes))?;
                    }
                    None => write!(f, " {:>16} {:>9}", "-", "-")?,
                }
            }
            match costs.as_slice() {
                [Some(ours), Some(peer), ..] => {
                    writeln!(f, " {:>8}", Ratio(ours.instructions, peer.instructions))?;
                }
                _ => writeln!(f, " {:>8}", "-")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_read_and_compared() {
        let mut work = Work::new(["ours".to_owned(), "peer".to_owned()]);
        assert!(work.read("result ours block-read-4k 100 409600 5000000"));
        assert!(work.read("result peer block-read-4k 100 409600 10000000"));
        assert!(!work.read("result nobody block-read-4k 1 1 1") && !work.read("result ours x y 1 1"));
        assert!(work.read("memory ours 1800 2"));
        assert_eq!((work.complete(), work.awaited()), (false, Some("peer")));
        assert!(work.read("memory peer 50000 4") && work.complete());
        assert_eq!(work.footprint("ours"), Some(Footprint { private_kib: 1800, threads: 2 }));
        assert_eq!(work.ratios(), [("block-read-4k".to_owned(), 5_000_000, 10_000_000)]);
        let table = work.to_string();
        let words: Vec<_> = table.lines().nth(1).unwrap().split_ascii_whitespace().collect();
        assert_eq!(words, ["block-read-4k", "50000", "12.21", "100000", "24.41", "0.50"]);
    }
}
