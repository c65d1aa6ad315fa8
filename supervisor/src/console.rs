//! What the daemon prints: one stream of lines, each with the name of who said it, or as an object of JSON.
//!
//! Duty: levels, and a bounded queue between the daemon and a console that may be slow or stuck.
//! Not here: what the lines say, how they are written (`log_line`).
//! Invariant: saying something never blocks. What finds no room is dropped, counted, and the count is printed, even
//! while the flood goes on.

use std::collections::VecDeque;
use std::io::Write;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use hearth_config::device::{Log, LogFormat, LogLevel};

use crate::api::types::EventTold;
use crate::log_line::{Line, OWN_NAME};

/// Bytes that wait for the console. Half a minute of a serial line at 115200 baud.
const MAX_QUEUED_BYTES: usize = 256 << 10;
/// Bytes on top, which only the daemon's own lines may use: a chatty guest does not silence it.
const OWN_RESERVE_BYTES: usize = 64 << 10;

/// Lines after which losses are told although more lines wait. About two seconds of a serial line at 115200 baud; a
/// note costs little beside so many lines.
const TELL_LOSSES_AFTER_LINES: usize = 256;

/// A handle; clones print to the same place.
#[derive(Clone, Debug)]
pub struct Console {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
    /// Of the prefixes.
    width: AtomicUsize,
    format: LogFormat,
    /// A [`LogLevel`].
    level: AtomicU8,
}

#[derive(Debug, Default)]
struct Queue {
    lines: VecDeque<String>,
    bytes: usize,
    /// Who lost how many lines since that was last told.
    lost: Vec<(String, u64)>,
    /// A line is out of the queue, but not yet written.
    writing: bool,
}

