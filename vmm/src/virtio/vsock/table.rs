//! The bounded set of connections, found by ports or by id, and whose turn it is to speak.
//!
//! Invariant: no operation costs more than a pass over [`MAX_CONNECTIONS`] slots, and none allocates after
//! [`Table::new`]. An id is never used twice, so an event for a connection that is gone finds nobody.

use std::collections::HashMap;

use super::HostStream;
use super::connection::Connection;
use super::packet::Ports;

/// Connections that one guest may have. Protects descriptors and memory of the monitor.
pub const MAX_CONNECTIONS: usize = 256;

/// How many of them the guest may open itself. The others are kept so that a guest cannot shut the host out.
pub const MAX_GUEST_CONNECTIONS: usize = 192;

/// Bits of an id that are the slot; the others count up.
const SLOT_BITS: u32 = 8;

const _: () = assert!(MAX_CONNECTIONS == 1 << SLOT_BITS, "a slot fills its bits");

/// Names a connection for as long as the monitor runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionId(u64);

impl ConnectionId {
    /// The highest bit of [`raw`](Self::raw), which ids do not reach: a shell may mark its own tokens by it.
    pub const UNUSED_BIT: u64 = 1 << 63;

    /// As a token for epoll.
    #[must_use]
    pub const fn raw(self) -> u64 {
        self.0
    }

    /// From a token for epoll; one that was never an id names no connection.
    #[must_use]
    pub const fn from_raw(raw: u64) -> Self {
        Self(raw)
    }

    fn slot(self) -> usize {
        usize::try_from(self.0 & ((1 << SLOT_BITS) - 1)).unwrap_or(usize::MAX)
    }
}

#[derive(Debug)]
struct Slot<S> {
    id: ConnectionId,
    connection: Connection<S>,
}

/// Slots that have something to say, and where the round stands.
#[derive(Debug, Default)]
struct Round {
    words: [u64; MAX_CONNECTIONS / 64],
    /// The slot after the last that spoke.
    next: usize,
}

impl Round {
    fn set(&mut self, slot: usize, speaks: bool) {
        if let Some(word) = self.words.get_mut(slot >> 6) {
            let bit = 1u64 << (slot & 63);
            *word = if speaks { *word | bit } else { *word & !bit };
        }
    }

    fn first_from(&self, start: usize) -> Option<usize> {
        let mut mask = u64::MAX << (start & 63);
        for (index, word) in self.words.iter().enumerate().skip(start >> 6) {
            let found = word & mask;
            if found != 0 {
                return Some((index << 6) | found.trailing_zeros() as usize);
            }
            mask = u64::MAX;
        }
        None
    }

    fn is_empty(&self) -> bool {
        self.words.iter().all(|&word| word == 0)
    }

    /// The next slot in turn, which then goes to the end of the line.
    fn advance(&mut self) -> Option<usize> {
        let slot = self.first_from(self.next).or_else(|| self.first_from(0))?;
        self.next = slot.wrapping_add(1) % MAX_CONNECTIONS;
        Some(slot)
    }
}

#[derive(Debug)]
pub(super) struct Table<S> {
    slots: Vec<Option<Slot<S>>>,
    by_ports: HashMap<Ports, ConnectionId>,
    by_guest: usize,
    round: Round,
    serial: u64,
}

impl<S: HostStream> Table<S> {
    pub(super) fn new() -> Self {
        Self {
            slots: (0..MAX_CONNECTIONS).map(|_| None).collect(),
            // Twice: a map that is near its capacity may move when entries come and go.
            by_ports: HashMap::with_capacity(MAX_CONNECTIONS * 2),
            by_guest: 0,
            round: Round::default(),
            serial: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.by_ports.len()
    }

    /// How many of them the guest opened.
    pub(super) const fn opened_by_guest(&self) -> usize {
        self.by_guest
    }

    pub(super) fn find(&self, ports: Ports) -> Option<ConnectionId> {
        self.by_ports.get(&ports).copied()
    }

    /// The id that [`insert`](Self::insert) will give next, `None` while the table is full.
    pub(super) fn next_id(&self) -> Option<ConnectionId> {
        let slot = self.slots.iter().position(Option::is_none)?;
        let slot = u64::try_from(slot).ok()?;
        Some(ConnectionId((self.serial << SLOT_BITS | slot) & !ConnectionId::UNUSED_BIT))
    }

    /// Takes a connection in, whose ports are new to the table, under the id that was next.
    pub(super) fn insert(&mut self, connection: Connection<S>) -> Option<ConnectionId> {
        let id = self.next_id()?;
        let slot = self.slots.get_mut(id.slot())?;
        self.serial = self.serial.wrapping_add(1);
        self.by_guest = self.by_guest.saturating_add(usize::from(connection.by_guest()));
        self.by_ports.insert(connection.ports(), id);
        self.round.set(id.slot(), connection.wants_to_speak());
        *slot = Some(Slot { id, connection });
        Some(id)
    }

    /// Lets `change` work on a connection, and keeps the round up to date; `None` where it is gone.
    pub(super) fn with<R>(
        &mut self,
        id: ConnectionId,
        change: impl FnOnce(&mut Connection<S>) -> R,
    ) -> Option<R> {
        let slot = self.slots.get_mut(id.slot())?.as_mut().filter(|slot| slot.id == id)?;
        let result = change(&mut slot.connection);
        self.round.set(id.slot(), slot.connection.wants_to_speak());
        Some(result)
    }

    pub(super) fn remove(&mut self, id: ConnectionId) -> Option<Connection<S>> {
        let slot = self.slots.get_mut(id.slot())?.take_if(|slot| slot.id == id)?;
        self.round.set(id.slot(), false);
        self.by_ports.remove(&slot.connection.ports());
        self.by_guest = self.by_guest.saturating_sub(usize::from(slot.connection.by_guest()));
        Some(slot.connection)
    }

    /// The connection that has lived longest among those that `pick` takes.
    pub(super) fn oldest(&self, pick: impl Fn(&Connection<S>) -> bool) -> Option<ConnectionId> {
        let picked = self.slots.iter().flatten().filter(|slot| pick(&slot.connection));
        picked.map(|slot| slot.id).min_by_key(|id| id.raw() >> SLOT_BITS)
    }

    pub(super) fn someone_wants_to_speak(&self) -> bool {
        !self.round.is_empty()
    }

    /// Whose turn it is, round robin.
    pub(super) fn next_speaker(&mut self) -> Option<ConnectionId> {
        let slot = self.round.advance()?;
        self.slots.get(slot)?.as_ref().map(|slot| slot.id)
    }

    /// Drops every connection, and with it its stream.
    pub(super) fn clear(&mut self) {
        self.slots.fill_with(|| None);
        self.by_ports.clear();
        self.by_guest = 0;
        self.round = Round::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_round_passes_everyone_before_anyone_twice() {
        let mut round = Round::default();
        assert_eq!(round.advance(), None);
        let speakers = [0, 1, 63, 64, 130, 255];
        for slot in speakers {
            round.set(slot, true);
        }
        for expected in speakers.iter().chain(&speakers) {
            assert_eq!(round.advance(), Some(*expected));
        }
        round.set(1, false);
        assert_eq!([round.advance(), round.advance()], [Some(0), Some(63)]);
        round.set(256, true);
        for slot in speakers {
            round.set(slot, false);
        }
        assert!(round.is_empty());
    }
}
