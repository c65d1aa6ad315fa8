//! A word with the guest's agent: "stop, please", "this is who you are now".
//!
//! Duty: reach the agent's port as any program of the host would, through the machine's own vsock
//! socket; hand over one frame; notice where nobody takes it, and what is answered. Not its duty: what follows.
//!
//! ```text
//! Calling ──"OK <port>"──▶ Taken ──a frame──▶ Answered      the guest has the frame, or is about to
//!    └────── hung up ───▶ Refused ◀──hung up──┘             no driver, nobody listens, or nobody who answers
//! ```
//!
//! Invariant: nothing here blocks, and of what the guest says one frame is kept at most.

use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use event_manager::{EventOps, EventSet, Events, MutEventSubscriber};
use hearth_wire::control::AGENT_CALL_PORT;
use hearth_wire::{Decoder, FromAgent, MAX_FRAME, ToAgent, encode};

use crate::jail::outside;

/// Bytes of one read: an answer is some dozen.
const READ_LEN: usize = 64;

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Calling,
    Taken,
    Answered(Box<FromAgent>, Instant),
    Refused,
}

/// One call.
#[derive(Debug)]
pub(super) struct AgentCall {
    stream: UnixStream,
    state: State,
    /// Where the caller waits for an answer.
    decoder: Option<Box<Decoder>>,
}

impl AgentCall {
    /// Hands `message` to the agent behind the vsock socket at `socket`.
    pub(super) fn tell(socket: &Path, message: &ToAgent) -> io::Result<Self> {
        Self::place(socket, message, None)
    }

    /// The same, and waits for what it answers.
    pub(super) fn ask(socket: &Path, message: &ToAgent) -> io::Result<Self> {
        Self::place(socket, message, Some(Box::default()))
    }

    fn place(socket: &Path, message: &ToAgent, decoder: Option<Box<Decoder>>) -> io::Result<Self> {
        let mut stream = outside::call_guest(socket)?;
        let mut words = format!("CONNECT {AGENT_CALL_PORT}\n").into_bytes();
        let mut frame = [0; MAX_FRAME];
        words.extend_from_slice(encode(message, &mut frame).map_err(io::Error::other)?);
        // A new socket has room for some hundred bytes.
        stream.write_all(&words)?;
        Ok(Self { stream, state: State::Calling, decoder })
    }

    /// Whether it is known that nobody took it, or that whoever did does not answer.
    pub(super) fn is_refused(&self) -> bool {
        self.state == State::Refused
    }

    /// What was answered.
    pub(super) fn answer(&self) -> Option<&FromAgent> {
        match &self.state {
            State::Answered(message, _) => Some(message),
            State::Calling | State::Taken | State::Refused => None,
        }
    }

    /// From `began` to the answer; as long as can be without one.
    pub(super) fn answered_within(&self, began: Instant) -> Duration {
        match &self.state {
            State::Answered(_, at) => at.saturating_duration_since(began),
            State::Calling | State::Taken | State::Refused => Duration::MAX,
        }
    }

    /// Whether there is nothing left to hear.
    fn is_over(&self) -> bool {
        match self.state {
            State::Calling => false,
            State::Taken => self.decoder.is_none(),
            State::Answered(..) | State::Refused => true,
        }
    }

    fn listen(&mut self) {
        let mut buffer = [0; READ_LEN];
        while !self.is_over() {
            match self.stream.read(&mut buffer) {
                Ok(0) => self.state = State::Refused,
                Ok(count) => self.hear(buffer.get(..count).unwrap_or_default()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => self.state = State::Refused,
            }
        }
    }

    /// The device says OK and a port on a line of its own, and all behind it is the agent's.
    fn hear(&mut self, mut bytes: &[u8]) {
        if self.state == State::Calling {
            let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else {
                // The line is written whole.
                self.state = State::Refused;
                return;
            };
            self.state = State::Taken;
            bytes = bytes.get(end + 1..).unwrap_or_default();
        }
        let Some(decoder) = &mut self.decoder else { return };
        while !bytes.is_empty() {
            bytes = decoder.push(bytes);
            match decoder.pop() {
                Ok(None) => {}
                Ok(Some(message)) => self.state = State::Answered(Box::new(message), Instant::now()),
                Err(_) => self.state = State::Refused,
            }
            if self.state != State::Taken {
                return;
            }
        }
    }
}

impl MutEventSubscriber for AgentCall {
    fn process(&mut self, _events: Events, ops: &mut EventOps<'_>) {
        self.listen();
        if self.is_over() {
            // Nothing more is wanted of it; and a closed stream would be readable for ever.
            let _ = ops.remove(Events::empty(&self.stream));
        }
    }

    fn init(&mut self, ops: &mut EventOps<'_>) {
        if !self.is_over()
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

    const SHUTDOWN: ToAgent = ToAgent::Shutdown { grace_ms: 2000 };

    fn bench() -> Bench {
        bench_of(|path| AgentCall::tell(path, &SHUTDOWN))
    }

    fn bench_of(call: impl Fn(&Path) -> io::Result<AgentCall>) -> Bench {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vsock");
        let host = UnixListener::bind(&path).unwrap();
        let call = call(&path).unwrap();
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
        assert_eq!(decoder.pop(), Ok(Some(SHUTDOWN)));
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
    fn an_answer_is_heard_in_pieces_of_any_size() {
        let Bench { host, mut call, .. } = bench_of(|path| AgentCall::ask(path, &ToAgent::Hold));
        let mut stream = host.accept().unwrap().0;
        let mut frame = [0; MAX_FRAME];
        let mut bytes = b"OK 1073741824\n".to_vec();
        bytes.extend_from_slice(encode(&FromAgent::Held, &mut frame).unwrap());
        let (last, first) = bytes.split_last().unwrap();
        // The line comes whole, as the device writes it.
        stream.write_all(&first[..14]).unwrap();
        call.listen();
        for byte in &first[14..] {
            stream.write_all(&[*byte]).unwrap();
            call.listen();
            assert_eq!((call.answer(), call.is_over()), (None, false));
        }
        stream.write_all(&[*last]).unwrap();
        drop(stream);
        call.listen();
        assert_eq!((call.answer(), call.is_refused()), (Some(&FromAgent::Held), false));
    }

    #[test]
    fn who_takes_a_question_and_hangs_up_has_not_answered() {
        let Bench { host, mut call, .. } = bench_of(|path| AgentCall::ask(path, &ToAgent::Hold));
        let mut stream = host.accept().unwrap().0;
        stream.write_all(b"OK 1073741824\n").unwrap();
        call.listen();
        assert!(!call.is_refused());
        drop(stream);
        call.listen();
        assert!(call.is_refused());
    }

    #[test]
    fn a_machine_without_its_socket_cannot_be_called() {
        let nowhere = tempfile::tempdir().unwrap();
        assert!(AgentCall::tell(&nowhere.path().join("vsock"), &SHUTDOWN).is_err());
    }
}
