//! `seal`: which file `memory` was when it was last read whole.
//!
//! Reading all of a machine's memory to compare its sum takes longer than everything else about a restore together. So
//! it is done once for each file: who has done it leaves the file's identity and its times here, and as long as they
//! are the same nobody has changed the file. A copy on another box has other ones, and is read whole there.
//!
//! A seal is worth as much as the permission to write the folder: it guards against damage, not against malice.
//! Whatever is wrong with it, or keeps it from being written, costs time and nothing else.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::fcntl::OFlag;

use super::folder::SEAL;
use crate::places::{self, Place};

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
    let opened = places::open(&path, OFlag::O_RDONLY | OFlag::O_NONBLOCK);
    let found = opened.and_then(|file| io::read_to_string(io::Read::take(file, MAX)));
    matches!((found, text(memory, sum)), (Ok(found), Ok(expected)) if found == expected)
}

/// Notes that `memory` has this sum.
pub(super) fn write(folder: &Path, memory: &File, sum: u64) {
    // By renaming: whoever reads it reads all of one.
    if let Err(error) = text(memory, sum).and_then(|text| replace(folder, &text)) {
        log::debug!("{}: has no seal, memory is read whole each time: {error}", folder.display());
    }
}

fn replace(folder: &Path, text: &str) -> io::Result<()> {
    let place = Place::within(folder, SEAL)?;
    let temporary = place.hidden(&format!(".{}", std::process::id()));
    // One of a process that ended half-way, or whatever somebody put there.
    let _ = fs::remove_file(&temporary);
    let mut file = place.open(&temporary, OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL)?;
    let written = file.write_all(text.as_bytes()).and_then(|()| fs::rename(&temporary, place.path()));
    written.inspect_err(|_| {
        let _ = fs::remove_file(&temporary);
    })
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

    #[test]
    fn a_link_in_its_place_is_replaced_and_what_it_leads_to_stays() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("theirs"), "as it was").unwrap();
        fs::write(at("memory"), [0; 8]).unwrap();
        for name in [format!(".{SEAL}.{}", std::process::id()), SEAL.to_owned()] {
            std::os::unix::fs::symlink("theirs", at(&name)).unwrap();
        }
        let memory = File::open(at("memory")).unwrap();
        write(folder.path(), &memory, 7);
        assert_eq!(fs::read_to_string(at("theirs")).unwrap(), "as it was");
        assert!(holds(folder.path(), &memory, 7) && !at(SEAL).is_symlink());
    }
}
