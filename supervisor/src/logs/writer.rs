//! Who waits for the disk, so that nobody else does.
//!
//! Duty: a bounded queue of lines, a thread that puts them into files, bells for who reads on.
//! Not here: where lines come from, the files themselves (`shelf`).
//! Invariant: [`Logs::line`] takes a lock for a moment and never waits for a file; what finds no room in the queue,
//! does not pass its workload's gate, or cannot be written, is counted there.

use std::collections::BTreeMap;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use hearth_config::device::Logs as LogsConfig;
use smol::channel::{Receiver, Sender, bounded};

use super::gate::Gate;
use super::line;
use super::shelf::{Caps, Shelf};
use crate::wall;

/// Bytes that wait for the disk: a second of a busy box, and more than flash stalls for.
const MAX_QUEUED_BYTES: usize = 512 << 10;
/// At most so often the count of what was dropped goes into a file.
const TELL_DROPPED: Duration = Duration::from_secs(1);
/// Nobody but the owner: what workloads print may be secret.
const PRIVATE: u32 = 0o700;

/// A handle; clones are of the same logs.
#[derive(Clone, Debug)]
pub(crate) struct Logs {
    shared: Arc<Shared>,
}

/// What happened to a workload's lines since the daemon began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counted {
    pub(crate) bytes: u64,
    pub(crate) dropped_lines: u64,
}

#[derive(Debug)]
struct Shared {
    folder: PathBuf,
    began: Instant,
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    bytes_per_s: u64,
    logs: BTreeMap<String, Log>,
    queued: usize,
    trim: bool,
    forget: Vec<String>,
    bells: Vec<(String, Sender<()>)>,
    /// Lines are out of the queue, but not yet written.
    writing: bool,
}

#[derive(Debug)]
struct Log {
    gate: Gate,
    /// Whole lines for the file.
    text: String,
    counted: Counted,
    /// Bytes that the core has not been told of.
    untold: u64,
    told_dropped: Option<Duration>,
}

impl Logs {
    pub(crate) fn open(config: &LogsConfig) -> io::Result<Logs> {
        DirBuilder::new().recursive(true).mode(PRIVATE).create(&config.folder)?;
        let queue = Queue { bytes_per_s: config.kib_per_s << 10, ..Queue::default() };
        let shared = Arc::new(Shared {
            folder: config.folder.clone(),
            began: Instant::now(),
            queue: Mutex::new(queue),
            changed: Condvar::new(),
        });
        let caps = Caps { bytes: config.file_kib << 10, files: config.files };
        let writer = Arc::clone(&shared);
        thread::Builder::new().name("logs".into()).spawn(move || writer.write_for_ever(caps))?;
        Ok(Logs { shared })
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.shared.folder
    }

    /// What one replica of a workload says.
    pub(crate) fn line(&self, workload: &str, replica: &str, text: &str) {
        let line = line::format(wall::unix_ms(), replica, text);
        let now = self.shared.began.elapsed();
        let mut queue = self.shared.lock();
        let room = queue.queued + line.len() <= MAX_QUEUED_BYTES;
        let log = queue.log(workload, now);
        let length = u64::try_from(line.len()).unwrap_or(u64::MAX);
        // What it says counts for its budget, whether it is kept or not.
        log.untold += length;
        if !log.gate.passes(now, line.len()) {
            log.counted.dropped_lines += 1;
        } else if !room {
            log.gate.drop_one();
            log.counted.dropped_lines += 1;
        } else {
            log.counted.bytes += length;
            log.text.push_str(&line);
            queue.queued += line.len();
        }
        drop(queue);
        self.shared.changed.notify_all();
    }

    /// What a workload said since this was last asked.
    pub(crate) fn take_untold(&self, workload: &str) -> u64 {
        self.shared
            .lock()
            .logs
            .get_mut(workload)
            .map(|log| std::mem::take(&mut log.untold))
            .unwrap_or_default()
    }

    /// Nothing of it is kept for so long.
    pub(crate) fn shut(&self, workload: &str, span: Duration) {
        let now = self.shared.began.elapsed();
        self.shared.lock().log(workload, now).gate.shut(now + span);
    }

