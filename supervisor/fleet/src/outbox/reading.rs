//! Records out of files, one file at a time.
//!
//! Duty: the next record of a class that is in a file. Not here: which records are wanted (`queue`).
//! Invariant: a file is read up to its first damage; what cannot be read is put aside and told. One file is in memory.

use std::collections::VecDeque;

use hearth_disk::Disk;
use hearth_disk::frame::{HEADER, frame_at};

use super::kinds::{Class, Figures, Trouble};
use super::record::{MAX_PAYLOAD, Origin, Record};
use super::segment::{self, Beginning, Segment};
use super::tell;

/// The file that is being read.
#[derive(Debug)]
struct Loaded {
    base: u64,
    generation: u64,
    origin: Origin,
    bytes: Vec<u8>,
    /// The next frame.
    at: usize,
    /// The number after the last record so far.
    end: u64,
}

#[derive(Debug)]
pub(super) struct Reading {
    class: Class,
    loaded: Option<Loaded>,
}

/// Whom a read tells.
pub(super) struct Told<'t> {
    pub(super) figures: &'t mut Figures,
    pub(super) troubles: &'t mut VecDeque<Trouble>,
}

impl Reading {
    pub(super) fn new(class: Class) -> Reading {
        Reading { class, loaded: None }
    }

    /// Reads anew from wherever somebody wants.
    pub(super) fn forget(&mut self) {
        self.loaded = None;
    }

    /// The first record with a number from `from` on and before `until`, with its generation.
    pub(super) fn next(
        &mut self,
        disk: &mut dyn Disk,
        files: &mut VecDeque<Segment>,
        from: u64,
        until: u64,
        told: &mut Told<'_>,
    ) -> Option<(u64, Record<'_>)> {
        let found = loop {
            let place = pick(files, from, until)?;
            let file = &mut files[place];
            if self.loaded.as_ref().is_none_or(|loaded| loaded.base != file.base)
                && !self.load(disk, file, told)
            {
                files.remove(place);
                continue;
            }
            let loaded = self.loaded.as_mut()?;
            if let Some(found) = loaded.find(from, file.end) {
                break found;
            }
            let name = || segment::name(self.class, file.base);
            if loaded.bytes.len() as u64 != file.bytes
                && let Ok(Some(bytes)) = disk.read(&name())
                && bytes.len() > loaded.bytes.len()
            {
                // It was written to since.
                loaded.bytes = bytes;
                continue;
            }
            file.spent = true;
            if file.end.is_none() {
                file.end = Some(loaded.end);
                let bytes = (loaded.bytes.len() - loaded.at) as u64;
                if bytes > 0 {
                    told.figures.damaged_bytes = told.figures.damaged_bytes.saturating_add(bytes);
                    tell(told.troubles, Trouble::Damaged { name: name(), bytes });
                }
            }
        };
        let loaded = self.loaded.as_mut()?;
        let payload = frame_at(&loaded.bytes, found, MAX_PAYLOAD)?;
        let record = Record::decode(loaded.origin, payload).filter(|record| record.number < until)?;
        loaded.at = found + HEADER + payload.len();
        loaded.end = record.number.saturating_add(1);
        Some((loaded.generation, record))
    }

    /// Whether it could be read; if not, it is not there any more.
    fn load(&mut self, disk: &mut dyn Disk, file: &Segment, told: &mut Told<'_>) -> bool {
        self.loaded = None;
        let name = segment::name(self.class, file.base);
        let bytes = match disk.read(&name) {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return false,
            Err(_) => {
                segment::put_aside(disk, &name, told.troubles);
                return false;
            }
        };
        match segment::begin(&bytes, self.class, file.base) {
            Beginning::Good(head, at) => {
                let (generation, origin) = (head.generation, head.origin());
                self.loaded = Some(Loaded { base: file.base, generation, origin, bytes, at, end: file.base });
            }
            Beginning::Torn => {
                told.figures.damaged_bytes = told.figures.damaged_bytes.saturating_add(file.bytes);
                // Whoever finds it again does the same.
                let _ = disk.remove(&name);
            }
            Beginning::Foreign => segment::put_aside(disk, &name, told.troubles),
        }
        self.loaded.is_some()
    }
}

impl Loaded {
    /// Where the first record from `from` on is. Goes past those before.
    fn find(&mut self, from: u64, end: Option<u64>) -> Option<usize> {
        while let Some(payload) = frame_at(&self.bytes, self.at, MAX_PAYLOAD) {
            let record = Record::decode(self.origin, payload)?;
            if end.is_some_and(|end| record.number >= end) {
                return None;
            }
            if record.number >= from {
                return Some(self.at);
            }
            self.at += HEADER + payload.len();
            self.end = record.number.saturating_add(1);
        }
        None
    }
}

/// The records of a file that count, from a number on; for whoever gives it up.
pub(super) fn count(disk: &mut dyn Disk, class: Class, file: &Segment, from: u64) -> u64 {
    let mut told = Told { figures: &mut Figures::default(), troubles: &mut VecDeque::new() };
    let mut reading = Reading::new(class);
    if !reading.load(disk, file, &mut told) {
        return 0;
    }
    let Some(loaded) = &mut reading.loaded else { return 0 };
    let mut records = 0;
    let mut from = from;
    while loaded.find(from, file.end).is_some() {
        records += 1;
        let Some(payload) = frame_at(&loaded.bytes, loaded.at, MAX_PAYLOAD) else { break };
        let Some(record) = Record::decode(loaded.origin, payload) else { break };
        from = record.number.saturating_add(1);
    }
    records
}

/// The first file that may hold such a record.
fn pick(files: &VecDeque<Segment>, from: u64, until: u64) -> Option<usize> {
    let mut followers = files.iter().skip(1);
    files.iter().position(|file| {
        let follower = followers.next().map_or(u64::MAX, |next| next.base);
        !file.spent && file.base < until && follower > from && file.end.is_none_or(|end| end > from)
    })
}
