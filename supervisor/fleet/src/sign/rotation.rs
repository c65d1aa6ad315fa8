//! Other keys, named by those of before.
//!
//! ```text
//! { "hearth": "trust", "version": 2, "for": [...],
//!   "operate": { "keys": ["RW..."], "threshold": 1 }, "release": { "keys": [...], "threshold": 2 } }
//! ```
//!
//! Duty: from one keyring to the next. Not here: keeping it.
//! Invariants: who has the new keys alone gets nowhere. A role's keys are named by that role, or by release, which can so
//! put an end to stolen keys of daily work; release's are named by release. A role that is left out stays as it is.

use serde_json::Value;

use super::envelope::{Envelope, Refusal, Use, Verified};
use super::keyring::{Keyring, Role, RoleKeys};
use crate::topics::Topics;

/// The keyring after this document.
pub fn rotate(keys: &Keyring, envelope: Envelope, topics: &Topics) -> Result<Keyring, Refusal> {
    let signatures = envelope.signatures()?;
    let bytes = envelope.unverified().as_bytes();
    let by = |role: Role| keys.role(role).accepts(bytes, &signatures);
    let (by_operate, by_release) = (by(Role::Operate), by(Role::Release));
    if !by_operate && !by_release {
        let role = Role::Release;
        let of_role = keys.role(role);
        let good = of_role.count(bytes, &signatures);
        return Err(Refusal::Unsigned { role, good, needed: of_role.threshold().max(1) });
    }
    let document = envelope.addressed(Use::Trust, topics)?;
    let version = document.version()?;
    if version <= keys.version {
        return Err(Refusal::Stale { found: version, floor: keys.version.saturating_add(1) });
    }
    let operate = named(&document, Role::Operate)?.unwrap_or_else(|| keys.operate.clone());
    let release = named(&document, Role::Release)?.unwrap_or_else(|| keys.release.clone());
    if release != keys.release && !by_release {
        let needed = keys.release.threshold().max(1);
        return Err(Refusal::Unsigned { role: Role::Release, good: 0, needed });
    }
    Ok(Keyring { version, operate, release })
}

fn named(document: &Verified, role: Role) -> Result<Option<RoleKeys>, Refusal> {
    let Some(value) = document.field(&role.to_string()) else { return Ok(None) };
    let malformed = |what: String| Refusal::Malformed(format!("{role}: {what}"));
    let keys: Option<Vec<String>> = value
        .get("keys")
        .and_then(Value::as_array)
        .and_then(|list| list.iter().map(|word| word.as_str().map(str::to_owned)).collect());
    let threshold = value.get("threshold").map_or(Some(1), Value::as_u64);
    let threshold = threshold.and_then(|number| usize::try_from(number).ok());
    match (keys, threshold) {
        // A role without keys could never be given any again.
        (Some(keys), Some(threshold)) if !keys.is_empty() => {
            RoleKeys::new(&keys, threshold).map(Some).map_err(|fault| malformed(fault.to_string()))
        }
        _ => Err(malformed("expected keys, a list of at least one, and a threshold".to_owned())),
    }
}
