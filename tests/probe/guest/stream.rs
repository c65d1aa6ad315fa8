//! Streams to the host: pattern out, pattern back.

use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsRawFd, OwnedFd};
use std::thread;
use std::time::Duration;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, VsockAddr, connect, socket};

use super::{GuestError, io, say};
use crate::pattern;

/// The host's address on vsock.
const HOST_CID: u32 = 2;
/// Between two tries to reach it.
const BETWEEN_CALLS: Duration = Duration::from_millis(50);

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

/// Calls a port of the host over vsock, says the number of the call, and waits until the host hangs up or is gone; then
/// calls again.
pub(super) fn call(port: u32) -> Result<(), GuestError> {
    for number in 0u64.. {
        let mut stream = loop {
            match connect_vsock(port) {
                Ok(stream) => break File::from(stream),
                // The host may not be there yet, or again.
                Err(_) => thread::sleep(BETWEEN_CALLS),
            }
        };
        writeln!(stream, "call {number}").map_err(io("vsock"))?;
        let ended =
            stream.read(&mut [0; 1]).map_or_else(|error| error.kind().to_string(), |_| "end".to_owned());
        say(&format!("call {number} ended: {ended}"));
    }
    Ok(())
}

fn exchange(mut reader: impl Read, mut writer: impl Write, bytes: u64, seed: u64) -> Result<(), GuestError> {
    let sent = pattern::send(&mut writer, seed, bytes).map_err(io("sending"))?;
    let received = pattern::receive(&mut reader, bytes).map_err(io("receiving"))?;
    say(&format!("stream sent {sent:016x} received {received:016x}"));
    Ok(())
}
