//! What the monitor wants of the host while a guest runs, in the jail and without one.
//!
//! Duty: one function for each such thing. In the jail it is an errand for the porter; without, it is done here.
//! Invariant: there is no other way to a file, a socket or a device once the guest runs.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use vmm_sys_util::sock_ctrl_msg::ScmSocket;

use super::errand::{Errand, LONGEST, Told};
use crate::doctor;
use crate::listener::stream_to;

/// Who prints into files of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Printer {
    /// The serial port.
    Serial,
    /// The virtio console.
    Console,
}

impl Printer {
    /// What messages call it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Serial => "serial",
            Self::Console => "console",
        }
    }
}

/// The way to the porter of this process, if it is a machine's in a jail.
static PORTER: OnceLock<Way> = OnceLock::new();

struct Way {
    /// One errand at a time, whichever thread has it.
    channel: Mutex<UnixDatagram>,
    process: u32,
}

/// From now on errands are run by `process`, at the other end of `channel`.
pub(super) fn by(channel: UnixDatagram, process: u32) {
    let _ = PORTER.set(Way { channel: Mutex::new(channel), process });
}

/// The number of the porter's process; zero where there is none.
pub(super) fn porter() -> u32 {
    PORTER.get().map_or(0, |way| way.process)
}

/// Whether there is one.
pub(crate) fn is_jailed() -> bool {
    PORTER.get().is_some()
}

impl Way {
    fn ask(&self, errand: &Errand, along: Option<&UnixStream>) -> io::Result<(Told, Option<File>)> {
        let channel = self.channel.lock().unwrap_or_else(PoisonError::into_inner);
        let mut buffer = [0; LONGEST];
        let words: &[u8] = postcard::to_slice(errand, &mut buffer).map_err(io::Error::other)?;
        match along {
            None => channel.send(words)?,
            Some(stream) => channel.send_with_fd(words, stream.as_raw_fd()).map_err(io::Error::from)?,
        };
        let mut buffer = [0; LONGEST];
        let (length, file) = loop {
            match channel.recv_with_fd(&mut buffer).map_err(io::Error::from) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other?,
            }
        };
        let told =
            postcard::from_bytes(buffer.get(..length).unwrap_or_default()).map_err(io::Error::other)?;
        match told {
            Told::Refused(errno) => Err(io::Error::from_raw_os_error(errno)),
            told => Ok((told, file)),
        }
    }

    fn ask_for(&self, errand: &Errand) -> io::Result<File> {
        self.ask(errand, None)?.1.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }
}

fn stream(file: File) -> UnixStream {
    UnixStream::from(OwnedFd::from(file))
}

/// What the porter could not do for the jail, which is closed now. An error: it is gone.
pub(super) fn closed() -> io::Result<Vec<String>> {
    let Some(way) = PORTER.get() else { return Ok(Vec::new()) };
    match way.ask(&Errand::Closed, None)?.0 {
        Told::Lacks(lacks) => Ok(lacks),
        _ => Ok(Vec::new()),
    }
}

/// A stream to the guest, through the machine's vsock socket at `socket`.
pub(crate) fn call_guest(socket: &Path) -> io::Result<UnixStream> {
    match PORTER.get() {
        Some(way) => way.ask_for(&Errand::CallGuest).map(stream),
        None => stream_to(socket),
    }
}

/// A stream to whoever listens on the host for `port` of the vsock socket at `socket`.
pub(crate) fn call_host(socket: &Path, port: u32) -> io::Result<UnixStream> {
    match PORTER.get() {
        Some(way) => way.ask_for(&Errand::CallHost { port }).map(stream),
        None => {
            let mut path = socket.as_os_str().to_owned();
            path.push(format!("_{port}"));
            stream_to(Path::new(&path))
        }
    }
}

/// A new file in place of the full one, which stays beside it; `here` does it without a jail.
pub(crate) fn put_aside(printer: Printer, here: impl FnOnce() -> io::Result<File>) -> io::Result<File> {
    PORTER.get().map_or_else(here, |way| way.ask_for(&Errand::PutAside(printer)))
}

/// How fast this KVM is, if it interprets.
pub(crate) fn emulating_mips() -> Option<u64> {
    let Some(way) = PORTER.get() else { return doctor::emulating_mips() };
    match way.ask(&Errand::Measure, None) {
        Ok((Told::Number(mips), _)) => mips,
        _ => None,
    }
}

/// Has the porter see to it that this process ends in time. Whether there is a porter that does.
pub(crate) fn ends_within(status: u8, limit: Duration) -> bool {
    let within_ms = u32::try_from(limit.as_millis()).unwrap_or(u32::MAX);
    PORTER.get().is_some_and(|way| way.ask(&Errand::Ending { status, within_ms }, None).is_ok())
}

/// Has the machine started again, with these clients of its control socket, once this process has ended.
pub(crate) fn again(clients: Vec<(UnixStream, bool)>) -> io::Result<()> {
    let Some(way) = PORTER.get() else { return Ok(()) };
    for (stream, subscribed) in clients {
        way.ask(&Errand::Client { subscribed }, Some(&stream))?;
    }
    way.ask(&Errand::Again, None).map(drop)
}

/// A snapshot's folder that the porter fills.
#[derive(Debug)]
pub(crate) struct Draft {
    open: bool,
}

impl Draft {
    /// Begins one, if this process is in a jail.
    pub(crate) fn begin(name: &str, replaced: bool) -> Option<io::Result<Self>> {
        let way = PORTER.get()?;
        let errand = Errand::Begin { name: name.to_owned(), replaced };
        Some(way.ask(&errand, None).map(|_| Self { open: true }))
    }

    /// A new file in it.
    pub(crate) fn file(&self, name: u8) -> io::Result<File> {
        PORTER.get().ok_or(io::ErrorKind::NotConnected)?.ask_for(&Errand::File { name })
    }

    /// Its file for memory, for reading.
    pub(crate) fn memory_for_reading(&self) -> io::Result<File> {
        PORTER.get().ok_or(io::ErrorKind::NotConnected)?.ask_for(&Errand::Reread)
    }

    /// Gives it its name, and a seal for memory with this sum.
    pub(crate) fn finish(mut self, sum: u64) -> io::Result<()> {
        self.open = false;
        PORTER.get().ok_or(io::ErrorKind::NotConnected)?.ask(&Errand::Finish { sum }, None).map(drop)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if self.open
            && let Some(Err(error)) = PORTER.get().map(|way| way.ask(&Errand::Abandon, None))
        {
            log::warn!("an unfinished snapshot cannot be removed: {error}");
        }
    }
}
