//! A typed reader over a parsed TOML text that goes on after a fault.
//!
//! Duty: turn tables into values, and every mistake into a [`Fault`] with its place.
//! Not here: which keys exist (each type says so by asking for them).
//! Invariant: [`read`] returns a value only when no fault was found. That is why getters may hand out
//! placeholders after a fault: no placeholder leaves this crate.
//!
//! Not serde: it stops at the first mistake, loses the place of semantic ones, and costs more code in the
//! monitor, whose size is a promise.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::fault::{Fault, Faults, Position};

/// Bytes of a configuration file. The largest sensible one has some tens of KiB; protects the reader of a wrong path.
const MAX_FILE_BYTES: u64 = 1 << 20;
/// Characters of a wrong value that a fault repeats; keeps it on one line.
const MAX_QUOTED_CHARS: usize = 40;

/// Reads the file at `path`; relative paths inside mean "beside that file".
pub(crate) fn load<T>(path: &Path, shape: impl FnOnce(&mut Table<'_>) -> T) -> Result<T, Faults> {
    let name = path.display().to_string();
    let text = read_bounded(path).map_err(|message| Fault::of_file(name.clone(), message))?;
    read(&name, &text, path.parent().unwrap_or(Path::new("")), shape)
}

fn read_bounded(path: &Path) -> Result<String, String> {
    let cannot = |error: std::io::Error| format!("cannot be read: {error}");
    let file = File::open(path).map_err(cannot)?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(cannot)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(format!("expected a configuration file of at most {} KiB", MAX_FILE_BYTES >> 10));
    }
    String::from_utf8(bytes).map_err(|_| "expected UTF-8 text".to_owned())
}

/// Reads `text`, calling it `name` in faults; relative paths are put under `base`.
pub(crate) fn read<T>(
    name: &str,
    text: &str,
    base: &Path,
    shape: impl FnOnce(&mut Table<'_>) -> T,
) -> Result<T, Faults> {
    let (root, errors) = DeTable::parse_recoverable(text);
    let doc = Document { name, text, base, faults: RefCell::new(Vec::new()) };
    for error in &errors {
        doc.fault(error.span().unwrap_or(0..0).start, "", error.message().replace('\n', " "));
    }
    // What a parser guesses behind a syntax error would only blame innocent lines.
    let value = errors.is_empty().then(|| {
        let mut table = Table {
            doc: &doc,
            path: String::new(),
            offset: 0,
            entries: Some(root.get_ref()),
            known: Vec::new(),
        };
        let value = shape(&mut table);
        table.finish();
        value
    });
    match (Faults::from_list(doc.faults.into_inner()), value) {
        (None, Some(value)) => Ok(value),
        (Some(faults), _) => Err(faults),
        (None, None) => Err(Fault::of_file(name, "expected TOML").into()),
    }
}

struct Document<'t> {
    name: &'t str,
    text: &'t str,
    base: &'t Path,
    faults: RefCell<Vec<Fault>>,
}

impl Document<'_> {
    fn fault(&self, offset: usize, key: &str, message: impl Into<String>) {
        self.faults.borrow_mut().push(Fault {
            file: self.name.to_owned(),
            position: Some(Position::of(self.text, offset)),
            key: key.to_owned(),
            message: message.into(),
        });
    }
}

/// A table being read. Asking for a key makes it known; unknown ones are faults in the end.
pub(crate) struct Table<'t> {
    doc: &'t Document<'t>,
    path: String,
    offset: usize,
    /// `None` for a table that the file leaves out.
    entries: Option<&'t DeTable<'t>>,
    known: Vec<&'static str>,
}

