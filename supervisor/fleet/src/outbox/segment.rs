//! Files of records.
//!
//! ```text
//! telemetry-00000000000004d2:   <magic, 8 bytes> <frame: head> { <frame: record> }*
//! ```
//!
//! Duty: names and heads, and what is found at a start. Not here: records (`record`), which files go (`queue`, `room`).
//! Invariant: by name, the files of a class are in the order of their records.

use std::collections::VecDeque;

use hearth_disk::Disk;
use hearth_disk::frame::{self, HEADER, Magic};
use serde::{Deserialize, Serialize};

use super::kinds::{Class, Trouble, failing};
use super::queue::Queue;
use super::record::Origin;
use super::tell;

/// The digit is the version: to be raised whenever a record's bytes change their meaning.
const MAGIC: &Magic = b"HRTHOUT1";
/// Where a file goes that cannot be read. One of them is enough to look at, and more would fill the disk.
const ASIDE: &str = "segment.bad";
/// Bytes of a file that is looked at: the most that anybody may want of one, and a record.
const MAX_FILE: u64 = 512 << 10;
const MAX_HEAD: usize = 64;
/// What a file takes up at least, and in steps of: a block of every file system that flash has.
const BLOCK: u64 = 4096;

#[derive(Debug)]
pub(super) struct Segment {
    /// The number of its first record.
    pub(super) base: u64,
    pub(super) bytes: u64,
    /// The number after its last record that counts, if somebody knows.
    pub(super) end: Option<u64>,
    /// It was read to its end.
    pub(super) spent: bool,
}

impl Segment {
    pub(super) fn blocks(&self) -> u64 {
        self.bytes.max(1).next_multiple_of(BLOCK)
    }
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Head {
    pub(super) generation: u64,
    class: u8,
    base: u64,
    unix_ms: u64,
}

impl Head {
    pub(super) fn new(generation: u64, class: Class, origin: Origin) -> Head {
        let class = u8::try_from(class.place()).unwrap_or(u8::MAX);
        Head { generation, class, base: origin.number, unix_ms: origin.unix_ms }
    }

    pub(super) fn origin(&self) -> Origin {
        Origin { number: self.base, unix_ms: self.unix_ms }
    }

    /// The beginning of a file.
    pub(super) fn encode(&self) -> Option<Vec<u8>> {
        let payload = postcard::to_allocvec(self).ok()?;
        let mut out = MAGIC.to_vec();
        frame::push(&mut out, &payload, MAX_HEAD).then_some(out)
    }
}

/// What a file begins with.
#[derive(Debug)]
pub(super) enum Beginning {
    /// Its first record is behind so many bytes.
    Good(Head, usize),
    /// The power went before anything of it was kept.
    Torn,
    Foreign,
}

pub(super) fn begin(bytes: &[u8], class: Class, base: u64) -> Beginning {
    let head = bytes.strip_prefix(MAGIC).and_then(|rest| frame::frame_at(rest, 0, MAX_HEAD));
    let Some(payload) = head else {
        return if is_torn(bytes) { Beginning::Torn } else { Beginning::Foreign };
    };
    match postcard::from_bytes::<Head>(payload) {
        Ok(head) if usize::from(head.class) == class.place() && head.base == base => {
            Beginning::Good(head, MAGIC.len() + HEADER + payload.len())
        }
        _ => Beginning::Foreign,
    }
}

/// Too short for the head that it has or may have had, or zeros from somewhere in it on.
fn is_torn(bytes: &[u8]) -> bool {
    let length =
        bytes.get(MAGIC.len()..).and_then(<[u8]>::first_chunk).map(|length| u32::from_le_bytes(*length));
    let whole = length.and_then(|length| usize::try_from(length).ok()).filter(|length| *length <= MAX_HEAD);
    let whole = MAGIC.len() + HEADER + whole.unwrap_or_default();
    let zeros = bytes.iter().rev().take(HEADER).all(|byte| *byte == 0);
    zeros || bytes.len() <= MAGIC.len() + HEADER || (bytes.starts_with(MAGIC) && bytes.len() < whole)
}

pub(super) fn name(class: Class, base: u64) -> String {
    format!("{class}-{base:016x}")
}

fn parse(name: &str) -> Option<(Class, u64)> {
    let (word, number) = name.split_once('-')?;
    let class = Class::ALL.into_iter().find(|class| class.to_string() == word)?;
    Some((class, u64::from_str_radix(number, 16).ok().filter(|_| number.len() == 16)?))
}

/// Gives every queue its files. Says the first number of the newest of all.
pub(super) fn find(
    disk: &mut dyn Disk,
    queues: &mut [Queue; Class::COUNT],
    troubles: &mut VecDeque<Trouble>,
) -> Option<u64> {
    let files = match disk.list() {
        Ok(files) => files,
        Err(error) => {
            tell(troubles, failing("listing")(error));
            return None;
        }
    };
    let mut newest = None;
    for (name, bytes) in files {
        let Some((class, base)) = parse(&name) else { continue };
        newest = newest.max(Some(base));
        if bytes > MAX_FILE {
            put_aside(disk, &name, troubles);
        } else {
            queues[class.place()].found(Segment { base, bytes, end: None, spent: false });
        }
    }
    newest
}

/// Never in the way of what comes.
pub(super) fn put_aside(disk: &mut dyn Disk, name: &str, troubles: &mut VecDeque<Trouble>) {
    let aside = disk.rename(name, ASIDE).or_else(|_| disk.remove(name)).and_then(|()| disk.sync_folder());
    tell(troubles, Trouble::PutAside { name: name.to_owned(), aside: ASIDE });
    if let Err(error) = aside {
        tell(troubles, failing("putting aside")(error));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_files_of_records_and_in_their_order() {
        for class in Class::ALL {
            assert_eq!(parse(&name(class, 0xbeef)), Some((class, 0xbeef)));
            assert!(name(class, 9) < name(class, 10) && name(class, 0xff) < name(class, 0x100));
        }
        for foreign in ["cursor", "telemetry-1", "logs-0000000000000001", "bulk-000000000000000g"] {
            assert_eq!(parse(foreign), None, "{foreign}");
        }
    }

    /// Failing here means that the bytes changed: raise the digit in `MAGIC`.
    #[test]
    fn the_bytes_of_a_head_stay_what_they_are() {
        let head = Head::new(300, Class::Telemetry, Origin { number: 5, unix_ms: 1 });
        let bytes = head.encode().unwrap();
        assert_eq!(bytes[..8], *b"HRTHOUT1");
        assert_eq!(bytes[16..], [172, 2, 2, 5, 1]);
        assert!(matches!(begin(&bytes, Class::Telemetry, 5), Beginning::Good(found, 21) if found == head));
        assert!(matches!(begin(&bytes, Class::Telemetry, 6), Beginning::Foreign));
        assert!(matches!(begin(&bytes[..9], Class::Telemetry, 5), Beginning::Torn));
        assert!(matches!(begin(&[0; 40], Class::Telemetry, 5), Beginning::Torn));
        assert!(matches!(begin(&[1; 40], Class::Telemetry, 5), Beginning::Foreign));
    }
}
