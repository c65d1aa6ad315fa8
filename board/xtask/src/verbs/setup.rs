//! `setup`: everything that the other verbs would install, at once.

use thiserror::Error;

use crate::{
    cli::ArchChoice,
    debian::{
        archive::{Archive, ArchiveError},
        packages::{self, Need, PackagesError},
    },
    programs::{self, ProgramsError, Toolchain},
    workshop::Workshop,
};

#[derive(Debug, Error)]
pub(crate) enum SetupError {
    #[error(transparent)]
    Packages(#[from] PackagesError),
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    #[error(transparent)]
    Programs(#[from] ProgramsError),
}

pub(crate) fn run(shop: &Workshop, choice: &ArchChoice) -> Result<(), SetupError> {
    let archs = choice.archs();
    let of_arch = |arch| [Need::GuestKernel(arch), Need::Programs(arch), Need::Board(arch)];
    let needs: Vec<_> = [Need::Archive, Need::Broker, Need::Fuzzer, Need::Network]
        .into_iter()
        .chain(archs.iter().copied().flat_map(of_arch))
        .collect();
    packages::require(shop, &needs)?;
    println!("packages: all installed");
    Archive::open(shop)?;
    println!("package lists of both architectures: in {}", shop.cache.root().join("apt").display());
    for arch in archs {
        match programs::toolchain(shop, arch)? {
            Toolchain::Usual => println!("Rust for {arch}: the usual toolchain"),
            Toolchain::Debian { sysroot } => {
                println!("Rust for {arch}: Debian's compiler, standard library in {}", sysroot.display());
            }
        }
    }
    Ok(())
}
