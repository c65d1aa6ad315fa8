//! How the box stands, as figures for the fleet.
//!
//! Duty: what is told of box, workloads and replicas, and how far each figure may move untold. Not here: to whom.
//! Invariant: it looks and changes nothing; what cannot be read is left out.

use std::fs;
use std::path::Path;

use hearth_config::device::DeviceConfig;
use hearth_core::{CallStory, Explanation, Moment, State};
use hearth_fleet::figures::{Device, Figure, Snapshot, Value};
use hearth_fleet::guest::Counts;
use hearth_fleet::topics::Id;

use crate::api::events::Events;
use crate::api::{view, words};
use crate::guests::Guests;
use crate::setup::vm_folder;
use crate::{pressure, wall, wording};

/// Seconds after which a longer uptime is news.
const UPTIME_STEP: f64 = 300.0;
const MIB: f64 = 1_048_576.0;
/// Announcements that are told as counts, and what they are called.
const HEALING: [(&str, &str); 11] = [
    ("restart", "Healing/Restarts"),
    ("process-restart", "Healing/Process restarts"),
    ("healed", "Healing/Healed"),
    ("quarantined", "Healing/Quarantines"),
    ("rolling-back", "Healing/Rollbacks"),
    ("healing-box", "Healing/Box"),
    ("odd", "Foresight/Odd"),
    ("scaled", "Foresight/Scaled"),
    ("cold-start", "Foresight/Cold starts"),
    ("kept-warm", "Foresight/Kept warm"),
    ("ballooned", "Foresight/Ballooned"),
];

pub(super) fn snapshot(
    core: &State,
    now: Moment,
    events: &Events,
    guests: &Guests,
    device: &DeviceConfig,
) -> Snapshot {
    let stories: Vec<Explanation> = core.ids().filter_map(|id| core.explain(id)).collect();
    let mut node = host(now);
    node.extend(disk(&device.store.folder));
    node.push(Figure::exact("Box/Phase", Value::Text(words::phase(core.phase()).into())));
    node.push(Figure::exact("Workloads/All", whole(stories.len())));
    let mut good = 0;
    let mut devices = Vec::new();
    for story in &stories {
        let status = view::workload_status(core, story);
        good += usize::from(status.good);
        let name = |what: &str| format!("Workloads/{}/{what}", story.name);
        node.extend([
            Figure::exact(name("State"), Value::Text(status.state)),
            Figure::exact(name("Ready"), whole(status.replicas_ready)),
            Figure::exact(name("Wanted"), whole(status.replicas_wanted)),
            Figure::exact(name("Restarts"), Value::Whole(u64::from(story.restarts_in_window))),
        ]);
        node.extend(story.calls.iter().flat_map(|calls| functions(name, calls)));
        node.extend(guests.counts(&story.name).into_iter().flat_map(|counts| telemetry(name, &counts)));
        devices.extend(replicas(story, &device.paths.state));
    }
    node.push(Figure::exact("Workloads/Good", whole(good)));
    node.extend(HEALING.map(|(kind, name)| Figure::exact(name, Value::Whole(events.count(kind)))));
    Snapshot { node, devices }
}

/// Calls of a function. A busy one is news by tens.
fn functions(name: impl Fn(&str) -> String, calls: &CallStory) -> [Figure; 3] {
    [
        Figure::wide(name("Calls"), Value::Whole(calls.calls), 10.0, 10),
        Figure::exact(name("Cold starts"), Value::Whole(calls.cold)),
        Figure::exact(name("Idle"), Value::Whole(calls.idle.into())),
    ]
}

/// What a workload told. A busy one must not make the box as busy.
fn telemetry(name: impl Fn(&str) -> String, counts: &Counts) -> [Figure; 4] {
    let figure = |what: &str, count, least| Figure::wide(name(what), Value::Whole(count), least, 10);
    [
        figure("Telemetry/Messages", counts.messages, 100.0),
        figure("Telemetry/Bytes", counts.bytes, 65_536.0),
        figure("Telemetry/Refused", counts.refused, 10.0),
        figure("Telemetry/Delayed", counts.delayed, 10.0),
    ]
}

/// A device is a machine that is there.
fn replicas<'s>(story: &'s Explanation, state: &'s Path) -> impl Iterator<Item = Device> + 's {
    story.replicas.iter().filter(|replica| replica.lifecycle.is_alive()).filter_map(|replica| {
        let name = wording::replica(&story.name, replica.slot);
        let mut figures = vec![
            Figure::exact("State", Value::Text(words::place(replica.place).into())),
            Figure::exact("Version", Value::Text(replica.version.to_string().into())),
            Figure::exact("Machine", Value::Whole(u64::from(replica.run.0))),
        ];
        // Always there, or the device would be another one from moment to moment.
        let memory = resident(&vm_folder(state, &name)).unwrap_or(0);
        figures.push(Figure::wide("Memory", Value::Whole(memory), 2.0 * MIB, 10));
        Id::new(&name).ok().map(|id| Device { id, figures })
    })
}

