//! A guest's life under requests: pause, clocks, statistics, memory given back, and the forms of configuration.

use std::ffi::OsStr;
use std::fs;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hearth_wire::control::{End, Event, Order, Step};

use super::client::{Answered, Client};
use super::vm::{Plan, Vm};
use super::{Failure, Trial, same};

pub(super) const TRIALS: &[Trial] = &[
    ("pause_and_clock", pause_and_clock),
    ("stop_is_answered", stop_is_answered),
    ("button_by_request", button_by_request),
    ("statistics", statistics),
    ("watchdog_rests_in_a_pause", watchdog_rests_in_a_pause),
    ("balloon_gives_memory_back", balloon_gives_memory_back),
    ("free_pages_are_reported", free_pages_are_reported),
    ("firecracker_config", firecracker_config),
    ("config_from_standard_input", config_from_a_descriptor),
];

const STAYS: &str = "echo guest: up; while true; do sleep 1; done";
/// Long enough that a clock which stood still could not be taken for one that is right.
const PAUSE: Duration = Duration::from_secs(4);
/// ARM64's real-time clock counts seconds; a guest that set its clock by it is off by so much from the start.
const CLOCK_SLACK: Duration = Duration::from_millis(1500);

pub(super) fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn told_clock(vm: &mut Vm) -> Result<(Duration, Duration), Failure> {
    let told = vm.told("clock ")?;
    let nanos = |index: usize| told.get(index).and_then(|word| word.parse().ok()).map(Duration::from_nanos);
    match (nanos(0), nanos(1)) {
        (Some(wall), Some(boot)) => Ok((wall, boot)),
        _ => Err(vm.failure("the guest tells no clock")),
    }
}

/// A paused guest says nothing; a resumed one has the host's wall clock, and no lockup to report.
fn pause_and_clock() -> Result<(), Failure> {
    let mut vm = Plan::verb("pause_and_clock", "clock").start()?;
    told_clock(&mut vm)?;
    let mut client = Client::connect(vm.folder())?;
    client.order(Order::Pause)?;
    vm.swallow();
    // Not a wait for something to happen: the guest is to miss this much time.
    thread::sleep(PAUSE);
    let silent = vm.swallow();
    if silent > 1 {
        // One line may have been under way when the pause was answered.
        return Err(vm.failure(&format!("a paused guest printed {silent} lines")));
    }
    let resumed = now();
    client.order(Order::Resume)?;
    // The first line may still be made of a clock that was read before the pause.
    told_clock(&mut vm)?;
    let (wall, _) = told_clock(&mut vm)?;
    let read = now();
    if wall + CLOCK_SLACK < resumed || wall > read + CLOCK_SLACK {
        return Err(vm.failure(&format!(
            "the guest's clock says {wall:?} between the host's {resumed:?} and {read:?}"
        )));
    }
    same(
        "the end",
        &client.ask(Order::Stop { now: true })?,
        &Answered::Ended(End { status: 16, how: Some(Step::Kill) }),
    )?;
    vm.ends_with(16)?;
    let lockup = vm.said().iter().find(|line| line.contains("lockup") || line.contains("stall"));
    lockup.map_or(Ok(()), |line| Err(Failure::Wrong(format!("the guest complains: {line}"))))
}

fn stop_is_answered() -> Result<(), Failure> {
    let mut vm = Plan::shell("stop_is_answered", STAYS)
        .with("[vsock]\ncid = 3\nsocket = \"vsock.sock\"\n[stop]\nagent_s = 60\nbutton_s = 0")
        .start()?;
    vm.next("guest: up")?;
    let mut watcher = Client::connect(vm.folder())?;
    watcher.order(Order::Subscribe)?;
    let mut client = Client::connect(vm.folder())?;
    let ended = client.ask(Order::Stop { now: false })?;
    same("the answer", &ended, &Answered::Ended(End { status: 16, how: Some(Step::Agent) }))?;
    watcher.event(|event| matches!(event, Event::Stopping { step: Step::Agent }))?;
    watcher.event(|event| matches!(event, Event::Ended(End { status: 16, .. })))?;
    vm.ends_with(16)
}

/// The request presses once and waits for nothing; the guest powers itself off.
fn button_by_request() -> Result<(), Failure> {
    let mut vm = Plan::shell("button_by_request", STAYS).start()?;
    vm.next("guest: up")?;
    Client::connect(vm.folder())?.order(Order::PowerButton)?;
    vm.ends_with(0)
}

fn statistics() -> Result<(), Failure> {
    let line = "echo guest: up; dd if=/dev/vda of=/dev/null bs=4k count=64 iflag=direct; echo guest: read; while true; do sleep 1; done";
    let plan = Plan::shell("statistics", line).with("[[block]]\nid = \"data\"\npath = \"disk.img\"");
    super::data::blank_disk(&plan, 1 << 20)?;
    let mut vm = plan.start()?;
    vm.next("guest: read")?;
    let mut client = Client::connect(vm.folder())?;
    let figures = client.figures(Order::Statistics)?;
    let figure = |name: &str| figures.get(name).copied().unwrap_or(0);
    let used = figure("machine.memory_in_use_bytes");
    for (what, right) in [
        ("exits", figure("machine.exits") > 100),
        ("vCPU time", figure("vcpu0.cpu_time_ns") > 0),
        ("memory", figure("machine.memory_bytes") == 128 << 20),
        ("memory in use", used > 8 << 20 && used <= 128 << 20),
        (
            "disk",
            figures
                .iter()
                .any(|(name, value)| name.starts_with("block") && name.contains("read") && *value >= 64),
        ),
    ] {
        if !right {
            return Err(Failure::Wrong(format!("{what}: {figures:?}")));
        }
    }
    client.ask(Order::Stop { now: true })?;
    vm.ends_with(16)
}

