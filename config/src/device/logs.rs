//! `[logs]`: what workloads say, in files.

use std::path::PathBuf;

use crate::reader::Table;

/// KiB of one file.
pub const LOG_FILE_KIB: std::ops::RangeInclusive<u64> = 16..=1 << 20;
/// Files of one workload, the newest included.
pub const LOG_FILES: std::ops::RangeInclusive<u64> = 1..=32;
/// KiB per second of one workload.
pub const LOG_KIB_PER_S: std::ops::RangeInclusive<u64> = 1..=1 << 20;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logs {
    pub folder: PathBuf,
    pub file_kib: u64,
    pub files: u32,
    /// What a workload may say for longer than a burst; the rest is dropped and counted.
    pub kib_per_s: u64,
}

pub(super) fn logs(table: &mut Table<'_>) -> Logs {
    Logs {
        folder: table.entry("folder").path().unwrap_or_else(|| "/var/log/hearth".into()),
        file_kib: table.entry("file_kib").number(LOG_FILE_KIB, " KiB").unwrap_or(512),
        files: table.entry("files").small(LOG_FILES, "").unwrap_or(4),
        kib_per_s: table.entry("kib_per_s").number(LOG_KIB_PER_S, " KiB").unwrap_or(64),
    }
}
