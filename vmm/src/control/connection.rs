//! One client of the control socket.
//!
//! Duty: frames in, answers and events out. Not its duty: what a request means.
//!
//! ```text
//! Open ──the client sends no more──▶ Listening ──nothing left to tell──▶ Closed
//!   └──────── a broken frame ──────▶ Leaving ────nothing left to tell──▶ Closed
//!   any ── hung up, or no room for an answer ──▶ Closed
//! ```

use std::io::{ErrorKind, Read};
use std::os::unix::net::UnixStream;

use hearth_wire::control::{Answer, Event, Order, Refusal, Reply, decode_request, encode_reply};
use hearth_wire::{Decoder, MAX_FRAME};

use super::outbox::{Kind, Outbox};

/// Bytes read at once; a request has ten.
const READ_BYTES: usize = 512;
/// Reads in one turn of the event loop.
const READS_PER_TURN: usize = 8;
/// Requests of one client that wait for their answer: stops and pauses do, nothing else.
const MAX_UNANSWERED: u32 = 4;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// The client sends no more, and still wants to hear.
    Listening,
    /// It is told why, and then no more.
    Leaving,
    Closed,
}

/// Whether a turn read all there was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(super) enum Rest {
    Nothing,
    Perhaps,
}

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) client: u32,
    stream: UnixStream,
    decoder: Box<Decoder>,
    outbox: Outbox,
    state: State,
    subscribed: bool,
    unanswered: u32,
    /// Events that there was no room for, since the last one that was told.
    lost: u32,
}

impl Connection {
    pub(super) fn new(client: u32, stream: UnixStream) -> Self {
        Self {
            client,
            stream,
            decoder: Box::default(),
            outbox: Outbox::default(),
            state: State::Open,
            subscribed: false,
            unanswered: 0,
            lost: 0,
        }
    }

    /// Reads what there is, within the turn's bound; `take` gets each good request.
    pub(super) fn read(&mut self, mut take: impl FnMut(u32, Order)) -> Rest {
        let mut buffer = [0; READ_BYTES];
        for _ in 0..READS_PER_TURN {
            if self.state != State::Open {
                return Rest::Nothing;
            }
            match self.stream.read(&mut buffer) {
                Ok(0) => self.state = State::Listening,
                Ok(length) => self.decode(buffer.get(..length).unwrap_or_default(), &mut take),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Rest::Nothing,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => self.state = State::Closed,
            }
        }
        Rest::Perhaps
    }

    fn decode(&mut self, mut bytes: &[u8], take: &mut impl FnMut(u32, Order)) {
        while !bytes.is_empty() && self.state == State::Open {
            bytes = self.decoder.push(bytes);
            loop {
                match self.decoder.pop_payload() {
                    Ok(None) => break,
                    Ok(Some(payload)) => match decode_request(payload) {
                        Ok(request) if self.unanswered < MAX_UNANSWERED => {
                            self.unanswered += 1;
                            take(request.id, request.order);
                        }
                        Ok(request) => self.refuse(request.id, Refusal::Busy, "too many requests wait"),
                        Err(malformed) => {
                            self.refuse(malformed.id, Refusal::Malformed, "not a request that is known here");
                        }
                    },
                    Err(fault) => {
                        let text = match fault {
                            hearth_wire::FrameFault::TooLong(_) => "the frame is too long",
                            _ => "the frame's checksum does not match",
                        };
                        self.refuse(0, Refusal::Malformed, text);
                        self.leave();
                        return;
                    }
                }
            }
        }
    }

    fn refuse(&mut self, id: u32, code: Refusal, text: &str) {
        self.put(Kind::Answer, &Reply::Answer { id, answer: Answer::Refused { code, text } });
    }

    /// The last answer to a request.
    pub(super) fn answer(&mut self, id: u32, answer: Answer<'_>) {
        self.unanswered = self.unanswered.saturating_sub(1);
        self.put(Kind::Answer, &Reply::Answer { id, answer });
    }

    /// An answer that another one follows.
    pub(super) fn answer_in_part(&mut self, id: u32, answer: Answer<'_>) {
        self.put(Kind::Answer, &Reply::Answer { id, answer });
    }

    /// Whether it waits for nothing: neither an answer nor events. It may be forgotten for somebody who does.
    pub(super) fn is_idle(&self) -> bool {
        !self.subscribed && self.unanswered == 0 && self.outbox.is_empty()
    }

    pub(super) const fn is_subscribed(&self) -> bool {
        self.subscribed
    }

    pub(super) fn subscribe(&mut self) {
        self.subscribed = true;
    }

    pub(super) fn tell(&mut self, event: Event<'_>) {
        if self.subscribed && !self.put(Kind::Event, &Reply::Event(event)) {
            self.lost = self.lost.saturating_add(1);
        }
    }

    /// Takes no more requests; goes when all is told.
    pub(super) fn leave(&mut self) {
        if self.state != State::Closed {
            self.state = State::Leaving;
        }
    }

    /// Its stream, if nothing of it is half said, and whether it has subscribed.
    pub(super) fn stays(self) -> Option<(UnixStream, bool)> {
        let still = self.state == State::Open && self.outbox.is_empty() && self.decoder.finish().is_ok();
        still.then_some((self.stream, self.subscribed))
    }

    pub(super) fn hang_up(&mut self) {
        self.state = State::Closed;
    }

    fn put(&mut self, kind: Kind, reply: &Reply<'_>) -> bool {
        if self.state == State::Closed {
            return true;
        }
        // In order: what was lost is told before what comes after it.
        if self.lost > 0 && kind == Kind::Event && !self.confess() {
            return false;
        }
        let mut buffer = [0; MAX_FRAME];
        let fits = encode_reply(reply, &mut buffer).is_ok_and(|frame| self.outbox.put(kind, frame));
        if !fits && kind == Kind::Answer {
            self.state = State::Closed;
        }
        fits
    }

    fn confess(&mut self) -> bool {
        let mut buffer = [0; MAX_FRAME];
        let lost = Reply::Event(Event::Lost { count: self.lost });
        let told = encode_reply(&lost, &mut buffer).is_ok_and(|frame| self.outbox.put(Kind::Event, frame));
        if told {
            self.lost = 0;
        }
        told
    }

    /// Writes what the client takes. Says whether the connection is still of use.
    #[must_use]
    pub(super) fn flush(&mut self) -> bool {
        if self.state != State::Closed && self.outbox.write_to(&mut self.stream).is_err() {
            self.state = State::Closed;
        }
        if self.lost > 0 && self.state != State::Closed && self.confess() {
            return self.flush();
        }
        match self.state {
            State::Open => true,
            State::Listening => self.subscribed || self.unanswered > 0 || !self.outbox.is_empty(),
            State::Leaving => !self.outbox.is_empty(),
            State::Closed => false,
        }
    }
}
