//! Where a configuration comes from: its text, and what faults call it.
//!
//! Duty: take a bounded text in, from a file or a descriptor, and tell its form. Not here: what it says.
//! Invariant: the text stays as it was read, so that a fault found later, or in what came through a pipe, still has
//! its place.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use toml::de::DeTable;

use crate::fault::{Fault, Faults, Position};
use crate::json;
use crate::tree::{self, Member, Value};

/// Bytes of a configuration. The largest sensible one has some tens of KiB; protects the reader of a wrong path.
const MAX_BYTES: u64 = 1 << 20;

/// What a configuration is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Toml,
    Json,
}

/// What a key becomes that nobody here reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strictness {
    /// A fault.
    #[default]
    Strict,
    /// A warning.
    Lenient,
}

/// A configuration as it came in.
#[derive(Clone, Debug)]
pub struct Source {
    name: String,
    text: String,
    form: Form,
    /// What relative paths of a TOML file start at; empty is the working directory.
    folder: PathBuf,
}

impl Source {
    /// The file at `path`.
    pub fn file(path: &Path) -> Result<Source, Faults> {
        let name = path.display().to_string();
        let opened = File::open(path).map_err(|error| cannot_read(&name, &error))?;
        let mut source = Source::stream(name, &opened)?;
        source.folder = path.parent().unwrap_or(Path::new("")).to_owned();
        if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json")) {
            source.form = Form::Json;
        }
        Ok(source)
    }

    /// All that `stream` gives until its end. Nothing lies beside it: relative paths mean the working directory.
    pub fn stream(name: impl Into<String>, stream: impl Read) -> Result<Source, Faults> {
        let name = name.into();
        let mut bytes = Vec::new();
        stream.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(|error| cannot_read(&name, &error))?;
        if bytes.len() as u64 > MAX_BYTES {
            let message = format!("expected a configuration file of at most {} KiB", MAX_BYTES >> 10);
            return Err(Fault::of_file(name, message).into());
        }
        match String::from_utf8(bytes) {
            Ok(text) => Ok(Source::text(name, text)),
            Err(_) => Err(Fault::of_file(name, "expected UTF-8 text").into()),
        }
    }

    /// A text that is there already.
    pub fn text(name: impl Into<String>, text: impl Into<String>) -> Source {
        let text = text.into();
        // No TOML begins so, and every machine in JSON does.
        let form = if text.trim_start().starts_with('{') { Form::Json } else { Form::Toml };
        Source { name: name.into(), text, form, folder: PathBuf::new() }
    }

    /// The same text, taken for `form` whatever it looks like.
    #[must_use]
    pub fn taken_for(self, form: Form) -> Source {
        Source { form, ..self }
    }

    /// What faults call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Bytes of it.
    pub(crate) fn length(&self) -> usize {
        self.text.len()
    }

    pub fn form(&self) -> Form {
        self.form
    }

    /// What relative paths start at. In JSON as in Firecracker: the working directory, wherever the file lies.
    pub(crate) fn base(&self) -> &Path {
        match self.form {
            Form::Toml => &self.folder,
            Form::Json => Path::new(""),
        }
    }

    pub(crate) fn position(&self, at: usize) -> Position {
        Position::of(&self.text, at)
    }

    pub(crate) fn fault(&self, at: Option<usize>, key: &str, message: impl Into<String>) -> Fault {
        let position = at.map(|at| self.position(at));
        Fault { file: self.name.clone(), position, key: key.to_owned(), message: message.into() }
    }

    /// What `look` makes of the tree; the faults of a text that is none.
    pub(crate) fn with_tree<T>(&self, look: impl FnOnce(&[Member<'_>]) -> T) -> Result<T, Faults> {
        let fault = |at, message: String| self.fault(Some(at), "", message);
        match self.form {
            Form::Toml => {
                let (root, errors) = DeTable::parse_recoverable(&self.text);
                let faults = errors.iter().map(|error| {
                    fault(error.span().unwrap_or(0..0).start, error.message().replace('\n', " "))
                });
                match Faults::from_list(faults.collect()) {
                    // What a parser guesses behind a syntax error would only blame innocent lines.
                    Some(faults) => Err(faults),
                    None => Ok(look(&tree::of_toml(root.get_ref()))),
                }
            }
            Form::Json => match json::parse(&self.text) {
                Ok(tree::Node { value: Value::Table(members), .. }) => Ok(look(&members)),
                Ok(root) => Err(fault(root.at, "expected an object".to_owned()).into()),
                Err(wrong) => Err(fault(wrong.at, wrong.message).into()),
            },
        }
    }
}

fn cannot_read(name: &str, error: &std::io::Error) -> Faults {
    Fault::of_file(name, format!("cannot be read: {error}")).into()
}
