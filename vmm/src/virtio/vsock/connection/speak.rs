//! What a connection tells the guest when it has its turn.
//!
//! Duty: one packet per turn, the most urgent first: RST, greeting, SHUTDOWN, data, credit. Data goes from the
//! stream straight into the guest's buffer. Invariant: after [`Connection::speak`] says [`Spoken::Nothing`],
//! [`Connection::wants_to_speak`] is false, so that a round of turns ends.

use std::io::ErrorKind;

use vm_memory::VolatileMemoryError;

use super::super::HostStream;
use super::super::packet::{HEADER_BYTES, Header, Operation, SHUTDOWN_RECEIVE, SHUTDOWN_SEND};
use super::{Connection, Halves, State};
use crate::virtio::rings::Writer;

/// Bytes of payload in one packet to the guest. As large as Linux makes its own; a larger buffer of the guest
/// is filled no further, so that one connection cannot hold a turn.
const MAX_PAYLOAD: u32 = 64 << 10;

/// What came of a turn to speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(in super::super) enum Spoken {
    Nothing,
    /// A packet of so many bytes.
    Packet(usize),
    /// A packet of so many bytes, after which the connection is to be forgotten.
    Farewell(usize),
}

impl<S: HostStream> Connection<S> {
    /// The host has bytes that the guest would take, if it has room for them.
    const fn has_data(&self) -> bool {
        matches!(
            self.state,
            State::Open { host: Halves { sends: true, .. }, guest: Halves { receives: true, .. }, .. }
        ) && self.readable
    }

    /// Whether [`speak`](Self::speak) may have something to say.
    pub(in super::super) const fn wants_to_speak(&self) -> bool {
        match self.state {
            State::Doomed => true,
            State::Offered(_) => self.owed.greeting,
            State::Parting => self.owed.shutdown,
            State::Draining(_) => false,
            State::Open { .. } => {
                self.owed.greeting
                    || self.owed.shutdown
                    || self.owed.credit
                    || (self.has_data() && (self.credit.room_at_guest() > 0 || !self.asked))
            }
        }
    }

    /// Puts the next packet for guest `cid` into `out`, which has room for a header and a byte at least.
    pub(in super::super) fn speak(&mut self, cid: u64, out: Writer<'_>) -> Spoken {
        match self.state {
            State::Doomed => {
                return Spoken::Farewell(self.say(cid, Operation::Reset, 0, 0, out));
            }
            State::Offered(_) if std::mem::take(&mut self.owed.greeting) => {
                return Spoken::Packet(self.say(cid, Operation::Request, 0, 0, out));
            }
            State::Parting if std::mem::take(&mut self.owed.shutdown) => {
                let flags = SHUTDOWN_SEND | SHUTDOWN_RECEIVE;
                return Spoken::Packet(self.say(cid, Operation::Shutdown, flags, 0, out));
            }
            State::Offered(_) | State::Parting | State::Draining(_) => return Spoken::Nothing,
            State::Open { .. } => {}
        }
        if std::mem::take(&mut self.owed.greeting) {
            return Spoken::Packet(self.say(cid, Operation::Response, 0, 0, out));
        }
        if std::mem::take(&mut self.owed.shutdown)
            && let State::Open { host, .. } = &self.state
        {
            let send = if host.sends { 0 } else { SHUTDOWN_SEND };
            let receive = if host.receives { 0 } else { SHUTDOWN_RECEIVE };
            return Spoken::Packet(self.say(cid, Operation::Shutdown, send | receive, 0, out));
        }
        if self.has_data() && self.credit.room_at_guest() > 0 {
            let bytes = self.fill(&out);
            if bytes > 0 {
                return Spoken::Packet(self.say(cid, Operation::Data, 0, bytes, out));
            }
            if self.owed.shutdown || !matches!(self.state, State::Open { .. }) {
                // The stream ended or failed: once more, as what it is now.
                return self.speak(cid, out);
            }
        }
        if self.owed.credit {
            return Spoken::Packet(self.say(cid, Operation::CreditUpdate, 0, 0, out));
        }
        if self.has_data() && self.credit.room_at_guest() == 0 && !std::mem::replace(&mut self.asked, true) {
            return Spoken::Packet(self.say(cid, Operation::CreditRequest, 0, 0, out));
        }
        Spoken::Nothing
    }

    /// Reads from the stream into the payload of `out`; returns how many bytes.
    fn fill(&mut self, out: &Writer<'_>) -> u32 {
        let State::Open { stream, host, .. } = &mut self.state else { return 0 };
        let mut payload = out.clone();
        payload.skip(HEADER_BYTES);
        let max = self.credit.room_at_guest().min(MAX_PAYLOAD) as usize;
        let answer = loop {
            match payload.read_from(stream, max) {
                Err(VolatileMemoryError::IOError(error)) if error.kind() == ErrorKind::Interrupted => {}
                answer => break answer,
            }
        };
        match answer {
            Ok(0) => {
                host.sends = false;
                self.owed.shutdown = true;
                self.settle();
            }
            Ok(count) => {
                let count = u32::try_from(count).unwrap_or(u32::MAX);
                self.credit.sent(count);
                return count;
            }
            Err(VolatileMemoryError::IOError(error)) if error.kind() == ErrorKind::WouldBlock => {
                self.readable = false;
            }
            Err(_) => self.state = State::Doomed,
        }
        0
    }

    /// Writes the header in front of a payload that is in place already; returns the packet's length.
    fn say(&mut self, cid: u64, operation: Operation, flags: u32, bytes: u32, mut out: Writer<'_>) -> usize {
        let mut header = Header { flags, bytes, ..Header::to_guest(cid, self.ports, operation) };
        self.credit.tell(&mut header);
        self.owed.credit = false;
        out.write(&header.to_wire()).saturating_add(bytes as usize)
    }
}
