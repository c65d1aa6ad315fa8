//! `hearth.toml`: the box itself, read by `hearthd`.
//!
//! Duty: where things lie on the box. Not here: what runs on it (`workload`).

use std::path::{Path, PathBuf};

use crate::fault::Faults;
use crate::reader::{self, Table};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceConfig {
    pub paths: Paths,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    /// The virtual machine monitor.
    pub vmm: PathBuf,
    /// The kernel and initrd that every guest boots.
    pub kernel: PathBuf,
    pub initrd: PathBuf,
    /// Where a workload's image is looked up.
    pub images: PathBuf,
    /// What `hearthd` keeps while it runs; gone after a reboot.
    pub state: PathBuf,
    /// One file per workload.
    pub workloads: PathBuf,
}

impl DeviceConfig {
    /// Relative paths in the file become paths beside it.
    pub fn load(path: &Path) -> Result<DeviceConfig, Faults> {
        reader::load(path, shape_beside(path.parent().unwrap_or(Path::new(""))))
    }

    /// Relative paths stay as they are.
    pub fn parse(name: &str, text: &str) -> Result<DeviceConfig, Faults> {
        reader::read(name, text, Path::new(""), shape_beside(Path::new("")))
    }
}

fn shape_beside(base: &Path) -> impl FnOnce(&mut Table<'_>) -> DeviceConfig {
    let workloads = base.join("workloads");
    |table| DeviceConfig { paths: table.section("paths", |t| paths(t, workloads)) }
}

fn paths(table: &mut Table<'_>, default_workloads: PathBuf) -> Paths {
    let mut path = |key, default: &str| table.entry(key).path().unwrap_or_else(|| default.into());
    Paths {
        vmm: path("vmm", "/usr/bin/hearth-vmm"),
        kernel: path("kernel", "/usr/lib/hearth/guest/kernel"),
        initrd: path("initrd", "/usr/lib/hearth/guest/initrd"),
        images: path("images", "/usr/lib/hearth/images"),
        state: path("state", "/run/hearth"),
        workloads: table.entry("workloads").path().unwrap_or(default_workloads),
    }
}
