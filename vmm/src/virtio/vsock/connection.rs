//! One connection between a guest port and a host stream.
//!
//! ```text
//!   host: CONNECT            guest: REQUEST
//!        │                        │
//!        ▼    guest: RESPONSE     ▼      guest shut down both,
//!     Offered ───────────────▶  Open ───────────────────────▶ Draining   the host has yet to read the rest
//!        │                       │ │  and the host has it all     │
//!        │ host hung up          │ └───────────────┐              │ it has, or never will
//!        │                       │ host is gone    │              │
//!        │                       ▼                 ▼              │
//!        │                    Parting ─────────▶ Doomed ◀─────────┘
//!        └──────────────────────────────────────▶  │
//!              any packet out of place ───────────▶│ RST sent
//!                                                  ▼
//!   guest: RST, from any state ──────────────▶  forgotten
//! ```
//!
//! Parting: the guest was told that all is over and owes us an RST or a SHUTDOWN. Half-close stays within
//! Open: each side keeps two flags, whether it still sends and still receives.
//!
//! Duty: what each packet and each event of the stream does; `speak.rs` beside it says what the guest is told.
//! Not its duty: which packet is ours, whose turn it is. Invariant: the host's stream exists in the states that
//! use it and in no other; leaving them closes it.

mod speak;

pub(super) use self::speak::Spoken;
use super::credit::{Credit, Overdrawn};
use super::incidents::Incident;
use super::outbox::Outbox;
use super::packet::{Header, Operation, Ports, SHUTDOWN_RECEIVE, SHUTDOWN_SEND};
use super::{HostStream, Readiness};
use crate::virtio::rings::Reader;

/// What one side still does.
#[derive(Debug, Clone, Copy)]
struct Halves {
    sends: bool,
    receives: bool,
}

impl Halves {
    const BOTH: Self = Self { sends: true, receives: true };

    const fn is_over(self) -> bool {
        !self.sends && !self.receives
    }
}

#[derive(Debug)]
enum State<S> {
    Offered(S),
    Open { stream: S, guest: Halves, host: Halves },
    Draining(S),
    Parting,
    Doomed,
}

/// What the guest has yet to be told.
#[derive(Debug, Default)]
struct Owed {
    /// REQUEST while offered, RESPONSE once open.
    greeting: bool,
    shutdown: bool,
    credit: bool,
}

/// Whether a connection is still there after a packet or an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(super) enum Fate {
    Stays,
    Ends,
}

#[derive(Debug)]
pub(super) struct Connection<S> {
    ports: Ports,
    by_guest: bool,
    state: State<S>,
    owed: Owed,
    credit: Credit,
    outbox: Outbox,
    /// The stream has something to read, as far as we know.
    readable: bool,
    /// The stream has closed both ways.
    hung_up: bool,
    /// Which halves of the stream we have not closed ourselves.
    stream_halves: Halves,
    /// The guest was asked for credit and has given none since.
    asked: bool,
}

impl<S: HostStream> Connection<S> {
    /// The guest sent REQUEST and the host has taken it.
    pub(super) fn accepted(request: &Header, stream: S) -> Self {
        let mut connection = Self::new(request.ports(), true, {
            State::Open { stream, guest: Halves::BOTH, host: Halves::BOTH }
        });
        // Nothing was sent yet, so an account that says otherwise starts from nothing.
        let _ = connection.credit.learn(&Header { forwarded: 0, ..*request });
        connection
    }

    /// A host program wants to reach the guest.
    pub(super) fn offered(ports: Ports, stream: S) -> Self {
        Self::new(ports, false, State::Offered(stream))
    }

    fn new(ports: Ports, by_guest: bool, state: State<S>) -> Self {
        Self {
            ports,
            by_guest,
            state,
            owed: Owed { greeting: true, ..Owed::default() },
            credit: Credit::default(),
            outbox: Outbox::default(),
            readable: false,
            hung_up: false,
            stream_halves: Halves::BOTH,
            asked: false,
        }
    }

    pub(super) const fn ports(&self) -> Ports {
        self.ports
    }

    /// Who opened it.
    pub(super) const fn by_guest(&self) -> bool {
        self.by_guest
    }

    /// Only waits for a guest that may never answer: nothing is lost to the host if it goes.
    pub(super) const fn only_waits(&self) -> bool {
        match self.state {
            State::Offered(_) | State::Parting | State::Doomed => true,
            State::Open { .. } => self.hung_up,
            State::Draining(_) => false,
        }
    }

