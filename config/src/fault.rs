//! What is wrong with a configuration file, and where.
//!
//! Duty: one fault per mistake, one line per fault, made for the person who edits the file.
//! Not here: finding the mistakes (`reader` and the types do).
//! Invariant: [`Faults`] is never empty, and its order is the order in the file.

use std::error::Error;
use std::fmt;

/// A place in a text, both counted from 1; the column counts characters, not bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    pub line: usize,
    pub column: usize,
}

impl Position {
    pub const START: Position = Position { line: 1, column: 1 };

    /// The place of the byte at `offset`; an offset past the end names the end.
    pub(crate) fn of(text: &str, offset: usize) -> Position {
        let mut end = offset.min(text.len());
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let before = &text[..end];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Position { line: before.matches('\n').count() + 1, column: before[line_start..].chars().count() + 1 }
    }
}

/// One mistake. `key` is empty when the text is not TOML; `position` is `None` when there is no text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub file: String,
    pub position: Option<Position>,
    pub key: String,
    pub message: String,
}

impl Fault {
    /// A fault of the file as a whole.
    pub fn of_file(file: impl Into<String>, message: impl Into<String>) -> Fault {
        Fault { file: file.into(), position: None, key: String::new(), message: message.into() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file)?;
        if let Some(Position { line, column }) = self.position {
            write!(f, "{line}:{column}:")?;
        }
        if !self.key.is_empty() {
            write!(f, " {}:", self.key)?;
        }
        write!(f, " {}", self.message)
    }
}

/// All mistakes found in one go: at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults(Vec<Fault>);

impl Faults {
    /// `None` when there is nothing to report.
    pub fn from_list(mut list: Vec<Fault>) -> Option<Faults> {
        // The files keep their order, faults of one file sort by place.
        let mut files: Vec<String> = Vec::new();
        for fault in &list {
            if !files.contains(&fault.file) {
                files.push(fault.file.clone());
            }
        }
        list.sort_by_key(|fault| (files.iter().position(|file| *file == fault.file), fault.position));
        if list.is_empty() { None } else { Some(Faults(list)) }
    }

    pub fn iter(&self) -> std::slice::Iter<'_, Fault> {
        self.0.iter()
    }

    pub fn into_list(self) -> Vec<Fault> {
        self.0
    }
}

impl From<Fault> for Faults {
    fn from(fault: Fault) -> Faults {
        Faults(vec![fault])
    }
}

impl<'a> IntoIterator for &'a Faults {
    type Item = &'a Fault;
    type IntoIter = std::slice::Iter<'a, Fault>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.0.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{fault}")?;
        }
        Ok(())
    }
}

impl Error for Faults {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn position_counts_characters_and_survives_any_offset() {
        let text = "a = 1\nbü = 2\n";
        assert_eq!(Position::of(text, 0), Position::START);
        assert_eq!(Position::of(text, 6), Position { line: 2, column: 1 });
        assert_eq!(Position::of(text, text.find('=').unwrap()), Position { line: 1, column: 3 });
        assert_eq!(Position::of(text, text.rfind('=').unwrap()), Position { line: 2, column: 4 });
        let inside_the_umlaut = text.find('ü').unwrap() + 1;
        assert_eq!(Position::of(text, inside_the_umlaut), Position { line: 2, column: 2 });
        assert_eq!(Position::of(text, 999), Position { line: 3, column: 1 });
    }

    #[test]
    fn faults_print_one_line_each_in_the_order_of_the_file() {
        let fault = |line, key: &str| Fault {
            file: "vm.toml".into(),
            position: Some(Position { line, column: 1 }),
            key: key.into(),
            message: "expected more".into(),
        };
        let faults = Faults::from_list(vec![fault(4, "b"), fault(2, "a")]).unwrap();
        assert_eq!(faults.to_string(), "vm.toml:2:1: a: expected more\nvm.toml:4:1: b: expected more");
        let of = |file: &str, line| Fault { file: file.into(), ..fault(line, "k") };
        let mixed = Faults::from_list(vec![of("b", 3), of("a", 2), of("b", 1), of("a", 1)]).unwrap();
        let places: Vec<_> =
            mixed.iter().map(|fault| (fault.file.as_str(), fault.position.unwrap().line)).collect();
        assert_eq!(places, [("b", 1), ("b", 3), ("a", 1), ("a", 2)]);
        assert_eq!(Faults::from_list(vec![]), None);
        assert_eq!(Fault::of_file("x.toml", "cannot be read").to_string(), "x.toml: cannot be read");
    }
}
