//! A tree as a `newc` cpio archive, the format that the kernel unpacks as its first root.
//!
//! Duty: the archive's bytes (the format is in the kernel's `driver-api/early-userspace/buffer-format`).
//! Not its duty: compression; guests boot faster without, and boards compress the whole file.
//! Invariant: only what the tree says gets in: owner 0:0, time 0, inode numbers counted from 1. The length is
//! a multiple of 4, so archives can be put one behind the other.

use crate::{
    source::Source,
    tree::{Device, Node, Permissions, Tree},
};
use std::io::{self, Read, Write};

const FOLDER: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const SYMLINK: u32 = 0o120_000;
const CHAR_DEVICE: u32 = 0o020_000;

/// Header, name and contents each start at a multiple of this many bytes.
const ALIGNMENT: usize = 4;

/// The name that ends an archive. No `TreePath` check is needed against it: a file of that name is refused.
const TRAILER: &str = "TRAILER!!!";

/// Why an archive could not be written.
#[derive(Debug, thiserror::Error)]
pub enum CpioFault {
    #[error("{0}: expected less than 4 GiB, the format holds no more")]
    TooLarge(String),
    #[error("{0}: changed its size while it was read")]
    Changed(String),
    #[error("{0}: this name marks the end of an archive")]
    Reserved(String),
    #[error("cannot copy {0} into the archive")]
    Copy(String, #[source] io::Error),
    #[error("cannot write the archive")]
    Write(#[source] io::Error),
}

/// Writes `tree` and returns the number of bytes.
pub fn write_cpio(tree: &Tree, out: impl Write) -> Result<u64, CpioFault> {
    let mut archive = Archive { out, written: 0, inode: 0 };
    for (path, node) in tree.iter() {
        let name = path.as_str();
        if name == TRAILER {
            return Err(CpioFault::Reserved(name.to_owned()));
        }
        match node {
            Node::Folder(permissions) => archive.header(name, FOLDER | bits(*permissions), 0, None)?,
            Node::File(permissions, source) => archive.file(name, *permissions, source)?,
            Node::Symlink(target) => {
                let size = u32::try_from(target.len()).map_err(|_| CpioFault::TooLarge(name.to_owned()))?;
                archive.header(name, SYMLINK | 0o777, size, None)?;
                archive.put(target.as_bytes())?;
                archive.pad()?;
            }
            Node::CharDevice(permissions, device) => {
                archive.header(name, CHAR_DEVICE | bits(*permissions), 0, Some(*device))?;
            }
        }
    }
    archive.inode = 0;
    archive.member(TRAILER, 0, 0, 0, None)?;
    archive.out.flush().map_err(CpioFault::Write)?;
    Ok(archive.written)
}

fn bits(permissions: Permissions) -> u32 {
    permissions.bits().into()
}

struct Archive<W> {
    out: W,
    written: u64,
    inode: u32,
}

impl<W: Write> Archive<W> {
    fn file(&mut self, name: &str, permissions: Permissions, source: &Source) -> Result<(), CpioFault> {
        let copy = |error| CpioFault::Copy(name.to_owned(), error);
        let expected = source.len().map_err(copy)?;
        let size = u32::try_from(expected).map_err(|_| CpioFault::TooLarge(name.to_owned()))?;
        self.header(name, FILE | bits(permissions), size, None)?;
        // One byte more than expected, to notice a file that grew.
        let mut contents = source.reader().take(expected + 1);
        let copied = io::copy(&mut contents, &mut self.out).map_err(copy)?;
        if copied != expected {
            return Err(CpioFault::Changed(name.to_owned()));
        }
        self.written += copied;
        self.pad()
    }

    fn header(&mut self, name: &str, mode: u32, size: u32, device: Option<Device>) -> Result<(), CpioFault> {
        // Always 1 link: with more, the kernel would take equal inode numbers for hard links.
        self.inode += 1;
        self.member(name, mode, 1, size, device)
    }

    fn member(
        &mut self,
        name: &str,
        mode: u32,
        links: u32,
        size: u32,
        device: Option<Device>,
    ) -> Result<(), CpioFault> {
        let Device { major, minor } = device.unwrap_or(Device { major: 0, minor: 0 });
        let (inode, name_size) = (self.inode, name.len() + 1);
        let (owner, group, time, check) = (0, 0, 0, 0);
        let (home_major, home_minor) = (0, 0);
        let header = format!(
            "070701{inode:08X}{mode:08X}{owner:08X}{group:08X}{links:08X}{time:08X}{size:08X}\
             {home_major:08X}{home_minor:08X}{major:08X}{minor:08X}{name_size:08X}{check:08X}{name}\0"
        );
        self.put(header.as_bytes())?;
        self.pad()
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), CpioFault> {
        self.out.write_all(bytes).map_err(CpioFault::Write)?;
        self.written += bytes.len() as u64;
        Ok(())
    }

    fn pad(&mut self) -> Result<(), CpioFault> {
        while !self.written.is_multiple_of(ALIGNMENT as u64) {
            self.put(&[0])?;
        }
        Ok(())
    }
}
