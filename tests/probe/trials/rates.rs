//! Rate limits over a second of time, on boards whose clock counts instructions.
//!
//! Each limit lets a burst through at once and the rest at its rate, so that what is moved takes one second. On a board
//! with a clock of its own kind of time nothing could be said; there these trials are left out.

use std::io::Read;
use std::net::TcpListener;
use std::thread;
use std::time::{Duration, Instant};

use super::data::{Tap, blank_disk, filled_disk};
use super::vm::{Plan, Speaks, Vm};
use super::{Failure, Trial};
use crate::pattern::Pattern;

pub(super) const TRIALS: &[Trial] = &[
    ("rate_of_disk_bytes", disk_bytes),
    ("rate_of_disk_operations", disk_operations),
    ("rate_of_network_sending", network_sending),
    ("rate_of_entropy", entropy),
    ("rate_of_virtio_console", virtio_console),
    ("rate_of_serial_port", serial_port),
];

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// Within five of a hundred of one second.
fn about_a_second(what: &str, took: Duration) -> Result<(), Failure> {
    println!("{what}: {} ms", took.as_millis());
    let right = Duration::from_millis(950)..=Duration::from_millis(1050);
    if right.contains(&took) {
        Ok(())
    } else {
        Err(Failure::Wrong(format!("{what} took {took:?}, expected one second")))
    }
}

fn told_pace(vm: &mut Vm) -> Result<Duration, Failure> {
    let told = vm.told("pace ")?;
    let nanos = told.get(1).and_then(|word| word.parse().ok());
    nanos.map(Duration::from_nanos).ok_or_else(|| vm.failure("no pace"))
}

fn disk_bytes() -> Result<(), Failure> {
    let plan = Plan::verb("rate_of_disk_bytes", &format!("pace /dev/vda {}", 9 * MIB)).with(
        "[[block]]\nid = \"data\"\npath = \"disk.img\"\nlimit = { bytes_per_second = 8388608, bytes_burst = 1048576 }",
    );
    filled_disk(&plan, 31, 9 * MIB)?;
    let mut vm = plan.start()?;
    let took = told_pace(&mut vm)?;
    vm.ends_with(0)?;
    about_a_second("8 MiB at 8 MiB/s", took)
}

/// Direct reads of 4 KiB: each is one operation.
fn disk_operations() -> Result<(), Failure> {
    let plan = Plan::verb("rate_of_disk_operations", &format!("pace-direct /dev/vda {}", 4096 * 550)).with(
        "[[block]]\nid = \"data\"\npath = \"disk.img\"\nlimit = { operations_per_second = 500, operations_burst = 50 }",
    );
    blank_disk(&plan, 4 * MIB)?;
    let mut vm = plan.start()?;
    let took = told_pace(&mut vm)?;
    vm.ends_with(0)?;
    about_a_second("500 reads at 500/s", took)
}

/// Measured where it arrives, from the first byte to the last.
fn network_sending() -> Result<(), Failure> {
    const BYTES: u64 = 5 * MIB;
    let _tap = Tap::new("tap-rate", "10.79.0.1/24")?;
    let listener =
        TcpListener::bind("10.79.0.1:7009").map_err(|error| Failure::host("10.79.0.1:7009", &error))?;
    let ours = thread::spawn(move || -> std::io::Result<Duration> {
        let (mut stream, _) = listener.accept()?;
        stream.read_exact(&mut [0; 1])?;
        let began = Instant::now();
        let mut left = BYTES - 1;
        let mut piece = vec![0; 1 << 16];
        while left > 0 {
            let count = stream.read(&mut piece)?;
            if count == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            left = left.saturating_sub(count as u64);
        }
        Ok(began.elapsed())
    });
    let line = format!(
        "/bin/busybox ip addr add 10.79.0.2/24 dev eth0; /bin/busybox ip link set eth0 up; \
         /bin/busybox dd if=/dev/zero bs=64k count={} | /bin/busybox nc 10.79.0.1 7009",
        BYTES / 65536
    );
    let mut vm = Plan::shell("rate_of_network_sending", &line)
        .with("[[net]]\nid = \"lan\"\ntap = \"tap-rate\"\nsend = { bytes_per_second = 4194304, bytes_burst = 1048576 }")
        .start()?;
    let took = match ours.join() {
        Ok(Ok(took)) => took,
        Ok(Err(error)) => return Err(vm.failure(&format!("the host's end: {error}"))),
        Err(_) => return Err(vm.failure("the host's end panicked")),
    };
    vm.end()?;
    about_a_second("4 MiB at 4 MiB/s", took)
}

/// The kernel asks for 64 bytes at a time, and for a few of its own.
fn entropy() -> Result<(), Failure> {
    let mut vm = Plan::verb("rate_of_entropy", &format!("pace /dev/hwrng {}", 18 * KIB))
        .with("[rng]\nlimit = { bytes_per_second = 16384, bytes_burst = 2048 }")
        .start()?;
    let took = told_pace(&mut vm)?;
    vm.ends_with(0)?;
    about_a_second("16 KiB of entropy at 16 KiB/s", took)
}

fn virtio_console() -> Result<(), Failure> {
    output("rate_of_virtio_console", Speaks::Hvc0)
}

fn serial_port() -> Result<(), Failure> {
    output("rate_of_serial_port", Speaks::Serial)
}

/// Measured where it arrives, from the first line to the last.
fn output(name: &'static str, speaks: Speaks) -> Result<(), Failure> {
    const LINE_BYTES: u64 = 65;
    const LINES: u64 = 18 * KIB / LINE_BYTES;
    let mut vm = Plan::verb(name, &format!("print {} 41", LINES * (LINE_BYTES - 1)))
        .speaks(speaks)
        .console("limit = { bytes_per_second = 16384, bytes_burst = 2048 }")
        .start()?;
    // The kernel and the agent have said less than a burst, and the guest's own start has filled the bucket again.
    let first = crate::guest::text_line(&mut Pattern::new(41));
    vm.next(&first)?;
    let began = Instant::now();
    vm.next("guest: printed")?;
    let took = began.elapsed();
    vm.ends_with(0)?;
    about_a_second("16 KiB of text at 16 KiB/s", took)
}