/// A pause longer than the watchdog's time does not end the guest.
fn watchdog_rests_in_a_pause() -> Result<(), Failure> {
    let keeper = "/bin/busybox watchdog -T 4 -t 1 -F /dev/watchdog & sleep 2; echo guest: petting; sleep 600";
    let mut vm = Plan::shell("watchdog_rests_in_a_pause", keeper).with("[watchdog]").start()?;
    vm.next("guest: petting")?;
    let mut client = Client::connect(vm.folder())?;
    client.order(Order::Pause)?;
    // The guest is to miss this much time.
    thread::sleep(Duration::from_secs(10));
    client.order(Order::Resume)?;
    client.ask(Order::Stop { now: true })?;
    vm.ends_with(16)
}

const MIB: u64 = 1 << 20;

fn memory_in_use(client: &mut Client) -> Result<u64, Failure> {
    let figures = client.figures(Order::Statistics)?;
    figures
        .get("machine.memory_in_use_bytes")
        .copied()
        .ok_or_else(|| Failure::Wrong("no figure of memory in use".into()))
}

/// Asks with each line of the guest until `right`; a guest that never gets there runs out of patience by itself.
fn until(vm: &mut Vm, client: &mut Client, right: impl Fn(u64) -> bool, what: &str) -> Result<u64, Failure> {
    /// The guest prints five lines a second.
    const LINES: usize = 300;
    let mut used = 0;
    for _ in 0..LINES {
        vm.told("memory total")?;
        used = memory_in_use(client)?;
        if right(used) {
            return Ok(used);
        }
    }
    Err(vm.failure(&format!("{what}: {} MiB in use", used / MIB)))
}

fn balloon_gives_memory_back() -> Result<(), Failure> {
    let mut vm = Plan::verb("balloon_gives_memory_back", "memory 128")
        .memory(256)
        .with("[balloon]\nfree_page_reporting = false")
        .start()?;
    vm.next("guest: memory used")?;
    let mut client = Client::connect(vm.folder())?;
    let before = memory_in_use(&mut client)?;
    if before < 128 * MIB {
        return Err(Failure::Wrong(format!(
            "the guest touched 128 MiB, and {} MiB are in use",
            before / MIB
        )));
    }
    client.order(Order::BalloonTarget { mib: 160 })?;
    let after = until(&mut vm, &mut client, |used| used + 100 * MIB < before, "the balloon does not fill")?;
    println!("balloon: {} MiB in use, {} MiB with a balloon of 160 MiB", before / MIB, after / MIB);
    let statistics = client.figures(Order::BalloonStatistics)?;
    if !statistics.keys().any(|name| name.contains("free")) {
        return Err(Failure::Wrong(format!("the guest's statistics: {statistics:?}")));
    }
    client.order(Order::BalloonTarget { mib: 0 })?;
    client.ask(Order::Stop { now: true })?;
    vm.ends_with(16)
}

fn free_pages_are_reported() -> Result<(), Failure> {
    let mut vm = Plan::verb("free_pages_are_reported", "memory 128")
        .memory(256)
        .with("[balloon]\nfree_page_reporting = true")
        .start()?;
    vm.next("guest: memory used")?;
    let mut client = Client::connect(vm.folder())?;
    let after = until(&mut vm, &mut client, |used| used < 100 * MIB, "free pages are not reported")?;
    println!("free page reporting: {} MiB in use after 128 MiB were used and freed", after / MIB);
    client.ask(Order::Stop { now: true })?;
    vm.ends_with(16)
}

/// A file as people have it, unchanged: its fields are those that both monitors know.
fn firecracker_config() -> Result<(), Failure> {
    let plan = Plan::shell("firecracker_config", "");
    let disk = super::data::blank_disk(&plan, MIB)?;
    let folder = plan.folder();
    let file = folder.join("vm_config.json");
    let text = format!(
        r#"{{
  "boot-source": {{
    "kernel_image_path": "/usr/lib/hearth/guest/kernel",
    "boot_args": "console=ttyS0 reboot=k panic=1 quiet -- /bin/busybox sh -c \"echo guest: booted with $(cat /sys/block/vda/size) sectors\"",
    "initrd_path": "/probe/initrd"
  }},
  "drives": [
    {{
      "drive_id": "data",
      "path_on_host": "{}",
      "is_root_device": false,
      "is_read_only": false,
      "cache_type": "Unsafe",
      "rate_limiter": null
    }}
  ],
  "machine-config": {{ "vcpu_count": 2, "mem_size_mib": 128, "smt": false, "track_dirty_pages": false }}
}}"#,
        disk.display()
    );
    fs::write(&file, text).map_err(|error| Failure::host("vm_config.json", &error))?;
    let mut vm = Vm::spawn(folder, &[OsStr::new("run"), OsStr::new("--config-file"), file.as_os_str()])?;
    vm.next("guest: booted with 2048 sectors")?;
    vm.ends_with(0)
}

fn config_from_a_descriptor() -> Result<(), Failure> {
    let mut vm = Plan::verb("config_from_standard_input", "processors").start_from_standard_input()?;
    vm.next("guest: processors 1")?;
    vm.ends_with(0)
}
