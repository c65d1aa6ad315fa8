//! Which connection a packet belongs to, who may open one, and who speaks next.
//!
//! Duty: the rules between connections: addresses, admission, RST for everything unknown, one packet each in
//! turn. Not its duty: what a packet means to its connection. Invariant: whatever the guest sends, there are
//! at most [`MAX_CONNECTIONS`] connections and `MAX_RESETS` pending RSTs.

use std::collections::VecDeque;
use std::io;

use super::connection::{Connection, Fate, Spoken};
use super::incidents::{Incident, Incidents};
use super::packet::{HOST_CID, Header, Operation, Ports, TYPE_STREAM};
use super::table::{ConnectionId, MAX_CONNECTIONS, MAX_GUEST_CONNECTIONS, Table};
use super::{HostSide, Readiness};
use crate::virtio::rings::{Reader, Writer};

/// RSTs kept for packets that no connection wanted. More are dropped and counted: a guest that sends such
/// packets faster than it takes the answers is not owed them.
pub(super) const MAX_RESETS: usize = 128;

/// Ports of the host side for connections that the host opens: above those that programs listen on by habit,
/// and clear of `VMADDR_PORT_ANY`.
const FIRST_HOST_PORT: u32 = 1 << 30;
/// The last of them.
const LAST_HOST_PORT: u32 = (1 << 31) - 1;

/// Why a host program was not let through to the guest.
#[derive(Debug, thiserror::Error)]
pub enum OfferError {
    /// The device is not set up by a driver.
    #[error("the guest has no socket driver running")]
    NotReady,
    /// The table is full of live connections.
    #[error("{MAX_CONNECTIONS} connections are open already")]
    Full,
    /// The stream cannot be watched.
    #[error("the stream cannot be watched")]
    Watch(#[source] io::Error),
}

#[derive(Debug)]
pub(super) struct Muxer<H: HostSide> {
    cid: u64,
    host: H,
    table: Table<H::Stream>,
    resets: VecDeque<Header>,
    next_port: u32,
    incidents: Incidents,
}

impl<H: HostSide> Muxer<H> {
    pub(super) fn new(cid: u64, host: H) -> Self {
        Self {
            cid,
            host,
            table: Table::new(),
            resets: VecDeque::with_capacity(MAX_RESETS),
            next_port: FIRST_HOST_PORT,
            incidents: Incidents::default(),
        }
    }

    pub(super) const fn cid(&self) -> u64 {
        self.cid
    }

    /// The next port of the host's side.
    pub(super) const fn next_port(&self) -> u32 {
        self.next_port
    }

    /// Gives ports from `port` on: those before are not used again so soon. One that cannot be is as good as the
    /// first.
    pub(super) fn go_on_from(&mut self, port: u32) {
        self.next_port =
            if (FIRST_HOST_PORT..=LAST_HOST_PORT).contains(&port) { port } else { FIRST_HOST_PORT };
    }

    pub(super) const fn incidents(&self) -> &Incidents {
        &self.incidents
    }

    #[cfg(test)]
    pub(super) fn connections(&self) -> usize {
        self.table.len()
    }

    /// Drops all connections and forgets all debts.
    pub(super) fn clear(&mut self) {
        self.table.clear();
        self.resets.clear();
    }

    /// A chain that does not even hold a header, coming or going.
    pub(super) fn malformed(&mut self) {
        self.incidents.note(Incident::Malformed);
    }

    /// A packet from the guest, and all that its chain holds after the header.
    pub(super) fn packet(&mut self, header: &Header, mut payload: Reader<'_>) {
        if header.source_cid != self.cid {
            // An answer would go to a context that is not this guest.
            self.incidents.note(Incident::ForeignSource);
            return;
        }
        if header.destination_cid != HOST_CID || header.kind != TYPE_STREAM {
            self.refuse(header, Incident::Unexpected);
            return;
        }
        let known = self.table.find(header.ports());
        if payload.remaining() < header.bytes as usize {
            if let Some(id) = known {
                self.table.remove(id);
            }
            self.refuse(header, Incident::Malformed);
            return;
        }
        payload.limit(header.bytes as usize);
        match (known, header.operation) {
            (Some(id), _) => {
                if let Some((fate, incident)) =
                    self.table.with(id, |connection| connection.packet(header, payload))
                {
                    if let Some(incident) = incident {
                        self.incidents.note(incident);
                    }
                    self.apply(id, fate);
                }
            }
            (None, Operation::Request) => self.request(header),
            // Never answered, or two sides could go on for ever.
            (None, Operation::Reset) => {}
            // The last words of a connection that is gone here already are nothing unusual.
            (None, Operation::Shutdown | Operation::CreditUpdate | Operation::CreditRequest) => {
                self.send_reset(header.refusal());
            }
            (None, _) => self.refuse(header, Incident::Unexpected),
        }
    }

