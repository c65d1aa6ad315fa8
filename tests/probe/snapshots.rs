//! What snapshots cost: figures for the benchmark, measured on a board whose clock counts instructions.
//!
//! Duty: one line `figure NAME VALUE` for each. Not here: what they are compared with (`cargo xtask bench snapshot`).
//!
//! Times start at the exec of the monitor. Where a guest begins and who it is by then, the monitor knows by the
//! monotonic clock of the box; when a workload says something, its console tells.

use std::fs;
use std::path::Path;
use std::time::Duration;

use hearth_wire::control::{Order, SnapshotKind, SnapshotName};
use nix::time::{ClockId, clock_gettime};

use crate::race::STARTS;
use crate::trials::Failure;
use crate::trials::client::Client;
use crate::trials::clones::{VSOCK, WHO, clone, memory_kib, template, who_else};
use crate::trials::vm::{Plan, Vm};

/// Rounds that count. Instruction counts differ by under 1 % from run to run.
const ROUNDS: usize = 5;
/// Clones that run at the same time.
const CLONES: usize = 50;
/// Between two words of each of them: they run beside each other on one processor.
const QUIET_MS: u32 = 1000;
/// MiB that guests write to between two snapshots.
const DIRTY_MIB: [u64; 2] = [1, 16];

pub(crate) fn run() -> Result<(), Failure> {
    starts()?;
    many()?;
    pauses()
}

fn figure(name: &str, value: u64) {
    println!("figure {name} {value}");
}

fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |time| Duration::from(time).as_nanos());
    u64::try_from(now).unwrap_or(u64::MAX)
}

/// Guests of boards that count instructions stand still now and then (`race::entrant` says why).
fn again<T>(what: &str, mut attempt: impl FnMut() -> Result<T, Failure>) -> Result<T, Failure> {
    for _ in 1..STARTS {
        match attempt() {
            Err(Failure::StoodStill(why)) => println!("{what}: once more after: {why}"),
            other => return other,
        }
    }
    attempt()
}

fn end(mut vm: Vm) -> Result<(), Failure> {
    Client::connect(vm.folder())?.ask(Order::Stop { now: true })?;
    vm.ends_with(16)
}

/// What one start took, in nanoseconds since its exec.
struct Start {
    entry: u64,
    identified: u64,
    speaks: u64,
}

/// Waits until a machine that was started at `began` says who it is.
fn timed(vm: &mut Vm, began: u64) -> Result<Start, Failure> {
    who_else(vm)?;
    let speaks = monotonic_ns().saturating_sub(began);
    let figures = Client::connect(vm.folder())?.figures(Order::Statistics)?;
    let since = |name: &str| figures.get(name).map_or(0, |at| at.saturating_sub(began));
    let (entry, identified) =
        (since("vcpu0.first_entry_monotonic_ns"), since("machine.identified_monotonic_ns"));
    Ok(Start { entry, identified, speaks })
}

/// A cold boot of a guest, and starts of clones of it.
fn starts() -> Result<(), Failure> {
    let plan =
        Plan::shell("cold", &WHO.replace("mkdir -p /etc", "mkdir -p /etc; echo cold > /etc/machine-id"))
            .with(VSOCK);
    for round in 0..=ROUNDS {
        let cold = again("a cold boot", || {
            plan.fresh_folder()?;
            let config = plan.written()?;
            let began = monotonic_ns();
            let mut vm = Vm::spawn(plan.folder(), &["run".as_ref(), config.as_os_str()])?;
            let start = timed(&mut vm, began)?;
            end(vm)?;
            Ok(start)
        })?;
        // The first one pays for reading files into the page cache.
        if round > 0 {
            figure("cold_speaks_ns", cold.speaks);
        }
    }
    let plan = Plan::shell("warm", WHO).with(VSOCK);
    let template = again("a template", || {
        plan.fresh_folder()?;
        template(&plan)
    })?;
    for round in 0..=ROUNDS {
        let start = again("a clone", || {
            let began = monotonic_ns();
            let mut vm = clone(&plan, &template, &format!("clone-{round}"), "")?;
            let start = timed(&mut vm, began)?;
            let private = memory_kib(&vm, &["Pss_Anon:"]);
            end(vm)?;
            Ok((start, private))
        });
        let (start, private) = start?;
        if round > 0 {
            figure("clone_entry_ns", start.entry);
            figure("clone_identified_ns", start.identified);
            figure("clone_speaks_ns", start.speaks);
            figure("clone_private_kib", private);
        }
    }
    Ok(())
}

