//! The folder of a snapshot, which has its name when all of it is on stable storage, and not before.
//!
//! ```text
//!   begin ──▶ .NAME.new/ being filled ── finish: all files and the folder synced, renamed ──▶ NAME/
//!                └── dropped, or found by the next with that name: removed
//! ```

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::anchored::anchored;
use super::seal;
use crate::places::{Place, held};
use hearth_config::vm::VmConfig;
use nix::fcntl::{AT_FDCWD, OFlag, RenameFlags, renameat2};
use nix::unistd::geteuid;

/// All but memory.
pub(super) const STATE: &str = "state";
/// RAM.
pub(super) const MEMORY: &str = "memory";
/// For people.
pub(super) const MANIFEST: &str = "manifest.toml";
/// What the machine ran with.
pub(super) const CONFIG: &str = "vm.toml";
/// What a template was made of.
pub(super) const KEY: &str = "key";
/// What was checked on this host.
pub(super) const SEAL: &str = "seal";

/// What a machine's process writes into a folder; their places are the numbers by which a jailed one asks for them. What
/// it ran with and was made of is not among them: root may run that file one day, so whoever was configured writes it,
/// and not what a guest may have taken over.
pub(super) const FILES: [&str; 3] = [STATE, MEMORY, MANIFEST];

/// A guest's memory is nobody else's business.
const OURS_ALONE: u32 = 0o700;
const OURS_ALONE_FILE: u32 = 0o600;

/// Behind its name while it is being filled.
const NEW: &str = ".new";

/// What becomes of a folder that has the name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// It stays, and there is no new one.
    Kept,
    /// It goes, when the new one is whole.
    Replaced,
}

/// A folder that is being filled.
#[derive(Debug)]
pub struct Unfinished {
    /// What it will be called, in the folder that it is in.
    place: Place,
    /// The same, as whoever asked for it says.
    name: PathBuf,
    /// Itself, which nobody can put something else in the place of.
    folder: File,
    existing: Existing,
    files: Vec<File>,
}

impl Unfinished {
    /// Begins the folder `name` in `parent`, which is made if it is not there.
    pub fn begin(parent: &Path, name: &str, existing: Existing) -> io::Result<Self> {
        match DirBuilder::new().mode(OURS_ALONE).create(Place::of(parent)?.path()) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let place = Place::within(parent, name)?;
        if existing == Existing::Kept && place.path().symlink_metadata().is_ok() {
            return Err(ErrorKind::AlreadyExists.into());
        }
        let temporary = place.hidden(NEW);
        match fs::remove_dir_all(&temporary) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        DirBuilder::new().mode(OURS_ALONE).create(&temporary)?;
        let folder = place.open(&temporary, OFlag::O_RDONLY | OFlag::O_DIRECTORY)?;
        if folder.metadata()?.uid() != geteuid().as_raw() {
            return Err(ErrorKind::PermissionDenied.into());
        }
        Ok(Self { place, name: parent.join(name), folder, existing, files: Vec::new() })
    }

