//! A vsock port of the guest's on which the host may call, and nobody else.
//!
//! Duty: listen, and take calls from the host only: a process in the guest could call, too, over the loopback that
//! some kernels have.
//! Not its duty: what is said.
//! Invariant: never blocks. A listener that is broken is dropped: it would wake the loop for ever.

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::{Domain, SockAddr, Socket, Type};
use std::{
    io::{self, ErrorKind},
    os::fd::{AsFd, BorrowedFd},
};

/// The host, in every guest.
const HOST_CID: u32 = 2;
/// Whatever address the guest has (`VMADDR_CID_ANY`).
const ANY_CID: u32 = u32::MAX;
/// Callers that wait to be accepted.
const BACKLOG: i32 = 4;

#[derive(Debug, Default)]
pub(crate) struct HostPort(Option<Socket>);

impl HostPort {
    /// Listens, where the kernel has vsock sockets. Where it has none, nobody calls.
    pub(crate) fn open(number: u32) -> Self {
        Self(listen(number).ok())
    }

    /// What to poll for reading.
    pub(crate) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.0.as_ref().map(AsFd::as_fd)
    }

    /// The next caller that waits, if it is the host: `Some(None)` is somebody else, who was hung up on.
    pub(crate) fn next(&mut self) -> Option<Option<Socket>> {
        let listener = self.0.as_ref().filter(|listener| someone_calls(listener))?;
        match listener.accept() {
            Ok((stream, from)) => {
                let is_host = from.as_vsock_address().is_some_and(|(cid, _)| cid == HOST_CID);
                Some((is_host && stream.set_nonblocking(true).is_ok()).then_some(stream))
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => Some(None),
            Err(error) if error.kind() == ErrorKind::WouldBlock => None,
            Err(_) => {
                self.0 = None;
                None
            }
        }
    }
}

/// Whether there is somebody to accept. Linux would sleep until its next tick before it says that there is nobody,
/// non-blocking or not (`vsock_accept`): ten milliseconds, and many more in a guest that has just been restored.
fn someone_calls(listener: &Socket) -> bool {
    poll(&mut [PollFd::new(listener.as_fd(), PollFlags::POLLIN)], PollTimeout::ZERO)
        .is_ok_and(|ready| ready > 0)
}

fn listen(number: u32) -> io::Result<Socket> {
    let socket = Socket::new(Domain::VSOCK, Type::STREAM.nonblocking().cloexec(), None)?;
    socket.bind(&SockAddr::vsock(ANY_CID, number))?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}
