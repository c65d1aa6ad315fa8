//! The records of one class: in memory, in files, on their way.
//!
//! ```text
//!            files                        tail (memory)
//! [ ... | .... | ......... ]   [ written, too | not written yet ]
//!       ^cursor    ^next                                        ^ new ones
//! ```
//!
//! Duty: what is handed out next, what is written next, what is done with. Not here: when (`mod`), room (`room`).
//! Invariants: what is done with was acknowledged, and so was everything before it; what leaves memory unacknowledged
//! is in a file, or is counted as dropped.

use std::collections::VecDeque;

use hearth_core::Moment;
use hearth_disk::Disk;
use hearth_disk::frame::{self, HEADER};

use super::kinds::{Class, Fate, Limits, RecordId, Stamp, Trouble, failing};
use super::reading::{self, Reading, Told};
use super::record::{MAX_PAYLOAD, Origin, Record};
use super::segment::{self, Head, Segment};

/// Bytes of records of one class in memory: a link that is up needs a few, a batch has its room, and a disk that fails
/// for minutes loses nothing.
const MAX_TAIL: usize = 128 << 10;
/// What a record costs in memory beside its body.
const HELD: usize = size_of::<Held>();

#[derive(Debug)]
struct Held {
    number: u64,
    stamp: Stamp,
    body: Box<[u8]>,
}

impl Held {
    fn cost(&self) -> usize {
        HELD + self.body.len()
    }
}

/// A record that left the queue.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) stamp: Stamp,
    pub(super) body: Vec<u8>,
}

#[derive(Debug)]
pub(super) struct Queue {
    class: Class,
    /// Oldest first.
    files: VecDeque<Segment>,
    /// What the last of them counts from, if it is written to.
    open: Option<Origin>,
    tail: VecDeque<Held>,
    tail_bytes: usize,
    /// So many of the tail are in files.
    written: usize,
    unwritten_bytes: usize,
    /// Since when there is something that is not.
    since: Option<Moment>,
    /// Somebody waits for what is not written yet, and no longer than this.
    hurry: Option<Moment>,
    /// Nothing is written before: it failed.
    pub(super) again: Option<Moment>,
    /// On their way, and whether they arrived.
    flight: VecDeque<(RecordId, bool)>,
    /// Arrived in an earlier session, with others before them that did not.
    arrived: Vec<u64>,
    cursor: u64,
    next: u64,
    reading: Reading,
}

impl Queue {
    pub(super) fn new(class: Class, cursor: u64) -> Queue {
        Queue {
            class,
            files: VecDeque::new(),
            open: None,
            tail: VecDeque::new(),
            tail_bytes: 0,
            written: 0,
            unwritten_bytes: 0,
            since: None,
            hurry: None,
            again: None,
            flight: VecDeque::new(),
            arrived: Vec::new(),
            cursor,
            next: cursor,
            reading: Reading::new(class),
        }
    }

    pub(super) fn found(&mut self, file: Segment) {
        self.files.push_back(file);
    }

    pub(super) fn cursor(&self) -> u64 {
        self.cursor
    }

    pub(super) fn held(&self) -> usize {
        self.tail.len()
    }

    pub(super) fn flying(&self) -> usize {
        self.flight.len()
    }

    pub(super) fn stored_bytes(&self) -> u64 {
        self.files.iter().map(Segment::blocks).sum()
    }

    /// Of files with records that nobody took yet.
    pub(super) fn unread_bytes(&self) -> u64 {
        let unread = |file: &&Segment| !file.spent && file.end.is_none_or(|end| end > self.next);
        self.files.iter().filter(unread).map(Segment::blocks).sum()
    }

    pub(super) fn all_written(&self) -> bool {
        self.written == self.tail.len()
    }

    /// Records in memory that a file has, too.
    #[cfg(test)]
    pub(super) fn kept(&self) -> impl Iterator<Item = u64> {
        self.tail.iter().take(self.written).map(|held| held.number)
    }

    /// Of bodies that no file has.
    pub(super) fn unwritten_bytes(&self) -> usize {
        self.unwritten_bytes
    }

    /// When a batch is to be written.
    pub(super) fn due(&self, limits: &Limits) -> Option<Moment> {
        let wait = limits.batch_after[self.class.place()];
        let full = self.unwritten_bytes() >= limits.batch_bytes;
        let due = self.since.map(|since| if full { since } else { since.after(wait) })?;
        let due = self.hurry.map_or(due, |hurry| due.min(hurry));
        Some(self.again.map_or(due, |again| due.max(again)))
    }

    /// What is not written yet is due at `by` at the latest.
    pub(super) fn hasten(&mut self, by: Moment) {
        if !self.all_written() {
            self.hurry = Some(self.hurry.map_or(by, |hurry| hurry.min(by)));
        }
    }

