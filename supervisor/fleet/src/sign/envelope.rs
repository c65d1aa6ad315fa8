//! Documents with their signatures.
//!
//! ```text
//! { "document": "<the exact text that was signed>", "signatures": ["<minisign's file>", ...] }
//! document = { "hearth": "desired" | "command" | "trust", "for": ["<group>/<node>" | "<group>/*" | "*"], ... }
//! ```
//!
//! Duty: read envelopes, check signatures, and whom and what a document is for. Not here: what else it says.
//! Invariant: all that is told of an envelope before its signatures are good is that they are not.

use std::fmt;

use minisign_verify::Signature;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use thiserror::Error;

use super::keyring::{Keyring, Role};
use crate::topics::Topics;

/// Bytes of an envelope. A desired state of a hundred workloads is a tenth of it.
pub const MAX_ENVELOPE: usize = 256 << 10;
/// Signatures in one: as many as both roles may have keys.
const MAX_SIGNATURES: usize = 32;

/// Why a document is not followed. Goes to whoever reads what is reported, so it says nothing of keys.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    #[error("expected at most {MAX_ENVELOPE} bytes")]
    TooLarge,
    #[error("expected an envelope: a JSON object with document and signatures")]
    NoEnvelope,
    #[error("expected at most {MAX_SIGNATURES} signatures, each as minisign writes them")]
    BadSignatures,
    #[error("nobody may {0} this box: it has no such keys")]
    NoKeys(Role),
    #[error("expected {needed} signatures by keys of {role}, found {good}")]
    Unsigned { role: Role, good: usize, needed: usize },
    #[error("expected it to be signed by keys of operate or release")]
    UnsignedByAny,
    #[error("expected a document whose \"hearth\" is \"{0}\"")]
    OtherUse(Use),
    #[error("it is not for this box")]
    OtherBox,
    #[error("{0}")]
    Malformed(String),
    #[error("version {found} is older than {floor}, which was accepted before")]
    Stale { found: u64, floor: u64 },
    #[error("version {0} was accepted before, and said something else")]
    Reused(u64),
}

/// What a document is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    Desired,
    Command,
    Trust,
}

impl fmt::Display for Use {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Use::Desired => "desired",
            Use::Command => "command",
            Use::Trust => "trust",
        })
    }
}

/// As it came in: nothing of it is to be believed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    document: String,
    signatures: Vec<String>,
}

/// A document that whoever may, said to this box, for this use. Only [`Envelope::verify`] makes one.
#[derive(Clone, Debug, PartialEq)]
pub struct Verified {
    text: String,
    fields: Map<String, Value>,
}

impl Envelope {
    pub fn new(document: String, signatures: Vec<String>) -> Envelope {
        Envelope { document, signatures }
    }

    pub fn read(bytes: &[u8]) -> Result<Envelope, Refusal> {
        if bytes.len() > MAX_ENVELOPE {
            return Err(Refusal::TooLarge);
        }
        serde_json::from_slice(bytes).map_err(|_| Refusal::NoEnvelope)
    }

    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Whoever reads this knows that it is what somebody says, and no more.
    pub fn unverified(&self) -> &str {
        &self.document
    }

    pub(super) fn signatures(&self) -> Result<Vec<Signature>, Refusal> {
        if self.signatures.len() > MAX_SIGNATURES {
            return Err(Refusal::BadSignatures);
        }
        let decode = |text: &String| Signature::decode(text).map_err(|_| Refusal::BadSignatures);
        self.signatures.iter().map(decode).collect()
    }

    pub fn verify(self, keys: &Keyring, role: Role, what: Use, topics: &Topics) -> Result<Verified, Refusal> {
        let of_role = keys.role(role);
        if of_role.is_empty() {
            return Err(Refusal::NoKeys(role));
        }
        let good = of_role.count(self.document.as_bytes(), &self.signatures()?);
        if good < of_role.threshold() {
            return Err(Refusal::Unsigned { role, good, needed: of_role.threshold() });
        }
        self.addressed(what, topics)
    }

    /// For what either role may say, or for which somebody else knows who may: the roles whose threshold is met, at
    /// least one.
    pub fn verify_any(
        self,
        keys: &Keyring,
        what: Use,
        topics: &Topics,
    ) -> Result<(Verified, Vec<Role>), Refusal> {
        let signatures = self.signatures()?;
        let accepts = |role: &Role| keys.role(*role).accepts(self.document.as_bytes(), &signatures);
        let roles: Vec<Role> = [Role::Operate, Role::Release].into_iter().filter(accepts).collect();
        if roles.is_empty() {
            return Err(Refusal::UnsignedByAny);
        }
        Ok((self.addressed(what, topics)?, roles))
    }

    /// For whoever looked at the signatures.
    pub(super) fn addressed(self, what: Use, topics: &Topics) -> Result<Verified, Refusal> {
        let malformed =
            |error: serde_json::Error| Refusal::Malformed(format!("expected a JSON object: {error}"));
        let fields: Map<String, Value> = serde_json::from_str(&self.document).map_err(malformed)?;
        if fields.get("hearth").and_then(Value::as_str) != Some(what.to_string().as_str()) {
            return Err(Refusal::OtherUse(what));
        }
        let (whole, own) = (format!("{}/*", topics.group()), format!("{}/{}", topics.group(), topics.node()));
        let names =
            |value: &Value| value.as_str().is_some_and(|name| name == "*" || name == whole || name == own);
        if !fields.get("for").and_then(Value::as_array).is_some_and(|list| list.iter().any(names)) {
            return Err(Refusal::OtherBox);
        }
        Ok(Verified { text: self.document, fields })
    }
}

impl Verified {
    /// One that was verified before it was kept. Keys may have changed since: what was accepted stays so.
    pub(crate) fn of_store(text: String) -> Option<Verified> {
        let fields = serde_json::from_str(&text).ok()?;
        Some(Verified { text, fields })
    }

    /// The exact text that was signed.
    pub fn text(&self) -> &str {
        &self.text
    }

    pub fn field(&self, key: &str) -> Option<&Value> {
        self.fields.get(key)
    }

    /// Every document has one, and it only grows.
    pub fn version(&self) -> Result<u64, Refusal> {
        let version = self.fields.get("version").and_then(Value::as_u64).filter(|version| *version > 0);
        version.ok_or_else(|| Refusal::Malformed("version: expected a number, from 1".to_owned()))
    }
}
