//! A board's image: everything on the box in one initramfs, beside Debian's kernel.
//!
//! Duty: decide what is on the box and where. Not here: how the box is started (`qemu`).
//! Invariant: the paths are those that `config/hearth.toml` has as its defaults.

use std::path::{Path, PathBuf};

use hearth_image::{Tree, TreeFault};
use thiserror::Error;

use super::{
    guest_files::{self, GuestFilesError, GuestKernelChoice},
    image_file::{self, Format, ImageFileError},
    modules::add_modules,
};
use crate::{
    arch::Arch,
    kernel::{
        board::{self, BoardKernelError},
        modules::Weight,
    },
    programs::{self, Programs, ProgramsError},
    workshop::Workshop,
};

/// Programs of the box and where they lie.
const PROGRAMS: [(&str, &str); 6] = [
    ("hearth-init", "init"),
    ("hearth-vmm", "usr/bin/hearth-vmm"),
    ("hearthd", "usr/bin/hearthd"),
    ("hearthctl", "usr/bin/hearthctl"),
    ("hearth-network", "usr/bin/hearth-network"),
    ("hearth-relay", "usr/bin/hearth-relay"),
];
/// The crates that they come from.
const PACKAGES: [&str; 5] =
    ["hearth-init", "hearth-network", "hearth-relay", "hearth-vmm", "hearth-supervisor"];

#[derive(Debug, Error)]
pub(crate) enum BoardImageError {
    #[error(transparent)]
    Guest(#[from] GuestFilesError),
    #[error(transparent)]
    Kernel(#[from] BoardKernelError),
    #[error(transparent)]
    Programs(#[from] ProgramsError),
    #[error("what is on the board")]
    Tree(#[from] TreeFault),
    #[error(transparent)]
    Image(#[from] ImageFileError),
}

/// What a board boots from.
#[derive(Debug)]
pub(crate) struct BoardImage {
    pub(crate) kernel: PathBuf,
    pub(crate) initramfs: PathBuf,
    /// The person's tool, for the board's architecture.
    pub(crate) hearthctl: PathBuf,
    /// For people.
    pub(crate) kernel_release: String,
    /// For people.
    pub(crate) guest_kernel_origin: String,
}

/// What a board has besides what is on every box.
pub(crate) struct Extra<F> {
    /// Kernel modules.
    pub(crate) modules: &'static [(Weight, &'static str)],
    /// Files.
    pub(crate) files: F,
}

/// A box as it is shipped.
pub(crate) fn nothing_extra() -> Extra<impl FnOnce(&mut Tree) -> Result<(), TreeFault>> {
    Extra { modules: &[], files: |_: &mut Tree| Ok(()) }
}

/// Builds the image for boards of `arch`. `config` replaces the project's own `config` folder; `extra` is added.
pub(crate) fn build(
    shop: &Workshop,
    arch: Arch,
    guest_kernel: GuestKernelChoice,
    config: Option<&Path>,
    extra: Extra<impl FnOnce(&mut Tree) -> Result<(), TreeFault>>,
) -> Result<BoardImage, BoardImageError> {
    let guest = guest_files::build(shop, arch, guest_kernel)?;
    let kernel = board::board_kernel(shop, arch, extra.modules)?;
    let programs = programs(shop, arch)?;

    let mut tree = Tree::new();
    for (program, place) in PROGRAMS {
        tree.program(place, programs.path(program).as_path())?;
    }
    tree.data("usr/lib/hearth/guest/kernel", guest.kernel.as_path())?;
    tree.data("usr/lib/hearth/guest/initrd", guest.initrd.as_path())?;
    tree.data("usr/lib/hearth/images/demo.squashfs", guest.demo.as_path())?;
    let config = config_folder(shop, config);
    tree.data("etc/hearth/hearth.toml", config.join("hearth.toml").as_path())?;
    tree.host_folder("etc/hearth/workloads", &config.join("workloads"))?;
    let network = config.join("network.toml");
    if network.exists() {
        tree.data("etc/hearth/network.toml", network.as_path())?;
    }
    let drop_ins = config.join("hearth.d");
    if drop_ins.is_dir() {
        tree.host_folder("etc/hearth/hearth.d", &drop_ins)?;
    }
    add_modules(&mut tree, &kernel.release, &kernel.modules)?;
    add_roots(&mut tree)?;
    (extra.files)(&mut tree)?;

    let initramfs = image_file::write(shop, &format!("board-image-{arch}"), Format::Cpio, &tree)?;
    Ok(BoardImage {
        kernel: kernel.image,
        initramfs,
        hearthctl: programs.path("hearthctl"),
        kernel_release: kernel.release,
        guest_kernel_origin: guest.kernel_origin,
    })
}

/// The programs of a box.
pub(crate) fn programs(shop: &Workshop, arch: Arch) -> Result<Programs, ProgramsError> {
    programs::build_static(shop, arch, &PACKAGES)
}

/// The project's own configuration, unless another is named.
pub(crate) fn config_folder(shop: &Workshop, named: Option<&Path>) -> PathBuf {
    named.map_or_else(|| shop.path("config"), Path::to_owned)
}

/// What init finds before it has mounted anything.
fn add_roots(tree: &mut Tree) -> Result<(), TreeFault> {
    use hearth_image::{Device, Permissions};
    for folder in ["dev", "proc", "run", "sys", "var"] {
        tree.folder(folder, Permissions::PROGRAM)?;
    }
    tree.folder("tmp", Permissions::SCRATCH)?;
    tree.char_device("dev/console", Permissions::from_bits(0o600), Device { major: 5, minor: 1 })
}