    fn request(&mut self, header: &Header) {
        let fits = if self.table.opened_by_guest() >= MAX_GUEST_CONNECTIONS {
            self.evict(Connection::by_guest)
        } else {
            self.table.len() < MAX_CONNECTIONS || self.evict(|_| true)
        };
        if !fits {
            self.refuse(header, Incident::Refused);
            return;
        }
        // Nobody listening is the guest's everyday business, and no incident.
        let opened = self.host.connect(header.destination_port).is_ok_and(|stream| {
            self.table.next_id().is_some_and(|id| self.host.watch(&stream, id).is_ok())
                && self.table.insert(Connection::accepted(header, stream)).is_some()
        });
        if !opened {
            self.send_reset(header.refusal());
        }
    }

    /// A host program wants to reach `port` of the guest.
    pub(super) fn offer(&mut self, stream: H::Stream, port: u32) -> Result<ConnectionId, OfferError> {
        if self.table.len() >= MAX_CONNECTIONS && !self.evict(|_| true) {
            self.incidents.note(Incident::Refused);
            return Err(OfferError::Full);
        }
        let ports = self.free_ports(port).ok_or(OfferError::Full)?;
        let id = self.table.next_id().ok_or(OfferError::Full)?;
        self.host.watch(&stream, id).map_err(OfferError::Watch)?;
        self.table.insert(Connection::offered(ports, stream)).ok_or(OfferError::Full)
    }

    /// Among one more candidates than there are connections, one is free.
    fn free_ports(&mut self, guest: u32) -> Option<Ports> {
        (0..=MAX_CONNECTIONS).find_map(|_| {
            let host = self.next_port;
            self.next_port = if host >= LAST_HOST_PORT { FIRST_HOST_PORT } else { host.saturating_add(1) };
            let ports = Ports { host, guest };
            self.table.find(ports).is_none().then_some(ports)
        })
    }

    /// Ends the oldest connection that only waits for its end, if there is one.
    fn evict(&mut self, among: impl Fn(&Connection<H::Stream>) -> bool) -> bool {
        let oldest = self.table.oldest(|connection| among(connection) && connection.only_waits());
        let Some(connection) = oldest.and_then(|id| self.table.remove(id)) else { return false };
        self.incidents.note(Incident::Evicted);
        self.send_reset(Header::to_guest(self.cid, connection.ports(), Operation::Reset));
        true
    }

    fn refuse(&mut self, header: &Header, incident: Incident) {
        self.incidents.note(incident);
        if header.operation != Operation::Reset {
            self.send_reset(header.refusal());
        }
    }

    fn send_reset(&mut self, reset: Header) {
        if self.resets.len() < MAX_RESETS {
            self.resets.push_back(reset);
        } else {
            self.incidents.note(Incident::ResetLost);
        }
    }

    fn apply(&mut self, id: ConnectionId, fate: Fate) {
        match fate {
            Fate::Stays => {}
            Fate::Ends => drop(self.table.remove(id)),
        }
    }

    /// The stream of a connection has become something. The connection may be gone.
    pub(super) fn host_ready(&mut self, id: ConnectionId, readiness: Readiness) {
        if let Some(fate) = self.table.with(id, |connection| connection.host_ready(readiness)) {
            self.apply(id, fate);
        }
    }

    /// Whether [`speak`](Self::speak) may have a packet.
    pub(super) fn wants_to_speak(&self) -> bool {
        !self.resets.is_empty() || self.table.someone_wants_to_speak()
    }

    /// Puts the next packet for the guest into `out`; returns its length, or `None` where there is none.
    pub(super) fn speak(&mut self, mut out: Writer<'_>) -> Option<usize> {
        if let Some(reset) = self.resets.pop_front() {
            return Some(out.write(&reset.to_wire()));
        }
        // Ends: who has nothing to say leaves the round.
        for _ in 0..MAX_CONNECTIONS {
            let id = self.table.next_speaker()?;
            let cid = self.cid;
            match self.table.with(id, |connection| connection.speak(cid, out.clone()))? {
                Spoken::Nothing => {}
                Spoken::Packet(bytes) => return Some(bytes),
                Spoken::Farewell(bytes) => {
                    self.table.remove(id);
                    return Some(bytes);
                }
            }
        }
        None
    }
}
