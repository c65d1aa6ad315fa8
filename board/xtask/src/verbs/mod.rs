//! One module per verb; this one calls the right one.

use std::process::ExitCode;

use thiserror::Error;

use crate::{
    boards::{
        broker::{self, BrokerError},
        guest_files::GuestFilesError,
    },
    cli::Verb,
    programs::ProgramsError,
    workshop::{Workshop, WorkshopError},
};

mod bench;
mod board;
mod clean;
mod ctl;
mod doctor;
mod fleet;
mod fuzz;
mod kernel;
mod outbox;
mod predict;
mod rootfs;
mod setup;
mod test;
mod up;

#[derive(Debug, Error)]
pub(crate) enum VerbError {
    #[error(transparent)]
    Workshop(#[from] WorkshopError),
    #[error(transparent)]
    Setup(#[from] setup::SetupError),
    #[error(transparent)]
    Kernel(#[from] kernel::KernelError),
    #[error(transparent)]
    Test(#[from] test::TestError),
    #[error(transparent)]
    Fuzz(#[from] fuzz::FuzzError),
    #[error(transparent)]
    Doctor(#[from] doctor::DoctorError),
    #[error(transparent)]
    Clean(#[from] clean::CleanError),
    #[error(transparent)]
    Broker(#[from] BrokerError),
    #[error(transparent)]
    Ctl(#[from] ctl::CtlError),
    #[error(transparent)]
    Guest(#[from] GuestFilesError),
    #[error(transparent)]
    Board(#[from] board::BoardError),
    #[error(transparent)]
    Up(#[from] up::UpError),
    #[error(transparent)]
    Bench(#[from] bench::BenchError),
    #[error(transparent)]
    Programs(#[from] ProgramsError),
}

/// Runs a verb to its end.
pub(crate) fn run(verb: &Verb) -> Result<ExitCode, VerbError> {
    let shop = Workshop::open()?;
    match verb {
        Verb::Setup(choice) => setup::run(&shop, choice)?,
        Verb::Kernel(options) => kernel::run(&shop, options)?,
        Verb::Rootfs(choice) => rootfs::run(&shop, choice)?,
        Verb::Board(verb) => return Ok(board::run(&shop, verb)?),
        Verb::Up(options) => return Ok(up::run(&shop, options)?),
        Verb::Join { port } => broker::join(*port)?,
        Verb::Ctl { words } => match ctl::run(&shop, words)? {},
        Verb::Test(options) => return Ok(test::run(&shop, options)?),
        Verb::Fuzz(options) => return Ok(fuzz::run(&shop, options)?),
        Verb::Bench(verb) => return Ok(bench::run(&shop, verb)?),
        Verb::Doctor { deps: true } => return Ok(doctor::dependencies(&shop)?),
        Verb::Doctor { deps: false } => return Ok(doctor::run(&shop)?),
        Verb::Clean(options) => clean::run(&shop, options)?,
    }
    Ok(ExitCode::SUCCESS)
}
