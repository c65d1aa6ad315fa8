//! Ends of a guest: each with its own exit status.

use nix::sys::signal::Signal;

use super::vm::{Plan, Speaks};
use super::{Failure, Trial};

pub(super) const TRIALS: &[Trial] = &[
    ("power_off", power_off),
    ("reboot", reboot),
    // Linux on ARM64 halts by running in circles, which nobody can tell from work.
    #[cfg(target_arch = "x86_64")]
    ("halt", halt),
    ("panic", panic),
    ("watchdog_expiry", watchdog_expiry),
    ("watchdog_petted", watchdog_petted),
    ("stop_by_the_agent", stop_by_the_agent),
    ("stop_by_the_button", stop_by_the_button),
    ("stop_of_a_deaf_guest", stop_of_a_deaf_guest),
    ("serial_console", serial_console),
    ("reboot_in_process", reboot_in_process),
];

const POWER_OFF: i32 = 0;
const REBOOT: i32 = 10;
#[cfg(target_arch = "x86_64")]
const HALT: i32 = 11;
const PANIC: i32 = 12;
const WATCHDOG: i32 = 13;
const HOST_STOP: i32 = 16;

fn power_off() -> Result<(), Failure> {
    Plan::shell("power_off", "/bin/busybox poweroff -f").start()?.ends_with(POWER_OFF)
}

fn reboot() -> Result<(), Failure> {
    Plan::shell("reboot", "/bin/busybox reboot -f").start()?.ends_with(REBOOT)
}

/// With a second processor, which the kernel stops before its own.
#[cfg(target_arch = "x86_64")]
fn halt() -> Result<(), Failure> {
    Plan::shell("halt", "/bin/busybox halt -f").vcpus(2).start()?.ends_with(HALT)
}

fn panic() -> Result<(), Failure> {
    Plan::shell("panic", "echo c > /proc/sysrq-trigger").start()?.ends_with(PANIC)
}

/// The shortest time that both drivers know, and a keeper that stops petting.
fn watchdog_expiry() -> Result<(), Failure> {
    let keeper = "/bin/busybox watchdog -T 4 -t 1 -F /dev/watchdog & sleep 2; kill -STOP $!; echo guest: silent; sleep 600";
    let mut vm = Plan::shell("watchdog_expiry", keeper).with("[watchdog]").start()?;
    vm.next("guest: silent")?;
    vm.ends_with(WATCHDOG)
}

/// The agent sees its workload's last words off before it powers off; `poweroff -f` would overtake them.
fn watchdog_petted() -> Result<(), Failure> {
    let keeper = "/bin/busybox watchdog -T 8 -t 1 -F /dev/watchdog & sleep 14; echo guest: alive";
    let mut vm = Plan::shell("watchdog_petted", keeper).with("[watchdog]").start()?;
    vm.next("guest: alive")?;
    vm.ends_with(POWER_OFF)
}

const STAYS: &str =
    "trap 'echo guest: asked to end; exit 0' TERM; echo guest: up; while true; do sleep 1; done";

fn stop_by_the_agent() -> Result<(), Failure> {
    let mut vm = Plan::shell("stop_by_the_agent", STAYS)
        .with("[vsock]\ncid = 3\nsocket = \"vsock.sock\"\n[stop]\nagent_s = 60\nbutton_s = 0")
        .start()?;
    vm.next("guest: up")?;
    vm.signal(Signal::SIGTERM)?;
    vm.next("guest: asked to end")?;
    vm.ends_with(HOST_STOP)
}

fn stop_by_the_button() -> Result<(), Failure> {
    let mut vm =
        Plan::shell("stop_by_the_button", STAYS).with("[stop]\nagent_s = 0\nbutton_s = 60").start()?;
    vm.next("guest: up")?;
    vm.signal(Signal::SIGTERM)?;
    vm.next("guest: asked to end")?;
    vm.ends_with(HOST_STOP)
}

/// A guest whose kernel has no agent that listens: its process 1 is a shell.
fn stop_of_a_deaf_guest() -> Result<(), Failure> {
    let mut vm = Plan::new("stop_of_a_deaf_guest", "-c \"echo guest: deaf; while true; do true; done\"")
        .cmdline("rdinit=/bin/sh")
        .with("[vsock]\ncid = 3\nsocket = \"vsock.sock\"\n[stop]\nagent_s = 2\nbutton_s = 2")
        .start()?;
    vm.next("guest: deaf")?;
    vm.signal(Signal::SIGTERM)?;
    vm.ends_with(HOST_STOP)
}

fn serial_console() -> Result<(), Failure> {
    let mut vm = Plan::verb("serial_console", "processors").speaks(Speaks::Serial).start()?;
    vm.next("guest: processors 1")?;
    vm.ends_with(POWER_OFF)
}

/// The second life finds what the first left on the disk, and ends.
fn reboot_in_process() -> Result<(), Failure> {
    let line = "if grep -q again /dev/vda; then echo guest: second life; exit 0; fi; \
                echo again > /dev/vda; sync; /bin/busybox reboot -f";
    let plan = Plan::shell("reboot_in_process", line)
        .machine("on_reboot = \"restart\"")
        .with("[[block]]\nid = \"memory\"\npath = \"disk.img\"");
    super::data::blank_disk(&plan, 1 << 20)?;
    let mut vm = plan.start()?;
    vm.next("guest: second life")?;
    vm.ends_with(POWER_OFF)
}
