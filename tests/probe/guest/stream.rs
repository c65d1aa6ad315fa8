//! Streams to the host: pattern out, pattern back.

use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, VsockAddr, connect, socket};

use super::{GuestError, io, say};
use crate::pattern;

/// The host's address on vsock.
const HOST_CID: u32 = 2;

/// The seed of the answer to a stream that was made with `seed`.
pub(crate) const fn answer(seed: u64) -> u64 {
    seed ^ 0xa5a5
}

pub(super) fn tcp(address: &str, bytes: u64, seed: u64) -> Result<(), GuestError> {
    let stream = TcpStream::connect(address).map_err(io(address))?;
    exchange(&stream, &stream, bytes, seed)
}

pub(super) fn vsock(port: u32, bytes: u64, seed: u64) -> Result<(), GuestError> {
    let stream = File::from(connect_vsock(port)?);
    exchange(&stream, &stream, bytes, seed)
}

/// A stream to `port` of the host.
pub(super) fn connect_vsock(port: u32) -> Result<OwnedFd, GuestError> {
    let failed = |errno: nix::Error| io(format!("vsock port {port}"))(errno.into());
    let socket =
        socket(AddressFamily::Vsock, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).map_err(failed)?;
    connect(socket.as_raw_fd(), &VsockAddr::new(HOST_CID, port)).map_err(failed)?;
    Ok(socket)
}

fn exchange(mut reader: impl Read, mut writer: impl Write, bytes: u64, seed: u64) -> Result<(), GuestError> {
    let sent = pattern::send(&mut writer, seed, bytes).map_err(io("sending"))?;
    let received = pattern::receive(&mut reader, bytes).map_err(io("receiving"))?;
    say(&format!("stream sent {sent:016x} received {received:016x}"));
    Ok(())
}
