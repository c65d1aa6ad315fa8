//! How soon a box heals, by the order in which it tries what may help.
//!
//! ```text
//! incident FAULT cured UNTIL_NOTICED UNTIL_REPAIRED        milliseconds
//! incident FAULT escalated
//! ```
//!
//! Duty: the incidents of three boxes that differ in that order alone, and the table of them. Not here: how they are made
//! (`tests/probe/recovery`). Invariant: means are over incidents that were cured; those for which a person was called are
//! counted apart.

use std::{collections::BTreeMap, fmt, fmt::Write as _};

use super::promises::{Promise, Promises};

/// Words of `heal.order` in a workload's file; the last one is compared with the others.
pub(crate) const ORDERS: [&str; 3] = ["strength", "cost", "learnt"];
/// Of each fault.
const INCIDENTS: usize = 30;
/// Of the ladder by strength, and of the one by cost, in hundredths.
const OF_STRENGTH: u64 = 90;
const OF_COST: u64 = 102;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Incident {
    Cured { noticed_ms: u64, repaired_ms: u64 },
    Escalated,
}

/// All incidents of all boxes: by fault, in the order in which they first came, and by order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Recovery {
    faults: Vec<String>,
    incidents: BTreeMap<(&'static str, String), Vec<Incident>>,
}

impl Recovery {
    /// Takes a line of the console of the board with this order; whether it was one of an incident.
    pub(crate) fn read(&mut self, order: &'static str, line: &str) -> bool {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let (fault, incident) = match words.as_slice() {
            ["incident", fault, "escalated"] => (*fault, Incident::Escalated),
            ["incident", fault, "cured", noticed, repaired] => match (noticed.parse(), repaired.parse()) {
                (Ok(noticed_ms), Ok(repaired_ms)) => (*fault, Incident::Cured { noticed_ms, repaired_ms }),
                _ => return false,
            },
            _ => return false,
        };
        if !self.faults.iter().any(|known| known == fault) {
            self.faults.push(fault.to_owned());
        }
        self.incidents.entry((order, fault.to_owned())).or_default().push(incident);
        true
    }

    /// Whether the board with this order met all that it was to meet.
    pub(crate) fn complete(&self, order: &'static str) -> bool {
        !self.faults.is_empty() && self.faults.iter().all(|fault| self.of(order, fault).count() == INCIDENTS)
    }

    fn of(&self, order: &'static str, fault: &str) -> impl Iterator<Item = Incident> {
        self.incidents.get(&(order, fault.to_owned())).into_iter().flatten().copied()
    }

    fn sum(&self, order: &'static str, faults: &[String]) -> Sum {
        faults.iter().flat_map(|fault| self.of(order, fault)).fold(Sum::default(), Sum::with)
    }

    /// The lines again, with the order before each.
    pub(crate) fn lines(&self) -> String {
        let mut text = String::new();
        for ((order, fault), incidents) in &self.incidents {
            for incident in incidents {
                // A string takes everything.
                let _ = match incident {
                    Incident::Cured { noticed_ms, repaired_ms } => {
                        writeln!(text, "{order} {fault} cured {noticed_ms} {repaired_ms}")
                    }
                    Incident::Escalated => writeln!(text, "{order} {fault} escalated"),
                };
            }
        }
        text
    }

    fn row(&self, f: &mut fmt::Formatter<'_>, name: &str, faults: &[String]) -> fmt::Result {
        let [strength, cost, learnt] = ORDERS.map(|order| self.sum(order, faults));
        let noticed = strength.with_all(cost).with_all(learnt).noticed_ms();
        write!(f, "{name:<20} {:>9}", Thousandths(noticed))?;
        for sum in [strength, cost, learnt] {
            write!(f, " {:>9}", Thousandths(sum.repaired_ms()))?;
        }
        let ratio = |other: Sum| Thousandths(learnt.repaired_ms() * 1000 / other.repaired_ms().max(1));
        write!(f, " {:>10} {:>10}", ratio(strength), ratio(cost))?;
        let escalated = [strength, cost, learnt].map(|sum| sum.escalated.to_string()).join(", ");
        writeln!(f, "   {escalated} of {}", learnt.cured + learnt.escalated)
    }

    fn hundredths_of(&self, other: &'static str, faults: &[String]) -> Option<u64> {
        let (learnt, other) = (self.sum("learnt", faults), self.sum(other, faults));
        // Rounded up: a promise is not kept by rounding.
        (other.cured > 0 && learnt.cured > 0)
            .then(|| (learnt.repaired_ms() * 100).div_ceil(other.repaired_ms().max(1)))
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    cured: u64,
    noticed: u64,
    repaired: u64,
    escalated: u64,
}

