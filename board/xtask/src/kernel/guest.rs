//! The kernel that guests boot.
//!
//! Duty: build it from Debian's kernel source with the project's fragments and patches; where the source is
//! not to be had, take Debian's cloud kernel and say so. Not here: what the options mean (rootfs/kernel).
//! Invariant: the same fragments, patches, source and compiler give the same cache entry.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use thiserror::Error;

use crate::{
    arch::Arch,
    cache::CacheError,
    command::{self, CommandError, Line},
    debian::{
        archive::{Archive, ArchiveError, Deb, Wanted},
        packages::{self, Need, PackagesError},
    },
    digest::{DigestError, Inputs},
    kernel::{
        fragment::{Fragment, FragmentError},
        modules::Module,
        stock::{self, StockError},
    },
    workshop::Workshop,
};

/// Changes when this file builds something else out of the same inputs.
const RECIPE: &str = "1";
/// The package with the source, and the folder inside its tarball.
const SOURCE: &str = "linux-source-6.1";
/// Parts of the source that no guest needs: a third of the files. Kconfig files stay, they refer to each other.
const LEFT_OUT: [&str; 3] = ["*/drivers/gpu/drm/amd/*.[ch]", "*/Documentation/*.rst", "*/tools/testing"];

#[derive(Debug, Error)]
pub(crate) enum GuestKernelError {
    #[error("guest kernel: cannot {what} {}", path.display())]
    Io { what: &'static str, path: PathBuf, source: io::Error },
    #[error(transparent)]
    Fragment(#[from] FragmentError),
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    #[error(transparent)]
    Packages(#[from] PackagesError),
    #[error(transparent)]
    Command(#[from] CommandError),
    #[error(transparent)]
    Digest(#[from] DigestError),
    #[error(transparent)]
    Stock(#[from] StockError),
    #[error(transparent)]
    Cache(#[from] CacheError),
}

/// A kernel for guests.
#[derive(Debug)]
pub(crate) struct GuestKernel {
    /// An uncompressed ELF on x86_64, an Image on ARM64.
    pub(crate) image: PathBuf,
    pub(crate) origin: Origin,
}

/// Where a guest kernel came from.
#[derive(Debug)]
pub(crate) enum Origin {
    /// Built here; everything is in the image.
    Built { version: String },
    /// Debian's; the guest's initramfs must load these modules in this order before it looks for devices.
    Stock { release: String, modules: Vec<Module> },
}

/// The guest kernel for `arch`, built if the cache does not have it.
pub(crate) fn guest_kernel(shop: &Workshop, arch: Arch) -> Result<GuestKernel, GuestKernelError> {
    let archive = Archive::open(shop)?;
    let source = archive.find(&[Wanted::new(SOURCE, Arch::HOST)]);
    match source.and_then(|debs| Ok((archive.fetch(&debs)?, debs))) {
        Ok((files, debs)) => {
            let parts = debs.first().zip(files.first());
            match parts {
                Some((deb, file)) => built(shop, &archive, arch, deb, file),
                None => stock_kernel(shop, arch),
            }
        }
        Err(error) => {
            let reason = format!("the kernel source cannot be had ({error})");
            shop.progress.say(&format!("{reason}: falling back on Debian's stock cloud kernel"));
            stock_kernel(shop, arch)
        }
    }
}

/// Debian's cloud kernel with its virtio modules: larger and slower to boot, but nothing to compile.
pub(crate) fn stock_kernel(shop: &Workshop, arch: Arch) -> Result<GuestKernel, GuestKernelError> {
    let stock = stock::cloud_kernel(shop, arch)?;
    let origin = Origin::Stock { release: stock.release, modules: stock.modules };
    Ok(GuestKernel { image: stock.image, origin })
}

fn built(
    shop: &Workshop,
    archive: &Archive<'_>,
    arch: Arch,
    source: &Deb,
    source_file: &Path,
) -> Result<GuestKernel, GuestKernelError> {
    packages::require(shop, &[Need::GuestKernel(arch)])?;
    let folder = shop.path("rootfs/kernel");
    let fragment = Fragment::load(&folder, arch)?;
    let patches = patches(&folder.join("patches"))?;
    let compiler = command::ask(Command::new(arch.gcc()).arg("--version"))?;
    let mut inputs = Inputs::new()
        .text("recipe", RECIPE)
        .text("architecture", arch.name())
        .text(&source.name, &source.hash)
        .text("compiler", compiler.lines().next().unwrap_or_default())
        .text("options", &fragment.text());
    for patch in &patches {
        inputs = inputs.file(&patch.file_name().unwrap_or_default().to_string_lossy(), patch)?;
    }
    let place = shop.cache.entry(&format!("guest-kernel-{arch}"), &inputs.key(), |place| {
        let build = Build { shop, arch, fragment: &fragment, patches: &patches };
        build.run(archive, source_file, place)
    })?;
    let origin = Origin::Built { version: source.version().to_owned() };
    Ok(GuestKernel { image: place.join("kernel"), origin })
}

fn patches(folder: &Path) -> Result<Vec<PathBuf>, GuestKernelError> {
    let error = |source| GuestKernelError::Io { what: "list", path: folder.to_owned(), source };
    let entries: Result<Vec<_>, _> = fs::read_dir(folder).map_err(error)?.collect();
    let mut patches: Vec<_> = entries.map_err(error)?.into_iter().map(|entry| entry.path()).collect();
    patches.retain(|path| path.extension().is_some_and(|extension| extension == "patch"));
    patches.sort();
    Ok(patches)
}

/// One build from source to the files of a cache entry.
struct Build<'a> {
    shop: &'a Workshop,
    arch: Arch,
    fragment: &'a Fragment,
    patches: &'a [PathBuf],
}

impl Build<'_> {
    fn run(&self, archive: &Archive<'_>, deb: &Path, place: &Path) -> Result<(), GuestKernelError> {
        let work = place.join("work");
        archive.unpack(deb, &work.join("deb"))?;
        let tarball = work.join(format!("deb/usr/src/{SOURCE}.tar.xz"));
        let date = command::ask(Command::new("date").args(["-u", "-r"]).arg(&tarball))?;
        self.unpack_source(&tarball, &work)?;
        let source = work.join(SOURCE);
        for patch in self.patches {
            let mut command = Command::new("patch");
            command.args(["-p1", "--forward", "--fuzz=0", "-i"]).arg(patch).current_dir(&source);
            self.job("patching", "patch").run(command)?;
        }

        let asked = work.join("asked.config");
        fs::write(&asked, self.fragment.text()).map_err(io_error("write", &asked))?;
        let mut configure = self.make(&source, &date);
        configure.env("KCONFIG_ALLCONFIG", &asked).arg("allnoconfig");
        self.job("configuring", "configure").run(configure)?;
        let config = source.join(".config");
        let text = fs::read_to_string(&config).map_err(io_error("read", &config))?;
        self.fragment.check(&text)?;

        let mut compile = self.make(&source, &date);
        let jobs = thread::available_parallelism().map_or(1, usize::from);
        compile.arg(format!("-j{jobs}")).arg(self.target());
        let object = |line: &str| {
            let line = line.trim_start();
            let quiet = ["AR ", "LD ", "GEN ", "HOSTCC ", "HDRINST ", "UPD ", "WRAP "];
            match line {
                _ if line.starts_with("CC ") || line.starts_with("AS ") => Line::Counted,
                _ if quiet.iter().any(|word| line.starts_with(word)) => Line::Noise,
                _ => Line::Text,
            }
        };
        self.job("compiling", "compile").counting("objects", object).run(compile)?;

        self.collect(&source, place)?;
        fs::remove_dir_all(&work).map_err(io_error("remove", &work))
    }

    fn unpack_source(&self, tarball: &Path, work: &Path) -> Result<(), GuestKernelError> {
        let mut command = Command::new("tar");
        command.arg("-C").arg(work).arg("-xf").arg(tarball);
        command.args(LEFT_OUT.map(|pattern| format!("--exclude={pattern}")));
        self.job("unpacking the source", "unpack").run(command)?;
        Ok(())
    }

    /// The image, and beside it what a person needs to understand it: its configuration and its symbols.
    fn collect(&self, source: &Path, place: &Path) -> Result<(), GuestKernelError> {
        let kernel = place.join("kernel");
        match self.arch {
            Arch::X86_64 => {
                // A symbol table would be a tenth of the file, and no monitor loads it.
                let strip = format!("{}strip", self.arch.tool_prefix());
                let mut command = Command::new(strip);
                command.arg("-o").arg(&kernel).arg(source.join("vmlinux"));
                self.job("stripping", "strip").run(command)?;
            }
            Arch::Aarch64 => copy(&source.join("arch/arm64/boot/Image"), &kernel)?,
        }
        copy(&source.join(".config"), &place.join("config"))?;
        copy(&source.join("System.map"), &place.join("System.map"))
    }

    fn make(&self, source: &Path, date: &str) -> Command {
        let mut command = Command::new("make");
        command.current_dir(source);
        command.arg(format!("ARCH={}", self.arch.kernel()));
        command.arg(format!("CROSS_COMPILE={}", self.arch.tool_prefix()));
        // The banner names the source's day and no person's machine: the same inputs give the same bytes.
        command.arg(format!("KBUILD_BUILD_TIMESTAMP={}", date.trim()));
        command.args(["KBUILD_BUILD_USER=hearth", "KBUILD_BUILD_HOST=hearth", "KBUILD_BUILD_VERSION=1"]);
        // A MAKEFLAGS of the person's own make would reach this one.
        command.env_remove("MAKEFLAGS").env_remove("MFLAGS").env("LC_ALL", "C");
        command
    }

    fn target(&self) -> &'static str {
        match self.arch {
            Arch::X86_64 => "vmlinux",
            Arch::Aarch64 => "Image",
        }
    }

    fn job(&self, what: &str, log: &str) -> command::Job<'_> {
        let title = format!("guest kernel {}: {what}", self.arch);
        self.shop.job(&title, &format!("guest-kernel-{}-{log}", self.arch))
    }
}

fn io_error<'a>(what: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> GuestKernelError + use<'a> {
    move |source| GuestKernelError::Io { what, path: path.to_owned(), source }
}

fn copy(from: &Path, to: &Path) -> Result<(), GuestKernelError> {
    fs::copy(from, to).map(drop).map_err(io_error("copy", from))
}
