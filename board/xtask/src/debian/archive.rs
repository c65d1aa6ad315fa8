//! Files out of Debian packages of any architecture, without root and without installing.
//!
//! Duty: a private apt state in the cache folder that knows both architectures and uses the machine's own
//! mirrors and keys; downloading packages (apt checks signatures and hashes); unpacking them.
//! Not here: what is made of the files. Invariant: neither dpkg's list of architectures nor anything else
//! outside the cache folder changes.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, SystemTime},
};

use thiserror::Error;

use crate::{
    arch::Arch,
    cache::CacheError,
    command::{self, CommandError},
    debian::packages::{self, Need, PackagesError},
    digest::Inputs,
    workshop::Workshop,
};

/// Lists this old are fetched again: Debian's point releases and security updates remove old versions from
/// the mirrors. Younger ones are not, so that a kernel is not rebuilt for every update of its source.
const LISTS_STAY_FRESH: Duration = Duration::from_secs(30 * 24 * 3600);

#[derive(Debug, Error)]
pub(crate) enum ArchiveError {
    #[error("Debian has no package {package}")]
    Unknown { package: String, source: CommandError },
    #[error("cannot fetch {packages} (the next run starts with fresh package lists)")]
    Fetch { packages: String, source: CommandError },
    #[error("apt described {package} in a way that is not understood: {text:?}")]
    Unclear { package: String, text: String },
    #[error("the private apt state: cannot write {}", path.display())]
    State { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Command(#[from] CommandError),
    #[error(transparent)]
    Packages(#[from] PackagesError),
    #[error(transparent)]
    Cache(#[from] CacheError),
}

/// A package to look for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    name: String,
    arch: Arch,
    version: Option<String>,
}

impl Wanted {
    pub(crate) fn new(name: &str, arch: Arch) -> Self {
        Self { name: name.to_owned(), arch, version: None }
    }

    pub(crate) fn version(mut self, version: &str) -> Self {
        self.version = Some(version.to_owned());
        self
    }

    fn spec(&self) -> String {
        let Wanted { name, arch, version } = self;
        match version {
            Some(version) => format!("{name}:{}={version}", arch.debian()),
            None => format!("{name}:{}", arch.debian()),
        }
    }
}

/// A package file that the mirrors have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Deb {
    /// The file name, which says package, version and architecture.
    pub(crate) name: String,
    /// Algorithm and digest as the signed package list has it.
    pub(crate) hash: String,
    spec: String,
}

impl Deb {
    /// The version in the file name, e.g. `6.1.192-2`.
    pub(crate) fn version(&self) -> &str {
        self.name.split('_').nth(1).unwrap_or(&self.name)
    }
}

/// The mirrors as both architectures see them.
#[derive(Debug)]
pub(crate) struct Archive<'a> {
    shop: &'a Workshop,
    config: PathBuf,
    debs: PathBuf,
    /// Written whenever the lists were fetched.
    stamp: PathBuf,
}

impl<'a> Archive<'a> {
    /// Opens the private state, with lists that are there and not old.
    pub(crate) fn open(shop: &'a Workshop) -> Result<Self, ArchiveError> {
        packages::require(shop, &[Need::Archive])?;
        let state = shop.cache.shelf("apt")?;
        let debs = shop.cache.shelf("debs")?;
        let _lock = shop.cache.lock("apt")?;
        for folder in ["lists/partial", "cache/archives/partial"] {
            let path = state.join(folder);
            fs::create_dir_all(&path).map_err(|source| ArchiveError::State { path, source })?;
        }
        let config = state.join("apt.conf");
        let text = configuration(&state);
        fs::write(state.join("status"), "")
            .and_then(|()| fs::write(&config, text))
            .map_err(|source| ArchiveError::State { path: config.clone(), source })?;
        let archive = Self { shop, config, debs, stamp: state.join("updated") };
        if age(&archive.stamp).is_none_or(|age| age >= LISTS_STAY_FRESH) {
            archive.update()?;
        }
        Ok(archive)
    }

