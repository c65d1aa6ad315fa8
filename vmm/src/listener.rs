//! A listening Unix socket that has a path, from its first to its last moment.
//!
//! Duty: take the path without taking it from anybody: a socket that another program listens on stays, one
//! that nobody listens on any more, from a monitor that was killed, is replaced. And give the path back at
//! the end, if it still leads to this socket.
//! Not its duty: what is said on it.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, listen, socket};
use nix::sys::stat::{Mode, fchmod};
use nix::unistd::{AccessFlags, access};

/// Connections that wait to be accepted.
const BACKLOG: i32 = 128;

/// Why there is no socket at a path.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Another program listens there, or the file is no socket.
    #[error("another program listens on {path:?}")]
    InUse {
        /// The path.
        path: PathBuf,
    },
    /// The socket could not be made.
    #[error("cannot listen on {path:?}")]
    Listen {
        /// The path.
        path: PathBuf,
        /// What the host said.
        source: io::Error,
    },
}

/// A path that leads to a socket of this process.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Held {
    path: PathBuf,
    /// Device and inode of the path while it is ours.
    identity: (u64, u64),
}

/// All of them: for an end that cannot wait until their owners are dropped.
static NOT_OURS: AtomicBool = AtomicBool::new(false);
static ALL_HELD: Mutex<Vec<Held>> = Mutex::new(Vec::new());

impl Held {
    fn take(path: &Path) -> Option<Self> {
        let held = Self { path: path.to_owned(), identity: identity(path)? };
        all_held().push(held.clone());
        Some(held)
    }

    fn give_back(&self) {
        if NOT_OURS.load(Ordering::Relaxed) {
            return;
        }
        // Whoever put something else there may keep it.
        if identity(&self.path) == Some(self.identity) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn all_held() -> MutexGuard<'static, Vec<Held>> {
    ALL_HELD.lock().unwrap_or_else(PoisonError::into_inner)
}

/// From now on this process gives no path back: another one, which it came from, has them.
pub fn disown() {
    NOT_OURS.store(true, Ordering::Relaxed);
}

/// Removes every path, as if every [`Listener`] of the process had been dropped.
pub fn give_all_back() {
    give_back(|_| true);
}

fn give_back(which: impl Fn(&Path) -> bool) {
    all_held().extract_if(.., |held| which(&held.path)).for_each(|held| held.give_back());
}

/// The socket. Its path is removed when it is dropped.
#[derive(Debug)]
pub struct Listener {
    socket: UnixListener,
    held: Option<Held>,
}

impl Listener {
    /// Listens on `path`, without ever blocking. `mode` less the umask are the permissions of the path.
    pub fn bind(path: &Path, mode: Mode) -> Result<Self, ListenError> {
        let refusal = |source| ListenError::Listen { path: path.to_path_buf(), source };
        // Until it listens: of two that find the same dead socket, the second finds the first one's, alive.
        let _turn = turn_in_folder_of(path);
        let socket = match bound(path, mode) {
            Err(error) if error.kind() == ErrorKind::AddrInUse => {
                if !is_dead(path) {
                    return Err(ListenError::InUse { path: path.to_path_buf() });
                }
                std::fs::remove_file(path).and_then(|()| bound(path, mode))
            }
            other => other,
        }
        .map_err(refusal)?;
        Ok(Self { socket, held: Held::take(path) })
    }

    /// The same socket for another owner, who does not have the path.
    pub fn share(&self) -> io::Result<Self> {
        Ok(Self { socket: self.socket.try_clone()?, held: None })
    }

    /// Whether [`bind`](Self::bind) would find the path free, as far as that can be told without taking it.
    pub fn examine(path: &Path) -> Result<(), ListenError> {
        let refusal = |source| ListenError::Listen { path: path.to_path_buf(), source };
        match path.symlink_metadata() {
            Ok(_) if !is_dead(path) => Err(ListenError::InUse { path: path.to_path_buf() }),
            Err(error) if error.kind() != ErrorKind::NotFound => Err(refusal(error)),
            Ok(_) | Err(_) => folder_takes(path).map_err(refusal),
        }
    }

    /// The next one that connected; `WouldBlock` where there is none.
    pub fn accept(&self) -> io::Result<UnixStream> {
        self.socket.accept().map(|(stream, _)| stream)
    }
}

impl AsRawFd for Listener {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Some(held) = self.held.take() {
            all_held().retain(|other| *other != held);
            held.give_back();
        }
    }
}

