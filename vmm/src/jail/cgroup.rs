//! How much of the host a machine may use, whatever it starts.
//!
//! Duty: a control group of its own for the machine's process: memory, processor time, processes, a share of the disks.
//! Version 2, or version 1 where the host has that. Not here: bounds of the process itself (`limits.rs`).
//!
//! The porter makes it, and stays out of it, so that it can end what is in it. The group goes when the machine's
//! process has ended; one whose porter was killed goes when the next machine starts.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use hearth_config::vm::VmConfig;
use nix::unistd::Pid;

use super::limits;

const ROOT: &str = "/sys/fs/cgroup";
/// What a group of ours is called, before the number of its porter.
const PREFIX: &str = "hearth-vm-";
/// Bytes beside guest memory: the monitor, its page tables and sockets, and what of its disks is on the way.
const BESIDE_BYTES: u64 = 128 << 20;
/// Microseconds in which processor time is counted, as the kernel has it by default.
const PERIOD_US: u64 = 100_000;

/// A bound: the controller, its file in version 2 and in version 1, and what it says.
struct Bound {
    controller: &'static str,
    file: &'static str,
    file_v1: &'static str,
    value: String,
    value_v1: String,
}

fn bounds(config: &VmConfig) -> [Bound; 4] {
    let ram = config.machine.memory.bytes();
    // A snapshot on a file system in memory is the machine's, too.
    let memory = 2 * ram + BESIDE_BYTES;
    // A processor for each of the guest's, and one for all else.
    let cpu = (u64::from(config.machine.vcpus) + 1) * PERIOD_US;
    let threads = limits::threads(config);
    let bound = |controller, file, file_v1, value: String, value_v1: String| Bound {
        controller,
        file,
        file_v1,
        value,
        value_v1,
    };
    [
        bound("memory", "memory.max", "memory.limit_in_bytes", memory.to_string(), memory.to_string()),
        bound("cpu", "cpu.max", "cpu.cfs_quota_us", format!("{cpu} {PERIOD_US}"), cpu.to_string()),
        bound("pids", "pids.max", "pids.max", threads.to_string(), threads.to_string()),
        // The same share for every machine; nothing in version 1 has a share on every kind of disk.
        bound("io", "io.weight", "", "default 100".to_owned(), String::new()),
    ]
}

/// The groups of one machine: one, or in version 1 one for each controller. Removed when dropped.
#[derive(Debug)]
pub(super) struct Groups(Vec<PathBuf>);

impl Drop for Groups {
    fn drop(&mut self) {
        for folder in &self.0 {
            if let Err(error) = fs::remove_dir(folder) {
                log::debug!("{}: cannot be removed: {error}", folder.display());
            }
        }
    }
}

/// Puts `process` into groups of its own. And what is missing of that, each with its reason.
pub(super) fn confine(process: Pid, config: &VmConfig) -> (Groups, Vec<String>) {
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    confine_at(Path::new(ROOT), &own, process, config)
}

fn confine_at(root: &Path, own: &str, process: Pid, config: &VmConfig) -> (Groups, Vec<String>) {
    let mut groups = Groups(Vec::new());
    let mut lacking = Vec::new();
    let name = format!("{PREFIX}{}", std::process::id());
    let whole = root.join("cgroup.controllers").exists();
    for bound in bounds(config) {
        let Bound { controller, file, file_v1, value, value_v1 } = bound;
        if !whole && file_v1.is_empty() {
            continue;
        }
        let place = if whole { root.to_owned() } else { root.join(controller) };
        let done = parent(own, &place, (!whole).then_some(controller)).and_then(|parent| {
            let folder = parent.join(&name);
            if whole {
                // It is on already, or cannot be had: the file tells.
                let _ = fs::write(parent.join("cgroup.subtree_control"), format!("+{controller}"));
            }
            if !groups.0.contains(&folder) {
                clear(&parent);
                fs::create_dir(&folder)?;
                groups.0.push(folder.clone());
            }
            let (file, value) = if whole { (file, value) } else { (file_v1, value_v1) };
            write(&folder.join(file), &value)
        });
        if let Err(error) = done {
            lacking.push(format!("{controller}: {error}"));
        }
    }
    for folder in &groups.0 {
        if let Err(error) = write(&folder.join("cgroup.procs"), &process.to_string()) {
            lacking.push(format!("{}: {error}", folder.display()));
        }
    }
    (groups, lacking)
}

/// Never makes a file: what is not there is not on.
fn write(path: &Path, value: &str) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).open(path)?;
    io::Write::write_all(&mut file, value.as_bytes())
}

/// The group that this process is in: `0::/a/b`, in version 1 `4:memory:/a/b`.
fn parent(own: &str, place: &Path, controller: Option<&str>) -> io::Result<PathBuf> {
    let path = own.lines().find_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        let wanted = match controller {
            None => controllers.is_empty(),
            Some(name) => controllers.split(',').any(|one| one == name),
        };
        wanted.then_some(path)
    });
    let path = path.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "not mounted"))?;
    Ok(place.join(path.trim_start_matches('/')))
}

/// Removes the groups of porters that are gone.
fn clear(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let porter = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
        if porter.is_some_and(|porter| !Path::new("/proc").join(porter).exists()) {
            // One that still has somebody in it stays.
            let _ = fs::remove_dir(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> VmConfig {
        VmConfig::parse("vm.toml", "machine.memory_mib = 64\nboot.kernel = \"k\"").unwrap()
    }

    #[test]
    fn the_group_of_a_process_is_found_in_both_versions() {
        let v2 = "0::/user.slice/session\n";
        let v1 = "9:memory:/a\n4:cpu,cpuacct:/b\n0::/\n";
        let found = |own: &str, controller| parent(own, Path::new("/c"), controller).ok();
        assert_eq!(found(v2, None), Some("/c/user.slice/session".into()));
        assert_eq!(found(v1, Some("cpu")), Some("/c/b".into()));
        assert_eq!(found(v1, None), Some("/c/".into()));
        assert_eq!(found(v1, Some("pids")), None);
    }

    #[test]
    fn what_a_host_lacks_is_told_by_controller_and_nothing_is_left() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("cgroup.controllers"), "").unwrap();
        // An ordinary folder: no file of a controller appears in it.
        let (groups, lacking) = confine_at(root.path(), "0::/\n", Pid::from_raw(7), &config());
        assert_eq!(lacking.len(), 5, "{lacking:?}");
        for (lack, name) in lacking.iter().zip(["memory: ", "cpu: ", "pids: ", "io: "]) {
            assert!(lack.starts_with(name), "{lack}");
        }
        drop(groups);
        assert!(!root.path().join(format!("{PREFIX}{}", std::process::id())).exists());
    }
}
