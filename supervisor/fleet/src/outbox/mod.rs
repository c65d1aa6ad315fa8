//! What must not be lost, until a broker has it.
//!
//! | file | what |
//! |---|---|
//! | `kinds.rs` | classes, limits, figures, troubles |
//! | `record.rs` | a record's bytes |
//! | `segment.rs` | files of records: their names and heads |
//! | `queue.rs` | the records of one class: in memory, in files, on their way |
//! | `reading.rs` | records out of files, one file at a time |
//! | `room.rs` | what gives way when there is no room |
//! | `notes.rs` | what is done with, and what was lost |
//!
//! ```text
//! a record:  Held --batch--> Written --taken--> Flying --acknowledged--> Done
//!              \--taken--> Flying --acknowledged--> Done, and no file ever had it
//!                            \--a session begins--> Held or Written, with the same id
//! ```
//!
//! Duty: keep records in order by class, hand them out, forget those that arrived. Not here: what is in them, brokers,
//! clocks, files themselves (`hearth-disk`).
//! Invariants: a record that was called kept is handed out until it is acknowledged, expires, or gives way and is
//! counted. A record has one id, whoever hands it out and however often; no other ever gets it. Whatever is found on
//! the disk, an outbox opens. Memory is bounded.
//!
//! Nobody appends to a file of an earlier daemon: its end may be torn. Each daemon has a generation of its own, so what
//! it handed out before it reached the disk shares its id with nothing.

mod kinds;
mod notes;
mod queue;
mod reading;
mod record;
mod room;
mod segment;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::time::Duration;

use hearth_core::Moment;
use hearth_disk::Disk;

pub use kinds::{Class, Delivery, Fate, Figures, Limits, RecordId, Stamp, Trouble};
use notes::Notes;
use queue::Queue;
use reading::Told;
use record::MAX_BODY;

/// Records that are on their way at a time. A broker's window is smaller; bounds what an end of a session repeats.
pub const MAX_FLYING: usize = 128;
/// Acknowledgements after which it is noted what is done with, and time after the first of them: a note costs some
/// thirty bytes, and what it would have said is sent twice after a power cut.
const NOTE_AFTER: usize = 256;
const NOTE_WITHIN: Duration = Duration::from_secs(30);
/// After a write that failed: a full disk is not made fuller at each record.
const AGAIN: Duration = Duration::from_secs(10);
/// Troubles that nobody asked for yet; the first ones say most.
const MAX_TROUBLES: usize = 16;
/// Between the newest file that is found and the first number of a new daemon: a file has fewer records than that.
const NUMBERS_OF_A_FILE: u64 = 1 << 20;

/// All records of one box.
#[derive(Debug)]
pub struct Outbox {
    limits: Limits,
    generation: u64,
    /// Of the next record.
    number: u64,
    /// Records before it are history for the session.
    session_start: u64,
    /// By class, the one that matters most first.
    queues: [Queue; Class::COUNT],
    notes: Notes,
    /// Acknowledged since the last note, and since when.
    unnoted: usize,
    unnoted_since: Option<Moment>,
    /// Noting failed: not before.
    note_again: Option<Moment>,
    /// Something failed, which was told, and nothing worked since.
    failing: bool,
    figures: Figures,
    troubles: VecDeque<Trouble>,
}

impl Outbox {
    /// What earlier daemons left comes along. `generation` is drawn anew for each daemon.
    pub fn open(disk: &mut dyn Disk, limits: Limits, generation: u64) -> Outbox {
        let mut troubles = VecDeque::new();
        let notes = Notes::open(disk, &mut troubles);
        let mut queues = Class::ALL.map(|class| Queue::new(class, notes.kept.cursors[class.place()]));
        let newest = segment::find(disk, &mut queues, &mut troubles);
        let number = notes
            .kept
            .cursors
            .into_iter()
            .chain(newest.map(|base| base.saturating_add(NUMBERS_OF_A_FILE)))
            .max()
            .unwrap_or_default();
        let figures = Figures { dropped: notes.kept.dropped, ..Figures::default() };
        Outbox {
            limits,
            generation,
            number,
            session_start: number,
            queues,
            notes,
            unnoted: 0,
            unnoted_since: None,
            note_again: None,
            failing: false,
            figures,
            troubles,
        }
    }

