//! A stream that this process was started with, for writing without ever waiting for its reader.
//!
//! Duty: a pipe or a terminal is opened anew, because a flag on the shared description would be the shell's, too; what
//! cannot be is asked first whether it has room. Not here: what is written, and what becomes of the rest.
//!
//! Invariant: a write waits for nobody who reads. Only a regular file is waited for, as every program does.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::time::Duration;

use nix::libc::{O_NOCTTY, O_NONBLOCK};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, send};

/// A pipe that polls writable has room for this many bytes (PIPE_BUF), and takes as many in one piece.
pub const IN_ONE_PIECE: usize = 4096;

/// How it is kept from waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// The description says so.
    Flag,
    /// Each call says so.
    Send,
    /// It is looked at before.
    Look,
    /// It always has room.
    None,
}

/// Somewhere to write to.
#[derive(Debug)]
pub struct Stream {
    file: File,
    way: Way,
}

impl Stream {
    /// Standard output or standard error.
    pub fn of(inherited: impl AsFd) -> io::Result<Self> {
        let file = File::from(inherited.as_fd().try_clone_to_owned()?);
        let kind = file.metadata()?.file_type();
        let way = if kind.is_socket() {
            Way::Send
        } else if kind.is_file() {
            Way::None
        } else {
            let path = format!("/proc/self/fd/{}", inherited.as_fd().as_raw_fd());
            let mut options = OpenOptions::new();
            options.write(true).custom_flags(O_NONBLOCK | O_NOCTTY);
            match options.open(path) {
                Ok(file) => return Ok(Self::unblocked(file)),
                Err(_) => Way::Look,
            }
        };
        Ok(Self { file, way })
    }

    /// A file whose description is nobody else's and does not block.
    pub const fn unblocked(file: File) -> Self {
        Self { file, way: Way::Flag }
    }

    /// How it is kept from waiting.
    #[must_use]
    pub const fn way(&self) -> Way {
        self.way
    }

    /// What can be watched for room.
    #[must_use]
    pub const fn file(&self) -> &File {
        &self.file
    }

    /// Whether some bytes can be written without waiting for longer than `wait` first.
    #[must_use]
    pub fn has_room(&self, wait: Duration) -> bool {
        let mut fds = [PollFd::new(self.file.as_fd(), PollFlags::POLLOUT)];
        let wait = PollTimeout::try_from(wait).unwrap_or(PollTimeout::ZERO);
        matches!(poll(&mut fds, wait), Ok(ready) if ready > 0)
    }

    /// Writes what fits, perhaps nothing. More than [`IN_ONE_PIECE`] may be torn.
    pub fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        let written = match self.way {
            Way::Send => {
                let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
                send(self.file.as_raw_fd(), bytes, flags).map_err(io::Error::from)
            }
            Way::Look if !self.has_room(Duration::ZERO) => return Ok(0),
            Way::Look | Way::Flag | Way::None => (&self.file).write(bytes),
        };
        match written {
            Ok(0) if !bytes.is_empty() => Err(ErrorKind::WriteZero.into()),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(0),
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    use super::*;

    /// Writes until nothing fits; a stream that waited would hang here.
    fn fill(stream: &Stream) -> usize {
        let chunk = [b'.'; IN_ONE_PIECE];
        std::iter::repeat_with(|| stream.write(&chunk).unwrap()).take_while(|count| *count > 0).sum()
    }

    #[test]
    fn a_full_pipe_is_not_waited_for_and_its_other_users_still_may() {
        let (mut reader, writer) = io::pipe().unwrap();
        let stream = Stream::of(&writer).unwrap();
        assert_eq!(stream.way, Way::Flag);
        let count = fill(&stream);
        assert!(!stream.has_room(Duration::ZERO));
        let shared = nix::fcntl::fcntl(&writer, nix::fcntl::FcntlArg::F_GETFL).unwrap();
        assert_eq!(shared & O_NONBLOCK, 0, "the shell's description is as it was");
        reader.read_exact(&mut vec![0; count]).unwrap();
        assert_eq!(stream.write(b"again").unwrap(), 5);
    }

    #[test]
    fn a_full_pipe_that_cannot_be_opened_anew_is_looked_at_first() {
        let (_reader, writer) = io::pipe().unwrap();
        let file = File::from(std::os::fd::OwnedFd::from(writer));
        fill(&Stream { file, way: Way::Look });
    }

    #[test]
    fn a_full_socket_is_not_waited_for() {
        let (_reader, writer) = UnixStream::pair().unwrap();
        let stream = Stream::of(&writer).unwrap();
        assert_eq!(stream.way, Way::Send);
        fill(&stream);
    }

    #[test]
    fn a_file_goes_on_where_others_write_to_it() {
        let mut shared = tempfile::tempfile().unwrap();
        shared.write_all(b"one ").unwrap();
        assert_eq!(Stream::of(&shared).unwrap().write(b"two ").unwrap(), 4);
        shared.write_all(b"three").unwrap();
        let mut text = String::new();
        io::Seek::rewind(&mut shared).unwrap();
        shared.read_to_string(&mut text).unwrap();
        assert_eq!(text, "one two three");
    }
}
