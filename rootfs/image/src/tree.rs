//! What an image holds: names and nodes.
//!
//! Duty: collect nodes from literals and host files, and refuse what no image may hold.
//! Not its duty: a format on disk (`cpio`, `squashfs`).
//! Invariant: every node's parents are directories of the same tree, and come before it in order.

use crate::{
    path::{PathFault, TreePath},
    source::Source,
};
use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

/// Names in one tree: far above any appliance image, and low enough to stop a walk that went astray.
const MAX_NODES: usize = 1 << 20;

/// The twelve permission bits of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Permissions(u16);

impl Permissions {
    /// Directories and programs.
    pub const PROGRAM: Self = Self(0o755);
    /// Everything that is only read.
    pub const DATA: Self = Self(0o644);
    /// Shared scratch folders such as `/tmp`.
    pub const SCRATCH: Self = Self(0o1777);

    /// Bits above the twelve are not kept.
    pub const fn from_bits(bits: u16) -> Self {
        Self(bits & 0o7777)
    }

    pub const fn bits(self) -> u16 {
        self.0
    }
}

/// The number of a device node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Device {
    pub major: u16,
    pub minor: u16,
}

/// One name's meaning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    Folder(Permissions),
    File(Permissions, Source),
    Symlink(String),
    CharDevice(Permissions, Device),
}

/// Why something cannot be in a tree.
#[derive(Debug, thiserror::Error)]
pub enum TreeFault {
    #[error("bad path in the image")]
    Path(#[source] PathFault),
    #[error("{0}: named twice in the image")]
    Twice(TreePath),
    #[error("{0}: has names under it but is not a folder")]
    NotAFolder(TreePath),
    #[error("{0}: expected a symlink target without zero bytes that is not empty")]
    BadTarget(TreePath),
    #[error("{}: cannot read it", .0.display())]
    Host(PathBuf, #[source] io::Error),
    #[error("{}: expected a file, folder or symlink with a UTF-8 name", .0.display())]
    HostKind(PathBuf),
    #[error("expected at most {MAX_NODES} names in an image")]
    TooMany,
}

/// Names and nodes, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tree {
    nodes: BTreeMap<TreePath, Entry>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    node: Node,
    origin: Origin,
}

/// A folder that only came about as somebody's parent may still be named once, to set its permissions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    Named,
    Implied,
}

impl Tree {
    pub const fn new() -> Self {
        Self { nodes: BTreeMap::new() }
    }

    /// Adds a node; missing parents become folders with `Permissions::PROGRAM`.
    pub fn add(&mut self, path: &str, node: Node) -> Result<(), TreeFault> {
        let path: TreePath = path.parse().map_err(TreeFault::Path)?;
        if let Node::Symlink(target) = &node
            && (target.is_empty() || target.contains('\0'))
        {
            return Err(TreeFault::BadTarget(path));
        }
        if self.nodes.len() >= MAX_NODES {
            return Err(TreeFault::TooMany);
        }
        match self.nodes.get(&path) {
            Some(Entry { origin: Origin::Named, .. }) => return Err(TreeFault::Twice(path)),
            Some(Entry { origin: Origin::Implied, .. }) if !matches!(node, Node::Folder(_)) => {
                return Err(TreeFault::NotAFolder(path));
            }
            Some(_) => {}
            None => self.make_parents(&path)?,
        }
        self.nodes.insert(path, Entry { node, origin: Origin::Named });
        Ok(())
    }

    pub fn folder(&mut self, path: &str, permissions: Permissions) -> Result<(), TreeFault> {
        self.add(path, Node::Folder(permissions))
    }

    /// An executable file.
    pub fn program(&mut self, path: &str, source: impl Into<Source>) -> Result<(), TreeFault> {
        self.add(path, Node::File(Permissions::PROGRAM, source.into()))
    }

    /// A file that is only read.
    pub fn data(&mut self, path: &str, source: impl Into<Source>) -> Result<(), TreeFault> {
        self.add(path, Node::File(Permissions::DATA, source.into()))
    }

    pub fn symlink(&mut self, path: &str, target: &str) -> Result<(), TreeFault> {
        self.add(path, Node::Symlink(target.to_owned()))
    }

    pub fn char_device(
        &mut self,
        path: &str,
        permissions: Permissions,
        device: Device,
    ) -> Result<(), TreeFault> {
        self.add(path, Node::CharDevice(permissions, device))
    }

