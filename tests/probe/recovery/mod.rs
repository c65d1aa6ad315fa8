//! Faults that come again and again, healed by the box beside which this runs.
//!
//! ```text
//! all have a snapshot --> seeded pause --> harm --> running again --by what reaches the cause--> line, next fault
//!                                           ^            |
//!                                           +--by what does not
//! ```
//!
//! Duty: the same incidents to whatever box it is, and a line for each with how long the box took. Not here: which faults
//! there are (`faults`), in which order the box tries its means (its files), what is made of the lines (`cargo xtask bench`).
//! Invariants: what cures an incident is thrown before anybody tries, by fault and number alone; one incident is on at a
//! time, and the next of a workload comes when the last is closed and its restarts count no more.

mod faults;

use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use hearth_supervisor::api::client::{Client, read};
use hearth_supervisor::api::types::{EventTold, Explained};
use nix::sys::signal::Signal;
use nix::time::{ClockId, clock_gettime};

use self::faults::{ALL, Fault, Harm, Incident, Means};
use crate::events::Events;
use crate::patient::{Patient, Trouble, is_well};
use crate::word;

/// Incidents of each fault.
const INCIDENTS: u64 = 30;
/// For which a workload has to stay ready until its incident is closed, as the daemon has it.
const PROOF_MS: u64 = 60_000;
/// As the workloads' files have it, and a little more: the restarts of an incident count no more in the next one.
const BUDGET_WINDOW: Duration = Duration::from_secs(65);
/// For a workload to be proven, and for a snapshot of it.
const PATIENCE: Duration = Duration::from_secs(1800);
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// Where the daemon keeps its snapshots.
const WARM: &str = "/var/lib/hearth/warm";

pub(crate) fn run() -> ExitCode {
    match campaign() {
        Ok(()) => ExitCode::SUCCESS,
        Err(trouble) => {
            println!("recovery: cannot go on: {trouble}");
            ExitCode::FAILURE
        }
    }
}

fn campaign() -> Result<(), Trouble> {
    let patient = Patient::default();
    patient.wait_until_well()?;
    until("all of them have a snapshot", || Ok(ALL.iter().all(|fault| has_snapshot(fault.name))))?;
    let events = Events::follow()?;
    for number in 0..INCIDENTS {
        for fault in ALL {
            let line = match incident(&patient, &events, fault, &fault.incident(number))? {
                Outcome::Cured { noticed_ms, repaired_ms } => {
                    format!("incident {} cured {noticed_ms} {repaired_ms}", fault.name)
                }
                Outcome::Escalated => format!("incident {} escalated", fault.name),
            };
            println!("{line}");
        }
        thread::sleep(BUDGET_WINDOW);
        until("every incident is closed", || {
            let closed = |fault: &Fault| Ok(explained(fault.name)?.incidents.is_empty());
            let all = ALL.iter().map(closed).collect::<Result<Vec<bool>, Trouble>>()?;
            Ok(all.into_iter().all(|closed| closed)
                && patient.status().is_some_and(|status| is_well(&status)))
        })?;
    }
    Ok(())
}

/// What became of an incident.
enum Outcome {
    /// Milliseconds from the harm until the daemon knew, and from there until the workload ran and stayed so.
    Cured {
        noticed_ms: u64,
        repaired_ms: u64,
    },
    Escalated,
}

fn incident(
    patient: &Patient,
    events: &Events,
    fault: &Fault,
    incident: &Incident,
) -> Result<Outcome, Trouble> {
    let name = fault.name;
    thread::sleep(incident.pause);
    let began_ms = monotonic_ms();
    harm(patient, fault)?;
    let mut means = None;
    loop {
        let told = events.wait(|event| event.workload.as_deref() == Some(name))?.1;
        match told.kind.as_ref() {
            "process-restart" => means = Some(Means::Process),
            "restart" => means = Some(Means::Machine),
            "running" if used(means, &told).is_some_and(|means| incident.cause.is_reached_by(means)) => {
                return cured(name, began_ms);
            }
            "running" => harm(patient, fault)?,
            "quarantined" => {
                // Somebody saw to the cause.
                post(name, "retry")?;
                return Ok(Outcome::Escalated);
            }
            _ => {}
        }
    }
}

/// By what it runs again.
fn used(ordered: Option<Means>, running: &EventTold) -> Option<Means> {
    match ordered? {
        Means::Machine if running.text.contains("warm snapshot") => Some(Means::Snapshot),
        means => Some(means),
    }
}

fn harm(patient: &Patient, fault: &Fault) -> Result<(), Trouble> {
    match fault.harm {
        Harm::Word(said) => word::tell(fault.name, said),
        Harm::Kill => patient.signal(patient.monitor(fault.name)?, Signal::SIGKILL),
    }
}

fn cured(name: &str, began_ms: u64) -> Result<Outcome, Trouble> {
    let story = explained(name)?;
    let incident = story.incidents.first().ok_or_else(|| Trouble(format!("{name} has no incident")))?;
    let verified = incident.verified_ms.ok_or_else(|| Trouble(format!("{name} runs and is not ready")))?;
    Ok(Outcome::Cured {
        noticed_ms: incident.opened_ms.saturating_sub(began_ms),
        repaired_ms: verified.saturating_sub(PROOF_MS).saturating_sub(incident.opened_ms),
    })
}

/// The clock of the daemon's moments.
fn monotonic_ms() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from);
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

fn connect() -> Result<Client, Trouble> {
    Client::connect(&Patient::state().join("api.sock")).map_err(|error| Trouble::of("api.sock", &error))
}

fn explained(name: &str) -> Result<Explained, Trouble> {
    let failed = |error| Trouble::of(name, &error);
    read(&connect()?.get(&format!("/v1/workloads/{name}")).map_err(failed)?).map_err(failed)
}

fn post(name: &str, deed: &str) -> Result<(), Trouble> {
    let answer = connect()?.post(&format!("/v1/workloads/{name}/{deed}"), b"");
    answer.map(drop).map_err(|error| Trouble::of(deed, &error))
}

fn has_snapshot(name: &str) -> bool {
    // What belongs to one is written when it is whole.
    let is_of = |entry: fs::DirEntry| entry.path().extension().is_some_and(|end| end == "of");
    fs::read_dir(Path::new(WARM).join(name)).is_ok_and(|entries| entries.flatten().any(is_of))
}

fn until(what: &str, is_so: impl Fn() -> Result<bool, Trouble>) -> Result<(), Trouble> {
    let end = Instant::now() + PATIENCE;
    while !is_so()? {
        if Instant::now() > end {
            return Err(Trouble(format!("not so within {} s: {what}", PATIENCE.as_secs())));
        }
        thread::sleep(LOOK_AGAIN);
    }
    Ok(())
}
