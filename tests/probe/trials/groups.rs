//! Machines' control groups, in the root group of a box and in a group that a service manager delegated.
//!
//! Duty: move this program to where a daemon would be, and look where its machines are. It is back in the root group, and
//! the groups are gone, when a trial ends.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use hearth_config::DAEMON_GROUP;
use hearth_supervisor::own_group;

use super::vm::{Plan, Vm};
use super::{Failure, Trial, same};

pub(super) const TRIALS: &[Trial] =
    &[("group_in_the_root", in_the_root), ("group_of_a_service", of_a_service)];

const ROOT: &str = "/sys/fs/cgroup";
const SERVICE: &str = "a.service";
/// The bound of a machine of 128 MiB: its memory twice, and 128 MiB.
const MEMORY: &str = "402653184";

fn at(what: &str) -> impl FnOnce(io::Error) -> Failure + use<'_> {
    move |error| Failure::host(what, &error)
}

fn machine() -> Result<Vm, Failure> {
    let mut vm = Plan::shell("groups", "echo guest: up; sleep 600").start()?;
    vm.next("guest: up")?;
    Ok(vm)
}

/// The group of the machine's process: the porter's only child.
fn group_of(vm: &Vm) -> Result<PathBuf, Failure> {
    let children =
        fs::read_to_string(format!("/proc/{0}/task/{0}/children", vm.pid())).map_err(at("children"))?;
    let machine = children.trim();
    let groups = fs::read_to_string(format!("/proc/{machine}/cgroup")).map_err(at("cgroup"))?;
    let path = groups.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
    Ok(Path::new(ROOT).join(path))
}

fn has_its_bounds(vm: &Vm, parent: &Path) -> Result<(), Failure> {
    let group = group_of(vm)?;
    same("its group", &group, &parent.join(format!("hearth-vm-{}", vm.pid())))?;
    let memory = fs::read_to_string(group.join("memory.max")).map_err(at("memory.max"))?;
    same("memory.max", &memory.trim(), &MEMORY)
}

fn in_the_root() -> Result<(), Failure> {
    let vm = machine()?;
    has_its_bounds(&vm, Path::new(ROOT))
}

fn of_a_service() -> Result<(), Failure> {
    let service = Path::new(ROOT).join(SERVICE);
    let below = service.join(DAEMON_GROUP);
    fs::create_dir(&service).map_err(at("a service's group"))?;
    let moved = || -> Result<(), Failure> {
        fs::write(service.join("cgroup.procs"), std::process::id().to_string()).map_err(at("move"))?;
        own_group::settle().map_err(at("settle"))?;
        let mut vm = machine()?;
        has_its_bounds(&vm, &service)?;
        vm.signal(nix::sys::signal::Signal::SIGTERM)?;
        vm.ends_with(16)?;
        let left: Vec<_> = fs::read_dir(&service)
            .map_err(at("service"))?
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| name.starts_with("hearth-vm-"))
            .collect();
        same("groups that are left", &left, &Vec::new())
    };
    let outcome = moved();
    fs::write(Path::new(ROOT).join("cgroup.procs"), std::process::id().to_string())
        .map_err(at("move back"))?;
    fs::remove_dir(&below).and_then(|()| fs::remove_dir(&service)).map_err(at("remove"))?;
    outcome
}
