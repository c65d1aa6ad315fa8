//! A person decides one thing after the other until somebody pulls the box's plug.
//!
//! Duty: after a boot, say whether the box still knows the last decision that it acknowledged; then decide on. Not here:
//! pulling the plug (`cargo xtask board plug`), which also keeps the number of the last decision: nothing on the box
//! is to be believed.
//! Invariant: a decision is counted only after the API has answered.

use std::thread;
use std::time::Duration;

use hearth_supervisor::api::client::{Client, read};
use hearth_supervisor::api::types::WorkloadStatus;

use super::say;
use crate::patient::{Patient, Trouble};

/// A workload that is stopped, so that decisions about it start nothing.
const ABOUT: &str = "idle";
/// Numbers of replicas that are decided on in turn: fewer than a workload may have.
const VALUES: u64 = 60;
/// Between two decisions.
const PAUSE: Duration = Duration::from_millis(20);

/// What decision `number` is: so many replicas.
fn decision(number: u64) -> u16 {
    u16::try_from(1 + number % VALUES).unwrap_or(1)
}

/// `last` is the last decision that was acknowledged before the plug was pulled; 0 is none. Ends when the plug is
/// pulled again, or at once if `finish`.
pub(super) fn decide(last: u64, finish: bool) -> Result<(), Trouble> {
    let patient = Patient::default();
    patient.wait_until("up", |status| status.phase == "up")?;
    let said = about(&patient)?.scale;
    // The one after it may have been on its way.
    let known = last == 0 || [last, last + 1].map(|number| Some(decision(number))).contains(&said);
    if !known {
        return Err(Trouble(format!(
            "decision {last} was {} replicas of {ABOUT}, and the box says {said:?}",
            decision(last)
        )));
    }
    say(&format!("plug: decision {last} is known"));
    if finish {
        ask("start", b"")?;
        ask("scale", b"{\"replicas\":null}")?;
        patient.wait_until_well()?;
        say("plug: in full health");
        return Ok(());
    }
    ask("stop", b"")?;
    for number in last + 1.. {
        ask("scale", format!("{{\"replicas\":{}}}", decision(number)).as_bytes())?;
        say(&format!("plug: decided {number}"));
        thread::sleep(PAUSE);
    }
    Ok(())
}

fn about(patient: &Patient) -> Result<WorkloadStatus, Trouble> {
    let status = patient.status().ok_or_else(|| Trouble("no daemon answers".to_owned()))?;
    let found = status.workloads.into_iter().find(|workload| workload.name == ABOUT);
    found.ok_or_else(|| Trouble(format!("there is no {ABOUT}")))
}

fn ask(verb: &str, body: &[u8]) -> Result<(), Trouble> {
    let path = format!("/v1/workloads/{ABOUT}/{verb}");
    let asked =
        Client::connect(&Patient::state().join("api.sock")).and_then(|mut client| client.post(&path, body));
    let answer = asked.map_err(|error| Trouble::of(&path, &error))?;
    // What the answer says is looked at after the next boot.
    read::<serde_json::Value>(&answer).map(drop).map_err(|error| Trouble::of(&path, &error))
}
