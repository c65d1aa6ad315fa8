//! Where everything happens: the source tree, the cache folder, the progress display.
//!
//! Duty: find them once, at start. Not here: work. Invariant: every path in here is absolute.

use std::{
    env, io,
    path::{Path, PathBuf},
    process::Command,
};

use thiserror::Error;

use crate::{
    cache::{Cache, CacheError},
    command::{Job, Line},
    progress::Progress,
};

#[derive(Debug, Error)]
pub(crate) enum WorkshopError {
    #[error("cannot find the project's folder")]
    NoProject { source: io::Error },
    #[error(transparent)]
    Cache(#[from] CacheError),
}

/// The surroundings of every verb.
#[derive(Debug)]
pub(crate) struct Workshop {
    /// The folder with the workspace's Cargo.toml.
    pub(crate) root: PathBuf,
    pub(crate) cache: Cache,
    pub(crate) progress: Progress,
}

impl Workshop {
    pub(crate) fn open() -> Result<Self, WorkshopError> {
        // Cargo sets it when it runs this program; the built-in one serves when the program is run by hand.
        let here = env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
        let here = here.unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")));
        let root = here.join("../..").canonicalize().map_err(|source| WorkshopError::NoProject { source })?;
        Ok(Self { root, cache: Cache::open()?, progress: Progress::detect() })
    }

    /// Where cargo builds.
    pub(crate) fn target(&self) -> PathBuf {
        match env::var_os("CARGO_TARGET_DIR").filter(|dir| !dir.is_empty()) {
            Some(dir) => self.root.join(dir),
            None => self.root.join("target"),
        }
    }

    pub(crate) fn path(&self, below: impl AsRef<Path>) -> PathBuf {
        self.root.join(below)
    }

    /// A job with a progress line and a log.
    pub(crate) fn job(&self, title: &str, log_name: &str) -> Job<'_> {
        Job::new(&self.progress, &self.cache, title, log_name)
    }

    /// Cargo, as it was called for this program, in the project's folder.
    pub(crate) fn cargo(&self) -> Command {
        let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.current_dir(&self.root);
        // What cargo told this program about its own package is not for the packages that it builds now:
        // build scripts would see it change and run again.
        for (name, _) in env::vars_os() {
            let told = name.to_string_lossy();
            if told.starts_with("CARGO_PKG_") || told.starts_with("CARGO_MANIFEST_") {
                command.env_remove(&name);
            }
        }
        command
    }

    /// A cargo run that counts the crates it compiles.
    pub(crate) fn cargo_job(&self, title: &str, log_name: &str) -> Job<'_> {
        self.job(title, log_name).counting("crates", compiling)
    }
}

/// Judges a line that cargo prints while it compiles.
pub(crate) fn compiling(line: &str) -> Line {
    let line = line.trim_start();
    let starts = |words: &[&str]| words.iter().any(|word| line.starts_with(word));
    match line {
        _ if starts(&["Compiling ", "Checking "]) => Line::Counted,
        _ if starts(&["Downloading ", "Downloaded ", "Updating ", "Blocking "]) => Line::Noise,
        _ => Line::Text,
    }
}
