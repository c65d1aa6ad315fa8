//! What has to outlive the daemon: the accepted desired state, how far versions got, which commands began.
//!
//! | file | what |
//! |---|---|
//! | `tree` | versions, records of commands, keys; written anew as a whole |
//! | `desired` | the last desired state that was accepted |
//! | `desired.old` | the one before |
//!
//! Duty: read and write them; what a daemon begins with. Not here: what follows.
//! Invariant: what is unreadable is none, and is put aside. A desired state with which the daemon ended again and again
//! gives way to the one before; where there is none, the box does without until its next boot.

use std::io;

use hearth_disk::Disk;
use hearth_disk::frame::{self, Magic};
use serde::{Deserialize, Serialize};

use super::MAX_TRIES;
use super::desired::Desired;
use super::executing::Execution;
use crate::sign::{Envelope, Keyring, MAX_ENVELOPE, Verified, rotate};
use crate::topics::Topics;

const MAGIC: &Magic = b"HRTHTRE1";
const FILE: &str = "tree";
const ASIDE: &str = "tree.bad";
const DESIRED: &str = "desired";
const BEFORE: &str = "desired.old";
/// Bytes of the file: records of commands, and an envelope.
const MAX_KEPT: usize = MAX_ENVELOPE + (256 << 10);
/// Envelopes of keys that are remembered: each is named by the one before.
const MAX_ROTATIONS: usize = 8;

/// How often a daemon began with something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Trying {
    payload: u64,
    pub(super) tries: u8,
    /// Of the box: in another one it may have been the power that went.
    boot: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kept {
    /// The version that was accepted last.
    pub(super) floor: u64,
    /// Messages that need not be looked at again.
    pub(super) accepted_payload: Option<u64>,
    pub(super) rejected_payload: Option<u64>,
    /// A message that is being taken in, or was lately.
    pub(super) trying: Option<Trying>,
    pub(super) executions: Vec<Execution>,
    /// Commands that were issued then or earlier may have been forgotten.
    pub(super) issued_floor: u64,
    /// Of the file's keys, on which the rotations build.
    base: u64,
    rotations: Vec<String>,
}

/// What a daemon begins with.
#[derive(Debug, Default)]
pub struct Opening {
    pub(super) kept: Kept,
    pub desired: Option<Desired>,
    /// Why not the last one.
    pub words: Option<String>,
    /// Names that both sides have; the daemon finds them.
    pub conflicts: Vec<String>,
}

impl Opening {
    /// Counts this start, until the daemon has lived for a while.
    pub fn read(disk: &mut dyn Disk, boot: &str) -> Opening {
        let mut kept = Kept::read(disk);
        let mut words = None;
        let mut desired = read_desired(disk, DESIRED);
        if let Some(last) = &desired {
            let payload = last.payload();
            if kept.tries(payload, boot) >= MAX_TRIES {
                words = Some(poison());
                kept.rejected_payload = Some(payload);
                kept.accepted_payload = None;
                desired = read_desired(disk, BEFORE).filter(|before| before.payload() != payload);
                if desired.is_some() {
                    kept.trying = None;
                    // If this fails, the next start comes to the same.
                    let _ = disk.rename(BEFORE, DESIRED).and_then(|()| disk.sync_folder());
                }
            } else {
                kept.begin(payload, boot);
            }
            let _ = kept.write(disk);
        }
        Opening { kept, desired, words, conflicts: Vec::new() }
    }
}

impl Kept {
    fn read(disk: &mut dyn Disk) -> Kept {
        let bytes = disk.read(FILE).ok().flatten();
        let Some(bytes) = bytes else { return Kept::default() };
        let payloads = frame::until_damage(MAGIC, &bytes, MAX_KEPT).map(|(payloads, _)| payloads);
        let kept = payloads.and_then(|payloads| postcard::from_bytes(payloads.first()?).ok());
        kept.unwrap_or_else(|| {
            let _ = disk.rename(FILE, ASIDE);
            Kept::default()
        })
    }

    /// How often this was begun in this boot of the box, and not lived through.
    pub(super) fn tries(&self, payload: u64, boot: &str) -> u8 {
        let of = |trying: &&Trying| trying.payload == payload && trying.boot == boot;
        self.trying.as_ref().filter(of).map_or(0, |trying| trying.tries)
    }

    pub(super) fn begin(&mut self, payload: u64, boot: &str) {
        let tries = self.tries(payload, boot).saturating_add(1);
        self.trying = Some(Trying { payload, tries, boot: boot.to_owned() });
    }

    pub(super) fn write(&self, disk: &mut dyn Disk) -> io::Result<()> {
        let payload = postcard::to_allocvec(self).map_err(io::Error::other)?;
        replace(disk, FILE, &payload)
    }

    /// The keys that count now.
    pub(super) fn keyring(&self, of_file: &Keyring, topics: &Topics) -> Keyring {
        let mut keyring = of_file.clone();
        if self.base != base(of_file) {
            // Somebody at the box named others: that is where it begins anew.
            return keyring;
        }
        for text in &self.rotations {
            let next =
                Envelope::read(text.as_bytes()).and_then(|envelope| rotate(&keyring, envelope, topics));
            match next {
                Ok(next) => keyring = next,
                Err(_) => break,
            }
        }
        keyring
    }

    pub(super) fn trust(&mut self, of_file: &Keyring, envelope: String) {
        if self.base != base(of_file) {
            self.base = base(of_file);
            self.rotations.clear();
        }
        self.rotations.push(envelope);
        // Whoever changes keys so often writes them into the file now and then.
        if self.rotations.len() > MAX_ROTATIONS {
            self.rotations.truncate(MAX_ROTATIONS);
        }
    }
}

pub(super) fn poison() -> String {
    format!("the daemon ended {MAX_TRIES} times while it took this in")
}

/// FNV-1a: compared with itself over versions of this program.
pub(super) fn digest(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

fn base(keyring: &Keyring) -> u64 {
    let (operate, release) = (&keyring.operate, &keyring.release);
    let words = [operate.words(), &["/".to_owned()], release.words()].concat().join(" ");
    digest(format!("{words} {} {}", operate.threshold(), release.threshold()).as_bytes())
}

fn read_desired(disk: &mut dyn Disk, name: &str) -> Option<Desired> {
    let bytes = disk.read(name).ok().flatten()?;
    let (payloads, _) = frame::until_damage(MAGIC, &bytes, MAX_KEPT)?;
    let (payload, text): (u64, String) = postcard::from_bytes(payloads.first()?).ok()?;
    Desired::read(Verified::of_store(text)?, payload).ok()
}

pub(super) fn write_desired(disk: &mut dyn Disk, desired: &Desired) -> io::Result<()> {
    if let Some(bytes) = disk.read(DESIRED)? {
        disk.replace(BEFORE, &bytes)?;
    }
    let payload = postcard::to_allocvec(&(desired.payload(), desired.text())).map_err(io::Error::other)?;
    replace(disk, DESIRED, &payload)
}

fn replace(disk: &mut dyn Disk, name: &str, payload: &[u8]) -> io::Result<()> {
    let mut bytes = MAGIC.to_vec();
    if !frame::push(&mut bytes, payload, MAX_KEPT) {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    disk.replace(name, &bytes)
}
