//! `clean`: removes what was built.
//!
//! Invariant: a folder that held anything before it became the cache is never removed.

use std::{fs, io, path::PathBuf};

use thiserror::Error;

use crate::{cache::CacheError, cli, command::CommandError, workshop::Workshop};

#[derive(Debug, Error)]
pub(crate) enum CleanError {
    #[error(transparent)]
    Command(#[from] CommandError),
    #[error(transparent)]
    Cache(#[from] CacheError),
    #[error("cannot remove {}", path.display())]
    Remove { path: PathBuf, source: io::Error },
}

pub(crate) fn run(shop: &Workshop, options: &cli::Clean) -> Result<(), CleanError> {
    if options.cache {
        shop.cache.is_ours()?;
    }
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
