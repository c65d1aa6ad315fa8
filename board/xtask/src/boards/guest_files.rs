//! What guests start from: kernel, initramfs, demo image.
//!
//! Duty: put them together for one architecture. Not here: where a board or a host keeps them.

use std::path::PathBuf;

use hearth_image::{Tree, TreeFault, demo, guest_initrd};
use thiserror::Error;

use super::image_file::{self, Format, ImageFileError};
use super::modules::add_modules;
use crate::{
    arch::Arch,
    debian::archive::{Archive, ArchiveError, Wanted},
    kernel::guest::{self, GuestKernel, GuestKernelError, Origin},
    programs::{self, ProgramsError},
    workshop::Workshop,
};

#[derive(Debug, Error)]
pub(crate) enum GuestFilesError {
    #[error(transparent)]
    Kernel(#[from] GuestKernelError),
    #[error(transparent)]
    Programs(#[from] ProgramsError),
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    #[error(transparent)]
    Tree(#[from] TreeFault),
    #[error(transparent)]
    Image(#[from] ImageFileError),
}

/// Files of the host, ready to be used or copied.
#[derive(Debug)]
pub(crate) struct GuestFiles {
    pub(crate) kernel: PathBuf,
    pub(crate) initrd: PathBuf,
    /// The image that the demo workloads name.
    pub(crate) demo: PathBuf,
    /// Where the kernel comes from, for people.
    pub(crate) kernel_origin: String,
}

/// Which kernel guests get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GuestKernelChoice {
    /// Built from the project's fragments, where the source can be had.
    Own,
    /// Debian's cloud kernel.
    Stock,
}

impl From<&crate::cli::GuestKernelFlag> for GuestKernelChoice {
    fn from(flag: &crate::cli::GuestKernelFlag) -> Self {
        if flag.stock_kernel { GuestKernelChoice::Stock } else { GuestKernelChoice::Own }
    }
}

/// Builds whatever of them is not in the cache.
pub(crate) fn build(
    shop: &Workshop,
    arch: Arch,
    choice: GuestKernelChoice,
) -> Result<GuestFiles, GuestFilesError> {
    let kernel = kernel(shop, arch, choice)?;
    let (tree, kernel_origin) = initrd_tree(shop, arch, kernel.origin)?;
    let initrd = image_file::write(shop, &format!("guest-initrd-{arch}"), Format::Cpio, &tree)?;
    let demo = demo::tree(&busybox(shop, arch)?)?;
    let demo = image_file::write(shop, &format!("demo-image-{arch}"), Format::Squashfs, &demo)?;
    Ok(GuestFiles { kernel: kernel.image, initrd, demo, kernel_origin })
}

fn kernel(shop: &Workshop, arch: Arch, choice: GuestKernelChoice) -> Result<GuestKernel, GuestKernelError> {
    match choice {
        GuestKernelChoice::Own => guest::guest_kernel(shop, arch),
        GuestKernelChoice::Stock => guest::stock_kernel(shop, arch),
    }
}

/// The initramfs of guests with this kernel, for more to be put into it.
pub(crate) fn bare_initrd(
    shop: &Workshop,
    arch: Arch,
    choice: GuestKernelChoice,
) -> Result<Tree, GuestFilesError> {
    Ok(initrd_tree(shop, arch, kernel(shop, arch, choice)?.origin)?.0)
}

/// The guest's initramfs before it is written: the agent, and for a stock kernel the modules it needs.
fn initrd_tree(shop: &Workshop, arch: Arch, origin: Origin) -> Result<(Tree, String), GuestFilesError> {
    let agent = programs::build_static(shop, arch, &["hearth-agent"])?.path("hearth-agent");
    let mut tree = guest_initrd(&agent)?;
    let words = match origin {
        Origin::Built { version } => format!("built from Debian's source {version}"),
        Origin::Stock { release, modules } => {
            add_modules(&mut tree, &release, &modules)?;
            format!("Debian's stock {release}, its virtio modules in the initramfs")
        }
    };
    Ok((tree, words))
}

/// A static busybox for `arch`.
pub(crate) fn busybox(shop: &Workshop, arch: Arch) -> Result<PathBuf, ArchiveError> {
    let wanted = [Wanted::new("busybox-static", arch)];
    Ok(Archive::open(shop)?.unpacked(&format!("busybox-{arch}"), &wanted)?.join("bin/busybox"))
}
