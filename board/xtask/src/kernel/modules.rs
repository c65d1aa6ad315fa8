//! Modules of Debian's kernels: which files, in which order.
//!
//! Duty: from the names that a machine needs to the files to load, dependencies first.
//! Not here: loading (board/init). Invariant: every module comes after all modules that it depends on.
//!
//! Debian makes `modules.dep` when a kernel is installed; these kernels are only unpacked, so the order comes
//! from the modules themselves: each names its dependencies in its `.modinfo` section.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
};

use thiserror::Error;

#[derive(Debug, Error)]
pub(crate) enum ModulesError {
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot write {}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("the kernel in {} has no module {name}, neither as a file nor built in", tree.display())]
    Absent { name: String, tree: PathBuf },
    #[error("{} is not a kernel module: it names no dependencies", path.display())]
    NoInfo { path: PathBuf },
    #[error("{}: expected 'required NAME' or 'optional NAME', found {found:?}", path.display())]
    List { path: PathBuf, found: String },
}

/// How much a machine needs a module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Weight {
    /// May be absent from the kernel and may refuse to load (the other vendor's processor).
    Optional,
    Required,
}

/// A module to load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Module {
    /// With underscores, as the kernel lists it.
    pub(crate) name: String,
    pub(crate) file: PathBuf,
    pub(crate) weight: Weight,
}

/// The file of a collection that has the modules in load order.
const LIST: &str = "modules.list";

/// One kernel's modules.
#[derive(Debug)]
pub(crate) struct Tree {
    root: PathBuf,
    files: BTreeMap<String, PathBuf>,
    built_in: BTreeSet<String>,
}

impl Tree {
    /// `root` is `lib/modules/RELEASE` of an unpacked kernel.
    pub(crate) fn open(root: &Path) -> Result<Self, ModulesError> {
        let list = root.join("modules.builtin");
        let text = fs::read_to_string(&list).map_err(|source| ModulesError::Read { path: list, source })?;
        let built_in = text.lines().map(|line| module_name(Path::new(line))).collect();
        let mut files = BTreeMap::new();
        walk(root, &mut files)?;
        Ok(Self { root: root.to_owned(), files, built_in })
    }

    /// The files behind `wanted`, dependencies first, in the order of `wanted` otherwise.
    pub(crate) fn resolve(&self, wanted: &[(Weight, &str)]) -> Result<Vec<Module>, ModulesError> {
        let mut order = Vec::new();
        for (weight, name) in wanted {
            let name = name.replace('-', "_");
            match self.visit(&name, *weight, &mut order) {
                // A part of an optional module that is absent makes it absent.
                Err(ModulesError::Absent { .. }) if *weight == Weight::Optional => {}
                other => other?,
            }
        }
        Ok(order)
    }

    fn visit(&self, name: &str, weight: Weight, order: &mut Vec<Module>) -> Result<(), ModulesError> {
        if let Some(known) = order.iter_mut().find(|module| module.name == name) {
            if weight > known.weight {
                known.weight = weight;
                // What a required module stands on is required too.
                for dependency in depends(&known.file.clone())? {
                    self.visit(&dependency, weight, order)?;
                }
            }
            return Ok(());
        }
        if self.built_in.contains(name) {
            return Ok(());
        }
        let absent = || ModulesError::Absent { name: name.to_owned(), tree: self.root.clone() };
        let file = self.files.get(name).ok_or_else(absent)?;
        // The kernel's own build refuses circular dependencies, so this ends.
        for dependency in depends(file)? {
            self.visit(&dependency, weight, order)?;
        }
        order.push(Module { name: name.to_owned(), file: file.clone(), weight });
        Ok(())
    }
}

/// Copies `modules` into `folder` with a list that [`load`] reads.
pub(crate) fn store(modules: &[Module], folder: &Path) -> Result<(), ModulesError> {
    fs::create_dir_all(folder).map_err(|source| ModulesError::Write { path: folder.to_owned(), source })?;
    let mut list = String::new();
    for Module { name, file, weight } in modules {
        let path = folder.join(format!("{name}.ko"));
        fs::copy(file, &path).map_err(|source| ModulesError::Write { path, source })?;
        let word = match weight {
            Weight::Optional => "optional",
            Weight::Required => "required",
        };
        list.push_str(&format!("{word} {name}\n"));
    }
    let path = folder.join(LIST);
    fs::write(&path, list).map_err(|source| ModulesError::Write { path, source })
}

