//! What has to outlive the daemon and the box: a log of notes, the newest of each kind counts.
//!
//! ```text
//! Whole --a write fails--> Doubtful --written anew--> Whole
//!   \--too long--> written anew --^
//! ```
//!
//! Duty: notes in and out, and the log's length. Not here: frames (`frame`), files (`disk`).
//! Invariants: a note that [`Ledger::put`] took stays, whatever happens after; one that it did not take may stay or
//! not, and the one before it counts until then; no other note is touched.

use std::collections::BTreeMap;
use std::io;

use hearth_core::{BootReason, DeviceRecord, Record};
use hearth_disk::Disk;
use hearth_disk::frame::{self, Magic};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The digit is the version: to be raised whenever a note's bytes change their meaning.
const MAGIC: &Magic = b"HRTHREC2";
const FILE: &str = "records";
/// Where a damaged file is kept for people to look at.
const ASIDE: &str = "records.bad";
/// Bytes of one note; the largest, a record with all its restarts, is a tenth of it.
const MAX_NOTE: usize = 16 << 10;
/// Bytes of notes that count no more, beside as many as those that do, before the file is written anew. Some hundred
/// restarts: flash is spared, and a start reads little.
const SLACK: usize = 64 << 10;

/// Why a note was not kept.
#[derive(Debug, Error)]
pub(crate) enum LedgerError {
    #[error("{step} fails")]
    Disk { step: &'static str, source: io::Error },
    #[error("it is too large")]
    TooLarge,
}

/// How the box was when it was last heard of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct BootNote {
    /// The kernel's number for this boot.
    pub(super) id: String,
    pub(super) failed_boots: u8,
    /// It came up well, or was stopped in order.
    pub(super) settled: bool,
    /// The daemon was stopped in order: the next one begins from nothing.
    pub(super) stopped: bool,
    /// Why the box came up this time.
    pub(super) came_up: BootReason,
    /// Why it comes up next, if it was made to.
    pub(super) next: Option<BootReason>,
}

#[derive(Serialize, Deserialize)]
enum Note {
    Workload(Box<Record>),
    Forgotten(String),
    Device(DeviceRecord),
    Boot(BootNote),
}

/// All that counts.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Kept {
    pub(super) records: BTreeMap<String, Record>,
    pub(super) device: Option<DeviceRecord>,
    pub(super) boot: Option<BootNote>,
}

/// What was wrong with the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Damage {
    /// The last write was cut short, as by a power cut; nothing that was kept is lost.
    Torn { bytes: usize },
    /// Bytes in the middle are not what was written. The file was copied aside.
    Holes { bytes: usize },
    /// It is of another version or something else altogether. It was put aside.
    Foreign,
}

#[derive(Debug)]
pub(super) struct Ledger {
    pub(super) kept: Kept,
    /// Of the file.
    length: usize,
    /// Of the file as it was when last written anew.
    least: usize,
    /// The file may end in half a frame, or in one that was never synced.
    doubtful: bool,
}

impl Ledger {
    pub(super) fn open(disk: &mut dyn Disk) -> Result<(Ledger, Option<Damage>), LedgerError> {
        let mut kept = Kept::default();
        let (bytes, damage) = match disk.read(FILE) {
            Ok(None) => (None, None),
            Ok(Some(bytes)) => {
                let damage = kept.take_all(&bytes);
                (Some(bytes), damage)
            }
            Err(error) if error.kind() == io::ErrorKind::FileTooLarge => (None, Some(Damage::Foreign)),
            Err(error) => return Err(at("reading")(error)),
        };
        match (&damage, bytes) {
            (Some(Damage::Foreign), _) => {
                disk.rename(FILE, ASIDE).and_then(|()| disk.sync_folder()).map_err(at("putting aside"))?;
            }
            // A copy: were it cut short here, a renamed one would be missed.
            (Some(Damage::Holes { .. }), Some(bytes)) => {
                disk.replace(ASIDE, &bytes).map_err(at("putting aside"))?;
            }
            (None, Some(bytes)) => {
                let length = bytes.len();
                return Ok((Ledger { kept, length, least: length, doubtful: false }, None));
            }
            _ => {}
        }
        let mut ledger = Ledger { kept, length: 0, least: 0, doubtful: true };
        ledger.write_anew(disk)?;
        Ok((ledger, damage))
    }

