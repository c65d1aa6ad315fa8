//! One command on many boxes.
//!
//! Duty: publish it, and tell what becomes of it. Not here: what operations do. Invariant: every box gets a command of its
//! own name, so whoever passes one on makes no other box do it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use hearth_fleet::shell::Visitor;
use minisign::SecretKey;
use serde_json::{Map, Value, json};

use super::broker::{Way, split};
use super::{FAILED, FleetError, harmless, keys};
use crate::wall;

pub(super) const HELP: &str = "\
Operations, and what they take:
  restart-workload  --workload
  rollback          --workload: its rollout is taken back, or the version before comes back
  snapshot          --workload, --name: a machine is written down on the box, as by hearthctl snapshot
  set-log-level     --level: what hearthd prints, until it begins anew
  reboot
  cancel            --of: ends a running exec, console or fetch-logs
What a box can do, it says below cmd/ in its place of the tree; update is supported by none yet.

Other keys for a box, such as when one was stolen, are a document of their own, signed by keys of before (release may name
both roles, operate its own), sealed with hearthctl fleet seal and published at cmd/trust/ID of the box:
  {\"hearth\": \"trust\", \"for\": [\"GROUP/*\"], \"version\": 2, \"operate\": {\"keys\": [\"RW...\"], \"threshold\": 1}}

Each box gets a command of its own, which it begins at most once, whatever happens to it or to the link; it expires with
--wait. Exit status: 0 if all boxes say successful; 1 if one does not, or says nothing in time.";

#[derive(Debug, Args)]
pub struct RunArgs {
    #[command(flatten)]
    way: Way,
    /// Signs the commands; as often as the boxes want signatures of the role
    #[arg(long, value_name = "FILE", required = true)]
    key: Vec<PathBuf>,
    /// restart-workload, rollback, snapshot, set-log-level, reboot, cancel
    operation: String,
    #[arg(required = true, value_name = "BOX")]
    boxes: Vec<String>,
    #[arg(long, value_name = "NAME")]
    workload: Option<String>,
    /// Of a snapshot; by default its time
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// output, info or alarm
    #[arg(long, value_name = "LEVEL")]
    level: Option<String>,
    /// The ID of another command
    #[arg(long, value_name = "ID")]
    of: Option<String>,
    /// Only where this is the version of the desired state
    #[arg(long, value_name = "N")]
    expected_version: Option<u64>,
    /// Seconds to wait for, and after which a box does not begin it any more
    #[arg(long, default_value_t = 60, value_name = "S")]
    wait: u64,
}

/// Somebody who gives commands, all under one ID.
pub(super) struct Caller<'w> {
    way: &'w Way,
    keys: Vec<SecretKey>,
    pub(super) id: String,
    issued: u64,
    /// Seconds.
    wait: u64,
}

impl<'w> Caller<'w> {
    /// Asks for passwords of keys that have some.
    pub(super) fn new(way: &'w Way, key: &[PathBuf], wait: u64) -> Result<Caller<'w>, FleetError> {
        let keys: Vec<_> = key.iter().map(|key| keys::secret_key(key)).collect::<Result<_, _>>()?;
        let issued = wall::unix_ms();
        // Not twice at one millisecond by one process; and boxes look at the signature, not at the name.
        let id = format!("{issued}-{}", std::process::id());
        Ok(Caller { way, keys, id, issued, wait })
    }

    pub(super) fn ask(
        &self,
        visitor: &mut Visitor,
        node: &str,
        operation: &str,
        fields: &Map<String, Value>,
    ) -> Result<(), FleetError> {
        let document = self.document(node, operation, fields);
        let envelope = keys::seal(&self.keys, Path::new("command"), document.to_string())?;
        Ok(visitor.publish(&self.topic(node, operation)?, envelope.as_bytes())?)
    }

    /// The same person about what was asked before: another ID.
    pub(super) fn again(&self, what: &str) -> Caller<'w> {
        let (id, issued) = (format!("{}-{what}", self.id), wall::unix_ms());
        Caller { way: self.way, keys: self.keys.clone(), id, issued, wait: self.wait }
    }

    /// It need not lie at the broker any longer.
    pub(super) fn clear(&self, visitor: &mut Visitor, node: &str, operation: &str) -> Result<(), FleetError> {
        Ok(visitor.publish(&self.topic(node, operation)?, b"")?)
    }

    fn topic(&self, node: &str, operation: &str) -> Result<String, FleetError> {
        Ok(format!("{}/cmd/{operation}/{}", self.way.place(node)?, self.id))
    }

    fn document(&self, node: &str, operation: &str, fields: &Map<String, Value>) -> Value {
        let mut document = json!({
            "hearth": "command", "for": [format!("{}/{node}", self.way.group)], "op": operation, "id": self.id,
            "issued": self.issued, "expires": self.issued.saturating_add(self.wait.saturating_mul(1000)),
        });
        if let Some(document) = document.as_object_mut() {
            document.extend(fields.clone());
        }
        document
    }
}

pub(super) fn run(args: &RunArgs, json: bool) -> Result<ExitCode, FleetError> {
    let caller = Caller::new(&args.way, &args.key, args.wait)?;
    let (operation, boxes) = (args.operation.as_str(), &args.boxes);
    let mut visitor = args.way.visit()?;
    visitor.subscribe(&[args.way.below(&format!("cmd/{operation}/{}", caller.id))?])?;
    let fields = fields(args);
    for node in boxes {
        caller.ask(&mut visitor, node, operation, &fields)?;
    }
    let until = Instant::now() + Duration::from_secs(args.wait);
    let mut open: BTreeSet<&str> = boxes.iter().map(String::as_str).collect();
    let mut failed = false;
    let tell = |name: &str, state: &str, reason: &str| {
        if json {
            println!("{}", json!({ "box": name, "state": state, "reason": reason }));
        } else if reason.is_empty() {
            println!("{name}: {state}");
        } else {
            println!("{name}: {state}: {}", harmless(reason));
        }
    };
    while !open.is_empty() {
        let Some(told) = visitor.next(until)? else { break };
        let Some((name, _)) = split(&told.topic) else { continue };
        let answer: Value = serde_json::from_slice(&told.payload).unwrap_or_default();
        let reason = answer["reason"].as_str().unwrap_or_default();
        match answer["state"].as_str() {
            Some("successful") if open.remove(name) => tell(name, "successful", ""),
            Some(state @ ("failed" | "rejected")) if open.remove(name) => {
                failed = true;
                tell(name, state, reason);
            }
            _ => {}
        }
    }
    for name in &open {
        tell(name, "no answer yet", "");
    }
    // What is answered need not lie there any longer; what is not may still be done until it expires.
    for node in boxes.iter().filter(|node| !open.contains(node.as_str())) {
        caller.clear(&mut visitor, node, operation)?;
    }
    Ok(if failed || !open.is_empty() { ExitCode::from(FAILED) } else { ExitCode::SUCCESS })
}

fn fields(args: &RunArgs) -> Map<String, Value> {
    let texts =
        [("workload", &args.workload), ("name", &args.name), ("level", &args.level), ("of", &args.of)];
    let given = |(key, value): (&str, &Option<String>)| Some((key.to_owned(), value.clone()?.into()));
    let version = args.expected_version.map(|version| ("expected_version".to_owned(), version.into()));
    texts.into_iter().filter_map(given).chain(version).collect()
}
