//! Machines that an earlier daemon left running.
//!
//! Duty: find them by their folders and their monitors' command lines, and say who they are; end what cannot be named,
//! and clear what is left of those that are gone. Not here: what becomes of them (`hearth-core`), talking to them
//! (`machine`).
//! Invariants: a machine that can be named is not touched. After [`find`] every monitor of this state folder that runs
//! is among the survivors.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use hearth_core::Found;
use nix::sys::signal::Signal;
use nix::unistd::geteuid;

use crate::process::Process;
use crate::state_dir::{StateDir, StateError};
use crate::store::{Magic, seal, unseal};

const MAGIC: &Magic = b"HRTHVM_1";
const IDENTITY: &str = "machine";
const FILE: &str = "vm.toml";
/// How often, with [`LOOK_AGAIN`] between, to look whether a killed monitor is gone: two seconds.
const LOOKS: u32 = 200;
const LOOK_AGAIN: Duration = Duration::from_millis(10);

#[derive(Debug)]
pub(crate) struct Survivor {
    pub(crate) found: Found,
    pub(crate) process: Process,
}

/// Notes which machine the monitor of `folder` runs. To be called before it starts.
pub(crate) fn note_identity(folder: &Path, found: &Found) -> io::Result<()> {
    let bytes = seal(MAGIC, found).ok_or(io::ErrorKind::InvalidData)?;
    fs::write(folder.join(IDENTITY), bytes)
}

/// Notes which process runs the machine of `folder`.
pub(crate) fn note_pid(folder: &Path, pid: u32) -> io::Result<()> {
    fs::write(folder.join("vm.pid"), pid.to_string())
}

/// All machines of the state folder that run.
pub(crate) fn find(state: &Path) -> Result<Vec<Survivor>, StateError> {
    // As it is really called: the configuration of an earlier daemon may have named it by another way.
    let Ok(folders) = fs::canonicalize(state.join("vm")) else { return Ok(Vec::new()) };
    let mut survivors = Vec::new();
    let mut monitors = monitors(&folders);
    let there = folders.read_dir().into_iter().flatten().flatten().map(|entry| entry.path());
    for folder in there {
        let mut pids = monitors.remove(&folder).unwrap_or_default();
        let noted = fs::read_to_string(folder.join("vm.pid")).ok().and_then(|text| text.trim().parse().ok());
        // Of two monitors the noted one is the newer: the other outlived its end in the kernel.
        let newest = pids.iter().position(|pid| Some(*pid) == noted).unwrap_or_default();
        let identity = fs::read(folder.join(IDENTITY)).ok().and_then(|bytes| unseal(MAGIC, &bytes));
        let mut kept = None;
        if let Some(found) = identity
            && newest < pids.len()
        {
            kept = take(&folder, pids.swap_remove(newest)).map(|process| Survivor { found, process });
        }
        for pid in pids {
            end(&folder, pid)?;
        }
        match kept {
            Some(survivor) => survivors.push(survivor),
            None => {
                StateDir::remove_folder(&folder).map_err(|error| StateError::Unusable(folder, error))?;
            }
        }
    }
    for (folder, pids) in monitors {
        for pid in pids {
            end(&folder, pid)?;
        }
    }
    Ok(survivors)
}

/// All monitors of the folder's machines, by the machines' folders.
fn monitors(folders: &Path) -> BTreeMap<PathBuf, Vec<u32>> {
    let mut monitors: BTreeMap<PathBuf, Vec<u32>> = BTreeMap::new();
    let mut found = Vec::new();
    for entry in Path::new("/proc").read_dir().into_iter().flatten().flatten() {
        let pid = entry.file_name().to_str().and_then(|name| name.parse().ok());
        if let Some(pid) = pid
            && let Some(folder) = machine_of(pid).filter(|folder| folder.parent() == Some(folders))
        {
            found.push((pid, folder));
        }
    }
    for (pid, folder) in &found {
        // A machine's own process, in its jail, looks like the one that started it, and ends with that one.
        let parent = parent_of(*pid);
        if found.iter().all(|(other, _)| Some(*other) != parent) {
            monitors.entry(folder.clone()).or_default().push(*pid);
        }
    }
    monitors
}

fn parent_of(pid: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("PPid:")?.trim().parse().ok())
}

/// The folder of the machine that a process of ours runs, as it is really called, if it is a monitor:
/// `hearth-vmm run FOLDER/vm.toml`, `hearth-vmm template FOLDER/vm.toml ...`, `hearth-vmm restore --config FOLDER/vm.toml ...`.
/// A dead one that nobody has waited for has no command line any more.
fn machine_of(pid: u32) -> Option<PathBuf> {
    let process = PathBuf::from(format!("/proc/{pid}"));
    let ours = fs::metadata(&process).ok()?.uid() == geteuid().as_raw();
    let command = fs::read(process.join("cmdline")).ok().filter(|_| ours)?;
    let mut words = command.split(|byte| *byte == 0).skip(1);
    let file = match words.next()? {
        b"run" | b"template" => words.next()?,
        b"restore" if words.next()? == b"--config" => words.next()?,
        _ => return None,
    };
    let file = Path::new(std::str::from_utf8(file).ok()?);
    let folder = file.parent().filter(|_| file.file_name().is_some_and(|name| name == FILE))?;
    // The machine's own folder may be gone; the one that holds them all is there.
    Some(fs::canonicalize(folder.parent()?).ok()?.join(folder.file_name()?))
}

