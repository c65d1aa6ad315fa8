//! What is done to the box, and what healed means each time.
//!
//! | fault | what is done | healed when |
//! |---|---|---|
//! | `monitor-killed` | SIGKILL to a monitor | another machine of it is ready |
//! | `monitor-frozen` | SIGSTOP to a monitor | likewise |
//! | `guest-panicked` | the guest's kernel panics | likewise |
//! | `guest-paused` | the guest's processors stand still | likewise |
//! | `agent-held` | the agent is held, its guest runs on | likewise |
//! | `workload-crashed` | the workload aborts | likewise |
//! | `workload-silent` | the workload answers its probe no more | likewise |
//! | `daemon-killed` | SIGKILL to hearthd | the next one has adopted all machines, none is another |
//! | `store-corrupted` | bits of every file of the store flip, and SIGKILL to hearthd | likewise |
//! | `disk-full` | the disk of the store and the logs is filled, then a monitor killed | the machine is replaced, and the box is well when there is room again |
//! | `daemon-frozen` | SIGSTOP to hearthd | the hardware's watchdog has reset the box, and it came up |
//!
//! Invariant: a machine that was not hurt is the same machine afterwards, except over a reset of the box.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use hearth_wire::control::Order;
use nix::sys::signal::Signal;
use nix::unistd::Pid;

use super::wall;
use crate::family;
use crate::patient::{Patient, Runs, Trouble, is_well, runs};
use crate::trials::client;
use crate::word::tell;

/// A way to hurt the box.
pub(super) struct Fault {
    pub(super) name: &'static str,
    /// It ends in a reset of the box.
    pub(super) resets: bool,
    pub(super) inflict: fn(&mut Patient) -> Result<Seen, Trouble>,
}

/// How it healed.
pub(super) struct Seen {
    pub(super) took: Duration,
    pub(super) how: String,
}

const fn fault(name: &'static str, inflict: fn(&mut Patient) -> Result<Seen, Trouble>) -> Fault {
    Fault { name, resets: false, inflict }
}

/// In this order: the last ones leave the least behind them.
pub(super) const ALL: &[Fault] = &[
    fault("monitor-killed", |patient| {
        replaced(patient, "monitor-killed", |patient, name| {
            patient.signal(patient.monitor(name)?, Signal::SIGKILL)
        })
    }),
    fault("monitor-frozen", |patient| {
        replaced(patient, "monitor-frozen", |patient, name| {
            let monitor = patient.monitor(name)?;
            let machine = u32::try_from(monitor.as_raw()).map(family::machine).ok();
            let machine = machine.and_then(|pid| i32::try_from(pid).ok()).map_or(monitor, Pid::from_raw);
            // Both: the one that the daemon knows, and the machine's own.
            patient.signal(monitor, Signal::SIGSTOP)?;
            patient.signal(machine, Signal::SIGSTOP)
        })
    }),
    fault("guest-panicked", |patient| replaced(patient, "guest-panicked", |_, name| tell(name, "panic"))),
    fault("guest-paused", |patient| {
        replaced(patient, "guest-paused", |_, name| {
            let failed = |failure: crate::trials::Failure| Trouble(failure.to_string());
            let mut client = client::Client::connect(&Patient::machine(name)).map_err(failed)?;
            client.order(Order::Pause).map_err(failed)
        })
    }),
    fault("agent-held", |patient| replaced(patient, "agent-held", |_, name| tell(name, "hold the agent"))),
    fault("workload-crashed", |patient| replaced(patient, "workload-crashed", |_, name| tell(name, "crash"))),
    fault("workload-silent", |patient| {
        replaced(patient, "workload-silent", |_, name| tell(name, "fall silent"))
    }),
    fault("daemon-killed", |patient| adopted(patient, |_| Ok(()))),
    fault("store-corrupted", |patient| adopted(patient, |_| corrupt(Path::new(STORE)))),
    fault("disk-full", disk_full),
    Fault { name: "daemon-frozen", resets: true, inflict: frozen },
];

const STORE: &str = "/var/lib/hearth";
/// Twice the watchdog's timeout, and what a slow board may add.
const RESET_PATIENCE: Duration = Duration::from_secs(180);