    /// Takes a record in; says its id, and whether it is kept, whatever happens. Answers are kept at once, or the disk
    /// fails; others come in batches, see [`Outbox::turn`]. `None`: it is too large.
    pub fn append(
        &mut self,
        disk: &mut dyn Disk,
        now: Moment,
        stamp: Stamp,
        class: Class,
        body: &[u8],
    ) -> Option<(RecordId, bool)> {
        if body.len() > MAX_BODY {
            return None;
        }
        let id = RecordId { generation: self.generation, number: self.number };
        self.number = self.number.saturating_add(1);
        self.figures.accepted_bytes = self.figures.accepted_bytes.saturating_add(body.len() as u64);
        let dropped = self.queues[class.place()].hold(now, id.number, stamp, body);
        self.count_dropped(class, dropped);
        if self.queues[class.place()].due(&self.limits).is_some_and(|due| due <= now) {
            self.write(disk, now, class);
        }
        Some((id, self.queues[class.place()].all_written()))
    }

    /// Somebody waits until what was taken in of a class is kept: it is due at `by` at the latest.
    pub fn hasten(&mut self, class: Class, by: Moment) {
        self.queues[class.place()].hasten(by);
    }

    /// What became of a record of this daemon's.
    pub fn fate(&self, class: Class, id: RecordId) -> Fate {
        self.queues[class.place()].fate(id.number)
    }

    /// Writes what is due, and notes what is done with.
    pub fn turn(&mut self, disk: &mut dyn Disk, now: Moment) {
        for class in Class::ALL {
            if self.queues[class.place()].due(&self.limits).is_some_and(|due| due <= now) {
                self.write(disk, now, class);
            }
        }
        if self.note_due().is_some_and(|due| due <= now) || self.unnoted >= NOTE_AFTER {
            self.note(disk, now);
        }
    }

    /// When [`Outbox::turn`] has something to do.
    pub fn next_deadline(&self) -> Option<Moment> {
        self.queues.iter().filter_map(|queue| queue.due(&self.limits)).chain(self.note_due()).min()
    }

    /// Everything there is is written and noted: the daemon leaves.
    pub fn close(&mut self, disk: &mut dyn Disk, now: Moment) {
        self.note_again = None;
        for class in Class::ALL {
            self.queues[class.place()].again = None;
            self.write(disk, now, class);
        }
        if self.unnoted > 0 {
            self.note(disk, now);
        }
    }

    /// Births are out. What was on its way and not acknowledged is handed out again.
    pub fn session_began(&mut self) {
        self.session_start = self.number;
        self.queues.iter_mut().for_each(Queue::rewind);
    }

    /// The next records, at most so many, and what is in the air within its bound.
    pub fn take(&mut self, disk: &mut dyn Disk, now: Moment, stamp: Stamp, most: usize) -> Vec<Delivery> {
        let flying: usize = self.queues.iter().map(Queue::flying).sum();
        let most = most.min(MAX_FLYING.saturating_sub(flying));
        let mut taken = Vec::new();
        for class in Class::ALL {
            let (place, ttl) = (class.place(), self.limits.ttl[class.place()]);
            while taken.len() < most {
                let mut told = Told { figures: &mut self.figures, troubles: &mut self.troubles };
                let next = self.queues[place].next(disk, self.generation, &mut told);
                let Some((id, record)) = next else { break };
                if record.stamp.is_older(stamp, ttl) {
                    self.figures.expired[place] = self.figures.expired[place].saturating_add(1);
                    self.done(now, class, id);
                    continue;
                }
                let historical = id.generation != self.generation || id.number < self.session_start;
                taken.push(Delivery { id, class, stamp: record.stamp, historical, body: record.body });
            }
        }
        self.clear(disk, now);
        taken
    }

    /// The broker has it.
    pub fn acknowledge(&mut self, disk: &mut dyn Disk, now: Moment, id: RecordId) {
        if let Some(class) = Class::ALL.into_iter().find(|class| self.queues[class.place()].flies(id)) {
            self.done(now, class, id);
        }
        self.clear(disk, now);
    }

