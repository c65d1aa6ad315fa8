//! What the monitor promises, and whether a measurement keeps it.
//!
//! Invariant: a promise that was not measured is not kept.

use std::fmt;

/// One promise beside its figure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Promise {
    pub(crate) what: String,
    pub(crate) unit: &'static str,
    /// In hundredths of the unit; `None` where nothing was measured.
    pub(crate) measured: Option<u64>,
    /// In hundredths of the unit.
    pub(crate) at_most: u64,
}

impl Promise {
    fn is_kept(&self) -> bool {
        self.measured.is_some_and(|measured| measured <= self.at_most)
    }
}

/// All of them, as a table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Promises(pub(crate) Vec<Promise>);

struct Hundredths(u64);

impl fmt::Display for Hundredths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}.{:02}", self.0 / 100, self.0 % 100))
    }
}

impl fmt::Display for Promises {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<64} {:>10} {:>10} {:>8}", "promise", "measured", "at most", "kept")?;
        for promise in &self.0 {
            let measured = promise.measured.map_or("-".to_owned(), |value| Hundredths(value).to_string());
            let what = format!("{}, {}", promise.what, promise.unit);
            let kept = if promise.is_kept() { "yes" } else { "NO" };
            writeln!(f, "{what:<64} {measured:>10} {:>10} {kept:>8}", Hundredths(promise.at_most))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_measured_is_not_kept() {
        let promise = |measured| Promise { what: "size".into(), unit: "KiB", measured, at_most: 150_000 };
        assert!(
            promise(Some(150_000)).is_kept() && !promise(Some(150_001)).is_kept() && !promise(None).is_kept()
        );
        let table = Promises(vec![promise(Some(149_950))]).to_string();
        let words: Vec<_> = table.lines().nth(1).unwrap().split_ascii_whitespace().collect();
        assert_eq!(words, ["size,", "KiB", "1499.50", "1500.00", "yes"]);
    }
}
