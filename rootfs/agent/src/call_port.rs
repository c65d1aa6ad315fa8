//! The port on which the host may ask for something when no supervisor is connected.
//!
//! Duty: take one message from the host, and hand the answer back.
//! Not its duty: what a message leads to, who may call (`port`).
//! Invariant: never blocks, and holds one caller at most. A newer one takes the place of an older one, so a
//! caller that says nothing keeps nobody out.

use crate::port::HostPort;
use hearth_wire::{Decoder, FromAgent, MAX_FRAME, ToAgent, control::AGENT_CALL_PORT, encode};
use socket2::Socket;
use std::{
    io::{ErrorKind, Read, Write},
    os::fd::{AsFd, BorrowedFd},
};

/// Callers accepted in one turn.
const ACCEPTS_PER_TURN: usize = 4;
/// Bytes of one read; an identity has some two hundred.
const READ_LEN: usize = 512;

/// The port, and who calls.
#[derive(Debug, Default)]
pub(crate) struct CallPort {
    port: HostPort,
    caller: Option<Caller<Socket>>,
}

impl CallPort {
    /// Listens, where the kernel has vsock sockets. Where it has none, nobody calls.
    pub(crate) fn open() -> Self {
        Self { port: HostPort::open(AGENT_CALL_PORT), caller: None }
    }

    /// What to poll for reading.
    pub(crate) fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let caller = self.caller.as_ref().map(|caller| caller.stream.as_fd());
        self.port.fd().into_iter().chain(caller)
    }

    /// Does what can be done at once. Returns what the host asked for.
    pub(crate) fn turn(&mut self) -> Option<ToAgent> {
        self.accept();
        match self.caller.as_mut()?.hear() {
            Heard::Nothing => None,
            Heard::Message(message) => Some(message),
            Heard::Nonsense => {
                self.caller = None;
                None
            }
        }
    }

    /// Answers whoever asked, and hangs up.
    pub(crate) fn answer(&mut self, message: Option<&FromAgent>) {
        if let (Some(caller), Some(message)) = (self.caller.take(), message) {
            caller.answer(message);
        }
    }

    fn accept(&mut self) {
        for _ in 0..ACCEPTS_PER_TURN {
            match self.port.next() {
                Some(Some(stream)) => self.caller = Some(Caller::new(stream)),
                Some(None) => {}
                None => return,
            }
        }
    }
}

/// What a caller said.
#[derive(Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "there is one at a time, and it lives for one turn")]
enum Heard {
    /// Not all of it yet.
    Nothing,
    Message(ToAgent),
    /// Something else, or it hung up.
    Nonsense,
}

#[derive(Debug)]
struct Caller<S> {
    stream: S,
    decoder: Box<Decoder>,
}

impl<S: Write> Caller<S> {
    fn answer(mut self, message: &FromAgent) {
        let mut frame = [0; MAX_FRAME];
        // Some bytes into a new socket: there is room. And who hung up does not want to know.
        let _ = encode(message, &mut frame).map(|bytes| self.stream.write(bytes));
    }
}

impl<S: Read> Caller<S> {
    fn new(stream: S) -> Self {
        Self { stream, decoder: Box::default() }
    }

    fn hear(&mut self) -> Heard {
        let mut buf = [0; READ_LEN];
        let bytes = match self.stream.read(&mut buf) {
            Ok(0) => return Heard::Nonsense,
            Ok(len) => buf.get(..len).unwrap_or_default(),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                return Heard::Nothing;
            }
            Err(_) => return Heard::Nonsense,
        };
        // It takes all: a frame is larger than a read, and one that is whole is taken out.
        let _ = self.decoder.push(bytes);
        match self.decoder.pop() {
            Ok(None) => Heard::Nothing,
            Ok(Some(ToAgent::Welcome { .. })) | Err(_) => Heard::Nonsense,
            Ok(Some(message)) => Heard::Message(message),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hearth_wire::{MAX_FRAME, Message, encode};
    use std::{io::Write, os::unix::net::UnixStream};

    fn call() -> (UnixStream, Caller<UnixStream>) {
        let (host, guest) = UnixStream::pair().unwrap();
        guest.set_nonblocking(true).unwrap();
        (host, Caller::new(guest))
    }

    fn frame<M: Message>(message: &M) -> Vec<u8> {
        let mut buf = [0; MAX_FRAME];
        encode(message, &mut buf).unwrap().to_vec()
    }

    #[test]
    fn a_stop_is_heard_in_pieces_of_any_size() {
        let (mut host, mut caller) = call();
        let bytes = frame(&ToAgent::Shutdown { grace_ms: 1500 });
        let (last, first) = bytes.split_last().unwrap();
        assert_eq!(caller.hear(), Heard::Nothing);
        for byte in first {
            host.write_all(&[*byte]).unwrap();
            assert_eq!(caller.hear(), Heard::Nothing);
        }
        host.write_all(&[*last]).unwrap();
        assert_eq!(caller.hear(), Heard::Message(ToAgent::Shutdown { grace_ms: 1500 }));
    }

    #[test]
    fn who_asked_is_answered_and_hung_up_on() {
        let (mut host, mut caller) = call();
        host.write_all(&frame(&ToAgent::Hold)).unwrap();
        assert_eq!(caller.hear(), Heard::Message(ToAgent::Hold));
        caller.answer(&FromAgent::Held);
        let mut decoder = Decoder::new();
        let mut bytes = Vec::new();
        host.read_to_end(&mut bytes).unwrap();
        assert!(decoder.push(&bytes).is_empty());
        assert_eq!(decoder.pop(), Ok(Some(FromAgent::Held)));
    }

    #[test]
    fn anything_else_is_hung_up_on() {
        for bytes in [frame(&ToAgent::Welcome { protocol: 1, heartbeat_ms: 1 }), vec![0xff; 64], Vec::new()] {
            let (mut host, mut caller) = call();
            host.write_all(&bytes).unwrap();
            drop(host);
            assert_eq!(caller.hear(), Heard::Nonsense, "{bytes:?}");
        }
    }

    #[test]
    fn a_guest_without_vsock_has_no_port_and_nothing_to_wait_for() {
        let mut none = CallPort::default();
        assert_eq!(none.turn(), None);
        assert_eq!(none.fds().count(), 0);
    }
}