    /// Adds all that is in the host's `folder` under `at` (`""`: the root). Symlinks stay symlinks and are
    /// never followed, so the host's files outside of `folder` cannot get in. Of the permissions only
    /// "executable" is kept: the rest is the accident of a checkout's umask.
    pub fn host_folder(&mut self, at: &str, folder: &Path) -> Result<(), TreeFault> {
        let unreadable = |error| TreeFault::Host(folder.to_owned(), error);
        let mut entries =
            fs::read_dir(folder).and_then(Iterator::collect::<io::Result<Vec<_>>>).map_err(unreadable)?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let host = entry.path();
            let unreadable = |error| TreeFault::Host(host.clone(), error);
            let name = entry.file_name();
            let name = name.to_str().ok_or_else(|| TreeFault::HostKind(host.clone()))?;
            let path = if at.is_empty() { name.to_owned() } else { format!("{at}/{name}") };
            let data = fs::symlink_metadata(&host).map_err(unreadable)?;
            let kind = data.file_type();
            if kind.is_dir() {
                self.folder(&path, Permissions::PROGRAM)?;
                self.host_folder(&path, &host)?;
            } else if kind.is_symlink() {
                let target = fs::read_link(&host).map_err(unreadable)?;
                let target = target.to_str().ok_or_else(|| TreeFault::HostKind(host.clone()))?;
                self.symlink(&path, target)?;
            } else if kind.is_file() {
                let executable = data.permissions().mode() & 0o111 != 0;
                let permissions = if executable { Permissions::PROGRAM } else { Permissions::DATA };
                self.add(&path, Node::File(permissions, Source::Host(host)))?;
            } else {
                return Err(TreeFault::HostKind(host));
            }
        }
        Ok(())
    }

    /// All nodes, parents first.
    pub fn iter(&self) -> impl Iterator<Item = (&TreePath, &Node)> {
        self.nodes.iter().map(|(path, entry)| (path, &entry.node))
    }

    pub fn get(&self, path: &str) -> Option<&Node> {
        self.nodes.get(&path.parse().ok()?).map(|entry| &entry.node)
    }

    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// All or none: a refused name leaves nothing behind.
    fn make_parents(&mut self, path: &TreePath) -> Result<(), TreeFault> {
        let mut missing = Vec::new();
        let mut child = path.parent();
        while let Some(folder) = child {
            child = folder.parent();
            match self.nodes.get(&folder).map(|entry| &entry.node) {
                // Its own parents were made when it was.
                Some(Node::Folder(_)) => break,
                Some(_) => return Err(TreeFault::NotAFolder(folder)),
                None => missing.push(folder),
            }
        }
        for folder in missing {
            let node = Node::Folder(Permissions::PROGRAM);
            self.nodes.insert(folder, Entry { node, origin: Origin::Implied });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parents_come_first_and_are_made_when_missing() {
        let mut tree = Tree::new();
        tree.program("usr/bin/env", "x").expect("fits");
        tree.folder("usr-local", Permissions::PROGRAM).expect("fits");
        let names: Vec<_> = tree.iter().map(|(path, _)| path.as_str()).collect();
        assert_eq!(names, ["usr", "usr-local", "usr/bin", "usr/bin/env"]);
    }

    #[test]
    fn a_name_is_given_once_but_an_implied_folder_may_get_its_permissions() {
        let mut tree = Tree::new();
        tree.data("tmp/a", "").expect("fits");
        tree.folder("tmp", Permissions::SCRATCH).expect("was only implied");
        assert_eq!(tree.get("tmp"), Some(&Node::Folder(Permissions::SCRATCH)));
        assert!(matches!(tree.folder("tmp", Permissions::SCRATCH), Err(TreeFault::Twice(_))));
        assert!(matches!(tree.symlink("tmp/a", "b"), Err(TreeFault::Twice(_))));
    }

    #[test]
    fn nothing_lives_under_a_file_or_a_symlink() {
        let mut tree = Tree::new();
        tree.symlink("lib", "usr/lib").expect("fits");
        // Under a symlink, a later unpacker would write wherever it points.
        assert!(matches!(tree.data("lib/x/y", ""), Err(TreeFault::NotAFolder(p)) if p.as_str() == "lib"));
        assert_eq!(tree.get("lib/x"), None, "nothing is left behind");
        tree.data("a/b", "").expect("fits");
        assert!(matches!(tree.data("a", ""), Err(TreeFault::NotAFolder(_))));
    }

    #[test]
    fn bad_paths_and_targets_are_refused() {
        let mut tree = Tree::new();
        assert!(matches!(tree.data("../x", ""), Err(TreeFault::Path(_))));
        assert!(matches!(tree.data("/x", ""), Err(TreeFault::Path(_))));
        assert!(matches!(tree.symlink("x", ""), Err(TreeFault::BadTarget(_))));
        assert!(tree.is_empty());
    }

    #[test]
    fn permissions_keep_to_twelve_bits() {
        assert_eq!(Permissions::from_bits(0o100_644), Permissions::DATA);
    }
}
