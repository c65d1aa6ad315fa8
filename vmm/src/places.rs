//! Where a path of the configuration leads, for a process that may open and write anything.
//!
//! Duty: root goes through no symbolic link that anybody else made: whoever may write a folder on the way could have it
//! open, lengthen or replace any file of the host by a link in the place of another. Most paths have no link at all, and
//! the kernel says so while it opens them; the others are walked step by step, each folder held open. For an ordinary
//! user a path is opened as it is; what it reaches it may. Not here: what is done with what was opened.
//!
//! Invariant: nothing changes between the look at a step and its use. A [`Place`] holds the folder that was walked to, so
//! none is kept by a process that goes into a jail: it would lead out of it.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, open as open_as_it_is, openat, openat2, readlinkat};
use nix::sys::stat::{Mode, SFlag, fstat};
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};
use nix::unistd::geteuid;

/// Links in one path: as many as the kernel follows.
const MOST_LINKS: u32 = 40;
/// Looks at a step, whatever it is.
const LOOK: OFlag = OFlag::O_PATH.union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);
/// Of a file that is made.
const MODE: Mode = Mode::from_bits_truncate(0o666);

/// Opens what `path` leads to.
pub fn open(path: &Path, flags: OFlag) -> io::Result<File> {
    let flags = flags | OFlag::O_CLOEXEC;
    if !geteuid().is_root() {
        return Ok(open_as_it_is(path, flags, MODE)?.into());
    }
    let mode = if flags.contains(OFlag::O_CREAT) { MODE } else { Mode::empty() };
    let how = OpenHow::new().flags(flags).mode(mode).resolve(ResolveFlag::RESOLVE_NO_SYMLINKS);
    match openat2(AT_FDCWD, path, how) {
        // There is a link; or the kernel is older than Linux 5.6, or a container does not let this call through.
        Err(Errno::ELOOP | Errno::ENOSYS | Errno::EPERM) => {}
        opened => return Ok(opened?.into()),
    }
    match walk(path, true)? {
        End::Step(place) => place.open(&place.path(), flags),
        End::Kernels(found) => Ok(open_as_it_is(&held(&found), flags, MODE)?.into()),
    }
}

/// The last step of a path, in the folder that it is in.
#[derive(Debug)]
pub struct Place {
    folder: OwnedFd,
    /// Where nothing is left of a path but its root, that folder.
    name: OsString,
}

/// Where a walk ends.
enum End {
    Step(Place),
    /// At what one of the kernel's own links in `/proc` is for, which has no path.
    Kernels(OwnedFd),
}

impl Place {
    /// Where `path` leads. What the last step is called there need not exist, and is no link if it does.
    pub fn of(path: &Path) -> io::Result<Self> {
        match walk(path, geteuid().is_root())? {
            End::Step(place) => Ok(place),
            End::Kernels(_) => Err(Errno::ELOOP.into()),
        }
    }

    /// What is called `name` in `folder`, a link or not.
    pub fn within(folder: &Path, name: impl Into<OsString>) -> io::Result<Self> {
        let folder = open(folder, OFlag::O_PATH | OFlag::O_DIRECTORY)?;
        Ok(Self { folder: folder.into(), name: name.into() })
    }

    /// Leads there as long as this lives, without a second walk. Whoever opens it follows no link at its end.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.beside("")
    }

    /// The same for another name in the folder: with `suffix` behind it.
    #[must_use]
    pub fn beside(&self, suffix: impl AsRef<OsStr>) -> PathBuf {
        let mut name = self.name.clone();
        name.push(suffix);
        held(&self.folder).join(name)
    }

    /// The same for a name that listings do not show, with `suffix` behind it.
    #[must_use]
    pub fn hidden(&self, suffix: &str) -> PathBuf {
        let mut name = OsString::from(".");
        name.push(&self.name);
        name.push(suffix);
        held(&self.folder).join(name)
    }

    /// Opens one of these, and never what a link there leads to.
    pub fn open(&self, one: &Path, flags: OFlag) -> io::Result<File> {
        Ok(open_as_it_is(one, flags | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, MODE)?.into())
    }

    /// Whether `file` is what is there now.
    #[must_use]
    pub fn has(&self, file: &File) -> bool {
        let of = |data: std::fs::Metadata| (data.dev(), data.ino());
        let there = self.path().symlink_metadata().map(of);
        there.is_ok_and(|there| file.metadata().is_ok_and(|data| of(data) == there))
    }

    /// Makes durable which names are in the folder.
    pub fn sync_folder(&self) -> io::Result<()> {
        OpenOptions::new()
            .read(true)
            .custom_flags(OFlag::O_DIRECTORY.bits())
            .open(held(&self.folder))?
            .sync_all()
    }
}