    pub(super) fn remember(&mut self, disk: &mut dyn Disk, record: &Record) -> Result<(), LedgerError> {
        self.kept.records.insert(record.name.clone(), record.clone());
        self.put(disk, &Note::Workload(Box::new(record.clone())))
    }

    pub(super) fn forget(&mut self, disk: &mut dyn Disk, name: &str) -> Result<(), LedgerError> {
        self.kept.records.remove(name);
        self.put(disk, &Note::Forgotten(name.to_owned()))
    }

    pub(super) fn remember_device(
        &mut self,
        disk: &mut dyn Disk,
        record: DeviceRecord,
    ) -> Result<(), LedgerError> {
        self.kept.device = Some(record);
        self.put(disk, &Note::Device(record))
    }

    pub(super) fn note_boot(&mut self, disk: &mut dyn Disk, boot: BootNote) -> Result<(), LedgerError> {
        self.kept.boot = Some(boot.clone());
        self.put(disk, &Note::Boot(boot))
    }

    fn put(&mut self, disk: &mut dyn Disk, note: &Note) -> Result<(), LedgerError> {
        if self.doubtful {
            return self.write_anew(disk);
        }
        let mut frame = Vec::new();
        push(&mut frame, note)?;
        if self.length + frame.len() > 2 * self.least + SLACK {
            return self.write_anew(disk);
        }
        // Until both calls are through, nobody knows what is there: after a sync that failed, the kernel may take
        // for written what is not.
        self.doubtful = true;
        disk.append(FILE, &frame).map_err(at("writing"))?;
        disk.sync(FILE).map_err(at("syncing"))?;
        self.doubtful = false;
        self.length += frame.len();
        Ok(())
    }

    fn write_anew(&mut self, disk: &mut dyn Disk) -> Result<(), LedgerError> {
        let mut bytes = MAGIC.to_vec();
        for record in self.kept.records.values() {
            push(&mut bytes, &Note::Workload(Box::new(record.clone())))?;
        }
        if let Some(device) = self.kept.device {
            push(&mut bytes, &Note::Device(device))?;
        }
        if let Some(boot) = &self.kept.boot {
            push(&mut bytes, &Note::Boot(boot.clone()))?;
        }
        self.doubtful = true;
        disk.replace(FILE, &bytes).map_err(at("writing anew"))?;
        self.doubtful = false;
        self.length = bytes.len();
        self.least = bytes.len();
        Ok(())
    }
}

impl Kept {
    fn take_all(&mut self, bytes: &[u8]) -> Option<Damage> {
        let Some(scan) = frame::scan(MAGIC, bytes, MAX_NOTE) else { return Some(Damage::Foreign) };
        let mut strange = 0;
        for payload in &scan.payloads {
            match postcard::from_bytes(payload) {
                Ok(note) => self.take(note),
                // Whole, and yet nothing that this version writes.
                Err(_) => strange += payload.len(),
            }
        }
        match (scan.holes + strange, scan.torn) {
            (0, 0) => None,
            (0, bytes) => Some(Damage::Torn { bytes }),
            (bytes, torn) => Some(Damage::Holes { bytes: bytes + torn }),
        }
    }

    fn take(&mut self, note: Note) {
        match note {
            Note::Workload(record) => {
                self.records.insert(record.name.clone(), *record);
            }
            Note::Forgotten(name) => {
                self.records.remove(&name);
            }
            Note::Device(device) => self.device = Some(device),
            Note::Boot(boot) => self.boot = Some(boot),
        }
    }
}

fn push(out: &mut Vec<u8>, note: &Note) -> Result<(), LedgerError> {
    let payload = postcard::to_allocvec(note).map_err(|_| LedgerError::TooLarge)?;
    if frame::push(out, &payload, MAX_NOTE) { Ok(()) } else { Err(LedgerError::TooLarge) }
}

fn at(step: &'static str) -> impl FnOnce(io::Error) -> LedgerError {
    move |source| LedgerError::Disk { step, source }
}

#[cfg(test)]
#[path = "ledger_tests.rs"]
mod tests;
