//! The monitor's own voice: `hearth-vmm: <level>: message` on standard error.
//!
//! Not its duty: guest output, which never passes through here, so a guest cannot flood the log.

use std::io::Write;
use std::sync::atomic::{AtomicU32, Ordering};

use log::{LevelFilter, Log, Metadata, Record};

struct Stderr;

impl Log for Stderr {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let level = match record.level() {
                log::Level::Error => "error",
                log::Level::Warn => "warning",
                log::Level::Info => "info",
                log::Level::Debug => "debug",
                log::Level::Trace => "trace",
            };
            // A log line that cannot be written has nowhere to complain.
            let _ = writeln!(std::io::stderr(), "hearth-vmm: {level}: {}", record.args());
        }
    }

    fn flush(&self) {}
}

/// Installs the logger; a second call changes the level only.
pub fn install(level: LevelFilter) {
    static LOGGER: Stderr = Stderr;
    let _ = log::set_logger(&LOGGER);
    log::set_max_level(level);
}

/// How many lines one guest-made cause may log in the life of a VM: enough to see what happens, too few to
/// fill a disk.
const LINES_PER_CAUSE: u32 = 16;

/// Bounds the log lines that a guest can bring about at will.
#[derive(Debug, Default)]
pub struct Quota(AtomicU32);

impl Quota {
    /// Whether one more line may be logged. Says so, once, when it is the last.
    pub fn allow(&self) -> bool {
        let before = self.0.load(Ordering::Relaxed);
        if before >= LINES_PER_CAUSE {
            return false;
        }
        self.0.store(before + 1, Ordering::Relaxed);
        if before + 1 == LINES_PER_CAUSE {
            log::warn!("the guest keeps causing the following; it is not logged again");
        }
        true
    }
}

/// An error and what caused it, in one line.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        line.push_str(": ");
        line.push_str(&cause.to_string());
        source = cause.source();
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_that_misbehaves_for_ever_is_logged_for_a_while() {
        let quota = Quota::default();
        assert_eq!((0..1000).filter(|_| quota.allow()).count(), LINES_PER_CAUSE as usize);
    }
}
