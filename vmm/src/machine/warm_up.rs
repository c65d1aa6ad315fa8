//! The host that a guest's agent talks to while the guest becomes a template.
//!
//! Duty: take the agent's connection as a supervisor would, hear that the workload is warm, and have every process of
//! the guest held still. Not its duty: what follows (`template.rs`).
//!
//! ```text
//!   Cold ──Warm, status 0──▶ Warm, Hold is sent ──Held──▶ Still
//!     │                        └── hung up ──▶ Cold (the agent comes back and says so again)
//!     └── Warm, any other status; another protocol ──▶ Failed
//! ```
//!
//! Invariant: nothing here blocks; one agent is listened to at a time, the newest, and one frame of it is kept.

use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use event_manager::{EventOps, EventSet, Events, MutEventSubscriber};
use hearth_wire::{AGENT_PORT, Decoder, ExitStatus, FromAgent, MAX_FRAME, PROTOCOL_VERSION, ToAgent, encode};
use nix::sys::stat::Mode;
use std::os::fd::AsRawFd;

use crate::listener::{ListenError, Listener};

/// How often the agent is to say that it lives: nobody here counts.
const HEARTBEAT_MS: u32 = 60_000;
/// Bytes of one read.
const READ_LEN: usize = 1024;
/// Reads in one turn; a workload that prints without end leaves the loop its time.
const READS_PER_TURN: usize = 16;

/// How far the guest is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Warmth {
    Cold,
    Warm,
    Still,
    Failed(String),
}

struct Session {
    stream: UnixStream,
    decoder: Box<Decoder>,
}

/// The host's end.
pub(super) struct WarmUp {
    listener: Option<Listener>,
    session: Option<Session>,
    warmth: Warmth,
}

impl std::fmt::Debug for WarmUp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WarmUp").field("warmth", &self.warmth).finish_non_exhaustive()
    }
}

impl WarmUp {
    /// Listens where the agent of the machine with this vsock socket calls its host.
    pub(super) fn listen(socket: &Path) -> Result<Self, ListenError> {
        let path = PathBuf::from(format!("{}_{AGENT_PORT}", socket.display()));
        let listener = Listener::bind(&path, Mode::S_IRUSR.union(Mode::S_IWUSR))?;
        Ok(Self { listener: Some(listener), session: None, warmth: Warmth::Cold })
    }

    pub(super) const fn warmth(&self) -> &Warmth {
        &self.warmth
    }

    /// One that got so far.
    #[cfg(test)]
    pub(super) const fn of(warmth: Warmth) -> Self {
        Self { listener: None, session: None, warmth }
    }

    fn accept(&mut self) -> io::Result<UnixStream> {
        let Some(listener) = &self.listener else { return Err(ErrorKind::NotConnected.into()) };
        let stream = listener.accept()?;
        stream.set_nonblocking(true)?;
        Ok(stream)
    }

