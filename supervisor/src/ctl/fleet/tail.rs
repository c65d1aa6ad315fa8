//! `hearthctl fleet tail`: what boxes say, as it comes.
//!
//! Duty: telemetry with its names, reports, answers, what workloads publish; a line for each message. Not here: bytes of
//! Sparkplug (`hearth_fleet::sparkplug::heard`).
//! Invariant: a box commands nobody's terminal.

use std::collections::BTreeSet;
use std::io::Write;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use hearth_fleet::shell::{Told, Visitor};
use hearth_fleet::sparkplug::heard::{Ear, Heard, rebirth};
use serde_json::{Value, json};

use super::broker::{Way, split};
use super::{FleetError, harmless};
use crate::wall;

/// Between two looks at a silent connection.
const SLICE: Duration = Duration::from_secs(3600);

pub(super) const HELP: &str = "\
A line for each message: its time, the box (and the workload's replica), what it is, and what it says.
  NBIRTH, DBIRTH  all figures of a box or a replica that came to life; NDATA, DDATA  those that changed; NDEATH, DDEATH
  reported        how a box stands to its desired state
  cmd/OP          what a box can do;  cmd/OP/ID  a command, and what became of it
  workload/...    what workloads publish
Data has numbers for names, which births explain. Of a box whose birth was before, one is asked for (an NCMD with Node
Control/Rebirth, which hosts of Sparkplug send as well); where the broker forbids that, figures are #NUMBER.

With --json each message is an object: box, device, kind or topic, at_ms, seq, and figures with name, value, at_ms and
historical, or payload.

Examples:
  hearthctl fleet tail --group plant
  hearthctl --json fleet tail box-1 | jq 'select(.kind == \"DDATA\").figures[]'";

#[derive(Debug, Args)]
pub struct TailArgs {
    #[command(flatten)]
    way: Way,
    /// Only these; by default all of the group
    #[arg(value_name = "BOX")]
    boxes: Vec<String>,
    /// Ends when so many messages were told; by default never
    #[arg(long, value_name = "N")]
    count: Option<u64>,
}

pub(super) fn tail(args: &TailArgs, json: bool) -> Result<ExitCode, FleetError> {
    let way = &args.way;
    let mut visitor = way.visit()?;
    let below = ["reported", "cmd/+", "cmd/+/+", "workload/#"];
    let mut filters = below.iter().map(|what| way.below(what)).collect::<Result<Vec<_>, _>>()?;
    filters.extend([way.telemetry("+/+")?, way.telemetry("+/+/+")?]);
    visitor.subscribe(&filters)?;
    let mut ear = Ear::default();
    let mut asked = BTreeSet::new();
    let mut left = args.count.unwrap_or(u64::MAX);
    while left > 0 {
        let Some(told) = visitor.next(Instant::now() + SLICE)? else { continue };
        let wanted = |name: &str| args.boxes.is_empty() || args.boxes.iter().any(|one| one == name);
        let line = if let Some(heard) = ear.hear(&told.topic, &told.payload) {
            if !wanted(&heard.node) {
                continue;
            }
            ask_for_names(way, &mut visitor, &heard, &mut asked)?;
            if json { figures_json(&heard).to_string() } else { figures_text(&heard) }
        } else if let Some((name, what)) = split(&told.topic).filter(|(name, _)| wanted(name)) {
            if json { word_json(name, what, &told).to_string() } else { word_text(name, what, &told) }
        } else {
            continue;
        };
        if writeln!(std::io::stdout(), "{line}").is_err() {
            // Whoever read it has seen enough.
            break;
        }
        left -= 1;
    }
    Ok(ExitCode::SUCCESS)
}

/// Once for each box: what it says to that explains all that follows.
fn ask_for_names(
    way: &Way,
    visitor: &mut Visitor,
    heard: &Heard,
    asked: &mut BTreeSet<String>,
) -> Result<(), FleetError> {
    let unnamed = heard.figures.iter().any(|figure| !figure.is_named);
    if unnamed && asked.insert(heard.node.clone()) {
        visitor.pass(&way.telemetry(&format!("NCMD/{}", heard.node))?, &rebirth())?;
    }
    Ok(())
}

fn figures_json(heard: &Heard) -> Value {
    let figures: Vec<Value> = heard
        .figures
        .iter()
        .map(|one| {
            json!({ "name": one.name, "value": one.value, "at_ms": one.at, "historical": one.historical })
        })
        .collect();
    json!({
        "box": heard.node, "device": heard.device, "kind": heard.kind, "seq": heard.seq, "at_ms": heard.at,
        "figures": figures,
    })
}

fn figures_text(heard: &Heard) -> String {
    let who = match &heard.device {
        Some(device) => format!("{}/{device}", heard.node),
        None => heard.node.clone(),
    };
    let figures = heard.figures.iter().map(|one| {
        let value = match &one.value {
            Value::String(text) => text.clone(),
            Value::Null => "unknown".to_owned(),
            other => other.to_string(),
        };
        let then = one.at.filter(|_| one.historical).map(|at| format!(" (at {})", wall::stamp(at)));
        format!("{} = {value}{}", one.name, then.unwrap_or_default())
    });
    line(heard.at.unwrap_or_else(wall::unix_ms), &who, &heard.kind, &figures.collect::<Vec<_>>().join(", "))
}

fn word_json(name: &str, what: &str, told: &Told) -> Value {
    let text = String::from_utf8_lossy(&told.payload);
    let payload = serde_json::from_slice(&told.payload).unwrap_or_else(|_| Value::from(text));
    json!({ "box": name, "topic": what, "at_ms": wall::unix_ms(), "retained": told.retained, "payload": payload })
}

fn word_text(name: &str, what: &str, told: &Told) -> String {
    let text = String::from_utf8_lossy(&told.payload);
    line(wall::unix_ms(), name, what, if text.is_empty() { "(cleared)" } else { &text })
}

fn line(at: u64, who: &str, what: &str, text: &str) -> String {
    let line = format!("{} {who:<20} {what:<10} {text}", wall::stamp(at));
    harmless(line.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;
    use hearth_fleet::sparkplug::heard::HeardFigure;

    #[test]
    fn figures_are_a_line_or_an_object_and_command_no_terminal() {
        let one = |name: &str, value, historical| HeardFigure {
            name: name.to_owned(),
            value,
            at: Some(1_795_289_766_123),
            historical,
            is_named: true,
        };
        let heard = Heard {
            kind: "DDATA".to_owned(),
            node: "box".to_owned(),
            device: Some("web".to_owned()),
            seq: Some(4),
            at: Some(1_795_289_766_123),
            figures: vec![one("State", "re\u{1b}[2Jady".into(), false), one("Memory", 7.into(), true)],
        };
        let text = figures_text(&heard);
        let expected = "2026-11-21T19:36:06.123Z box/web              DDATA      State = re[2Jady, Memory = 7 (at \
                        2026-11-21T19:36:06.123Z)";
        assert_eq!(text, expected);
        let told = figures_json(&heard);
        assert_eq!((&told["box"], &told["figures"][1]["historical"]), (&json!("box"), &json!(true)));
        let told = Told { topic: String::new(), payload: br#"{"a":1}"#.to_vec(), retained: true };
        assert_eq!(word_json("box", "reported", &told)["payload"]["a"], json!(1));
        assert!(word_text("box", "reported", &told).ends_with(r#"box                  reported   {"a":1}"#));
    }
}
