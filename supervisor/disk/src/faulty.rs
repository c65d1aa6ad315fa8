//! A disk in memory that forgets like a real one, and fails when it is told to.
//!
//! Duty: what is written is there at once, but stays through a power cut only after a sync; without one, a power cut
//! keeps as much of it as the test says, and perhaps garbage. Any operation can fail, half done.
//! Invariant: what was synced stays.

use std::collections::BTreeMap;
use std::io;

use crate::disk::Disk;

/// What comes when the operation of the given number is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It fails after some of it was done; everything after works.
    Fails,
    /// From here on nothing works: the power is gone.
    PowerCut,
}

/// What a power cut makes of that which was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsynced {
    Lost,
    /// All of it made it, as after a `kill -9`.
    Kept,
    /// Half of the bytes did, and no new name.
    Half,
    /// The length did, the bytes are zeros.
    Zeros,
    /// Each file has a fate of its own, drawn from this seed: bytes up to anywhere, then nothing, zeros or garbage.
    /// Changes of names are there up to any one of them.
    Mixed(u64),
}

/// A change of names that no sync of the folder has made lasting.
#[derive(Clone, Debug)]
enum Renaming {
    Made(String, usize),
    Renamed(String, String),
    Removed(String),
}

impl Renaming {
    fn apply(&self, names: &mut BTreeMap<String, usize>) {
        match self {
            Renaming::Made(name, place) => {
                names.insert(name.clone(), *place);
            }
            Renaming::Renamed(from, to) => {
                if let Some(place) = names.remove(from) {
                    names.insert(to.clone(), place);
                }
            }
            Renaming::Removed(name) => {
                names.remove(name);
            }
        }
    }
}

/// Good enough to choose fates (SplitMix64).
fn draw(seed: &mut u64, below: usize) -> usize {
    *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (*seed ^ (*seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb) >> 33;
    usize::try_from(mixed).unwrap_or_default() % below.max(1)
}

#[derive(Clone, Debug, Default)]
struct Content {
    now: Vec<u8>,
    synced: Vec<u8>,
}

#[derive(Clone, Debug, Default)]
pub struct Faulty {
    /// By name, as programs see it, and as it would be after a power cut.
    names: BTreeMap<String, usize>,
    synced_names: BTreeMap<String, usize>,
    /// From the second to the first.
    renamings: Vec<Renaming>,
    contents: Vec<Content>,
    pub operations: usize,
    /// Bytes given to files, for whoever counts what a deed costs.
    pub written: usize,
    /// What it says when asked for its free space; none is: plenty.
    pub free: Option<u64>,
    fate: Option<(usize, Fate)>,
    dead: bool,
}

impl Faulty {
    /// The operation of the given number from now on meets it.
    pub fn meet(&mut self, number: usize, fate: Fate) {
        self.fate = Some((self.operations + number, fate));
    }

    pub fn with_fate(number: usize, fate: Fate) -> Faulty {
        Faulty { fate: Some((number, fate)), ..Faulty::default() }
    }

    /// The power is gone.
    pub fn is_dead(&self) -> bool {
        self.dead
    }

    /// The disk as the next boot finds it.
    pub fn after_power_cut(&self, unsynced: Unsynced) -> Faulty {
        let mut disk = self.clone();
        let mut seed = match unsynced {
            Unsynced::Mixed(seed) => seed,
            _ => 0,
        };
        for content in &mut disk.contents {
            let common = content.now.iter().zip(&content.synced).take_while(|(a, b)| a == b).count();
            let tail = content.now.len() - common;
            match unsynced {
                Unsynced::Lost => content.now = content.synced.clone(),
                Unsynced::Kept => {}
                Unsynced::Half if tail > 0 => content.now.truncate(common + tail / 2),
                Unsynced::Zeros => content.now[common..].fill(0),
                Unsynced::Half => {}
                Unsynced::Mixed(_) => {
                    let from = common + draw(&mut seed, tail + 1);
                    match draw(&mut seed, 4) {
                        0 => content.now = content.synced.clone(),
                        1 => content.now.truncate(from),
                        2 => content.now[from..].fill(0),
                        _ => content.now[from..]
                            .iter_mut()
                            .for_each(|byte| *byte = byte.wrapping_mul(31).wrapping_add(7)),
                    }
                }
            }
            content.synced = content.now.clone();
        }
        if unsynced != Unsynced::Kept {
            disk.names = disk.synced_names.clone();
        }
        if let Unsynced::Mixed(_) = unsynced {
            let kept = draw(&mut seed, disk.renamings.len() + 1);
            disk.renamings[..kept].iter().for_each(|renaming| renaming.apply(&mut disk.names));
        }
        disk.renamings.clear();
        disk.synced_names = disk.names.clone();
        Faulty { fate: None, dead: false, operations: 0, ..disk }
    }

    pub fn damage(&mut self, name: &str, at: usize) {
        let place = self.names[name];
        let Content { now, synced } = &mut self.contents[place];
        now[at] ^= 0xff;
        synced.clone_from(now);
    }

    pub fn length(&self, name: &str) -> Option<usize> {
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

    fn change(&mut self, renaming: Renaming) {
        renaming.apply(&mut self.names);
        self.renamings.push(renaming);
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
        self.written += length;
        self.change(Renaming::Made(name.to_owned(), self.contents.len() - 1));
        done_or(fails)
    }

    fn append(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let fails = self.turn()?;
        let length = if fails { bytes.len() / 2 } else { bytes.len() };
        self.written += length;
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
            if !self.names.contains_key(from) {
                return Err(io::ErrorKind::NotFound.into());
            }
            self.change(Renaming::Renamed(from.to_owned(), to.to_owned()));
        }
        done_or(fails)
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        let fails = self.turn()?;
        if !fails && self.names.contains_key(name) {
            self.change(Renaming::Removed(name.to_owned()));
        }
        done_or(fails)
    }

    fn list(&mut self) -> io::Result<Vec<(String, u64)>> {
        if self.dead {
            return Err(io::Error::other("no power"));
        }
        Ok(self
            .names
            .iter()
            .map(|(name, place)| (name.clone(), self.contents[*place].now.len() as u64))
            .collect())
    }

    fn free(&mut self) -> io::Result<u64> {
        Ok(self.free.unwrap_or(u64::MAX))
    }

    fn sync_folder(&mut self) -> io::Result<()> {
        let fails = self.turn()?;
        if !fails {
            self.synced_names = self.names.clone();
            self.renamings.clear();
        }
        done_or(fails)
    }
}
