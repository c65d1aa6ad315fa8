//! `rootfs`: what guests start from, built and named.

use crate::{
    boards::guest_files::{self, GuestFilesError},
    cli::Rootfs,
    workshop::Workshop,
};

pub(crate) fn run(shop: &Workshop, options: &Rootfs) -> Result<(), GuestFilesError> {
    for arch in options.arch.archs() {
        let files = guest_files::build(shop, arch, (&options.guest_kernel).into())?;
        println!("guest {arch}:");
        println!("  kernel  {} ({})", files.kernel.display(), files.kernel_origin);
        println!("  initrd  {}", files.initrd.display());
        println!("  demo    {}", files.demo.display());
    }
    Ok(())
}
