//! The machine's own process.
//!
//! Duty: the one system call that makes it, with its process namespace and, for an ordinary user, the user namespace
//! that permits that; in its control group from its first instruction on, where the kernel can do that. Not here: what
//! either process does then.
//!
//! Why not `fork`: a process namespace begins with a child, `unshare` would leave this process unable to start
//! threads or a second machine, and the C library's `fork` takes no flags. Why that is sound: there is one thread, so no
//! lock of the library is held by somebody who is not there any more.
#![allow(
    unsafe_code,
    reason = "clone(2) with flags has no safe wrapper; the environment is wiped where it lies"
)]

use std::ffi::{c_char, c_int, c_long};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::libc;
use nix::unistd::Pid;

unsafe extern "C" {
    static mut environ: *mut *mut c_char;
}

/// Which of the two this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// The one that was there before; its child has this number.
    Parent(Pid),
    /// The new one.
    Child,
}

/// `CLONE_INTO_CGROUP` (`linux/sched.h`), which not every C library's headers have.
const INTO_CGROUP: u64 = 0x2_0000_0000;

/// Makes a second process, with these namespaces of its own (`CLONE_NEWPID`, `CLONE_NEWUSER`). For a process with one
/// thread.
pub(super) fn split(namespaces: c_int) -> io::Result<Side> {
    let none: c_long = 0;
    let flags = c_long::from(namespaces) | c_long::from(libc::SIGCHLD);
    // SAFETY: without CLONE_VM, and with no stack given, this is fork: the child goes on with a copy of all memory. The
    // process has one thread, as the caller promises, so that the copy is consistent.
    side(unsafe { libc::syscall(libc::SYS_clone, flags, none, none, none, none) })
}

/// The same, and the second process begins in the control group whose folder is `group`: of version 2, on Linux 5.7 or
/// later. To move a process there makes the kernel wait for every other one that forks or ends.
pub(super) fn split_into(namespaces: c_int, group: BorrowedFd<'_>) -> io::Result<Side> {
    let arguments = libc::clone_args {
        flags: u64::from(namespaces.cast_unsigned()) | INTO_CGROUP,
        exit_signal: u64::from(libc::SIGCHLD.cast_unsigned()),
        cgroup: u64::from(group.as_raw_fd().cast_unsigned()),
        pidfd: 0,
        child_tid: 0,
        parent_tid: 0,
        stack: 0,
        stack_size: 0,
        tls: 0,
        set_tid: 0,
        set_tid_size: 0,
    };
    // SAFETY: as in `split`; and the pointer is to a structure of that size, which the kernel reads.
    side(unsafe { libc::syscall(libc::SYS_clone3, &raw const arguments, size_of::<libc::clone_args>()) })
}

fn side(result: c_long) -> io::Result<Side> {
    match Errno::result(result)? {
        0 => Ok(Side::Child),
        pid => Ok(Side::Parent(Pid::from_raw(i32::try_from(pid).map_err(io::Error::other)?))),
    }
}

/// Ends this process and says nothing more. What it printed is out: lines are written as they end.
pub(super) fn leave(status: u8) -> ! {
    // SAFETY: takes a number and does not come back.
    unsafe { libc::_exit(status.into()) }
}

/// Overwrites every variable of the environment and takes them away. Whoever gets hold of this process learns nothing
/// of its user from there.
pub(super) fn wipe_environment() {
    // SAFETY: with one thread nobody else looks at the list or changes it.
    let mut at = unsafe { environ };
    while !at.is_null() {
        // SAFETY: the list ends with a null pointer, and `at` is not behind it.
        let variable = unsafe { *at };
        if variable.is_null() {
            break;
        }
        // SAFETY: what the list has are zero-terminated strings in memory of this process.
        let length = unsafe { libc::strlen(variable) };
        // SAFETY: so many bytes of it were just read, and nobody else has a reference to them.
        unsafe { libc::memset(variable.cast(), 0, length) };
        at = at.wrapping_add(1);
    }
    // SAFETY: with one thread, again.
    unsafe { libc::clearenv() };
}
