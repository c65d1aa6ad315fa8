//! The words of the outbox.
//!
//! Duty: classes, limits, figures, what went wrong. Not here: what is done with them.

use std::fmt;
use std::io;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// What a record is, which is how much it matters. The first goes first, the last gives way first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// What became of a command or a desired state. Kept at once.
    Answer,
    /// What people have to know.
    Alarm,
    /// Figures of the box and its workloads.
    Telemetry,
    /// Whatever else: what workloads publish, pieces of logs.
    Bulk,
}

impl Class {
    pub(super) const COUNT: usize = 4;
    pub const ALL: [Class; Class::COUNT] = [Class::Answer, Class::Alarm, Class::Telemetry, Class::Bulk];

    pub const fn place(self) -> usize {
        match self {
            Class::Answer => 0,
            Class::Alarm => 1,
            Class::Telemetry => 2,
            Class::Bulk => 3,
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(["answers", "alarms", "telemetry", "bulk"][self.place()])
    }
}

/// When something happened, by the wall.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// Milliseconds since 1970.
    pub unix_ms: u64,
    /// Somebody set the clock.
    pub trusted: bool,
}

impl Stamp {
    /// Ages of which a clock that nobody set knows nothing are no ages.
    pub(super) fn is_older(self, now: Stamp, than: Duration) -> bool {
        let age = now.unix_ms.saturating_sub(self.unix_ms);
        self.trusted && now.trusted && Duration::from_millis(age) > than
    }
}

/// One record for all times: no other has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordId {
    /// Of the daemon that took it in.
    pub generation: u64,
    pub number: u64,
}

impl fmt::Display for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{:x}", self.generation, self.number)
    }
}

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The disk has it, or the broker.
    Kept,
    /// It is in memory.
    Waits,
    /// It gave way before it was written: the disk does not take anything.
    Lost,
}

/// A record for the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    pub id: RecordId,
    pub class: Class,
    pub stamp: Stamp,
    /// It happened before this session: `is_historical`.
    pub historical: bool,
    pub body: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Of one file. Smaller ones are given up in smaller pieces, larger ones cost fewer names.
    pub segment_bytes: u64,
    /// Of all files together.
    pub most_bytes: u64,
    /// What stays free for everybody else on the same disk.
    pub free_bytes: u64,
    /// A batch is written when it has so many bytes, or when its first record is so old: until then a power cut may
    /// take it.
    pub batch_bytes: usize,
    pub batch_after: [Duration; Class::COUNT],
    /// How long a record of a class is worth sending.
    pub ttl: [Duration; Class::COUNT],
}

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            segment_bytes: 256 << 10,
            most_bytes: 64 << 20,
            free_bytes: 64 << 20,
            // A box with much to say waits for the disk less often.
            batch_bytes: 64 << 10,
            // Flash is written in blocks, and the last one of a batch is written again with the next. A box with
            // little to say fills eight of them in twenty minutes, so that makes an eighth.
            batch_after: [0, 2, 20 * 60, 20 * 60].map(Duration::from_secs),
            ttl: [
                DAY.saturating_mul(90),
                DAY.saturating_mul(30),
                DAY.saturating_mul(14),
                DAY.saturating_mul(2),
            ],
        }
    }
}

/// By class where there are several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Of records that were taken in since the daemon began.
    pub accepted_bytes: u64,
    /// That files were given for them, notes included.
    pub written_bytes: u64,
    /// That files take up.
    pub stored_bytes: u64,
    /// Of those, with something in them that nobody took yet.
    pub unread_bytes: u64,
    /// Records in memory.
    pub held: usize,
    /// Records that gave way, over all daemons.
    pub dropped: [u64; Class::COUNT],
    /// Records that nobody wants any more.
    pub expired: [u64; Class::COUNT],
    /// Of files, lost to damage.
    pub damaged_bytes: u64,
}

/// What people have to know of it.
#[derive(Debug, Error)]
pub enum Trouble {
    #[error("outbox: {step} fails; what is to be told now may be lost with the power")]
    Disk { step: &'static str, source: io::Error },
    #[error("outbox: it can be written again")]
    WorksAgain,
    #[error("outbox: {name} cannot be read and is now {aside}")]
    PutAside { name: String, aside: &'static str },
    #[error("outbox: {bytes} bytes of {name} are damaged and dropped")]
    Damaged { name: String, bytes: u64 },
    #[error("outbox: no room: {records} records of {class} gave way")]
    Dropped { class: Class, records: u64 },
}

pub(super) fn failing(step: &'static str) -> impl FnOnce(io::Error) -> Trouble {
    move |source| Trouble::Disk { step, source }
}
