//! The board with the probe on it: what trials and benchmarks need besides what is on every box.
//!
//! Duty: the probe's program for the box, the initramfs with it for guests, and a busybox for both. Not here: what
//! the probe does (`tests/probe`).

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use hearth_image::{Permissions, Tree, TreeFault};
use thiserror::Error;

use super::{
    guest_files::{self, GuestFilesError, GuestKernelChoice},
    image::{self, BoardImage, BoardImageError, Extra},
    image_file::{self, Format, ImageFileError},
};
use crate::{
    arch::Arch,
    debian::archive::ArchiveError,
    kernel::modules::Weight,
    programs::{self, ProgramsError},
    workshop::Workshop,
};

/// The probe on the box.
pub(crate) const PROGRAM: &str = "/usr/bin/hearth-probe";
/// The crate that it comes from.
const PACKAGE: &str = "hearth-tests";
const NAME: &str = "hearth-probe";

#[derive(Debug, Error)]
pub(crate) enum ProbeError {
    #[error(transparent)]
    Programs(#[from] ProgramsError),
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    #[error(transparent)]
    Guest(#[from] GuestFilesError),
    #[error("what is in the probe's initramfs")]
    Tree(#[from] TreeFault),
    #[error(transparent)]
    ImageFile(#[from] ImageFileError),
    #[error(transparent)]
    Image(#[from] BoardImageError),
    #[error("cannot read {}", path.display())]
    Folder { path: PathBuf, source: io::Error },
}

/// The initramfs of guests on trial: the agent, the probe, and a busybox.
pub(crate) fn initrd(shop: &Workshop, arch: Arch, kernel: GuestKernelChoice) -> Result<PathBuf, ProbeError> {
    let mut tree = guest_files::bare_initrd(shop, arch, kernel)?;
    tree.program("bin/hearth-probe", programs::build_static(shop, arch, &[PACKAGE])?.path(NAME).as_path())?;
    tree.program("bin/busybox", guest_files::busybox(shop, arch)?.as_path())?;
    for applet in ["cat", "echo", "grep", "kill", "sh", "sleep", "sync"] {
        tree.symlink(&format!("bin/{applet}"), "busybox")?;
    }
    tree.data("etc/hearth/workload.toml", "command = [\"/bin/hearth-probe\", \"guest\", \"ready\"]\n")?;
    Ok(image_file::write(shop, &format!("probe-initrd-{arch}"), Format::Cpio, &tree)?)
}

/// What a monitor that leaves vsock to the host's kernel needs of it.
pub(crate) const VHOST_VSOCK: &[(Weight, &str)] = &[(Weight::Required, "vhost_vsock")];

/// A board's image with all of it.
pub(crate) fn image(
    shop: &Workshop,
    arch: Arch,
    kernel: GuestKernelChoice,
) -> Result<BoardImage, ProbeError> {
    image_with(shop, arch, kernel, None, image::nothing_extra())
}

/// The board that is hurt on purpose: its workloads are the probe's, in an image of their own.
pub(crate) fn hurt_image(shop: &Workshop, arch: Arch) -> Result<BoardImage, ProbeError> {
    own_workloads(shop, arch, "tests/boards/hurt", |_| Ok(()))
}

/// The board that serves through a shop's day, likewise.
pub(crate) fn day_image(shop: &Workshop, arch: Arch) -> Result<BoardImage, ProbeError> {
    own_workloads(shop, arch, "tests/boards/day", |_| Ok(()))
}

/// The board whose workloads fall ill again and again, and are healed in the order that a word of their files names.
pub(crate) fn recovery_image(shop: &Workshop, arch: Arch, order: &str) -> Result<BoardImage, ProbeError> {
    const CONFIG: &str = "tests/boards/recovery";
    let folder = shop.path(CONFIG).join("workloads");
    let names = fs::read_dir(&folder).and_then(|entries| {
        let entries = entries.collect::<Result<Vec<_>, _>>()?;
        Ok(entries.iter().filter_map(|entry| entry.path().file_stem()?.to_str().map(str::to_owned)).collect())
    });
    let names: Vec<String> = names.map_err(|source| ProbeError::Folder { path: folder, source })?;
    own_workloads(shop, arch, CONFIG, |tree| {
        let order = format!("heal.order = \"{order}\"\n");
        names.iter().try_for_each(|name| {
            tree.data(&format!("etc/hearth/workloads/{name}.d/order.toml"), order.as_str())
        })
    })
}

fn own_workloads(
    shop: &Workshop,
    arch: Arch,
    config: &str,
    more: impl FnOnce(&mut Tree) -> Result<(), TreeFault>,
) -> Result<BoardImage, ProbeError> {
    let victim = victim_image(shop, arch)?;
    let files = |tree: &mut Tree| {
        tree.data("usr/lib/hearth/images/probe.squashfs", victim.as_path())?;
        more(tree)
    };
    let config = shop.path(config);
    let extra = Extra { modules: &[], files };
    image_with(shop, arch, GuestKernelChoice::Own, Some(&config), extra)
}

/// The disk image of a workload that is the probe and nothing else.
fn victim_image(shop: &Workshop, arch: Arch) -> Result<PathBuf, ProbeError> {
    let mut tree = Tree::new();
    for folder in ["dev", "proc", "run", "sys"] {
        tree.folder(folder, Permissions::PROGRAM)?;
    }
    tree.folder("tmp", Permissions::SCRATCH)?;
    tree.program("bin/hearth-probe", programs::build_static(shop, arch, &[PACKAGE])?.path(NAME).as_path())?;
    Ok(image_file::write(shop, &format!("victim-image-{arch}"), Format::Squashfs, &tree)?)
}

/// The same, with another configuration in place of the project's, and something more.
pub(crate) fn image_with(
    shop: &Workshop,
    arch: Arch,
    kernel: GuestKernelChoice,
    config: Option<&Path>,
    extra: Extra<impl FnOnce(&mut Tree) -> Result<(), TreeFault>>,
) -> Result<BoardImage, ProbeError> {
    let initrd = initrd(shop, arch, kernel)?;
    let probe = programs::build_static(shop, arch, &[PACKAGE])?.path(NAME);
    let busybox = guest_files::busybox(shop, arch)?;
    let files = |tree: &mut Tree| {
        tree.program(PROGRAM.trim_start_matches('/'), probe.as_path())?;
        tree.program("probe/busybox", busybox.as_path())?;
        tree.data("probe/initrd", initrd.as_path())?;
        (extra.files)(tree)
    };
    Ok(image::build(shop, arch, kernel, config, Extra { modules: extra.modules, files })?)
}
