//! What outlives a connection, as the session sees it.
//!
//! Duty: the questions that the session's thread puts to whoever keeps things for it, and one that keeps them in memory.
//! Not here: disks. Invariant: a letter is handed out until it was acknowledged, after each lost connection anew.

use std::collections::{BTreeMap, VecDeque};

use hearth_core::Moment;

use crate::Now;

/// Letters that are kept in memory, where there is nothing else.
const MAX_LETTERS: usize = 1024;
/// Bytes of them together.
const MAX_BYTES: usize = 256 << 10;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    pub id: u64,
    pub what: What,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// Telemetry of a time when nobody could be told: a [`Kept`](crate::sparkplug::history::Kept), encoded.
    History(Vec<u8>),
    /// Published with QoS 1.
    Message { topic: String, payload: Vec<u8>, retain: bool },
}

/// How much waits, and what became of the rest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    pub depth: u64,
    pub bytes: u64,
    pub dropped: u64,
    /// Bytes of what was taken in since the start, and bytes that files were given for it: what flash wears by.
    pub accepted: u64,
    pub written: u64,
}

/// Who keeps letters and takes what the fleet says. All is called on the session's thread, and may take as long as a
/// disk does.
pub trait Letters {
    /// Telemetry that nobody could be told.
    fn keep(&mut self, kept: Vec<u8>, now: Now);
    /// The next one that was not handed out since the last [`again`](Letters::again).
    fn next(&mut self, now: Now) -> Option<Letter>;
    /// The broker has it. Not necessarily in the order in which they were handed out.
    fn acknowledged(&mut self, id: u64, now: Now);
    /// The connection is gone: what was not acknowledged is handed out anew.
    fn again(&mut self);
    /// Something for the box's place in the management tree; `place` is the topic behind that.
    fn received(&mut self, place: &str, payload: &[u8], now: Now);
    /// Something for that place was too large to be taken, and cost the connection.
    fn oversized(&mut self) {}
    fn standing(&self) -> Standing;
    /// When [`tick`](Letters::tick) is due.
    fn deadline(&self) -> Option<Moment>;
    fn tick(&mut self, now: Now);
}

/// In memory only: what is kept is lost with the process, and nobody listens to the fleet.
#[derive(Debug, Default)]
pub struct Memory {
    waiting: VecDeque<(u64, Vec<u8>)>,
    out: BTreeMap<u64, Vec<u8>>,
    bytes: usize,
    next: u64,
    dropped: u64,
}

impl Letters for Memory {
    fn keep(&mut self, kept: Vec<u8>, _now: Now) {
        self.bytes += kept.len();
        self.waiting.push_back((self.next, kept));
        self.next += 1;
        while self.waiting.len() + self.out.len() > MAX_LETTERS || self.bytes > MAX_BYTES {
            let oldest = self.out.pop_first().or_else(|| self.waiting.pop_front());
            let Some((_, oldest)) = oldest else { break };
            self.bytes -= oldest.len();
            self.dropped += 1;
        }
    }

    fn next(&mut self, _now: Now) -> Option<Letter> {
        let (id, kept) = self.waiting.pop_front()?;
        self.out.insert(id, kept.clone());
        Some(Letter { id, what: What::History(kept) })
    }

    fn acknowledged(&mut self, id: u64, _now: Now) {
        self.bytes -= self.out.remove(&id).map_or(0, |kept| kept.len());
    }

    fn again(&mut self) {
        for letter in std::mem::take(&mut self.out).into_iter().rev() {
            self.waiting.push_front(letter);
        }
    }

    fn received(&mut self, _place: &str, _payload: &[u8], _now: Now) {}

    fn standing(&self) -> Standing {
        let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        Standing {
            depth: count(self.waiting.len() + self.out.len()),
            bytes: count(self.bytes),
            dropped: self.dropped,
            ..Standing::default()
        }
    }

    fn deadline(&self) -> Option<Moment> {
        None
    }

    fn tick(&mut self, _now: Now) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Now = Now { mono: Moment::START, wall_ms: 0 };

    #[test]
    fn a_letter_is_handed_out_until_it_was_acknowledged() {
        let mut letters = Memory::default();
        for byte in 0..3 {
            letters.keep(vec![byte], NOW);
        }
        let ids = |letters: &mut Memory| -> Vec<u64> {
            std::iter::from_fn(|| letters.next(NOW)).map(|letter| letter.id).collect()
        };
        assert_eq!(ids(&mut letters), [0, 1, 2]);
        assert_eq!(ids(&mut letters), [] as [u64; 0]);
        letters.acknowledged(1, NOW);
        letters.again();
        assert_eq!(ids(&mut letters), [0, 2]);
        assert_eq!(letters.standing(), Standing { depth: 2, bytes: 2, ..Standing::default() });
    }

    #[test]
    fn the_oldest_give_way_and_are_counted() {
        let mut letters = Memory::default();
        for _ in 0..MAX_LETTERS + 2 {
            letters.keep(vec![0], NOW);
        }
        assert_eq!(letters.next(NOW).map(|letter| letter.id), Some(2));
        letters.keep(vec![0; MAX_BYTES], NOW);
        let standing = letters.standing();
        assert_eq!((standing.depth, standing.bytes), (1, u64::try_from(MAX_BYTES).unwrap()));
        assert_eq!(standing.dropped, 2 + u64::try_from(MAX_LETTERS).unwrap());
    }
}
