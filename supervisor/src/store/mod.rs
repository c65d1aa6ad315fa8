//! What the daemon keeps on disk.
//!
//! | file | what |
//! |---|---|
//! | `ledger.rs` | records: what must not be lost |
//! | `journal.rs` | events: what happened, for replays |
//! | `boot.rs` | which boot this is, and why |
//!
//! Duty: one folder with all of it, for one daemon. Not here: what is worth keeping (`hearth-core` says so), files and
//! their checked pieces (`hearth-disk`).
//! Invariants: a daemon whose disk is broken runs all the same, and says so once. What is unreadable is put aside,
//! never in the way of a start.

mod boot;
mod journal;
mod ledger;

use std::path::{Path, PathBuf};

use hearth_config::device::Store as StoreConfig;
use hearth_core::{Boot, BootReason, DeviceRecord, Event, Moment, Record, State};
use hearth_disk::{Disk, Folder, frame};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::wording::one_line;
use journal::Journal;
use ledger::{BootNote, Damage, Ledger, LedgerError};

pub(crate) use hearth_disk::frame::Magic;
pub use journal::{Head, Tape, TapeError};

/// Bytes of one sealed thing.
const MAX_SEALED: usize = 4 << 10;

/// A file with one small thing in it, which [`unseal`] takes back whole or not at all.
pub(crate) fn seal(magic: &Magic, what: &impl Serialize) -> Option<Vec<u8>> {
    let payload = postcard::to_allocvec(what).ok()?;
    let mut bytes = magic.to_vec();
    frame::push(&mut bytes, &payload, MAX_SEALED).then_some(bytes)
}

pub(crate) fn unseal<T: DeserializeOwned>(magic: &Magic, bytes: &[u8]) -> Option<T> {
    match frame::until_damage(magic, bytes, MAX_SEALED)? {
        (payloads, 0) => postcard::from_bytes(payloads.first()?).ok(),
        _ => None,
    }
}

/// The store of one daemon.
#[derive(Debug)]
pub struct Store {
    folder: PathBuf,
    /// None: it could not be used.
    open: Option<Open>,
    /// What people have to know of it.
    words: Vec<String>,
    /// A failure was told, and no success since.
    records_fail: bool,
    journal_fails: bool,
}

#[derive(Debug)]
struct Open {
    disk: Folder,
    ledger: Ledger,
    journal: Journal,
    boot: BootNote,
}

/// What earlier daemons left.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Left {
    pub boot: Boot,
    pub device: DeviceRecord,
    pub records: Vec<Record>,
}

impl Store {
    /// The core of this daemon begins with `seed`. `reset`: the watchdog's own word that it reset the box, which kernels
    /// without its file in /sys do not give.
    pub fn open(config: &StoreConfig, seed: u64, reset: bool) -> (Store, Left) {
        let folder = config.folder.as_path();
        let mut evidence = boot::Evidence::gather(Path::new("/"));
        evidence.watchdog |= reset;
        let mut store = Store {
            folder: folder.to_owned(),
            open: None,
            words: Vec::new(),
            records_fail: false,
            journal_fails: false,
        };
        let opening = || {
            let at = |source| LedgerError::Disk { step: "opening", source };
            let mut disk = Folder::open(folder).map_err(at)?;
            let (ledger, damage) = Ledger::open(&mut disk)?;
            Ok((disk, ledger, damage))
        };
        let (mut disk, mut ledger, damage) = match opening() {
            Ok(opened) => opened,
            Err(error) => {
                store.records(&Err(error));
                let (boot, _) = boot::weigh(None, &evidence);
                return (store, Left { boot, ..Left::default() });
            }
        };
        if let Some(damage) = damage {
            store.words.push(format!("store: {}: {}", folder.join("records").display(), told(damage)));
        }
        let (boot, note) = boot::weigh(ledger.kept.boot.clone(), &evidence);
        let left = Left {
            boot,
            device: ledger.kept.device.unwrap_or_default(),
            records: ledger.kept.records.values().cloned().collect(),
        };
        let noted = ledger.note_boot(&mut disk, note.clone());
        store.records(&noted);
        let (journal, begun) =
            Journal::begin(&mut disk, seed, usize::try_from(config.journal_mib << 20).unwrap_or(usize::MAX));
        store.open = Some(Open { disk, ledger, journal, boot: note });
        store.journal(&begun);
        (store, left)
    }

