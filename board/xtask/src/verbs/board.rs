//! `board`: building and booting whole machines in QEMU.

use crate::{cli::BoardVerb, verbs::VerbError, workshop::Workshop};

pub(crate) fn run(_shop: &Workshop, _verb: &BoardVerb) -> Result<(), VerbError> {
    Err(VerbError::NotYet { verb: "board", missing: "it waits for the board's init and the daemon" })
}
