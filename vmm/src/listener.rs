//! A listening Unix socket that has a path, from its first to its last moment.
//!
//! Duty: take the path without taking it from anybody: a socket that another program listens on stays, one
//! that nobody listens on any more, from a monitor that was killed, is replaced. And give the path back at
//! the end, if it still leads to this socket.
//! Not its duty: what is said on it.

use std::io::{self, ErrorKind};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, listen, socket};
use nix::sys::stat::{Mode, fchmod};

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

/// The socket. Its path is removed when it is dropped.
#[derive(Debug)]
pub struct Listener {
    socket: UnixListener,
    path: PathBuf,
    /// Device and inode of the path while it is ours.
    identity: Option<(u64, u64)>,
}

impl Listener {
    /// Listens on `path`, without ever blocking. `mode` less the umask are the permissions of the path.
    pub fn bind(path: &Path, mode: Mode) -> Result<Self, ListenError> {
        let refusal = |source| ListenError::Listen { path: path.to_path_buf(), source };
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
        Ok(Self { socket, identity: identity(path), path: path.to_path_buf() })
    }

    /// The next one that connected; `WouldBlock` where there is none.
    pub fn accept(&self) -> io::Result<UnixStream> {
        self.socket.accept().map(|(stream, _)| stream)
    }

    /// Where it listens.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl AsRawFd for Listener {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // Whoever put something else there may keep it.
        if self.identity.is_some() && identity(&self.path) == self.identity {
            let _ = std::fs::remove_file(&self.path);
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
}