    /// A new file in it.
    pub(super) fn file(&mut self, name: &str) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(OURS_ALONE_FILE);
        let file = options.open(held(&self.folder).join(name))?;
        self.files.push(file.try_clone()?);
        Ok(file)
    }

    /// A new file, by its number.
    pub fn numbered(&mut self, number: u8) -> io::Result<File> {
        self.file(FILES.get(usize::from(number)).ok_or(ErrorKind::InvalidInput)?)
    }

    /// The file for RAM, for reading.
    pub fn memory_for_reading(&self) -> io::Result<File> {
        File::open(held(&self.folder).join(MEMORY))
    }

    /// Whether this is the number of the file for RAM.
    #[must_use]
    pub fn is_memory(&self, number: u8) -> bool {
        FILES.get(usize::from(number)) == Some(&MEMORY)
    }

    /// Says what it is of: a machine of `config`, made of what `key` says if it is a template.
    pub fn describe(&mut self, config: &VmConfig, key: Option<&str>) -> io::Result<()> {
        let text = anchored(config).to_toml().map_err(io::Error::other)?;
        self.write(CONFIG, text.as_bytes())?;
        key.map_or(Ok(()), |key| self.write(KEY, key.as_bytes()))
    }

    /// [`finish`](Self::finish), and notes that `memory` was found to have this sum.
    pub fn finish_sealed(self, memory: Option<&File>, sum: u64) -> io::Result<PathBuf> {
        let place = self.finish()?;
        if let Some(memory) = memory {
            seal::write(&place, memory, sum);
        }
        Ok(place)
    }

    /// A new file with this content.
    pub(super) fn write(&mut self, name: &str, content: &[u8]) -> io::Result<()> {
        io::Write::write_all(&mut self.file(name)?, content)
    }

    /// Makes it durable and gives it its name. Where it is then.
    pub(super) fn finish(mut self) -> io::Result<PathBuf> {
        for file in self.files.drain(..) {
            file.sync_all()?;
        }
        self.folder.sync_all()?;
        let (temporary, place) = (self.place.hidden(NEW), self.place.path());
        let rename = |flags| renameat2(AT_FDCWD, &temporary, AT_FDCWD, &place, flags);
        if self.existing == Existing::Kept || place.symlink_metadata().is_err() {
            // Never over a folder that somebody else made meanwhile.
            rename(RenameFlags::RENAME_NOREPLACE)?;
        } else {
            rename(RenameFlags::RENAME_EXCHANGE)?;
            // Machines that run from it have it open. What cannot be removed now, the next one removes.
            let _ = fs::remove_dir_all(&temporary);
        }
        if !self.place.has(&self.folder) {
            return Err(io::Error::other("somebody put another folder in its place"));
        }
        self.place.sync_folder()?;
        Ok(std::mem::take(&mut self.name))
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.name.as_os_str().is_empty()
            && let Err(error) = fs::remove_dir_all(self.place.hidden(NEW))
            && error.kind() != ErrorKind::NotFound
        {
            log::warn!("{}: its unfinished folder cannot be removed: {error}", self.name.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_folder_has_its_name_when_it_is_whole() {
        let place = tempfile::tempdir().unwrap();
        let parent = place.path().join("snapshots");
        let mut folder = Unfinished::begin(&parent, "a", Existing::Kept).unwrap();
        folder.write("x", b"1").unwrap();
        assert_eq!(names(&parent), [".a.new"]);
        let at = folder.finish().unwrap();
        assert_eq!((names(&parent), names(&at)), (vec!["a".into()], vec!["x".into()]));
        assert_eq!(
            Unfinished::begin(&parent, "a", Existing::Kept).unwrap_err().kind(),
            ErrorKind::AlreadyExists
        );
    }

    #[test]
    fn what_a_machine_was_is_said_by_whoever_configured_it_and_under_no_number() {
        let place = tempfile::tempdir().unwrap();
        let mut folder = Unfinished::begin(place.path(), "a", Existing::Kept).unwrap();
        let config = VmConfig::parse("vm.toml", "boot.kernel = \"/k\"").unwrap();
        folder.describe(&config, Some("made of this")).unwrap();
        for number in 0..=u8::MAX {
            let known = usize::from(number) < FILES.len();
            assert_eq!(folder.numbered(number).is_ok(), known, "{number}");
        }
        let at = folder.finish().unwrap();
        assert_eq!(names(&at), [KEY, MANIFEST, MEMORY, STATE, CONFIG]);
        assert_eq!(VmConfig::load(&at.join(CONFIG)).unwrap(), config);
        assert_eq!(fs::read_to_string(at.join(KEY)).unwrap(), "made of this");
    }

    #[test]
    fn what_was_not_finished_leaves_nothing_and_is_in_nobody_s_way() {
        let place = tempfile::tempdir().unwrap();
        drop(Unfinished::begin(place.path(), "a", Existing::Kept).unwrap());
        assert_eq!(names(place.path()), Vec::<String>::new());
        // A crash.
        fs::create_dir(place.path().join(".a.new")).unwrap();
        fs::write(place.path().join(".a.new/memory"), [0; 10]).unwrap();
        let folder = Unfinished::begin(place.path(), "a", Existing::Kept).unwrap();
        let at = folder.finish().unwrap();
        assert_eq!(names(&at), Vec::<String>::new());
    }

    #[test]
    fn a_folder_that_somebody_else_made_meanwhile_stays_theirs() {
        let place = tempfile::tempdir().unwrap();
        let folder = Unfinished::begin(place.path(), "a", Existing::Kept).unwrap();
        fs::create_dir(place.path().join("a")).unwrap();
        fs::write(place.path().join("a/theirs"), []).unwrap();
        assert!(folder.finish().is_err());
        assert_eq!(
            (names(place.path()), names(&place.path().join("a"))),
            (vec!["a".into()], vec!["theirs".into()])
        );
    }

    #[test]
    fn a_folder_that_is_replaced_is_there_at_every_moment() {
        let place = tempfile::tempdir().unwrap();
        for text in ["1", "2"] {
            let mut folder = Unfinished::begin(place.path(), "a", Existing::Replaced).unwrap();
            folder.write("x", text.as_bytes()).unwrap();
            let at = folder.finish().unwrap();
            assert_eq!(fs::read_to_string(at.join("x")).unwrap(), text);
            assert_eq!(names(place.path()), ["a"]);
        }
        drop(Unfinished::begin(place.path(), "a", Existing::Replaced).unwrap());
        assert_eq!(fs::read_to_string(place.path().join("a/x")).unwrap(), "2");
    }
}
