//! A word with the guest's agent: "stop, please".
//!
//! Duty: reach the agent's stop port as any program of the host would, through the machine's own vsock
//! socket; hand over one frame; notice where nobody takes it. Not its duty: what follows.
//!
//! ```text
//! Calling ──"OK <port>"──▶ Taken      the guest has the frame, or is about to
//!    └────── hung up ────▶ Refused    no driver, or nobody listens in the guest
//! ```
//!
//! Invariant: nothing here blocks, and nothing that the guest says is kept.

use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use event_manager::{EventOps, EventSet, Events, MutEventSubscriber};
use hearth_wire::control::AGENT_CALL_PORT;
use hearth_wire::{MAX_FRAME, ToAgent, encode};

use crate::listener::stream_to;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Calling,
    Taken,
    Refused,
}

/// One call.
#[derive(Debug)]
pub(super) struct AgentCall {
    stream: UnixStream,
    state: State,
}

impl AgentCall {
    /// Calls the agent behind the vsock socket at `socket`. The guest's workload gets `grace`.
    pub(super) fn place(socket: &Path, grace: Duration) -> io::Result<Self> {
        let mut stream = stream_to(socket)?;
        let mut words = format!("CONNECT {AGENT_CALL_PORT}\n").into_bytes();
        let mut frame = [0; MAX_FRAME];
        let grace_ms = u32::try_from(grace.as_millis()).unwrap_or(u32::MAX);
        let shutdown = encode(&ToAgent::Shutdown { grace_ms }, &mut frame).map_err(io::Error::other)?;
        words.extend_from_slice(shutdown);
        // A new socket has room for some dozen bytes.
        stream.write_all(&words)?;
        Ok(Self { stream, state: State::Calling })
    }

    /// Whether it is known that nobody took it.
    pub(super) fn is_refused(&self) -> bool {
        self.state == State::Refused
    }

    fn listen(&mut self) {
        let mut buffer = [0; 64];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) if self.state == State::Calling => self.state = State::Refused,
                Ok(0) => return,
                // The device says OK, and nothing else before the agent accepts.
                Ok(_) => self.state = State::Taken,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) if self.state == State::Calling => self.state = State::Refused,
                Err(_) => return,
            }
            if self.state != State::Calling {
                return;
            }
        }
    }
}

impl MutEventSubscriber for AgentCall {
    fn process(&mut self, _events: Events, ops: &mut EventOps<'_>) {
        self.listen();
        if self.state != State::Calling {
            // Nothing more is wanted of it; and a closed stream would be readable for ever.
            let _ = ops.remove(Events::empty(&self.stream));
        }
    }

    fn init(&mut self, ops: &mut EventOps<'_>) {
        if self.state == State::Calling
            && let Err(error) = ops.add(Events::new(&self.stream, EventSet::IN))
        {
            log::error!("cannot hear the guest's agent: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::BufRead;
    use std::os::unix::net::UnixListener;

    use super::*;

    struct Bench {
        _folder: tempfile::TempDir,
        host: UnixListener,
        call: AgentCall,
    }

    fn bench() -> Bench {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vsock");
        let host = UnixListener::bind(&path).unwrap();
        let call = AgentCall::place(&path, Duration::from_secs(2)).unwrap();
        Bench { _folder: folder, host, call }
    }

    #[test]
    fn the_agent_gets_one_frame_behind_the_connect_line() {
        let Bench { host, mut call, .. } = bench();
        let mut stream = std::io::BufReader::new(host.accept().unwrap().0);
        let mut line = String::new();
        stream.read_line(&mut line).unwrap();
        assert_eq!(line, "CONNECT 1025\n");
        call.listen();
        assert_eq!(call.state, State::Calling);
        stream.get_mut().write_all(b"OK 1073741824\n").unwrap();
        call.listen();
        assert_eq!(call.state, State::Taken);
        let mut bytes = [0; 64];
        let count = stream.read(&mut bytes).unwrap();
        let mut decoder = hearth_wire::Decoder::new();
        assert!(decoder.push(&bytes[..count]).is_empty());
        assert_eq!(decoder.pop(), Ok(Some(ToAgent::Shutdown { grace_ms: 2000 })));
        drop(stream);
        call.listen();
        assert!(!call.is_refused(), "an agent that hangs up after it took the frame did take it");
    }

    #[test]
    fn a_guest_without_an_agent_is_noticed() {
        let Bench { host, mut call, .. } = bench();
        drop(host.accept().unwrap());
        call.listen();
        assert!(call.is_refused());
    }

    #[test]
    fn a_machine_without_its_socket_cannot_be_called() {
        let nowhere = tempfile::tempdir().unwrap();
        assert!(AgentCall::place(&nowhere.path().join("vsock"), Duration::ZERO).is_err());
    }
}
