//! Tables on a terminal.
//!
//! Duty: columns that line up; a figure beside its target with a word on whether it was met. Not here: figures.

use std::fmt;

/// A table with a heading; the first column is text, the others are figures.
#[derive(Debug, Default)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(heading: &[&str]) -> Table {
        Table { rows: vec![heading.iter().map(|&word| word.to_owned()).collect()] }
    }

    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }
}

impl fmt::Display for Table {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for row in &self.rows {
            let mut line = String::new();
            for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
                match column {
                    0 => line.push_str(&format!("{cell:<width$}")),
                    _ => line.push_str(&format!("  {cell:>width$}")),
                }
            }
            writeln!(formatter, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// A figure beside what it should be.
pub(crate) fn target(what: &str, figure: f64, digits: usize, wanted: Wanted) {
    let (met, bound) = match wanted {
        Wanted::AtLeast(bound) => (figure >= bound, format!(">= {bound:.digits$}")),
        Wanted::AtMost(bound) => (figure <= bound, format!("<= {bound:.digits$}")),
        Wanted::Within(low, high) => {
            ((low..=high).contains(&figure), format!("{low:.digits$} to {high:.digits$}"))
        }
    };
    let verdict = if met { "met" } else { "MISSED" };
    println!("{verdict:<6}  {what}: {figure:.digits$} (target {bound})");
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Wanted {
    AtLeast(f64),
    AtMost(f64),
    Within(f64, f64),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let mut table = Table::new(&["what", "a"]);
        table.row(["longer".into(), "12.5".into()]);
        assert_eq!(table.to_string(), "what       a\nlonger  12.5\n");
    }
}
