//! The one call that discards on a block device. For files there is `fallocate`, which on a device means zeroing.
#![allow(unsafe_code, reason = "an ioctl without a safe wrapper")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;

mod call {
    nix::ioctl_write_ptr_bad!(discard, nix::request_code_none!(0x12, 119), [u64; 2]);
}

/// Discards a range of whole blocks.
pub(super) fn discard(device: BorrowedFd<'_>, offset: u64, bytes: u64) -> io::Result<()> {
    request(device, [offset, bytes]).map_err(io::Error::from)
}

/// Whether the device discards at all: that is looked at before the range, and this one is on no device.
pub(super) fn is_supported(device: BorrowedFd<'_>) -> bool {
    request(device, [1 << 62, 1 << 12]) == Err(Errno::EINVAL)
}

fn request(device: BorrowedFd<'_>, range: [u64; 2]) -> nix::Result<()> {
    // SAFETY: BLKDISCARD reads two numbers where `range` has them, and changes no memory.
    unsafe { call::discard(device.as_raw_fd(), &range) }.map(drop)
}