/// Leads to what is open.
pub(crate) fn held(open: &impl AsRawFd) -> PathBuf {
    Path::new("/proc/self/fd").join(open.as_raw_fd().to_string())
}

/// Step by step, as root or as anybody.
fn walk(path: &Path, root: bool) -> io::Result<End> {
    let mut folder = openat(AT_FDCWD, ".", LOOK | OFlag::O_DIRECTORY, Mode::empty())?;
    let mut ahead = VecDeque::new();
    push(&mut ahead, path);
    let mut links = 0;
    while let Some(step) = ahead.pop_front() {
        let found = match look(&folder, &step, ahead.is_empty()) {
            Err(Errno::ENOENT) if ahead.is_empty() => return Ok(End::Step(Place { folder, name: step })),
            found => found?,
        };
        let stat = fstat(&found)?;
        let kind = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT;
        if kind == SFlag::S_IFLNK {
            if root && stat.st_uid != 0 {
                let (step, user) = (step.display(), stat.st_uid);
                let why = format!(
                    "`{step}` on the way is a symbolic link of user {user}, which root does not follow"
                );
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
            }
            links += 1;
            if links > MOST_LINKS {
                return Err(Errno::ELOOP.into());
            }
            if fstatfs(&folder)?.filesystem_type() == PROC_SUPER_MAGIC
                && let Ok(end) = openat(&folder, step.as_os_str(), LOOK & !OFlag::O_NOFOLLOW, Mode::empty())
            {
                // What stands in such a link is for people to read.
                if ahead.is_empty() {
                    return Ok(End::Kernels(end));
                }
                folder = end;
            } else {
                push(&mut ahead, Path::new(&readlinkat(&found, "")?));
            }
        } else if ahead.is_empty() && step != ".." && step != "/" {
            return Ok(End::Step(Place { folder, name: step }));
        } else {
            folder = found;
        }
    }
    Ok(End::Step(Place { folder, name: OsString::from(".") }))
}

/// A step. One on the way is asked for as a folder first, or a file system that is mounted when somebody comes by would
/// not be there.
fn look(folder: &impl AsFd, step: &OsStr, last: bool) -> nix::Result<OwnedFd> {
    if !last {
        match openat(folder, step, LOOK | OFlag::O_DIRECTORY, Mode::empty()) {
            Err(Errno::ENOTDIR | Errno::ELOOP) => {}
            found => return found,
        }
    }
    openat(folder, step, LOOK, Mode::empty())
}

/// The steps of `path`, in front of those ahead.
fn push(ahead: &mut VecDeque<OsString>, path: &Path) {
    let steps = path.components().filter(|step| *step != Component::CurDir);
    for step in steps.rev() {
        ahead.push_front(step.as_os_str().to_owned());
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{lchown, symlink};

    use super::*;

    fn read(path: &Path) -> io::Result<String> {
        open(path, OFlag::O_RDONLY).and_then(io::read_to_string)
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
    fn the_kernel_s_own_links_lead_to_what_they_are_for() {
        let (reader, writer) = std::io::pipe().unwrap();
        let tree = tree();
        let link = tree.path().join("printed");
        symlink(held(&writer), &link).unwrap();
        for path in [held(&writer), link] {
            let mut file = open(&path, OFlag::O_WRONLY).unwrap();
            io::Write::write_all(&mut file, b"x").unwrap();
        }
        drop(writer);
        assert_eq!(io::read_to_string(reader).unwrap(), "xx");
        let folder = File::open(tree.path()).unwrap();
        assert!(Place::within(&held(&folder), "printed").unwrap().path().is_symlink());
        assert!(Place::of(Path::new("/proc/self/cwd/Cargo.toml")).unwrap().path().is_file());
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
            assert!(walk(&at(path), false).is_ok(), "an ordinary user does");
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
        let opened = place.open(&place.path(), OFlag::O_RDONLY);
        assert_eq!(opened.unwrap_err().raw_os_error(), Some(nix::libc::ELOOP));
    }
}