    /// What became of a record that was taken in by this daemon.
    pub(super) fn fate(&self, number: u64) -> Fate {
        let arrived = self.flight.iter().any(|(id, arrived)| id.number == number && *arrived);
        if number < self.cursor || arrived || self.arrived.contains(&number) {
            return Fate::Kept;
        }
        match self.tail.binary_search_by_key(&number, |held| held.number) {
            Ok(place) if place < self.written => Fate::Kept,
            Ok(_) => Fate::Waits,
            Err(_) => {
                let holds = |file: &Segment| file.base <= number && file.end.is_none_or(|end| number < end);
                if self.files.iter().any(holds) { Fate::Kept } else { Fate::Lost }
            }
        }
    }

    /// Takes one in. Says how many gave way, which happens only where nothing can be written.
    pub(super) fn hold(&mut self, now: Moment, number: u64, stamp: Stamp, body: &[u8]) -> u64 {
        let held = Held { number, stamp, body: body.into() };
        self.tail_bytes += held.cost();
        self.unwritten_bytes += body.len();
        self.tail.push_back(held);
        self.since.get_or_insert(now);
        let mut dropped = 0;
        while self.tail_bytes > MAX_TAIL {
            dropped += u64::from(self.written == 0);
            self.pop_front();
        }
        dropped
    }

    fn pop_front(&mut self) {
        if let Some(held) = self.tail.pop_front() {
            self.tail_bytes -= held.cost();
            match self.written.checked_sub(1) {
                Some(written) => self.written = written,
                None => self.unwritten_bytes -= held.body.len(),
            }
            if self.all_written() {
                (self.since, self.hurry) = (None, None);
            }
        }
    }

    /// What was on its way is still to be sent.
    pub(super) fn rewind(&mut self) {
        let arrived = self.flight.drain(..).filter(|(_, arrived)| *arrived).map(|(id, _)| id.number);
        self.arrived.extend(arrived);
        self.next = self.cursor;
        self.reading.forget();
        self.files.iter_mut().for_each(|file| file.spent = false);
    }

    /// The next one for the broker.
    pub(super) fn next(
        &mut self,
        disk: &mut dyn Disk,
        generation: u64,
        told: &mut Told<'_>,
    ) -> Option<(RecordId, Taken)> {
        loop {
            let in_memory = self.tail.front().map_or(u64::MAX, |held| held.number);
            let from_file = self.reading.next(disk, &mut self.files, self.next, in_memory, told);
            let (id, taken) = if let Some((generation, record)) = from_file {
                let taken = Taken { stamp: record.stamp, body: record.body.to_vec() };
                (RecordId { generation, number: record.number }, taken)
            } else {
                let place = self.tail.partition_point(|held| held.number < self.next);
                let held = self.tail.get(place)?;
                let taken = Taken { stamp: held.stamp, body: held.body.to_vec() };
                self.reading.forget();
                (RecordId { generation, number: held.number }, taken)
            };
            self.next = id.number.saturating_add(1);
            let arrived = self.arrived.iter().position(|number| *number == id.number);
            self.flight.push_back((id, arrived.is_some()));
            match arrived {
                None => return Some((id, taken)),
                Some(place) => {
                    self.arrived.swap_remove(place);
                    self.settle();
                }
            }
        }
    }

    pub(super) fn flies(&self, id: RecordId) -> bool {
        self.flight.iter().any(|(flying, _)| *flying == id)
    }

    /// It arrived, or nobody wants it any more. Says whether a file has it.
    pub(super) fn acknowledge(&mut self, number: u64) -> bool {
        if let Some((_, arrived)) = self.flight.iter_mut().find(|(id, _)| id.number == number) {
            *arrived = true;
        }
        let place = self.tail.binary_search_by_key(&number, |held| held.number);
        let written = place.map_or(true, |place| place < self.written);
        self.settle();
        written
    }

    fn settle(&mut self) {
        while let Some((id, true)) = self.flight.front() {
            self.cursor = self.cursor.max(id.number.saturating_add(1));
            self.flight.pop_front();
        }
        while self.tail.front().is_some_and(|held| held.number < self.cursor) {
            self.pop_front();
        }
        self.arrived.retain(|number| *number >= self.cursor);
    }

    /// The oldest file holds nothing that is still to be sent.
    pub(super) fn has_done_files(&self) -> bool {
        let Some(oldest) = self.files.front() else { return false };
        match self.files.get(1) {
            Some(next) if next.base <= self.cursor => return true,
            None if self.open.is_some() => return false,
            _ => {}
        }
        let flies = |end| self.flight.front().is_some_and(|(id, _)| id.number < end);
        oldest.end.is_some_and(|end| end <= self.cursor || (oldest.spent && !flies(end)))
    }

