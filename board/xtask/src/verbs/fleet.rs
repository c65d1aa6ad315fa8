//! `bench fleet`: what being a member of a fleet costs, and what one broker stands.
//!
//! Duty: the broker, the program that measures, and running it. Not here: what is measured, and what was promised.
//! Invariant: the program is built as the daemon is.

use std::{
    io,
    path::PathBuf,
    process::{Command, ExitCode},
};

use thiserror::Error;

use crate::{
    command::CommandError,
    debian::packages::{self, Need, PackagesError},
    workshop::Workshop,
};

const PACKAGE: &str = "hearth-fleet-tests";
const PROGRAM: &str = "hearth-fleet-bench";

#[derive(Debug, Error)]
pub(crate) enum FleetError {
    #[error(transparent)]
    Command(#[from] CommandError),
    #[error(transparent)]
    Packages(#[from] PackagesError),
    #[error("cannot run {}", path.display())]
    Run { path: PathBuf, source: io::Error },
}

pub(crate) fn run(shop: &Workshop, boxes: Option<u32>) -> Result<ExitCode, FleetError> {
    packages::require(shop, &[Need::Broker])?;
    let mut build = shop.cargo();
    build.args(["build", "--release", "--package", PACKAGE, "--bin", PROGRAM]);
    shop.cargo_job("compiling the fleet's benchmark", "bench-fleet").run(build)?;
    let path = shop.target().join("release").join(PROGRAM);
    let status = Command::new(&path).args(boxes.map(|boxes| boxes.to_string())).status();
    let status = status.map_err(|source| FleetError::Run { path, source })?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
