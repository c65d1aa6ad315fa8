//! The few things that are done to files, each of which a power cut can come before or after.
//!
//! Duty: a folder of small files; whole files in place of others. Not here: what is in them.
//! Invariant: [`Disk::replace`] leaves the old file or the new one, whole, wherever it is cut short.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Bytes of a file that is read at all. All that the daemon writes is bounded far below.
pub const MAX_FILE: u64 = 64 << 20;
/// Nobody but the owner: records hold what people decided.
const PRIVATE_FOLDER: u32 = 0o700;
const PRIVATE_FILE: u32 = 0o600;
/// Files that are held open at a time: those that are written to are few, and the others may go.
const MAX_OPEN: usize = 8;

/// Names are file names, without folders.
pub trait Disk {
    /// `None`: there is no such file.
    fn read(&mut self, name: &str) -> io::Result<Option<Vec<u8>>>;
    /// A file with just this in it.
    fn create(&mut self, name: &str, bytes: &[u8]) -> io::Result<()>;
    fn append(&mut self, name: &str, bytes: &[u8]) -> io::Result<()>;
    /// What was written stays through a power cut.
    fn sync(&mut self, name: &str) -> io::Result<()>;
    fn rename(&mut self, from: &str, to: &str) -> io::Result<()>;
    /// No fault if there is no such file.
    fn remove(&mut self, name: &str) -> io::Result<()>;
    /// All files, by name, with their bytes.
    fn list(&mut self) -> io::Result<Vec<(String, u64)>>;
    /// Bytes that may still be written.
    fn free(&mut self) -> io::Result<u64>;
    /// Likewise for names.
    fn sync_folder(&mut self) -> io::Result<()>;

    fn replace(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let new = format!("{name}.new");
        self.create(&new, bytes)?;
        self.sync(&new)?;
        self.rename(&new, name)?;
        self.sync_folder()
    }
}

/// The real one.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    /// Those that are being written.
    open: BTreeMap<String, File>,
}

impl Folder {
    pub fn open(path: &Path) -> io::Result<Folder> {
        DirBuilder::new().recursive(true).mode(PRIVATE_FOLDER).create(path)?;
        Ok(Folder { path: path.to_owned(), open: BTreeMap::new() })
    }

    fn file(&mut self, name: &str) -> io::Result<&mut File> {
        if !self.open.contains_key(name) {
            let file = OpenOptions::new().append(true).open(self.path.join(name))?;
            if self.open.len() >= MAX_OPEN {
                self.open.clear();
            }
            self.open.insert(name.to_owned(), file);
        }
        self.open.get_mut(name).ok_or_else(|| ErrorKind::NotFound.into())
    }
}

impl Disk for Folder {
    fn read(&mut self, name: &str) -> io::Result<Option<Vec<u8>>> {
        let file = match File::open(self.path.join(name)) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        if file.metadata()?.len() > MAX_FILE {
            return Err(ErrorKind::FileTooLarge.into());
        }
        let mut bytes = Vec::new();
        file.take(MAX_FILE).read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }

    fn create(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.open.remove(name);
        let path = self.path.join(name);
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(PRIVATE_FILE).open(path)?;
        file.write_all(bytes)?;
        Ok(())
    }

    fn append(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.file(name)?.write_all(bytes)
    }

    fn sync(&mut self, name: &str) -> io::Result<()> {
        self.file(name)?.sync_data()
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        self.open.remove(from);
        self.open.remove(to);
        fs::rename(self.path.join(from), self.path.join(to))
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        self.open.remove(name);
        match fs::remove_file(self.path.join(name)) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn list(&mut self) -> io::Result<Vec<(String, u64)>> {
        let mut files = Vec::new();
        for entry in self.path.read_dir()? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            // Names of ours are text; others are nobody's here.
            if let (true, Ok(name)) = (metadata.is_file(), entry.file_name().into_string()) {
                files.push((name, metadata.len()));
            }
        }
        files.sort();
        Ok(files)
    }

    fn free(&mut self) -> io::Result<u64> {
        let of = nix::sys::statvfs::statvfs(&self.path)?;
        Ok(of.blocks_available().saturating_mul(of.fragment_size()))
    }

    fn sync_folder(&mut self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_does_what_is_asked_and_lists_only_its_files() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("a/b");
        let mut disk = Folder::open(&path).unwrap();
        fs::create_dir(path.join("folder")).unwrap();
        disk.create("two", b"2").unwrap();
        disk.append("two", b"22").unwrap();
        disk.replace("one", b"1").unwrap();
        disk.sync("two").unwrap();
        assert_eq!(disk.list().unwrap(), [("one".to_owned(), 1), ("two".to_owned(), 3)]);
        assert_eq!(disk.read("two").unwrap().unwrap(), b"222");
        disk.remove("two").unwrap();
        disk.remove("two").unwrap();
        assert_eq!(disk.read("two").unwrap(), None);
        assert!(disk.free().unwrap() > 0);
        assert!(disk.append("two", b"x").is_err(), "what was removed is not written to behind one's back");
    }

    #[test]
    fn few_files_are_held_open() {
        let place = tempfile::tempdir().unwrap();
        let mut disk = Folder::open(place.path()).unwrap();
        for number in 0..3 * MAX_OPEN {
            let name = number.to_string();
            disk.create(&name, b"").unwrap();
            disk.append(&name, b"x").unwrap();
            assert!(disk.open.len() <= MAX_OPEN);
        }
    }
}