    /// What exactly the mirrors have for each of `wanted`, in their order.
    pub(crate) fn find(&self, wanted: &[Wanted]) -> Result<Vec<Deb>, ArchiveError> {
        wanted.iter().map(|package| self.find_one(package)).collect()
    }

    fn find_one(&self, wanted: &Wanted) -> Result<Deb, ArchiveError> {
        let spec = wanted.spec();
        let text = command::ask(self.apt("apt-get").args(["download", "--print-uris", &spec]))
            .map_err(|source| ArchiveError::Unknown { package: spec.clone(), source })?;
        parse_uri(&text, &spec).ok_or(ArchiveError::Unclear { package: spec, text })
    }

    /// What a package depends on, e.g. the kernel behind `linux-image-arm64`.
    pub(crate) fn depends(&self, name: &str, arch: Arch) -> Result<Vec<String>, ArchiveError> {
        let spec = format!("{name}:{}", arch.debian());
        let text = command::ask(self.apt("apt-cache").args(["depends", &spec]))
            .map_err(|source| ArchiveError::Unknown { package: spec, source })?;
        Ok(parse_depends(&text))
    }

    /// The files of `debs` in the cache, downloaded if need be.
    pub(crate) fn fetch(&self, debs: &[Deb]) -> Result<Vec<PathBuf>, ArchiveError> {
        let files: Vec<_> = debs.iter().map(|deb| self.debs.join(&deb.name)).collect();
        let absent = || debs.iter().zip(&files).filter(|(_, file)| !file.exists()).map(|(deb, _)| deb);
        if absent().next().is_none() {
            return Ok(files);
        }
        let _lock = self.shop.cache.lock("debs")?;
        let specs: Vec<_> = absent().map(|deb| deb.spec.clone()).collect();
        if specs.is_empty() {
            return Ok(files);
        }
        let scratch = self.shop.cache.scratch("debs")?;
        let mut command = self.apt("apt-get");
        command.arg("download").args(&specs).current_dir(&scratch);
        let packages = specs.join(" ");
        let title = format!("downloading {packages}");
        self.shop
            .job(&title, "apt-download")
            .run(command)
            .map_err(|source| self.outdated(packages, source))?;
        for deb in absent() {
            let path = self.debs.join(&deb.name);
            fs::rename(scratch.join(&deb.name), &path)
                .map_err(|source| ArchiveError::State { path, source })?;
        }
        fs::remove_dir_all(&scratch).map_err(|source| ArchiveError::State { path: scratch, source })?;
        Ok(files)
    }

    /// A folder of the cache with the contents of all of `wanted`.
    pub(crate) fn unpacked(&self, kind: &str, wanted: &[Wanted]) -> Result<PathBuf, ArchiveError> {
        let debs = self.find(wanted)?;
        let key = debs.iter().fold(Inputs::new(), |inputs, deb| inputs.text(&deb.name, &deb.hash)).key();
        self.shop.cache.entry(kind, &key, |place| {
            for file in self.fetch(&debs)? {
                self.unpack(&file, place)?;
            }
            Ok(())
        })
    }

    /// Unpacks one package file.
    pub(crate) fn unpack(&self, deb: &Path, place: &Path) -> Result<(), ArchiveError> {
        // dpkg-deb makes the last folder of a path only.
        fs::create_dir_all(place).map_err(|source| ArchiveError::State { path: place.to_owned(), source })?;
        let name = deb.file_name().unwrap_or_default().to_string_lossy();
        let mut command = Command::new("dpkg-deb");
        command.arg("--extract").arg(deb).arg(place);
        self.shop.job(&format!("unpacking {name}"), "dpkg-deb").run(command)?;
        Ok(())
    }

    /// The usual reason for a failed download is a list that names a version which the mirrors have replaced.
    fn outdated(&self, packages: String, source: CommandError) -> ArchiveError {
        // If it stays, the lists are merely refreshed later.
        let _ = fs::remove_file(&self.stamp);
        ArchiveError::Fetch { packages, source }
    }

