//! What happened, in files that `hearthctl replay` reads.
//!
//! ```text
//! Writing --full--> a new file, beginning with the state --> Writing
//!    \--a write fails--> Broken --later, beginning with the state--> Writing
//! ```
//!
//! Duty: events with their moments, before they are applied; a bounded number of files. Not here: what follows from
//! an event (`hearth-core`).
//! Invariant: each file replays by itself: it begins with a seed or a whole state, and has no gaps.
//! A `kill -9` loses nothing of it; a power cut loses what the kernel had not written yet, which nobody relies on:
//! what must stay is in the ledger.

use std::io::{self, ErrorKind};
use std::time::Duration;

use hearth_core::{Entry, Event, Moment, State};
use hearth_disk::Disk;
use hearth_disk::frame::{self, Magic};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The digit is the version: to be raised whenever an event's or the state's bytes change their meaning.
const MAGIC: &Magic = b"HRTHJNL6";
/// Newest first. Several, so that a daemon that crashes again and again does not wipe out how it began.
const FILES: [&str; 4] = ["journal", "journal.1", "journal.2", "journal.3"];
/// Bytes of one payload; the largest is the state with a hundred workloads.
const MAX_PAYLOAD: usize = 4 << 20;
/// After a failed write: a full disk is not made fuller at each event.
const AGAIN: Duration = Duration::from_secs(60);

#[derive(Debug, Error)]
pub(crate) enum JournalError {
    #[error("{step} fails")]
    Disk { step: &'static str, source: io::Error },
    #[error("an event is too large")]
    TooLarge,
}

/// Why a file cannot be replayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TapeError {
    #[error("expected a journal of this version of hearthd")]
    Foreign,
    #[error("expected a journal, found only the beginning of one")]
    Headless,
}

/// How a file begins.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Head {
    /// A daemon began.
    Seed(u64),
    /// An earlier file came before.
    State(Box<State>),
}

/// A file, read.
#[derive(Clone, Debug, PartialEq)]
pub struct Tape {
    pub head: Head,
    pub entries: Vec<Entry>,
    /// Bytes at the end that are no entry, such as one that was cut short.
    pub torn: usize,
}

#[derive(Debug)]
pub(super) struct Journal {
    length: usize,
    /// Bytes of one file.
    most: usize,
    /// No writing before this.
    broken: Option<Moment>,
    /// Kept, to be filled again.
    frame: Vec<u8>,
    payload: Vec<u8>,
}

/// An [`Entry`] by reference: its bytes are the same.
#[derive(Serialize)]
struct EntryOf<'e> {
    at: Moment,
    event: &'e Event,
}

impl Tape {
    pub fn read(bytes: &[u8]) -> Result<Tape, TapeError> {
        let (payloads, mut torn) =
            frame::until_damage(MAGIC, bytes, MAX_PAYLOAD).ok_or(TapeError::Foreign)?;
        let (head, rest) = payloads.split_first().ok_or(TapeError::Headless)?;
        let head = postcard::from_bytes(head).map_err(|_| TapeError::Foreign)?;
        let mut entries = Vec::with_capacity(rest.len());
        for (place, payload) in rest.iter().enumerate() {
            match postcard::from_bytes(payload) {
                Ok(entry) => entries.push(entry),
                // Whole, and yet nothing that this version writes: after a gap nothing replays.
                Err(_) => {
                    torn += rest[place..].iter().map(|payload| payload.len()).sum::<usize>();
                    break;
                }
            }
        }
        Ok(Tape { head, entries, torn })
    }

    /// Where the replay begins.
    pub fn start(&self) -> State {
        match &self.head {
            Head::Seed(seed) => State::new(*seed),
            Head::State(state) => (**state).clone(),
        }
    }
}

impl Journal {
    /// For a daemon that begins. `most` bytes are for all files together.
    pub(super) fn begin(disk: &mut dyn Disk, seed: u64, most: usize) -> (Journal, Result<(), JournalError>) {
        let mut journal = Journal {
            length: 0,
            most: most / FILES.len(),
            broken: None,
            frame: Vec::new(),
            payload: Vec::new(),
        };
        let begun = journal.rotate(disk, &Head::Seed(seed));
        if begun.is_err() {
            // The state is not far: with the first event it is tried again.
            journal.broken = Some(Moment::START);
        }
        (journal, begun)
    }

    /// `state` is that before the event. `None`: not tried, something failed lately.
    pub(super) fn note(
        &mut self,
        disk: &mut dyn Disk,
        at: Moment,
        event: &Event,
        state: &State,
    ) -> Option<Result<(), JournalError>> {
        if self.broken.is_some_and(|until| at < until) {
            return None;
        }
        let result = self.try_note(disk, at, event, state);
        self.broken = result.is_err().then(|| at.after(AGAIN));
        Some(result)
    }

    fn try_note(
        &mut self,
        disk: &mut dyn Disk,
        at: Moment,
        event: &Event,
        state: &State,
    ) -> Result<(), JournalError> {
        let mut frame = std::mem::take(&mut self.frame);
        frame.clear();
        let pushed = self.push(&mut frame, &EntryOf { at, event });
        let written = pushed.and_then(|()| {
            if self.broken.is_some() || self.length + frame.len() > self.most {
                self.rotate(disk, &Head::State(Box::new(state.clone())))?;
            }
            disk.append(FILES[0], &frame).map_err(failing("writing"))?;
            self.length += frame.len();
            Ok(())
        });
        self.frame = frame;
        written
    }

    /// Everything stays, through a power cut too.
    pub(super) fn sync(&mut self, disk: &mut dyn Disk) -> Option<Result<(), JournalError>> {
        self.broken.is_none().then(|| disk.sync(FILES[0]).map_err(failing("syncing")))
    }

    fn rotate(&mut self, disk: &mut dyn Disk, head: &Head) -> Result<(), JournalError> {
        for pair in FILES.windows(2).rev() {
            match disk.rename(pair[0], pair[1]) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(failing("putting aside")(error));
                }
                _ => {}
            }
        }
        let mut bytes = MAGIC.to_vec();
        self.push(&mut bytes, head)?;
        disk.create(FILES[0], &bytes).map_err(failing("writing"))?;
        // A state alone may fill a small file; events have their room beside it.
        self.length = 0;
        Ok(())
    }

    fn push(&mut self, out: &mut Vec<u8>, what: &impl Serialize) -> Result<(), JournalError> {
        let mut payload = std::mem::take(&mut self.payload);
        payload.clear();
        self.payload = postcard::to_extend(what, payload).map_err(|_| JournalError::TooLarge)?;
        if frame::push(out, &self.payload, MAX_PAYLOAD) { Ok(()) } else { Err(JournalError::TooLarge) }
    }
}

fn failing(step: &'static str) -> impl FnOnce(io::Error) -> JournalError {
    move |source| JournalError::Disk { step, source }
}

#[cfg(test)]
#[path = "journal_tests.rs"]
mod tests;
