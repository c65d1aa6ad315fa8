//! What workloads say, in files: `FOLDER/WORKLOAD.log`, older ones with a number.
//!
//! | file | what |
//! |---|---|
//! | `line.rs` | a line of a file |
//! | `gate.rs` | how much a workload may say, and the count of what it may not |
//! | `shelf.rs` | one workload's files, of bounded size and number |
//! | `writer.rs` | the queue, and the thread behind it that waits for the disk |
//! | `tail.rs` | reading the last lines, and on |
//!
//! Duty: keep lines, bounded in bytes and in pace, and give them back. Not here: what limits hold (`hearth-config`, and
//! the core's budgets), splitting bytes into lines (`lines`).
//! Invariant: saying something never waits for a disk; whatever is dropped, for whichever reason, is counted, and the
//! count stands in the file where the lines would have stood.

mod gate;
pub(crate) mod line;
mod shelf;
pub(crate) mod tail;
mod writer;

pub(crate) use self::writer::{Counted, Logs};
