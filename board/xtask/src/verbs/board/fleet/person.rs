//! Whoever manages the box: `hearthctl`, as a person would call it.
//!
//! Duty: its key, its documents, its calls. Not here: what should come of them.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::Arc,
};

use serde_json::{Value, json};
use tempfile::TempDir;
use thiserror::Error;

use super::{GROUP, NODE};
use crate::boards::broker::Broker;
use crate::boards::operator::{Operator, OperatorError};

/// Seconds, on this machine's clock, for a box that is emulated.
const WAIT: &str = "280";
/// Seconds that a command stays good on the box's clock, which runs ahead while the box has nothing to do.
const COMMAND_WAIT: &str = "86400";
const KEY: &str = "operate.key";

#[derive(Debug, Error)]
pub(crate) enum PersonError {
    #[error("hearthctl cannot be run")]
    Run(#[source] io::Error),
    #[error("hearthctl: {0}")]
    Refused(String),
    #[error(transparent)]
    Operator(#[from] OperatorError),
}

#[derive(Clone, Debug)]
pub(super) struct Person {
    hearthctl: PathBuf,
    broker: String,
    folder: Arc<TempDir>,
}

impl Person {
    pub(super) fn new(hearthctl: PathBuf, broker: &Broker) -> Result<Person, PersonError> {
        let folder = Arc::new(tempfile::tempdir().map_err(PersonError::Run)?);
        Ok(Person { hearthctl, broker: broker.url(), folder })
    }

    pub(super) fn operator(&self) -> Result<Operator, PersonError> {
        Ok(Operator::in_folder(self.folder(), &self.hearthctl)?)
    }

    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn fleet(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.hearthctl);
        command.current_dir(self.folder()).env("HEARTH_BROKER", &self.broker).arg("fleet").args(words);
        command
    }

    /// What is said of a desired state, whatever became of it.
    pub(super) fn push(&self, version: u64, workloads: &Value) -> Result<String, PersonError> {
        let document = json!({
            "hearth": "desired", "for": [format!("{GROUP}/{NODE}")], "version": version, "workloads": workloads,
        });
        let file = self.folder().join("desired.json");
        fs::write(&file, document.to_string()).map_err(PersonError::Run)?;
        let words = ["push", "--group", GROUP, "--key", KEY, "--to", NODE, "--wait", WAIT, "desired.json"];
        let output = self.fleet(&words).output().map_err(PersonError::Run)?;
        Ok(text(&output))
    }

    /// A command that is on its way.
    pub(super) fn ask(&self, operation: &str, workload: &str) -> Result<Child, PersonError> {
        let words = ["run", "--group", GROUP, "--key", KEY, "--wait", COMMAND_WAIT, "--workload", workload];
        let mut command = self.fleet(&[&words[..], &[operation, NODE]].concat());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().map_err(PersonError::Run)
    }

    /// What became of it.
    pub(super) fn answer(&self, asked: Child) -> Result<String, PersonError> {
        asked.wait_with_output().map(|output| text(&output)).map_err(PersonError::Run)
    }

    /// What the box itself says, at its own socket.
    pub(super) fn really(&self, socket: &Path) -> Result<Value, PersonError> {
        let mut command = Command::new(&self.hearthctl);
        // Its status is that of the box, whose workloads may be anything.
        let output = command.arg("status").arg("--json").env("HEARTH_SOCKET", socket).output();
        let output = output.map_err(PersonError::Run)?;
        serde_json::from_slice(&output.stdout).map_err(|_| PersonError::Refused(text(&output)))
    }
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
}
