//! Keys of cache entries: one hash over everything that an output depends on.
//!
//! Duty: turn named inputs (text, file contents) into a key and a readable list of what went in.
//! Not here: where entries live (`cache`). Invariant: two different lists of inputs never give the same
//! bytes to the hash, because every name and every value goes in with its length.

use std::{fmt, fs, io, path::Path, path::PathBuf};

use sha2::{Digest, Sha256};
use thiserror::Error;

/// Hex digits of a key: 80 bits, far beyond what a cache folder can collide in, and short enough to read.
const KEY_DIGITS: usize = 20;

#[derive(Debug, Error)]
#[error("cannot read {}", path.display())]
pub(crate) struct DigestError {
    path: PathBuf,
    source: io::Error,
}

/// The inputs of one cache entry while they are collected.
#[derive(Debug, Default)]
pub(crate) struct Inputs {
    hash: Sha256,
    listing: String,
}

/// The finished key: names the entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    digits: String,
    listing: String,
}

impl Inputs {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn text(mut self, name: &str, value: &str) -> Self {
        self.absorb(name, value.as_bytes());
        let shown =
            if value.contains('\n') { hex(&Sha256::digest(value.as_bytes())) } else { value.to_owned() };
        self.note(name, &shown);
        self
    }

    pub(crate) fn file(mut self, name: &str, path: &Path) -> Result<Self, DigestError> {
        let bytes = fs::read(path).map_err(|source| DigestError { path: path.to_owned(), source })?;
        self.absorb(name, &bytes);
        self.note(name, &hex(&Sha256::digest(&bytes)));
        Ok(self)
    }

    pub(crate) fn key(self) -> Key {
        let mut digits = hex(&self.hash.finalize());
        digits.truncate(KEY_DIGITS);
        Key { digits, listing: self.listing }
    }

    fn absorb(&mut self, name: &str, value: &[u8]) {
        for part in [name.as_bytes(), value] {
            self.hash.update((part.len() as u64).to_le_bytes());
            self.hash.update(part);
        }
    }

    fn note(&mut self, name: &str, value: &str) {
        self.listing.push_str(&format!("{name} = {value}\n"));
    }
}

impl Key {
    /// What went into the key, for a person who wonders why something was built again.
    pub(crate) fn listing(&self) -> &str {
        &self.listing
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.digits)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_moves_to_its_neighbour_changes_the_key() {
        let one = Inputs::new().text("a", "bc").text("d", "").key();
        let other = Inputs::new().text("a", "b").text("cd", "").key();
        assert_ne!(one.to_string(), other.to_string());
    }

    #[test]
    fn the_same_inputs_give_the_same_key_and_are_listed() {
        let make = || Inputs::new().text("compiler", "gcc 12").text("fragment", "A=y\nB=y\n").key();
        assert_eq!(make(), make());
        assert!(make().listing().starts_with("compiler = gcc 12\nfragment = "));
        assert_eq!(make().to_string().len(), KEY_DIGITS);
    }
}
