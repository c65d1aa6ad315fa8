//! The cache folder: everything that is built or fetched once and used many times.
//!
//! Duty: entries named by the hash of their inputs, locks between runs, log files, and the bound on all of it.
//! Not here: what an entry holds. Invariant: a folder with an entry's name is complete, because it is built
//! under another name, flushed, and renamed; one run builds it while the others wait.
//!
//! ```text
//! entry: absent -> (lock) -> tmp/KIND-KEY.PID -> (flush, rename) -> KIND/KEY -> (unused, too many) -> absent
//! ```

use std::{
    env,
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, SystemTime},
};

use thiserror::Error;

use crate::digest::Key;

/// Entries of one kind that stay: enough for a few branches with different configurations.
const ENTRIES_PER_KIND: usize = 4;
/// An entry used this recently is never dropped: another run may be reading it.
const ENTRY_REST: Duration = Duration::from_secs(24 * 3600);
/// Log files that stay; each is a few hundred KiB at most.
const LOGS_KEPT: usize = 100;
/// The file that marks a folder which this program made for itself alone, and what it says: the first line is
/// the convention by which backup programs know caches, the second tells this one from other programs' caches.
const MARKER: (&str, &str) = (
    "CACHEDIR.TAG",
    "Signature: 8a477f597d28d172789f06886806bc55\n# Made by Hearth's cargo xtask, which can make all of it again.\n",
);

#[derive(Debug, Error)]
pub(crate) enum CacheError {
    #[error("no place for the cache: set HEARTH_CACHE, XDG_CACHE_HOME or HOME")]
    NoPlace,
    #[error("{} held other things before it became the cache: please remove it by hand", path.display())]
    NotOurs { path: PathBuf },
    #[error("the cache folder: cannot {what} {}", path.display())]
    Io { what: &'static str, path: PathBuf, source: io::Error },
}

fn failed<'a>(what: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> CacheError + use<'a> {
    move |source| CacheError::Io { what, path: path.to_owned(), source }
}

/// The folder, created if need be.
#[derive(Debug)]
pub(crate) struct Cache {
    root: PathBuf,
    /// Logs begun by this run; sets those of one name apart.
    logs: AtomicUsize,
}

/// Held while its owner may write what it names; released when dropped, and by the kernel if the owner dies.
#[derive(Debug)]
#[must_use = "the lock is released as soon as this is dropped"]
pub(crate) struct Lock {
    _file: File,
}

impl Cache {
    /// `$HEARTH_CACHE`, else `$XDG_CACHE_HOME/hearth`, else `~/.cache/hearth`.
    pub(crate) fn open() -> Result<Self, CacheError> {
        let set = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let root = set("HEARTH_CACHE")
            .or_else(|| set("XDG_CACHE_HOME").map(|home| home.join("hearth")))
            .or_else(|| set("HOME").map(|home| home.join(".cache/hearth")))
            .ok_or(CacheError::NoPlace)?;
        Self::at(&root)
    }

