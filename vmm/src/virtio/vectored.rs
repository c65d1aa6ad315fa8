//! Many pieces of guest memory, one system call.
//!
//! Duty: `readv` and `writev` straight between guest memory and a descriptor of the host. `std` and `nix` want
//! `&mut [u8]` for this, which guest memory can never be: the guest writes it at any time.
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

/// Fills `pieces`, one after the other, with one read.
pub fn read(from: BorrowedFd<'_>, pieces: &Pieces<'_>) -> io::Result<usize> {
    let (vectors, count) = vectors(pieces);
    // SAFETY: each vector is a live piece of guest memory, or of a buffer borrowed for writing; see `vectors`.
    result(unsafe { libc::readv(from.as_raw_fd(), vectors.as_ptr(), count) })
}

/// Writes what is in `pieces`, one after the other, with one write.
pub fn write(to: BorrowedFd<'_>, pieces: &Pieces<'_>) -> io::Result<usize> {
    let (vectors, count) = vectors(pieces);
    // SAFETY: each vector is a live piece of memory that the kernel only reads; see `vectors`.
    result(unsafe { libc::writev(to.as_raw_fd(), vectors.as_ptr(), count) })
}

/// The same pieces as the kernel wants them. `pieces` are borrowed by the caller, and with them the memory that
/// they name, until after the call.
fn vectors(pieces: &Pieces<'_>) -> (Vec<iovec, MAX_PIECES>, c_int) {
    let vectors: Vec<iovec, MAX_PIECES> = pieces
        .iter()
        .map(|piece| iovec { iov_base: piece.ptr_guard_mut().as_ptr().cast(), iov_len: piece.len() })
        .collect();
    let count = c_int::try_from(vectors.len()).unwrap_or(0);
    (vectors, count)
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
}
