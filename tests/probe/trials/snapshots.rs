//! Snapshots: a machine that is written down, ended, and goes on as if nothing had been.
//!
//! The guest counts, with a sum over all numbers so far, to a console whose bytes all lives of the machine append to
//! one file. So a number that is lost, repeated or changed shows, wherever in a line the machine was when it was
//! written down.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use hearth_wire::control::{Order, SnapshotKind, SnapshotName};

use super::client::{Answered, Client};
use super::data::{Tap, blank_disk, exchange};
use super::vm::{Plan, Speaks, Vm};
use super::{Failure, Trial, same};
use crate::pattern;

pub(super) const TRIALS: &[Trial] = &[
    ("snapshot_and_restore", snapshot_and_restore),
    ("snapshot_of_processors", snapshot_of_processors),
    ("snapshot_difference", snapshot_difference),
    ("snapshot_of_a_busy_guest", snapshot_of_a_busy_guest),
    ("snapshot_resets_vsock", snapshot_resets_vsock),
    ("snapshot_cycles", snapshot_cycles),
];

/// For numbers to appear: a guest boots in seconds under emulation, and the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(120);
/// Between two looks at the console.
const LOOK: Duration = Duration::from_millis(10);
/// Times that a machine is written down and restored in a row.
const CYCLES: u32 = 200;
/// How many of them pass without a word: whoever watches takes minutes of silence for a box that stands still.
const CYCLES_PER_WORD: u32 = 20;
/// Numbers between two of them, at least.
const PER_CYCLE: u64 = 2;

const SECTION: &str = "[snapshot]\nfolder = \"snapshots\"";

/// One number of the guest.
#[derive(Debug, Clone, Copy)]
struct Count {
    number: u64,
    wall: Duration,
    monotonic: Duration,
}

/// Every number that the console shows so far; a fault if they are not all there, once, in order.
fn counts(console: &Path) -> Result<Vec<Count>, Failure> {
    let text = fs::read(console).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    // What has no end yet is not looked at.
    let whole = text.rfind('\n').map_or("", |end| text.get(..end).unwrap_or_default());
    let mut found = Vec::new();
    let mut sum = 0;
    for line in whole.lines().filter_map(|line| line.trim_end().strip_prefix("guest: count ")) {
        let words: Vec<&str> = line.split(' ').collect();
        let number = |index: usize| words.get(index).and_then(|word| word.parse::<u64>().ok());
        let expected = found.len() as u64;
        sum = pattern::add(sum, expected);
        let (Some(wall), Some(monotonic)) = (number(2), number(3)) else {
            return Err(Failure::Wrong(format!("`{line}` is no count")));
        };
        if number(0) != Some(expected) || words.get(1) != Some(&format!("{sum:016x}").as_str()) {
            return Err(Failure::Wrong(format!("`{line}`, expected number {expected} with {sum:016x}")));
        }
        let [wall, monotonic] = [wall, monotonic].map(Duration::from_nanos);
        found.push(Count { number: expected, wall, monotonic });
    }
    Ok(found)
}

/// Waits until the guest has counted this far.
fn wait_for(vm: &mut Vm, console: &Path, number: u64) -> Result<Vec<Count>, Failure> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let counts = counts(console)?;
        if counts.last().is_some_and(|count| count.number >= number) {
            return Ok(counts);
        }
        if Instant::now() >= deadline {
            vm.swallow();
            let last = counts.last().map(|count| count.number);
            return Err(vm.failure(&format!("the guest counts to {last:?}, expected {number}")));
        }
        thread::sleep(LOOK);
    }
}

/// A connection to a monitor that has just been started.
fn connect(vm: &mut Vm) -> Result<Client, Failure> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match Client::connect(vm.folder()) {
            Ok(client) => return Ok(client),
            Err(failure) if Instant::now() >= deadline => return Err(vm.failure(&failure.to_string())),
            Err(_) => thread::sleep(LOOK),
        }
    }
}

fn order(name: &str, kind: SnapshotKind) -> Result<Order, Failure> {
    let name = SnapshotName::new(name).ok_or_else(|| Failure::Wrong(format!("`{name}` is no name")))?;
    Ok(Order::Snapshot { name, kind })
}