    pub(crate) fn at(root: &Path) -> Result<Self, CacheError> {
        // Nothing is there yet, so whatever will be there is ours.
        let fresh = !root.exists() || list(root)?.is_empty();
        for part in ["tmp", "locks", "logs"] {
            let path = root.join(part);
            fs::create_dir_all(&path).map_err(failed("create", &path))?;
        }
        if fresh {
            let path = root.join(MARKER.0);
            fs::write(&path, MARKER.1).map_err(failed("write", &path))?;
        }
        // Absolute, because commands run in other folders get paths below it.
        let root = fs::canonicalize(root).map_err(failed("find", root))?;
        Ok(Self { root, logs: AtomicUsize::new(0) })
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Whether all of the folder may be removed: not if it was somebody's before it became the cache.
    pub(crate) fn is_ours(&self) -> Result<(), CacheError> {
        let marked = fs::read_to_string(self.root.join(MARKER.0)).is_ok_and(|text| text == MARKER.1);
        if marked { Ok(()) } else { Err(CacheError::NotOurs { path: self.root.clone() }) }
    }

    /// A plain folder for things that name themselves (downloaded packages, apt's own state).
    pub(crate) fn shelf(&self, name: &str) -> Result<PathBuf, CacheError> {
        let path = self.root.join(name);
        fs::create_dir_all(&path).map_err(failed("create", &path))?;
        Ok(path)
    }

    /// The folder of the entry `kind`/`key`; `build` fills it if it is not there yet.
    pub(crate) fn entry<E: From<CacheError>>(
        &self,
        kind: &str,
        key: &Key,
        build: impl FnOnce(&Path) -> Result<(), E>,
    ) -> Result<PathBuf, E> {
        let place = self.root.join(kind).join(key.to_string());
        if self.revive(&place) {
            return Ok(place);
        }
        let _lock = self.lock(&format!("{kind}-{key}"))?;
        if self.revive(&place) {
            return Ok(place);
        }
        let scratch = self.scratch(&format!("{kind}-{key}"))?;
        let built = build(&scratch).and_then(|()| Ok(self.settle(&scratch, &place, key)?));
        if built.is_err() {
            // The failure that is reported is the build's; what is left behind is swept by the next attempt.
            let _ = fs::remove_dir_all(&scratch);
        }
        built?;
        self.prune(kind, &place);
        Ok(place)
    }

    /// Waits until no other run holds `name`.
    pub(crate) fn lock(&self, name: &str) -> Result<Lock, CacheError> {
        let path = self.root.join("locks").join(name);
        let file = File::create(&path).map_err(failed("create the lock", &path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                eprintln!("  another run holds {name} in the cache: waiting for it");
                file.lock().map_err(failed("lock", &path))?;
            }
            Err(TryLockError::Error(source)) => return Err(failed("lock", &path)(source)),
        }
        Ok(Lock { _file: file })
    }

    /// An empty folder, for the one who holds the lock `name`; what a dead run left of it is swept away.
    pub(crate) fn scratch(&self, name: &str) -> Result<PathBuf, CacheError> {
        let all = self.root.join("tmp");
        let prefix = format!("{name}.");
        for stale in list(&all)?.into_iter().filter(|path| file_name(path).starts_with(&prefix)) {
            fs::remove_dir_all(&stale).map_err(failed("remove", &stale))?;
        }
        let path = all.join(format!("{prefix}{}", process::id()));
        fs::create_dir(&path).map_err(failed("create", &path))?;
        Ok(path)
    }

    /// Where the log of one command goes; old logs make room.
    pub(crate) fn log_path(&self, name: &str) -> Result<PathBuf, CacheError> {
        let logs = self.root.join("logs");
        let mut old = by_last_use(&logs)?;
        old.truncate(old.len().saturating_sub(LOGS_KEPT));
        for (_, path) in old {
            // Another run may have swept it first.
            let _ = fs::remove_file(path);
        }
        let number = self.logs.fetch_add(1, Ordering::Relaxed);
        Ok(logs.join(format!("{name}.{}-{number}.log", process::id())))
    }

    /// Marks a finished entry as used.
    fn revive(&self, place: &Path) -> bool {
        let Ok(folder) = File::open(place) else { return false };
        // Only the order of pruning hangs on it: a cache on a read-only disk still serves.
        let _ = folder.set_modified(SystemTime::now());
        true
    }

    fn settle(&self, scratch: &Path, place: &Path, key: &Key) -> Result<(), CacheError> {
        let inputs = scratch.join("inputs");
        fs::write(&inputs, key.listing()).map_err(failed("write", &inputs))?;
        flush(scratch)?;
        let kind = place.parent().unwrap_or(&self.root);
        fs::create_dir_all(kind).map_err(failed("create", kind))?;
        fs::rename(scratch, place).map_err(failed("rename into place", place))?;
        flush_one(kind)
    }

    /// Drops the entries of `kind` that were used longest ago, never `fresh`. A failure costs disk, not results.
    fn prune(&self, kind: &str, fresh: &Path) {
        let Ok(mut entries) = by_last_use(&self.root.join(kind)) else { return };
        entries.truncate(entries.len().saturating_sub(ENTRIES_PER_KIND));
        for (used, path) in entries {
            let rested = used.elapsed().is_ok_and(|age| age > ENTRY_REST);
            if rested && path != fresh {
                let _ = fs::remove_dir_all(path);
            }
        }
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

fn list(folder: &Path) -> Result<Vec<PathBuf>, CacheError> {
    let entries = fs::read_dir(folder).map_err(failed("list", folder))?;
    entries.map(|entry| Ok(entry.map_err(failed("list", folder))?.path())).collect()
}

/// What is in `folder`, the longest unused first.
fn by_last_use(folder: &Path) -> Result<Vec<(SystemTime, PathBuf)>, CacheError> {
    let mut found: Vec<_> = list(folder)?
        .into_iter()
        // Gone between listing and looking: another run swept it.
        .filter_map(|path| Some((fs::symlink_metadata(&path).and_then(|meta| meta.modified()).ok()?, path)))
        .collect();
    found.sort();
    Ok(found)
}

/// Everything below `path` reaches the disk before the rename does, or a power cut leaves an empty "finished"
/// entry that is trusted for ever.
fn flush(path: &Path) -> Result<(), CacheError> {
    for inner in list(path)? {
        let meta = fs::symlink_metadata(&inner).map_err(failed("look at", &inner))?;
        if meta.is_dir() {
            flush(&inner)?;
        } else if meta.is_file() {
            flush_one(&inner)?;
        }
    }
    flush_one(path)
}

fn flush_one(path: &Path) -> Result<(), CacheError> {
    File::open(path).and_then(|file| file.sync_all()).map_err(failed("flush", path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Inputs;

    fn key(value: &str) -> Key {
        Inputs::new().text("value", value).key()
    }

    #[test]
    fn an_entry_is_built_once_and_then_found() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path()).unwrap();
        let build = |path: &Path| -> Result<(), CacheError> {
            fs::write(path.join("out"), "made").map_err(failed("write", path))
        };
        let first = cache.entry("thing", &key("a"), build).unwrap();
        assert_eq!(fs::read_to_string(first.join("out")).unwrap(), "made");
        let again = cache.entry::<CacheError>("thing", &key("a"), |_| panic!("built twice")).unwrap();
        assert_eq!(first, again);
        assert_ne!(first, cache.entry("thing", &key("b"), build).unwrap());
    }

    #[test]
    fn only_a_folder_that_was_made_as_a_cache_may_be_removed() {
        let folder = tempfile::tempdir().unwrap();
        let new = folder.path().join("new");
        assert!(Cache::at(&new).unwrap().is_ours().is_ok());
        assert!(Cache::at(&new).unwrap().is_ours().is_ok(), "and it stays so");
        let home = folder.path().join("home");
        fs::create_dir(&home).unwrap();
        fs::write(home.join("letter"), "Dear").unwrap();
        assert!(matches!(Cache::at(&home).unwrap().is_ours(), Err(CacheError::NotOurs { .. })));
        assert!(matches!(Cache::at(&home).unwrap().is_ours(), Err(CacheError::NotOurs { .. })));
        fs::write(home.join(MARKER.0), "Signature: 8a477f597d28d172789f06886806bc55\n").unwrap();
        assert!(Cache::at(&home).unwrap().is_ours().is_err(), "another program's cache");
    }

    #[test]
    fn a_failed_build_leaves_no_entry_and_no_scratch() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path()).unwrap();
        let outcome = cache.entry("thing", &key("a"), |path| {
            fs::write(path.join("half"), "x").unwrap();
            Err(CacheError::NoPlace)
        });
        assert!(matches!(outcome, Err(CacheError::NoPlace)));
        assert!(!folder.path().join("thing").exists());
        assert_eq!(list(&folder.path().join("tmp")).unwrap(), Vec::<PathBuf>::new());
    }

    #[test]
    fn scratch_of_a_dead_run_is_swept_and_others_stay() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path()).unwrap();
        let dead = folder.path().join("tmp/thing-1.0");
        let other = folder.path().join("tmp/thing-12.0");
        fs::create_dir(&dead).unwrap();
        fs::create_dir(&other).unwrap();
        cache.scratch("thing-1").unwrap();
        assert!(!dead.exists());
        assert!(other.exists());
    }

    #[test]
    fn only_rested_entries_beyond_the_bound_are_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path()).unwrap();
        let made: Vec<_> = (0..ENTRIES_PER_KIND + 2)
            .map(|n| cache.entry::<CacheError>("thing", &key(&n.to_string()), |_| Ok(())).unwrap())
            .collect();
        assert!(made.iter().all(|path| path.exists()));
        let long_ago = SystemTime::now() - ENTRY_REST * 2;
        File::open(&made[0]).unwrap().set_modified(long_ago).unwrap();
        cache.entry::<CacheError>("thing", &key("last"), |_| Ok(())).unwrap();
        assert!(!made[0].exists());
        assert!(made[1..].iter().all(|path| path.exists()));
    }
}
