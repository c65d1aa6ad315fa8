//! A disk in memory that forgets like a real one, and fails when it is told to.
//!
//! Duty: what is written is there at once, but stays through a power cut only after a sync; without one, a power cut
//! keeps as much of it as the test says, and perhaps garbage. Any operation can fail, half done.
//! Invariant: what was synced stays.

use std::collections::BTreeMap;
use std::io;

use super::disk::Disk;

/// What comes when the operation of the given number is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It fails after some of it was done; everything after works.
    Fails,
    /// From here on nothing works: the power is gone.
    PowerCut,
}

/// What a power cut makes of that which was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unsynced {
    Lost,
    /// All of it made it, as after a `kill -9`.
    Kept,
    /// Half of the bytes did, and no new name.
    Half,
    /// The length did, the bytes are zeros.
    Zeros,
}

#[derive(Clone, Debug, Default)]
struct Content {
    now: Vec<u8>,
    synced: Vec<u8>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Faulty {
    /// By name, as programs see it, and as it would be after a power cut.
    names: BTreeMap<String, usize>,
    synced_names: BTreeMap<String, usize>,
    contents: Vec<Content>,
    pub(super) operations: usize,
    fate: Option<(usize, Fate)>,
    dead: bool,
}

impl Faulty {
    pub(super) fn with_fate(number: usize, fate: Fate) -> Faulty {
        Faulty { fate: Some((number, fate)), ..Faulty::default() }
    }

    /// The disk as the next boot finds it.
    pub(super) fn after_power_cut(&self, unsynced: Unsynced) -> Faulty {
        let mut disk = self.clone();
        for content in &mut disk.contents {
            let common = content.now.iter().zip(&content.synced).take_while(|(a, b)| a == b).count();
            let tail = content.now.len() - common;
            match unsynced {
                Unsynced::Lost => content.now = content.synced.clone(),
                Unsynced::Kept => {}
                Unsynced::Half if tail > 0 => content.now.truncate(common + tail / 2),
                Unsynced::Zeros => content.now[common..].fill(0),
                Unsynced::Half => {}
            }
            content.synced = content.now.clone();
        }
        if unsynced != Unsynced::Kept {
            disk.names = disk.synced_names.clone();
        }
        disk.synced_names = disk.names.clone();
        Faulty { fate: None, dead: false, operations: 0, ..disk }
    }

    pub(super) fn damage(&mut self, name: &str, at: usize) {
        let place = self.names[name];
        let Content { now, synced } = &mut self.contents[place];
        now[at] ^= 0xff;
        synced.clone_from(now);
    }

    pub(super) fn length(&self, name: &str) -> Option<usize> {
        self.names.get(name).map(|place| self.contents[*place].now.len())
    }

    /// Whether this operation is to fail, half done.
    fn turn(&mut self) -> io::Result<bool> {
        if self.dead {
            return Err(io::Error::other("no power"));
        }
        self.operations += 1;
        Ok(match self.fate {
            Some((number, fate)) if number == self.operations => {
                self.dead = fate == Fate::PowerCut;
                true
            }
            _ => false,
        })
    }

    fn content(&mut self, name: &str) -> io::Result<&mut Content> {
        let place = *self.names.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(&mut self.contents[place])
    }
}

fn done_or(fails: bool) -> io::Result<()> {
    if fails { Err(io::Error::other("input/output error")) } else { Ok(()) }
}

impl Disk for Faulty {
    fn read(&mut self, name: &str) -> io::Result<Option<Vec<u8>>> {
        Ok(self.names.get(name).map(|place| self.contents[*place].now.clone()))
    }

    fn create(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let fails = self.turn()?;
        let length = if fails { bytes.len() / 2 } else { bytes.len() };
        self.contents.push(Content { now: bytes[..length].to_vec(), synced: Vec::new() });
        self.names.insert(name.to_owned(), self.contents.len() - 1);
        done_or(fails)
    }

    fn append(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let fails = self.turn()?;
        let length = if fails { bytes.len() / 2 } else { bytes.len() };
        self.content(name)?.now.extend_from_slice(&bytes[..length]);
        done_or(fails)
    }

    fn sync(&mut self, name: &str) -> io::Result<()> {
        let fails = self.turn()?;
        let content = self.content(name)?;
        if !fails {
            content.synced = content.now.clone();
        }
        done_or(fails)
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        let fails = self.turn()?;
        if !fails {
            let place = self.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
            self.names.insert(to.to_owned(), place);
        }
        done_or(fails)
    }

    fn sync_folder(&mut self) -> io::Result<()> {
        let fails = self.turn()?;
        if !fails {
            self.synced_names = self.names.clone();
        }
        done_or(fails)
    }
}
