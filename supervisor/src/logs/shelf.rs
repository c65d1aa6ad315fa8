//! The files of one workload's log.
//!
//! ```text
//! clock.log --full--> clock.log.1 --> clock.log.2 --> ... --> removed
//! ```
//!
//! Duty: append, rotate, trim, remove. Not here: when.
//! Invariant: there are at most [`Caps::files`] files of at most [`Caps::bytes`] each, so a log never fills a disk;
//! bytes that were written are never changed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

/// What a log may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Caps {
    pub(crate) bytes: u64,
    pub(crate) files: u32,
}

#[derive(Debug)]
pub(super) struct Shelf {
    folder: PathBuf,
    name: String,
    caps: Caps,
    /// The newest one, once something was written, and its length.
    open: Option<(File, u64)>,
}

/// The file number `age` of a log, 0 being the newest.
pub(super) fn path(folder: &Path, name: &str, age: u32) -> PathBuf {
    match age {
        0 => folder.join(format!("{name}.log")),
        age => folder.join(format!("{name}.log.{age}")),
    }
}

impl Shelf {
    pub(super) fn new(folder: &Path, name: &str, caps: Caps) -> Shelf {
        Shelf { folder: folder.to_owned(), name: name.to_owned(), caps, open: None }
    }

    /// Writes whole lines. On an error some of them may have been written; the next call starts over with the file.
    pub(super) fn append(&mut self, lines: &str) -> io::Result<()> {
        let mut rest = lines;
        while !rest.is_empty() {
            let (mut file, length) = match self.open.take() {
                Some(open) => open,
                None => self.reopen()?,
            };
            let fits = whole_lines(rest, self.caps.bytes.saturating_sub(length));
            if fits == 0 && length > 0 {
                drop(file);
                self.rotate()?;
                continue;
            }
            // A single line that is larger than a file gets a file of its own.
            let fits = if fits == 0 { rest.find('\n').map_or(rest.len(), |end| end + 1) } else { fits };
            let (now, later) = rest.split_at(fits);
            file.write_all(now.as_bytes())?;
            self.open = Some((file, length + u64::try_from(now.len()).unwrap_or(u64::MAX)));
            rest = later;
        }
        Ok(())
    }

    fn reopen(&self) -> io::Result<(File, u64)> {
        let file = OpenOptions::new().append(true).create(true).open(path(&self.folder, &self.name, 0))?;
        let length = file.metadata()?.len();
        Ok((file, length))
    }

    fn rotate(&self) -> io::Result<()> {
        let at = |age| path(&self.folder, &self.name, age);
        absent_is_fine(fs::remove_file(at(self.caps.files.saturating_sub(1))))?;
        for age in (1..self.caps.files).rev() {
            absent_is_fine(fs::rename(at(age - 1), at(age)))?;
        }
        Ok(())
    }

    /// Leaves only the newest file.
    pub(super) fn trim(&self) -> io::Result<()> {
        (1..self.caps.files)
            .try_for_each(|age| absent_is_fine(fs::remove_file(path(&self.folder, &self.name, age))))
    }

    pub(super) fn remove(&mut self) -> io::Result<()> {
        self.open = None;
        self.trim()?;
        absent_is_fine(fs::remove_file(path(&self.folder, &self.name, 0)))
    }
}

fn absent_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// How many bytes of `lines` are whole lines within `room`.
fn whole_lines(lines: &str, room: u64) -> usize {
    let room = usize::try_from(room).unwrap_or(usize::MAX).min(lines.len());
    lines.as_bytes()[..room].iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAPS: Caps = Caps { bytes: 10, files: 3 };

    fn files(folder: &Path) -> Vec<String> {
        let read = |age| fs::read_to_string(path(folder, "web", age)).unwrap_or_else(|_| "-".to_owned());
        (0..4).map(read).collect()
    }

    #[test]
    fn files_are_full_of_whole_lines_and_the_oldest_goes() {
        let folder = tempfile::tempdir().unwrap();
        let mut shelf = Shelf::new(folder.path(), "web", CAPS);
        shelf.append("one\ntwo\nthree\n").unwrap();
        assert_eq!(files(folder.path()), ["three\n", "one\ntwo\n", "-", "-"]);
        shelf.append("4\n5\n6\n7\n8\n9\n10\n11\n12\n").unwrap();
        assert_eq!(files(folder.path()), ["10\n11\n12\n", "6\n7\n8\n9\n", "three\n4\n5\n", "-"]);
    }

    #[test]
    fn a_new_daemon_writes_on_where_the_last_one_ended() {
        let folder = tempfile::tempdir().unwrap();
        Shelf::new(folder.path(), "web", CAPS).append("one\n").unwrap();
        Shelf::new(folder.path(), "web", CAPS).append("two\nthree\n").unwrap();
        assert_eq!(files(folder.path())[..2], ["three\n", "one\ntwo\n"]);
    }

    #[test]
    fn a_line_that_no_file_has_room_for_has_one_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let mut shelf = Shelf::new(folder.path(), "web", CAPS);
        shelf.append("1\na line that is long\n2\n").unwrap();
        assert_eq!(files(folder.path()), ["2\n", "a line that is long\n", "1\n", "-"]);
    }

    #[test]
    fn trimming_leaves_the_newest_and_removing_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let mut shelf = Shelf::new(folder.path(), "web", CAPS);
        shelf.append("12345678\n12345678\n12345678\n").unwrap();
        shelf.trim().unwrap();
        assert_eq!(files(folder.path()), ["12345678\n", "-", "-", "-"]);
        shelf.remove().unwrap();
        assert_eq!(folder.path().read_dir().unwrap().count(), 0);
    }
}
