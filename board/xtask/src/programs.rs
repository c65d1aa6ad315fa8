//! The project's own programs as static executables.
//!
//! Duty: find a Rust toolchain for the architecture and build packages with it. Not here: which packages go
//! where. Invariant: the target is always named, so that flags for the programs never reach build scripts, and
//! the same command works for the host's architecture and for the other one.
//!
//! ```text
//! the host's architecture ------------------------------> its own toolchain
//! the other one -> target installed? -> rustup target add -> Debian's rustc-web with a private sysroot
//! ```

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use thiserror::Error;

use crate::{
    arch::Arch,
    command::{self, CommandError},
    debian::{
        archive::{Archive, ArchiveError, Wanted},
        packages::{self, Need, PackagesError},
    },
    workshop::Workshop,
};

/// Longest wait for rustup to fetch one target's standard library (30 MB).
const RUSTUP_PATIENCE: Duration = Duration::from_secs(180);
/// The compiler of Debian's rustc-web.
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
/// `debian` skips rustup, to try the path of machines that cannot reach it.
const TOOLCHAIN_VARIABLE: &str = "HEARTH_RUST";

#[derive(Debug, Error)]
pub(crate) enum ProgramsError {
    #[error("Debian's rustc-web is installed and yet dpkg knows no version of it")]
    NoVersion,
    #[error("Debian's standard library for {arch} is not where it is expected: {}", path.display())]
    NoSysroot { arch: Arch, path: PathBuf },
    #[error(transparent)]
    Packages(#[from] PackagesError),
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    #[error(transparent)]
    Command(#[from] CommandError),
}

/// What compiles for an architecture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Toolchain {
    /// The toolchain that runs this program has the target.
    Usual,
    /// Debian's compiler with a standard library from a package that is only unpacked.
    Debian { sysroot: PathBuf },
}

/// A folder with built programs.
#[derive(Debug)]
pub(crate) struct Programs {
    folder: PathBuf,
}

impl Programs {
    pub(crate) fn path(&self, program: &str) -> PathBuf {
        self.folder.join(program)
    }
}

/// Builds all programs of `packages` for `arch`: static, optimised.
pub(crate) fn build_static(
    shop: &Workshop,
    arch: Arch,
    packages: &[&str],
) -> Result<Programs, ProgramsError> {
    let toolchain = toolchain(shop, arch)?;
    let mut command = shop.cargo();
    command.args(["build", "--release", "--target", arch.rust_target()]);
    for package in packages {
        command.args(["--package", package]);
    }
    let mut flags = "-C target-feature=+crt-static".to_owned();
    if arch == Arch::X86_64 && toolchain == Toolchain::Usual && has_own_linker(shop)? {
        flags.push_str(&compact_link());
    }
    let mut target_dir = shop.target();
    if let Toolchain::Debian { sysroot } = &toolchain {
        flags.push_str(&format!(" --sysroot={}", sysroot.display()));
        command.env("RUSTC", DEBIAN_RUSTC);
        // Its own folder: the two compilers would throw away each other's build scripts.
        target_dir.push("debian-rust");
    }
    command.arg("--target-dir").arg(&target_dir);
    // RUSTFLAGS of the surroundings would replace these.
    command.env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS");
    command.env(target_variable(arch, "RUSTFLAGS"), flags);
    if !arch.is_host() {
        command.env(target_variable(arch, "LINKER"), arch.gcc());
    }
    let title = format!("programs for {arch}: {}", packages.join(", "));
    shop.cargo_job(&title, &format!("programs-{arch}")).run(command)?;
    Ok(Programs { folder: target_dir.join(arch.rust_target()).join("release") })
}

/// What makes a static program of x86_64 an eighth smaller: relocations as a bitmap, equal functions once, and no tables
/// to unwind a stack that nobody unwinds, as a panic aborts; its message is printed all the same, a backtrace is empty.
/// These are words of the linker that rustup's compilers bring along and take for x86_64. GNU ld, which links for ARM64
/// and with a distribution's compiler, knows none of them: there programs are larger, and that is all.
fn compact_link() -> String {
    let words = ["--pack-dyn-relocs=relr", "--icf=all", "-O2", "--no-eh-frame-hdr"];
    let mut flags = " -C force-unwind-tables=no".to_owned();
    for word in words {
        flags.push_str(&format!(" -C link-arg=-Wl,{word}"));
    }
    // From the workspace's root, where cargo starts the linker: a path in full may have blanks, and flags may not.
    flags.push_str(" -C link-arg=-Wl,-T,board/xtask/link/no-unwinding.ld");
    flags
}

/// A toolchain for `arch`, fetched if need be, with the C toolchain that it links with.
pub(crate) fn toolchain(shop: &Workshop, arch: Arch) -> Result<Toolchain, ProgramsError> {
    packages::require(shop, &[Need::Programs(arch)])?;
    if arch.is_host() {
        return Ok(Toolchain::Usual);
    }
    if env::var(TOOLCHAIN_VARIABLE).is_ok_and(|value| value == "debian") {
        return debian_toolchain(shop, arch);
    }
    if has_target(shop, arch)? || (add_target(shop, arch) && has_target(shop, arch)?) {
        return Ok(Toolchain::Usual);
    }
    shop.progress.say(&format!("rustup has no target for {arch} to give; taking Debian's compiler"));
    debian_toolchain(shop, arch)
}

fn has_target(shop: &Workshop, arch: Arch) -> Result<bool, ProgramsError> {
    Ok(libraries(&own_sysroot(shop)?, arch).is_dir())
}

/// Whether the compiler brings its linker along.
fn has_own_linker(shop: &Workshop) -> Result<bool, ProgramsError> {
    let host = own_sysroot(shop)?.join("lib/rustlib").join(Arch::HOST.rust_target());
    Ok(host.join("bin/rust-lld").is_file())
}

fn own_sysroot(shop: &Workshop) -> Result<PathBuf, ProgramsError> {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let sysroot = command::ask(Command::new(rustc).args(["--print", "sysroot"]).current_dir(&shop.root))?;
    Ok(PathBuf::from(sysroot.trim()))
}

/// Whether rustup says that it added the target; a machine without rustup or network says no.
fn add_target(shop: &Workshop, arch: Arch) -> bool {
    if command::ask(Command::new("rustup").arg("--version")).is_err() {
        return false;
    }
    let mut command = Command::new("rustup");
    command.args(["target", "add", arch.rust_target()]).current_dir(&shop.root);
    shop.job(&format!("Rust target {arch}"), "rustup").within(RUSTUP_PATIENCE).run(command).is_ok()
}

fn debian_toolchain(shop: &Workshop, arch: Arch) -> Result<Toolchain, ProgramsError> {
    packages::require(shop, &[Need::DebianRust])?;
    let version = packages::installed_version("rustc-web")?.ok_or(ProgramsError::NoVersion)?;
    let archive = Archive::open(shop)?;
    // The same version to the letter: a standard library is good for one compiler.
    let shared = format!("libstd-rust-web-{}", series(&version));
    let wanted = ["libstd-rust-web-dev", &shared].map(|name| Wanted::new(name, arch).version(&version));
    let sysroot = archive.unpacked(&format!("rust-sysroot-{arch}"), &wanted)?.join("usr");
    let path = libraries(&sysroot, arch);
    if !path.is_dir() {
        return Err(ProgramsError::NoSysroot { arch, path });
    }
    Ok(Toolchain::Debian { sysroot })
}

/// Where a compiler looks for the standard library of `arch`.
fn libraries(sysroot: &Path, arch: Arch) -> PathBuf {
    sysroot.join("lib/rustlib").join(arch.rust_target()).join("lib")
}

/// `1.96` out of `1.96.0+dfsg1-1~deb12u2`.
fn series(version: &str) -> String {
    version.split('.').take(2).collect::<Vec<_>>().join(".")
}

/// Cargo's environment variable for a setting of one target.
pub(crate) fn target_variable(arch: Arch, setting: &str) -> String {
    format!("CARGO_TARGET_{}_{setting}", arch.rust_target().to_uppercase().replace('-', "_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_library_package_is_named_after_the_compilers_series() {
        assert_eq!(series("1.96.0+dfsg1-1~deb12u2"), "1.96");
    }

    #[test]
    fn cargo_reads_settings_of_one_target_from_its_own_variables() {
        let variable = target_variable(Arch::Aarch64, "LINKER");
        assert_eq!(variable, "CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER");
    }
}
