//! How much of the host a machine may use, whatever it starts.
//!
//! Duty: a control group of its own for the machine's process: memory, processor time, processes, a share of the disks.
//! Version 2, or version 1 where the host has that. Not here: bounds of the process itself (`limits.rs`).
//!
//! The porter makes it, and stays out of it, so that it can end what is in it. The group goes when the machine's
//! process has ended; one whose porter was killed goes when the next machine ends.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use hearth_config::DAEMON_GROUP;
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

/// The groups of one machine: one, or in version 1 one for each controller. Removed when dropped, with those of porters
/// that are gone.
#[derive(Debug)]
pub(super) struct Groups {
    folders: Vec<PathBuf>,
    /// Of version 2, open: what begins in it never was anywhere else.
    door: Option<fs::File>,
    /// What is missing, each with its reason.
    lacking: Vec<String>,
}

impl Groups {
    /// For a machine of `config`, with nobody in it.
    pub(super) fn make(config: &VmConfig) -> Self {
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        Self::make_at(Path::new(ROOT), &own, config)
    }

    fn make_at(root: &Path, own: &str, config: &VmConfig) -> Self {
        let mut groups = Self { folders: Vec::new(), door: None, lacking: Vec::new() };
        if root.join("cgroup.controllers").exists() {
            match parent(own, root, None).and_then(|own| groups.whole(beside_the_daemon(&own), config)) {
                Ok(door) => groups.door = Some(door),
                Err(error) => groups.lacking.push(error.to_string()),
            }
        } else {
            for bound in bounds(config).iter().filter(|bound| !bound.file_v1.is_empty()) {
                if let Err(error) = groups.one_of_many(root, own, bound) {
                    groups.lacking.push(format!("{}: {error}", bound.controller));
                }
            }
        }
        groups
    }

    /// The one group of version 2, in the group `parent`.
    fn whole(&mut self, parent: &Path, config: &VmConfig) -> io::Result<fs::File> {
        let bounds = bounds(config);
        let switch = parent.join("cgroup.subtree_control");
        let on = fs::read_to_string(&switch).unwrap_or_default();
        for Bound { controller, .. } in &bounds {
            if !on.split_ascii_whitespace().any(|one| one == *controller) {
                // Or it cannot be had: its file will not be there.
                let _ = write(&switch, &format!("+{controller}"));
            }
        }
        let folder = parent.join(name());
        make(&folder)?;
        self.folders.push(folder.clone());
        for Bound { controller, file, value, .. } in &bounds {
            if let Err(error) = write(&folder.join(file), value) {
                self.lacking.push(format!("{controller}: {error}"));
            }
        }
        fs::File::open(&folder)
    }

    /// The group of version 1 that `bound` is about.
    fn one_of_many(&mut self, root: &Path, own: &str, bound: &Bound) -> io::Result<()> {
        let folder = parent(own, &root.join(bound.controller), Some(bound.controller))?.join(name());
        make(&folder)?;
        self.folders.push(folder.clone());
        write(&folder.join(bound.file_v1), &bound.value_v1)
    }

    /// Where a process can begin.
    pub(super) fn door(&self) -> Option<BorrowedFd<'_>> {
        self.door.as_ref().map(AsFd::as_fd)
    }

    /// Moves `process` there.
    pub(super) fn take_in(&mut self, process: Pid) {
        for folder in &self.folders {
            if let Err(error) = write(&folder.join("cgroup.procs"), &process.to_string()) {
                self.lacking.push(format!("{}: {error}", folder.display()));
            }
        }
    }

    /// For the process that begins there: none of this is its own, and nothing of it stays open.
    pub(super) fn leave_to_the_porter(mut self) {
        self.folders.clear();
    }

    /// What is missing; told once.
    pub(super) fn take_lacking(&mut self) -> Vec<String> {
        std::mem::take(&mut self.lacking)
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        for folder in &self.folders {
            if let Err(error) = fs::remove_dir(folder) {
                log::debug!("{}: cannot be removed: {error}", folder.display());
            }
            folder.parent().into_iter().for_each(clear);
        }
    }
}

fn name() -> String {
    format!("{PREFIX}{}", std::process::id())
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

/// Where the daemon stepped down in a group that was delegated to it, machines' groups are beside its own.
fn beside_the_daemon(own: &Path) -> &Path {
    own.parent().filter(|_| own.file_name().is_some_and(|name| name == DAEMON_GROUP)).unwrap_or(own)
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

/// A new group. One of the same name is what a porter left that was killed, and had this one's number.
fn make(folder: &Path) -> io::Result<()> {
    match fs::create_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            fs::remove_dir(folder)?;
            fs::create_dir(folder)
        }
        made => made,
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
        let of_a_service = found("0::/system.slice/hearthd.service/hearthd\n", None).unwrap();
        assert_eq!(beside_the_daemon(&of_a_service), Path::new("/c/system.slice/hearthd.service"));
        assert_eq!(beside_the_daemon(Path::new("/c/user")), Path::new("/c/user"));
    }

    #[test]
    fn what_a_host_lacks_is_told_by_controller_and_nothing_is_left() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("cgroup.controllers"), "").unwrap();
        // An ordinary folder: no file of a controller appears in it.
        let mut groups = Groups::make_at(root.path(), "0::/\n", &config());
        assert!(groups.door().is_some());
        groups.take_in(Pid::from_raw(7));
        let lacking = groups.take_lacking();
        assert_eq!(lacking.len(), 5, "{lacking:?}");
        for (lack, name) in lacking.iter().zip(["memory: ", "cpu: ", "pids: ", "io: "]) {
            assert!(lack.starts_with(name), "{lack}");
        }
        drop(groups);
        assert!(!root.path().join(name()).exists());
    }

    #[test]
    fn controllers_that_are_on_are_not_switched_on_again() {
        let root = tempfile::tempdir().unwrap();
        let switch = root.path().join("cgroup.subtree_control");
        fs::write(root.path().join("cgroup.controllers"), "").unwrap();
        fs::write(&switch, "cpu io memory").unwrap();
        drop(Groups::make_at(root.path(), "0::/\n", &config()));
        // An ordinary file keeps the rest.
        assert_eq!(fs::read_to_string(&switch).unwrap(), "+pidso memory");
    }

    #[test]
    fn groups_of_porters_that_are_gone_go_with_the_next_one() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("cgroup.controllers"), "").unwrap();
        // No process has so high a number.
        let left = root.path().join(format!("{PREFIX}4194305"));
        let lives = root.path().join(format!("{PREFIX}1"));
        fs::create_dir(&left).unwrap();
        fs::create_dir(&lives).unwrap();
        drop(Groups::make_at(root.path(), "0::/\n", &config()));
        assert!(!left.exists() && lives.exists());
    }
}
