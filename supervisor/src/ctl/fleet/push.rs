//! A desired state, in waves.
//!
//! ```text
//! wave --all converged, or few enough not--> next wave --> ... --> done
//!   \--too many rejected, failed or late--> stop: later boxes keep what they have
//! ```
//!
//! Duty: who is in which wave, and what became of it. Not here: documents' contents. Invariant: a wave goes only after
//! the one before came through; nothing is taken back by itself.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use hearth_fleet::shell::Visitor;
use serde_json::Value;

use super::broker::{Way, split};
use super::look::{Seen, look};
use super::{FAILED, FleetError, harmless, keys};

/// To see which boxes there are.
const LISTEN: Duration = Duration::from_secs(2);

#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// Percent of all boxes, growing.
    pub(super) waves: Vec<u8>,
    /// Percent of a wave.
    pub(super) forgive: u8,
    /// Seconds for one.
    pub(super) wait: u64,
}

/// What became of a box.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Converged,
    Rejected,
    Failed,
}

pub(super) fn push(
    way: &Way,
    file: &Path,
    key: &[PathBuf],
    to: &[String],
    plan: &Plan,
) -> Result<ExitCode, FleetError> {
    let keys: Vec<_> = key.iter().map(|key| keys::secret_key(key)).collect::<Result<_, _>>()?;
    let envelope = keys::seal_or_sealed(&keys, file)?;
    let version = version(&keys::read(file)?).ok_or_else(|| {
        FleetError::Usage(format!("{}: expected a JSON object with a version", file.display()))
    })?;
    let boxes: Vec<String> =
        if to.is_empty() { look(way, LISTEN, false)?.into_keys().collect() } else { to.to_vec() };
    if boxes.is_empty() {
        return Err(FleetError::Usage("no box of this group ever reported; --to names some".to_owned()));
    }
    let mut visitor = way.visit()?;
    visitor.subscribe(&[way.below("reported")?])?;
    for wave in waves(&boxes, &plan.waves) {
        println!("version {version} to {} boxes: {}", wave.len(), wave.join(" "));
        for node in wave {
            visitor.publish(&format!("{}/desired", way.place(node)?), envelope.as_bytes())?;
        }
        let verdicts = watch(&mut visitor, wave, version, Duration::from_secs(plan.wait))?;
        let good = verdicts.values().filter(|(verdict, _)| *verdict == Verdict::Converged).count();
        for node in wave {
            match verdicts.get(node.as_str()) {
                Some((Verdict::Converged, _)) => {}
                Some((verdict, why)) => println!("{node}: {verdict:?}: {}", harmless(why)),
                None => println!("{node}: late"),
            }
        }
        println!("{good} of {} converged", wave.len());
        let bad = wave.len() - good;
        if bad * 100 > wave.len() * usize::from(plan.forgive) {
            eprintln!("hearthctl: {bad} of {} did not: the rest keep what they have", wave.len());
            return Ok(ExitCode::from(FAILED));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn version(text: &str) -> Option<u64> {
    serde_json::from_str::<Value>(text).ok()?["version"].as_u64()
}

/// Each of at least one box, and all boxes at last.
fn waves<'b>(boxes: &'b [String], percents: &[u8]) -> Vec<&'b [String]> {
    let (mut begin, mut waves) = (0, Vec::new());
    for percent in percents.iter().copied().chain([100]) {
        let end = (boxes.len() * usize::from(percent.min(100))).div_ceil(100);
        if end > begin {
            waves.push(&boxes[begin..end]);
            begin = end;
        }
    }
    waves
}

/// Until all have a verdict or the time is over.
fn watch(
    visitor: &mut Visitor,
    wave: &[String],
    version: u64,
    wait: Duration,
) -> Result<BTreeMap<String, (Verdict, String)>, FleetError> {
    let until = Instant::now() + wait;
    let mut verdicts = BTreeMap::new();
    while verdicts.len() < wave.len() {
        let Some(told) = visitor.next(until)? else { break };
        // What lay at the broker is about what was pushed before; a box answers also what it has already.
        if told.retained {
            continue;
        }
        let Some((name, _)) = split(&told.topic).filter(|(name, _)| wave.iter().any(|node| node == name))
        else {
            continue;
        };
        let mut seen = Seen::default();
        seen.report(&told.payload);
        if let Some(verdict) = verdict(&seen, version) {
            let why = seen.rejected.map_or_else(|| seen.lacking.join(", "), |(_, reason)| reason);
            verdicts.insert(name.to_owned(), (verdict, why));
        }
    }
    Ok(verdicts)
}

/// What failed does not come right by itself: boxes say so only when they do not try any more.
fn verdict(seen: &Seen, version: u64) -> Option<Verdict> {
    let rejected = seen.rejected.as_ref().is_some_and(|(of, _)| of.is_none_or(|of| of == version));
    if rejected {
        return Some(Verdict::Rejected);
    }
    if seen.has == Some(version) {
        return match seen.state.as_str() {
            "converged" => Some(Verdict::Converged),
            "failed" => Some(Verdict::Failed),
            _ => None,
        };
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waves_grow_to_all_boxes_and_none_is_empty() {
        let boxes: Vec<String> = (0..25).map(|number| number.to_string()).collect();
        let sizes = |boxes: &[String], percents: &[u8]| {
            waves(boxes, percents).iter().map(|wave| wave.len()).collect::<Vec<_>>()
        };
        assert_eq!(sizes(&boxes, &[10, 50]), [3, 10, 12]);
        assert_eq!(sizes(&boxes, &[100, 10]), [25]);
        assert_eq!(sizes(&boxes[..1], &[10, 50, 100]), [1]);
        assert_eq!(sizes(&boxes[..2], &[]), [2]);
    }

    #[test]
    fn a_verdict_is_about_this_version() {
        let of = |report: &str| {
            let mut seen = Seen::default();
            seen.report(report.as_bytes());
            verdict(&seen, 8)
        };
        assert_eq!(of(r#"{"version":7,"state":"converged"}"#), None);
        assert_eq!(of(r#"{"version":8,"state":"accepted"}"#), None);
        assert_eq!(of(r#"{"version":8,"state":"converged"}"#), Some(Verdict::Converged));
        assert_eq!(of(r#"{"version":8,"state":"failed"}"#), Some(Verdict::Failed));
        let rejected = |version: &str| {
            of(&format!(
                r#"{{"version":7,"state":"converged","rejected":{{"version":{version},"reason":"x"}}}}"#
            ))
        };
        assert_eq!(rejected("8"), Some(Verdict::Rejected));
        assert_eq!(rejected("6"), None);
        let mut seen = Seen::default();
        seen.report(br#"{"version":8,"state":"converged","rejected":{"version":8,"reason":"other words"}}"#);
        assert_eq!(verdict(&seen, 8), Some(Verdict::Rejected), "it has others words of that version");
    }
}
