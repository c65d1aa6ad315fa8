//! Reading a log: its last lines, and what comes behind them.
//!
//! Duty: a place in a workload's files that moves on with what is written, over rotations. Blocking: it is for threads
//! that may wait for a disk. Not here: when there is more (`writer` rings).
//! Invariant: it holds one file and no lines. A file that was rotated is read to its end, as it is held open; who is
//! so slow that files went meanwhile goes on with the oldest that there is, and is told.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::shelf::path;

/// Bytes that are read at once: some hundred lines.
const PIECE_BYTES: usize = 16 << 10;
/// Files that are looked for at most: more than a configuration may ask for.
const MAX_FILES: u32 = 100;

#[derive(Debug)]
pub(crate) struct Tail {
    folder: PathBuf,
    name: String,
    place: Option<(File, u64)>,
}

/// What a look at the files gave.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// Whole lines, as far as there are any.
    Lines(Vec<u8>),
    /// Some were removed before they were read.
    Lost,
    /// Nothing, until more is written.
    End,
}

impl Tail {
    /// Behind all but the last `lines` lines.
    pub(crate) fn open(folder: &Path, name: &str, lines: usize) -> io::Result<Tail> {
        let mut tail = Tail { folder: folder.to_owned(), name: name.to_owned(), place: None };
        let mut missing = lines;
        for age in 0..MAX_FILES {
            let Some(file) = tail.file(age)? else { break };
            let (offset, found) = last_lines(&file, missing)?;
            tail.place = Some((file, offset));
            missing -= found;
            if missing == 0 {
                break;
            }
        }
        Ok(tail)
    }

    pub(crate) fn next(&mut self) -> io::Result<Piece> {
        let Some((file, offset)) = &mut self.place else {
            self.place = self.file(0)?.map(|file| (file, 0));
            return if self.place.is_some() { self.next() } else { Ok(Piece::End) };
        };
        let mut piece = vec![0; PIECE_BYTES];
        let length = file.read_at(&mut piece, *offset)?;
        let whole = match piece[..length].iter().rposition(|byte| *byte == b'\n') {
            Some(end) => end + 1,
            // A full piece without an end was not written by us. Half a line is what was written so far.
            None if length == PIECE_BYTES => length,
            None => 0,
        };
        if whole > 0 {
            *offset += u64::try_from(whole).unwrap_or(u64::MAX);
            piece.truncate(whole);
            return Ok(Piece::Lines(piece));
        }
        self.turn_the_page()
    }

    /// To the file behind the one that was read to its end, if that is not the newest.
    fn turn_the_page(&mut self) -> io::Result<Piece> {
        let Some((held, _)) = &self.place else { return Ok(Piece::End) };
        let held = held.metadata()?.ino();
        let mut newer = None;
        let mut oldest = None;
        for age in 0..MAX_FILES {
            let Some(file) = self.file(age)? else {
                // Between two renames of a rotation, the newest is not there.
                if age == 0 { continue } else { break }
            };
            if file.metadata()?.ino() == held {
                let Some(newer) = newer else { return Ok(Piece::End) };
                self.place = Some((newer, 0));
                return self.next();
            }
            newer = Some(file);
            oldest = newer.as_ref().map(File::try_clone).transpose()?;
        }
        match oldest {
            Some(file) => {
                self.place = Some((file, 0));
                Ok(Piece::Lost)
            }
            None => Ok(Piece::End),
        }
    }

