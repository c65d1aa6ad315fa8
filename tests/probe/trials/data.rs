//! Data through every device, compared at both ends.

use std::fs::{self, File};
use std::io::Read;
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::Command;
use std::thread;

use super::vm::{Plan, Vm};
use super::{Failure, Trial, same};
use crate::guest::{answer, block_of_disk};
use crate::pattern;

pub(super) const TRIALS: &[Trial] = &[
    ("processors", processors),
    ("disk", disk),
    ("disk_read_only", disk_read_only),
    ("disk_discard", disk_discard),
    ("network", network),
    ("vsock", vsock),
    ("entropy", entropy),
    ("console_flood", console_flood),
];

const MIB: u64 = 1 << 20;

fn processors() -> Result<(), Failure> {
    let mut vm = Plan::verb("processors", "processors").vcpus(4).start()?;
    let told = vm.told("processors")?;
    same("processors", &told.join(" "), &"4 ran 4 cores 4".to_owned())?;
    vm.ends_with(0)
}

/// A file of zeroes in the machine's folder.
pub(super) fn blank_disk(plan: &Plan, bytes: u64) -> Result<PathBuf, Failure> {
    let path = plan.fresh_folder()?.join("disk.img");
    let failed = |error| Failure::host("disk.img", &error);
    File::create(&path).map_err(failed)?.set_len(bytes).map_err(failed)?;
    Ok(path)
}

/// A file of the pattern in the machine's folder, and its checksum.
pub(super) fn filled_disk(plan: &Plan, seed: u64, bytes: u64) -> Result<(PathBuf, u64), Failure> {
    let path = plan.fresh_folder()?.join("disk.img");
    let failed = |error| Failure::host("disk.img", &error);
    let sum = pattern::send(&mut File::create(&path).map_err(failed)?, seed, bytes).map_err(failed)?;
    Ok((path, sum))
}

fn disk() -> Result<(), Failure> {
    const BYTES: u64 = 16 * MIB;
    const SEED: u64 = 11;
    let plan = Plan::verb("disk", &format!("disk /dev/vda {BYTES} {SEED}"))
        .with("[[block]]\nid = \"data\"\npath = \"disk.img\"");
    let path = blank_disk(&plan, BYTES)?;
    let mut vm = plan.start()?;
    same("disk", &vm.told("disk ")?.join(" "), &"holds what was written".to_owned())?;
    vm.ends_with(0)?;
    let content = fs::read(&path).map_err(|error| Failure::host("disk.img", &error))?;
    for (index, found) in (0u64..).zip(content.chunks(4096)) {
        if found != block_of_disk(SEED, index) {
            return Err(Failure::Wrong(format!("block {index} of the file is not what the guest wrote")));
        }
    }
    Ok(())
}

fn disk_read_only() -> Result<(), Failure> {
    const BYTES: u64 = 4 * MIB;
    const SEED: u64 = 12;
    // The kernel's own opinion is overruled before the attempt, so that it is the device that refuses.
    let line = format!(
        "/bin/hearth-probe guest read /dev/vda {BYTES}; /bin/busybox blockdev --setrw /dev/vda; \
         echo overwritten > /dev/vda; sync; echo guest: tried"
    );
    let plan = Plan::shell("disk_read_only", &line)
        .with("[[block]]\nid = \"data\"\npath = \"disk.img\"\nread_only = true");
    let (path, sum) = filled_disk(&plan, SEED, BYTES)?;
    let mut vm = plan.start()?;
    same("the guest's checksum", &vm.told("read ")?.join(""), &format!("{sum:016x}"))?;
    vm.next("guest: tried")?;
    vm.ends_with(0)?;
    let after = File::open(&path).and_then(|mut file| pattern::receive(&mut file, BYTES));
    let after = after.map_err(|error| Failure::host("disk.img", &error))?;
    same("the file's checksum afterwards", &after, &sum)
}

fn disk_discard() -> Result<(), Failure> {
    const BYTES: u64 = 8 * MIB;
    let plan = Plan::shell("disk_discard", "/bin/busybox blkdiscard /dev/vda && echo guest: discarded")
        .with("[[block]]\nid = \"data\"\npath = \"disk.img\"");
    let (path, _) = filled_disk(&plan, 13, BYTES)?;
    let failed = |error| Failure::host("disk.img", &error);
    let mut vm = plan.start()?;
    vm.next("guest: discarded")?;
    vm.ends_with(0)?;
    let left = fs::metadata(&path).map_err(failed)?;
    same("size of the file", &left.len(), &BYTES)?;
    if left.blocks() * 512 > BYTES / 8 {
        return Err(Failure::Wrong(format!("{} of {BYTES} bytes are still allocated", left.blocks() * 512)));
    }
    let mut content = Vec::new();
    File::open(&path).and_then(|mut file| file.read_to_end(&mut content)).map_err(failed)?;
    same("what is discarded reads as zeroes", &content.iter().all(|byte| *byte == 0), &true)
}

const STREAM_BYTES: u64 = 8 * MIB;

