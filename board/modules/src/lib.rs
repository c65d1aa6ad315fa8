//! Kernel modules, from a list in load order, for whoever is PID 1: of a box, or of a guest with a stock kernel.
//!
//! ```text
//! # a comment
//! /lib/modules/kvm.ko
//! /lib/modules/i6300esb.ko heartbeat=30
//! ?/lib/modules/kvm-intel.ko          may not fit this machine
//! ```
//!
//! Duty: read the list, load each, tell what failed. Not here: dependencies, the list is in order.
//! Invariant: a module that fails does not keep the next from being tried.
#![forbid(unsafe_code)]

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::path::Path;

use nix::errno::Errno;
use nix::kmod::{ModuleInitFlags, finit_module};

#[derive(Debug, PartialEq, Eq)]
struct Module<'l> {
    path: &'l str,
    parameters: &'l str,
    /// It may fail, most likely because it is for another machine.
    optional: bool,
}

/// Where an image keeps its list.
pub const LIST: &str = "/etc/hearth/modules";

/// Loads what the list says and tells what failed. No list means no modules: a kernel may have all built in.
pub fn load_all(list: &Path) -> Vec<String> {
    match std::fs::read_to_string(list) {
        Ok(text) => {
            parse(&text).filter_map(|module| load(&module).err().map(|why| told(&module, &why))).collect()
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => vec![format!("{}: cannot be read: {error}", list.display())],
    }
}

fn parse(text: &str) -> impl Iterator<Item = Module<'_>> {
    text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')).map(|line| {
        let (optional, line) = match line.strip_prefix('?') {
            Some(rest) => (true, rest.trim_start()),
            None => (false, line),
        };
        let (path, parameters) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        Module { path, parameters: parameters.trim_start(), optional }
    })
}

fn load(module: &Module<'_>) -> Result<(), String> {
    let file = File::open(module.path).map_err(|error| error.to_string())?;
    let parameters =
        CString::new(module.parameters).map_err(|_| "a zero byte in its parameters".to_owned())?;
    match finit_module(&file, &parameters, ModuleInitFlags::empty()) {
        Ok(()) => Ok(()),
        Err(Errno::EEXIST) if is_loaded(module) => Ok(()),
        Err(Errno::EEXIST) => Err("another module has its place".to_owned()),
        Err(Errno::ENOENT) => Err("it needs a module that is not loaded before it".to_owned()),
        Err(error) => Err(error.desc().to_owned()),
    }
}

/// "Exists" may also mean that another module has its place: kvm-intel says so where kvm-amd is.
fn is_loaded(module: &Module<'_>) -> bool {
    Path::new("/sys/module").join(name(module).replace('-', "_")).exists()
}

fn name(module: &Module<'_>) -> String {
    Path::new(module.path).file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

fn told(module: &Module<'_>, why: &str) -> String {
    let name = name(module);
    if module.optional {
        format!("module {name} does not fit this machine: {why}")
    } else {
        format!("module {name} cannot be loaded: {why}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_keeps_its_order_and_knows_parameters_and_what_may_fail() {
        let text = "# first\n\n/m/kvm.ko\n  /m/i6300esb.ko  heartbeat=30 nowayout=1\n?/m/kvm-intel.ko\n? /m/x.ko a=1\n";
        let modules: Vec<_> = parse(text).collect();
        let one = |path, parameters, optional| Module { path, parameters, optional };
        assert_eq!(
            modules,
            [
                one("/m/kvm.ko", "", false),
                one("/m/i6300esb.ko", "heartbeat=30 nowayout=1", false),
                one("/m/kvm-intel.ko", "", true),
                one("/m/x.ko", "a=1", true),
            ]
        );
    }

    #[test]
    fn what_fails_is_told_by_name_and_the_rest_is_still_tried() {
        let list = std::env::temp_dir().join(format!("hearth-init-modules-{}", std::process::id()));
        std::fs::write(&list, "/nonexistent/a.ko\n?/nonexistent/b.ko\n").unwrap();
        let told = load_all(&list);
        std::fs::remove_file(&list).unwrap();
        assert_eq!(
            told,
            [
                "module a cannot be loaded: No such file or directory (os error 2)",
                "module b does not fit this machine: No such file or directory (os error 2)",
            ]
        );
        assert_eq!(load_all(Path::new("/nonexistent/modules")), Vec::<String>::new());
    }
}
