//! Descriptors that whoever started this process left open for it.
//!
//! Duty: close those that it was not told of, and take over the one that it was, by its number. Not here: what is read
//! from it.
//! Invariant: no descriptor is owned twice. What this process opened by itself closes on exec, and what it was given
//! does not, or it would not be here: that tells the two apart, and what was taken closes on exec from then on.
#![allow(
    unsafe_code,
    reason = "a number becomes an owned descriptor; the flag of it says that nobody owns it"
)]

use std::fs::File;
use std::io;
use std::os::fd::{BorrowedFd, FromRawFd, RawFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};

/// The standard streams, which the standard library owns.
const FIRST_OF_ITS_OWN: RawFd = 3;

/// Closes all of them but `kept`: what somebody left open by mistake is a way out of every jail. How many there were.
pub fn close_others(kept: Option<RawFd>) -> io::Result<u32> {
    let mut numbers = Vec::new();
    for entry in std::fs::read_dir("/proc/self/fd")? {
        numbers.extend(entry?.file_name().to_str().and_then(|name| name.parse::<RawFd>().ok()));
    }
    let mut closed = 0;
    for number in numbers.into_iter().filter(|number| Some(*number) != kept) {
        if let Ok(file) = take(number) {
            drop(file);
            closed += 1;
        }
    }
    Ok(closed)
}

/// Takes descriptor `number`, from 3 on.
pub fn take(number: RawFd) -> io::Result<File> {
    let not_given = || {
        io::Error::new(
            io::ErrorKind::NotFound,
            "expected a descriptor, from 3 on, that this process was started with",
        )
    };
    if number < FIRST_OF_ITS_OWN {
        return Err(not_given());
    }
    // SAFETY: only asked for its flags, which any number may be; it is not kept.
    let looked_at = unsafe { BorrowedFd::borrow_raw(number) };
    match fcntl(looked_at, FcntlArg::F_GETFD) {
        Ok(flags) if !FdFlag::from_bits_truncate(flags).contains(FdFlag::FD_CLOEXEC) => {}
        Ok(_) | Err(Errno::EBADF) => return Err(not_given()),
        Err(errno) => return Err(errno.into()),
    }
    fcntl(looked_at, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    // SAFETY: it is open, and as it was open across exec nothing in this process has made it or owns it; a second
    // call finds the flag that the line above set.
    Ok(unsafe { File::from_raw_fd(number) })
}

#[cfg(test)]
mod tests {
    use std::os::fd::{AsRawFd, IntoRawFd};

    use super::*;

    #[test]
    fn what_this_process_owns_or_nobody_opened_is_not_taken() {
        let own = File::open("/dev/null").unwrap();
        for number in [-1, 0, 2, own.as_raw_fd(), 1 << 20] {
            assert_eq!(take(number).unwrap_err().kind(), io::ErrorKind::NotFound, "{number}");
        }
    }

    #[test]
    fn what_was_left_open_is_taken_once() {
        // As a parent leaves it: open across exec, owned by nobody here.
        let left = File::open("/proc/self/comm").unwrap();
        fcntl(&left, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
        let number = left.into_raw_fd();
        let taken = take(number).unwrap();
        assert!(!io::read_to_string(&taken).unwrap().is_empty());
        assert_eq!(take(number).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
