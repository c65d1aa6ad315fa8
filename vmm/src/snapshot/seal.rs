//! `seal`: which file `memory` was when it was last read whole.
//!
//! Reading all of a machine's memory to compare its sum takes longer than everything else about a restore together. So
//! it is done once for each file: who has done it leaves the file's identity and its times here, and as long as they
//! are the same nobody has changed the file. A copy on another box has other ones, and is read whole there.
//!
//! A seal is worth as much as the permission to write the folder: it guards against damage, not against malice.
//! Whatever is wrong with it, or keeps it from being written, costs time and nothing else.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::folder::SEAL;

/// Bytes of a seal, at most.
const MAX: u64 = 512;

/// What a seal says of a file with this sum.
fn text(memory: &File, sum: u64) -> io::Result<String> {
    let data = memory.metadata()?;
    Ok(format!(
        "{sum:016x} {} {} {} {}.{} {}.{}\n",
        data.dev(),
        data.ino(),
        data.len(),
        data.mtime(),
        data.mtime_nsec(),
        data.ctime(),
        data.ctime_nsec()
    ))
}

/// Whether `memory` was found to have this sum before, and was not changed since.
pub(super) fn holds(folder: &Path, memory: &File, sum: u64) -> bool {
    let path = folder.join(SEAL);
    let found = File::open(path).and_then(|file| io::read_to_string(io::Read::take(file, MAX)));
    matches!((found, text(memory, sum)), (Ok(found), Ok(expected)) if found == expected)
}

/// Notes that `memory` has this sum.
pub(super) fn write(folder: &Path, memory: &File, sum: u64) {
    // By renaming: whoever reads it reads all of one.
    let temporary = folder.join(format!(".{SEAL}.{}", std::process::id()));
    let written = text(memory, sum)
        .and_then(|text| fs::write(&temporary, text))
        .and_then(|()| fs::rename(&temporary, folder.join(SEAL)));
    if let Err(error) = written {
        let _ = fs::remove_file(&temporary);
        log::debug!("{}: has no seal, memory is read whole each time: {error}", folder.display());
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    #[test]
    fn a_seal_holds_for_one_file_and_one_sum_until_the_file_changes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("memory");
        fs::write(&path, [7; 100]).unwrap();
        let file = || File::options().read(true).write(true).open(&path).unwrap();
        assert!(!holds(folder.path(), &file(), 1));
        write(folder.path(), &file(), 1);
        assert!(holds(folder.path(), &file(), 1) && !holds(folder.path(), &file(), 2));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
        // The clock of a file system ticks a few hundred times a second.
        let before = file().metadata().unwrap();
        while file().metadata().unwrap().ctime_nsec() == before.ctime_nsec() {
            file().write_all_at(&[8], 50).unwrap();
        }
        assert!(!holds(folder.path(), &file(), 1));
        fs::write(folder.path().join(SEAL), [0xff; 4096]).unwrap();
        assert!(!holds(folder.path(), &file(), 1));
    }
}
