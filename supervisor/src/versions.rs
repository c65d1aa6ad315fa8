//! What old versions of workloads were made of, for whoever has to go back to them.
//!
//! ```text
//! <store>/versions/<workload>/<version>/machine.toml   what its file said of its machines
//!                                       image          its image, as it was
//!                             .<version>.new/           being filled
//! ```
//!
//! Duty: keep what a version takes, give it back whole or not at all, remove it. Not here: which versions are needed
//! (`hearth-core`).
//! Invariants: what is given back has the digest that the version is. An image that lies in the images' folder costs
//! nothing until it is replaced there, or, where the store is another disk, at most [`MAX_COPIES`] together.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use hearth_config::workload::WorkloadConfig;
use hearth_core::Version;
use rustix::fs::ioctl_ficlone;
use smol::LocalExecutor;

use crate::console::Console;
use crate::contents::Contents;
use crate::wanted;

/// Bytes of all images that had to be copied: a quarter of the smallest disk that a gateway has.
const MAX_COPIES: u64 = 1 << 30;
const MACHINE: &str = "machine.toml";
const IMAGE: &str = "image";
const PRIVATE: u32 = 0o700;

#[derive(Debug)]
pub(crate) struct Versions {
    folder: PathBuf,
    images: PathBuf,
    /// Those that were looked after since the daemon began.
    seen: BTreeSet<(String, Version)>,
}

impl Versions {
    pub(crate) fn new(store: &Path, images: &Path) -> Versions {
        Versions { folder: store.join("versions"), images: images.to_owned(), seen: BTreeSet::new() }
    }

    fn place(&self, name: &str, version: Version) -> PathBuf {
        self.folder.join(name).join(version_name(version))
    }

    /// Keeps what machines of this version are made of, now that one of them is started. What cannot be kept is told,
    /// once.
    pub(crate) fn keep(
        &mut self,
        executor: &LocalExecutor<'static>,
        console: &Console,
        workload: &WorkloadConfig,
        version: Version,
    ) {
        let name = workload.name.as_str().to_owned();
        let place = self.place(&name, version);
        if !self.seen.insert((name.clone(), version)) || place.exists() {
            return;
        }
        let image = workload.image_in(&self.images);
        // One from elsewhere is its owner's business; it is used again if it is still the same.
        let image = image.starts_with(&self.images).then_some(image);
        let begun = Begun { new: place.with_file_name(format!(".{}.new", version_name(version))), place };
        let say = {
            let console = console.clone();
            move |error: io::Error| {
                console.say(&format!("{name}: its version {version} cannot be kept for later: {error}"));
            }
        };
        match begun.fill(&workload.machine_toml(), image.as_deref()) {
            Ok(Filled::Whole) => begun.name().unwrap_or_else(say),
            Ok(Filled::WantsCopy(image)) => {
                let copied = self.copied();
                let copy = smol::unblock(move || begun.copy(&image, copied).and_then(|()| begun.name()));
                executor.spawn(async move { copy.await.unwrap_or_else(say) }).detach();
            }
            Err(error) => say(error),
        }
    }

    /// A version that was kept, with its image where that is now.
    pub(crate) fn get(
        &self,
        name: &str,
        version: Version,
        contents: &mut Contents,
    ) -> Option<WorkloadConfig> {
        let place = self.place(name, version);
        let text = fs::read_to_string(place.join(MACHINE)).ok()?;
        let mut workload = WorkloadConfig::parse(&format!("{name}.toml"), &text).ok()?;
        let kept = place.join(IMAGE);
        let image = if kept.exists() { kept } else { workload.image_in(&self.images) };
        let is_it = wanted::with_image(wanted::build(&workload).version, contents.of(&image)) == version;
        workload.image = image;
        is_it.then_some(workload)
    }