    /// A packet of this connection arrived. `payload` is exactly what its header promised.
    pub(super) fn packet(&mut self, header: &Header, payload: Reader<'_>) -> (Fate, Option<Incident>) {
        if header.operation == Operation::Reset {
            return (Fate::Ends, None);
        }
        if let Err(Overdrawn) = self.credit.learn(header) {
            return (Fate::Stays, Some(self.doom(Incident::Overdrawn)));
        }
        self.asked &= self.credit.room_at_guest() == 0;
        let incident = match (header.operation, &mut self.state) {
            (_, State::Doomed) | (Operation::CreditUpdate, _) => None,
            (Operation::CreditRequest, _) => {
                self.owed.credit = true;
                None
            }
            (Operation::Response, State::Offered(_)) => {
                self.open();
                None
            }
            (Operation::Data, State::Open { guest: Halves { sends: true, .. }, .. }) => self.data(payload),
            // Sent before our SHUTDOWN was seen.
            (Operation::Data, State::Parting) => None,
            (Operation::Shutdown, State::Open { guest, .. }) => {
                guest.sends &= header.flags & SHUTDOWN_SEND == 0;
                guest.receives &= header.flags & SHUTDOWN_RECEIVE == 0;
                None
            }
            (Operation::Shutdown, State::Draining(_)) => None,
            (Operation::Shutdown, State::Parting) => {
                let all = SHUTDOWN_SEND | SHUTDOWN_RECEIVE;
                if header.flags & all == all {
                    self.state = State::Doomed;
                }
                None
            }
            _ => Some(self.doom(Incident::Unexpected)),
        };
        self.settle();
        (Fate::Stays, incident)
    }

    /// The stream has become something.
    pub(super) fn host_ready(&mut self, readiness: Readiness) -> Fate {
        self.readable |= readiness.readable;
        self.hung_up |= readiness.hung_up;
        if self.hung_up && matches!(self.state, State::Offered(_)) {
            // A guest that has not heard of it yet need not.
            if self.owed.greeting {
                return Fate::Ends;
            }
            self.state = State::Doomed;
        }
        if (readiness.writable || readiness.hung_up)
            && let State::Open { stream, .. } | State::Draining(stream) = &mut self.state
        {
            match self.outbox.unblocked(stream) {
                Ok(taken) => self.credit.forwarded(taken),
                Err(_) => self.host_receives_no_more(),
            }
        }
        self.settle();
        Fate::Stays
    }

    /// The guest accepted: tell the host program, as it was promised.
    fn open(&mut self) {
        let State::Offered(mut stream) = std::mem::replace(&mut self.state, State::Doomed) else { return };
        self.owed.greeting = false;
        // Fits any fresh socket; one that cannot even take this is of no use.
        let line = format!("OK {}\n", self.ports.host);
        if stream.write(line.as_bytes()).is_ok_and(|count| count == line.len()) {
            self.state = State::Open { stream, guest: Halves::BOTH, host: Halves::BOTH };
        }
    }

    fn data(&mut self, payload: Reader<'_>) -> Option<Incident> {
        let bytes = payload.remaining();
        if u32::try_from(bytes).map_err(|_| Overdrawn).and_then(|bytes| self.credit.received(bytes)).is_err()
        {
            return Some(self.doom(Incident::Overdrawn));
        }
        match &mut self.state {
            State::Open { stream, host: Halves { receives: true, .. }, .. } => {
                match self.outbox.send(stream, payload) {
                    Ok(taken) => self.credit.forwarded(taken),
                    Err(_) => self.host_receives_no_more(),
                }
            }
            // The guest will hear, or has heard, that nobody reads this.
            _ => self.credit.forwarded(bytes),
        }
        None
    }

    fn host_receives_no_more(&mut self) {
        self.credit.forwarded(usize::MAX);
        if let State::Open { host, .. } = &mut self.state {
            host.receives = false;
            self.owed.shutdown = true;
        }
    }

    fn doom(&mut self, incident: Incident) -> Incident {
        self.state = State::Doomed;
        incident
    }

    /// Draws the conclusions from what has changed.
    fn settle(&mut self) {
        self.owed.credit |= self.credit.worth_telling();
        match &mut self.state {
            State::Open { stream, guest, host } => {
                if self.hung_up && !(guest.receives && host.sends) {
                    // Nothing that the host wrote is left to be read.
                    *host = Halves { sends: false, receives: false };
                }
                if guest.is_over() {
                    let drained = self.outbox.is_empty() || !host.receives;
                    let state = std::mem::replace(&mut self.state, State::Doomed);
                    if !drained && let State::Open { stream, .. } = state {
                        self.state = State::Draining(stream);
                    }
                } else if host.is_over() {
                    self.owed.shutdown = true;
                    self.state = State::Parting;
                } else {
                    if !guest.sends
                        && self.outbox.is_empty()
                        && std::mem::take(&mut self.stream_halves.receives)
                    {
                        stream.close_write();
                    }
                    if !guest.receives && std::mem::take(&mut self.stream_halves.sends) {
                        stream.close_read();
                    }
                }
            }
            State::Draining(_) if self.outbox.is_empty() => self.state = State::Doomed,
            _ => {}
        }
    }
}
