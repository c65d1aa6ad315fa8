//! `figure NAME VALUE`, the line in which a program on a board says what it measured.
//!
//! Duty: collect them. Not here: what they mean (`snapshots`, `daemon`).

use std::collections::BTreeMap;

use super::results::median;

/// Every value of every figure, in the order in which they came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Figures(BTreeMap<String, Vec<u64>>);

impl Figures {
    /// Takes a line of the board's console; whether it was one of a figure.
    pub(crate) fn read(&mut self, line: &str) -> bool {
        let mut words = line.split_ascii_whitespace();
        let (Some("figure"), Some(name), Some(value), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return false;
        };
        let Ok(value) = value.parse() else { return false };
        self.0.entry(name.to_owned()).or_default().push(value);
        true
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    pub(crate) fn median(&self, name: &str) -> Option<u64> {
        self.0.get(name).map(|values| median(values))
    }

    /// All medians as one JSON object.
    pub(crate) fn to_json(&self) -> String {
        let pairs: Vec<String> =
            self.0.iter().map(|(name, values)| format!("\"{name}\":{}", median(values))).collect();
        format!("{{{}}}\n", pairs.join(","))
    }
}
