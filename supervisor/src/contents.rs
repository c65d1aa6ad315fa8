//! What is in a file, as one number.
//!
//! Duty: a digest of a file's bytes, and of each file only once until it changes: images are large. Not here: what
//! follows from another number, resisting somebody who wants two files to look alike (signatures do).
//! Invariant: a file that was replaced, or written to, is read again; what is remembered stays through a reboot, as do the
//! numbers and times of files.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use xxhash_rust::xxh64::Xxh64;

/// What is remembered, one file to a line: its digest, its stamp, its path.
const NOTES: &str = "contents";
/// Bytes per read.
const READ_BYTES: usize = 128 << 10;
/// Of what is remembered: twice the images that a box can have, kernels and programs beside them.
const MAX_FILES: usize = 160;

/// What changes when a file does.
type Stamp = [u64; 4];

/// Digests of files.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    notes: PathBuf,
    known: BTreeMap<PathBuf, (Stamp, u64)>,
}

impl Contents {
    /// With what an earlier daemon found out.
    pub(crate) fn open(folder: &Path) -> Contents {
        let notes = folder.join(NOTES);
        let text = fs::read_to_string(&notes).unwrap_or_default();
        Contents { notes, known: text.lines().filter_map(note_of).take(MAX_FILES).collect() }
    }

    /// The digest of a file. None: it cannot be read.
    pub(crate) fn of(&mut self, path: &Path) -> Option<u64> {
        let stamp = stamp(&fs::metadata(path).ok()?);
        if let Some((known, digest)) = self.known.get(path)
            && *known == stamp
        {
            return Some(*digest);
        }
        let (stamp, digest) = read(path).ok()?;
        if self.known.len() >= MAX_FILES {
            self.known.clear();
        }
        self.known.insert(path.to_owned(), (stamp, digest));
        // Only to spare the next daemon the reading.
        let _ = self.write();
        Some(digest)
    }

    fn write(&self) -> io::Result<()> {
        let lines = self.known.iter().filter_map(|(path, (stamp, digest))| {
            // A path that is no text is read anew by the next daemon.
            let path = path.to_str().filter(|path| !path.contains('\n'))?;
            let stamp: Vec<String> = stamp.iter().map(u64::to_string).collect();
            Some(format!("{digest:016x} {} {path}\n", stamp.join(" ")))
        });
        let new = self.notes.with_extension("new");
        fs::write(&new, lines.collect::<String>())?;
        fs::rename(new, &self.notes)
    }
}

fn note_of(line: &str) -> Option<(PathBuf, (Stamp, u64))> {
    let mut words = line.splitn(6, ' ');
    let digest = u64::from_str_radix(words.next()?, 16).ok()?;
    let mut stamp = Stamp::default();
    for part in &mut stamp {
        *part = words.next()?.parse().ok()?;
    }
    Some((words.next()?.into(), (stamp, digest)))
}

fn stamp(of: &fs::Metadata) -> Stamp {
    let time =
        |seconds: i64, nanos: i64| seconds.wrapping_mul(1_000_000_000).wrapping_add(nanos).cast_unsigned();
    [of.ino(), of.len(), time(of.mtime(), of.mtime_nsec()), time(of.ctime(), of.ctime_nsec())]
}

fn read(path: &Path) -> io::Result<(Stamp, u64)> {
    let mut file = File::open(path)?;
    let stamp = stamp(&file.metadata()?);
    let mut digest = Xxh64::new(0);
    let mut buffer = vec![0; READ_BYTES];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok((stamp, digest.digest())),
            length => digest.update(&buffer[..length]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn it_is_the_bytes_that_count_and_each_file_is_read_once_until_it_changes() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("a"), "one").unwrap();
        fs::write(path("b"), "one").unwrap();
        symlink(path("a"), path("link")).unwrap();
        let mut contents = Contents::open(folder.path());
        let one = contents.of(&path("a")).unwrap();
        assert_eq!((contents.of(&path("b")), contents.of(&path("link"))), (Some(one), Some(one)));
        assert_eq!(contents.of(&path("none")), None);

        // Another file of the same name and size.
        fs::write(path("new"), "two").unwrap();
        fs::rename(path("new"), path("a")).unwrap();
        let two = contents.of(&path("a")).unwrap();
        assert_ne!(two, one);
        // The next daemon believes what was found out, and nothing about a file that has changed since.
        let text = fs::read_to_string(path(NOTES)).unwrap();
        fs::write(path(NOTES), text.replace(&format!("{two:016x}"), "00000000000000ff") + "garbage\n")
            .unwrap();
        let mut next = Contents::open(folder.path());
        assert_eq!(next.of(&path("a")), Some(255));
        fs::write(path("a"), "three").unwrap();
        assert!(next.of(&path("a")).is_some_and(|digest| digest != 255 && digest != two));
    }
}
