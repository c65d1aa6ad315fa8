//! `rootfs`: what guests start from, built and named.

use crate::{
    boards::guest_files::{self, GuestFilesError},
    cli::ArchChoice,
    workshop::Workshop,
};

pub(crate) fn run(shop: &Workshop, choice: &ArchChoice) -> Result<(), GuestFilesError> {
    for arch in choice.archs() {
        let files = guest_files::build(shop, arch)?;
        println!("guest {arch}:");
        println!("  kernel  {} ({})", files.kernel.display(), files.kernel_origin);
        println!("  initrd  {}", files.initrd.display());
        println!("  demo    {}", files.demo.display());
    }
    Ok(())
}
