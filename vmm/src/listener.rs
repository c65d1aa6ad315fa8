//! A listening Unix socket that has a path, from its first to its last moment.
//!
//! Duty: take the path without taking it from anybody: a socket that another program listens on stays, one
//! that nobody listens on any more, from a monitor that was killed, is replaced. And give the path back at
//! the end, if it still leads to this socket. And the way to the sockets of others.
//! Not its duty: what is said on it.
//!
//! Invariant: root goes through no symbolic link of anybody else, neither to listen, nor to connect, nor to take a
//! path away ([`places`](crate::places)). The calls for sockets take nothing but paths: theirs lead through `/proc` to
//! what is held open, and without `/proc` to nothing. No folder is held for longer than such a call takes, for a
//! process that goes into a jail has a copy of this one.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::fcntl::OFlag;
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, listen, socket};
use nix::sys::stat::{Mode, fchmod};
use nix::unistd::{AccessFlags, access, geteuid};

use crate::logger::Quota;
use crate::places::{self, Place, held};

/// Connections that wait to be accepted.
const BACKLOG: i32 = 128;
/// A guest has the monitor connect as often as it likes.
static COMPLAINTS: Quota = Quota::new();

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

/// Where a socket has its path, whose last step is never a link to go through. An ordinary user has the path as it is.
#[derive(Debug)]
struct Spot {
    path: PathBuf,
    /// Root's, through which the path leads.
    held: Option<Place>,
}

impl Spot {
    fn of(path: &Path) -> io::Result<Self> {
        if !geteuid().is_root() {
            return Ok(Self { path: path.to_owned(), held: None });
        }
        let name = path.file_name().ok_or(ErrorKind::InvalidInput)?;
        let place = Place::within(folder_of(path), name)?;
        Ok(Self { path: place.path(), held: Some(place) })
    }

    fn connect(&self) -> io::Result<UnixStream> {
        match &self.held {
            Some(place) => connected(&held(&place.open(&self.path, OFlag::O_PATH)?)),
            None => connected(&self.path),
        }
    }

    fn is_dead(&self) -> bool {
        self.path.symlink_metadata().is_ok_and(|found| found.file_type().is_socket())
            && self.connect().is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
    }

    fn identity(&self) -> Option<(u64, u64)> {
        self.path.symlink_metadata().ok().map(|found| (found.dev(), found.ino()))
    }
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
    fn take(path: &Path, spot: &Spot) -> Option<Self> {
        let held = Self { path: path.to_owned(), identity: spot.identity()? };
        all_held().push(held.clone());
        Some(held)
    }