impl Console {
    /// As [`Console::with`], for people, and everything.
    pub fn new<'n>(
        names: impl IntoIterator<Item = &'n str>,
        out: impl Write + Send + 'static,
    ) -> std::io::Result<Console> {
        Console::with(Log::default(), names, out)
    }

    /// Prints to `out` from a thread of its own, with prefixes as wide as the longest of `names`.
    pub fn with<'n>(
        log: Log,
        names: impl IntoIterator<Item = &'n str>,
        out: impl Write + Send + 'static,
    ) -> std::io::Result<Console> {
        let width = AtomicUsize::new(OWN_NAME.len());
        let (queue, changed) = (Mutex::new(Queue::default()), Condvar::new());
        let Log { format, level } = log;
        let shared = Arc::new(Shared { queue, changed, width, format, level: AtomicU8::new(level as u8) });
        let writer = Arc::clone(&shared);
        let console = Console { shared };
        console.widen(names);
        thread::Builder::new().name("console".into()).spawn(move || writer.write_all(out))?;
        Ok(console)
    }

    /// From now on prefixes are at least as wide as the longest of `names`.
    pub fn widen<'n>(&self, names: impl IntoIterator<Item = &'n str>) {
        let width = names.into_iter().map(str::len).max().unwrap_or_default();
        self.shared.width.fetch_max(width, Ordering::Relaxed);
    }

    /// What matters less is not printed from now on; until the daemon begins anew.
    pub fn set_level(&self, level: LogLevel) {
        self.shared.level.store(level as u8, Ordering::Relaxed);
    }

    /// A line of the daemon itself.
    pub fn say(&self, text: &str) {
        self.push(&Line::own(text), MAX_QUEUED_BYTES + OWN_RESERVE_BYTES);
    }

    /// A line of the daemon about something that happened.
    pub(crate) fn event(&self, told: &EventTold) {
        let EventTold { kind, alarm, workload, replica, text, .. } = told;
        let line = Line::event(kind, *alarm, workload.as_deref(), replica.as_deref(), text);
        self.push(&line, MAX_QUEUED_BYTES + OWN_RESERVE_BYTES);
    }

    /// A line of a workload.
    pub fn line(&self, name: &str, text: &str) {
        self.push(&Line::output(name, text), MAX_QUEUED_BYTES);
    }

    /// Waits until all is written, at most `patience`.
    pub fn flush(&self, patience: Duration) {
        let until = Instant::now() + patience;
        let mut queue = self.shared.lock();
        while queue.writing || !queue.lines.is_empty() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            queue = self.shared.changed.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn push(&self, line: &Line<'_>, limit: usize) {
        if (line.level() as u8) < self.shared.level.load(Ordering::Relaxed) {
            return;
        }
        let name = line.who();
        let line = line.written(self.shared.format, self.shared.width());
        let mut queue = self.shared.lock();
        if queue.bytes + line.len() <= limit {
            queue.bytes += line.len();
            queue.lines.push_back(line);
        } else {
            match queue.lost.iter_mut().find(|(who, _)| who == name) {
                Some((_, count)) => *count += 1,
                None => queue.lost.push((name.to_owned(), 1)),
            }
        }
        drop(queue);
        self.shared.changed.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Nothing panics while it holds the lock; should that change, printing goes on.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn width(&self) -> usize {
        self.width.load(Ordering::Relaxed)
    }

    fn write_all(&self, mut out: impl Write) {
        let mut queue = self.lock();
        loop {
            let mut written = 0;
            while written < TELL_LOSSES_AFTER_LINES
                && let Some(line) = queue.lines.pop_front()
            {
                queue.bytes -= line.len();
                queue.writing = true;
                drop(queue);
                // A console that is gone is no reason to stop the workloads.
                let _ = out.write_all(line.as_bytes()).and_then(|()| out.flush());
                queue = self.lock();
                queue.writing = false;
                written += 1;
            }
            // Behind the lines that wait, for those were said before. In one piece: the queue takes less in this way
            // than it has just given out, however many have lost lines.
            let notes: String = std::mem::take(&mut queue.lost)
                .into_iter()
                .map(|(name, count)| {
                    let text = format!("({count} lines lost, the console is too slow)");
                    Line::output(&name, &text).written(self.format, self.width())
                })
                .collect();
            if !notes.is_empty() {
                queue.bytes += notes.len();
                queue.lines.push_back(notes);
            }
            if queue.lines.is_empty() {
                self.changed.notify_all();
                queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Receiver, Sender, channel};

    /// A console that takes a line when the test says so.
    struct Slow {
        go: Receiver<()>,
        out: Sender<String>,
    }

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            let _ = self.go.recv();
            let _ = self.out.send(String::from_utf8_lossy(bytes).into_owned());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    const PATIENCE: Duration = Duration::from_secs(20);

    #[test]
    fn what_matters_less_than_somebody_wants_is_not_printed() {
        let (out, lines) = channel();
        let (_, go) = channel();
        let log = Log { format: LogFormat::Json, level: LogLevel::Info };
        let console = Console::with(log, ["clock"], Slow { go, out }).unwrap();
        console.line("clock", "tick");
        console.say("ready");
        let line: serde_json::Value = serde_json::from_str(&lines.recv_timeout(PATIENCE).unwrap()).unwrap();
        assert_eq!((&line["text"], &line["level"]), (&"ready".into(), &"info".into()));
        console.set_level(LogLevel::Alarm);
        console.say("not of interest");
        console.set_level(LogLevel::Output);
        console.line("clock", "tick");
        let line: serde_json::Value = serde_json::from_str(&lines.recv_timeout(PATIENCE).unwrap()).unwrap();
        assert_eq!(line["text"], "tick");
    }

    #[test]
    fn lines_carry_names_of_one_width() {
        let (out, lines) = channel();
        let (_, go) = channel();
        let console = Console::new(["temperature", "clock"], Slow { go, out }).unwrap();
        console.line("clock", "tick");
        console.say("ready");
        assert_eq!(lines.recv_timeout(PATIENCE).unwrap(), "clock       | tick\n");
        assert_eq!(lines.recv_timeout(PATIENCE).unwrap(), "hearthd     | ready\n");
        console.widen(["temperature.1", "b"]);
        console.line("clock", "tick");
        assert_eq!(lines.recv_timeout(PATIENCE).unwrap(), "clock         | tick\n");
    }

    #[test]
    fn a_stuck_console_costs_guest_lines_which_are_counted_but_not_the_daemons() {
        let (out, lines) = channel();
        let (run, go) = channel();
        let console = Console::new(["clock"], Slow { go, out }).unwrap();
        let text = "x".repeat(1024);
        for _ in 0..1000 {
            console.line("clock", &text);
        }
        for _ in 0..1000 {
            console.line("clock", "a short one finds what room is left");
        }
        console.say("still here");
        drop(run);
        let mut got = Vec::new();
        loop {
            got.push(lines.recv_timeout(PATIENCE).unwrap());
            if got.last().unwrap().contains("lines lost") {
                break;
            }
        }
        let told = got.pop().unwrap();
        assert_eq!(got.pop().unwrap(), "hearthd | still here\n");
        assert_eq!(told, format!("clock   | ({} lines lost, the console is too slow)\n", 2000 - got.len()));
        assert!(got.len() > 200 && got.len() < 300, "{}", got.len());
        console.flush(PATIENCE);
    }

    #[test]
    fn losses_are_told_while_the_flood_goes_on() {
        let (out, lines) = channel();
        let (run, go) = channel();
        let console = Console::new(["clock"], Slow { go, out }).unwrap();
        let text = "x".repeat(1024);
        let queued = MAX_QUEUED_BYTES / 1024;
        for _ in 0..2 * queued {
            console.line("clock", &text);
        }
        let mut told = 0;
        // Two say something for each line that is taken: the queue is never empty.
        for _ in 0..3 * TELL_LOSSES_AFTER_LINES + queued {
            run.send(()).unwrap();
            told += usize::from(lines.recv_timeout(PATIENCE).unwrap().contains("lines lost"));
            console.line("clock", &text);
            console.line("clock", &text);
        }
        assert!((2..=4).contains(&told), "{told}");
    }
}
