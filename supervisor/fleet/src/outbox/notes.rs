//! What is done with, and what was lost: a log of notes, the last one counts.
//!
//! Duty: notes in and out. Not here: when one is due. Invariant: a note that is lost, or older than what happened, costs
//! a repetition and no record.

use std::collections::VecDeque;

use hearth_disk::Disk;
use hearth_disk::frame::{self, Magic};
use serde::{Deserialize, Serialize};

use super::kinds::{Class, Trouble, failing};
use super::tell;

const MAGIC: &Magic = b"HRTHCUR1";
const FILE: &str = "cursor";
const ASIDE: &str = "cursor.bad";
const MAX_NOTE: usize = 128;
/// Of the file, before it is begun anew: some hundred notes for each time that it is synced.
const MOST: u64 = 16 << 10;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kept {
    /// By class: records before these numbers are done with.
    pub(super) cursors: [u64; Class::COUNT],
    pub(super) dropped: [u64; Class::COUNT],
}

#[derive(Debug)]
pub(super) struct Notes {
    pub(super) kept: Kept,
    length: u64,
    /// Something may be at its end that hides what is written behind it.
    doubtful: bool,
}

impl Notes {
    pub(super) fn open(disk: &mut dyn Disk, troubles: &mut VecDeque<Trouble>) -> Notes {
        let mut notes = Notes { kept: Kept::default(), length: 0, doubtful: true };
        let bytes = match disk.read(FILE) {
            Ok(None) => return notes,
            Ok(Some(bytes)) => bytes,
            Err(error) => {
                tell(troubles, failing("reading")(error));
                Vec::new()
            }
        };
        match frame::scan(MAGIC, &bytes, MAX_NOTE) {
            Some(scan) => {
                notes.doubtful = scan.holes + scan.torn > 0;
                notes.length = bytes.len() as u64;
                let last = scan.payloads.iter().rev().find_map(|payload| postcard::from_bytes(payload).ok());
                notes.kept = last.unwrap_or_default();
            }
            // It is only ever renamed into its place whole.
            None => {
                if let Err(error) = disk.rename(FILE, ASIDE) {
                    tell(troubles, failing("putting aside")(error));
                }
                tell(troubles, Trouble::PutAside { name: FILE.to_owned(), aside: ASIDE });
            }
        }
        notes
    }

    /// Says how many bytes it took.
    pub(super) fn put(&mut self, disk: &mut dyn Disk, kept: Kept) -> Result<u64, Trouble> {
        let payload = postcard::to_allocvec(&kept).unwrap_or_default();
        let mut bytes = MAGIC.to_vec();
        // It fits: eight numbers of ten bytes at most.
        let _ = frame::push(&mut bytes, &payload, MAX_NOTE);
        let anew = self.doubtful || self.length > MOST;
        self.doubtful = true;
        if anew {
            disk.replace(FILE, &bytes).map_err(failing("writing"))?;
            self.length = bytes.len() as u64;
        } else {
            bytes.drain(..MAGIC.len());
            disk.append(FILE, &bytes).map_err(failing("writing"))?;
            self.length += bytes.len() as u64;
        }
        self.doubtful = false;
        self.kept = kept;
        Ok(bytes.len() as u64)
    }
}
