//! A service of one window: whoever comes is served for so long, one after the other.
//!
//! Duty: a line in, some time, the same line out. Not here: who queues (`day`).

use std::io::{BufRead, BufReader, Write};
use std::thread;
use std::time::Duration;

use socket2::{Domain, SockAddr, Socket, Type};

use super::{GuestError, io, say};

/// Where it listens.
pub(crate) const PORT: u32 = 5001;
/// Whatever this guest is called: VMADDR_CID_ANY.
const ANY_CID: u32 = u32::MAX;

pub(super) fn run(work: Duration) -> Result<(), GuestError> {
    let socket = Socket::new(Domain::VSOCK, Type::STREAM, None).map_err(io("vsock"))?;
    socket.bind(&SockAddr::vsock(ANY_CID, PORT)).map_err(io("vsock"))?;
    socket.listen(4).map_err(io("vsock"))?;
    say("open");
    loop {
        let (stream, _) = socket.accept().map_err(io("vsock"))?;
        // Whoever hangs up takes nothing along: the next one is served.
        let _ = serve(&stream, work);
    }
}

fn serve(stream: &Socket, work: Duration) -> std::io::Result<()> {
    let mut writer = stream;
    for line in BufReader::new(stream).lines() {
        let line = line?;
        thread::sleep(work);
        writer.write_all(format!("{line}\n").as_bytes())?;
    }
    Ok(())
}
