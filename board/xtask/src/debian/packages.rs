//! Debian packages that the tools need on this machine.
//!
//! Duty: say which are missing; install them where that is allowed, and otherwise print the line to type.
//! Not here: packages of the other architecture, which are never installed (`archive`). Invariant: nothing is
//! installed unless it is missing, and the person's configuration of apt and dpkg is not touched.

use std::{collections::BTreeSet, fs, os::unix::fs::MetadataExt, process::Command};

use thiserror::Error;

use crate::{
    arch::Arch,
    cache::CacheError,
    command::{self, CommandError, Line},
    workshop::Workshop,
};

/// Seconds that apt waits for another package manager to finish.
const APT_LOCK_PATIENCE: &str = "DPkg::Lock::Timeout=300";

#[derive(Debug, Error)]
pub(crate) enum PackagesError {
    #[error(
        "packages are missing, and there is neither root nor a password-free sudo; please run: \
         sudo apt-get update && sudo apt-get install -y \
         --no-install-recommends {missing}"
    )]
    NotAllowed { missing: String },
    #[error(
        "this machine has no dpkg-query, so it is not Debian: please install what Debian calls {missing}"
    )]
    NotDebian { missing: String },
    #[error("apt-get reported success and yet these packages are not installed: {missing}")]
    StillMissing { missing: String },
    #[error(transparent)]
    Command(#[from] CommandError),
    #[error(transparent)]
    Cache(#[from] CacheError),
}

/// A reason to need packages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// Looking into downloaded packages.
    Archive,
    /// Compiling a guest kernel.
    GuestKernel(Arch),
    /// Unpacking Debian's own kernel into what a monitor loads.
    StockKernel,
    /// Linking static Rust programs.
    Programs(Arch),
    /// Compiling Rust for the other architecture where rustup has no target to give.
    DebianRust,
    /// Booting a board in QEMU.
    Board(Arch),
    /// A broker for the tests of the fleet, a client of it that is not ours, and certificates for both.
    Broker,
    /// Compiling libFuzzer.
    Fuzzer,
    /// A server and a cable for the tests of the box's own network.
    Network,
}

impl Need {
    fn packages(self) -> Vec<&'static str> {
        match self {
            Need::Archive => vec!["apt", "dpkg"],
            Need::GuestKernel(arch) => {
                // The build itself runs programs of the host's own gcc, whatever the target.
                let mut all =
                    vec!["bc", "bison", "flex", "gcc", "libc6-dev", "make", "patch", "perl", "xz-utils"];
                all.push(arch.gcc_package());
                if arch == Arch::X86_64 {
                    // objtool reads ELF with it.
                    all.push("libelf-dev");
                }
                all
            }
            Need::StockKernel => vec!["lz4", "xz-utils"],
            Need::Programs(arch) => vec![arch.gcc_package(), arch.libc_package()],
            Need::DebianRust => vec!["rustc-web"],
            Need::Board(arch) => vec![arch.qemu_package()],
            Need::Broker => vec!["mosquitto", "mosquitto-clients", "openssl", "nftables"],
            Need::Fuzzer => vec!["g++"],
            Need::Network => vec!["dnsmasq-base", "iproute2", "util-linux"],
        }
    }
}

/// Makes sure that the packages behind all `needs` are installed.
pub(crate) fn require(shop: &Workshop, needs: &[Need]) -> Result<(), PackagesError> {
    let wanted: BTreeSet<_> = needs.iter().flat_map(|need| need.packages()).collect();
    let missing = missing(&wanted)?;
    if missing.is_empty() {
        return Ok(());
    }
    let Some(root) = Root::find() else {
        return Err(PackagesError::NotAllowed { missing: missing.join(" ") });
    };
    // One run of the package manager at a time: a second one finds its packages there when it gets the lock.
    let _lock = shop.cache.lock("apt-install")?;
    shop.progress.say(&format!("installing Debian packages: {}", missing.join(" ")));
    if lists_are_missing() {
        update(shop, root)?;
    }
    if install(shop, root, &missing).is_err() {
        // The usual reason: lists from the day the machine was made name files that the mirror has replaced.
        shop.progress.say("trying once more with fresh package lists");
        update(shop, root)?;
        install(shop, root, &missing)?;
    }
    let missing = self::missing(&wanted)?;
    if missing.is_empty() { Ok(()) } else { Err(PackagesError::StillMissing { missing: missing.join(" ") }) }
}