    /// Only these versions of the workload stay.
    pub(crate) fn retain(&mut self, name: &str, keep: impl Fn(Version) -> bool) {
        self.seen.retain(|seen| seen.0 != name || keep(seen.1));
        let folder = self.folder.join(name);
        for (version, path) in entries(&folder) {
            if !version.is_some_and(&keep) {
                let _ = fs::remove_dir_all(path);
            }
        }
        // If nothing is left.
        let _ = fs::remove_dir(folder);
    }

    /// All workloads that something is kept of.
    pub(crate) fn names(&self) -> Vec<String> {
        let entries = self.folder.read_dir().into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
    }

    /// Bytes of images that nobody else has.
    fn copied(&self) -> u64 {
        let places = self.names().into_iter().flat_map(|name| entries(&self.folder.join(name)));
        let images = places.filter_map(|(_, place)| fs::metadata(place.join(IMAGE)).ok());
        images.filter(|image| image.nlink() == 1).map(|image| image.len()).sum()
    }
}

/// A version on its way to its name.
#[derive(Clone, Debug)]
struct Begun {
    new: PathBuf,
    place: PathBuf,
}

enum Filled {
    Whole,
    /// All but this image.
    WantsCopy(PathBuf),
}

impl Begun {
    fn fill(&self, machine: &str, image: Option<&Path>) -> io::Result<Filled> {
        match fs::remove_dir_all(&self.new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        DirBuilder::new().recursive(true).mode(PRIVATE).create(&self.new)?;
        fs::write(self.new.join(MACHINE), machine)?;
        let Some(image) = image else { return Ok(Filled::Whole) };
        // Where it really is: a link to a link would follow its change.
        let image = match fs::canonicalize(image) {
            Ok(image) => image,
            // The monitor says better what is wrong with it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Filled::Whole),
            Err(error) => return Err(error),
        };
        match fs::hard_link(&image, self.new.join(IMAGE)) {
            Ok(()) => Ok(Filled::Whole),
            Err(_) => Ok(Filled::WantsCopy(image)),
        }
    }

    /// Takes as long as the disk likes.
    fn copy(&self, image: &Path, copied: u64) -> io::Result<()> {
        let to = self.new.join(IMAGE);
        let bytes = fs::metadata(image)?.len();
        let (from, shared) = (File::open(image)?, File::create(&to)?);
        if ioctl_ficlone(&shared, &from).is_ok() {
            return Ok(());
        }
        if copied.saturating_add(bytes) > MAX_COPIES {
            fs::remove_dir_all(&self.new)?;
            return Err(io::Error::other("copies of images take too much room"));
        }
        fs::copy(image, &to)?;
        shared.sync_all()
    }

    fn name(&self) -> io::Result<()> {
        fs::rename(&self.new, &self.place)
    }
}

/// As file and folder names have it.
pub(crate) fn version_name(version: Version) -> String {
    format!("{:016x}", version.0)
}

/// What lies in a workload's folder, with the version if its name is one.
pub(crate) fn entries(folder: &Path) -> Vec<(Option<Version>, PathBuf)> {
    let named = |path: PathBuf| {
        // One that is being filled has a dot before its name.
        let digits = path.file_name()?.to_str()?.trim_start_matches('.').split('.').next()?;
        let version = u64::from_str_radix(digits, 16).ok().map(Version);
        Some((version, path))
    };
    folder.read_dir().into_iter().flatten().flatten().filter_map(|entry| named(entry.path())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Site {
        folder: tempfile::TempDir,
        executor: LocalExecutor<'static>,
        versions: Versions,
    }

    impl Site {
        fn new() -> Site {
            let folder = tempfile::tempdir().unwrap();
            fs::create_dir(folder.path().join("images")).unwrap();
            let versions = Versions::new(&folder.path().join("store"), &folder.path().join("images"));
            Site { folder, executor: LocalExecutor::new(), versions }
        }

        fn image(&self) -> PathBuf {
            self.folder.path().join("images/i")
        }

        /// As an update of the box does.
        fn write_image(&self, text: &str) {
            fs::write(self.image().with_extension("new"), text).unwrap();
            fs::rename(self.image().with_extension("new"), self.image()).unwrap();
        }

        fn version(&self, workload: &WorkloadConfig) -> Version {
            let image = Contents::default().of(&workload.image_in(&self.versions.images));
            wanted::with_image(wanted::build(workload).version, image)
        }

        fn keep(&mut self, workload: &WorkloadConfig) -> Version {
            let version = self.version(workload);
            let console = Console::new(["web"], io::sink()).unwrap();
            self.versions.keep(&self.executor, &console, workload, version);
            version
        }

        fn get(&self, version: Version) -> Option<WorkloadConfig> {
            self.versions.get("web", version, &mut Contents::default())
        }
    }

    fn web(more: &str) -> WorkloadConfig {
        WorkloadConfig::parse("web.toml", &format!("kind = \"service\"\nimage = \"i\"\n{more}")).unwrap()
    }

    #[test]
    fn a_version_comes_back_with_the_image_that_it_had() {
        let mut site = Site::new();
        site.write_image("one");
        let workload =
            web("command = [\"a\", \"b c\"]\nresources = { vcpus = 2, memory_mib = 64, balloon = true }\n\
             [[probe]]\ncheck = \"watchdog\"");
        let version = site.keep(&workload);
        site.write_image("two");
        assert_ne!(site.version(&workload), version, "another image is another version");
        let kept = site.get(version).unwrap();
        assert_eq!(fs::read(&kept.image).unwrap(), b"one");
        assert_eq!((&kept.command, kept.resources), (&workload.command, workload.resources));
        // Somebody writes to what lies there.
        fs::write(kept.image, "three").unwrap();
        assert_eq!(site.get(version), None);
        assert_eq!(site.get(Version(1)), None);
    }

    #[test]
    fn without_a_copy_the_image_counts_as_long_as_it_is_the_same() {
        let mut site = Site::new();
        let elsewhere = site.folder.path().join("elsewhere");
        fs::write(&elsewhere, "one").unwrap();
        let mut workload = web("");
        workload.image = elsewhere.clone();
        let version = site.keep(&workload);
        assert_eq!(site.get(version).unwrap().image, elsewhere);
        fs::write(&elsewhere, "two").unwrap();
        assert_eq!(site.get(version), None);
        // Nor is there anything to keep of one that is not there.
        let version = site.keep(&web(""));
        assert_eq!(site.get(version).unwrap().image, site.image());
    }

    #[test]
    fn where_no_link_is_possible_images_are_copied_while_there_is_room() {
        let site = Site::new();
        site.write_image("one");
        let begun = Begun { new: site.folder.path().join(".1.new"), place: site.folder.path().join("1") };
        fs::create_dir(&begun.new).unwrap();
        begun.copy(&site.image(), MAX_COPIES - 3).unwrap();
        assert_eq!(fs::read(begun.new.join(IMAGE)).unwrap(), b"one");
        // Some file systems share the bytes, and then there is room for any number of copies.
        let shared = begun.copy(&site.image(), MAX_COPIES - 2);
        assert!(shared.is_ok() || !begun.new.exists(), "{shared:?}");
    }

    #[test]
    fn only_what_is_needed_stays() {
        let mut site = Site::new();
        let [old, new] = ["resources.vcpus = 2", "resources.vcpus = 3"].map(|more| site.keep(&web(more)));
        let stray = site.folder.path().join("store/versions/web/.0000000000000001.new");
        fs::create_dir(&stray).unwrap();
        site.versions.retain("web", |version| version == new);
        assert_eq!((site.get(old), site.get(new).is_some(), stray.exists()), (None, true, false));
        site.versions.retain("web", |_| false);
        assert_eq!(site.versions.names(), Vec::<String>::new());
        // It is kept again when it is wanted again.
        assert!(site.keep(&web("resources.vcpus = 2")) == old && site.get(old).is_some());
    }
}
