//! The other end of a monitor's control socket.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use hearth_wire::control::{Answer, End, Event, Order, Reply, Request, decode_reply, encode_request};
use hearth_wire::{Decoder, MAX_FRAME};

use super::Failure;

/// For one answer: a stop waits for its guest.
const PATIENCE: Duration = Duration::from_secs(120);

/// An answer without what it borrows from its frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answered {
    Done,
    Refused(String),
    Ended(End),
    /// `part.name` and its value, of all parts.
    Figures(BTreeMap<String, u64>),
    Other,
}

/// A connection.
pub(crate) struct Client {
    stream: UnixStream,
    decoder: Decoder,
    next_id: u32,
}

impl Client {
    /// To the machine whose folder this is.
    pub(crate) fn connect(folder: &Path) -> Result<Self, Failure> {
        Self::at(&folder.join("control.sock"))
    }

    pub(crate) fn at(socket: &Path) -> Result<Self, Failure> {
        let stream = UnixStream::connect(socket).map_err(|error| Failure::host("control.sock", &error))?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(|error| Failure::host("control.sock", &error))?;
        Ok(Self { stream, decoder: Decoder::new(), next_id: 1 })
    }

    /// Asks, and waits for the whole answer. Events that come between are passed over.
    pub(crate) fn ask(&mut self, order: Order) -> Result<Answered, Failure> {
        let id = self.next_id;
        self.next_id += 1;
        let mut buffer = [0; MAX_FRAME];
        let frame = encode_request(&Request { id, order }, &mut buffer)
            .map_err(|_| Failure::Wrong("the request does not fit a frame".into()))?;
        self.stream.write_all(frame).map_err(|error| Failure::host("control.sock", &error))?;
        let mut all = BTreeMap::new();
        loop {
            let answered = self.reply(|reply| match reply {
                Reply::Answer { id: answered, answer } if answered == id => Some(match answer {
                    Answer::Done => (Answered::Done, false),
                    Answer::Refused { text, .. } => (Answered::Refused(text.to_owned()), false),
                    Answer::Ended(end) => (Answered::Ended(end), false),
                    Answer::Figures { of, figures, more } => {
                        for figure in &figures {
                            all.insert(format!("{of}.{}", figure.name), figure.value);
                        }
                        (Answered::Figures(BTreeMap::new()), more)
                    }
                    Answer::Status(_) => (Answered::Other, false),
                }),
                _ => None,
            })?;
            match answered {
                Some((Answered::Figures(_), false)) => return Ok(Answered::Figures(all)),
                Some((answer, false)) => return Ok(answer),
                Some((_, true)) | None => {}
            }
        }
    }

    /// Asks for what is simply done.
    pub(crate) fn order(&mut self, order: Order) -> Result<(), Failure> {
        match self.ask(order)? {
            Answered::Done => Ok(()),
            other => Err(Failure::Wrong(format!("{order:?} was answered with {other:?}"))),
        }
    }

    /// Every number of the machine.
    pub(crate) fn figures(&mut self, order: Order) -> Result<BTreeMap<String, u64>, Failure> {
        match self.ask(order)? {
            Answered::Figures(figures) => Ok(figures),
            other => Err(Failure::Wrong(format!("{order:?} was answered with {other:?}"))),
        }
    }

    /// Waits for an event; the connection must have subscribed.
    pub(crate) fn event(&mut self, mut wanted: impl FnMut(&Event<'_>) -> bool) -> Result<(), Failure> {
        loop {
            let found = self.reply(|reply| match reply {
                Reply::Event(event) => Some(wanted(&event)),
                Reply::Answer { .. } => None,
            })?;
            if found == Some(true) {
                return Ok(());
            }
        }
    }

    /// The next frame.
    fn reply<T>(&mut self, look: impl FnOnce(Reply<'_>) -> T) -> Result<T, Failure> {
        loop {
            let broken = |what: &str| Failure::Wrong(format!("control.sock: {what}"));
            if let Some(payload) = self.decoder.pop_payload().map_err(|fault| broken(&fault.to_string()))? {
                let reply = decode_reply(payload).ok_or_else(|| broken("a reply that is not known"))?;
                return Ok(look(reply));
            }
            let mut piece = [0; MAX_FRAME];
            let count =
                self.stream.read(&mut piece).map_err(|error| Failure::host("control.sock", &error))?;
            if count == 0 {
                return Err(broken("closed by the monitor"));
            }
            if !self.decoder.push(&piece[..count]).is_empty() {
                return Err(broken("more than the decoder takes"));
            }
        }
    }
}
