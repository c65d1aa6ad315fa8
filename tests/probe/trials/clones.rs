//! Clones: many machines from one template, each of them somebody of its own.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hearth_wire::control::Order;

use super::client::{Answered, Client};
use super::life::now;
use super::vm::{Plan, Vm};
use super::{Failure, Trial, same};
use crate::family;

pub(super) const TRIALS: &[Trial] = &[
    ("clones", clones),
    ("clone_is_told_who_it_is", clone_is_told_who_it_is),
    ("template_of_a_guest_that_is_not_warm", template_of_a_guest_that_is_not_warm),
];

/// Machines that run at the same time from one template.
const CLONES: usize = 50;
/// What a guest says of itself, over and over. Its root is the initramfs, which has no `/etc` by itself.
pub(crate) const WHO: &str = "/bin/busybox mkdir -p /etc; exec /bin/hearth-probe guest who";
pub(crate) const VSOCK: &str = "[vsock]\ncid = 3\nsocket = \"vsock.sock\"";
/// How far a guest's wall clock may be from the host's once it was set.
const CLOCK: Duration = Duration::from_millis(50);
/// Looks at the clocks. The time that a line takes to the host counts as well, so the best one does.
const LOOKS: usize = 40;

/// What a guest said of itself.
#[derive(Debug)]
pub(crate) struct Who {
    random: String,
    hostname: String,
    machine_id: String,
    wall: Duration,
    /// The host's clock, behind the line.
    heard: Duration,
}

fn who(vm: &mut Vm) -> Result<Who, Failure> {
    let words = vm.told("who ")?;
    let heard = now();
    let word = |index: usize| words.get(index).cloned().unwrap_or_default();
    let wall = word(3).parse().map_err(|_| vm.failure("the guest tells no time"))?;
    Ok(Who {
        random: word(0),
        hostname: word(1),
        machine_id: word(2),
        wall: Duration::from_nanos(wall),
        heard,
    })
}

/// What it says once it is somebody else than its template.
pub(crate) fn who_else(vm: &mut Vm) -> Result<Who, Failure> {
    loop {
        let who = who(vm)?;
        if who.machine_id != "-" {
            return Ok(who);
        }
    }
}

/// Makes the template of `plan`, in `template` in its folder.
pub(crate) fn template(plan: &Plan) -> Result<PathBuf, Failure> {
    let (config, folder) = (plan.written()?, plan.folder().join("template"));
    let words = ["template".as_ref(), config.as_os_str(), folder.as_os_str()];
    Vm::spawn(plan.folder(), &words)?.ends_with(0)?;
    Ok(folder)
}

/// A clone of a template in a folder of its own, with `more` in its configuration.
pub(crate) fn clone(plan: &Plan, template: &Path, name: &str, more: &str) -> Result<Vm, Failure> {
    let folder = plan.folder().join(name);
    fs::create_dir_all(&folder).map_err(|error| Failure::host(name, &error))?;
    let config = folder.join("vm.toml");
    let text = fs::read_to_string(plan.written()?).map_err(|error| Failure::host("vm.toml", &error))?;
    fs::write(&config, format!("{text}\n{more}\n")).map_err(|error| Failure::host("vm.toml", &error))?;
    let words = ["restore".as_ref(), template.as_os_str(), "--config".as_ref(), config.as_os_str()];
    Vm::spawn(folder, &words)
}

/// Memory of a monitor's processes in KiB, by the kernel's names for its kinds.
/// What they alone have is "Pss_Anon", where a page that both have is one: pages of a file in RAM count as dirty, and as
/// private where one process maps them.
pub(crate) fn memory_kib(vm: &Vm, kinds: &[&str]) -> u64 {
    let pid = u32::try_from(vm.pid().as_raw()).unwrap_or_default();
    let rollup = |pid| fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let all: String = family::of(pid).into_iter().map(rollup).collect();
    let lines = all.lines().filter(|line| kinds.iter().any(|kind| line.starts_with(kind)));
    lines.filter_map(|line| line.split_ascii_whitespace().nth(1)?.parse::<u64>().ok()).sum()
}

