//! `/etc/hearth/workload.toml` inside a guest image, read by the agent.
//!
//! Duty: what the image runs when nobody says otherwise. Not here: how the kernel command line overrides it.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use crate::fault::Faults;
use crate::reader::{self, Entry, Table};

/// Arguments of a command in an image: far above any sensible use, bounds memory in a small guest.
pub const MAX_ARGUMENTS: usize = 256;
/// Environment variables.
pub const MAX_ENVIRONMENT: usize = 256;
/// Seconds between the stop signal and the kill.
pub const STOP_TIMEOUT_S: std::ops::RangeInclusive<u64> = 1..=3600;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestConfig {
    /// Program and arguments. Empty: the kernel command line has to name one.
    pub command: Vec<String>,
    /// Run once beside the command; when it has ended well, the guest is warm. Empty: warm at once.
    pub warm_up: Vec<String>,
    pub working_dir: String,
    pub env: BTreeMap<String, String>,
    pub when_done: WhenDone,
    pub stop_signal: StopSignal,
    pub stop_timeout: Duration,
}

/// What the guest does when its workload has ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenDone {
    #[default]
    PowerOff,
    Reboot,
    Restart,
    Stay,
}

/// The signal that asks the workload to end. The numbers are Linux's, the same on x86_64 and ARM64.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(i32)]
pub enum StopSignal {
    Hup = 1,
    Int = 2,
    Quit = 3,
    Kill = 9,
    Usr1 = 10,
    Usr2 = 12,
    #[default]
    Term = 15,
}

impl StopSignal {
    pub fn number(self) -> i32 {
        self as i32
    }
}

impl Default for GuestConfig {
    fn default() -> GuestConfig {
        GuestConfig {
            command: Vec::new(),
            warm_up: Vec::new(),
            working_dir: "/".to_owned(),
            env: BTreeMap::new(),
            when_done: WhenDone::default(),
            stop_signal: StopSignal::default(),
            stop_timeout: Duration::from_secs(10),
        }
    }
}

impl GuestConfig {
    pub fn load(path: &Path) -> Result<GuestConfig, Faults> {
        reader::load(path, shape)
    }

    pub fn parse(name: &str, text: &str) -> Result<GuestConfig, Faults> {
        reader::parse(name, text, shape)
    }
}

fn shape(table: &mut Table<'_>) -> GuestConfig {
    let default = GuestConfig::default();
    GuestConfig {
        command: command(&table.entry("command"), MAX_ARGUMENTS, |_| Ok(())),
        warm_up: command(&table.entry("warm_up"), MAX_ARGUMENTS, |_| Ok(())),
        working_dir: table
            .entry("working_dir")
            .text_as("an absolute path", |text| absolute(text).then(|| text.to_owned()))
            .unwrap_or(default.working_dir),
        env: environment(&table.entry("env")),
        when_done: table
            .entry("when_done")
            .choice(&[
                ("poweroff", WhenDone::PowerOff),
                ("reboot", WhenDone::Reboot),
                ("restart", WhenDone::Restart),
                ("stay", WhenDone::Stay),
            ])
            .unwrap_or_default(),
        stop_signal: table
            .entry("stop_signal")
            .choice(&[
                ("TERM", StopSignal::Term),
                ("INT", StopSignal::Int),
                ("QUIT", StopSignal::Quit),
                ("HUP", StopSignal::Hup),
                ("USR1", StopSignal::Usr1),
                ("USR2", StopSignal::Usr2),
                ("KILL", StopSignal::Kill),
            ])
            .unwrap_or_default(),
        stop_timeout: table
            .entry("stop_timeout_s")
            .number(STOP_TIMEOUT_S, " s")
            .map_or(default.stop_timeout, Duration::from_secs),
    }
}

fn absolute(text: &str) -> bool {
    text.starts_with('/') && !text.contains('\0')
}

fn environment(entry: &Entry<'_>) -> BTreeMap<String, String> {
    let map = entry.text_map(MAX_ENVIRONMENT).unwrap_or_default();
    for (name, value) in &map {
        if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
            entry.fault(format!("expected names without = and no zero bytes, found {name:?}"));
        }
    }
    map
}

/// A program and its arguments; `rule` may say what is wrong with one of them.
pub(crate) fn command(
    entry: &Entry<'_>,
    max: usize,
    rule: impl Fn(&str) -> Result<(), &'static str>,
) -> Vec<String> {
    let Some(items) = entry.items("an array of strings", max) else { return Vec::new() };
    if items.is_empty() {
        entry.fault("expected a program and its arguments, found an empty array");
    }
    let mut words = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        let Some(word) = item.text() else { continue };
        if word.contains('\0') {
            item.fault("expected no zero byte");
        } else if index == 0 && word.is_empty() {
            item.fault("expected a program, found an empty string");
        } else if let Err(expected) = rule(word) {
            item.fault(expected);
        }
        words.push(word.to_owned());
    }
    words
}
