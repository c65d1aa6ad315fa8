//! What a monitor prints, through a pipe that outlives the daemon.
//!
//! Duty: a pipe with a name in the machine's folder. Not here: reading lines (`machine`).
//! Invariant: the monitor holds both ends of its pipe, so that without a daemon it finds a full pipe at worst and never
//! a broken one; the next daemon reads on where the last one was killed.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use smol::Async;

/// The reader's end, and the one for the monitor. Its name must be free.
pub(crate) fn make(path: &Path) -> io::Result<(Async<File>, File)> {
    mkfifo(path, Mode::S_IRUSR | Mode::S_IWUSR)?;
    let monitors = OpenOptions::new().read(true).write(true).open(path)?;
    Ok((open(path)?, monitors))
}

/// The reader's end alone.
pub(crate) fn open(path: &Path) -> io::Result<Async<File>> {
    // Without waiting for a writer: the monitor may have ended just now.
    let file = OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path)?;
    Async::new_nonblocking(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use smol::io::AsyncReadExt;
    use std::io::Write;

    #[test]
    fn what_is_said_between_two_readers_is_read_by_the_second() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("console");
        let (first, mut monitor) = make(&path).unwrap();
        drop(first);
        monitor.write_all(b"nobody listens").unwrap();
        let mut second = open(&path).unwrap();
        drop(monitor);
        let mut text = String::new();
        smol::block_on(second.read_to_string(&mut text)).unwrap();
        assert_eq!(text, "nobody listens");
    }
}
