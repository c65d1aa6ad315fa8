//! `hearth.toml`: the box itself, read by `hearthd`.
//!
//! Duty: where things lie on the box. Not here: what runs on it (`workload`).

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::fault::{Fault, Faults};
use crate::reader::{self, Table};

/// Seconds of either wait: above an hour nobody is served by waiting on.
pub const STOP_S: std::ops::RangeInclusive<u64> = 1..=3600;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceConfig {
    pub paths: Paths,
    pub stop: Stop,
}

/// How long a workload may take to stop before a stronger means follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stop {
    /// From asking the guest's agent until SIGTERM to the monitor.
    pub agent: Duration,
    /// From SIGTERM until SIGKILL.
    pub terminate: Duration,
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
    /// Relative paths in the file become paths beside it. All are absolute, however the file itself was named:
    /// they are handed on in files of other folders, and to processes.
    pub fn load(path: &Path) -> Result<DeviceConfig, Faults> {
        let mut device = reader::load(path, shape_beside(path.parent().unwrap_or(Path::new(""))))?;
        device.paths.make_absolute().map_err(|error| {
            let message = format!("its relative paths lead nowhere, the current folder is unknown: {error}");
            Fault::of_file(path.display().to_string(), message)
        })?;
        Ok(device)
    }

    /// Relative paths stay as they are.
    pub fn parse(name: &str, text: &str) -> Result<DeviceConfig, Faults> {
        reader::parse(name, text, shape_beside(Path::new("")))
    }
}

impl Paths {
    fn make_absolute(&mut self) -> io::Result<()> {
        // Taken apart, so that none can be forgotten.
        let Paths { vmm, kernel, initrd, images, state, workloads } = self;
        for path in [vmm, kernel, initrd, images, state, workloads] {
            *path = std::path::absolute(&*path)?;
        }
        Ok(())
    }
}

fn shape_beside(base: &Path) -> impl FnOnce(&mut Table<'_>) -> DeviceConfig {
    let workloads = base.join("workloads");
    |table| DeviceConfig {
        paths: table.section("paths", |t| paths(t, workloads)),
        stop: table.section("stop", stop),
    }
}

fn stop(table: &mut Table<'_>) -> Stop {
    let mut seconds =
        |key, default| Duration::from_secs(table.entry(key).number(STOP_S, " s").unwrap_or(default));
    Stop { agent: seconds("agent_s", 15), terminate: seconds("terminate_s", 5) }
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
