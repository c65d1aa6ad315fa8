//! What a template was made of, in one number.
//!
//! Duty: tell whether a template is of this configuration, this kernel and these images, or has to be made anew. Of
//! files it is the content that counts, not names and times: a box whose image was replaced by the same one keeps its
//! templates. Not its duty: resisting somebody who wants two to look alike; whether the host's processor still does
//! (a restore says that).
//!
//! Disks that the guest may write to count by their size alone: making the template has written to them.

use std::io;
use std::path::Path;

use hearth_config::vm::VmConfig;
use nix::fcntl::OFlag;

use super::anchored::anchored;
use super::copy::sum_of;
use super::folder::KEY;
use super::state::FORMAT;
use super::sum;
use crate::{memory, places};

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The configuration cannot be written down.
    #[error(transparent)]
    Config(#[from] hearth_config::vm::WriteError),
    /// A file of the machine.
    #[error("{path}: cannot be read")]
    File {
        /// Which one.
        path: String,
        /// What the host said.
        source: io::Error,
    },
}

/// The key of a template that would be made of `config` now.
pub fn key(config: &VmConfig) -> Result<String, KeyError> {
    let text = format!("{FORMAT} {}\n{}", env!("CARGO_PKG_VERSION"), anchored(config).to_toml()?);
    let mut words = vec![sum::of_pages(0, text.as_bytes())];
    let boot = [Some(&config.boot.kernel), config.boot.initrd.as_ref()];
    let files = boot.into_iter().flatten().map(|path| (path, true));
    for (path, whole) in files.chain(config.block.iter().map(|disk| (&disk.path, disk.read_only))) {
        let (bytes, content) = sum_of_file(path, whole)
            .map_err(|source| KeyError::File { path: path.display().to_string(), source })?;
        words.extend([bytes, content]);
    }
    Ok(format!("{:016x}\n", sum::of_words(words.into_iter())))
}

fn sum_of_file(path: &Path, whole: bool) -> io::Result<(u64, u64)> {
    let file = places::open(path, OFlag::O_RDONLY | OFlag::O_NONBLOCK)?;
    let content = if whole { sum_of(&file, &memory::data(&file)?)? } else { 0 };
    Ok((file.metadata()?.len(), content))
}

/// Whether the snapshot in `folder` is a template with this key.
#[must_use]
pub fn has_key(folder: &Path, key: &str) -> bool {
    let opened = places::open(&folder.join(KEY), OFlag::O_RDONLY | OFlag::O_NONBLOCK);
    opened.and_then(io::read_to_string).is_ok_and(|found| found == key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_of_contents_and_of_what_is_configured() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        for name in ["kernel", "initrd", "root", "data"] {
            write(name, &format!("{name}\n").repeat(1000));
        }
        let key_of = |more: &str| {
            let text = format!(
                "[boot]\nkernel = \"kernel\"\ninitrd = \"initrd\"\n[[block]]\nid = \"root\"\npath = \"root\"\n\
                 read_only = true\n[[block]]\nid = \"data\"\npath = \"data\"\n{more}"
            );
            write("vm.toml", &text);
            key(&VmConfig::load(&folder.path().join("vm.toml")).unwrap()).unwrap()
        };
        let first = key_of("");
        assert_eq!(first.len(), 17);
        assert_eq!(key_of(""), first);
        write("kernel", &"kernel\n".repeat(1000));
        assert_eq!(key_of(""), first, "the same content");
        assert_ne!(key_of("[machine]\nvcpus = 2\n"), first);
        for name in ["kernel", "initrd", "root"] {
            write(name, &"KERNEL\n".repeat(1000));
            assert_ne!(key_of(""), first, "{name}");
            write(name, &format!("{name}\n").repeat(1000));
        }
        write("data", &"DATA\n".repeat(1000));
        assert_eq!(key_of(""), first, "the guest writes there");
        write("data", "DATA\n");
        assert_ne!(key_of(""), first, "another size");
        std::fs::remove_file(folder.path().join("initrd")).unwrap();
        let config = VmConfig::load(&folder.path().join("vm.toml")).unwrap();
        let said = key(&config).unwrap_err().to_string();
        assert!(said.ends_with("initrd: cannot be read"), "{said}");
    }
}