/// The version of an installed package.
pub(crate) fn installed_version(package: &str) -> Result<Option<String>, PackagesError> {
    let listing = query(&[package])?;
    Ok(installed(&listing).find(|(name, _)| *name == package).map(|(_, version)| version.to_owned()))
}

fn missing(wanted: &BTreeSet<&'static str>) -> Result<Vec<&'static str>, PackagesError> {
    let names: Vec<_> = wanted.iter().copied().collect();
    let listing = match query(&names) {
        Ok(listing) => listing,
        Err(error) if error.is_missing_program() => {
            return Err(PackagesError::NotDebian { missing: names.join(" ") });
        }
        Err(error) => return Err(error.into()),
    };
    let present: BTreeSet<_> = installed(&listing).map(|(name, _)| name).collect();
    Ok(names.into_iter().filter(|name| !present.contains(name)).collect())
}

fn query(names: &[&str]) -> Result<String, CommandError> {
    let mut command = Command::new("dpkg-query");
    command.args(["-W", "-f", "${db:Status-Status} ${Package} ${Version}\n"]).args(names);
    // A name that dpkg has never heard of makes it fail although it answers for the others.
    command::ask_whatever_its_status(&mut command)
}

fn installed(listing: &str) -> impl Iterator<Item = (&str, &str)> {
    listing.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        (words.next() == Some("installed")).then_some(())?;
        Some((words.next()?, words.next()?))
    })
}

/// How this process may become root.
#[derive(Clone, Copy, Debug)]
enum Root {
    Already,
    Sudo,
}

impl Root {
    fn find() -> Option<Self> {
        // The owner of /proc/self is the effective user.
        if fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0) {
            return Some(Root::Already);
        }
        command::ask(Command::new("sudo").args(["-n", "true"])).is_ok().then_some(Root::Sudo)
    }

    fn apt_get(self) -> Command {
        let mut command = match self {
            Root::Already => Command::new("env"),
            Root::Sudo => {
                let mut sudo = Command::new("sudo");
                sudo.args(["-n", "env"]);
                sudo
            }
        };
        command.args(["DEBIAN_FRONTEND=noninteractive", "apt-get", "-o", APT_LOCK_PATIENCE]);
        command
    }
}

fn lists_are_missing() -> bool {
    let Ok(entries) = fs::read_dir("/var/lib/apt/lists") else { return true };
    !entries.flatten().any(|entry| entry.file_name().to_string_lossy().contains("_Packages"))
}

fn update(shop: &Workshop, root: Root) -> Result<(), CommandError> {
    let mut command = root.apt_get();
    command.arg("update");
    shop.job("package lists", "apt-update").run(command).map(drop)
}

fn install(shop: &Workshop, root: Root, packages: &[&str]) -> Result<(), CommandError> {
    let mut command = root.apt_get();
    command.args(["install", "-y", "--no-install-recommends"]).args(packages);
    let unpacking = |line: &str| if line.starts_with("Setting up ") { Line::Counted } else { Line::Text };
    shop.job("installing packages", "apt-install").counting("packages", unpacking).run(command).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_packages_that_are_fully_installed_count() {
        let listing = "installed flex 2.6.4-8.2\nconfig-files bison 2:3.8\nnot-installed bc \n";
        assert_eq!(installed(listing).collect::<Vec<_>>(), [("flex", "2.6.4-8.2")]);
    }

    #[test]
    fn a_cross_kernel_needs_both_compilers() {
        let other = if Arch::HOST == Arch::X86_64 { Arch::Aarch64 } else { Arch::X86_64 };
        let needed = Need::GuestKernel(other).packages();
        assert!(needed.contains(&"gcc"));
        assert!(needed.contains(&other.gcc_package()));
    }
}
