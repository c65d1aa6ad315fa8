//! `hearth.toml`: the box itself, read by `hearthd`.
//!
//! Duty: where things lie on the box, what machines may take of it, and how it looks after itself.
//! Not here: what runs on it (`workload`).

mod api;
mod fleet;
mod log;
mod logs;
mod maintenance;
mod predict;
mod pressure;
mod store;
mod weights;

use std::io;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::fault::{Fault, Faults};
use crate::quantity::Mebibytes;
use crate::reader::{self, Table};

pub use api::Api;
pub use fleet::{
    CONNECT_S, FREE_MIB, Fleet, HISTORY_PER_S, KEEP_ALIVE_S, MAX_KEYS, MAX_NAME, MAX_SERVERS, OUTBOX_MIB,
    Outbox, PERIOD_S, Precedence, Trust,
};
pub use log::{LOG_FORMATS, Log, LogFormat, LogLevel};
pub use logs::{LOG_FILE_KIB, LOG_FILES, LOG_KIB_PER_S, Logs};
pub use maintenance::{MAX_WINDOWS, Maintenance};
pub use predict::{PREDICT_S, Predict};
pub use pressure::{FREE_PERCENT, Limits, Pressure};
pub use store::{JOURNAL_MIB, Store};
pub use weights::{WEIGHT, Weights};

/// Seconds of either wait: above an hour nobody is served by waiting on.
pub const STOP_S: RangeInclusive<u64> = 1..=3600;
/// MiB that machines may take together: up to 16 TiB.
pub const CAPACITY_MIB: RangeInclusive<u64> = 32..=16_777_216;
/// Processors that machines may take together: Linux knows no more.
pub const CAPACITY_CPUS: RangeInclusive<u64> = 1..=8192;
/// Percent of it that may be promised. Under 100 keeps some for the host; above, things are promised twice.
pub const PROMISE_PERCENT: RangeInclusive<u64> = 10..=1000;
/// Boots in a row that failed, before no workload starts.
pub const FAILED_BOOTS: RangeInclusive<u64> = 1..=100;
/// A week is as good as somebody.
pub const SAFE_MODE_S: RangeInclusive<u64> = 0..=604_800;
/// Seconds until a watchdog resets the box: less than five is less than a slow disk takes for one write.
pub const WATCHDOG_S: RangeInclusive<u64> = 5..=600;

/// Seconds of its warning before that.
pub const PRETIMEOUT_S: RangeInclusive<u64> = 1..=599;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceConfig {
    pub paths: Paths,
    pub stop: Stop,
    pub capacity: Capacity,
    pub safe_mode: SafeMode,
    /// None: the box has none, or somebody else pets it.
    pub watchdog: Option<Watchdog>,
    pub pressure: Pressure,
    pub predict: Predict,
    pub weights: Weights,
    /// None: nothing waits.
    pub maintenance: Vec<Maintenance>,
    pub store: Store,
    pub logs: Logs,
    /// None: nobody is spoken to.
    pub fleet: Option<Fleet>,
    pub log: Log,
    pub api: Api,
}

/// What machines may take together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// None: no limit.
    pub memory: Option<Mebibytes>,
    pub cpus: Option<u16>,
    /// How much of it may be promised.
    pub memory_percent: u16,
    pub cpu_percent: u16,
}

/// When a box starts without its workloads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SafeMode {
    /// Boots in a row that failed early.
    pub failed_boots: u8,
    /// After which it ends by itself; none: never.
    pub hold: Option<Duration>,
}

/// The hardware's watchdog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watchdog {
    pub device: PathBuf,
    /// Without a pet for so long it resets the box.
    pub timeout: Duration,
    /// The kernel is warned so long before that, if the hardware can.
    pub pretimeout: Option<Duration>,
    /// How long a part of the daemon may be late before the daemon starts again in place.
    pub patience: Duration,
    /// Whether the box may be rebooted in order when that did not help.
    pub reboot: bool,
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
        let mut device =
            reader::load_with_drop_ins(path, shape_beside(path.parent().unwrap_or(Path::new(""))))?;
        device.make_absolute().map_err(|error| {
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

impl DeviceConfig {
    fn make_absolute(&mut self) -> io::Result<()> {
        // Taken apart, so that none can be forgotten.
        let Paths { vmm, kernel, initrd, images, state, workloads } = &mut self.paths;
        let folders = [&mut self.store.folder, &mut self.logs.folder, &mut self.api.token_file];
        let of_fleet = self.fleet.iter_mut().flat_map(|fleet| {
            let files = [&mut fleet.ca, &mut fleet.certificate, &mut fleet.key, &mut fleet.password_file];
            files.into_iter().flatten().chain([&mut fleet.outbox.folder])
        });
        let paths = [vmm, kernel, initrd, images, state, workloads];
        for path in paths.into_iter().chain(folders).chain(of_fleet) {
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
        capacity: table.section("capacity", capacity),
        safe_mode: table.section("safe_mode", |t| SafeMode {
            failed_boots: t.entry("failed_boots").small(FAILED_BOOTS, "").unwrap_or(3),
            hold: match t.entry("hold_s").small(SAFE_MODE_S, " s").unwrap_or(900) {
                0 => None,
                seconds => Some(Duration::from_secs(seconds)),
            },
        }),
        watchdog: table.optional_section("watchdog", watchdog),
        pressure: table.section("pressure", pressure::pressure),
        predict: table.section("predict", predict::predict),
        weights: table.section("weights", weights::weights),
        maintenance: maintenance::list(table),
        store: table.section("store", store::store),
        logs: table.section("logs", logs::logs),
        fleet: table.optional_section("fleet", fleet::fleet),
        log: table.section("log", log::log),
        api: table.section("api", api::api),
    }
}

fn capacity(table: &mut Table<'_>) -> Capacity {
    let mut percent = |key| table.entry(key).small(PROMISE_PERCENT, " %").unwrap_or(100);
    let (memory_percent, cpu_percent) = (percent("memory_percent"), percent("cpu_percent"));
    Capacity {
        memory: table.entry("memory_mib").small(CAPACITY_MIB, " MiB").map(Mebibytes),
        cpus: table.entry("cpus").small(CAPACITY_CPUS, ""),
        memory_percent,
        cpu_percent,
    }
}

fn watchdog(table: &mut Table<'_>) -> Watchdog {
    let mut seconds =
        |key, range, default| Duration::from_secs(table.entry(key).number(range, " s").unwrap_or(default));
    let (timeout, patience) = (seconds("timeout_s", WATCHDOG_S, 30), seconds("patience_s", STOP_S, 10));
    let pretimeout = table.entry("pretimeout_s").number(PRETIMEOUT_S, " s").map(Duration::from_secs);
    if let Some(before) = pretimeout.filter(|before| *before >= timeout) {
        let message = format!(
            "expected less than the {} s of watchdog.timeout_s, found {}",
            timeout.as_secs(),
            before.as_secs()
        );
        table.contradiction("watchdog.pretimeout_s", "watchdog.timeout_s", message);
    }
    Watchdog {
        device: table.entry("device").path().unwrap_or_else(|| "/dev/watchdog".into()),
        timeout,
        pretimeout,
        patience,
        reboot: table.entry("reboot").flag().unwrap_or(false),
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
