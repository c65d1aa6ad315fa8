//! Trees as files: archives and disk images in the cache.
//!
//! Duty: write a tree once, and find it again while nothing in it has changed. Not here: what is in a tree.
//! Invariant: the key covers the writers' version, names, permissions and the bytes of every file, so a stale
//! image is never found.

use std::{
    fs::File,
    io::{self, BufWriter},
    path::PathBuf,
};

use hearth_image::{CpioFault, Node, RECIPE, Source, SquashfsFault, Tree, write_cpio, write_squashfs};
use thiserror::Error;

use crate::{
    cache::CacheError,
    digest::{DigestError, Inputs},
    workshop::Workshop,
};

#[derive(Debug, Error)]
pub(crate) enum ImageFileError {
    #[error("cannot create {}", path.display())]
    Create { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Cpio(#[from] CpioFault),
    #[error(transparent)]
    Squashfs(#[from] SquashfsFault),
    #[error(transparent)]
    Digest(#[from] DigestError),
    #[error(transparent)]
    Cache(#[from] CacheError),
}

/// How a tree is written.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Format {
    /// An initramfs, not compressed: unpacking costs a guest more than the host's page cache saves.
    Cpio,
    /// A read-only disk image.
    Squashfs,
}

/// The file that holds `tree`; `kind` is what the cache calls it.
pub(crate) fn write(
    shop: &Workshop,
    kind: &str,
    format: Format,
    tree: &Tree,
) -> Result<PathBuf, ImageFileError> {
    let mut inputs = Inputs::new().text("recipe", RECIPE).text("format", &format!("{format:?}"));
    for (path, node) in tree.iter() {
        inputs = match node {
            Node::File(permissions, Source::Host(file)) => {
                inputs.text(path.as_str(), &format!("{permissions:?}")).file("bytes", file)?
            }
            literal => inputs.text(path.as_str(), &format!("{literal:?}")),
        };
    }
    let place = shop.cache.entry(kind, &inputs.key(), |place| {
        let path = place.join("image");
        let file = File::create(&path).map_err(|source| ImageFileError::Create { path, source })?;
        match format {
            Format::Cpio => write_cpio(tree, BufWriter::new(file)).map(drop)?,
            Format::Squashfs => write_squashfs(tree, file).map(drop)?,
        }
        Ok::<_, ImageFileError>(())
    })?;
    Ok(place.join("image"))
}
