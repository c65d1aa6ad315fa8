//! The public data, as files.
//!
//! Duty: read series and labelled windows. Not here: what is measured on them. Invariant: a row that does not read
//! is an error that names file and line, never skipped.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use hearth_predictor::{Seconds, neural::WeightsFault};
use thiserror::Error;

#[derive(Debug, Error)]
pub(crate) enum DataError {
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{}:{line}: expected {expected}", path.display())]
    Row { path: PathBuf, line: usize, expected: &'static str },
    #[error("{}", path.display())]
    Weights { path: PathBuf, source: WeightsFault },
    #[error("cannot write {}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("{}: {text:?} is no series in that folder, or its windows lie outside of it", path.display())]
    Window { path: PathBuf, text: String },
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Row {
    pub(crate) at: Seconds,
    pub(crate) value: f64,
}

/// A series with the windows that people labelled in it: first and last row of each.
#[derive(Clone, Debug)]
pub(crate) struct Labelled {
    pub(crate) name: String,
    pub(crate) rows: Vec<Row>,
    pub(crate) windows: Vec<(usize, usize)>,
}

/// The rows of a CSV file with a heading: the time from the first column, the value from one of the others.
pub(crate) fn read_csv(path: &Path, column: usize) -> Result<Vec<Row>, DataError> {
    let text = read(path)?;
    let mut rows = Vec::new();
    for (index, line) in text.lines().enumerate().skip(1) {
        let row = |expected| DataError::Row { path: path.to_owned(), line: index + 1, expected };
        let mut fields = line.split(',');
        let at = fields.next().and_then(parse_time).ok_or_else(|| row("a time, YYYY-MM-DD hh:mm:ss"))?;
        let value = fields.nth(column - 1).and_then(|field| field.trim().parse().ok());
        rows.push(Row { at, value: value.ok_or_else(|| row("a number"))? });
    }
    Ok(rows)
}

/// All labelled series below a folder, by the list in its `windows.json`.
pub(crate) fn read_labelled(folder: &Path) -> Result<Vec<Labelled>, DataError> {
    let list = folder.join("windows.json");
    let text = read(&list)?;
    let mut series: Vec<Labelled> = Vec::new();
    let mut open: Option<Seconds> = None;
    // Names and times are its only strings, and no string in it has a quote.
    for word in text.split('"').skip(1).step_by(2) {
        let failed = || DataError::Window { path: list.clone(), text: word.to_owned() };
        if Path::new(word).extension().is_some_and(|extension| extension == "csv") {
            let rows = read_csv(&folder.join(word), 1)?;
            series.push(Labelled { name: word.to_owned(), rows, windows: Vec::new() });
            continue;
        }
        let at = parse_time(word).ok_or_else(failed)?;
        let Some(from) = open.take() else {
            open = Some(at);
            continue;
        };
        let current = series.last_mut().ok_or_else(failed)?;
        let first = current.rows.iter().position(|row| row.at >= from).ok_or_else(failed)?;
        let last = current.rows.iter().rposition(|row| row.at <= at).ok_or_else(failed)?;
        current.windows.push((first, last));
    }
    Ok(series)
}

fn read(path: &Path) -> Result<String, DataError> {
    fs::read_to_string(path).map_err(|source| DataError::Read { path: path.to_owned(), source })
}

/// `YYYY-MM-DD hh:mm:ss`, with whatever after it, in seconds since 1970.
fn parse_time(text: &str) -> Option<Seconds> {
    let number = |from: usize, to: usize| text.get(from..to)?.parse::<u64>().ok();
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    if !(1970..10_000).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    // Years that begin in March have their odd day at the end.
    let year = if month <= 2 { year - 1 } else { year };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = year * 365 + year / 4 - year / 100 + year / 400 + day_of_year - 719_468;
    Some(Seconds(days * 86_400 + number(11, 13)? * 3600 + number(14, 16)? * 60 + number(17, 19)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_seconds_since_1970() {
        assert_eq!(parse_time("1970-01-01 00:00:00"), Some(Seconds(0)));
        assert_eq!(parse_time("2000-02-29 12:00:01"), Some(Seconds(951_825_601)));
        assert_eq!(parse_time("2014-04-10 16:15:00.000000"), Some(Seconds(1_397_146_500)));
        assert_eq!(parse_time("2014-13-10 16:15:00"), None);
        assert_eq!(parse_time("today"), None);
    }
}
