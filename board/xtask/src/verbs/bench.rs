//! `bench`: measurements.

use crate::{cli::Bench, verbs::VerbError, workshop::Workshop};

pub(crate) fn run(_shop: &Workshop, _verb: &Bench) -> Result<(), VerbError> {
    Err(VerbError::NotYet { verb: "bench", missing: "it waits for the boards" })
}