/// The guest's half of a stream says what it sent and got; ours says the same.
fn compare(
    vm: &mut Vm,
    seed: u64,
    ours: thread::JoinHandle<std::io::Result<(u64, u64)>>,
) -> Result<(), Failure> {
    let told = vm.told("stream sent ")?;
    let (received, sent) = match ours.join() {
        Ok(Ok(sums)) => sums,
        Ok(Err(error)) => return Err(vm.failure(&format!("the host's end: {error}"))),
        Err(_) => return Err(vm.failure("the host's end panicked")),
    };
    let expected = format!("{:016x}", pattern::checksum(seed, STREAM_BYTES));
    same("what the guest says it sent", told.first().unwrap_or(&String::new()), &expected)?;
    same("what the host received", &format!("{received:016x}"), &expected)?;
    same("what the guest received", told.get(2).unwrap_or(&String::new()), &format!("{sent:016x}"))
}

/// Takes the guest's stream and answers with another.
pub(super) fn exchange(
    mut stream: impl std::io::Read + std::io::Write,
    seed: u64,
    bytes: u64,
) -> std::io::Result<(u64, u64)> {
    let received = pattern::receive(&mut stream, bytes)?;
    let sent = pattern::send(&mut stream, answer(seed), bytes)?;
    Ok((received, sent))
}

fn host_command(program: &str, words: &[&str]) -> Result<(), Failure> {
    let output =
        Command::new(program).args(words).output().map_err(|error| Failure::host(program, &error))?;
    if output.status.success() {
        return Ok(());
    }
    Err(Failure::Wrong(format!(
        "{program} {}: {}",
        words.join(" "),
        String::from_utf8_lossy(&output.stderr).trim()
    )))
}

/// A TAP interface of the host for as long as it is held.
pub(super) struct Tap(&'static str);

impl Tap {
    pub(super) fn new(name: &'static str, address: &str) -> Result<Self, Failure> {
        let ip = |words: &[&str]| host_command("/probe/busybox", &[&["ip"], words].concat());
        host_command("/probe/busybox", &["tunctl", "-t", name])?;
        let tap = Self(name);
        ip(&["addr", "add", address, "dev", name])?;
        ip(&["link", "set", name, "up"])?;
        Ok(tap)
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        let _ = host_command("/probe/busybox", &["tunctl", "-d", self.0]);
    }
}

fn network() -> Result<(), Failure> {
    const SEED: u64 = 14;
    let _tap = Tap::new("tap-trial", "10.77.0.1/24")?;
    let listener =
        TcpListener::bind("10.77.0.1:7007").map_err(|error| Failure::host("10.77.0.1:7007", &error))?;
    let ours = thread::spawn(move || exchange(listener.accept()?.0, SEED, STREAM_BYTES));
    let line = format!(
        "/bin/busybox ip addr add 10.77.0.2/24 dev eth0; /bin/busybox ip link set eth0 up; \
         /bin/hearth-probe guest stream tcp 10.77.0.1:7007 {STREAM_BYTES} {SEED}; \
         echo guest: mac $(cat /sys/class/net/eth0/address)"
    );
    let mut vm = Plan::shell("network", &line)
        .with("[[net]]\nid = \"lan\"\ntap = \"tap-trial\"\nmac = \"06:00:0a:4d:00:02\"")
        .start()?;
    compare(&mut vm, SEED, ours)?;
    same("the card's address", &vm.told("mac ")?.join(""), &"06:00:0a:4d:00:02".to_owned())?;
    vm.ends_with(0)
}

fn vsock() -> Result<(), Failure> {
    const SEED: u64 = 15;
    let plan = Plan::verb("vsock", &format!("stream vsock 7008 {STREAM_BYTES} {SEED}"))
        .with("[vsock]\ncid = 3\nsocket = \"vsock.sock\"");
    let path = plan.fresh_folder()?.join("vsock.sock_7008");
    let listener = UnixListener::bind(&path).map_err(|error| Failure::host("vsock.sock_7008", &error))?;
    let ours = thread::spawn(move || exchange(listener.accept()?.0, SEED, STREAM_BYTES));
    let mut vm = plan.start()?;
    compare(&mut vm, SEED, ours)?;
    // Ours, not the monitor's.
    let _ = fs::remove_file(&path);
    vm.ends_with(0)
}

fn entropy() -> Result<(), Failure> {
    let mut vm = Plan::verb("entropy", "random 65536").with("[rng]").start()?;
    let told = vm.told("random ")?;
    let zeroes = format!("{:016x}", pattern::receive(&mut std::io::repeat(0), 65536).unwrap_or(0));
    if told.first() == told.get(1) || told.contains(&zeroes) {
        return Err(vm.failure("two reads of entropy are alike, or zeroes"));
    }
    vm.ends_with(0)
}

/// Far more than the monitor's buffer, to a host that reads: nothing may be missing.
fn console_flood() -> Result<(), Failure> {
    const LINES: u64 = 4096;
    let mut vm = Plan::verb("console_flood", &format!("print {} 16", LINES * 64)).start()?;
    vm.next("guest: printed")?;
    let mut pattern = pattern::Pattern::new(16);
    let mut found = vm.said().iter().filter(|line| line.len() == 64);
    for number in 0..LINES {
        if found.next() != Some(&crate::guest::text_line(&mut pattern)) {
            return Err(vm.failure(&format!("line {number} is missing or wrong")));
        }
    }
    vm.ends_with(0)
}
