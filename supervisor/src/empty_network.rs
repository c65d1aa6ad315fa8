//! A network namespace with nothing in it, which all machines of this daemon are jailed in.
//!
//! Duty: make it once, when the first machine is started, and say where it is. Not here: what a monitor does with it;
//! its guest's cards are attached before it goes there. Why not one for each: the kernel takes a millisecond to make one,
//! of the five that a clone needs to its first instruction, and some hundred KiB.
//!
//! Invariant: this process stays where it is; it only keeps the other one open.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::thread;

use nix::sched::{CloneFlags, unshare};

/// `None`: this host or this user can make none; each monitor then sees for itself.
static NAMESPACE: OnceLock<Option<File>> = OnceLock::new();

/// What a monitor is told of it.
#[must_use]
pub fn option() -> Vec<OsString> {
    path().map_or_else(Vec::new, |path| vec!["--netns".into(), path.into()])
}

/// Where a monitor finds it while this process lives.
fn path() -> Option<PathBuf> {
    let file = NAMESPACE.get_or_init(|| make().ok()).as_ref()?;
    Some(PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd())))
}

/// Namespaces are a thread's own, and last as long as anybody has them open.
fn make() -> io::Result<File> {
    let made = thread::Builder::new().name("empty-network".to_owned()).spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET)?;
        File::open("/proc/thread-self/ns/net")
    })?;
    made.join().unwrap_or_else(|_| Err(io::ErrorKind::Other.into()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn it_is_another_one_than_this_process_is_in_and_stays_the_same() {
        let possible = std::process::Command::new("unshare").args(["--net", "true"]).status();
        let Some(path) = path() else {
            assert!(!possible.is_ok_and(|status| status.success()), "this user can have one");
            return;
        };
        let of = |path: PathBuf| std::fs::metadata(path).unwrap().ino();
        assert_ne!(of(path.clone()), of("/proc/self/ns/net".into()));
        assert_eq!(super::path(), Some(path));
    }
}