/// A connected stream, or an error at once: std's `connect` would wait for a listener whose queue is full.
pub fn stream_to(path: &Path) -> io::Result<UnixStream> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let descriptor = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    connect(descriptor.as_raw_fd(), &UnixAddr::new(path)?)?;
    Ok(UnixStream::from(descriptor))
}

fn bound(path: &Path, mode: Mode) -> io::Result<UnixListener> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let descriptor = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    // Before it has a path: the path is born with the permissions, and nobody slips in between.
    fchmod(&descriptor, mode)?;
    bind(descriptor.as_raw_fd(), &UnixAddr::new(path)?)?;
    listen(&descriptor, Backlog::new(BACKLOG)?)?;
    Ok(UnixListener::from(descriptor))
}

/// Whether a file can be made at `path`.
pub fn folder_takes(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Ok(access(folder, AccessFlags::W_OK | AccessFlags::X_OK)?)
}

/// Whoever has it is the only one of us that makes a socket in the folder, for the moments that it takes. A folder that
/// cannot be locked is used without.
fn turn_in_folder_of(path: &Path) -> Option<File> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let folder = File::open(parent.unwrap_or(Path::new("."))).ok()?;
    folder.lock().ok().map(|()| folder)
}

fn is_dead(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|found| found.file_type().is_socket())
        && stream_to(path).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    path.symlink_metadata().ok().map(|found| (found.dev(), found.ino()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const OURS_ALONE: Mode = Mode::S_IRUSR.union(Mode::S_IWUSR);

    #[test]
    fn a_path_is_taken_with_its_permissions_and_given_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let listener = Listener::bind(&path, OURS_ALONE).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
        let _client = UnixStream::connect(&path).unwrap();
        listener.accept().unwrap();
        drop(listener);
        assert!(!path.exists());
    }

    #[test]
    fn a_living_socket_and_what_is_no_socket_stay_and_a_dead_one_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let living = UnixListener::bind(&path).unwrap();
        assert!(matches!(Listener::bind(&path, OURS_ALONE), Err(ListenError::InUse { .. })));
        drop(living);
        drop(Listener::bind(&path, OURS_ALONE).unwrap());
        std::fs::write(&path, "precious").unwrap();
        assert!(matches!(Listener::bind(&path, OURS_ALONE), Err(ListenError::InUse { .. })));
        assert_eq!(std::fs::read(&path).unwrap(), b"precious");
    }

    #[test]
    fn of_many_that_find_a_dead_socket_one_replaces_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        for _ in 0..50 {
            drop(UnixListener::bind(&path).unwrap());
            let start = std::sync::Barrier::new(4);
            let bound = std::thread::scope(|scope| {
                let bind = || {
                    start.wait();
                    Listener::bind(&path, OURS_ALONE)
                };
                let threads: Vec<_> = (0..4).map(|_| scope.spawn(bind)).collect();
                threads.into_iter().filter_map(|thread| thread.join().unwrap().ok()).collect::<Vec<_>>()
            });
            assert_eq!(bound.len(), 1);
        }
    }

    #[test]
    fn a_path_that_somebody_else_has_taken_over_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let listener = Listener::bind(&path, OURS_ALONE).unwrap();
        // A new file may get the number of one that is gone: the old one has to stay for this test.
        std::fs::rename(&path, folder.path().join("elsewhere")).unwrap();
        std::fs::write(&path, "theirs").unwrap();
        drop(listener);
        assert_eq!(std::fs::read(&path).unwrap(), b"theirs");
    }

    #[test]
    fn an_end_in_a_hurry_gives_back_what_is_still_held_and_ours() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name| folder.path().join(name);
        let _held = [path("one"), path("taken over")].map(|path| Listener::bind(&path, OURS_ALONE).unwrap());
        drop(Listener::bind(&path("dropped"), OURS_ALONE).unwrap());
        std::fs::write(path("dropped"), "theirs").unwrap();
        std::fs::rename(path("taken over"), path("elsewhere")).unwrap();
        std::fs::write(path("taken over"), "theirs").unwrap();
        give_back(|path| path.starts_with(&folder));
        assert!(!path("one").exists());
        assert!(path("dropped").exists() && path("taken over").exists());
    }
}
