//! A host for tests: the other end of a socket pair, doing only what it is told.

use hearth_wire::{Decoder, FromAgent, MAX_FRAME, PROTOCOL_VERSION, ToAgent, encode};
use std::{
    io::{ErrorKind, Read, Write},
    os::unix::net::UnixStream,
};

pub(crate) struct Host {
    socket: UnixStream,
    decoder: Decoder,
}

impl Host {
    /// And the agent's end.
    pub(crate) fn pair() -> (Self, UnixStream) {
        let (socket, agent) = UnixStream::pair().expect("socket pair");
        socket.set_nonblocking(true).expect("own socket");
        agent.set_nonblocking(true).expect("own socket");
        (Self { socket, decoder: Decoder::new() }, agent)
    }

    pub(crate) fn say(&mut self, message: &ToAgent) {
        let mut buf = [0; MAX_FRAME];
        self.say_raw(encode(message, &mut buf).expect("fits"));
    }

    pub(crate) fn say_raw(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).expect("agent is there");
    }

    pub(crate) fn welcome(&mut self) {
        self.say(&ToAgent::Welcome { protocol: PROTOCOL_VERSION, heartbeat_ms: 1000 });
    }

    /// All that has come, and whether the agent hung up.
    pub(crate) fn hear(&mut self) -> (Vec<FromAgent>, bool) {
        let mut heard = Vec::new();
        let mut buf = [0; 700];
        loop {
            let len = match self.socket.read(&mut buf) {
                Ok(0) => return (heard, true),
                Ok(len) => len,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return (heard, false),
                Err(error) => panic!("{error}"),
            };
            let mut bytes = &buf[..len];
            while !bytes.is_empty() {
                bytes = self.decoder.push(bytes);
                while let Some(message) = self.decoder.pop().expect("good frames only") {
                    heard.push(message);
                }
            }
        }
    }
}
