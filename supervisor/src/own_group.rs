//! The daemon's place among control groups, such that its machines can have theirs.
//!
//! Duty: one step down, where this process is alone in a group of version 2, as a service manager starts it: a group that
//! has a process in it hands no controller down. `hearth-vmm`, which starts in the same place, makes a machine's group beside
//! it. Not here: those groups (`hearth-vmm`'s jail); whether the group was delegated, which its unit says.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use hearth_config::DAEMON_GROUP;

const ROOT: &str = "/sys/fs/cgroup";

/// Takes that step, if it helps.
pub fn settle() -> io::Result<()> {
    let own = fs::read_to_string("/proc/self/cgroup")?;
    match place(Path::new(ROOT), &own) {
        Some(group) if is_alone(&group)? => step_down(&group),
        _ => Ok(()),
    }
}

/// The folder of the group that this process should not be in: not of a host's root group, which may have processes.
fn place(root: &Path, own: &str) -> Option<PathBuf> {
    let path = own.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let whole = root.join("cgroup.controllers").exists();
    let settled = Path::new(path).file_name().is_none_or(|name| name == DAEMON_GROUP);
    (whole && !settled).then(|| root.join(path))
}

fn is_alone(group: &Path) -> io::Result<bool> {
    let processes = fs::read_to_string(group.join("cgroup.procs"))?;
    Ok(processes.trim() == std::process::id().to_string())
}

fn step_down(group: &Path) -> io::Result<()> {
    let below = group.join(DAEMON_GROUP);
    match fs::create_dir(&below) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    fs::write(below.join("cgroup.procs"), std::process::id().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_service_s_own_group_of_version_2_is_left() {
        let root = tempfile::tempdir().unwrap();
        let at = |own: &str| place(root.path(), own);
        assert_eq!(at("0::/system.slice/hearthd.service\n"), None, "version 1");
        fs::write(root.path().join("cgroup.controllers"), "").unwrap();
        let service = root.path().join("system.slice/hearthd.service");
        assert_eq!(at("0::/system.slice/hearthd.service\n"), Some(service));
        assert_eq!(at("0::/\n"), None, "the host's root group");
        assert_eq!(at("0::/system.slice/hearthd.service/hearthd\n"), None, "it is there already");
        assert_eq!(at("4:memory:/a\n"), None);
    }

    #[test]
    fn who_has_others_in_its_group_stays_and_who_has_not_steps_down() {
        let group = tempfile::tempdir().unwrap();
        let own = std::process::id();
        for (processes, alone) in [(format!("{own}\n"), true), (format!("1\n{own}\n"), false)] {
            fs::write(group.path().join("cgroup.procs"), processes).unwrap();
            assert_eq!(is_alone(group.path()).unwrap(), alone);
        }
        // Again, as after an exec.
        for _ in 0..2 {
            step_down(group.path()).unwrap();
        }
        let moved = fs::read_to_string(group.path().join(DAEMON_GROUP).join("cgroup.procs")).unwrap();
        assert_eq!(moved, own.to_string());
    }
}
