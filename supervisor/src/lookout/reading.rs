//! Numbers of the kernel.
//!
//! Duty: what monitors and the box use. Not here: what monitors count themselves (`counters`).
//! Invariant: what cannot be read is missing, and is no fault: not every kernel and board has all of it.

use std::fs;
use std::path::{Path, PathBuf};

use hearth_foresight::{Metric, Reading};

/// Sensors that are looked at: a board has a few.
const MAX_SENSORS: usize = 8;

/// Time on processors, in clock ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Processor(u64);

impl Processor {
    /// Percent of one processor over `passed` seconds.
    pub(super) fn since(self, before: Processor, passed: f32) -> Option<f32> {
        let ticks = self.0.checked_sub(before.0)?;
        let per_second = real(rustix::param::clock_ticks_per_second());
        (passed > 0.0).then(|| 100.0 * real(ticks) / per_second / passed)
    }
}

/// Of the monitor of a machine with this folder.
pub(super) fn process_of(folder: &Path) -> Option<u32> {
    fs::read_to_string(folder.join("vm.pid")).ok()?.trim().parse().ok()
}

/// The time that a process used, and the bytes that it has in memory.
pub(super) fn of_process(process: u32) -> Option<(Processor, f32)> {
    let (processor, pages) = stat(&fs::read_to_string(format!("/proc/{process}/stat")).ok()?)?;
    let page = u64::try_from(rustix::param::page_size()).ok()?;
    Some((processor, real(pages * page)))
}

/// The second word is the program's name, which may hold anything.
fn stat(text: &str) -> Option<(Processor, u64)> {
    let (_, rest) = text.rsplit_once(") ")?;
    // Behind it comes the third word of proc_pid_stat(5); wanted are utime (14), stime (15) and rss (24).
    let word = |number: usize| rest.split(' ').nth(number - 3)?.parse::<u64>().ok();
    Some((Processor(word(14)? + word(15)?), word(24)?))
}

/// The box.
#[derive(Debug)]
pub(super) struct Host {
    root: PathBuf,
    sensors: Vec<PathBuf>,
    processors: Option<(u64, u64)>,
    paged: Option<(u64, std::time::Instant)>,
}

impl Host {
    pub(super) fn new(root: &Path) -> Host {
        Host { root: root.to_owned(), sensors: sensors(root), processors: None, paged: None }
    }

    pub(super) fn read(&mut self) -> Reading {
        let file = |name: &str| fs::read_to_string(self.root.join(name)).unwrap_or_default();
        let (stat, meminfo, vmstat) = (file("proc/stat"), file("proc/meminfo"), file("proc/vmstat"));
        let used = kib(&meminfo, "MemTotal:").zip(kib(&meminfo, "MemAvailable:"));
        let used = used.map(|(total, free)| real(total.saturating_sub(free)) / 1024.0);
        Reading::NOTHING
            .with(Metric::Cpu, self.cpu(&stat))
            .with(Metric::Memory, used)
            .with(Metric::Disk, self.disk(&vmstat))
            .with(Metric::Temperature, self.hottest())
    }

    /// Percent of one processor: all of four are 400.
    fn cpu(&mut self, stat: &str) -> Option<f32> {
        let now = busy(stat)?;
        let (busy_before, all_before) = self.processors.replace(now)?;
        let (busy, all) = (now.0.checked_sub(busy_before)?, now.1.checked_sub(all_before)?);
        let processors = stat.lines().filter(|line| line.starts_with("cpu")).count().saturating_sub(1);
        let processors = u16::try_from(processors).map_or(1.0, f32::from);
        (all > 0).then(|| 100.0 * processors * real(busy) / real(all))
    }

    /// KiB per second.
    fn disk(&mut self, vmstat: &str) -> Option<f32> {
        let word = |name: &str| vmstat.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
        let (read, written): (u64, u64) = (word("pgpgin ")?, word("pgpgout ")?);
        let now = (read + written, std::time::Instant::now());
        let (before, at) = self.paged.replace(now)?;
        let passed = (now.1 - at).as_secs_f32();
        (passed > 0.0).then(|| real(now.0.saturating_sub(before)) / passed)
    }

