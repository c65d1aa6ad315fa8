//! `clean`: removes what was built.

use std::{fs, io, path::PathBuf};

use thiserror::Error;

use crate::{cli, command::CommandError, workshop::Workshop};

#[derive(Debug, Error)]
pub(crate) enum CleanError {
    #[error(transparent)]
    Command(#[from] CommandError),
    #[error("cannot remove {}", path.display())]
    Remove { path: PathBuf, source: io::Error },
}

pub(crate) fn run(shop: &Workshop, options: &cli::Clean) -> Result<(), CleanError> {
    let mut command = shop.cargo();
    command.arg("clean");
    shop.job("removing build results", "clean").run(command)?;
    println!("removed {}", shop.target().display());
    if options.cache {
        let path = shop.cache.root().to_owned();
        fs::remove_dir_all(&path).map_err(|source| CleanError::Remove { path: path.clone(), source })?;
        println!("removed {}", path.display());
    }
    Ok(())
}