    fn done(&mut self, now: Moment, class: Class, id: RecordId) {
        // What no file has, no note has to say.
        if self.queues[class.place()].acknowledge(id.number) {
            self.unnoted += 1;
            self.unnoted_since.get_or_insert(now);
        }
    }

    fn clear(&mut self, disk: &mut dyn Disk, now: Moment) {
        if self.queues.iter().any(Queue::has_done_files) {
            // Before the files go: were it after, a start would read them for nothing.
            self.note(disk, now);
            self.queues.iter_mut().for_each(|queue| queue.remove_done(disk));
        }
    }

    pub fn figures(&self) -> Figures {
        Figures {
            stored_bytes: self.queues.iter().map(Queue::stored_bytes).sum(),
            unread_bytes: self.queues.iter().map(Queue::unread_bytes).sum(),
            held: self.queues.iter().map(Queue::held).sum(),
            ..self.figures
        }
    }

    /// What people have to know, since the last call.
    pub fn troubles(&mut self) -> impl Iterator<Item = Trouble> {
        self.troubles.drain(..)
    }

    fn note_due(&self) -> Option<Moment> {
        let due = self.unnoted_since?.after(NOTE_WITHIN);
        Some(self.note_again.map_or(due, |again| due.max(again)))
    }

    fn note(&mut self, disk: &mut dyn Disk, now: Moment) {
        if self.note_again.is_some_and(|again| now < again) {
            return;
        }
        let cursors = Class::ALL.map(|class| self.queues[class.place()].cursor());
        let noted = self.notes.put(disk, notes::Kept { cursors, dropped: self.figures.dropped });
        self.note_again = noted.is_err().then(|| now.after(AGAIN));
        if self.wrote(noted) {
            self.unnoted = 0;
            self.unnoted_since = None;
        }
    }

    /// Batches of a class, as long as there are any and the disk takes them.
    fn write(&mut self, disk: &mut dyn Disk, now: Moment, class: Class) {
        let place = class.place();
        if self.queues[place].again.is_some_and(|again| now < again) {
            return;
        }
        self.queues[place].again = None;
        while !self.queues[place].all_written() {
            let room = !self.queues[place].wants_file(&self.limits) || self.make_room(disk, class);
            let written = if room {
                self.queues[place].write_batch(disk, self.generation, &self.limits)
            } else {
                Err(kinds::failing("finding room")(ErrorKind::StorageFull.into()))
            };
            if !self.wrote(written) {
                self.queues[place].again = Some(now.after(AGAIN));
                return;
            }
        }
    }

    /// Counts what was written, and tells once that something was not.
    fn wrote(&mut self, written: Result<u64, Trouble>) -> bool {
        match written {
            Ok(bytes) => {
                self.figures.written_bytes = self.figures.written_bytes.saturating_add(bytes);
                if std::mem::take(&mut self.failing) {
                    self.tell(Trouble::WorksAgain);
                }
                true
            }
            Err(trouble) => {
                if !std::mem::replace(&mut self.failing, true) {
                    self.tell(trouble);
                }
                false
            }
        }
    }

    fn count_dropped(&mut self, class: Class, records: u64) {
        if records > 0 {
            let dropped = &mut self.figures.dropped[class.place()];
            *dropped = dropped.saturating_add(records);
            self.unnoted += 1;
            self.tell(Trouble::Dropped { class, records });
        }
    }

    fn tell(&mut self, trouble: Trouble) {
        tell(&mut self.troubles, trouble);
    }
}

/// Drops of one class are one trouble, however many.
fn tell(troubles: &mut VecDeque<Trouble>, trouble: Trouble) {
    if let Trouble::Dropped { class, records } = trouble {
        let same = troubles.iter_mut().find_map(|known| match known {
            Trouble::Dropped { class: of, records } if *of == class => Some(records),
            _ => None,
        });
        if let Some(known) = same {
            *known = known.saturating_add(records);
            return;
        }
    }
    if troubles.len() < MAX_TROUBLES {
        troubles.push_back(trouble);
    }
}
