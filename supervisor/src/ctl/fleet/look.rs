//! Boxes, and what they want and have.
//!
//! Duty: what lies at the broker as a table; what comes as lines. Not here: changing any of it.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use hearth_fleet::sign::Envelope;
use serde::Serialize;
use serde_json::Value;

use super::broker::{Way, split};
use super::{FleetError, NOT_GOOD};

/// A box as its reports say.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Seen {
    /// Version of the document that lies at the broker for it.
    pub(super) wanted: Option<u64>,
    pub(super) has: Option<u64>,
    pub(super) state: String,
    pub(super) rejected: Option<(Option<u64>, String)>,
    /// Workloads that are not what is wanted, with their states.
    pub(super) lacking: Vec<String>,
    reported: bool,
}

impl Seen {
    pub(super) fn report(&mut self, payload: &[u8]) {
        let Ok(report) = serde_json::from_slice::<Value>(payload) else { return };
        self.reported = true;
        self.has = report["version"].as_u64().filter(|version| *version > 0);
        self.state = report["state"].as_str().unwrap_or("unknown").to_owned();
        self.rejected = report["rejected"].as_object().map(|rejected| {
            let reason = rejected.get("reason").and_then(Value::as_str).unwrap_or_default();
            (rejected.get("version").and_then(Value::as_u64), reason.to_owned())
        });
        let workloads = report["workloads"].as_object().into_iter().flatten();
        let lacking = workloads.filter(|(_, one)| one["converged"] == Value::Bool(false));
        let told = |(name, one): (&String, &Value)| {
            let reason = one["reason"].as_str().map_or_else(String::new, |reason| format!(": {reason}"));
            format!("{name} {}{reason}", one["state"].as_str().unwrap_or("?"))
        };
        self.lacking = lacking.map(told).collect();
    }

    fn is_different(&self) -> bool {
        self.wanted != self.has || self.state == "failed" || !self.lacking.is_empty()
    }

    fn row(&self, name: &str) -> String {
        let number =
            |version: Option<u64>| version.map_or_else(|| "-".to_owned(), |version| version.to_string());
        let why = match &self.rejected {
            Some((version, reason)) => format!("rejected {}: {reason}", number(*version)),
            None => self.lacking.join(", "),
        };
        let state = if self.reported { &self.state } else { "silent" };
        format!("{name:<28} {:>7} {:>7}  {state:<10} {why}", number(self.wanted), number(self.has))
    }
}

pub(super) fn list(way: &Way, diff: bool, listen: u64, json: bool) -> Result<ExitCode, FleetError> {
    let mut boxes = look(way, Duration::from_secs(listen))?;
    if diff {
        boxes.retain(|_, seen| seen.is_different());
    }
    if json {
        println!("{}", serde_json::to_string(&boxes).unwrap_or_default());
    } else {
        println!("{:<28} {:>7} {:>7}  {:<10} WHY", "BOX", "WANTED", "HAS", "STATE");
        boxes.iter().for_each(|(name, seen)| println!("{}", seen.row(name).trim_end()));
    }
    Ok(if diff && !boxes.is_empty() { ExitCode::from(NOT_GOOD) } else { ExitCode::SUCCESS })
}

/// All boxes of the group of which something lies at the broker.
pub(super) fn look(way: &Way, listen: Duration) -> Result<BTreeMap<String, Seen>, FleetError> {
    let filters = [way.below("reported")?, way.below("desired")?];
    let mut visitor = way.visit()?;
    visitor.subscribe(&filters)?;
    let until = Instant::now() + listen;
    let mut boxes: BTreeMap<String, Seen> = BTreeMap::new();
    while let Some(told) = visitor.next(until)? {
        let Some((name, what)) = split(&told.topic) else { continue };
        let seen = boxes.entry(name.to_owned()).or_default();
        match what {
            "reported" => seen.report(&told.payload),
            _ => seen.wanted = version_of(&told.payload),
        }
    }
    Ok(boxes)
}

/// What an envelope's document says, whoever wrote it.
fn version_of(payload: &[u8]) -> Option<u64> {
    let envelope = Envelope::read(payload).ok()?;
    serde_json::from_str::<Value>(envelope.unverified()).ok()?["version"].as_u64()
}

pub(super) fn tail(way: &Way) -> Result<ExitCode, FleetError> {
    let filters = [way.below("reported")?, way.below("cmd/+/+")?];
    let mut visitor = way.visit()?;
    visitor.subscribe(&filters)?;
    loop {
        let until = Instant::now() + Duration::from_secs(3600);
        let Some(told) = visitor.next(until)? else { continue };
        if let Some((name, what)) = split(&told.topic) {
            // A terminal is not to be told what to do by a box.
            let text: String =
                String::from_utf8_lossy(&told.payload).chars().filter(|one| !one.is_control()).collect();
            println!("{name} {what} {text}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_a_row_and_says_what_is_not_as_wanted() {
        let mut seen = Seen { wanted: Some(8), ..Seen::default() };
        assert_eq!(seen.row("box").split_whitespace().collect::<Vec<_>>(), ["box", "8", "-", "silent"]);
        assert!(seen.is_different());
        seen.report(
            br#"{"version":8,"state":"accepted","rejected":null,"workloads":{"web":{"state":"starting","converged":false,"reason":"no agent yet"},"db":{"state":"ready","converged":true}}}"#,
        );
        assert!(
            seen.row("box").ends_with("8       8  accepted   web starting: no agent yet"),
            "{}",
            seen.row("box")
        );
        seen.report(br#"{"version":7,"state":"converged","rejected":{"version":8,"reason":"no image"},"workloads":{}}"#);
        assert!(seen.row("box").ends_with("8       7  converged  rejected 8: no image"));
        assert!(seen.is_different());
        seen.report(br#"{"version":8,"state":"converged"}"#);
        assert!(!seen.is_different());
        seen.report(b"nonsense");
        assert_eq!(seen.has, Some(8));
        assert_eq!(split("hearth/v1/plant/box/cmd/reboot/1"), Some(("box", "cmd/reboot/1")));
    }
}
