//! The initramfs of every guest.
//!
//! Duty: the agent as `/init` and just enough around it.
//! Invariant: the agent can print before it has mounted anything: `/dev/console` is in the archive, because
//! the kernel opens it for PID 1 before devtmpfs is mounted.

use crate::tree::{Device, Permissions, Tree, TreeFault};
use std::path::Path;

const CONSOLE: Device = Device { major: 5, minor: 1 };
const NULL: Device = Device { major: 1, minor: 3 };

/// Mount points that the agent uses.
const FOLDERS: [&str; 6] = ["dev", "etc", "mnt", "proc", "run", "sys"];

/// The tree to write with `write_cpio`. `agent` is the static `hearth-agent` of the guest's architecture.
pub fn guest_initrd(agent: &Path) -> Result<Tree, TreeFault> {
    let mut tree = Tree::new();
    for folder in FOLDERS {
        tree.folder(folder, Permissions::PROGRAM)?;
    }
    tree.folder("tmp", Permissions::SCRATCH)?;
    tree.char_device("dev/console", Permissions::from_bits(0o600), CONSOLE)?;
    tree.char_device("dev/null", Permissions::from_bits(0o666), NULL)?;
    tree.program("init", agent)?;
    Ok(tree)
}
