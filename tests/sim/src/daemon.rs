//! One life of the fake daemon: the real core, its journal, and what is known of it from outside.
//!
//! Duty: feed the core, keep the journal, replay it. Not here: carrying actions out (`world`).
//! Invariant: whatever the core was told is in the journal, in order; a life ends with its replay.

use hearth_core::{Actions, Entry, Event, FixedLadder, Moment, Phase, State, replay, replay_from};

use crate::trouble::Trouble;
use crate::wishes::{SUBSYSTEMS, Wishes};

/// After so many entries the state is kept, and what follows is replayed from there as well.
const CHECKPOINT: usize = 300;
/// Entries of a journal that are also written down and read back, torn tail included: the rest is replayed from memory.
const WRITTEN: usize = 2_000;

#[derive(Debug)]
pub(crate) struct Daemon {
    /// Which one it is. Words for another one are lost.
    pub(crate) life: u32,
    seed: u64,
    pub(crate) core: State,
    /// What the core takes for the time.
    pub(crate) clock: Moment,
    journal: Vec<Entry>,
    /// By place in the journal, where there were any.
    acted: Vec<(usize, Actions)>,
    checkpoint: Option<Vec<u8>>,
    /// What it was told of people's wishes.
    pub(crate) known: Wishes,
    /// When each critical subsystem last spoke.
    pub(crate) alive: [Moment; SUBSYSTEMS.len()],
    pub(crate) timely_since: Moment,
}

impl Daemon {
    pub(crate) fn new(life: u32, seed: u64, now: Moment, known: Wishes) -> Daemon {
        Daemon {
            life,
            seed,
            core: State::new(seed),
            clock: Moment::START,
            journal: Vec::new(),
            acted: Vec::new(),
            checkpoint: None,
            known,
            alive: [now; SUBSYSTEMS.len()],
            timely_since: now,
        }
    }

    pub(crate) fn is_up(&self) -> bool {
        !matches!(self.core.phase(), Phase::Opening)
    }

    pub(crate) fn feed(&mut self, at: Moment, event: Event) -> Actions {
        if self.journal.len() == CHECKPOINT {
            self.checkpoint = postcard::to_allocvec(&self.core).ok();
        }
        self.journal.push(Entry { at, event: event.clone() });
        self.clock = self.clock.max(at);
        let actions = self.core.step(at, event);
        if !actions.is_empty() {
            self.acted.push((self.journal.len() - 1, actions.clone()));
        }
        actions
    }

    /// Whether the journal leads to the same state by the same actions.
    pub(crate) fn replays(&self) -> Result<(), Trouble> {
        let differs = |what| Trouble::ReplayDiffers { entries: self.journal.len(), what };
        let mut place = 0;
        let mut acted = self.acted.iter();
        let mut same = true;
        let state = replay(self.seed, self.journal.iter().cloned(), |_, actions, _| {
            if !actions.is_empty() {
                same &= acted.next().is_some_and(|(at, before)| *at == place && before == actions);
            }
            place += 1;
        });
        if !same || acted.next().is_some() {
            return Err(differs("other actions"));
        }
        if state != self.core {
            return Err(differs("another state"));
        }
        self.replays_from_checkpoint().map_err(differs)?;
        self.reads_back().map_err(differs)
    }

    fn replays_from_checkpoint(&self) -> Result<(), &'static str> {
        let Some(bytes) = self.checkpoint.as_ref().filter(|_| self.journal.len() <= WRITTEN) else {
            return Ok(());
        };
        let state = postcard::from_bytes(bytes).map_err(|_| "a checkpoint that cannot be read")?;
        let rest = self.journal[CHECKPOINT..].iter().cloned();
        let state = replay_from(state, &FixedLadder, rest, |_, _, _| {});
        if state == self.core { Ok(()) } else { Err("another state from its checkpoint") }
    }

    /// Likewise, had its last entry not been written.
    pub(crate) fn replays_without_last(&self) -> Result<(), Trouble> {
        let shorter = self.journal.len().saturating_sub(1);
        let state = replay(self.seed, self.journal[..shorter].iter().cloned(), |_, _, _| {});
        let what = "another state";
        if state == self.core { Ok(()) } else { Err(Trouble::ReplayDiffers { entries: shorter, what }) }
    }

    /// Whether a journal that was torn in the middle of an entry reads as all that stands before it, and a state as
    /// itself.
    fn reads_back(&self) -> Result<(), &'static str> {
        let some = &self.journal[..self.journal.len().min(WRITTEN)];
        let mut bytes = Vec::new();
        let mut ends = Vec::new();
        for entry in some {
            let entry = postcard::to_allocvec(entry).map_err(|_| "an entry that cannot be written")?;
            bytes.extend(entry);
            ends.push(bytes.len());
        }
        let torn = bytes.len().saturating_sub(1);
        let mut rest = &bytes[..torn];
        let mut read = 0;
        while let Ok((entry, more)) = postcard::take_from_bytes::<Entry>(rest) {
            if some.get(read) != Some(&entry) {
                return Err("another entry");
            }
            read += 1;
            rest = more;
        }
        if read != ends.iter().filter(|end| **end <= torn).count() {
            return Err("a journal that cannot be read to its torn end");
        }
        let written = postcard::to_allocvec(&self.core).map_err(|_| "a state that cannot be written")?;
        let state: State = postcard::from_bytes(&written).map_err(|_| "a state that cannot be read")?;
        if state == self.core { Ok(()) } else { Err("a state that reads as another one") }
    }
}
