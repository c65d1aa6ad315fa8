//! Boxes, and what they want and have.
//!
//! Duty: what lies at the broker as a table. Not here: changing any of it.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use hearth_fleet::sign::Envelope;
use hearth_fleet::sparkplug::heard::rebirth;
use serde::Serialize;
use serde_json::Value;

use super::broker::{Way, split};
use super::{FleetError, NOT_GOOD, harmless};

pub(super) const HELP: &str = "\
  BOX     its name in the group
  WANTED  version of the desired state that lies at the broker for it
  HAS     version that it follows, as it reported last
  STATE   of that: converged, accepted (on its way), failed, none; silent: it never reported
  WHY     what it rejected, or which workloads are not as wanted

With --json an object of boxes by name. Exit status: 0; with --diff 5 if there is a box to show.

Examples:
  hearthctl fleet list --group plant --alive
  hearthctl fleet list --diff || echo 'not there yet'";

#[derive(Debug, Args)]
pub struct ListArgs {
    #[command(flatten)]
    way: Way,
    /// Only boxes that have something else than is wanted
    #[arg(long)]
    diff: bool,
    /// Asks all of them for a birth, and says in a column LINK which of them answer
    #[arg(long)]
    alive: bool,
    /// Seconds to listen for; reports lie at the broker, so a second is enough but for slow links
    #[arg(long, default_value_t = 2, value_name = "S")]
    listen: u64,
}

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
    /// It answers now; none if nobody asked.
    up: Option<bool>,
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
        let link = match self.up {
            Some(true) => "up    ",
            Some(false) => "-     ",
            None => "",
        };
        let (wanted, has) = (number(self.wanted), number(self.has));
        harmless(&format!("{name:<28} {wanted:>7} {has:>7}  {link}{state:<10} {why}"))
    }
}

pub(super) fn list(args: &ListArgs, json: bool) -> Result<ExitCode, FleetError> {
    let ListArgs { diff, alive, .. } = *args;
    let mut boxes = look(&args.way, Duration::from_secs(args.listen), alive)?;
    if diff {
        boxes.retain(|_, seen| seen.is_different());
    }
    if json {
        println!("{}", serde_json::to_string(&boxes).unwrap_or_default());
    } else {
        let link = if alive { "LINK  " } else { "" };
        println!("{:<28} {:>7} {:>7}  {link}{:<10} WHY", "BOX", "WANTED", "HAS", "STATE");
        boxes.iter().for_each(|(name, seen)| println!("{}", seen.row(name).trim_end()));
    }
    Ok(if diff && !boxes.is_empty() { ExitCode::from(NOT_GOOD) } else { ExitCode::SUCCESS })
}

/// All boxes of the group of which something lies at the broker; if `alive`, each is asked for its births.
pub(super) fn look(way: &Way, listen: Duration, alive: bool) -> Result<BTreeMap<String, Seen>, FleetError> {
    let births = way.telemetry("NBIRTH/")?;
    let mut filters = vec![way.below("reported")?, way.below("desired")?];
    filters.extend(alive.then(|| format!("{births}+")));
    let mut visitor = way.visit()?;
    visitor.subscribe(&filters)?;
    let until = Instant::now() + listen;
    let mut boxes: BTreeMap<String, Seen> = BTreeMap::new();
    while let Some(told) = visitor.next(until)? {
        if let Some(name) = told.topic.strip_prefix(&births) {
            boxes.entry(name.to_owned()).or_default().up = Some(true);
            continue;
        }
        let Some((name, what)) = split(&told.topic) else { continue };
        if alive && !boxes.contains_key(name) {
            visitor.pass(&way.telemetry(&format!("NCMD/{name}"))?, &rebirth())?;
        }
        let seen = boxes.entry(name.to_owned()).or_default();
        seen.up = seen.up.or(alive.then_some(false));
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
