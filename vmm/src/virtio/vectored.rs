//! Many pieces of guest memory, one system call.
//!
//! Duty: reads and writes straight between guest memory and a descriptor of the host, which is a stream (`readv`,
//! `writev`) or a file (`preadv2`, `pwritev2`). `std` and `nix` want `&mut [u8]` for this, which guest memory can
//! never be: the guest writes it at any time.
//! Not here: which pieces, and what a short count means.
#![allow(
    unsafe_code,
    reason = "passes pointers of guest memory to the kernel; each piece's lifetime covers the call"
)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use heapless::Vec;
use nix::libc::{self, c_int, iovec};

use super::rings::GuestSlice;

/// Pieces of one call: the longest chain of a queue with 256 descriptors, and some for seams between regions of
/// memory. Less than what the kernel takes, which is 1024 (UIO_MAXIOV).
pub const MAX_PIECES: usize = 272;

/// A list of pieces on the stack, so that no frame costs an allocation.
pub type Pieces<'a> = Vec<GuestSlice<'a>, MAX_PIECES>;

/// What a call to a file may take its time for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// As long as it takes.
    Waits,
    /// Only what is at hand; else an error, [`io::ErrorKind::WouldBlock`] or, where the file system cannot tell,
    /// [`io::ErrorKind::Unsupported`].
    AtOnce,
    /// As long as it takes until what is written is on stable storage.
    Durable,
}

impl Patience {
    const fn flags(self) -> c_int {
        match self {
            Self::Waits => 0,
            Self::AtOnce => libc::RWF_NOWAIT,
            Self::Durable => libc::RWF_DSYNC,
        }
    }
}

/// The offset that makes the calls with an offset those without: one pair of system calls for all that there is.
const WHERE_IT_IS: libc::off_t = -1;

/// Fills `pieces`, one after the other, with one read.
pub fn read(from: BorrowedFd<'_>, pieces: &Pieces<'_>) -> io::Result<usize> {
    let vectors: Vectors = pieces.iter().map(vector).collect();
    // SAFETY: each vector is a live piece of guest memory, or of a buffer borrowed for writing: `pieces` are
    // borrowed by the caller, and with them the memory that they name, until after the call.
    result(unsafe { libc::preadv2(from.as_raw_fd(), vectors.as_ptr(), count(&vectors), WHERE_IT_IS, 0) })
}

/// Writes what is in `pieces`, one after the other, with one write.
pub fn write(to: BorrowedFd<'_>, pieces: &Pieces<'_>) -> io::Result<usize> {
    let vectors: Vectors = pieces.iter().map(vector).collect();
    // SAFETY: as in `read`, and the kernel only reads them.
    result(unsafe { libc::pwritev2(to.as_raw_fd(), vectors.as_ptr(), count(&vectors), WHERE_IT_IS, 0) })
}

/// Fills the first [`MAX_PIECES`] of `pieces`, one after the other, with one read from `offset` on.
pub fn read_at<'a>(
    from: BorrowedFd<'_>,
    offset: u64,
    pieces: impl Iterator<Item = GuestSlice<'a>>,
    patience: Patience,
) -> io::Result<usize> {
    let vectors: Vectors = pieces.take(MAX_PIECES).map(|piece| vector(&piece)).collect();
    let (list, count, offset) = (vectors.as_ptr(), count(&vectors), signed(offset)?);
    // SAFETY: each vector is a piece of guest memory that stays mapped for `'a`, which is longer than this call.
    result(unsafe { libc::preadv2(from.as_raw_fd(), list, count, offset, patience.flags()) })
}

/// Writes what is in the first [`MAX_PIECES`] of `pieces`, one after the other, with one write to `offset` on.
pub fn write_at<'a>(
    to: BorrowedFd<'_>,
    offset: u64,
    pieces: impl Iterator<Item = GuestSlice<'a>>,
    patience: Patience,
) -> io::Result<usize> {
    let vectors: Vectors = pieces.take(MAX_PIECES).map(|piece| vector(&piece)).collect();
    let (list, count, offset) = (vectors.as_ptr(), count(&vectors), signed(offset)?);
    // SAFETY: as in `read_at`, and the kernel only reads them.
    result(unsafe { libc::pwritev2(to.as_raw_fd(), list, count, offset, patience.flags()) })
}

/// Pieces as the kernel wants them.
type Vectors = Vec<iovec, MAX_PIECES>;

/// The same piece as the kernel wants it. Whoever passes it on keeps what it names mapped.
pub fn vector(piece: &GuestSlice<'_>) -> iovec {
    iovec { iov_base: piece.ptr_guard_mut().as_ptr().cast(), iov_len: piece.len() }
}

fn count(vectors: &Vectors) -> c_int {
    c_int::try_from(vectors.len()).unwrap_or(0)
}

fn signed(offset: u64) -> io::Result<i64> {
    i64::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput.into())
}

fn result(count: isize) -> io::Result<usize> {
    usize::try_from(count).map_err(|_| io::Error::last_os_error())
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn pieces_are_filled_and_written_in_order() {
        let (reader, writer) = io::pipe().unwrap();
        let (mut first, mut second) = (*b"hear", *b"th");
        let mut pieces = Pieces::new();
        pieces.push(GuestSlice::from(&mut first[..])).unwrap();
        pieces.push(GuestSlice::from(&mut second[..])).unwrap();
        assert_eq!(write(writer.as_fd(), &pieces).unwrap(), 6);
        let (mut first, mut second) = ([0; 2], [0; 9]);
        let mut pieces = Pieces::new();
        pieces.push(GuestSlice::from(&mut first[..])).unwrap();
        pieces.push(GuestSlice::from(&mut second[..])).unwrap();
        assert_eq!(read(reader.as_fd(), &pieces).unwrap(), 6);
        assert!(write(reader.as_fd(), &pieces).is_err(), "the wrong end");
        drop(writer);
        assert_eq!(read(reader.as_fd(), &pieces).unwrap(), 0);
        drop(pieces);
        assert_eq!((&first, &second[..4]), (b"he", &b"arth"[..]));
    }

    #[test]
    fn pieces_are_written_and_filled_in_order_and_in_place() {
        let file = vmm_sys_util::tempfile::TempFile::new().unwrap().into_file();
        let (mut first, mut second) = (*b"hear", *b"th");
        let pieces = [GuestSlice::from(&mut first[..]), GuestSlice::from(&mut second[..])];
        for patience in [Patience::Waits, Patience::Durable] {
            assert_eq!(write_at(file.as_fd(), 3, pieces.into_iter(), patience).unwrap(), 6);
        }
        let (mut first, mut second) = ([0; 2], [0; 9]);
        let pieces = [GuestSlice::from(&mut first[..]), GuestSlice::from(&mut second[..])];
        assert_eq!(read_at(file.as_fd(), 2, pieces.into_iter(), Patience::Waits).unwrap(), 7);
        assert!(read_at(file.as_fd(), u64::MAX, pieces.into_iter(), Patience::Waits).is_err());
        assert_eq!((&first, &second[..5]), (b"\0h", &b"earth"[..]));
    }

    #[test]
    fn more_pieces_than_one_call_takes_are_left_for_the_next() {
        let file = vmm_sys_util::tempfile::TempFile::new().unwrap().into_file();
        let mut bytes = [7; MAX_PIECES + 5];
        let pieces = bytes.chunks_mut(1).map(GuestSlice::from);
        assert_eq!(write_at(file.as_fd(), 0, pieces, Patience::Waits).unwrap(), MAX_PIECES);
    }
}
