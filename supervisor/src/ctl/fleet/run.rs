//! One command on many boxes.
//!
//! Duty: publish it, and tell what becomes of it. Not here: what operations do. Invariant: every box gets a command of its
//! own name, so whoever passes one on makes no other box do it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::broker::{Way, split};
use super::{FAILED, FleetError, keys};
use crate::wall;

#[derive(Clone, Copy, Debug)]
pub(super) struct Ask<'a> {
    pub(super) operation: &'a str,
    pub(super) workload: Option<&'a str>,
    pub(super) expected_version: Option<u64>,
    /// Seconds.
    pub(super) wait: u64,
}

pub(super) fn run(
    way: &Way,
    key: &[PathBuf],
    boxes: &[String],
    ask: &Ask<'_>,
) -> Result<ExitCode, FleetError> {
    let keys: Vec<_> = key.iter().map(|key| keys::secret_key(key)).collect::<Result<_, _>>()?;
    let now = wall::unix_ms();
    // Not twice at one millisecond by one process; and boxes look at the signature, not at the name.
    let id = format!("{now}-{}", std::process::id());
    let mut visitor = way.visit()?;
    visitor.subscribe(&[way.below(&format!("cmd/{}/{id}", ask.operation))?])?;
    for node in boxes {
        let document = document(&way.group, node, &id, now, ask);
        let envelope = keys::seal(&keys, Path::new("command"), document.to_string())?;
        let topic = format!("{}/cmd/{}/{id}", way.place(node)?, ask.operation);
        visitor.publish(&topic, envelope.as_bytes())?;
    }
    let until = Instant::now() + Duration::from_secs(ask.wait);
    let mut open: BTreeSet<&str> = boxes.iter().map(String::as_str).collect();
    let mut failed = false;
    while !open.is_empty() {
        let Some(told) = visitor.next(until)? else { break };
        let Some((name, _)) = split(&told.topic) else { continue };
        let answer: Value = serde_json::from_slice(&told.payload).unwrap_or_default();
        let reason = answer["reason"].as_str().unwrap_or_default();
        match answer["state"].as_str() {
            Some("successful") if open.remove(name) => println!("{name}: successful"),
            Some(state @ ("failed" | "rejected")) if open.remove(name) => {
                failed = true;
                println!("{name}: {state}: {reason}");
            }
            _ => {}
        }
    }
    for name in &open {
        println!("{name}: no answer yet");
    }
    // What is answered need not lie there any longer; what is not may still be done until it expires.
    for node in boxes.iter().filter(|node| !open.contains(node.as_str())) {
        visitor.publish(&format!("{}/cmd/{}/{id}", way.place(node)?, ask.operation), b"")?;
    }
    Ok(if failed || !open.is_empty() { ExitCode::from(FAILED) } else { ExitCode::SUCCESS })
}

fn document(group: &str, node: &str, id: &str, now: u64, ask: &Ask<'_>) -> Value {
    let mut document = json!({
        "hearth": "command", "for": [format!("{group}/{node}")], "op": ask.operation, "id": id, "issued": now,
        "expires": now.saturating_add(ask.wait.saturating_mul(1000)),
    });
    let mut add = |key: &str, value: Value| document[key] = value;
    if let Some(workload) = ask.workload {
        add("workload", workload.into());
    }
    if let Some(version) = ask.expected_version {
        add("expected_version", version.into());
    }
    document
}