impl<'t> Table<'t> {
    pub(crate) fn entry(&mut self, key: &'static str) -> Entry<'t> {
        self.known.push(key);
        let path = join(&self.path, key);
        match self.entries.and_then(|entries| entries.get_key_value(key)) {
            Some((name, value)) => {
                Entry { doc: self.doc, path, offset: name.span().start, value: Some(value.get_ref()) }
            }
            None => Entry { doc: self.doc, path, offset: self.offset, value: None },
        }
    }

    /// As [`Table::entry`], but its absence is a fault that says what belongs there.
    pub(crate) fn required(&mut self, key: &'static str, what: &str) -> Entry<'t> {
        let entry = self.entry(key);
        if entry.value.is_none() {
            entry.fault(format!("missing, expected {what}"));
        }
        entry
    }

    /// A table with defaults for everything it may leave out, itself included.
    pub(crate) fn section<T>(&mut self, key: &'static str, shape: impl FnOnce(&mut Table<'t>) -> T) -> T {
        let entry = self.entry(key);
        let entries = entry.value.and_then(|value| entry.as_table(value));
        let mut table =
            Table { doc: entry.doc, path: entry.path, offset: entry.offset, entries, known: Vec::new() };
        let faults_before = table.doc.faults.borrow().len();
        let value = shape(&mut table);
        if entry.value.is_some() && entries.is_none() {
            // Not a table at all: that is the one fault to tell, not that its keys are missing.
            table.doc.faults.borrow_mut().truncate(faults_before);
        }
        table.finish();
        value
    }

    /// A table whose absence means something.
    pub(crate) fn optional_section<T>(
        &mut self,
        key: &'static str,
        shape: impl FnOnce(&mut Table<'t>) -> T,
    ) -> Option<T> {
        let present = self.entries.is_some_and(|entries| entries.contains_key(key));
        if present {
            Some(self.section(key, shape))
        } else {
            self.known.push(key);
            None
        }
    }

    /// `[[key]]`: any number of tables.
    pub(crate) fn sections<T>(
        &mut self,
        key: &'static str,
        max: usize,
        mut shape: impl FnMut(&mut Table<'t>) -> T,
    ) -> Vec<T> {
        let entry = self.entry(key);
        let mut list = Vec::new();
        let Some(items) = entry.as_array(&format!("a list of tables, written [[{key}]]"), max) else {
            return list;
        };
        for (index, item) in items.iter().enumerate() {
            let item_entry = entry.item(index, item);
            let Some(entries) = item_entry.as_table(item.get_ref()) else { continue };
            let mut table = Table {
                doc: self.doc,
                path: item_entry.path,
                offset: item_entry.offset,
                entries: Some(entries),
                known: Vec::new(),
            };
            list.push(shape(&mut table));
            table.finish();
        }
        list
    }

    fn finish(self) {
        let Some(entries) = self.entries else { return };
        for key in entries.keys() {
            let name: &str = key.get_ref();
            if self.known.contains(&name) {
                continue;
            }
            let guess =
                nearest(name, &self.known).map_or(String::new(), |near| format!(", did you mean {near}?"));
            let message = format!("unknown key{guess} (known here: {})", self.known.join(", "));
            self.doc.fault(key.span().start, &join(&self.path, name), message);
        }
    }
}

/// A key and the value that the file gives it, if any.
pub(crate) struct Entry<'t> {
    doc: &'t Document<'t>,
    path: String,
    offset: usize,
    value: Option<&'t DeValue<'t>>,
}

impl<'t> Entry<'t> {
    pub(crate) fn fault(&self, message: impl Into<String>) {
        self.doc.fault(self.offset, &self.path, message);
    }

    pub(crate) fn position(&self) -> Position {
        Position::of(self.doc.text, self.offset)
    }

    pub(crate) fn text(&self) -> Option<&'t str> {
        let value = self.value?;
        let text = value.as_str();
        if text.is_none() {
            self.unexpected("a string", value);
        }
        text
    }

    /// A string that `read` understands, else a fault that says what was `expected`.
    pub(crate) fn text_as<T>(&self, expected: &str, read: impl FnOnce(&str) -> Option<T>) -> Option<T> {
        let text = self.text()?;
        let value = read(text);
        if value.is_none() {
            self.fault(format!("expected {expected}, found {}", quoted(text)));
        }
        value
    }

    /// One of the named values.
    pub(crate) fn choice<T: Copy>(&self, choices: &[(&str, T)]) -> Option<T> {
        let names: Vec<String> = choices.iter().map(|(name, _)| format!("\"{name}\"")).collect();
        self.text_as(&one_of(&names), |text| {
            choices.iter().find(|(name, _)| *name == text).map(|(_, value)| *value)
        })
    }

    /// A path to a file; relative ones are put under the base folder.
    pub(crate) fn path(&self) -> Option<PathBuf> {
        self.text_as("a path", |text| self.as_path(text))
    }

    /// What `text` names as a path in this file.
    pub(crate) fn as_path(&self, text: &str) -> Option<PathBuf> {
        (!text.is_empty() && !text.contains('\0')).then(|| self.doc.base.join(text))
    }

    pub(crate) fn flag(&self) -> Option<bool> {
        let value = self.value?;
        let flag = value.as_bool();
        if flag.is_none() {
            self.unexpected("true or false", value);
        }
        flag
    }

    /// A whole number within `range`; `unit` as in " MiB", or empty.
    pub(crate) fn number(&self, range: RangeInclusive<u64>, unit: &str) -> Option<u64> {
        let value = self.value?;
        let (min, max) = range.into_inner();
        let Some(integer) = value.as_integer() else {
            self.unexpected(&format!("a whole number from {min} to {max}{unit}"), value);
            return None;
        };
        // More digits than i128 holds are beyond every limit, on the side that the sign says.
        let number = i128::from_str_radix(integer.as_str(), integer.radix())
            .unwrap_or(if integer.as_str().starts_with('-') { i128::MIN } else { i128::MAX });
        if number < i128::from(min) {
            self.fault(format!("expected at least {min}{unit}, found {integer}"));
        } else if number > i128::from(max) {
            self.fault(format!("expected at most {max}{unit}, found {integer}"));
        } else {
            return u64::try_from(number).ok();
        }
        None
    }

    /// An array, item by item, each an entry with its own place.
    pub(crate) fn items(&self, what: &str, max: usize) -> Option<Vec<Entry<'t>>> {
        let items = self.as_array(what, max)?;
        Some(items.iter().enumerate().map(|(index, item)| self.item(index, item)).collect())
    }