    fn update(&self) -> Result<(), ArchiveError> {
        let mut command = self.apt("apt-get");
        // Without it apt calls a mirror that does not answer a warning.
        command.args(["update", "-o", "APT::Update::Error-Mode=any"]);
        let job = self.shop.job("package lists", "apt-lists");
        if let Err(error) = job.run(command) {
            // A source of this machine that is broken is none of our business, as long as Debian's answer.
            let probe = |arch| self.find_one(&Wanted::new("busybox-static", arch));
            if Arch::ALL.into_iter().any(|arch| probe(arch).is_err()) {
                return Err(error.into());
            }
            self.shop
                .progress
                .say("some package sources do not answer; going on with the lists that are there");
        }
        fs::write(&self.stamp, "").map_err(|source| ArchiveError::State { path: self.stamp.clone(), source })
    }

    fn apt(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.arg("-c").arg(&self.config);
        command
    }
}

/// Read after the machine's own apt configuration, of which mirrors, proxies and keys stay in force.
fn configuration(state: &Path) -> String {
    let state = state.display();
    let host = Arch::HOST.debian();
    format!(
        r#"Dir::State::lists "{state}/lists";
Dir::State::status "{state}/status";
Dir::Cache "{state}/cache";
// Parsed lists are kept even where the machine's apt (a container's) does not: seconds per question.
Dir::Cache::pkgcache "pkgcache.bin";
Dir::Cache::srcpkgcache "srcpkgcache.bin";
APT::Architecture "{host}";
#clear APT::Architectures;
APT::Architectures {{ "amd64"; "arm64"; }};
// The person's user downloads for himself; root would else drop to a user who cannot write here.
APT::Sandbox::User "";
// Hooks of the machine (caches to clean, desktops to tell) are not for a private state.
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear Acquire::IndexTargets::deb::DEP-11;
Acquire::Languages "none";
"#
    )
}

fn age(stamp: &Path) -> Option<Duration> {
    let written = fs::metadata(stamp).and_then(|meta| meta.modified()).ok()?;
    // A stamp from the future (a clock that was set back) counts as old.
    Some(SystemTime::now().duration_since(written).unwrap_or(Duration::MAX))
}

/// One line of `apt-get --print-uris`: `'URI' file-name size ALGORITHM:digest`.
fn parse_uri(text: &str, spec: &str) -> Option<Deb> {
    let line = text.lines().find(|line| line.starts_with('\''))?;
    let mut words = line.split_whitespace().skip(1);
    let name = words.next()?.to_owned();
    let _size = words.next()?;
    let hash = words.next()?.to_owned();
    Some(Deb { name, hash, spec: spec.to_owned() })
}

fn parse_depends(text: &str) -> Vec<String> {
    let names = text.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
    names.map(|name| name.split(':').next().unwrap_or(name).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_behind_a_package_is_read_from_what_apt_prints() {
        let text = "'http://mirror/pool/b/busybox-static_1.35.0-4%2bdeb12u1_arm64.deb' \
                    busybox-static_1%3a1.35.0-4+deb12u1_arm64.deb 822236 SHA256:732c91\n";
        let deb = parse_uri(text, "busybox-static:arm64").unwrap();
        assert_eq!(deb.name, "busybox-static_1%3a1.35.0-4+deb12u1_arm64.deb");
        assert_eq!(deb.version(), "1%3a1.35.0-4+deb12u1");
        assert_eq!(deb.hash, "SHA256:732c91");
        assert_eq!(parse_uri("E: nothing\n", "x"), None);
    }

    #[test]
    fn dependencies_lose_their_architecture() {
        let text = "linux-image-arm64:arm64\n  Depends: linux-image-6.1.0-56-arm64:arm64\n  Replaces: x\n";
        assert_eq!(parse_depends(text), ["linux-image-6.1.0-56-arm64"]);
    }
}
