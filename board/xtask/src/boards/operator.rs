//! Who may tell a board's box what to do, by way of a broker.
//!
//! Duty: a key of that person's, made once for a folder. Not here: what is told.
//! Invariant: the secret key lies in the folder, for its owner alone.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

use thiserror::Error;

const NAME: &str = "operate";

#[derive(Debug, Error)]
pub(crate) enum OperatorError {
    #[error("{} cannot be run", .0.display())]
    Run(PathBuf, #[source] io::Error),
    #[error("no key can be made: {0}")]
    Refused(String),
    #[error("{}", .0.display())]
    Read(PathBuf, #[source] io::Error),
}

#[derive(Clone, Debug)]
pub(crate) struct Operator {
    /// The file of the secret key.
    pub(crate) key: PathBuf,
    public: String,
}

impl Operator {
    /// The one whose key is in the folder, or a new one. `hearthctl` is one for this machine.
    pub(crate) fn in_folder(folder: &Path, hearthctl: &Path) -> Result<Operator, OperatorError> {
        let (key, public) =
            (folder.join(NAME).with_extension("key"), folder.join(NAME).with_extension("pub"));
        if !(key.exists() && public.exists()) {
            // Half of one is none, whichever half it is: no file is written over.
            for half in [&key, &public] {
                let _ = fs::remove_file(half);
            }
            let mut command = Command::new(hearthctl);
            command.current_dir(folder).args(["fleet", "keygen", "--no-password", NAME]);
            let output =
                command.output().map_err(|source| OperatorError::Run(hearthctl.to_owned(), source))?;
            if !output.status.success() {
                let words = String::from_utf8_lossy(&output.stderr).trim().to_owned();
                return Err(OperatorError::Refused(words));
            }
        }
        let text = fs::read_to_string(&public).map_err(|source| OperatorError::Read(public, source))?;
        // A comment, and the key.
        Ok(Operator { key, public: text.lines().last().unwrap_or_default().to_owned() })
    }

    /// What a box's file says behind `[fleet]`.
    pub(crate) fn config(&self) -> String {
        format!("[fleet.trust]\noperate = [\"{}\"]\n", self.public)
    }
}
