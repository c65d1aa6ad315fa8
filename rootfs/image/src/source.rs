//! Where the bytes of a file in an image come from.
//!
//! Duty: one reader for literals and host files. A host file is opened when its turn comes and closed at its
//! end, so that a large tree does not use up the process's descriptors.
//! Invariant: an error names the host file.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

/// The contents of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    Literal(Vec<u8>),
    /// A file of the host, read when the image is written.
    Host(PathBuf),
}

impl From<&str> for Source {
    fn from(text: &str) -> Self {
        Self::Literal(text.into())
    }
}

impl From<&Path> for Source {
    fn from(path: &Path) -> Self {
        Self::Host(path.to_owned())
    }
}

impl Source {
    /// How many bytes `reader` will give, if the host file does not change meanwhile.
    pub(crate) fn len(&self) -> io::Result<u64> {
        match self {
            Self::Literal(bytes) => Ok(bytes.len() as u64),
            Self::Host(path) => std::fs::metadata(path).map(|data| data.len()).map_err(|e| named(path, &e)),
        }
    }

    pub(crate) fn reader(&self) -> Contents<'_> {
        match self {
            Self::Literal(bytes) => Contents::Literal(bytes),
            Self::Host(path) => Contents::Unopened(path),
        }
    }
}

/// ```text
/// Unopened --first read--> Open --end of file--> Done
/// ```
#[derive(Debug)]
pub(crate) enum Contents<'a> {
    Literal(&'a [u8]),
    Unopened(&'a Path),
    Open(&'a Path, File),
    Done,
}

impl Read for Contents<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if let Self::Unopened(path) = *self {
            *self = Self::Open(path, File::open(path).map_err(|e| named(path, &e))?);
        }
        match self {
            Self::Literal(bytes) => bytes.read(buf),
            Self::Open(path, file) => {
                let read = file.read(buf).map_err(|e| named(path, &e))?;
                if read == 0 && !buf.is_empty() {
                    *self = Self::Done;
                }
                Ok(read)
            }
            Self::Unopened(_) | Self::Done => Ok(0),
        }
    }
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}