    pub(super) fn remove_done(&mut self, disk: &mut dyn Disk) {
        while self.has_done_files() {
            let Some(oldest) = self.files.pop_front() else { return };
            // One that stays is found at the next start, and read past.
            let _ = disk.remove(&segment::name(self.class, oldest.base));
        }
    }

    pub(super) fn has_files(&self) -> bool {
        !self.files.is_empty()
    }

    /// Gives the oldest file up. Says how many records that cost.
    pub(super) fn drop_oldest(&mut self, disk: &mut dyn Disk) -> u64 {
        let Some(oldest) = self.files.pop_front() else { return 0 };
        let records = reading::count(disk, self.class, &oldest, self.cursor);
        if self.files.is_empty() {
            self.open = None;
        }
        self.reading.forget();
        let behind = self.files.front().map_or(u64::MAX, |next| next.base);
        while self.written > 0 && self.tail.front().is_some_and(|held| held.number < behind) {
            self.pop_front();
        }
        let _ = disk.remove(&segment::name(self.class, oldest.base));
        records
    }

    /// The next batch begins a file.
    pub(super) fn wants_file(&self, limits: &Limits) -> bool {
        let bytes = self.tail.get(self.written).map_or(0, |held| held.body.len() + HEADER);
        match (self.open, self.files.back()) {
            (Some(origin), Some(file)) if origin.number == file.base => {
                file.bytes + bytes as u64 > limits.segment_bytes
            }
            _ => true,
        }
    }

    /// What one file takes of what is not written yet. Says how many bytes that were.
    pub(super) fn write_batch(
        &mut self,
        disk: &mut dyn Disk,
        generation: u64,
        limits: &Limits,
    ) -> Result<u64, Trouble> {
        let Some(first) = self.tail.get(self.written) else { return Ok(0) };
        let begins = Origin { number: first.number, unix_ms: first.stamp.unix_ms };
        let open = self.open.filter(|_| !self.wants_file(limits));
        let (origin, mut bytes, before) = match (open, self.files.back()) {
            (Some(origin), Some(file)) => (origin, Vec::new(), file.bytes),
            _ => {
                let head = Head::new(generation, self.class, begins).encode().unwrap_or_default();
                (begins, head, 0)
            }
        };
        let (mut records, mut bodies, mut end, mut payload) = (0, 0, begins.number, Vec::new());
        for held in self.tail.iter().skip(self.written) {
            let record = Record { number: held.number, stamp: held.stamp, body: &held.body };
            payload.clear();
            payload = record.encode(origin, payload).unwrap_or_default();
            let length = before + (bytes.len() + HEADER + payload.len()) as u64;
            if records > 0 && length > limits.segment_bytes {
                break;
            }
            // Bodies are bounded where they come in.
            let _ = frame::push(&mut bytes, &payload, MAX_PAYLOAD);
            records += 1;
            bodies += held.body.len();
            end = held.number.saturating_add(1);
        }
        let length = bytes.len() as u64;
        if open.is_some() {
            self.extend(disk, &bytes)?;
        } else {
            self.begin(disk, begins, &bytes)?;
        }
        if let Some(file) = self.files.back_mut() {
            (file.end, file.spent) = (Some(end), false);
        }
        self.written += records;
        self.unwritten_bytes -= bodies;
        if self.all_written() {
            (self.since, self.hurry) = (None, None);
        }
        Ok(length)
    }

    fn extend(&mut self, disk: &mut dyn Disk, bytes: &[u8]) -> Result<(), Trouble> {
        let Some(file) = self.files.back_mut() else { return Ok(()) };
        let name = segment::name(self.class, file.base);
        // Whatever comes of it, they may take up room.
        file.bytes += bytes.len() as u64;
        let written = disk.append(&name, bytes).map_err(failing("writing"));
        let synced = written.and_then(|()| disk.sync(&name).map_err(failing("syncing")));
        if synced.is_err() {
            // Nobody knows what its end is like: the batch goes into another file, under the same numbers.
            self.open = None;
        }
        synced
    }

    fn begin(&mut self, disk: &mut dyn Disk, origin: Origin, bytes: &[u8]) -> Result<(), Trouble> {
        self.open = None;
        let name = segment::name(self.class, origin.number);
        let made = disk
            .create(&name, bytes)
            .map_err(failing("writing"))
            .and_then(|()| disk.sync(&name).map_err(failing("syncing")))
            .and_then(|()| disk.sync_folder().map_err(failing("syncing")));
        if made.is_err() {
            let _ = disk.remove(&name);
            return made;
        }
        let file = Segment { base: origin.number, bytes: bytes.len() as u64, end: None, spent: false };
        self.files.push_back(file);
        self.open = Some(origin);
        Ok(())
    }
}