/// Writes a machine down and ends it: nothing happens in between. Where the snapshot is.
fn freeze(vm: &mut Vm, name: &str, kind: SnapshotKind) -> Result<PathBuf, Failure> {
    let mut client = connect(vm)?;
    client.order(Order::Pause)?;
    client.order(order(name, kind)?)?;
    let ended = client.ask(Order::Stop { now: true })?;
    if !matches!(ended, Answered::Ended(_)) {
        return Err(Failure::Wrong(format!("the stop was answered with {ended:?}")));
    }
    vm.ends_with(16)?;
    Ok(vm.folder().join("snapshots").join(name))
}

/// Goes on from a snapshot.
fn thaw(vm: &Vm, snapshot: &Path) -> Result<Vm, Failure> {
    Vm::spawn(vm.folder().to_owned(), &["restore".as_ref(), snapshot.as_os_str()])
}

fn end(vm: &mut Vm) -> Result<(), Failure> {
    connect(vm)?.ask(Order::Stop { now: true })?;
    vm.ends_with(16)
}

fn counting(name: &'static str) -> Plan {
    Plan::verb(name, "count").speaks(Speaks::Hvc0IntoAFile).with(SECTION)
}

/// No number is lost, the time that nobody ran is not the guest's, and a snapshot of a machine that goes on is as good.
fn snapshot_and_restore() -> Result<(), Failure> {
    /// Longer than anything that a guest does between two numbers.
    const ABSENCE: Duration = Duration::from_secs(5);
    let plan = counting("snapshot_and_restore");
    let console = plan.folder().join("console.log");
    plan.fresh_folder()?;
    let mut vm = plan.start()?;
    wait_for(&mut vm, &console, 10)?;
    // One that runs is written down and goes on.
    connect(&mut vm)?.order(order("running", SnapshotKind::Full)?)?;
    let before = wait_for(&mut vm, &console, 20)?;
    let snapshot = freeze(&mut vm, "last", SnapshotKind::Full)?;
    thread::sleep(ABSENCE);
    let mut again = thaw(&vm, &snapshot)?;
    let after = wait_for(&mut again, &console, before.len() as u64 + 10)?;
    end(&mut again)?;
    let gap = after
        .windows(2)
        .filter_map(|pair| pair.get(1).zip(pair.first()))
        .map(|(later, sooner)| (later.monotonic.saturating_sub(sooner.monotonic), later.number))
        .max();
    let Some((gap, number)) = gap else { return Err(again.failure("the guest counts no more")) };
    // Nobody sets the guest's wall clock here: it is behind by what the guest missed, until an agent is told.
    let missed = after.last().map(|last| super::life::now().saturating_sub(last.wall)).unwrap_or_default();
    let (gap_ms, missed_ms) = (gap.as_millis(), missed.as_millis());
    println!(
        "snapshot: longest gap in the guest's monotonic time {gap_ms} ms, its wall clock is {missed_ms} ms behind"
    );
    if gap > ABSENCE / 2
        || after.windows(2).any(|pair| pair.first().map(|c| c.monotonic) > pair.get(1).map(|c| c.monotonic))
    {
        return Err(again.failure(&format!("the guest's monotonic time jumps by {gap:?} at {number}")));
    }
    let complaint = again.said().iter().find(|line| line.contains("lockup") || line.contains("stall"));
    same("what the guest complains of", &complaint, &None)?;
    // The one that was taken of a running machine goes on from its own place, with a console of its own.
    fs::remove_file(&console).map_err(|error| Failure::host("console.log", &error))?;
    let mut other = thaw(&vm, &vm.folder().join("snapshots/running"))?;
    let deadline = Instant::now() + PATIENCE;
    while fs::read(&console).map_or(0, |text| text.len()) < 1000 {
        if Instant::now() >= deadline {
            other.swallow();
            return Err(other.failure("a snapshot of a running machine does not go on"));
        }
        thread::sleep(LOOK);
    }
    end(&mut other)
}

