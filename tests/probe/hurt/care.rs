//! What the daemon costs, and how quick it is.
//!
//! | figure | what |
//! |---|---|
//! | `daemon_resident_kib`, `daemon_private_kib` | the daemon's memory with all workloads in full health |
//! | `daemon_idle_ns_per_min` | processor time of all its threads in a minute in which nothing happens |
//! | `cold_ns` | from the end of a monitor to the replacement's workload, booted |
//! | `warm_ns` | likewise, restored from the snapshot of its version |
//! | `adoption_ns` | from the end of the daemon to the next one's word that it has taken over all machines |
//!
//! Duty: measure on the box, from outside the daemon. Not here: what the figures are held against (`cargo xtask bench`).
//! Invariant: a figure is printed only if nothing but what was asked for happened meanwhile.

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::unistd::Pid;

use super::say;
use crate::events::Events;
use crate::patient::{Patient, Trouble};

/// After which init starts a daemon that ended at once, and a machine has proved itself worth a snapshot, which takes
/// another second.
const STEADY: Duration = Duration::from_secs(65);
/// In which nothing happens.
const IDLE: Duration = Duration::from_secs(20);
/// For the next daemon to say something.
const PATIENCE: Duration = Duration::from_secs(120);
/// Workloads that are booted anew, once each: a second failure would wait longer.
const COLD: [&str; 3] = ["monitor-killed", "monitor-frozen", "guest-panicked"];
/// The ones that are restored.
const WARM: [&str; 3] = ["warm", "warm.1", "warm.2"];

pub(super) fn measure() -> Result<(), Trouble> {
    let mut patient = Patient::default();
    patient.wait_until_well()?;
    resources(&patient)?;
    // Until both are so.
    thread::sleep(STEADY.saturating_sub(2 * IDLE));
    adopt(&mut patient)?;
    for name in WARM {
        replace(&patient, name, "warm_ns")?;
    }
    for name in COLD {
        replace(&patient, name, "cold_ns")?;
    }
    Ok(())
}

fn figure(name: &str, value: u128) {
    say(&format!("figure {name} {value}"));
}

fn resources(patient: &Patient) -> Result<(), Trouble> {
    let daemon = patient.daemon()?;
    // The last of the start is over.
    thread::sleep(IDLE);
    let (before, began) = (spent(daemon)?, Instant::now());
    thread::sleep(IDLE);
    let (spent, took) = (spent(daemon)?.saturating_sub(before), began.elapsed());
    figure("daemon_idle_ns_per_min", spent.as_nanos() * 60_000 / took.as_millis().max(1));
    figure("daemon_resident_kib", kib(daemon, "VmRSS:")?);
    figure("daemon_private_kib", kib(daemon, "RssAnon:")?);
    Ok(())
}

/// Processor time of all threads.
fn spent(process: Pid) -> Result<Duration, Trouble> {
    let tasks = PathBuf::from(format!("/proc/{process}/task"));
    let mut sum = 0;
    for task in fs::read_dir(&tasks).map_err(|error| Trouble::of("task", &error))?.flatten() {
        let text = fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
        sum += text.split_whitespace().next().and_then(|ns| ns.parse::<u64>().ok()).unwrap_or_default();
    }
    Ok(Duration::from_nanos(sum))
}

fn kib(process: Pid, key: &str) -> Result<u128, Trouble> {
    let text = fs::read_to_string(format!("/proc/{process}/status"))
        .map_err(|error| Trouble::of("status", &error))?;
    let value = text.lines().find_map(|line| line.strip_prefix(key)?.split_whitespace().next()?.parse().ok());
    value.ok_or_else(|| Trouble(format!("no {key} of process {process}")))
}

/// Ends a monitor; the time until its workload runs in another machine.
fn replace(patient: &Patient, name: &'static str, called: &str) -> Result<(), Trouble> {
    let monitor = patient.monitor(name)?;
    let events = Events::follow()?;
    let began = Instant::now();
    patient.signal(monitor, Signal::SIGKILL)?;
    let (ran, _) = events.wait(|event| event.kind == "running" && event.replica.as_deref() == Some(name))?;
    figure(called, ran.duration_since(began).as_nanos());
    patient.wait_until_well()
}

fn adopt(patient: &mut Patient) -> Result<(), Trouble> {
    let before = patient.runs()?;
    let began = Instant::now();
    patient.signal(patient.daemon()?, Signal::SIGKILL)?;
    let end = began + PATIENCE;
    let took = loop {
        patient.forget_events();
        let took = began.elapsed();
        if patient.events().iter().any(|event| event.kind == "adopted") {
            break took;
        }
        if Instant::now() > end {
            return Err(Trouble("nothing was adopted".to_owned()));
        }
        thread::sleep(Duration::from_millis(1));
    };
    patient.wait_until_well()?;
    let after = patient.runs()?;
    if before != after {
        return Err(Trouble(format!("not all machines were adopted: {before:?}, and then {after:?}")));
    }
    figure("adoption_ns", took.as_nanos());
    Ok(())
}
