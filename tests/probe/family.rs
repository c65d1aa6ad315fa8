//! A monitor and what belongs to it: the process that was started, and the machine's own in its jail.

use std::fs;

/// The process and its children, itself first.
pub(crate) fn of(pid: u32) -> Vec<u32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    std::iter::once(pid)
        .chain(children.split_ascii_whitespace().filter_map(|child| child.parse().ok()))
        .collect()
}

/// The last of them: the one that runs the machine.
pub(crate) fn machine(pid: u32) -> u32 {
    of(pid).last().copied().unwrap_or(pid)
}