fn clones() -> Result<(), Failure> {
    let plan = Plan::shell("clones", WHO).with(VSOCK);
    plan.fresh_folder()?;
    let template = template(&plan)?;
    // The same things: nothing to do.
    let config = plan.written()?;
    let mut again =
        Vm::spawn(plan.folder(), &["template".as_ref(), config.as_os_str(), template.as_os_str()])?;
    again.ends_with(0)?;
    let said = again.said().iter().any(|line| line.ends_with("template: up to date"));
    same("whether the template is up to date", &said, &true)?;

    let mut vms = Vec::new();
    for number in 0..CLONES {
        vms.push(clone(&plan, &template, &format!("clone-{number}"), "")?);
    }
    let (mut randoms, mut hostnames, mut machine_ids) = (HashSet::new(), HashSet::new(), HashSet::new());
    for vm in &mut vms {
        let first = who_else(vm)?;
        let digits = first.machine_id.get(..8).unwrap_or("-");
        if !first.hostname.ends_with(&format!("-{digits}")) {
            return Err(vm.failure(&format!("{first:?} is not called after its machine ID")));
        }
        let second = who(vm)?;
        randoms.extend([first.random, second.random]);
        hostnames.insert(first.hostname);
        machine_ids.insert(first.machine_id);
    }
    same("random numbers that differ", &randoms.len(), &(2 * CLONES))?;
    same("names that differ", &hostnames.len(), &CLONES)?;
    same("machine IDs that differ", &machine_ids.len(), &CLONES)?;
    let private: Vec<u64> = vms.iter().map(|vm| memory_kib(vm, &["Pss_Anon:"])).collect();
    let shares: u64 = vms.iter().map(|vm| memory_kib(vm, &["Pss:"])).sum();
    let (least, most) = (private.iter().min().unwrap_or(&0), private.iter().max().unwrap_or(&0));
    println!(
        "clones: {CLONES} of a guest of 128 MiB, each {least} to {most} KiB of its own, {} MiB all together",
        shares >> 10
    );
    for vm in &mut vms {
        let complaint = vm.said().iter().find(|line| line.contains("lockup") || line.contains("stall"));
        same("what a guest complains of", &complaint, &None)?;
        Client::connect(vm.folder())?.ask(Order::Stop { now: true })?;
        vm.ends_with(16)?;
    }
    Ok(())
}

fn clone_is_told_who_it_is() -> Result<(), Failure> {
    let plan = Plan::shell("clone_is_told_who_it_is", WHO).with(VSOCK);
    plan.fresh_folder()?;
    let template = template(&plan)?;
    let identity = "[identity]\nhostname = \"till-3\"\nmachine_id = \"00112233445566778899aabbccddeeff\"";
    let mut vm = clone(&plan, &template, "clone", identity)?;
    let mut best = Duration::MAX;
    for _ in 0..LOOKS {
        let who = who_else(&mut vm)?;
        same("its name", &who.hostname, &"till-3".to_owned())?;
        same("its machine ID", &who.machine_id, &"00112233445566778899aabbccddeeff".to_owned())?;
        best = best.min(who.heard.abs_diff(who.wall));
    }
    println!("clones: a guest's wall clock is within {} us of the host's", best.as_micros());
    if best > CLOCK {
        return Err(vm.failure(&format!("the guest's clock is {best:?} off")));
    }
    let Answered::Figures(figures) = Client::connect(vm.folder())?.ask(Order::Statistics)? else {
        return Err(vm.failure("the monitor has no figures"));
    };
    same("whether the monitor knows", &figures.contains_key("machine.identified_monotonic_ns"), &true)?;
    Client::connect(vm.folder())?.ask(Order::Stop { now: true })?;
    vm.ends_with(16)
}

fn template_of_a_guest_that_is_not_warm() -> Result<(), Failure> {
    // A guest without an agent, as its first process is a shell.
    let line = "-c \"while true; do sleep 9; done\"";
    let plan = Plan::new("template_of_a_guest_that_is_not_warm", line).cmdline("rdinit=/bin/sh").with(VSOCK);
    plan.fresh_folder()?;
    let (config, folder) = (plan.written()?, plan.folder().join("template"));
    let words = ["template".as_ref(), config.as_os_str(), folder.as_os_str(), "--within=5".as_ref()];
    let mut vm = Vm::spawn(plan.folder(), &words)?;
    vm.ends_with(1)?;
    let said = "hearth-vmm: no template: the guest's agent did not say that it is warm within 5 s";
    same("what it says", &vm.said().iter().any(|line| line == said), &true)?;
    same("whether there is a template", &folder.exists(), &false)
}