fn host(now: Moment) -> Vec<Figure> {
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().and_then(|word| word.parse().ok()).unwrap_or(0.0);
    let own = fs::read_to_string("/proc/self/statm").ok().and_then(|text| pages(&text)).unwrap_or(0);
    let (total, available) = (field(&meminfo, "MemTotal:"), field(&meminfo, "MemAvailable:"));
    vec![
        Figure::exact("Properties/Version", Value::Text(env!("CARGO_PKG_VERSION").into())),
        Figure::wide("Host/Uptime", Value::Whole(now.as_millis() / 1000), UPTIME_STEP, 0),
        Figure::exact("Host/Clock plausible", Value::Flag(wall::is_plausible())),
        Figure::exact("Host/Memory total", Value::Whole(total)),
        Figure::wide("Host/Memory available", Value::Whole(available), 32.0 * MIB, 10),
        Figure::wide("Host/Load", Value::Real(load), 0.5, 25),
        Figure::wide("Daemon/Memory", Value::Whole(own), MIB, 10),
    ]
}

/// Where the box keeps what it has to remember.
fn disk(store: &Path) -> Vec<Figure> {
    let (all, free) = pressure::room(store).unwrap_or((0, 0));
    vec![
        Figure::exact("Host/Disk total", Value::Whole(all)),
        // A tenth of it, as for memory; a box that writes a log all day is no news.
        Figure::wide("Host/Disk free", Value::Whole(free), 256.0 * MIB, 10),
    ]
}

/// Bytes that a machine's monitor has in memory.
fn resident(folder: &Path) -> Option<u64> {
    let process: u32 = fs::read_to_string(folder.join("vm.pid")).ok()?.trim().parse().ok()?;
    // And the machine's own process, in its jail.
    let children = fs::read_to_string(format!("/proc/{process}/task/{process}/children")).unwrap_or_default();
    let family =
        std::iter::once(process).chain(children.split_whitespace().filter_map(|pid| pid.parse().ok()));
    family.map(|pid| pages(&fs::read_to_string(format!("/proc/{pid}/statm")).ok()?)).sum()
}

/// The second number, in bytes.
fn pages(statm: &str) -> Option<u64> {
    let pages: u64 = statm.split(' ').nth(1)?.parse().ok()?;
    Some(pages * u64::try_from(rustix::param::page_size()).ok()?)
}

fn field(meminfo: &str, name: &str) -> u64 {
    let kib =
        meminfo.lines().find_map(|line| line.strip_prefix(name)?.trim().strip_suffix(" kB")?.parse().ok());
    kib.unwrap_or(0_u64) * 1024
}

fn whole(number: usize) -> Value {
    Value::Whole(u64::try_from(number).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_numbers_are_bytes() {
        assert_eq!(field("MemTotal:       24680 kB\nMemAvailable:   1 kB\n", "MemAvailable:"), 1024);
        assert_eq!(field("", "MemTotal:"), 0);
        assert_eq!(pages("100 2 3"), Some(2 * u64::try_from(rustix::param::page_size()).unwrap()));
        assert_eq!(resident(Path::new("/nowhere")), None);
    }

    #[test]
    fn a_box_without_workloads_tells_of_itself() {
        let device = DeviceConfig::parse("hearth.toml", "[store]\nfolder = \"/\"").unwrap();
        let console = crate::console::Console::new([""; 0], std::io::sink()).unwrap();
        let (events, guests) = (Events::default(), Guests::none(&console));
        let now = Moment::from_millis(5000);
        let snapshot = snapshot(&State::new(1), now, &events, &guests, &device);
        assert!(snapshot.node.iter().any(|figure| figure.name == "Host/Disk total"));
        assert!(snapshot.devices.is_empty());
        let of =
            |name: &str| snapshot.node.iter().find(|figure| figure.name == name).map(|figure| &figure.value);
        assert_eq!(of("Host/Uptime"), Some(&Value::Whole(5)));
        assert_eq!(of("Workloads/All"), Some(&Value::Whole(0)));
        assert!(matches!(of("Daemon/Memory"), Some(Value::Whole(1..))));
        assert_eq!(of("Healing/Restarts"), Some(&Value::Whole(0)));
    }
}
