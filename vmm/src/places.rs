//! Where a path of the configuration leads, for a process that may open and write anything.
//!
//! Duty: walk the path step by step, each folder held open, and say where its last step is. Root goes through no symbolic
//! link that anybody else made: whoever may write a folder on the way could have root open, lengthen or replace any file
//! of the host by a link in the place of another. An ordinary user walks as the kernel does; what it reaches it may.
//! Not here: paths of the kernel's own file systems, and what is opened at the end.
//!
//! Invariant: nothing changes between the look at a step and its use. A [`Place`] holds the folder that was walked to, so
//! none is kept by a process that goes into a jail: it would lead out of it.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Component, Path, PathBuf};

use nix::fcntl::{AT_FDCWD, OFlag, openat, readlinkat};
use nix::sys::stat::{Mode, SFlag, fstat};
use nix::unistd::geteuid;

/// Links in one path: as many as the kernel follows.
const MOST_LINKS: u32 = 40;
/// Looks at a step, whatever it is.
const LOOK: OFlag = OFlag::O_PATH.union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// The last step of a path, in the folder that it is in.
#[derive(Debug)]
pub struct Place {
    folder: OwnedFd,
    /// Where nothing is left of a path but its root, that folder.
    name: OsString,
}

impl Place {
    /// Where `path` leads. What the last step is called there need not exist, and is no link if it does.
    pub fn of(path: &Path) -> io::Result<Self> {
        Self::seen_by(path, geteuid().is_root())
    }

    fn seen_by(path: &Path, root: bool) -> io::Result<Self> {
        let mut folder = openat(AT_FDCWD, ".", LOOK | OFlag::O_DIRECTORY, Mode::empty())?;
        let mut ahead = VecDeque::new();
        push(&mut ahead, path);
        let mut links = 0;
        while let Some(step) = ahead.pop_front() {
            let found = match openat(&folder, step.as_os_str(), LOOK, Mode::empty()) {
                Err(nix::Error::ENOENT) if ahead.is_empty() => return Ok(Self { folder, name: step }),
                found => found?,
            };
            let stat = fstat(&found)?;
            let kind = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT;
            if kind == SFlag::S_IFLNK {
                if root && stat.st_uid != 0 {
                    let why = format!(
                        "`{}` on the way is a symbolic link of user {}, which root does not follow",
                        step.display(),
                        stat.st_uid
                    );
                    return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
                }
                links += 1;
                if links > MOST_LINKS {
                    return Err(nix::Error::ELOOP.into());
                }
                push(&mut ahead, Path::new(&readlinkat(&found, "")?));
            } else if ahead.is_empty() && step != ".." && step != "/" {
                return Ok(Self { folder, name: step });
            } else {
                folder = found;
            }
        }
        Ok(Self { folder, name: OsString::from(".") })
    }

    /// Leads there as long as this lives, without a second walk. Whoever opens it follows no link at its end.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.beside("")
    }

    /// The same for a name that listings do not show, with `suffix` behind it.
    #[must_use]
    pub fn hidden(&self, suffix: &str) -> PathBuf {
        let mut name = OsString::from(".");
        name.push(&self.name);
        name.push(suffix);
        self.held(name)
    }

    /// Makes durable which names are in the folder.
    pub fn sync_folder(&self) -> io::Result<()> {
        File::open(self.held(OsString::from(".")))?.sync_all()
    }

    /// The same for another name in the folder: with `suffix` behind it.
    #[must_use]
    pub fn beside(&self, suffix: impl AsRef<OsStr>) -> PathBuf {
        let mut name = self.name.clone();
        name.push(suffix);
        self.held(name)
    }

    fn held(&self, name: OsString) -> PathBuf {
        Path::new("/proc/self/fd").join(self.folder.as_raw_fd().to_string()).join(name)
    }
}

/// The steps of `path`, in front of those ahead.
fn push(ahead: &mut VecDeque<OsString>, path: &Path) {
    let steps = path.components().filter(|step| *step != Component::CurDir);
    for step in steps.rev() {
        ahead.push_front(step.as_os_str().to_owned());
    }
}

