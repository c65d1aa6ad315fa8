//! A guest's own numbers about its memory (virtio 1.2, section 5.5.6.3).
//!
//! Duty: read the driver's list of tags and values. Not its duty: when (`device.rs`). The numbers are what the guest
//! says: nothing on the host is to be decided by them that harms anyone but the guest.

use std::time::Instant;

use crate::virtio::rings::Reader;

/// What each tag is called, by its number. The last six are younger than virtio 1.2.
const NAMES: [&str; 16] = [
    "swapped_in_bytes",
    "swapped_out_bytes",
    "major_faults",
    "minor_faults",
    "free_bytes",
    "total_bytes",
    "available_bytes",
    "disk_cache_bytes",
    "huge_pages_allocated",
    "huge_pages_failed",
    "oom_kills",
    "allocation_stalls",
    "async_scanned_pages",
    "direct_scanned_pages",
    "async_reclaimed_pages",
    "direct_reclaimed_pages",
];
/// Bytes of an entry: a tag of 16 bits and a value of 64, packed.
const ENTRY: usize = 10;
/// Entries that are looked at; twice as many as there are tags. What a driver lists beyond is not read.
pub(super) const MAX_ENTRIES: usize = 2 * NAMES.len();

/// What the guest said at one time. A tag that it left out has no value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Statistics {
    /// When it said so.
    pub at: Instant,
    values: [Option<u64>; NAMES.len()],
}

impl Statistics {
    /// Reads the driver's list. Tags that nobody knows are passed over, and the last one of the same tag counts.
    pub(super) fn read(mut list: Reader<'_>, at: Instant) -> Self {
        let mut values = [None; NAMES.len()];
        for _ in 0..MAX_ENTRIES {
            let Some([tag_low, tag_high, value @ ..]) = list.read_array::<ENTRY>() else { break };
            let tag = u16::from_le_bytes([tag_low, tag_high]);
            if let Some(place) = values.get_mut(usize::from(tag)) {
                *place = Some(u64::from_le_bytes(value));
            }
        }
        Self { at, values }
    }

    /// Names and values of what the guest told. A name never changes its meaning.
    pub fn report(&self, report: &mut dyn FnMut(&'static str, u64)) {
        for (name, value) in NAMES.into_iter().zip(self.values) {
            if let Some(value) = value {
                report(name, value);
            }
        }
    }
}