    fn give_back(&self) {
        if NOT_OURS.load(Ordering::Relaxed) {
            return;
        }
        // Whoever put something else there may keep it.
        if let Ok(spot) = Spot::of(&self.path)
            && spot.identity() == Some(self.identity)
        {
            let _ = std::fs::remove_file(&spot.path);
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
        let spot = Spot::of(path).map_err(refusal)?;
        // Until it listens: of two that find the same dead socket, the second finds the first one's, alive.
        let _turn = turn_in_folder_of(&spot.path);
        let socket = match bound(&spot.path, mode) {
            Err(error) if error.kind() == ErrorKind::AddrInUse => {
                if !spot.is_dead() {
                    return Err(ListenError::InUse { path: path.to_path_buf() });
                }
                std::fs::remove_file(&spot.path).and_then(|()| bound(&spot.path, mode))
            }
            other => other,
        }
        .map_err(refusal)?;
        Ok(Self { socket, held: Held::take(path, &spot) })
    }

    /// The same socket for another owner, who does not have the path.
    pub fn share(&self) -> io::Result<Self> {
        Ok(Self { socket: self.socket.try_clone()?, held: None })
    }

    /// Whether [`bind`](Self::bind) would find the path free, as far as that can be told without taking it.
    pub fn examine(path: &Path) -> Result<(), ListenError> {
        let refusal = |source| ListenError::Listen { path: path.to_path_buf(), source };
        let spot = Spot::of(path).map_err(refusal)?;
        match spot.path.symlink_metadata() {
            Ok(_) if !spot.is_dead() => Err(ListenError::InUse { path: path.to_path_buf() }),
            Err(error) if error.kind() != ErrorKind::NotFound => Err(refusal(error)),
            Ok(_) | Err(_) => folder_takes(&spot.path).map_err(refusal),
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

/// A stream to whoever listens on `path`, or an error at once.
pub fn stream_to(path: &Path) -> io::Result<UnixStream> {
    if !geteuid().is_root() {
        return connected(path);
    }
    let socket = places::open(path, OFlag::O_PATH).inspect_err(|error| {
        // The guest hears no more than that nobody is there.
        if error.kind() == ErrorKind::PermissionDenied && COMPLAINTS.allow() {
            log::warn!("{}: no connection: {error}", path.display());
        }
    })?;
    connected(&held(&socket))
}

/// Without waiting: std's `connect` would, for a listener whose queue is full.
fn connected(path: &Path) -> io::Result<UnixStream> {
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
    Ok(access(folder_of(path), AccessFlags::W_OK | AccessFlags::X_OK)?)
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Whoever has it is the only one of us that makes a socket in the folder, for the moments that it takes. A folder that
/// cannot be locked is used without.
fn turn_in_folder_of(path: &Path) -> Option<File> {
    let folder = File::open(folder_of(path)).ok()?;
    folder.lock().ok().map(|()| folder)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, lchown, symlink};

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

    /// `folder`, and two links: `way` to it, and `last` to `folder/socket`.
    fn tree() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("folder")).unwrap();
        symlink("folder", root.path().join("way")).unwrap();
        symlink("folder/socket", root.path().join("last")).unwrap();
        root
    }

    /// Whether the links can be made another user's.
    fn are_given_away(links: &[PathBuf]) -> bool {
        if !geteuid().is_root() {
            eprintln!("skipped: only root makes a link of another user, and only to root it matters");
            return false;
        }
        links.iter().for_each(|link| lchown(link, Some(1000), Some(1000)).unwrap());
        true
    }

    #[test]
    fn one_s_own_link_leads_to_a_socket_and_none_is_listened_through() {
        let tree = tree();
        let at = |path: &str| tree.path().join(path);
        let way = at("way/socket");
        Listener::examine(&way).unwrap();
        let listener = Listener::bind(&way, OURS_ALONE).unwrap();
        for path in ["folder/socket", "way/socket", "last"] {
            let _client = stream_to(&at(path)).unwrap();
            listener.accept().unwrap();
        }
        assert!(matches!(Listener::bind(&way, OURS_ALONE), Err(ListenError::InUse { .. })));
        drop(listener);
        assert!(!at("folder/socket").exists());
        assert!(matches!(Listener::bind(&at("last"), OURS_ALONE), Err(ListenError::InUse { .. })));
        assert!(at("last").is_symlink() && !at("folder/socket").exists());
        drop(UnixListener::bind(at("folder/socket")).unwrap());
        assert_eq!(stream_to(&way).unwrap_err().kind(), ErrorKind::ConnectionRefused);
        drop(Listener::bind(&way, OURS_ALONE).unwrap());
        assert!(!at("folder/socket").exists());
    }

    #[test]
    fn root_goes_through_no_link_of_anybody_else_to_a_socket() {
        let tree = tree();
        let at = |path: &str| tree.path().join(path);
        if !are_given_away(&[at("way"), at("last")]) {
            return;
        }
        let precious = UnixListener::bind(at("folder/socket")).unwrap();
        precious.set_nonblocking(true).unwrap();
        for (path, link) in [("way/socket", "`way`"), ("last", "`last`")] {
            let error = stream_to(&at(path)).unwrap_err().to_string();
            assert!(error.starts_with(link) && error.contains("user 1000"), "{error}");
        }
        let new = at("way/new");
        for listening in [Listener::examine(&new), Listener::bind(&new, OURS_ALONE).map(drop)] {
            let Err(ListenError::Listen { source, .. }) = listening else { panic!("{listening:?}") };
            assert!(source.to_string().contains("user 1000"), "{source}");
        }
        assert!(matches!(Listener::bind(&at("last"), OURS_ALONE), Err(ListenError::InUse { .. })));
        assert_eq!(precious.accept().unwrap_err().kind(), ErrorKind::WouldBlock, "nobody came");
    }

    #[test]
    fn root_takes_no_path_away_that_leads_over_a_link_of_anybody_else() {
        let tree = tree();
        let at = |path: &str| tree.path().join(path);
        let listener = Listener::bind(&at("folder/socket"), OURS_ALONE).unwrap();
        std::fs::rename(at("folder"), at("moved")).unwrap();
        symlink("moved", at("folder")).unwrap();
        if are_given_away(&[at("folder")]) {
            drop(listener);
            assert!(at("moved/socket").exists());
        }
    }
}
