//! A hardware watchdog's settings: the system calls of `linux/watchdog.h` that there is no file for.
//!
//! Duty: those calls, and nothing else; a room of its own for unsafe code, so that the daemon has none.
//! Not its duty: pets (bytes that are written), when what is set.
//! Invariant: each call hands the kernel one whole `int` that lives longer than the call, which is what `WDIOC_*` read
//! and write; on a file that is no watchdog it is an error.

#![allow(
    unsafe_code,
    reason = "which bytes a device reads and writes in an ioctl is known from its number alone, so no safe function can make one"
)]

use std::ffi::c_int;
use std::io;
use std::os::fd::AsFd;

use rustix::ioctl::{Getter, Opcode, Updater, ioctl, opcode};

/// `WATCHDOG_IOCTL_BASE`
const BASE: u8 = b'W';
/// In [`boot_status`]: the watchdog reset the host (`WDIOF_CARDRESET`).
pub const RESET_BY_WATCHDOG: u32 = 0x20;

const GET_BOOT_STATUS: Opcode = opcode::read::<c_int>(BASE, 2);
const SET_TIMEOUT: Opcode = opcode::read_write::<c_int>(BASE, 6);
const GET_TIMEOUT: Opcode = opcode::read::<c_int>(BASE, 7);
const SET_PRETIMEOUT: Opcode = opcode::read_write::<c_int>(BASE, 8);
const GET_PRETIMEOUT: Opcode = opcode::read::<c_int>(BASE, 9);

/// Why the host came up, as far as the watchdog knows: `WDIOF_*` bits.
pub fn boot_status(device: impl AsFd) -> io::Result<u32> {
    get::<GET_BOOT_STATUS>(device)
}

/// Seconds without a pet until it resets the host.
pub fn timeout(device: impl AsFd) -> io::Result<u32> {
    get::<GET_TIMEOUT>(device)
}

/// Seconds before that at which it warns the kernel; 0 is never.
pub fn pretimeout(device: impl AsFd) -> io::Result<u32> {
    get::<GET_PRETIMEOUT>(device)
}

/// What the hardware made of it, which may be more: some count in minutes.
pub fn set_timeout(device: impl AsFd, seconds: u32) -> io::Result<u32> {
    set::<SET_TIMEOUT>(device, seconds)
}

/// Likewise. Setting the timeout may change it: it goes second.
pub fn set_pretimeout(device: impl AsFd, seconds: u32) -> io::Result<u32> {
    set::<SET_PRETIMEOUT>(device, seconds)
}

fn get<const OPCODE: Opcode>(device: impl AsFd) -> io::Result<u32> {
    // SAFETY: the callers' numbers are those of `linux/watchdog.h` at which the kernel writes one `int`.
    let getter = unsafe { Getter::<OPCODE, c_int>::new() };
    // SAFETY: likewise; the getter has a place for that `int`, and reads it only if the call succeeded.
    plain(unsafe { ioctl(device, getter) }?)
}

fn set<const OPCODE: Opcode>(device: impl AsFd, seconds: u32) -> io::Result<u32> {
    let mut value = c_int::try_from(seconds).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: the callers' numbers are those of `linux/watchdog.h` at which the kernel reads one `int` and writes one back.
    let updater = unsafe { Updater::<OPCODE, c_int>::new(&mut value) };
    // SAFETY: likewise; both happen at the place that the updater borrows for as long as the call lasts.
    unsafe { ioctl(device, updater) }?;
    plain(value)
}

fn plain(value: c_int) -> io::Result<u32> {
    u32::try_from(value).map_err(|_| io::ErrorKind::InvalidData.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_the_kernels_header() {
        // The common layout; some architectures have another one, none that this is built for.
        let numbers = [GET_BOOT_STATUS, SET_TIMEOUT, GET_TIMEOUT, SET_PRETIMEOUT, GET_PRETIMEOUT];
        assert_eq!(numbers, [0x8004_5702, 0xc004_5706, 0x8004_5707, 0xc004_5708, 0x8004_5709]);
    }

    #[test]
    fn what_is_no_watchdog_says_so_and_nothing_is_touched() {
        let null = std::fs::File::open("/dev/null").expect("everywhere");
        for told in [
            boot_status(&null),
            timeout(&null),
            pretimeout(&null),
            set_timeout(&null, 30),
            set_pretimeout(&null, 5),
        ] {
            let error = told.expect_err("no watchdog");
            assert_eq!(error.raw_os_error(), Some(25), "ENOTTY: {error}");
        }
        assert_eq!(set_timeout(&null, u32::MAX).expect_err("too long").kind(), io::ErrorKind::InvalidInput);
    }
}
