//! The kernel's random numbers, made this guest's own.
//!
//! Duty: stir bytes into the kernel's generator so that what it gives from now on depends on them.
//! Not its duty: when, and where the bytes are from.
//! Invariant: more bytes never make the generator worse, so nothing here has to be secret or good to be safe.
//!
//! A guest that wakes up from a snapshot has the generator of the moment it was taken, as every other copy has. A kernel
//! with a driver for the VM generation ID has seen to it before this runs; for all others this is what does.
#![allow(unsafe_code, reason = "the order to use new bytes at once is an ioctl, and nothing else is")]

use std::{
    fs::OpenOptions,
    io::{self, Read, Write},
    os::{fd::AsRawFd, unix::fs::OpenOptionsExt},
};

use nix::fcntl::OFlag;

const GENERATOR: &str = "/dev/urandom";
/// The host's entropy, where the machine has the device.
const DEVICE: &str = "/dev/hwrng";
/// As many bytes as the generator's key.
const DEVICE_BYTES: usize = 32;

mod order {
    nix::ioctl_none!(
        /// RNDRESEEDCRNG (`include/uapi/linux/random.h`): make a new key of what was stirred in.
        reseed, b'R', 0x07
    );
}

/// Stirs `bytes` in, and has them count at once instead of within a minute.
pub(crate) fn stir(bytes: &[u8]) -> io::Result<()> {
    let mut generator = OpenOptions::new().write(true).open(GENERATOR)?;
    generator.write_all(bytes)?;
    // SAFETY: the order takes no argument and touches no memory of ours; the descriptor is open.
    match unsafe { order::reseed(generator.as_raw_fd()) } {
        // Not seeded at all yet: then the bytes are in what it will be seeded from.
        Ok(_) | Err(nix::Error::ENODATA) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Stirs in what the host's device gives without a wait, if there is one.
pub(crate) fn stir_from_device() -> io::Result<()> {
    let mut device = OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(DEVICE)?;
    let mut bytes = [0; DEVICE_BYTES];
    let count = device.read(&mut bytes)?;
    stir(bytes.get(..count).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_knows_the_order() {
        match stir(b"some bytes") {
            Ok(()) => {}
            // The order is root's.
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{error}"),
        }
    }
}