    /// What people have to know of it since the last call, if anything.
    pub fn words(&mut self) -> impl Iterator<Item = String> {
        self.words.drain(..)
    }

    /// Before the event is applied to `state`.
    pub fn note(&mut self, at: Moment, event: &Event, state: &State) {
        let Some(open) = &mut self.open else { return };
        if let Some(noted) = open.journal.note(&mut open.disk, at, event, state) {
            self.journal(&noted);
        }
    }

    pub fn remember(&mut self, record: &Record) {
        self.keep(|ledger, disk, _| ledger.remember(disk, record));
    }

    pub fn remember_device(&mut self, record: DeviceRecord) {
        self.keep(|ledger, disk, _| ledger.remember_device(disk, record));
    }

    pub fn forget(&mut self, name: &str) {
        self.keep(|ledger, disk, _| ledger.forget(disk, name));
    }

    /// This boot counts as one that came up well.
    pub fn boot_settled(&mut self) {
        self.keep_boot(|boot| {
            boot.settled = true;
            boot.failed_boots = 0;
        });
    }

    /// The daemon leaves in order, all its machines with it. `next`: and the box boots again.
    pub fn leave(&mut self, next: Option<BootReason>) {
        self.keep_boot(|boot| {
            boot.stopped = true;
            // A box that heals itself by a reboot again and again is not well.
            boot.settled |= next != Some(BootReason::Healing);
            boot.next = next;
        });
        self.pause();
    }

    /// Nothing is in the kernel's hands any more: another daemon takes over.
    pub fn pause(&mut self) {
        let Some(open) = &mut self.open else { return };
        if let Some(synced) = open.journal.sync(&mut open.disk) {
            self.journal(&synced);
        }
    }

    fn keep_boot(&mut self, change: impl FnOnce(&mut BootNote)) {
        self.keep(|ledger, disk, boot| {
            change(boot);
            ledger.note_boot(disk, boot.clone())
        });
    }

    fn keep(
        &mut self,
        deed: impl FnOnce(&mut Ledger, &mut dyn Disk, &mut BootNote) -> Result<(), LedgerError>,
    ) {
        let Some(open) = &mut self.open else { return };
        let kept = deed(&mut open.ledger, &mut open.disk, &mut open.boot);
        self.records(&kept);
    }

    fn records(&mut self, result: &Result<(), LedgerError>) {
        let words = result.as_ref().err().map(|error| one_line(error));
        let folder = self.folder.display();
        match (words, self.records_fail) {
            (Some(words), false) => {
                self.words
                    .push(format!("ALARM: store: {folder}: {words}; what is decided now may be forgotten"));
            }
            (None, true) => self.words.push(format!("store: {folder}: works again")),
            _ => {}
        }
        self.records_fail = result.is_err();
    }

    fn journal(&mut self, result: &Result<(), journal::JournalError>) {
        let words = result.as_ref().err().map(|error| one_line(error));
        let folder = self.folder.display();
        match (words, self.journal_fails) {
            (Some(words), false) => {
                self.words.push(format!("store: {folder}: the journal has a gap: {words}"));
            }
            (None, true) => self.words.push(format!("store: {folder}: the journal goes on")),
            _ => {}
        }
        self.journal_fails = result.is_err();
    }
}

fn told(damage: Damage) -> String {
    match damage {
        Damage::Torn { bytes } => format!("its last write was cut short; {bytes} bytes are dropped"),
        Damage::Holes { bytes } => format!("{bytes} bytes are damaged and dropped; a copy is in records.bad"),
        Damage::Foreign => {
            "it is of another version or damaged; begun anew, it is now records.bad".to_owned()
        }
    }
}
