//! Kernel modules in an initramfs: the files, and the list that whoever is PID 1 loads them by.

use hearth_image::{Tree, TreeFault};

use crate::kernel::modules::{Module, Weight};

/// One line per module in load order: `path`, with `?` in front where a refusal is no fault.
const LIST: &str = "etc/hearth/modules";

/// Adds the modules of kernel `release` to `tree`.
pub(crate) fn add_modules(tree: &mut Tree, release: &str, modules: &[Module]) -> Result<(), TreeFault> {
    let mut list = String::new();
    for module in modules {
        let path = format!("lib/modules/{release}/{}.ko", module.name);
        tree.data(&path, module.file.as_path())?;
        let mark = if module.weight == Weight::Optional { "?" } else { "" };
        list.push_str(&format!("{mark}/{path}\n"));
    }
    tree.data(LIST, list.as_str())
}
