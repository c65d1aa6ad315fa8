//! A file, and the drop-in files that say more than it: `web.toml`, then `web.d/*.toml` by name.
//!
//! Duty: find them, put one on top of the other, and know which of them a place belongs to.
//! Not here: what keys mean. Invariant: a table is merged key by key, and anything else is replaced by what comes later.
//!
//! A place in several texts is one number: the byte in the text, behind all texts before.

use std::path::{Path, PathBuf};

use crate::fault::{Fault, Faults, Position};
use crate::source::{Form, Source};
use crate::tree::{Member, Value};

/// Drop-in files of one file. Protects the reader of a wrong folder.
const MAX_DROP_INS: usize = 64;

#[derive(Debug)]
pub(crate) struct Layers {
    /// With the place at which each begins; never empty.
    sources: Vec<(usize, Source)>,
}

impl Layers {
    pub(crate) fn of(source: Source) -> Layers {
        Layers { sources: vec![(0, source)] }
    }

    pub(crate) fn load(path: &Path) -> Result<Layers, Faults> {
        let mut layers = Layers::of(Source::file(path)?.taken_for(Form::Toml));
        let mut faults = Vec::new();
        for file in drop_ins(path)? {
            match Source::file(&file) {
                Ok(source) => layers.push(source.taken_for(Form::Toml)),
                Err(more) => faults.extend(more.into_list()),
            }
        }
        Faults::from_list(faults).map_or(Ok(layers), Err)
    }

    fn push(&mut self, source: Source) {
        let begin = self.sources.last().map_or(0, |(begin, last)| begin + last.length() + 1);
        self.sources.push((begin, source));
    }

    /// The one that the others are put on.
    pub(crate) fn main(&self) -> &Source {
        &self.sources[0].1
    }

    /// All of them as one tree.
    pub(crate) fn merged(&self) -> Result<Vec<Member<'static>>, Faults> {
        let mut merged = Vec::new();
        let mut faults = Vec::new();
        for (begin, source) in &self.sources {
            match source.with_tree(|root| root.iter().map(|member| member.moved(*begin)).collect()) {
                Ok(layer) => merge(&mut merged, layer),
                Err(more) => faults.extend(more.into_list()),
            }
        }
        Faults::from_list(faults).map_or(Ok(merged), Err)
    }

    pub(crate) fn fault(&self, at: usize, key: &str, message: impl Into<String>) -> Fault {
        let (begin, source) = self.layer(at);
        source.fault(Some(at - begin), key, message)
    }

    pub(crate) fn place(&self, at: usize) -> (String, Position) {
        let (begin, source) = self.layer(at);
        (source.name().to_owned(), source.position(at - begin))
    }

    /// The place of a file among these.
    pub(crate) fn rank(&self, file: &str) -> Option<usize> {
        self.sources.iter().position(|(_, source)| source.name() == file)
    }

    fn layer(&self, at: usize) -> (usize, &Source) {
        let found = self.sources.iter().rev().find(|(begin, _)| *begin <= at);
        let (begin, source) = found.unwrap_or(&self.sources[0]);
        (*begin, source)
    }
}

/// The folder of a file's drop-ins.
pub fn drop_in_folder(path: &Path) -> PathBuf {
    path.with_extension("d")
}

fn drop_ins(path: &Path) -> Result<Vec<PathBuf>, Faults> {
    let folder = drop_in_folder(path);
    let cannot = |error: std::io::Error| {
        Fault::of_file(folder.display().to_string(), format!("cannot be read: {error}"))
    };
    let entries = match folder.read_dir() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(cannot)?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let file = entry.map_err(cannot)?.path();
        if file.extension().is_some_and(|extension| extension == "toml") {
            files.push(file);
        }
    }
    files.sort();
    if files.len() > MAX_DROP_INS {
        let message = format!("expected at most {MAX_DROP_INS} drop-in files, found {}", files.len());
        return Err(Fault::of_file(folder.display().to_string(), message).into());
    }
    Ok(files)
}

fn merge(below: &mut Vec<Member<'static>>, above: Vec<Member<'static>>) {
    for member in above {
        match below.iter_mut().find(|known| known.key == member.key) {
            None => below.push(member),
            Some(known) => match (&mut known.value, member) {
                // Its place stays: what is missing in it is missing in the first file.
                (Value::Table(below), Member { value: Value::Table(above), .. }) => merge(below, above),
                (_, member) => *known = member,
            },
        }
    }
}
