//! A workload that comes to harm when told to.
//!
//! Duty: take one word from the host over vsock, and suffer what it says; tell a probe how it is, be it a program or a
//! request by HTTP. Not here: who says it
//! (`hurt`).

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::process;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use nix::sys::ptrace;
use nix::unistd::Pid;
use socket2::{Domain, SockAddr, Socket, Type};

use super::{GuestError, io, say};

/// Where it listens.
pub(crate) const PORT: u32 = 5000;
/// Whatever this guest is called: VMADDR_CID_ANY.
const ANY_CID: u32 = u32::MAX;
/// Bytes of a word, at most.
const WORD: u64 = 32;
/// Where a probe asks, inside the guest.
const ASKED: &str = "hearth-victim";

/// Likewise, by HTTP.
const WEB: &str = "127.0.0.1:80";

/// It answers probes no more.
static SILENT: AtomicBool = AtomicBool::new(false);

pub(super) fn run() -> Result<(), GuestError> {
    let socket = Socket::new(Domain::VSOCK, Type::STREAM, None).map_err(io("vsock"))?;
    socket.bind(&SockAddr::vsock(ANY_CID, PORT)).map_err(io("vsock"))?;
    socket.listen(1).map_err(io("vsock"))?;
    let asked = UnixListener::bind_addr(&address()?).map_err(io(ASKED))?;
    thread::spawn(move || {
        // Those that are asked in silence stay connected, and wait.
        let mut waiting = Vec::new();
        for mut stream in asked.incoming().flatten() {
            if SILENT.load(Ordering::Acquire) {
                waiting.push(stream);
            } else {
                let _ = stream.write_all(b"well\n");
            }
        }
    });
    let web = TcpListener::bind(WEB).map_err(io(WEB))?;
    thread::spawn(move || {
        let mut waiting = Vec::new();
        for mut stream in web.incoming().flatten() {
            if SILENT.load(Ordering::Acquire) {
                waiting.push(stream);
            } else {
                // One segment holds the agent's question; unread, it would make a reset of the end.
                let _ = stream.read(&mut [0; 512]);
                let _ = stream.write_all(b"HTTP/1.0 200 OK\r\n\r\n");
            }
        }
    });
    say("whole");
    loop {
        let (stream, _) = socket.accept().map_err(io("vsock"))?;
        let mut word = String::new();
        (&stream).take(WORD).read_to_string(&mut word).map_err(io("vsock"))?;
        // Who said it may want to know that it was heard.
        let _ = (&stream).write_all(b"heard\n");
        suffer(word.trim_end())?;
    }
}

/// The probe's side: returns once it is told that all is well.
pub(super) fn ask() -> Result<(), GuestError> {
    let mut stream = UnixStream::connect_addr(&address()?).map_err(io(ASKED))?;
    stream.read_exact(&mut [0; 5]).map_err(io(ASKED))
}

/// A name, not a file: it is gone with its listener.
fn address() -> Result<SocketAddr, GuestError> {
    SocketAddr::from_abstract_name(ASKED).map_err(io(ASKED))
}

fn suffer(word: &str) -> Result<(), GuestError> {
    match word {
        "exit" => process::exit(3),
        "crash" => process::abort(),
        "panic" => {
            const TRIGGER: &str = "/proc/sysrq-trigger";
            fs::write(TRIGGER, "c").map_err(io(TRIGGER))
        }
        "hold the agent" => hold(),
        "fall silent" => {
            SILENT.store(true, Ordering::Release);
            Ok(())
        }
        _ => Err(GuestError::Usage("no such harm")),
    }
}

/// The agent is held still, the kernel and everybody else go on. No signal does that to process 1.
fn hold() -> Result<(), GuestError> {
    // Process 1 is the agent.
    const TASKS: &str = "/proc/1/task";
    for task in fs::read_dir(TASKS).map_err(io(TASKS))?.flatten() {
        let Some(task) = task.file_name().to_str().and_then(|name| name.parse().ok()).map(Pid::from_raw)
        else {
            continue;
        };
        ptrace::seize(task, ptrace::Options::empty()).map_err(|errno| io("ptrace")(errno.into()))?;
        ptrace::interrupt(task).map_err(|errno| io("ptrace")(errno.into()))?;
    }
    loop {
        thread::park();
    }
}
