//! The monitor's own voice: `hearth-vmm: <level>: message` on standard error.
//!
//! Not its duty: guest output, which never passes through here, so a guest cannot flood the log.
//!
//! Invariant: nothing that is said here waits for a reader: it is said by vCPUs under a device's lock, and by the
//! event loop. A message goes out whole, in one call, or is lost and counted; the next one that goes out says how many.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use log::{LevelFilter, Log, Metadata, Record};

use crate::stdio::{IN_ONE_PIECE, Stream, Way};

/// How long the last message of a process waits for a reader: as long as the last words of its guest.
const LAST_MESSAGE: Duration = Duration::from_secs(1);

/// Says messages on a stream.
#[derive(Debug)]
struct Voice {
    stream: Stream,
    /// Messages since the last one that went out.
    lost: AtomicU32,
}

impl Voice {
    const fn on(stream: Stream) -> Self {
        Self { stream, lost: AtomicU32::new(0) }
    }

    fn say(&self, message: &str) {
        let lost = self.lost.swap(0, Ordering::Relaxed);
        let confession = format!("warning: {lost} messages were lost here, nobody read them");
        let told = (lost == 0 || self.try_say(&confession)) && self.try_say(message);
        if !told {
            self.lost.fetch_add(lost.saturating_add(1), Ordering::Relaxed);
        }
    }

    fn try_say(&self, message: &str) -> bool {
        let line = line(message);
        // A line that cannot be written has nowhere to complain.
        self.stream.write(line.as_bytes()).is_ok_and(|written| written > 0)
    }
}

/// One line, never longer than what a pipe takes in one piece.
fn line(message: &str) -> String {
    let mut line = format!("hearth-vmm: {message}");
    if line.len() >= IN_ONE_PIECE {
        line.truncate(line.floor_char_boundary(IN_ONE_PIECE - "...\n".len()));
        line.push_str("...");
    }
    line.push('\n');
    line
}

/// Standard error; `None` where it cannot even be looked at.
fn stderr() -> Option<&'static Voice> {
    static STDERR: OnceLock<Option<Voice>> = OnceLock::new();
    STDERR.get_or_init(|| Stream::of(std::io::stderr()).ok().map(Voice::on)).as_ref()
}

struct Stderr;

impl Log for Stderr {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata())
            && let Some(voice) = stderr()
        {
            let level = match record.level() {
                log::Level::Error => "error",
                log::Level::Warn => "warning",
                log::Level::Info => "info",
                log::Level::Debug => "debug",
                log::Level::Trace => "trace",
            };
            voice.say(&format!("{level}: {}", record.args()));
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

/// Opens standard error, if nothing was said yet: later there may be no way to it.
pub fn be_ready() {
    let _ = stderr();
}

/// What a message takes beside a plain write: the system's way to its end of standard error.
#[must_use]
pub fn way() -> Option<Way> {
    stderr().map(|voice| voice.stream.way())
}

/// Says what a process ends with. It waits a moment for a reader, not for ever: whoever has to stop it may not get
/// through any more.
pub fn say_last(message: &str) {
    if let Some(voice) = stderr() {
        let _ = voice.stream.has_room(LAST_MESSAGE);
        voice.say(message);
    }
}

/// How many lines one guest-made cause may log in the life of a VM: enough to see what happens, too few to
/// fill a disk.
const LINES_PER_CAUSE: u32 = 16;

/// Bounds the log lines that a guest can bring about at will.
#[derive(Debug, Default)]
pub struct Quota(AtomicU32);

impl Quota {
    /// With nothing logged yet.
    #[must_use]
    pub const fn new() -> Self {
        Self(AtomicU32::new(0))
    }

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
    use std::io::Read;

    use super::*;

    #[test]
    fn a_reader_that_comes_late_is_told_what_it_missed() {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let voice = Voice::on(Stream::of(&writer).unwrap());
        let filler = [b'.'; IN_ONE_PIECE];
        let filled: usize =
            std::iter::repeat_with(|| voice.stream.write(&filler).unwrap()).take_while(|n| *n > 0).sum();
        voice.say("one");
        voice.say("two");
        reader.read_exact(&mut vec![0; filled]).unwrap();
        voice.say("three");
        voice.say("four");
        drop((voice, writer));
        let lost = "hearth-vmm: warning: 2 messages were lost here, nobody read them\n";
        let all = std::io::read_to_string(reader).unwrap();
        assert_eq!(all, format!("{lost}hearth-vmm: three\nhearth-vmm: four\n"));
    }

    #[test]
    fn a_long_message_is_cut_to_what_a_pipe_takes_in_one_piece() {
        assert_eq!(line("short"), "hearth-vmm: short\n");
        for longer in 0..5 {
            let cut = line(&"\u{e4}".repeat(IN_ONE_PIECE / 2 - 10 + longer));
            assert!(cut.len() <= IN_ONE_PIECE && cut.ends_with('\n'), "{}", cut.len());
        }
    }

    #[test]
    fn a_guest_that_misbehaves_for_ever_is_logged_for_a_while() {
        let quota = Quota::default();
        assert_eq!((0..1000).filter(|_| quota.allow()).count(), LINES_PER_CAUSE as usize);
    }
}
