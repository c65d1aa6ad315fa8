//! The folder that the daemon owns while it runs.
//!
//! ```text
//! <state>/lock                    held by the one daemon; stays when it is gone
//! <state>/vm/<name>/vm.toml       what the monitor was given
//!                   vm.pid        its process
//!                   machine       which machine of which workload it is
//!                   console       pipes with what guest and monitor print
//!                   monitor
//!                   vsock.sock    its sockets
//! ```
//!
//! Duty: make it private, keep other daemons out. Not here: what the files say, machines that run already
//! (`survivors`).
//! Invariant: from [`StateDir::open`] until [`StateDir::close`] no other daemon gets that far. For that the lock file,
//! once made, is never removed: of two daemons one could hold the removed file and the other a new one of the same name.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use nix::unistd::geteuid;
use thiserror::Error;

/// Nobody but the owner: sockets in it control machines.
const PRIVATE: u32 = 0o700;

/// A daemon that was killed while it started a machine leaves a process between its birth and its program, which has
/// the lock for some moments more.
const LAST_BREATH: Duration = Duration::from_millis(500);
/// Between two looks at the lock.
const LOCK_PERIOD: Duration = Duration::from_millis(10);
const LOOKS: u128 = LAST_BREATH.as_millis() / LOCK_PERIOD.as_millis();

#[derive(Debug, Error)]
pub enum StateError {
    #[error("{}: cannot be used as state folder", .0.display())]
    Unusable(PathBuf, #[source] io::Error),
    #[error("{}: expected a state folder that only its owner can write, and owned by who runs hearthd", .0.display())]
    NotOurs(PathBuf),
    #[error("{}: another hearthd uses this state folder", .0.display())]
    InUse(PathBuf),
    #[error("{}: the monitor of an earlier hearthd, process {pid}, does not die", folder.display())]
    Undead { folder: PathBuf, pid: u32 },
}

#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    _lock: File,
}

impl StateDir {
    pub fn open(path: &Path) -> Result<StateDir, StateError> {
        StateDir::open_with(path, || thread::sleep(LOCK_PERIOD))
    }

    /// `wait` is called between two looks at a lock that somebody holds.
    fn open_with(path: &Path, mut wait: impl FnMut()) -> Result<StateDir, StateError> {
        let unusable = |error| StateError::Unusable(path.to_owned(), error);
        DirBuilder::new().recursive(true).mode(PRIVATE).create(path).map_err(unusable)?;
        let meta = fs::symlink_metadata(path).map_err(unusable)?;
        if !meta.is_dir() || meta.uid() != geteuid().as_raw() || meta.mode() & 0o022 != 0 {
            return Err(StateError::NotOurs(path.to_owned()));
        }
        let lock = File::create(path.join("lock")).map_err(unusable)?;
        let mut looks = LOOKS;
        loop {
            match lock.try_lock() {
                Ok(()) => return Ok(StateDir { path: path.to_owned(), _lock: lock }),
                Err(TryLockError::WouldBlock) if looks > 0 => {
                    looks -= 1;
                    wait();
                }
                Err(TryLockError::WouldBlock) => return Err(StateError::InUse(path.to_owned())),
                Err(TryLockError::Error(error)) => return Err(unusable(error)),
            }
        }
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_folder_is_private_and_taken_once_and_only_its_lock_file_stays() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("deep/state");
        let state = StateDir::open(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, PRIVATE);
        assert!(matches!(StateDir::open_with(&path, || ()), Err(StateError::InUse(_))));
        // One that has it for a moment more is waited for.
        let elsewhere = base.path().join("elsewhere");
        let mut held = Some(StateDir::open(&elsewhere).unwrap());
        let mut waited = 0;
        let waits = || {
            waited += 1;
            held = held.take().filter(|_| waited < 3);
        };
        StateDir::open_with(&elsewhere, waits).unwrap().close();
        assert_eq!(waited, 3);
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
        assert!(matches!(StateDir::open_with(base.path(), || ()), Err(StateError::InUse(_))));
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
}