/// Opens what `path` leads to, as `options` say but for flags of the system's, which are `flags`.
pub fn open(path: &Path, options: &mut OpenOptions, flags: OFlag) -> io::Result<File> {
    let place = Place::of(path)?;
    options.custom_flags((flags | OFlag::O_NOFOLLOW).bits()).open(place.path())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{lchown, symlink};

    use super::*;

    fn read(path: &Path) -> io::Result<String> {
        open(path, OpenOptions::new().read(true), OFlag::empty()).and_then(io::read_to_string)
    }

    /// `file` with a word in it, and `folder/file` with another.
    fn tree() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("folder")).unwrap();
        fs::write(root.path().join("file"), "outer").unwrap();
        fs::write(root.path().join("folder/file"), "inner").unwrap();
        root
    }

    #[test]
    fn a_path_leads_where_the_kernel_would_go() {
        let tree = tree();
        let at = |path: &str| tree.path().join(path);
        symlink("folder", at("soft")).unwrap();
        symlink(at("soft/../file"), at("folder/up")).unwrap();
        symlink("up", at("folder/again")).unwrap();
        for (path, text) in [
            ("file", "outer"),
            ("folder/file", "inner"),
            ("./folder//file", "inner"),
            ("folder/../file", "outer"),
            ("soft/file", "inner"),
            ("folder/up", "outer"),
            ("soft/again", "outer"),
        ] {
            assert_eq!(read(&at(path)).unwrap(), text, "{path}");
        }
        let place = Place::of(&at("soft/new")).unwrap();
        fs::write(place.path(), "made").unwrap();
        fs::rename(place.path(), place.beside(".1")).unwrap();
        assert_eq!(read(&at("folder/new.1")).unwrap(), "made");
        assert!(Place::of(Path::new("/")).unwrap().path().is_dir());
        assert!(Place::of(&at("folder/..")).unwrap().path().join("file").is_file());
    }

    #[test]
    fn a_path_that_leads_nowhere_says_why() {
        let tree = tree();
        let at = |path: &str| tree.path().join(path);
        symlink("loop", at("loop")).unwrap();
        symlink("gone", at("dangling")).unwrap();
        let raw = |path| read(&at(path)).unwrap_err().raw_os_error();
        assert_eq!(raw("loop"), Some(nix::libc::ELOOP));
        assert_eq!(raw("missing/file"), Some(nix::libc::ENOENT));
        assert_eq!(raw("dangling"), Some(nix::libc::ENOENT));
        assert_eq!(raw("file/file"), Some(nix::libc::ENOTDIR));
    }

    #[test]
    fn root_follows_no_link_of_anybody_else() {
        let tree = tree();
        let at = |path: &str| tree.path().join(path);
        symlink("file", at("last")).unwrap();
        symlink("folder", at("way")).unwrap();
        if !geteuid().is_root() {
            // Nobody else's link can be made here; nor does it matter to whoever is not root.
            return;
        }
        for link in ["last", "way"] {
            lchown(at(link), Some(1000), Some(1000)).unwrap();
        }
        for (path, link) in [("last", "`last`"), ("way/file", "`way`")] {
            let error = read(&at(path)).unwrap_err().to_string();
            assert!(error.starts_with(link) && error.contains("user 1000"), "{error}");
            assert!(Place::seen_by(&at(path), false).is_ok(), "an ordinary user does");
        }
    }

    #[test]
    fn a_link_put_there_after_the_walk_is_not_followed() {
        let tree = tree();
        let at = |path: &str| tree.path().join(path);
        let place = Place::of(&at("folder/file")).unwrap();
        // Its folder becomes another one, and the file a link.
        fs::rename(at("folder"), at("moved")).unwrap();
        symlink(at("moved"), at("folder")).unwrap();
        assert_eq!(fs::read_to_string(place.path()).unwrap(), "inner", "the folder that was walked to");
        fs::rename(at("moved/file"), at("moved/other")).unwrap();
        symlink("../file", at("moved/file")).unwrap();
        let mut options = OpenOptions::new();
        let flags = OFlag::O_NOFOLLOW.bits();
        let opened = options.read(true).custom_flags(flags).open(place.path());
        assert_eq!(opened.unwrap_err().raw_os_error(), Some(nix::libc::ELOOP));
    }
}
