//! The host's end of every stream: a sink, an echo and a source, over TCP, vsock's Unix sockets, and vsock itself.
//!
//! A contender uses TCP and one of the other two; a kernel without vsock is no fault as long as nobody asks for it.

use std::io::{self, Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use socket2::{Domain, SockAddr, Socket, Type};

use crate::guest::work::{ECHO_PORT, SINK_PORT, SOURCE_PORT};

/// Bytes per read and write.
const PIECE: usize = 64 * 1024;
/// "Whatever this machine is called": VMADDR_CID_ANY.
const ANY_CID: u32 = u32::MAX;
/// Connections that may wait.
const BACKLOG: i32 = 4;

type Service = fn(&mut dyn Stream) -> io::Result<()>;

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

const SERVICES: [(u16, Service); 3] = [(SINK_PORT, sink), (ECHO_PORT, echo), (SOURCE_PORT, source)];

/// Listens on every port. TCP and vsock stay open for the next contender; Unix sockets belong to one folder.
pub(super) fn open(folder: &Path) -> io::Result<()> {
    static OPEN: AtomicBool = AtomicBool::new(false);
    let first = !OPEN.swap(true, Ordering::Relaxed);
    for (port, service) in SERVICES {
        let listener = UnixListener::bind(folder.join(format!("vsock.sock_{port}")))?;
        serve(move || listener.accept().map(|(stream, _)| stream), service);
        if first {
            let listener = TcpListener::bind(("0.0.0.0", port))?;
            serve(
                move || {
                    let (stream, _) = listener.accept()?;
                    stream.set_nodelay(true)?;
                    Ok(stream)
                },
                service,
            );
            if let Ok(listener) = vsock(port) {
                serve(move || listener.accept().map(|(stream, _)| stream), service);
            }
        }
    }
    Ok(())
}

fn vsock(port: u16) -> io::Result<Socket> {
    let socket = Socket::new(Domain::VSOCK, Type::STREAM, None)?;
    socket.bind(&SockAddr::vsock(ANY_CID, port.into()))?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

/// One connection after the other, on a thread that ends with the process.
fn serve<S: Stream>(accept: impl Fn() -> io::Result<S> + Send + 'static, service: Service) {
    thread::spawn(move || {
        while let Ok(mut stream) = accept() {
            // A contender that breaks its stream fails in its guest, where it is told.
            let _ = service(&mut stream);
        }
    });
}

/// Takes as many bytes as the first eight say, then answers with one.
fn sink(stream: &mut dyn Stream) -> io::Result<()> {
    let mut length = [0; 8];
    stream.read_exact(&mut length)?;
    let mut left = u64::from_le_bytes(length);
    let mut piece = vec![0; PIECE];
    while left > 0 {
        let count = stream.read(&mut piece)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        left = left.saturating_sub(count as u64);
    }
    stream.write_all(&[1])
}

fn echo(stream: &mut dyn Stream) -> io::Result<()> {
    let mut piece = vec![0; PIECE];
    loop {
        let count = stream.read(&mut piece)?;
        if count == 0 {
            return Ok(());
        }
        stream.write_all(&piece[..count])?;
    }
}

/// Until the guest has enough and closes.
fn source(stream: &mut dyn Stream) -> io::Result<()> {
    let piece = vec![7; PIECE];
    loop {
        stream.write_all(&piece)?;
    }
}
