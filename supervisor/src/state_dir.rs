//! The folder that the daemon owns while it runs.
//!
//! ```text
//! <state>/lock                    held by the one daemon; stays when it is gone
//! <state>/vm/<name>/vm.toml       what the monitor was given
//!                   vm.pid        its process
//!                   vsock.sock    its sockets
//! ```
//!
//! Duty: make it private, keep other daemons out, clear what a crashed one left, its monitors included.
//! Not here: what the files say.
//! Invariant: after [`StateDir::open`] no machine of an earlier daemon runs, and until [`StateDir::close`] no other
//! daemon gets that far. For that the lock file, once made, is never removed: of two daemons one could hold the
//! removed file and the other a new one of the same name.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};
use thiserror::Error;

/// Nobody but the owner: sockets in it control machines.
const PRIVATE: u32 = 0o700;
/// How often, with [`LOOK_AGAIN`] between, to look whether a killed monitor is gone: two seconds.
const LOOKS: u32 = 200;
const LOOK_AGAIN: Duration = Duration::from_millis(10);

#[derive(Debug, Error)]
pub enum StateError {
    #[error("{}: cannot be used as state folder", .0.display())]
    Unusable(PathBuf, #[source] io::Error),
    #[error("{}: expected a state folder that only its owner can write, and owned by who runs hearthd", .0.display())]
    NotOurs(PathBuf),
    #[error("{}: another hearthd uses this state folder", .0.display())]
    InUse(PathBuf),
    #[error("{}: the monitor of an earlier hearthd, process {pid}, does not die", folder.display())]
    Undead { folder: PathBuf, pid: i32 },
}

#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    _lock: File,
}

impl StateDir {
    pub fn open(path: &Path) -> Result<StateDir, StateError> {
        let unusable = |error| StateError::Unusable(path.to_owned(), error);
        DirBuilder::new().recursive(true).mode(PRIVATE).create(path).map_err(unusable)?;
        let meta = fs::symlink_metadata(path).map_err(unusable)?;
        if !meta.is_dir() || meta.uid() != geteuid().as_raw() || meta.mode() & 0o022 != 0 {
            return Err(StateError::NotOurs(path.to_owned()));
        }
        let lock = File::create(path.join("lock")).map_err(unusable)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(StateError::InUse(path.to_owned())),
            Err(TryLockError::Error(error)) => return Err(unusable(error)),
        }
        let state = StateDir { path: path.to_owned(), _lock: lock };
        state.clear_leftovers()?;
        Ok(state)
    }

    /// A fresh, empty, private folder.
    pub fn fresh_folder(folder: &Path) -> io::Result<()> {
        StateDir::remove_folder(folder)?;
        DirBuilder::new().recursive(true).mode(PRIVATE).create(folder)
    }

    pub fn remove_folder(folder: &Path) -> io::Result<()> {
        match fs::remove_dir_all(folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Takes away what the daemon made, but for the lock file. What somebody else put there stays.
    pub fn close(self) {
        // A leftover is no harm: the next daemon clears it.
        let _ = fs::remove_dir(self.path.join("vm"));
    }

    fn clear_leftovers(&self) -> Result<(), StateError> {
        let vms = self.path.join("vm");
        let Ok(entries) = vms.read_dir() else { return Ok(()) };
        for entry in entries.flatten() {
            end_leftover(&entry.path())?;
        }
        StateDir::remove_folder(&vms).map_err(|error| StateError::Unusable(vms, error))
    }
}

/// Notes which process runs the machine of `folder`.
pub fn note_pid(folder: &Path, pid: u32) -> io::Result<()> {
    fs::write(folder.join("vm.pid"), pid.to_string())
}

/// Kills the monitor that an earlier daemon left in `folder`, if it still runs.
fn end_leftover(folder: &Path) -> Result<(), StateError> {
    let noted =
        fs::read_to_string(folder.join("vm.pid")).ok().and_then(|text| text.trim().parse::<i32>().ok());
    let Some(pid) = noted.filter(|pid| *pid > 1) else { return Ok(()) };
    for _ in 0..LOOKS {
        if !runs_machine_of(pid, folder) {
            return Ok(());
        }
        // Gone between the look and the kill is as good.
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        thread::sleep(LOOK_AGAIN);
    }
    Err(StateError::Undead { folder: folder.to_owned(), pid })
}

/// The number may belong to somebody else by now: only a process that was given this folder's file counts.
/// A dead one that nobody has reaped yet has no command line any more.
fn runs_machine_of(pid: i32, folder: &Path) -> bool {
    let file = folder.join("vm.toml");
    let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    command.split(|byte| *byte == 0).any(|word| word == file.as_os_str().as_encoded_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Command, Stdio};

    #[test]
    fn the_folder_is_private_and_taken_once_and_only_its_lock_file_stays() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("deep/state");
        let state = StateDir::open(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, PRIVATE);
        assert!(matches!(StateDir::open(&path), Err(StateError::InUse(_))));
        StateDir::fresh_folder(&path.join("vm/clock")).unwrap();
        StateDir::remove_folder(&path.join("vm/clock")).unwrap();
        state.close();
        let left: Vec<_> = path.read_dir().unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["lock"]);
    }

    #[test]
    fn who_waits_with_the_lock_file_open_while_a_daemon_ends_still_keeps_the_next_one_out() {
        let base = tempfile::tempdir().unwrap();
        let first = StateDir::open(base.path()).unwrap();
        let waits = File::create(base.path().join("lock")).unwrap();
        first.close();
        waits.try_lock().unwrap();
        assert!(matches!(StateDir::open(base.path()), Err(StateError::InUse(_))));
    }

    #[test]
    fn a_folder_that_others_can_write_is_refused() {
        let base = tempfile::tempdir().unwrap();
        fs::set_permissions(base.path(), fs::Permissions::from_mode(0o777)).unwrap();
        assert!(matches!(StateDir::open(base.path()), Err(StateError::NotOurs(_))));
        let link = base.path().join("link");
        std::os::unix::fs::symlink("/tmp", &link).unwrap();
        assert!(matches!(StateDir::open(&link), Err(StateError::NotOurs(_))));
    }

    #[test]
    fn the_monitor_of_a_crashed_daemon_is_ended_and_a_stranger_with_its_number_is_not() {
        let base = tempfile::tempdir().unwrap();
        let folder = |name: &str| base.path().join("vm").join(name);
        let spawn = |word: &Path| {
            let mut child = Command::new("sh")
                .args(["-c", "echo here; read line", "monitor"])
                .arg(word)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            // Its command line can be seen only some time after the spawn.
            child.stdout.as_mut().unwrap().read_exact(&mut [0; 5]).unwrap();
            child
        };
        for name in ["ours", "stranger"] {
            fs::create_dir_all(folder(name)).unwrap();
        }
        let mut ours = spawn(&folder("ours").join("vm.toml"));
        let mut stranger = spawn(Path::new("something else"));
        note_pid(&folder("ours"), ours.id()).unwrap();
        note_pid(&folder("stranger"), stranger.id()).unwrap();
        StateDir::open(base.path()).unwrap();
        assert_eq!(ours.wait().unwrap().signal(), Some(9));
        assert!(stranger.try_wait().unwrap().is_none(), "the stranger lives");
        assert!(!folder("ours").exists());
        stranger.kill().unwrap();
        stranger.wait().unwrap();
    }
}
