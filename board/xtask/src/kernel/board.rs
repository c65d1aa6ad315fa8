//! Debian's own kernel, for boards.
//!
//! Duty: the kernel image and the few modules that a board loads, out of Debian's package, without installing
//! it. Not here: guest kernels. Invariant: the exact version is what apt resolves the meta package to.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use thiserror::Error;

use crate::{
    arch::Arch,
    cache::CacheError,
    debian::archive::{Archive, ArchiveError, Wanted},
    digest::Inputs,
    kernel::modules::{self, Module, ModulesError, Tree, Weight},
    workshop::Workshop,
};

use Weight::{Optional, Required};

/// Changes when this file makes something else out of the same package.
const RECIPE: &str = "1";

/// What every board loads.
const COMMON: [(Weight, &str); 12] = [
    (Required, "virtio_pci"),
    (Required, "virtio_blk"),
    (Required, "virtio_net"),
    (Required, "virtio_rng"),
    (Required, "tun"),
    (Required, "squashfs"),
    (Required, "overlay"),
    // ext4 asks for its checksum by name through modprobe, which a board does not have.
    (Optional, "crc32c_generic"),
    (Required, "ext4"),
    // The hardware watchdog of QEMU boards, on PCI for both architectures.
    (Required, "i6300esb"),
    // The power button as an input device.
    (Required, "evdev"),
    (Optional, "loop"),
];
/// Either vendor's module finds no processor on the other's machine.
const X86_64: [(Weight, &str); 4] =
    [(Required, "kvm"), (Optional, "kvm_amd"), (Optional, "kvm_intel"), (Required, "button")];
/// KVM is built in; the power button of QEMU's virt machine hangs on a GPIO line.
const AARCH64: [(Weight, &str); 3] =
    [(Optional, "virtio_mmio"), (Optional, "gpio_pl061"), (Required, "gpio_keys")];

#[derive(Debug, Error)]
pub(crate) enum BoardKernelError {
    #[error("the package {package} names no kernel")]
    NoKernel { package: String },
    #[error("cannot {what} {}", path.display())]
    Io { what: &'static str, path: PathBuf, source: io::Error },
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    #[error(transparent)]
    Modules(#[from] ModulesError),
    #[error(transparent)]
    Cache(#[from] CacheError),
}

/// A kernel out of a Debian package, with modules in load order.
#[derive(Debug)]
pub(crate) struct DebianKernel {
    pub(crate) image: PathBuf,
    /// As `uname -r` says it.
    pub(crate) release: String,
    pub(crate) modules: Vec<Module>,
}

/// Which package, and what of it.
#[derive(Debug)]
pub(crate) struct Recipe<'a> {
    /// The kind of cache entry.
    pub(crate) kind: &'static str,
    /// The package that depends on the current kernel.
    pub(crate) meta_package: String,
    pub(crate) modules: &'a [(Weight, &'static str)],
}

/// A kernel while its package lies unpacked.
#[derive(Debug)]
pub(crate) struct UnpackedKernel<'a> {
    pub(crate) vmlinuz: &'a Path,
    /// Where the image to keep goes.
    pub(crate) image: &'a Path,
}

/// The full Debian kernel for boards of `arch`, with modules for what only some boards do.
pub(crate) fn board_kernel(
    shop: &Workshop,
    arch: Arch,
    more: &[(Weight, &'static str)],
) -> Result<DebianKernel, BoardKernelError> {
    let mut wanted = [&COMMON, more].concat();
    match arch {
        Arch::X86_64 => wanted.extend(X86_64),
        Arch::Aarch64 => wanted.extend(AARCH64),
    }
    // Not the cloud flavour: it has no i6300esb.
    let meta_package = format!("linux-image-{}", arch.debian());
    let recipe = Recipe { kind: "board-kernel", meta_package, modules: &wanted };
    unpack(shop, arch, &recipe, |kernel| {
        fs::copy(kernel.vmlinuz, kernel.image).map(drop).map_err(|source| BoardKernelError::Io {
            what: "copy",
            path: kernel.vmlinuz.to_owned(),
            source,
        })
    })
}

/// Follows `recipe`; `keep_image` turns the package's vmlinuz into the image to keep.
pub(crate) fn unpack<E: From<BoardKernelError> + From<CacheError>>(
    shop: &Workshop,
    arch: Arch,
    recipe: &Recipe<'_>,
    keep_image: impl FnOnce(&UnpackedKernel<'_>) -> Result<(), E>,
) -> Result<DebianKernel, E> {
    let archive = Archive::open(shop).map_err(BoardKernelError::from)?;
    let package = current(&archive, &recipe.meta_package, arch)?;
    let debs = archive.find(&[Wanted::new(&package, arch)]).map_err(BoardKernelError::from)?;
    let mut inputs = Inputs::new().text("recipe", RECIPE).text("modules", &format!("{:?}", recipe.modules));
    for deb in &debs {
        inputs = inputs.text(&deb.name, &deb.hash);
    }
    let release = package.trim_start_matches("linux-image-").to_owned();
    let place = shop.cache.entry(recipe.kind, &inputs.key(), |place| {
        let work = place.join("work");
        for file in archive.fetch(&debs).map_err(BoardKernelError::from)? {
            archive.unpack(&file, &work).map_err(BoardKernelError::from)?;
        }
        let vmlinuz = work.join(format!("boot/vmlinuz-{release}"));
        keep_image(&UnpackedKernel { vmlinuz: &vmlinuz, image: &place.join("kernel") })?;
        let keep_modules = || {
            let tree = Tree::open(&work.join(format!("lib/modules/{release}")))?;
            modules::store(&tree.resolve(recipe.modules)?, &place.join("modules"))
        };
        keep_modules().map_err(BoardKernelError::from)?;
        fs::remove_dir_all(&work)
            .map_err(|source| E::from(BoardKernelError::Io { what: "remove", path: work.clone(), source }))
    })?;
    let modules = modules::load(&place.join("modules")).map_err(BoardKernelError::from)?;
    Ok(DebianKernel { image: place.join("kernel"), release, modules })
}

/// The package with the kernel behind a meta package.
fn current(archive: &Archive<'_>, meta: &str, arch: Arch) -> Result<String, BoardKernelError> {
    let depends = archive.depends(meta, arch)?;
    let kernel = depends.into_iter().find(|name| name.starts_with("linux-image-"));
    kernel.ok_or_else(|| BoardKernelError::NoKernel { package: meta.to_owned() })
}
