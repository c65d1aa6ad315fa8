//! Whose signatures count.
//!
//! Duty: the keys of each role, and how many of them have to sign. Not here: where they are kept.
//! Invariant: a keyring can be satisfied: no role needs more signatures than it has keys.

use std::fmt;

use minisign_verify::{PublicKey, Signature};
use thiserror::Error;

/// Keys of a role: more than a company has people who may do that.
const MAX_KEYS: usize = 16;

/// For what somebody signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The daily work: desired states, restarts, logs.
    Operate,
    /// What runs on a box at all: updates, and whose signatures count.
    Release,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Role::Operate => "operate",
            Role::Release => "release",
        })
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum KeyFault {
    #[error("expected at most {MAX_KEYS} keys, found {0}")]
    TooMany(usize),
    #[error("expected minisign's public key, as in the second line of its .pub file, found {0:?}")]
    NoKey(String),
    #[error("expected each key once, found {0} twice")]
    Twice(String),
    #[error("expected a threshold of 1 to {keys}, which is how many keys there are, found {threshold}")]
    Threshold { threshold: usize, keys: usize },
}

/// The keys of one role.
#[derive(Clone, Debug, Default)]
pub struct RoleKeys {
    /// As people write them.
    words: Vec<String>,
    keys: Vec<PublicKey>,
    threshold: usize,
}

/// By what they are called, not by how they are stored.
impl PartialEq for RoleKeys {
    fn eq(&self, other: &RoleKeys) -> bool {
        self.words == other.words && self.threshold == other.threshold
    }
}

impl RoleKeys {
    /// No keys at all is a role that nobody has.
    pub fn new(words: &[String], threshold: usize) -> Result<RoleKeys, KeyFault> {
        if words.len() > MAX_KEYS {
            return Err(KeyFault::TooMany(words.len()));
        }
        let mut keys = Vec::with_capacity(words.len());
        for (place, word) in words.iter().enumerate() {
            keys.push(PublicKey::from_base64(word).map_err(|_| KeyFault::NoKey(word.clone()))?);
            if words[..place].contains(word) {
                return Err(KeyFault::Twice(word.clone()));
            }
        }
        if !words.is_empty() && !(1..=words.len()).contains(&threshold) {
            return Err(KeyFault::Threshold { threshold, keys: words.len() });
        }
        Ok(RoleKeys { words: words.to_vec(), keys, threshold })
    }

    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    pub fn threshold(&self) -> usize {
        self.threshold
    }

    pub fn words(&self) -> &[String] {
        &self.words
    }

    /// How many of the keys signed these bytes. Who signs twice is one.
    pub(super) fn count(&self, bytes: &[u8], signatures: &[Signature]) -> usize {
        let signed = |key: &&PublicKey| signatures.iter().any(|one| key.verify(bytes, one, false).is_ok());
        self.keys.iter().filter(signed).count()
    }

    pub(super) fn accepts(&self, bytes: &[u8], signatures: &[Signature]) -> bool {
        !self.is_empty() && self.count(bytes, signatures) >= self.threshold
    }
}

/// All keys that count on a box.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Keyring {
    /// Of the document that named them; zero is the box's own file.
    pub version: u64,
    pub operate: RoleKeys,
    pub release: RoleKeys,
}

impl Keyring {
    pub fn role(&self, role: Role) -> &RoleKeys {
        match role {
            Role::Operate => &self.operate,
            Role::Release => &self.release,
        }
    }
}
