//! The desired state: the same workloads, with the same keys, as in files of the box.
//!
//! ```text
//! { "hearth": "desired", "for": ["plant/*"], "version": 7,
//!   "workloads": { "web": { "kind": "service", "image": "web.img", ... }, "old": null } }
//! ```
//!
//! Duty: what a document wants. Not here: whether workloads can be what it wants (the daemon has the reader for that).
//! Invariant: there is one only if somebody who may signed it; what nobody here reads stays in its text.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::sign::{Refusal, Verified};

/// Workloads of one box: more than a gateway has memory for.
const MAX_WORKLOADS: usize = 256;

#[derive(Clone, Debug, PartialEq)]
pub struct Desired {
    version: u64,
    verified: Verified,
    /// Of the message that it came in, signatures included.
    payload: u64,
    workloads: BTreeMap<String, Option<String>>,
}

impl Desired {
    pub(super) fn read(verified: Verified, payload: u64) -> Result<Desired, Refusal> {
        let version = verified.version()?;
        let Some(table) = verified.field("workloads").and_then(Value::as_object) else {
            return Err(Refusal::Malformed("workloads: expected an object of workloads by name".to_owned()));
        };
        if table.len() > MAX_WORKLOADS {
            return Err(Refusal::Malformed(format!("workloads: expected at most {MAX_WORKLOADS}")));
        }
        let mut workloads = BTreeMap::new();
        for (name, value) in table {
            let text = match value {
                Value::Null => None,
                Value::Object(_) => Some(value.to_string()),
                _ => {
                    let expected = format!("workloads.{name}: expected an object, or null for none");
                    return Err(Refusal::Malformed(expected));
                }
            };
            workloads.insert(name.clone(), text);
        }
        Ok(Desired { version, verified, payload, workloads })
    }

    pub fn version(&self) -> u64 {
        self.version
    }

    /// By name, as JSON with the keys of a workload's file. None: the fleet wants no such workload.
    pub fn workloads(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        self.workloads.iter().map(|(name, text)| (name.as_str(), text.as_deref()))
    }

    pub(super) fn names(&self, name: &str) -> bool {
        self.workloads.get(name).is_some_and(Option::is_some)
    }

    pub(super) fn text(&self) -> &str {
        self.verified.text()
    }

    pub(super) fn payload(&self) -> u64 {
        self.payload
    }
}