    /// A table of free keys, each with a string.
    pub(crate) fn text_map(&self, max: usize) -> Option<BTreeMap<String, String>> {
        let table = self.as_table(self.value?)?;
        if table.len() > max {
            self.fault(format!("expected at most {max} keys, found {}", table.len()));
            return None;
        }
        let mut map = BTreeMap::new();
        for (key, value) in table {
            let name: &str = key.get_ref();
            let entry = Entry {
                doc: self.doc,
                path: join(&self.path, name),
                offset: key.span().start,
                value: Some(value.get_ref()),
            };
            if let Some(text) = entry.text() {
                map.insert(name.to_owned(), text.to_owned());
            }
        }
        Some(map)
    }

    fn item(&self, index: usize, item: &'t Spanned<DeValue<'t>>) -> Entry<'t> {
        Entry {
            doc: self.doc,
            path: format!("{}[{index}]", self.path),
            offset: item.span().start,
            value: Some(item.get_ref()),
        }
    }

    fn as_array(&self, what: &str, max: usize) -> Option<&'t toml::de::DeArray<'t>> {
        let value = self.value?;
        let Some(items) = value.as_array() else {
            self.unexpected(what, value);
            return None;
        };
        if items.len() > max {
            self.fault(format!("expected at most {max} items, found {}", items.len()));
            return None;
        }
        Some(items)
    }

    fn as_table(&self, value: &'t DeValue<'t>) -> Option<&'t DeTable<'t>> {
        let table = value.as_table();
        if table.is_none() {
            self.unexpected("a table", value);
        }
        table
    }

    fn unexpected(&self, expected: &str, found: &DeValue<'_>) {
        let found = match found {
            DeValue::String(text) => format!("the string {}", quoted(text)),
            DeValue::Integer(number) => format!("the number {number}"),
            DeValue::Float(number) => format!("the number {number}"),
            DeValue::Boolean(flag) => flag.to_string(),
            DeValue::Datetime(date) => format!("the date {date}"),
            DeValue::Array(_) => "an array".to_owned(),
            DeValue::Table(_) => "a table".to_owned(),
        };
        self.fault(format!("expected {expected}, found {found}"));
    }
}

/// As `"a", "b" or "c"`.
pub(crate) fn one_of(names: &[String]) -> String {
    match names {
        [] => String::new(),
        [only] => only.clone(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}

/// The text in quotes, on one line, not too long.
pub(crate) fn quoted(text: &str) -> String {
    let mut short: String = text.chars().take(MAX_QUOTED_CHARS).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    format!("{short:?}")
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// The known key that somebody who wrote `name` most likely meant.
fn nearest<'k>(name: &str, known: &[&'k str]) -> Option<&'k str> {
    known
        .iter()
        .filter(|key| {
            let beginning =
                name.len() >= 3 && key.len() >= 3 && (key.starts_with(name) || name.starts_with(**key));
            beginning || distance(name, key) <= key.len().div_ceil(3)
        })
        .min_by_key(|key| distance(name, key))
        .copied()
}

/// Levenshtein distance, bytewise: keys are ASCII.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