impl Sum {
    fn with(self, incident: Incident) -> Sum {
        match incident {
            Incident::Cured { noticed_ms, repaired_ms } => Sum {
                cured: self.cured + 1,
                noticed: self.noticed + noticed_ms,
                repaired: self.repaired + repaired_ms,
                ..self
            },
            Incident::Escalated => Sum { escalated: self.escalated + 1, ..self },
        }
    }

    fn with_all(self, other: Sum) -> Sum {
        Sum {
            cured: self.cured + other.cured,
            noticed: self.noticed + other.noticed,
            repaired: self.repaired + other.repaired,
            escalated: self.escalated + other.escalated,
        }
    }

    fn noticed_ms(self) -> u64 {
        self.noticed / self.cured.max(1)
    }

    fn repaired_ms(self) -> u64 {
        self.repaired / self.cured.max(1)
    }
}

struct Thousandths(u64);

impl fmt::Display for Thousandths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}.{:03}", self.0 / 1000, self.0 % 1000))
    }
}

impl fmt::Display for Recovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<20} {:>9} {:>9} {:>9} {:>9} {:>10} {:>10}   escalated:\n{:<20} {:>9} {:>9} {:>9} {:>9} {:>10} {:>10}   strength, cost, learnt",
            "fault, 30 times",
            "noticed",
            "repaired",
            "",
            "",
            "learnt/",
            "learnt/",
            "",
            "after s",
            "strength",
            "cost",
            "learnt",
            "strength",
            "cost"
        )?;
        for fault in &self.faults {
            self.row(f, fault, std::slice::from_ref(fault))?;
        }
        self.row(f, "all", &self.faults)?;
        let worst =
            self.faults.iter().filter_map(|fault| self.hundredths_of("cost", std::slice::from_ref(fault)));
        let promise = |what: &str, measured, at_most| Promise {
            what: what.to_owned(),
            unit: "ratio",
            measured,
            at_most,
        };
        let list = vec![
            promise(
                "repair beside the ladder by strength",
                self.hundredths_of("strength", &self.faults),
                OF_STRENGTH,
            ),
            promise("repair beside the ladder by cost, worst fault", worst.max(), OF_COST),
        ];
        write!(f, "\n{}", Promises(list))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(lines: &[(&'static str, &str)]) -> Recovery {
        let mut recovery = Recovery::default();
        for (order, line) in lines {
            assert!(recovery.read(order, line), "{line}");
        }
        recovery
    }

    #[test]
    fn means_are_over_what_was_cured_and_the_rest_is_counted_apart() {
        let recovery = told(&[
            ("strength", "incident hangs cured 100 2000"),
            ("strength", "incident hangs cured 300 4000"),
            ("strength", "incident hangs escalated"),
            ("cost", "incident hangs cured 100 1000"),
            ("learnt", "incident hangs cured 100 1025"),
        ]);
        let text = recovery.to_string();
        let row = text.lines().find(|line| line.starts_with("hangs ")).unwrap();
        let words: Vec<_> = row.split_ascii_whitespace().collect();
        assert_eq!(words[1..7], ["0.150", "3.000", "1.000", "1.025", "0.341", "1.025"], "{text}");
        assert!(row.ends_with("1, 0, 0 of 1"), "{text}");
        let last: Vec<_> =
            text.lines().rev().take(2).map(|line| line.split_ascii_whitespace().last()).collect();
        assert_eq!(last, [Some("NO"), Some("yes")], "1.025 is more than 1.02: {text}");
    }

    #[test]
    fn a_box_that_met_less_than_the_others_is_not_complete() {
        let mut recovery = Recovery::default();
        assert!(!recovery.complete("cost"));
        for number in 0..INCIDENTS {
            assert!(!recovery.complete("cost"), "{number}");
            assert!(recovery.read("cost", "incident hangs escalated"));
        }
        assert!(recovery.complete("cost") && !recovery.complete("learnt"));
        assert!(!recovery.read("cost", "incident hangs cured 1") && !recovery.read("cost", "hangs: cured"));
    }
}
