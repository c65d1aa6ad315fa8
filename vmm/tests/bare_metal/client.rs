//! A client of the control socket.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use hearth_wire::control::{
    Answer, End, Event, Order, Refusal, Reply, Request, Status, Step, decode_reply, encode_request,
};
use hearth_wire::{HEADER_LEN, MAX_FRAME};

/// For what happens at once on any machine that is not stuck.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Client {
    pub(crate) stream: UnixStream,
    next_id: u32,
    /// Events that came between answers, in words.
    pub(crate) events: Vec<String>,
}

/// An answer without its borrows.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Told {
    Done,
    Refused(Refusal),
    Status(Status),
    Ended(End),
    Figures(BTreeMap<String, BTreeMap<String, u64>>),
    HungUp,
}

impl Client {
    /// The socket is there before the guest's first instruction, but not before the process is.
    pub(crate) fn connect(folder: &Path) -> Self {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Ok(stream) = UnixStream::connect(folder.join("control.sock")) {
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                return Self { stream, next_id: 1, events: Vec::new() };
            }
            assert!(Instant::now() < deadline, "no control socket");
            std::thread::yield_now();
        }
    }

    pub(crate) fn send(&mut self, order: Order) -> u32 {
        let id = self.next_id;
        self.next_id += 1;
        let mut buffer = [0; MAX_FRAME];
        self.stream.write_all(encode_request(&Request { id, order }, &mut buffer).unwrap()).unwrap();
        id
    }

    pub(crate) fn ask(&mut self, order: Order) -> Told {
        let id = self.send(order);
        self.answer_to(id)
    }

    pub(crate) fn answer_to(&mut self, wanted: u32) -> Told {
        let mut all = BTreeMap::new();
        loop {
            let Some(payload) = self.payload() else { return Told::HungUp };
            match decode_reply(&payload).expect("a reply") {
                Reply::Event(Event::Jailed { .. }) => {}
                Reply::Event(event) => self.events.push(in_words(&event)),
                Reply::Answer { id, answer } => {
                    assert_eq!(id, wanted, "{answer:?}");
                    match answer {
                        Answer::Done => return Told::Done,
                        Answer::Refused { code, .. } => return Told::Refused(code),
                        Answer::Status(status) => return Told::Status(status),
                        Answer::Ended(end) => return Told::Ended(end),
                        Answer::Figures { of, figures, more } => {
                            let figures = figures.iter().map(|f| (f.name.to_owned(), f.value)).collect();
                            all.insert(of.to_owned(), figures);
                            if !more {
                                return Told::Figures(all);
                            }
                        }
                    }
                }
            }
        }
    }

    pub(crate) fn status(&mut self) -> Status {
        match self.ask(Order::Status) {
            Told::Status(status) => status,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn statistics(&mut self) -> BTreeMap<String, BTreeMap<String, u64>> {
        match self.ask(Order::Statistics) {
            Told::Figures(figures) => figures,
            other => panic!("{other:?}"),
        }
    }

    /// Reads events to the end.
    pub(crate) fn hear_to_the_end(mut self) -> Vec<String> {
        while let Some(payload) = self.payload() {
            match decode_reply(&payload).expect("a reply") {
                // Which layers there are is the host's; `jailed` looks at them.
                Reply::Event(Event::Jailed { .. }) => {}
                Reply::Event(event) => self.events.push(in_words(&event)),
                other => panic!("{other:?}"),
            }
        }
        self.events
    }

    fn payload(&mut self) -> Option<Vec<u8>> {
        let mut header = [0; HEADER_LEN];
        match self.stream.read(&mut header[..1]) {
            Ok(0) => return None,
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
            Err(error) => panic!("{error}; so far: {:?}", self.events),
            Ok(_) => {}
        }
        self.stream.read_exact(&mut header[1..]).unwrap();
        let mut payload = vec![0; usize::from(u16::from_le_bytes([header[0], header[1]]))];
        self.stream.read_exact(&mut payload).unwrap();
        Some(payload)
    }
}

fn in_words(event: &Event<'_>) -> String {
    let how = |how: &Option<Step>| how.map_or(String::new(), |step| format!(" by {step:?}"));
    match event {
        Event::Ended(end) => format!("Ended {}{}", end.status, how(&end.how)),
        Event::Stopping { step } => format!("Stopping {step:?}"),
        Event::Rebooted { count } => format!("Rebooted {count}"),
        other => format!("{other:?}"),
    }
}
