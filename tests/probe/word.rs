//! A word to a workload inside a guest, over vsock.
//!
//! Duty: the host's side of it. Not here: what the workload makes of it (`guest/victim`).

use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use crate::guest::victim;
use crate::patient::{Patient, Trouble};

/// A workload that runs listens a moment later; on a machine that is busy with other things, long after.
const LISTENS: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Says a word to the workload inside a guest, over vsock.
pub(crate) fn tell(replica: &str, word: &str) -> Result<(), Trouble> {
    let socket = Patient::machine(replica).join("vsock.sock");
    let failed = |error: io::Error| Trouble::of(&socket.display().to_string(), &error);
    let end = Instant::now() + LISTENS;
    let mut stream = loop {
        match call(&socket) {
            Ok(stream) => break stream,
            Err(error) if error.kind() == ErrorKind::UnexpectedEof && Instant::now() < end => {
                thread::sleep(LOOK_AGAIN);
            }
            Err(error) => return Err(failed(error)),
        }
    };
    stream.write_all(word.as_bytes()).map_err(failed)?;
    stream.shutdown(std::net::Shutdown::Write).map_err(failed)?;
    // Its end may come before its answer.
    let _ = stream.read(&mut [0; 1]);
    Ok(())
}

/// A stream to the victim in a guest; its end where nobody listens.
fn call(socket: &Path) -> io::Result<UnixStream> {
    let mut stream = UnixStream::connect(socket)?;
    writeln!(stream, "CONNECT {}", victim::PORT)?;
    let mut answer = [0; 1];
    // "OK NUMBER\n"
    while answer != *b"\n" {
        stream.read_exact(&mut answer)?;
    }
    Ok(stream)
}