    /// Leaves only the newest file of each log.
    pub(crate) fn trim(&self) {
        self.shared.lock().trim = true;
        self.shared.changed.notify_all();
    }

    /// The workload is gone, and so is its log.
    pub(crate) fn forget(&self, workload: &str) {
        let mut queue = self.shared.lock();
        if let Some(log) = queue.logs.remove(workload) {
            queue.queued -= log.text.len();
        }
        queue.forget.push(workload.to_owned());
        drop(queue);
        self.shared.changed.notify_all();
    }

    pub(crate) fn counted(&self) -> Vec<(String, Counted)> {
        self.shared.lock().logs.iter().map(|(name, log)| (name.clone(), log.counted)).collect()
    }

    /// Rings when something was written to the workload's log since it last rang.
    pub(crate) fn bell(&self, workload: &str) -> Receiver<()> {
        let (sender, receiver) = bounded(1);
        self.shared.lock().bells.push((workload.to_owned(), sender));
        receiver
    }

    /// Waits until all is written, at most `patience`.
    pub(crate) fn flush(&self, patience: Duration) {
        let until = Instant::now() + patience;
        let mut queue = self.shared.lock();
        while queue.writing || queue.queued > 0 {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            queue = self.shared.changed.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Queue {
    fn log(&mut self, workload: &str, now: Duration) -> &mut Log {
        let bytes_per_s = self.bytes_per_s;
        self.logs.entry(workload.to_owned()).or_insert_with(|| Log {
            gate: Gate::new(bytes_per_s, now),
            text: String::new(),
            counted: Counted::default(),
            untold: 0,
            told_dropped: None,
        })
    }

    /// What is to be written now, with notes of what was dropped where it is time for one.
    fn take(&mut self, now: Duration) -> Vec<(String, String)> {
        let mut taken = Vec::new();
        for (name, log) in &mut self.logs {
            let mut text = std::mem::take(&mut log.text);
            self.queued -= text.len();
            let due = log.told_dropped.is_none_or(|told| now >= told + TELL_DROPPED);
            if log.gate.has_dropped() && due {
                log.told_dropped = Some(now);
                let note =
                    format!("({} lines dropped: too many, or the disk is too slow)", log.gate.take_dropped());
                text.push_str(&line::format(wall::unix_ms(), name, &note));
            }
            if !text.is_empty() {
                taken.push((name.clone(), text));
            }
        }
        taken
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Nothing panics while it holds the lock; should that change, logging goes on.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_for_ever(&self, caps: Caps) {
        let mut shelves: BTreeMap<String, Shelf> = BTreeMap::new();
        let mut queue = self.lock();
        loop {
            let forget = std::mem::take(&mut queue.forget);
            let trim = std::mem::take(&mut queue.trim);
            let taken = queue.take(self.began.elapsed());
            if forget.is_empty() && !trim && taken.is_empty() {
                queue.writing = false;
                self.changed.notify_all();
                queue = if queue.logs.values().any(|log| log.gate.has_dropped()) {
                    // There is a count to be told in a while, even if nobody says anything more.
                    self.changed.wait_timeout(queue, TELL_DROPPED).unwrap_or_else(PoisonError::into_inner).0
                } else {
                    self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner)
                };
                continue;
            }
            queue.writing = true;
            drop(queue);
            let shelf = |name: &str| Shelf::new(&self.folder, name, caps);
            for name in forget {
                // What cannot be removed stays, bounded as it is.
                let _ = shelves.remove(&name).unwrap_or_else(|| shelf(&name)).remove();
            }
            if trim {
                shelves.values().for_each(|shelf| drop(shelf.trim()));
            }
            let mut failed = Vec::new();
            for (name, text) in &taken {
                if shelves.entry(name.clone()).or_insert_with(|| shelf(name)).append(text).is_err() {
                    failed.push((name, text.lines().count()));
                }
            }
            queue = self.lock();
            for (name, lines) in failed {
                if let Some(log) = queue.logs.get_mut(name) {
                    log.counted.dropped_lines += u64::try_from(lines).unwrap_or(u64::MAX);
                    (0..lines).for_each(|_| log.gate.drop_one());
                    // A full disk is not tried again at once for the note alone.
                    log.told_dropped = Some(self.began.elapsed());
                }
            }
            queue.bells.retain(|(_, bell)| !bell.is_closed());
            for (name, bell) in &queue.bells {
                if taken.iter().any(|(written, _)| written == name) {
                    let _ = bell.try_send(());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    fn config(folder: &Path) -> LogsConfig {
        LogsConfig { folder: folder.to_owned(), file_kib: 64, files: 3, kib_per_s: 1 }
    }

    fn read(folder: &Path, name: &str) -> Vec<String> {
        let text = std::fs::read_to_string(folder.join(format!("{name}.log"))).unwrap_or_default();
        text.lines().map(|line| line.split_once(' ').unwrap().1.to_owned()).collect()
    }

    #[test]
    fn each_workload_has_a_file_with_the_lines_of_all_its_replicas() {
        let folder = tempfile::tempdir().unwrap();
        let logs = Logs::open(&config(&folder.path().join("deep/logs"))).unwrap();
        logs.line("web", "web", "one");
        logs.line("clock", "clock", "tick");
        logs.line("web", "web.1", "two");
        logs.flush(PATIENCE);
        assert_eq!(read(logs.folder(), "web"), ["web one", "web.1 two"]);
        assert_eq!(read(logs.folder(), "clock"), ["clock tick"]);
        assert_eq!(logs.take_untold("web"), 2 * 25 + 8 + 10);
        assert_eq!(logs.take_untold("web"), 0);
    }

    #[test]
    fn a_flood_is_cut_and_what_is_missing_is_counted_in_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let logs = Logs::open(&config(folder.path())).unwrap();
        for _ in 0..400 {
            logs.line("web", "web", &"x".repeat(1000));
        }
        let bell = logs.bell("web");
        let counted = logs.counted()[0].1;
        assert!((250..280).contains(&counted.dropped_lines), "{counted:?}");
        // The count is told by itself, a moment later.
        let told = || {
            let files = ["web.log", "web.log.1", "web.log.2"];
            let text = files
                .map(|file| std::fs::read_to_string(folder.path().join(file)).unwrap_or_default())
                .concat();
            let notes = text.lines().filter_map(|line| line.split_once('(')?.1.split_once(" lines dropped"));
            notes.map(|(count, _)| count.parse::<u64>().unwrap()).sum::<u64>()
        };
        while told() < counted.dropped_lines {
            smol::block_on(bell.recv()).unwrap();
        }
        assert_eq!(told(), counted.dropped_lines);
    }

    #[test]
    fn a_workload_without_budget_is_not_kept_and_others_are() {
        let folder = tempfile::tempdir().unwrap();
        let logs = Logs::open(&config(folder.path())).unwrap();
        logs.shut("web", Duration::from_secs(3600));
        logs.line("web", "web", "one");
        logs.line("clock", "clock", "tick");
        logs.flush(PATIENCE);
        assert_eq!(read(folder.path(), "clock"), ["clock tick"]);
        assert_eq!(logs.counted()[1].1, Counted { bytes: 0, dropped_lines: 1 });
    }

    #[test]
    fn a_disk_that_takes_nothing_is_counted_and_nobody_waits() {
        let folder = tempfile::tempdir().unwrap();
        let logs = Logs::open(&config(folder.path())).unwrap();
        std::fs::create_dir(folder.path().join("web.log")).unwrap();
        logs.line("web", "web", "one");
        logs.flush(PATIENCE);
        assert_eq!(logs.counted()[0].1.dropped_lines, 1);
    }

    #[test]
    fn a_workload_that_is_gone_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let logs = Logs::open(&config(folder.path())).unwrap();
        logs.line("web", "web", "one");
        logs.flush(PATIENCE);
        logs.forget("web");
        logs.line("clock", "clock", "tick");
        logs.flush(PATIENCE);
        let left: Vec<_> =
            folder.path().read_dir().unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["clock.log"]);
    }
}