/// Its number may be another's by now, so it is looked at again once it is held.
fn take(folder: &Path, pid: u32) -> Option<Process> {
    let process = Process::open(pid).ok()?;
    (machine_of(pid).as_deref() == Some(folder)).then_some(process)
}

fn end(folder: &Path, pid: u32) -> Result<(), StateError> {
    for _ in 0..LOOKS {
        let Some(process) = take(folder, pid) else { return Ok(()) };
        process.signal(Signal::SIGKILL);
        thread::sleep(LOOK_AGAIN);
    }
    Err(StateError::Undead { folder: folder.to_owned(), pid })
}

#[cfg(test)]
mod tests {
    use super::*;
    use hearth_core::{Build, Needs, Run, Slot, Version};
    use std::io::Read;
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Child, Command, Stdio};

    fn found(run: u32) -> Found {
        let build = Build { version: Version(7), needs: Needs { memory_mib: 128, cpu_milli: 1000 } };
        Found { name: "clock".to_owned(), slot: Slot(1), run: Run(run), build }
    }

    struct Site(tempfile::TempDir);

    impl Site {
        fn new() -> Site {
            let site = Site(tempfile::tempdir().unwrap());
            fs::write(site.0.path().join("run"), "echo here; read line").unwrap();
            site
        }

        fn folder(&self, name: &str) -> PathBuf {
            let folder = self.0.path().join("vm").join(name);
            fs::create_dir_all(&folder).unwrap();
            folder
        }

        /// A process whose command line is `sh run FILE`.
        fn monitor(&self, file: &Path) -> Child {
            let mut child = Command::new("sh")
                .arg("run")
                .arg(file)
                .current_dir(self.0.path())
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            // Its command line can be seen only some time after the spawn.
            child.stdout.as_mut().unwrap().read_exact(&mut [0; 5]).unwrap();
            child
        }
    }

    fn stop(mut child: Child) {
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn a_machine_that_can_be_named_is_found_and_lives() {
        let site = Site::new();
        let folder = site.folder("clock.1");
        note_identity(&folder, &found(3)).unwrap();
        // A daemon that was killed right after the spawn has noted no process.
        let mut child = site.monitor(&folder.join(FILE));
        let survivors = find(site.0.path()).unwrap();
        assert_eq!(survivors.iter().map(|one| one.found.clone()).collect::<Vec<_>>(), [found(3)]);
        let by_another_way = site.0.path().join("way");
        std::os::unix::fs::symlink(site.0.path(), &by_another_way).unwrap();
        assert_eq!(find(&by_another_way).unwrap().len(), 1);
        assert!(child.try_wait().unwrap().is_none());
        assert!(folder.exists());
        stop(child);
    }

    #[test]
    fn a_machine_without_a_name_is_ended_and_so_is_one_without_a_folder() {
        let site = Site::new();
        let nameless = site.folder("nameless");
        fs::write(nameless.join(IDENTITY), "garbage").unwrap();
        let gone = site.0.path().join("vm/gone");
        let children = [site.monitor(&nameless.join(FILE)), site.monitor(&gone.join(FILE))];
        assert!(find(site.0.path()).unwrap().is_empty());
        for mut child in children {
            assert_eq!(child.wait().unwrap().signal(), Some(9));
        }
        assert!(!nameless.exists());
    }

    #[test]
    fn of_two_monitors_of_one_machine_the_noted_one_stays() {
        let site = Site::new();
        let folder = site.folder("clock.1");
        note_identity(&folder, &found(3)).unwrap();
        let [mut older, mut newer, mut oldest] = std::array::from_fn(|_| site.monitor(&folder.join(FILE)));
        note_pid(&folder, newer.id()).unwrap();
        assert_eq!(find(site.0.path()).unwrap().len(), 1);
        assert_eq!(older.wait().unwrap().signal(), Some(9));
        assert_eq!(oldest.wait().unwrap().signal(), Some(9));
        assert!(newer.try_wait().unwrap().is_none());
        stop(newer);
    }

    #[test]
    fn strangers_live_and_folders_of_the_dead_are_cleared() {
        let site = Site::new();
        let dead = site.folder("dead");
        note_identity(&dead, &found(1)).unwrap();
        note_pid(&dead, std::process::id()).unwrap();
        let elsewhere = site.0.path().join("elsewhere");
        let mut strangers = [site.monitor(&elsewhere.join(FILE)), site.monitor(&dead.join("other.toml"))];
        assert!(find(site.0.path()).unwrap().is_empty());
        assert!(!dead.exists());
        for stranger in &mut strangers {
            assert!(stranger.try_wait().unwrap().is_none());
        }
        strangers.into_iter().for_each(stop);
    }
}
