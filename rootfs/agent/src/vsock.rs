//! The vsock socket to the host.
//!
//! Duty: `link::Dial` over AF_VSOCK, to a port.
//! Invariant: never blocks.

use crate::link::{Dial, DialFault};
use nix::{
    errno::Errno,
    sys::socket::{
        AddressFamily, Shutdown, SockFlag, SockType, VsockAddr, connect, getsockopt, shutdown, socket,
        sockopt::SocketError,
    },
};
use std::{fs::File, io, os::fd::AsRawFd};

/// The host, in every guest.
const HOST_CID: u32 = 2;

/// The host's port with this number.
#[derive(Debug)]
pub(crate) struct Vsock(pub(crate) u32);

impl Dial for Vsock {
    /// `File` only for its safe `read` and `write` on a descriptor.
    type Stream = File;

    fn dial(&mut self) -> Result<File, DialFault> {
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        // Whatever the reason, a kernel that gives no socket now will not give one later.
        let socket =
            socket(AddressFamily::Vsock, SockType::Stream, flags, None).map_err(|_| DialFault::Absent)?;
        match connect(socket.as_raw_fd(), &VsockAddr::new(HOST_CID, self.0)) {
            Ok(()) | Err(Errno::EINPROGRESS) => Ok(File::from(socket)),
            // The socket family is there, a device is not.
            Err(Errno::ENODEV) => Err(DialFault::Absent),
            Err(errno) => Err(DialFault::Refused(errno.into())),
        }
    }

    fn outcome(&self, stream: &File) -> io::Result<()> {
        match getsockopt(stream, SocketError)? {
            0 => Ok(()),
            errno => Err(io::Error::from_raw_os_error(errno)),
        }
    }

    fn half_close(&self, stream: &File) -> io::Result<()> {
        Ok(shutdown(stream.as_raw_fd(), Shutdown::Write)?)
    }
}