    fn hottest(&self) -> Option<f32> {
        let read = |path: &PathBuf| fs::read_to_string(path).ok()?.trim().parse::<i32>().ok();
        let millidegrees = self.sensors.iter().filter_map(read).max()?;
        // No sensor of a board goes further, and so it has no digit too many.
        i16::try_from(millidegrees / 100).ok().map(|tenths| f32::from(tenths) / 10.0)
    }
}

/// Those of chips; boards whose kernel has no driver for one have the zones of their processor.
fn sensors(root: &Path) -> Vec<PathBuf> {
    let found = |class: &str, is_one: fn(&str) -> bool| -> Vec<PathBuf> {
        let places = fs::read_dir(root.join(class)).into_iter().flatten().flatten();
        let files = places.flat_map(|place| fs::read_dir(place.path()).into_iter().flatten().flatten());
        let files = files.filter(|file| is_one(&file.file_name().to_string_lossy()));
        files.map(|file| file.path()).take(MAX_SENSORS).collect()
    };
    let chips = found("sys/class/hwmon", |name| name.starts_with("temp") && name.ends_with("_input"));
    if chips.is_empty() { found("sys/class/thermal", |name| name == "temp") } else { chips }
}

/// Time in which processors had something to do, and all of it.
fn busy(stat: &str) -> Option<(u64, u64)> {
    let line = stat.lines().next()?.strip_prefix("cpu ")?;
    // user nice system idle iowait irq softirq steal; what guests use is part of user.
    let times: Vec<u64> = line.split_whitespace().take(8).filter_map(|word| word.parse().ok()).collect();
    let all: u64 = times.iter().sum();
    let idle = times.get(3)? + times.get(4)?;
    Some((all - idle, all))
}

fn kib(meminfo: &str, name: &str) -> Option<u64> {
    meminfo.lines().find_map(|line| line.strip_prefix(name)?.trim().strip_suffix(" kB")?.parse().ok())
}

#[expect(clippy::cast_precision_loss, reason = "what is measured has three digits")]
pub(super) fn real(number: u64) -> f32 {
    number as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_read_whatever_its_name_is() {
        let text = "77 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 130 20 13 14 15 16 17 18 19 20 4096 22\n";
        assert_eq!(stat(text), Some((Processor(150), 4096)));
        assert_eq!(stat("77 (a"), None);
        let own = of_process(std::process::id()).expect("this process");
        assert!(own.1 > 100_000.0, "{own:?}");
        let hundred = real(rustix::param::clock_ticks_per_second());
        assert_eq!(Processor(150).since(Processor(50), 10.0), Some(1000.0 / hundred));
        assert_eq!(Processor(50).since(Processor(150), 10.0), None, "another process");
    }

    #[test]
    fn the_box_is_read_as_far_as_it_tells_of_itself() {
        let root = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        assert_eq!(Host::new(root.path()).read(), Reading::NOTHING);
        put("sys/class/thermal/thermal_zone0/temp", "71000\n");
        put("sys/class/thermal/thermal_zone1/temp", "55000\n");
        put("sys/class/thermal/cooling_device0/cur_state", "99000\n");
        let zones = Host::new(root.path()).read();
        assert_eq!(zones.get(Metric::Temperature), Some(71.0), "there are no chips");
        put("sys/class/hwmon/hwmon0/temp1_input", "41500\n");
        put("sys/class/hwmon/hwmon1/temp2_input", "63000\n");
        put("sys/class/hwmon/hwmon1/in0_input", "99000\n");
        put("proc/meminfo", "MemTotal:  4096 kB\nMemAvailable: 1024 kB\n");
        put("proc/stat", "cpu  100 0 0 900 0 0 0 0 50 0\ncpu0 1\ncpu1 1\n");
        let mut host = Host::new(root.path());
        let first = host.read();
        assert_eq!((first.get(Metric::Temperature), first.get(Metric::Memory)), (Some(63.0), Some(3.0)));
        assert_eq!(first.get(Metric::Cpu), None, "nothing to compare with yet");
        put("proc/stat", "cpu  125 0 0 975 0 0 0 0 50 0\ncpu0 1\ncpu1 1\n");
        assert_eq!(host.read().get(Metric::Cpu), Some(50.0), "a quarter of two");
    }
}
