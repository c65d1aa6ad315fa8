//! `doctor`: asks the monitor what this machine offers, and says what follows for `up`.

use std::{
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

/// What this machine's KVM is, measured by the project's own monitor.
pub(crate) fn measure(shop: &Workshop) -> Result<Kvm, DoctorError> {
    ask(&programs::build_static(shop, Arch::HOST, &[MONITOR])?.path(MONITOR))
}

fn ask(monitor: &Path) -> Result<Kvm, DoctorError> {
    // Its status may speak of a machine without KVM; the object says that too.
    let said = command::ask_whatever_its_status(Command::new(monitor).args(["doctor", "--json"]))?;
    Kvm::from_doctor(&said).ok_or(DoctorError::Unclear { said })
}