/// Four processors that all work go on together.
fn snapshot_of_processors() -> Result<(), Failure> {
    let line = "for n in 1 2 3; do (while true; do :; done) & done; /bin/hearth-probe guest count";
    let plan =
        Plan::shell("snapshot_of_processors", line).speaks(Speaks::Hvc0IntoAFile).with(SECTION).vcpus(4);
    let console = plan.folder().join("console.log");
    plan.fresh_folder()?;
    let mut vm = plan.start()?;
    let mut reached = wait_for(&mut vm, &console, 5)?.len() as u64;
    for name in ["one", "two", "three"] {
        let snapshot = freeze(&mut vm, name, SnapshotKind::Full)?;
        vm = thaw(&vm, &snapshot)?;
        reached = wait_for(&mut vm, &console, reached + 5)?.len() as u64;
    }
    end(&mut vm)?;
    let complaint = vm.said().iter().find(|line| line.contains("lockup") || line.contains("stall"));
    same("what the guest complains of", &complaint, &None)
}

/// A difference is small, and with its base a whole machine.
fn snapshot_difference() -> Result<(), Failure> {
    let plan = counting("snapshot_difference");
    let console = plan.folder().join("console.log");
    plan.fresh_folder()?;
    let mut vm = plan.start()?;
    let reached = wait_for(&mut vm, &console, 10)?.len() as u64;
    let base = freeze(&mut vm, "base", SnapshotKind::Full)?;
    let mut vm = thaw(&vm, &base)?;
    let reached = wait_for(&mut vm, &console, reached + 10)?.len() as u64;
    let part = freeze(&mut vm, "part", SnapshotKind::Difference)?;
    let [whole_kib, part_kib] = [&base, &part].map(|folder| {
        fs::metadata(folder.join("memory"))
            .map_or(0, |data| std::os::unix::fs::MetadataExt::blocks(&data) / 2)
    });
    println!("snapshot: {whole_kib} KiB in full, {part_kib} KiB as a difference");
    if part_kib >= whole_kib {
        return Err(Failure::Wrong(format!("a difference of {part_kib} KiB to {whole_kib} KiB")));
    }
    let merged = vm.folder().join("snapshots/merged");
    let words: [&OsStr; 5] =
        ["snapshot".as_ref(), "merge".as_ref(), base.as_os_str(), part.as_os_str(), merged.as_os_str()];
    Vm::spawn(vm.folder().to_owned(), &words)?.ends_with(0)?;
    let mut vm = thaw(&vm, &merged)?;
    wait_for(&mut vm, &console, reached + 10)?;
    end(&mut vm)
}

/// A stream over the network and writes to a disk go through the end of one monitor and the start of another.
fn snapshot_of_a_busy_guest() -> Result<(), Failure> {
    const SEED: u64 = 24;
    const STREAM: u64 = 24 << 20;
    const DISK: u64 = 24 << 20;
    let _tap = Tap::new("tap-trial", "10.77.0.1/24")?;
    let listener =
        TcpListener::bind("10.77.0.1:7007").map_err(|error| Failure::host("10.77.0.1:7007", &error))?;
    let ours = thread::spawn(move || exchange(listener.accept()?.0, SEED, STREAM));
    let line = format!(
        "/bin/busybox ip addr add 10.77.0.2/24 dev eth0; /bin/busybox ip link set eth0 up; echo guest: busy; \
         /bin/hearth-probe guest stream tcp 10.77.0.1:7007 {STREAM} {SEED} & \
         /bin/hearth-probe guest disk /dev/vda {DISK} {SEED}; wait; echo guest: done"
    );
    let plan = Plan::shell("snapshot_of_a_busy_guest", &line)
        .with("[[net]]\nid = \"lan\"\ntap = \"tap-trial\"\nmac = \"06:00:0a:4d:00:02\"")
        .with("[[block]]\nid = \"data\"\npath = \"disk.img\"")
        .with(SECTION);
    blank_disk(&plan, DISK)?;
    let mut vm = plan.start()?;
    vm.next("guest: busy")?;
    let mut said = Vec::new();
    for name in ["one", "two", "three"] {
        let snapshot = freeze(&mut vm, name, SnapshotKind::Full)?;
        said.extend_from_slice(vm.said());
        vm = thaw(&vm, &snapshot)?;
        // For the guest to be in the middle of something else.
        thread::sleep(Duration::from_millis(700));
    }
    vm.next("guest: done")?;
    said.extend_from_slice(vm.said());
    let held = said.iter().any(|line| line == "guest: disk holds what was written");
    same("whether the disk holds what was written", &held, &true)?;
    let (received, _) = match ours.join() {
        Ok(Ok(sums)) => sums,
        Ok(Err(error)) => return Err(vm.failure(&format!("the host's end: {error}"))),
        Err(_) => return Err(vm.failure("the host's end panicked")),
    };
    same("what the host received", &received, &pattern::checksum(SEED, STREAM))?;
    let sent = format!("{received:016x}");
    let told = said.iter().any(|line| line.starts_with("guest: stream sent ") && line.contains(&sent));
    same("whether the guest sent it", &told, &true)?;
    vm.ends_with(0)
}

