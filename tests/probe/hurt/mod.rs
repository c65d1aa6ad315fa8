//! Hurts the box that it runs beside, in every way that is known, and watches it heal.
//!
//! ```text
//! next fault -> well? -> baseline -> inflict -> healed? -> bystanders untouched? -> line -> next fault
//!      ^                                |
//!      +--- boot again <--- reset ------+   (the fault's name is on the disk by then)
//! ```
//!
//! Duty: the order of the faults, what is remembered over a reset of the box, a line for each fault with how long its
//! healing took, as a person who only has the API would see it. Not here: the faults (`faults`), what the box says of
//! itself (`patient`), what the daemon costs (`care`),
//! what outlives a power cut (`plug`).
//! Invariant: each fault begins with a box in full health, and counts as healed only when the box is in full health
//! again.

mod care;
mod faults;

mod plug;

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

use crate::patient::{Patient, Trouble};
use faults::{Fault, Seen};

/// On the disk that outlives a reset.
const FOLDER: &str = "/var/lib/hearth-hurt";
const DONE: &str = "done";
const NOW: &str = "now";

/// Runs every fault whose name contains one of the words in `filter`, commas between; all if there is none.
pub(crate) fn run(filter: &str) -> ExitCode {
    match campaign(filter) {
        Ok(failed) => {
            if failed == 0 {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        }
        Err(trouble) => {
            say(&format!("faults: cannot go on: {trouble}"));
            ExitCode::FAILURE
        }
    }
}

/// What the daemon costs, in `figure NAME VALUE` lines.
pub(crate) fn measure() -> ExitCode {
    match care::measure() {
        Ok(()) => ExitCode::SUCCESS,
        Err(trouble) => {
            say(&format!("figures: cannot go on: {trouble}"));
            ExitCode::FAILURE
        }
    }
}

/// Decides until the plug is pulled; `last` is the last decision before that.
pub(crate) fn decide(last: &str, finish: bool) -> ExitCode {
    let decided = match last.parse() {
        Ok(last) => plug::decide(last, finish),
        Err(_) => Err(Trouble(format!("expected the number of a decision, found {last}"))),
    };
    match decided {
        Ok(()) => ExitCode::SUCCESS,
        Err(trouble) => {
            say(&format!("plug: LOST: {trouble}"));
            ExitCode::FAILURE
        }
    }
}

fn campaign(filter: &str) -> Result<usize, Trouble> {
    let memory = Memory::open()?;
    if let Some((name, began)) = memory.under_way() {
        after_a_reset(&memory, &name, began)?;
    }
    for fault in faults::ALL {
        let wanted = filter.is_empty() || filter.split(',').any(|word| fault.name.contains(word));
        if wanted && !memory.is_done(fault.name) {
            let line = match one(&memory, fault) {
                Ok(seen) => {
                    format!("fault {}: healed in {} ms: {}", fault.name, seen.took.as_millis(), seen.how)
                }
                Err(trouble) => format!("fault {}: FAILED: {trouble}", fault.name),
            };
            memory.done(fault.name, &line)?;
            say(&line);
        }
    }
    let lines = memory.lines();
    let failed = lines.iter().filter(|line| line.contains(": FAILED: ")).count();
    say(&format!("faults: {} healed, {failed} failed", lines.len() - failed));
    Ok(failed)
}

fn one(memory: &Memory, fault: &Fault) -> Result<Seen, Trouble> {
    let mut patient = Patient::default();
    patient.wait_until_well()?;
    memory.begin(fault.name)?;
    (fault.inflict)(&mut patient)
}

/// The box was reset, which is what the fault was to lead to, or was not.
fn after_a_reset(memory: &Memory, name: &str, began: Duration) -> Result<(), Trouble> {
    let Some(fault) = faults::ALL.iter().find(|fault| fault.name == name) else {
        return Err(Trouble(format!("the box was reset during {name}, which nobody knows")));
    };
    let mut patient = Patient::default();
    let line = match patient.wait_until_well().and_then(|()| patient.boot_reason()) {
        Ok(reason) if fault.resets => {
            let took = wall().saturating_sub(began);
            format!("fault {name}: healed in {} ms: {reason}", took.as_millis())
        }
        Ok(reason) => format!("fault {name}: FAILED: the box was reset: {reason}"),
        Err(trouble) => format!("fault {name}: FAILED: after the reset: {trouble}"),
    };
    memory.done(name, &line)?;
    say(&line);
    Ok(())
}

/// The only clock that goes on over a reset.
fn wall() -> Duration {
    clock_gettime(ClockId::CLOCK_REALTIME).map_or(Duration::ZERO, Duration::from)
}

fn say(line: &str) {
    // The console of a box that ends has nobody to tell.
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// What is remembered over a reset.
struct Memory;

impl Memory {
    fn open() -> Result<Memory, Trouble> {
        fs::create_dir_all(FOLDER).map_err(|error| Trouble::of(FOLDER, &error))?;
        Ok(Memory)
    }

    fn lines(&self) -> Vec<String> {
        fs::read_to_string(Path::new(FOLDER).join(DONE))
            .unwrap_or_default()
            .lines()
            .map(str::to_owned)
            .collect()
    }

    fn is_done(&self, name: &str) -> bool {
        self.lines().iter().any(|line| line.starts_with(&format!("fault {name}:")))
    }

    /// The fault that a reset came into, and when it began.
    fn under_way(&self) -> Option<(String, Duration)> {
        let text = fs::read_to_string(Path::new(FOLDER).join(NOW)).ok()?;
        let (name, began) = text.split_once(' ')?;
        Some((name.to_owned(), Duration::from_millis(began.parse().ok()?)))
    }

    fn begin(&self, name: &str) -> Result<(), Trouble> {
        self.write(NOW, &format!("{name} {}", wall().as_millis()))
    }

    fn done(&self, name: &str, line: &str) -> Result<(), Trouble> {
        debug_assert!(line.starts_with(&format!("fault {name}:")));
        let mut lines = self.lines();
        lines.push(line.to_owned());
        self.write(DONE, &(lines.join("\n") + "\n"))?;
        fs::remove_file(Path::new(FOLDER).join(NOW)).map_err(|error| Trouble::of(NOW, &error))
    }

    fn write(&self, name: &str, text: &str) -> Result<(), Trouble> {
        let path = Path::new(FOLDER).join(name);
        let failed = |error| Trouble::of(name, &error);
        let mut file = fs::File::create(&path).map_err(failed)?;
        file.write_all(text.as_bytes()).map_err(failed)?;
        // The next thing that happens may be a reset.
        file.sync_all().map_err(failed)?;
        fs::File::open(FOLDER).and_then(|folder| folder.sync_all()).map_err(failed)
    }
}
