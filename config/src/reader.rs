//! A typed reader over a parsed configuration that goes on after a fault.
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
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use crate::fault::{Fault, Faults, Position};
use crate::layers::Layers;
use crate::source::{Form, Source, Strictness};
use crate::tree::{Member, Node, Value, locate, member};

/// Characters of a wrong value that a fault repeats; keeps it on one line.
const MAX_QUOTED_CHARS: usize = 40;

/// Reads the TOML file at `path`; relative paths inside mean "beside that file".
pub(crate) fn load<T>(path: &Path, shape: impl FnOnce(&mut Table<'_>) -> T) -> Result<T, Faults> {
    let source = Source::file(path)?.taken_for(Form::Toml);
    read(&source, Strictness::Strict, shape).map(|(value, _)| value)
}

/// Likewise, with what its drop-in files say on top; relative paths in those, too, mean "beside the file at `path`".
pub(crate) fn load_with_drop_ins<T>(
    path: &Path,
    shape: impl FnOnce(&mut Table<'_>) -> T,
) -> Result<T, Faults> {
    let layers = Layers::load(path)?;
    let root = layers.merged()?;
    Document::new(&layers, &root, Strictness::Strict).read(shape).map(|(value, _)| value)
}

/// Reads the TOML `text`, calling it `name` in faults; relative paths stay as they are.
pub(crate) fn parse<T>(name: &str, text: &str, shape: impl FnOnce(&mut Table<'_>) -> T) -> Result<T, Faults> {
    let source = Source::text(name, text).taken_for(Form::Toml);
    read(&source, Strictness::Strict, shape).map(|(value, _)| value)
}

/// The value, and warnings: there are none if `strictness` has no room for them.
pub(crate) fn read<T>(
    source: &Source,
    strictness: Strictness,
    shape: impl FnOnce(&mut Table<'_>) -> T,
) -> Result<(T, Vec<Fault>), Faults> {
    let layers = Layers::of(source.clone());
    source.with_tree(|root| Document::new(&layers, root, strictness).read(shape))?
}

struct Document<'t> {
    layers: &'t Layers,
    root: &'t [Member<'t>],
    strictness: Strictness,
    faults: RefCell<Vec<Fault>>,
    warnings: RefCell<Vec<Fault>>,
}

impl<'t> Document<'t> {
    fn new(layers: &'t Layers, root: &'t [Member<'t>], strictness: Strictness) -> Document<'t> {
        let (faults, warnings) = (RefCell::new(Vec::new()), RefCell::new(Vec::new()));
        Document { layers, root, strictness, faults, warnings }
    }

    fn read<T>(self, shape: impl FnOnce(&mut Table<'_>) -> T) -> Result<(T, Vec<Fault>), Faults> {
        let mut table = Table::at(&self, String::new(), 0, Some(self.root));
        let value = shape(&mut table);
        table.finish();
        let mut faults = self.faults.into_inner();
        faults.sort_by_key(|fault| self.layers.rank(&fault.file));
        match Faults::from_list(faults) {
            None => Ok((value, self.warnings.into_inner())),
            Some(faults) => Err(faults),
        }
    }

    fn fault(&self, offset: usize, key: &str, message: impl Into<String>) {
        self.faults.borrow_mut().push(self.layers.fault(offset, key, message));
    }

    /// What is asked for and not to be had.
    fn lack(&self, offset: usize, key: &str, message: String) {
        match self.strictness {
            Strictness::Strict => self.fault(offset, key, message),
            Strictness::Lenient => {
                self.warnings.borrow_mut().push(self.layers.fault(offset, key, message));
            }
        }
    }

    fn a_table(&self) -> &'static str {
        match self.layers.main().form() {
            Form::Toml => "a table",
            Form::Json => "an object",
        }
    }
}

/// A table being read. Asking for a key makes it known; unknown ones are faults in the end.
pub(crate) struct Table<'t> {
    doc: &'t Document<'t>,
    path: String,
    offset: usize,
    /// `None` for a table that the file leaves out.
    entries: Option<&'t [Member<'t>]>,
    known: Vec<&'static str>,
}

impl<'t> Table<'t> {
    fn at(
        doc: &'t Document<'t>,
        path: String,
        offset: usize,
        entries: Option<&'t [Member<'t>]>,
    ) -> Table<'t> {
        Table { doc, path, offset, entries, known: Vec::new() }
    }

    pub(crate) fn entry(&mut self, key: &'static str) -> Entry<'t> {
        self.known.push(key);
        let path = join(&self.path, key);
        #[cfg(test)]
        crate::schema::note(&path, crate::schema::Note::Known);
        match self.entries.and_then(|entries| member(entries, key)) {
            Some(found) => Entry {
                doc: self.doc,
                path,
                offset: found.at,
                value: (!matches!(found.value, Value::Null)).then_some(&found.value),
            },
            None => Entry { doc: self.doc, path, offset: self.offset, value: None },
        }
    }

    /// As [`Table::entry`], but its absence is a fault that says what belongs there.
    pub(crate) fn required(&mut self, key: &'static str, what: &str) -> Entry<'t> {
        let entry = self.entry(key);
        #[cfg(test)]
        crate::schema::note(&entry.path, crate::schema::Note::Required);
        if entry.value.is_none() {
            entry.fault(format!("missing, expected {what}"));
        }
        entry
    }

    /// A table with defaults for everything it may leave out, itself included.
    pub(crate) fn section<T>(&mut self, key: &'static str, shape: impl FnOnce(&mut Table<'t>) -> T) -> T {
        let entry = self.entry(key);
        let entries = entry.value.and_then(|value| entry.as_table(value));
        let mut table = Table::at(entry.doc, entry.path, entry.offset, entries);
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
        let found = self.entries.and_then(|entries| member(entries, key));
        if found.is_some_and(|found| !matches!(found.value, Value::Null)) {
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
        let expected = match self.doc.layers.main().form() {
            Form::Toml => format!("a list of tables, written [[{key}]]"),
            Form::Json => "an array of objects".to_owned(),
        };
        for item in entry.items(&expected, max).unwrap_or_default() {
            let Some(entries) = item.value.and_then(|value| item.as_table(value)) else { continue };
            let mut table = Table::at(item.doc, item.path, item.offset, Some(entries));
            list.push(shape(&mut table));
            table.finish();
        }
        list
    }

    /// A fault of the value at `key`, a path from the root, that shows only beside the value at `other`; where one of
    /// them is at fault itself, there is nothing to compare and nothing to tell.
    pub(crate) fn contradiction(&self, key: &str, other: &str, message: String) {
        let blames = |fault: &Fault, key: &str| {
            let (short, long) = if fault.key.len() < key.len() {
                (fault.key.as_str(), key)
            } else {
                (key, fault.key.as_str())
            };
            long.strip_prefix(short).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        let found = self.doc.faults.borrow();
        let blamed = found.iter().any(|fault| blames(fault, other) || blames(fault, key));
        drop(found);
        if !blamed {
            self.doc.fault(locate(self.doc.root, key).unwrap_or(0), key, message);
        }
    }

    fn finish(self) {
        let Some(entries) = self.entries else { return };
        for Member { key, at, .. } in entries {
            let name: &str = key;
            if self.known.contains(&name) {
                continue;
            }
            let guess =
                nearest(name, &self.known).map_or(String::new(), |near| format!(", did you mean {near}?"));
            let message = match self.known.as_slice() {
                [] => "unknown key (this table has none)".to_owned(),
                known => format!("unknown key{guess} (known here: {})", known.join(", ")),
            };
            self.doc.lack(*at, &join(&self.path, &on_one_line(name)), message);
        }
    }
}

/// A key and the value that the file gives it, if any.
pub(crate) struct Entry<'t> {
    doc: &'t Document<'t>,
    path: String,
    offset: usize,
    value: Option<&'t Value<'t>>,
}

impl<'t> Entry<'t> {
    pub(crate) fn fault(&self, message: impl Into<String>) {
        self.doc.fault(self.offset, &self.path, message);
    }

    /// The file that says it, and where.
    pub(crate) fn place(&self) -> (String, Position) {
        self.doc.layers.place(self.offset)
    }

    /// For what the form has and this machine has not: a fault if anything is asked for, or a warning.
    pub(crate) fn lacking(&self, message: impl Into<String>) {
        if self.value.is_some() {
            self.doc.lack(self.offset, &self.path, message.into());
        }
    }

    pub(crate) fn is_there(&self) -> bool {
        self.value.is_some()
    }

    pub(crate) fn text(&self) -> Option<&'t str> {
        #[cfg(test)]
        crate::schema::note(&self.path, crate::schema::Note::Text);
        match self.value? {
            Value::Text(text) => Some(text),
            other => self.unexpected("a string", other),
        }
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
        #[cfg(test)]
        crate::schema::note(&self.path, crate::schema::Note::Choice(names.clone()));
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
        (!text.is_empty() && !text.contains('\0')).then(|| self.doc.layers.main().base().join(text))
    }

    pub(crate) fn flag(&self) -> Option<bool> {
        #[cfg(test)]
        crate::schema::note(&self.path, crate::schema::Note::Flag);
        match self.value? {
            Value::Flag(flag) => Some(*flag),
            other => self.unexpected("true or false", other),
        }
    }

    /// A whole number within `range`; `unit` as in " MiB", or empty.
    pub(crate) fn number(&self, range: RangeInclusive<u64>, unit: &str) -> Option<u64> {
        let (min, max) = range.into_inner();
        #[cfg(test)]
        crate::schema::note(&self.path, crate::schema::Note::Number { min, max });
        let (number, text) = match self.value? {
            Value::Whole { number, text } => (*number, text),
            other => return self.unexpected(&format!("a whole number from {min} to {max}{unit}"), other),
        };
        if number < i128::from(min) {
            self.fault(format!("expected at least {min}{unit}, found {}", shortened(text)));
        } else if number > i128::from(max) {
            self.fault(format!("expected at most {max}{unit}, found {}", shortened(text)));
        } else {
            return u64::try_from(number).ok();
        }
        None
    }

    /// Likewise, of a type that holds all of `range`.
    pub(crate) fn small<T: TryFrom<u64>>(&self, range: RangeInclusive<u64>, unit: &str) -> Option<T> {
        self.number(range, unit).and_then(|number| T::try_from(number).ok())
    }

    /// An array, item by item, each an entry with its own place.
    pub(crate) fn items(&self, what: &str, max: usize) -> Option<Vec<Entry<'t>>> {
        #[cfg(test)]
        crate::schema::note(&self.path, crate::schema::Note::List { max });
        let items = match self.value? {
            Value::List(items) => items,
            other => return self.unexpected(what, other),
        };
        if items.len() > max {
            self.fault(format!("expected at most {max} items, found {}", items.len()));
            return None;
        }
        Some(items.iter().enumerate().map(|(index, item)| self.item(index, item)).collect())
    }

    /// A table of free keys, each with a string.
    pub(crate) fn text_map(&self, max: usize) -> Option<BTreeMap<String, String>> {
        #[cfg(test)]
        crate::schema::note(&self.path, crate::schema::Note::Map);
        let table = self.as_table(self.value?)?;
        if table.len() > max {
            self.fault(format!("expected at most {max} keys, found {}", table.len()));
            return None;
        }
        let mut map = BTreeMap::new();
        for Member { key, at, value } in table {
            let path = join(&self.path, &on_one_line(key));
            let entry = Entry { doc: self.doc, path, offset: *at, value: Some(value) };
            if let Some(text) = entry.text() {
                map.insert(key.clone().into_owned(), text.to_owned());
            }
        }
        Some(map)
    }

    fn item(&self, index: usize, item: &'t Node<'t>) -> Entry<'t> {
        let path = format!("{}[{index}]", self.path);
        Entry { doc: self.doc, path, offset: item.at, value: Some(&item.value) }
    }

    fn as_table(&self, value: &'t Value<'t>) -> Option<&'t [Member<'t>]> {
        match value {
            Value::Table(members) => Some(members),
            other => self.unexpected(self.doc.a_table(), other),
        }
    }

    /// The fault of a value of the wrong type; never `Some`, so that it stands where a value is wanted.
    fn unexpected<T>(&self, expected: &str, found: &Value<'_>) -> Option<T> {
        let found = match found {
            Value::Null => "null".to_owned(),
            Value::Text(text) => format!("the string {}", quoted(text)),
            Value::Whole { text, .. } => format!("the number {}", shortened(text)),
            Value::Other(words) => words.clone(),
            Value::Flag(flag) => flag.to_string(),
            Value::List(_) => "an array".to_owned(),
            Value::Table(_) => self.doc.a_table().to_owned(),
        };
        self.fault(format!("expected {expected}, found {found}"));
        None
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
    format!("{:?}", shortened(text))
}

/// The text, or its beginning if it is long.
pub(crate) fn shortened(text: &str) -> String {
    let mut short: String = text.chars().take(MAX_QUOTED_CHARS).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

/// A free key as a part of a fault's path.
fn on_one_line(key: &str) -> String {
    if key.chars().any(char::is_control) { quoted(key) } else { shortened(key) }
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
