//! `doctor`: asks the monitor what this machine offers, and says what follows for `up`.

use std::{
    collections::BTreeSet,
    io,
    path::Path,
    process::{Command, ExitCode},
};

use thiserror::Error;

use crate::{
    arch::Arch,
    boards::{Kvm, Place},
    command::{self, CommandError},
    programs::{self, ProgramsError},
    workshop::Workshop,
};

/// The package with the monitor, and its program.
const MONITOR: &str = "hearth-vmm";

/// Crates of the program that guests attack: each is code that somebody has to trust.
const MOST_CRATES: usize = 59;

#[derive(Debug, Error)]
pub(crate) enum DoctorError {
    #[error(transparent)]
    Programs(#[from] ProgramsError),
    #[error(transparent)]
    Command(#[from] CommandError),
    #[error("cannot run {MONITOR}")]
    Monitor { source: io::Error },
    #[error("{MONITOR} doctor --json says nothing about KVM that is understood: {said:?}")]
    Unclear { said: String },
}

pub(crate) fn run(shop: &Workshop) -> Result<ExitCode, DoctorError> {
    let monitor = programs::build_static(shop, Arch::HOST, &[MONITOR])?.path(MONITOR);
    let status =
        Command::new(&monitor).arg("doctor").status().map_err(|source| DoctorError::Monitor { source })?;
    println!("'up' would run on: {}", Place::suited_to(ask(&monitor)?));
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Tells the crates that are in the monitor, macros that ran while it was compiled among them.
pub(crate) fn dependencies(shop: &Workshop) -> Result<ExitCode, DoctorError> {
    let tree = ["tree", "--package", MONITOR, "--edges", "normal", "--prefix", "none", "--format", "{p}"];
    let crates = distinct(&command::ask(shop.cargo().args(tree))?);
    crates.iter().for_each(|one| println!("{one}"));
    println!("{MONITOR} has {} crates, at most {MOST_CRATES}", crates.len());
    Ok(if crates.len() <= MOST_CRATES { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Names and versions, each once; of our own, cargo tells the folder as well.
fn distinct(tree: &str) -> BTreeSet<String> {
    let named = |line: &str| line.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
    tree.lines().map(named).filter(|line| !line.is_empty()).collect()
}

/// What this machine's KVM is, measured by the project's own monitor.
pub(crate) fn measure(shop: &Workshop) -> Result<Kvm, DoctorError> {
    ask(&programs::build_static(shop, Arch::HOST, &[MONITOR])?.path(MONITOR))
}

fn ask(monitor: &Path) -> Result<Kvm, DoctorError> {
    // Its status may speak of a machine without KVM; the object says that too.
    let said = command::ask_whatever_its_status(Command::new(monitor).args(["doctor", "--json"]))?;
    Kvm::from_doctor(&said).ok_or(DoctorError::Unclear { said })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crate_counts_once_and_each_version_of_it_for_itself() {
        let tree =
            "hearth-vmm v0.1.0 (/here/vmm)\nlibc v0.2.1\nsyn v2.0.0 (*)\nsyn v3.0.0\nlibc v0.2.1 (*)\n\n";
        assert_eq!(
            distinct(tree).into_iter().collect::<Vec<_>>(),
            ["hearth-vmm v0.1.0", "libc v0.2.1", "syn v2.0.0", "syn v3.0.0"]
        );
    }
}
