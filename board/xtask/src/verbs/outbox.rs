//! `bench outbox`: what it costs to keep what a broker is to have.
//!
//! Duty: run the benchmark of `hearth-fleet`. Not here: what is measured, and what was promised.

use std::{io, path::Path, process::ExitCode};

use thiserror::Error;

use crate::workshop::Workshop;

const PACKAGE: &str = "hearth-fleet";

#[derive(Debug, Error)]
pub(crate) enum OutboxError {
    #[error("cargo cannot be run")]
    Cargo(#[source] io::Error),
}

/// `folder` is on the disk that is to be measured.
pub(crate) fn run(shop: &Workshop, folder: Option<&Path>) -> Result<ExitCode, OutboxError> {
    let mut bench = shop.cargo();
    bench.args(["bench", "--quiet", "--package", PACKAGE, "--bench", "outbox"]);
    if let Some(folder) = folder {
        bench.arg("--").arg(folder);
    }
    let status = bench.status().map_err(OutboxError::Cargo)?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