    fn hear(&mut self) -> io::Result<()> {
        let mut buffer = [0; READ_LEN];
        for _ in 0..READS_PER_TURN {
            let Some(session) = &mut self.session else { return Ok(()) };
            let mut bytes = match session.stream.read(&mut buffer) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => buffer.get(..count).unwrap_or_default(),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            while !bytes.is_empty() {
                bytes = session.decoder.push(bytes);
                while let Some(message) = session.decoder.pop().map_err(io::Error::other)? {
                    if let Some(answer) = take(&mut self.warmth, message) {
                        let mut frame = [0; MAX_FRAME];
                        // Some bytes into a socket that nothing else is in.
                        session.stream.write_all(encode(&answer, &mut frame).map_err(io::Error::other)?)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn hang_up(&mut self) -> Option<Session> {
        if self.warmth == Warmth::Warm {
            self.warmth = Warmth::Cold;
        }
        self.session.take()
    }
}

/// What the agent says, and what it is answered.
fn take(warmth: &mut Warmth, message: FromAgent) -> Option<ToAgent> {
    match (&*warmth, message) {
        (_, FromAgent::Hello { protocol, .. }) if protocol != PROTOCOL_VERSION => {
            *warmth = Warmth::Failed(format!(
                "the guest's agent speaks protocol {protocol}, expected {PROTOCOL_VERSION}"
            ));
        }
        (_, FromAgent::Hello { .. }) => {
            return Some(ToAgent::Welcome { protocol: PROTOCOL_VERSION, heartbeat_ms: HEARTBEAT_MS });
        }
        (Warmth::Cold, FromAgent::Warm { status: ExitStatus::Code(0) }) => {
            *warmth = Warmth::Warm;
            return Some(ToAgent::Hold);
        }
        (Warmth::Cold, FromAgent::Warm { status }) => {
            let how = match status {
                ExitStatus::Code(code) => format!("with exit code {code}"),
                ExitStatus::Signal(number) => format!("by signal {number}"),
                ExitStatus::NotStarted(errno) => {
                    format!("before it began: {}", io::Error::from_raw_os_error(errno))
                }
            };
            *warmth = Warmth::Failed(format!("the workload's warm-up ended {how}"));
        }
        (Warmth::Warm, FromAgent::Held) => *warmth = Warmth::Still,
        (_, FromAgent::Output { bytes, .. }) => {
            let text = String::from_utf8_lossy(&bytes);
            text.lines().for_each(|line| log::info!("guest: {line}"));
        }
        _ => {}
    }
    None
}

impl MutEventSubscriber for WarmUp {
    fn process(&mut self, events: Events, ops: &mut EventOps<'_>) {
        let listens = self.listener.as_ref().map(AsRawFd::as_raw_fd);
        if listens == Some(events.fd()) {
            while let Ok(stream) = self.accept() {
                if let Some(old) = self.hang_up() {
                    let _ = ops.remove(Events::empty(&old.stream));
                }
                if let Err(error) = ops.add(Events::new(&stream, EventSet::IN)) {
                    log::error!("cannot hear the guest's agent: {error}");
                    return;
                }
                self.session = Some(Session { stream, decoder: Box::default() });
            }
        } else if let Err(error) = self.hear() {
            log::debug!("the guest's agent is gone: {error}");
            if let Some(old) = self.hang_up() {
                let _ = ops.remove(Events::empty(&old.stream));
            }
        }
    }

    fn init(&mut self, ops: &mut EventOps<'_>) {
        let added = self.listener.as_ref().map(|listener| ops.add(Events::new(listener, EventSet::IN)));
        if let Some(Err(error)) = added {
            log::error!("cannot hear the guest's agent: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Bench {
        _folder: tempfile::TempDir,
        agent: UnixStream,
        host: WarmUp,
    }

    fn bench() -> Bench {
        let folder = tempfile::tempdir().unwrap();
        let mut host = WarmUp::listen(&folder.path().join("vsock")).unwrap();
        let agent = UnixStream::connect(folder.path().join("vsock_1024")).unwrap();
        host.session = host.accept().ok().map(|stream| Session { stream, decoder: Box::default() });
        Bench { _folder: folder, agent, host }
    }

    impl Bench {
        fn say(&mut self, message: &FromAgent) {
            let mut frame = [0; MAX_FRAME];
            self.agent.write_all(encode(message, &mut frame).unwrap()).unwrap();
            self.host.hear().unwrap();
        }

        fn heard(&mut self) -> Option<ToAgent> {
            let mut bytes = [0; MAX_FRAME];
            let count = self.agent.read(&mut bytes).unwrap();
            let mut decoder = Decoder::new();
            assert!(decoder.push(&bytes[..count]).is_empty());
            decoder.pop().unwrap()
        }
    }

    fn hello(protocol: u16) -> FromAgent {
        FromAgent::Hello { protocol, agent_version: "1".try_into().unwrap(), uptime_ms: 5 }
    }

    #[test]
    fn a_guest_that_is_warm_is_held_and_is_still_when_it_says_so() {
        let mut bench = bench();
        bench.say(&hello(PROTOCOL_VERSION));
        assert!(matches!(bench.heard(), Some(ToAgent::Welcome { .. })));
        bench.say(&FromAgent::Held);
        assert_eq!(*bench.host.warmth(), Warmth::Cold, "nobody asked");
        bench.say(&FromAgent::Warm { status: ExitStatus::Code(0) });
        assert_eq!((bench.heard(), bench.host.warmth()), (Some(ToAgent::Hold), &Warmth::Warm));
        bench.say(&FromAgent::Held);
        assert_eq!(*bench.host.warmth(), Warmth::Still);
    }

    #[test]
    fn a_warm_up_that_failed_and_a_stranger_are_told() {
        let mut cold = bench();
        cold.say(&FromAgent::Warm { status: ExitStatus::Code(3) });
        let failed = Warmth::Failed("the workload's warm-up ended with exit code 3".into());
        assert_eq!(*cold.host.warmth(), failed);
        let mut stranger = bench();
        stranger.say(&hello(PROTOCOL_VERSION + 1));
        assert!(matches!(stranger.host.warmth(), Warmth::Failed(why) if why.contains("protocol")));
    }

    #[test]
    fn an_agent_that_hangs_up_before_it_is_still_begins_anew() {
        let mut bench = bench();
        bench.say(&FromAgent::Warm { status: ExitStatus::Code(0) });
        bench.agent.shutdown(std::net::Shutdown::Both).unwrap();
        assert!(bench.host.hear().is_err());
        assert!(bench.host.hang_up().is_some());
        assert_eq!(*bench.host.warmth(), Warmth::Cold);
    }
}
