//! Work whose cost is measured: requests and bytes through each device, by the guest's clock.
//!
//! On a board that counts instructions a nanosecond is one instruction of guest, host and monitor together.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::time::Instant;

use nix::libc::O_DIRECT;

use super::disk::Aligned;
use super::{GuestError, io, say, stream};
use crate::pattern::Pattern;

/// Where the host listens: its end of the TAP interface, and the same port numbers on vsock.
const HOST: &str = "10.78.0.1";
/// Takes whatever comes.
pub(crate) const SINK_PORT: u16 = 7101;
/// Sends back what comes.
pub(crate) const ECHO_PORT: u16 = 7102;
/// Answers a connection with bytes without end.
pub(crate) const SOURCE_PORT: u16 = 7103;

/// The disk's size in bytes.
pub(crate) const DISK_BYTES: u64 = 32 << 20;
const SMALL: usize = 4096;
const LARGE: usize = 128 * 1024;
/// Random requests of each kind.
const REQUESTS: u64 = 1000;
/// Bytes of each stream.
const STREAM_BYTES: usize = 8 << 20;
/// Bytes per write of a stream.
const PIECE: usize = 64 * 1024;
/// Rounds of a small question and a small answer.
const ROUND_TRIPS: u64 = 500;
const PING_BYTES: usize = 64;

/// Does all of it and tells of each: `result NAME operations bytes nanoseconds`.
pub(super) fn run() -> Result<(), GuestError> {
    disk("/dev/vda")?;
    network()?;
    sockets()?;
    // The host looks at the monitor now, and then ends it.
    say("done");
    loop {
        std::thread::park();
    }
}

fn tell(name: &str, operations: u64, bytes: u64, began: Instant) {
    say(&format!("result {name} {operations} {bytes} {}", began.elapsed().as_nanos()));
}

fn disk(device: &str) -> Result<(), GuestError> {
    let mut options = OpenOptions::new();
    let disk = options.read(true).write(true).custom_flags(O_DIRECT).open(device).map_err(io(device))?;
    let mut buffer = Aligned::new(LARGE);
    let mut places = Pattern::new(21);
    let mut somewhere = || places.number() % (DISK_BYTES / SMALL as u64) * SMALL as u64;
    let small = REQUESTS * SMALL as u64;

    let began = Instant::now();
    for _ in 0..REQUESTS {
        disk.read_exact_at(buffer.slice(SMALL), somewhere()).map_err(io(device))?;
    }
    tell("block-read-4k", REQUESTS, small, began);

    let began = Instant::now();
    for _ in 0..REQUESTS {
        disk.write_all_at(buffer.slice(SMALL), somewhere()).map_err(io(device))?;
    }
    tell("block-write-4k", REQUESTS, small, began);

    let large = DISK_BYTES / LARGE as u64;
    let began = Instant::now();
    for index in 0..large {
        disk.read_exact_at(buffer.slice(LARGE), index * LARGE as u64).map_err(io(device))?;
    }
    tell("block-read-128k", large, DISK_BYTES, began);

    let began = Instant::now();
    for index in 0..large {
        disk.write_all_at(buffer.slice(LARGE), index * LARGE as u64).map_err(io(device))?;
    }
    tell("block-write-128k", large, DISK_BYTES, began);
    Ok(())
}

fn network() -> Result<(), GuestError> {
    let connect = |port: u16| {
        let stream = TcpStream::connect((HOST, port)).map_err(io(format!("{HOST}:{port}")))?;
        stream.set_nodelay(true).map_err(io("nodelay"))?;
        Ok::<_, GuestError>(stream)
    };
    streams("net", connect)?;
    let mut echo = connect(ECHO_PORT)?;
    let began = Instant::now();
    for _ in 0..ROUND_TRIPS {
        let mut ping = [7; PING_BYTES];
        echo.write_all(&ping).and_then(|()| echo.read_exact(&mut ping)).map_err(io("echo"))?;
    }
    tell("net-ping-pong-64", ROUND_TRIPS, ROUND_TRIPS * 2 * PING_BYTES as u64, began);
    Ok(())
}

fn sockets() -> Result<(), GuestError> {
    let connect = |port: u16| stream::connect_vsock(port.into()).map(File::from);
    streams("vsock", connect)
}

/// There and back, each once before its cost is told: memory that a stream touches for the first time is not its price.
fn streams<S: Read + Write>(
    name: &str,
    connect: impl Fn(u16) -> Result<S, GuestError>,
) -> Result<(), GuestError> {
    push(connect(SINK_PORT)?)?;
    let began = Instant::now();
    push(connect(SINK_PORT)?)?;
    tell_stream(&format!("{name}-send"), began);
    pull(connect(SOURCE_PORT)?)?;
    let began = Instant::now();
    pull(connect(SOURCE_PORT)?)?;
    tell_stream(&format!("{name}-receive"), began);
    Ok(())
}

fn tell_stream(name: &str, began: Instant) {
    tell(name, (STREAM_BYTES / PIECE) as u64, STREAM_BYTES as u64, began);
}

/// Until the host has it all: its last byte is answered with one.
fn push(mut stream: impl Read + Write) -> Result<(), GuestError> {
    let piece = vec![7; PIECE];
    stream.write_all(&(STREAM_BYTES as u64).to_le_bytes()).map_err(io("sending"))?;
    for _ in 0..STREAM_BYTES / PIECE {
        stream.write_all(&piece).map_err(io("sending"))?;
    }
    stream.read_exact(&mut [0]).map_err(io("sending"))?;
    Ok(())
}

fn pull(mut stream: impl Read) -> Result<(), GuestError> {
    let mut piece = vec![0; PIECE];
    let mut left = STREAM_BYTES;
    while left > 0 {
        let count = stream.read(&mut piece).map_err(io("receiving"))?;
        if count == 0 {
            return Err(GuestError::Usage("the host's source ended"));
        }
        left = left.saturating_sub(count);
    }
    Ok(())
}