/// Hurts the workload's machine; healed when another machine is ready in its place.
fn replaced(
    patient: &mut Patient,
    name: &str,
    hurt: impl FnOnce(&Patient, &str) -> Result<(), Trouble>,
) -> Result<Seen, Trouble> {
    let before = patient.runs()?;
    let old = *before.get(name).ok_or_else(|| Trouble(format!("there is no {name}")))?;
    let _ = patient.events();
    let (began, wall_began) = (Instant::now(), wall());
    hurt(patient, name)?;
    patient.wait_until("in full health with another machine", |status| {
        is_well(status) && runs(status).get(name).is_some_and(|run| *run > old)
    })?;
    let took = began.elapsed();
    untouched(patient, &before, Some(name))?;
    Ok(Seen { took, how: patient.story(name, wall_began) })
}

/// Kills the daemon, after something was done to what it stands on; healed when the next one looks after all machines.
fn adopted(
    patient: &mut Patient,
    hurt: impl FnOnce(&Patient) -> Result<(), Trouble>,
) -> Result<Seen, Trouble> {
    let before = patient.runs()?;
    let daemon = patient.daemon()?;
    // So that nothing that it still writes mends the hurt.
    patient.signal(daemon, Signal::SIGSTOP)?;
    hurt(patient)?;
    let began = Instant::now();
    patient.signal(daemon, Signal::SIGKILL)?;
    patient.wait_until("in full health", is_well)?;
    let took = began.elapsed();
    if patient.daemon()? == daemon {
        return Err(Trouble("the daemon survived SIGKILL".to_owned()));
    }
    untouched(patient, &before, None)?;
    patient.forget_events();
    let told = patient.events().into_iter().find(|event| event.kind == "adopted");
    let told =
        told.ok_or_else(|| Trouble("the daemon does not say that it took machines over".to_owned()))?;
    Ok(Seen { took, how: told.text })
}

fn disk_full(patient: &mut Patient) -> Result<Seen, Trouble> {
    const FILL: &str = "/var/fill";
    let fill = || {
        let mut file = File::create(FILL)?;
        let piece = vec![0x5a; 1 << 20];
        // Until nothing more goes in, not even a byte.
        for size in [piece.len(), 4096, 1] {
            while file.write(&piece[..size]).is_ok_and(|written| written > 0) {}
        }
        file.sync_all()
    };
    // It ends with "no space left", one way or the other.
    let _ = fill();
    let healed = replaced(patient, "monitor-killed", |patient, name| {
        patient.signal(patient.monitor(name)?, Signal::SIGKILL)
    });
    fs::remove_file(FILL).map_err(|error| Trouble::of(FILL, &error))?;
    let healed = healed?;
    patient.wait_until_well()?;
    Ok(Seen { took: healed.took, how: format!("with a full disk: {}", healed.how) })
}

fn frozen(patient: &mut Patient) -> Result<Seen, Trouble> {
    patient.signal(patient.daemon()?, Signal::SIGSTOP)?;
    std::thread::sleep(RESET_PATIENCE);
    Err(Trouble(format!("no watchdog has reset the box within {} s", RESET_PATIENCE.as_secs())))
}

/// Every machine is the one that it was; `but` is not looked at.
fn untouched(patient: &Patient, before: &Runs, but: Option<&str>) -> Result<(), Trouble> {
    let after = patient.runs()?;
    for (name, run) in before.iter().filter(|(name, _)| Some(name.as_str()) != but) {
        if after.get(name) != Some(run) {
            return Err(Trouble(format!(
                "{name}, which nobody hurt, is machine {:?} and was {run}",
                after.get(name)
            )));
        }
    }
    Ok(())
}

/// Flips bits in every file below a folder.
fn corrupt(folder: &Path) -> Result<(), Trouble> {
    for entry in fs::read_dir(folder).map_err(|error| Trouble::of(STORE, &error))?.flatten() {
        let path = entry.path();
        if path.is_dir() {
            corrupt(&path)?;
            continue;
        }
        let failed = |error: std::io::Error| Trouble::of(&path.display().to_string(), &error);
        let mut bytes = fs::read(&path).map_err(failed)?;
        let middle = bytes.len() / 2;
        for byte in bytes.iter_mut().skip(middle).take(16) {
            *byte ^= 0x55;
        }
        let mut file = OpenOptions::new().write(true).open(&path).map_err(failed)?;
        file.write_all(&bytes).map_err(failed)?;
    }
    Ok(())
}
