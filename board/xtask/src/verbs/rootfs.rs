//! `rootfs`: the guests' initramfs and the demo's disk image.

use crate::{cli::ArchChoice, verbs::VerbError, workshop::Workshop};

pub(crate) fn run(_shop: &Workshop, _choice: &ArchChoice) -> Result<(), VerbError> {
    Err(VerbError::NotYet { verb: "rootfs", missing: "it waits for the agent and the image builder" })
}
