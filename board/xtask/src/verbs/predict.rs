//! `bench predict`: the predictor's figures.
//!
//! Duty: build the program that measures, and run it. Not here: what is measured, and the targets.
//! Invariant: the program is built as the daemon is, so costs in nanoseconds are those of a release.

use std::{
    io,
    path::PathBuf,
    process::{Command, ExitCode},
};

use thiserror::Error;

use crate::{command::CommandError, workshop::Workshop};

const PACKAGE: &str = "hearth-predict-bench";

#[derive(Debug, Error)]
pub(crate) enum PredictError {
    #[error(transparent)]
    Command(#[from] CommandError),
    #[error("cannot run {}", path.display())]
    Run { path: PathBuf, source: io::Error },
}

pub(crate) fn run(shop: &Workshop, words: &[String]) -> Result<ExitCode, PredictError> {
    let mut build = shop.cargo();
    build.args(["build", "--release", "--package", PACKAGE]);
    shop.cargo_job("compiling the predictor's benchmark", "bench-predict").run(build)?;
    let path = shop.target().join("release").join(PACKAGE);
    let status = Command::new(&path).args(words).status();
    let status = status.map_err(|source| PredictError::Run { path, source })?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
