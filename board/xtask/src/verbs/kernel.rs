//! `kernel`: the guests' kernel and the boards' kernel, and what came out.

use std::{fs, io, path::Path, path::PathBuf};

use thiserror::Error;

use crate::{
    cli,
    kernel::{
        board::{self, BoardKernelError},
        guest::{self, GuestKernel, GuestKernelError, Origin},
    },
    workshop::Workshop,
};

#[derive(Debug, Error)]
pub(crate) enum KernelError {
    #[error(transparent)]
    Guest(#[from] GuestKernelError),
    #[error(transparent)]
    Board(#[from] BoardKernelError),
    #[error("cannot look at {}", path.display())]
    Look { path: PathBuf, source: io::Error },
}

pub(crate) fn run(shop: &Workshop, options: &cli::Kernel) -> Result<(), KernelError> {
    for arch in options.arch.archs() {
        if !options.board_only {
            let kernel = match options.stock {
                true => guest::stock_kernel(shop, arch)?,
                false => guest::guest_kernel(shop, arch)?,
            };
            let GuestKernel { image, origin } = kernel;
            let origin = match origin {
                Origin::Built { version } => format!("built from Debian's source {version}"),
                Origin::Stock { release, modules } => {
                    format!("Debian's stock {release} with {} modules", modules.len())
                }
            };
            println!("guest kernel {arch}: {origin}, {}: {}", size(&image)?, image.display());
        }
        if !options.guest_only {
            let kernel = board::board_kernel(shop, arch, &[])?;
            let names: Vec<_> = kernel.modules.iter().map(|module| module.name.as_str()).collect();
            let (release, image) = (kernel.release, kernel.image);
            println!("board kernel {arch}: Debian's {release}, {}: {}", size(&image)?, image.display());
            println!("  modules in load order: {}", names.join(" "));
        }
    }
    Ok(())
}

/// A file's size for people.
fn size(path: &Path) -> Result<String, KernelError> {
    let meta = fs::metadata(path).map_err(|source| KernelError::Look { path: path.to_owned(), source })?;
    let tenths = meta.len() / 100_000;
    Ok(format!("{}.{} MB", tenths / 10, tenths % 10))
}
