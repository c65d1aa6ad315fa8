//! `[log]`: what the daemon prints.

use crate::reader::Table;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Log {
    pub format: LogFormat,
    /// And all that matters more.
    pub level: LogLevel,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    #[default]
    Human,
    /// An object for each line.
    Json,
}

/// The later, the more it matters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// What workloads and their guests say.
    #[default]
    Output,
    /// What the daemon says.
    Info,
    /// Somebody should look.
    Alarm,
}

/// What they are called.
pub const LOG_FORMATS: [(&str, LogFormat); 2] = [("human", LogFormat::Human), ("json", LogFormat::Json)];
const LEVELS: [(&str, LogLevel); 3] =
    [("output", LogLevel::Output), ("info", LogLevel::Info), ("alarm", LogLevel::Alarm)];

pub(super) fn log(table: &mut Table<'_>) -> Log {
    Log {
        format: table.entry("format").choice(&LOG_FORMATS).unwrap_or_default(),
        level: table.entry("level").choice(&LEVELS).unwrap_or_default(),
    }
}