/// Many clones: whether the last ones start as the first ones do, and what all of them take.
fn many() -> Result<(), Failure> {
    let plan = Plan::shell("many", &format!("{WHO} {QUIET_MS}")).with(VSOCK);
    let template = again("a template", || {
        plan.fresh_folder()?;
        template(&plan)
    })?;
    let mut vms = Vec::new();
    for number in 0..CLONES {
        let (start, vm) = again("one of many clones", || {
            let began = monotonic_ns();
            let mut vm = clone(&plan, &template, &format!("clone-{number}"), "")?;
            Ok((timed(&mut vm, began)?, vm))
        })?;
        let of = if number < CLONES / 5 {
            "many_first_identified_ns"
        } else if number >= CLONES - CLONES / 5 {
            "many_last_identified_ns"
        } else {
            "many_identified_ns"
        };
        figure(of, start.identified);
        vms.push(vm);
    }
    figure("many_private_kib", vms.iter().map(|vm| memory_kib(vm, &["Pss_Anon:"])).sum());
    figure("many_pss_kib", vms.iter().map(|vm| memory_kib(vm, &["Pss:"])).sum());
    vms.into_iter().try_for_each(end)
}

/// For how long a guest rests that is written down while it runs.
fn pauses() -> Result<(), Failure> {
    for mib in DIRTY_MIB {
        let plan = Plan::verb("full", &format!("dirty {mib}")).with("[snapshot]\nfolder = \"snapshots\"");
        let full = again("a guest that is written down", || {
            let mut vm = dirtying(&plan)?;
            let full = pause(&mut vm, "full", SnapshotKind::Full)?;
            end(vm)?;
            Ok(full)
        })?;
        figure(&format!("full_{mib}_pause_ns"), full);
        let plan = Plan::verb("pauses", &format!("dirty {mib}"))
            .with("[snapshot]\nfolder = \"snapshots\"\nrebase = true");
        let (difference, bytes) = again("a guest whose difference is written down", || {
            let mut vm = dirtying(&plan)?;
            pause(&mut vm, "base", SnapshotKind::Full)?;
            // What was under way, and then a whole round.
            vm.swallow();
            vm.told("dirtied")?;
            vm.told("dirtied")?;
            let difference = pause(&mut vm, "part", SnapshotKind::Difference)?;
            let bytes = written(&plan.folder().join("snapshots/part/memory"));
            end(vm)?;
            Ok((difference, bytes))
        })?;
        figure(&format!("difference_{mib}_pause_ns"), difference);
        figure(&format!("difference_{mib}_kib"), bytes >> 10);
    }
    Ok(())
}

/// A guest that has begun to write to its memory.
fn dirtying(plan: &Plan) -> Result<Vm, Failure> {
    plan.fresh_folder()?;
    let config = plan.written()?;
    let mut vm = Vm::spawn(plan.folder(), &["run".as_ref(), config.as_os_str()])?;
    vm.told("dirtied")?;
    Ok(vm)
}

fn pause(vm: &mut Vm, name: &str, kind: SnapshotKind) -> Result<u64, Failure> {
    let name = SnapshotName::new(name).ok_or_else(|| Failure::Wrong(format!("`{name}` is no name")))?;
    let mut client = Client::connect(vm.folder())?;
    client.order(Order::Snapshot { name, kind })?;
    let figures = client.figures(Order::Statistics)?;
    figures
        .get("machine.last_pause_ns")
        .copied()
        .ok_or_else(|| vm.failure("the monitor does not tell how long it paused"))
}

/// Bytes that a sparse file has.
fn written(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |data| std::os::unix::fs::MetadataExt::blocks(&data) * 512)
}
