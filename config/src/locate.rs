//! Where a key stands in a file that was read before: for faults that only show when the value is used.

use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::fault::{Fault, Position};

/// The fault of `key` (such as `boot.kernel` or `block[1].path`) in the file at `path`: as exact as the file allows.
///
/// A file that changed meanwhile, or is gone, gives a fault without a position.
pub fn fault_at(path: &Path, key: &str, message: impl Into<String>) -> Fault {
    let position = std::fs::read_to_string(path).ok().and_then(|text| locate(&text, key));
    Fault { file: path.display().to_string(), position, key: key.to_owned(), message: message.into() }
}

fn locate(text: &str, key: &str) -> Option<Position> {
    let root = DeTable::parse(text).ok()?;
    let mut table = root.get_ref();
    let mut at = None;
    for part in key.split('.') {
        let (name, index) = match part.split_once('[') {
            Some((name, rest)) => (name, Some(rest.strip_suffix(']')?.parse::<usize>().ok()?)),
            None => (part, None),
        };
        let (found, value) = table.iter().find(|(found, _)| found.get_ref().as_ref() == name)?;
        at = Some(found.span().start);
        let value = match (index, value.get_ref()) {
            (Some(index), DeValue::Array(items)) => items.get(index).map(Spanned::get_ref)?,
            (Some(_), _) => return None,
            (None, value) => value,
        };
        match value {
            DeValue::Table(inner) => table = inner,
            _ => return at.map(|offset| Position::of(text, offset)),
        }
    }
    at.map(|offset| Position::of(text, offset))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_found_in_tables_and_in_lists_of_tables() {
        let text =
            "[boot]\nkernel = \"k\"\n\n[[block]]\npath = \"a\"\n[[block]]\nid = \"x\"\n  path = \"b\"\n";
        let at = |key| locate(text, key).map(|position| (position.line, position.column));
        assert_eq!(at("boot.kernel"), Some((2, 1)));
        assert_eq!(at("block[1].path"), Some((8, 3)));
        assert_eq!(at("boot"), Some((1, 2)));
        for absent in ["boot.initrd", "block[2].path", "boot[0]", "block[x].path", ""] {
            assert_eq!(at(absent), None, "{absent}");
        }
    }

    #[test]
    fn a_file_that_is_gone_gives_a_fault_without_a_position() {
        let fault = fault_at(Path::new("/nonexistent/vm.toml"), "boot.kernel", "expected a kernel");
        assert_eq!(fault.to_string(), "/nonexistent/vm.toml: boot.kernel: expected a kernel");
    }
}
