//! What the next process has to know.
//!
//! Duty: bdSeq, and when a broker's certificate was last found good, in a small file. Not here: what they mean.
//! Invariant: the file is the old one or the new one, whole; an unreadable one begins anew, which costs no more than a
//! bdSeq that hosts have seen before.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hearth_disk::{Disk, Folder};
use thiserror::Error;

const FILE: &str = "session";

#[derive(Debug, Error)]
#[error("{}: cannot be kept", path.display())]
pub struct MemoError {
    path: PathBuf,
    source: io::Error,
}

#[derive(Debug)]
pub(super) struct Memo {
    path: PathBuf,
    folder: Option<Folder>,
    bd_seq: u8,
    /// Milliseconds since 1970.
    floor: Arc<AtomicU64>,
}

impl Memo {
    /// One that cannot be kept serves as well, in memory, and says why it cannot.
    pub(super) fn open(path: &Path) -> Result<Memo, (Memo, MemoError)> {
        let mut memo =
            Memo { path: path.join(FILE), folder: None, bd_seq: 0, floor: Arc::new(AtomicU64::new(0)) };
        let read = Folder::open(path).and_then(|mut folder| {
            let text = folder.read(FILE)?.unwrap_or_default();
            memo.folder = Some(folder);
            Ok(text)
        });
        match read {
            Ok(text) => {
                memo.read(&String::from_utf8_lossy(&text));
                Ok(memo)
            }
            Err(source) => {
                let error = MemoError { path: memo.path.clone(), source };
                Err((memo, error))
            }
        }
    }

    fn read(&mut self, text: &str) {
        for line in text.lines() {
            match line.split_once(' ') {
                Some(("bd_seq", number)) => self.bd_seq = number.parse().unwrap_or(0),
                Some(("certificate_good_ms", number)) => {
                    self.floor.store(number.parse().unwrap_or(0), Ordering::Relaxed);
                }
                _ => {}
            }
        }
    }

    pub(super) fn bd_seq(&self) -> u8 {
        self.bd_seq
    }

    /// No certificate is judged by an earlier time than this.
    pub(super) fn floor(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.floor)
    }

    /// Written with the next bdSeq: nothing is written for it alone.
    pub(super) fn certificate_was_good(&self, wall_ms: u64) {
        self.floor.fetch_max(wall_ms, Ordering::Relaxed);
    }

    /// On the disk when it returns.
    pub(super) fn remember(&mut self, bd_seq: u8) -> Result<(), MemoError> {
        self.bd_seq = bd_seq;
        let text = format!("bd_seq {bd_seq}\ncertificate_good_ms {}\n", self.floor.load(Ordering::Relaxed));
        let Some(folder) = &mut self.folder else { return Ok(()) };
        folder.replace(FILE, text.as_bytes()).map_err(|source| MemoError { path: self.path.clone(), source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_process_knows_what_this_one_remembered() {
        let folder = tempfile::tempdir().unwrap();
        let mut memo = Memo::open(folder.path()).unwrap();
        assert_eq!(memo.bd_seq(), 0);
        memo.certificate_was_good(1_700_000_000_000);
        memo.remember(7).unwrap();
        let next = Memo::open(folder.path()).unwrap();
        assert_eq!((next.bd_seq(), next.floor().load(Ordering::Relaxed)), (7, 1_700_000_000_000));
        std::fs::write(folder.path().join(FILE), b"bd_seq 300\n\xff\n").unwrap();
        assert_eq!(Memo::open(folder.path()).unwrap().bd_seq(), 0);
    }

    #[test]
    fn a_folder_that_cannot_be_used_is_told_and_the_session_goes_on() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let (mut memo, error) = Memo::open(file.path()).unwrap_err();
        assert!(error.to_string().ends_with("session: cannot be kept"), "{error}");
        assert!(memo.remember(3).is_ok() && memo.bd_seq() == 3);
    }
}
