//! The demo image: busybox and three small workloads.
//!
//! Duty: the tree, from a static busybox and the scripts beside this crate.
//! Invariant: the scripts use only applets that this image has.

use crate::tree::{Permissions, Tree, TreeFault};
use std::path::Path;

/// What the scripts need, and what a person in a shell reaches for first. A list, and not busybox's own, because
/// the busybox of another architecture cannot be asked.
const APPLETS: [&str; 40] = [
    "awk", "basename", "cat", "chmod", "cp", "cut", "date", "dd", "df", "dmesg", "du", "echo", "env", "expr",
    "false", "find", "free", "grep", "head", "hostname", "id", "ip", "kill", "ls", "mkdir", "mount", "mv",
    "nc", "ping", "ps", "rm", "sed", "sh", "sleep", "tail", "top", "true", "uname", "uptime", "wc",
];

/// Mount points for the agent, all empty in the image.
const FOLDERS: [&str; 6] = ["dev", "mnt", "proc", "root", "run", "sys"];

const SCRIPTS: [(&str, &str); 3] = [
    ("demo/hello", include_str!("../../demo/hello")),
    ("demo/clock", include_str!("../../demo/clock")),
    ("demo/echo", include_str!("../../demo/echo")),
];

/// The tree to write with `write_squashfs`. `busybox` is a static one of the guest's architecture.
pub fn tree(busybox: &Path) -> Result<Tree, TreeFault> {
    let mut tree = Tree::new();
    for folder in FOLDERS {
        tree.folder(folder, Permissions::PROGRAM)?;
    }
    tree.folder("tmp", Permissions::SCRATCH)?;
    tree.program("bin/busybox", busybox)?;
    for applet in APPLETS {
        tree.symlink(&format!("bin/{applet}"), "busybox")?;
    }
    for (path, script) in SCRIPTS {
        tree.program(path, script)?;
    }
    tree.data("etc/hearth/workload.toml", include_str!("../../demo/workload.toml"))?;
    tree.data("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n")?;
    tree.data("etc/group", "root:x:0:\n")?;
    Ok(tree)
}
