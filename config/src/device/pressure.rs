//! `[pressure]`: when the box is short of memory or disk.

use std::ops::RangeInclusive;

use crate::reader::Table;

/// Percent of all that is still free. With more than nine tenths free nothing is short.
pub const FREE_PERCENT: RangeInclusive<u64> = 1..=90;

/// Percent of all that is still free; below it, something is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Work is slowed down.
    pub short: u8,
    /// Next to nothing is left.
    pub full: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pressure {
    pub memory: Limits,
    pub disk: Limits,
}

pub(super) fn pressure(table: &mut Table<'_>) -> Pressure {
    Pressure {
        memory: limits(table, ["memory_short_percent", "memory_full_percent"], Limits { short: 10, full: 4 }),
        disk: limits(table, ["disk_short_percent", "disk_full_percent"], Limits { short: 10, full: 3 }),
    }
}

fn limits(table: &mut Table<'_>, [short, full]: [&'static str; 2], default: Limits) -> Limits {
    let (short_entry, full_entry) = (table.entry(short), table.entry(full));
    let limits = Limits {
        short: short_entry.small(FREE_PERCENT, " %").unwrap_or(default.short),
        full: full_entry.small(FREE_PERCENT, " %").unwrap_or(default.full),
    };
    if limits.full >= limits.short {
        // Said where it was changed.
        let (entry, other) =
            if full_entry.is_there() { (full_entry, "below") } else { (short_entry, "above") };
        let (than, value) = if other == "below" { (short, limits.short) } else { (full, limits.full) };
        entry.fault(format!("expected a value {other} that of {than}, {value}"));
    }
    limits
}