/// A connection over vsock is reset, and the next one reaches the host under another address.
fn snapshot_resets_vsock() -> Result<(), Failure> {
    let plan = Plan::verb("snapshot_resets_vsock", "call 7009")
        .with("[vsock]\ncid = 3\nsocket = \"vsock.sock\"")
        .with(SECTION);
    let path = plan.fresh_folder()?.join("vsock.sock_7009");
    let failed = |error| Failure::host("vsock.sock_7009", &error);
    let listener = UnixListener::bind(&path).map_err(failed)?;
    let mut vm = plan.start()?;
    let mut lines = Vec::new();
    let heard = |streams: &mut Vec<UnixStream>| {
        let stream = listener.accept().map_err(failed)?.0;
        let mut line = String::new();
        BufReader::new(&stream).read_line(&mut line).map_err(failed)?;
        // Held: the host does not hang up.
        streams.push(stream);
        Ok::<_, Failure>(line)
    };
    same("the first call", &heard(&mut lines)?, &"call 0\n".to_owned())?;
    let snapshot = freeze(&mut vm, "one", SnapshotKind::Full);
    // Ours, not the monitor's; it must not count as left behind.
    let snapshot = snapshot.or_else(|failure| {
        if failure.to_string().contains("vsock.sock_7009") {
            Ok(vm.folder().join("snapshots/one"))
        } else {
            Err(failure)
        }
    })?;
    let config = snapshot.join("vm.toml");
    let text = fs::read_to_string(&config).map_err(|error| Failure::host("vm.toml", &error))?;
    fs::write(&config, text.replace("cid = 3", "cid = 9"))
        .map_err(|error| Failure::host("vm.toml", &error))?;
    let mut vm = thaw(&vm, &snapshot)?;
    vm.next("guest: call 0 ended")?;
    same("the next call", &heard(&mut lines)?, &"call 1\n".to_owned())?;
    let _ = fs::remove_file(&path);
    end(&mut vm)
}

/// Again and again, each from the last.
fn snapshot_cycles() -> Result<(), Failure> {
    let plan = counting("snapshot_cycles");
    let console = plan.folder().join("console.log");
    plan.fresh_folder()?;
    let mut vm = plan.start()?;
    let mut reached = wait_for(&mut vm, &console, 10)?.len() as u64;
    let began = Instant::now();
    let mut last: Option<PathBuf> = None;
    for cycle in 0..CYCLES {
        let snapshot = freeze(&mut vm, &format!("cycle-{cycle}"), SnapshotKind::Full)?;
        if let Some(last) = last.replace(snapshot.clone()) {
            let _ = fs::remove_dir_all(last);
        }
        vm = thaw(&vm, &snapshot)?;
        let found = wait_for(&mut vm, &console, reached + PER_CYCLE);
        reached = found.map_err(|failure| Failure::Wrong(format!("cycle {cycle}: {failure}")))?.len() as u64;
        if cycle % CYCLES_PER_WORD == 0 {
            println!("snapshot: cycle {cycle} of {CYCLES}");
        }
    }
    println!("snapshot: {CYCLES} cycles in {} s, {reached} numbers", began.elapsed().as_secs());
    end(&mut vm)
}