/// The modules that [`store`] put there, in load order.
pub(crate) fn load(folder: &Path) -> Result<Vec<Module>, ModulesError> {
    let path = folder.join(LIST);
    let text =
        fs::read_to_string(&path).map_err(|source| ModulesError::Read { path: path.clone(), source })?;
    let module = |line: &str| {
        let wrong = || ModulesError::List { path: path.clone(), found: line.to_owned() };
        let (word, name) = line.split_once(' ').ok_or_else(wrong)?;
        let weight = match word {
            "optional" => Weight::Optional,
            "required" => Weight::Required,
            _ => return Err(wrong()),
        };
        Ok(Module { name: name.to_owned(), file: folder.join(format!("{name}.ko")), weight })
    };
    text.lines().map(module).collect()
}

fn walk(folder: &Path, files: &mut BTreeMap<String, PathBuf>) -> Result<(), ModulesError> {
    let error = |source| ModulesError::Read { path: folder.to_owned(), source };
    for entry in fs::read_dir(folder).map_err(error)? {
        let entry = entry.map_err(error)?;
        let path = entry.path();
        if entry.file_type().map_err(error)?.is_dir() {
            walk(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "ko") {
            files.insert(module_name(&path), path);
        }
    }
    Ok(())
}

fn module_name(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().replace('-', "_")
}

fn depends(file: &Path) -> Result<Vec<String>, ModulesError> {
    let bytes = fs::read(file).map_err(|source| ModulesError::Read { path: file.to_owned(), source })?;
    parse_depends(&bytes).ok_or_else(|| ModulesError::NoInfo { path: file.to_owned() })
}

/// `.modinfo` is a row of NUL-terminated `key=value` strings; the kernel's build writes `depends=` into every
/// module, and nothing else in one starts a string like that.
fn parse_depends(module: &[u8]) -> Option<Vec<String>> {
    let value = module.split(|byte| *byte == 0).find_map(|text| text.strip_prefix(b"depends="))?;
    let names = String::from_utf8_lossy(value);
    Some(names.split(',').filter(|name| !name.is_empty()).map(|name| name.replace('-', "_")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use Weight::{Optional, Required};

    /// A tree whose modules depend on each other as `(name, depends)` says.
    fn tree(modules: &[(&str, &str)], built_in: &str) -> (tempfile::TempDir, Tree) {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("kernel")).unwrap();
        for (name, depends) in modules {
            let text = format!("\x7fELF\0license=GPL\0depends={depends}\0name={name}\0");
            fs::write(folder.path().join(format!("kernel/{name}.ko")), text).unwrap();
        }
        fs::write(folder.path().join("modules.builtin"), built_in).unwrap();
        let tree = Tree::open(folder.path()).unwrap();
        (folder, tree)
    }

    fn order(modules: &[Module]) -> Vec<(&str, Weight)> {
        modules.iter().map(|module| (module.name.as_str(), module.weight)).collect()
    }

    #[test]
    fn dependencies_come_first_and_once() {
        let (_folder, tree) = tree(
            &[
                ("kvm-amd", "kvm,ccp"),
                ("kvm-intel", "kvm"),
                ("kvm", "irqbypass"),
                ("irqbypass", ""),
                ("ccp", ""),
            ],
            "",
        );
        let found = tree.resolve(&[(Required, "kvm-amd"), (Required, "kvm-intel")]).unwrap();
        let names: Vec<_> = found.iter().map(|module| module.name.as_str()).collect();
        assert_eq!(names, ["irqbypass", "kvm", "ccp", "kvm_amd", "kvm_intel"]);
    }

    #[test]
    fn what_a_required_module_needs_is_required_even_if_seen_as_optional_before() {
        let (_folder, tree) = tree(&[("a", "shared"), ("b", "shared"), ("shared", "deep"), ("deep", "")], "");
        let found = tree.resolve(&[(Optional, "a"), (Required, "b")]).unwrap();
        assert_eq!(
            order(&found),
            [("deep", Required), ("shared", Required), ("a", Optional), ("b", Required)]
        );
    }

    #[test]
    fn built_in_modules_need_no_file_and_absent_ones_are_named() {
        let (_folder, tree) = tree(&[("tun", "")], "kernel/fs/ext4/ext4.ko\n");
        assert_eq!(tree.resolve(&[(Required, "ext4")]).unwrap(), []);
        assert_eq!(tree.resolve(&[(Optional, "i6300esb")]).unwrap(), []);
        let error = tree.resolve(&[(Required, "i6300esb")]).unwrap_err();
        assert!(matches!(error, ModulesError::Absent { name, .. } if name == "i6300esb"));
    }

    #[test]
    fn a_stored_collection_loads_in_the_same_order() {
        let (_folder, tree) = tree(&[("b", "a"), ("a", "")], "");
        let found = tree.resolve(&[(Optional, "b")]).unwrap();
        let copy = tempfile::tempdir().unwrap();
        store(&found, copy.path()).unwrap();
        assert_eq!(order(&load(copy.path()).unwrap()), order(&found));
    }
}