    fn file(&self, age: u32) -> io::Result<Option<File>> {
        match File::open(path(&self.folder, &self.name, age)) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Where the last `lines` lines of a file begin, and how many there are.
fn last_lines(file: &File, lines: usize) -> io::Result<(u64, usize)> {
    let mut end = file.metadata()?.len();
    let mut found = 0;
    let mut piece = vec![0; PIECE_BYTES];
    while end > 0 {
        let length = u64::try_from(PIECE_BYTES).unwrap_or(u64::MAX).min(end);
        let bytes = &mut piece[..usize::try_from(length).unwrap_or(PIECE_BYTES)];
        file.read_exact_at(bytes, end - length)?;
        for (place, byte) in bytes.iter().enumerate().rev() {
            if *byte == b'\n' {
                let behind = end - length + u64::try_from(place).unwrap_or(u64::MAX) + 1;
                // What is behind the last newline is no line yet.
                if found == lines {
                    return Ok((behind, found));
                }
                found += 1;
            }
        }
        end -= length;
    }
    Ok((0, found))
}

#[cfg(test)]
mod tests {
    use super::super::shelf::{Caps, Shelf};
    use super::*;

    const CAPS: Caps = Caps { bytes: 10, files: 3 };

    fn read(tail: &mut Tail) -> String {
        let mut text = String::new();
        loop {
            match tail.next().unwrap() {
                Piece::Lines(lines) => text.push_str(std::str::from_utf8(&lines).unwrap()),
                Piece::Lost => text.push_str("LOST\n"),
                Piece::End => return text,
            }
        }
    }

    #[test]
    fn the_last_lines_are_found_over_all_files() {
        let folder = tempfile::tempdir().unwrap();
        Shelf::new(folder.path(), "web", CAPS).append("1\n2\n3\n4\n5\n6\n7\n8\n").unwrap();
        let last = |lines| read(&mut Tail::open(folder.path(), "web", lines).unwrap());
        assert_eq!(last(0), "");
        assert_eq!(last(2), "7\n8\n");
        assert_eq!(last(3), "6\n7\n8\n");
        assert_eq!(last(4), "5\n6\n7\n8\n");
        assert_eq!(last(99), "1\n2\n3\n4\n5\n6\n7\n8\n");
    }

    #[test]
    fn lines_longer_than_a_piece_are_found_too() {
        let folder = tempfile::tempdir().unwrap();
        let caps = Caps { bytes: 1 << 20, files: 2 };
        let long = "x".repeat(PIECE_BYTES + 5);
        Shelf::new(folder.path(), "web", caps).append(&format!("a\n{long}\nb\n")).unwrap();
        assert_eq!(read(&mut Tail::open(folder.path(), "web", 2).unwrap()), format!("{long}\nb\n"));
    }

    #[test]
    fn who_follows_reads_on_over_rotations_and_misses_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let mut shelf = Shelf::new(folder.path(), "web", CAPS);
        let mut tail = Tail::open(folder.path(), "web", 5).unwrap();
        assert_eq!(read(&mut tail), "");
        let mut heard = String::new();
        for number in 10..60 {
            shelf.append(&format!("{number}\n")).unwrap();
            if number % 5 == 0 {
                heard.push_str(&read(&mut tail));
            }
        }
        let all: String = (10..=55).map(|number| format!("{number}\n")).collect();
        assert_eq!(heard, all);
    }

    #[test]
    fn who_is_too_slow_is_told_and_goes_on_with_the_oldest_there_is() {
        let folder = tempfile::tempdir().unwrap();
        let mut shelf = Shelf::new(folder.path(), "web", CAPS);
        shelf.append("1\n").unwrap();
        let mut tail = Tail::open(folder.path(), "web", 5).unwrap();
        assert_eq!(read(&mut tail), "1\n");
        shelf.append("12345678\n12345679\n12345670\n12345671\n").unwrap();
        assert_eq!(read(&mut tail), "LOST\n12345679\n12345670\n12345671\n");
    }

    #[test]
    fn half_a_line_waits_for_its_other_half() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(path(folder.path(), "web", 0), "one\ntw").unwrap();
        let mut tail = Tail::open(folder.path(), "web", 1).unwrap();
        assert_eq!(read(&mut tail), "one\n");
        std::fs::write(path(folder.path(), "web", 0), "one\ntwo\n").unwrap();
        assert_eq!(read(&mut tail), "two\n");
    }
}
