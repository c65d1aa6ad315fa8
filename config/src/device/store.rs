//! `[store]`: what outlives the daemon and the box.

use std::path::PathBuf;

use crate::reader::Table;

/// MiB of all journals together. Eight hold half a day of a box with ten workloads.
pub const JOURNAL_MIB: std::ops::RangeInclusive<u64> = 1..=1024;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Store {
    /// Records and journals. On a disk that stays, or a box forgets what people decided.
    pub folder: PathBuf,
    pub journal_mib: u64,
}

pub(super) fn store(table: &mut Table<'_>) -> Store {
    Store {
        folder: table.entry("folder").path().unwrap_or_else(|| "/var/lib/hearth".into()),
        journal_mib: table.entry("journal_mib").number(JOURNAL_MIB, " MiB").unwrap_or(8),
    }
}
