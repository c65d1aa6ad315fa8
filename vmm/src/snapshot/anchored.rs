//! A configuration whose paths mean the same wherever it is read.
//!
//! Duty: make paths absolute. Not here: whether they lead anywhere (`preflight.rs`).

use std::path::PathBuf;

use hearth_config::vm::{Output, VmConfig};

/// The same machine with paths that mean the same wherever they are read. Those that cannot be made so stay.
pub fn anchored(config: &VmConfig) -> VmConfig {
    let mut config = config.clone();
    let anchor = |path: &mut PathBuf| {
        if let Ok(absolute) = std::path::absolute(&*path) {
            *path = absolute;
        }
    };
    anchor(&mut config.boot.kernel);
    config.boot.initrd.iter_mut().for_each(anchor);
    config.block.iter_mut().for_each(|disk| anchor(&mut disk.path));
    let console = config.console.as_mut().map(|console| &mut console.output);
    for output in config.serial.output.iter_mut().chain(console) {
        if let Output::File(path) = output {
            anchor(path);
        }
    }
    config.vsock.iter_mut().for_each(|vsock| anchor(&mut vsock.socket));
    config.control.iter_mut().for_each(|control| anchor(&mut control.socket));
    config.snapshot.iter_mut().for_each(|snapshot| anchor(&mut snapshot.folder));
    config
}
