//! `up`: Hearth with the demo workloads, on this machine or on a board.

use crate::{cli::Up, verbs::VerbError, workshop::Workshop};

pub(crate) fn run(_shop: &Workshop, _options: &Up) -> Result<(), VerbError> {
    Err(VerbError::NotYet { verb: "up", missing: "it waits for the boards" })
}
