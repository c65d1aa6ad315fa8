//! A machine that goes on where another one was.
//!
//! Duty: hold what a snapshot needs against what the configuration gives, and the order in which the parts of a new
//! machine become what those of the other one were. Not its duty: files (`crate::snapshot`), what a part checks.
//!
//! Order: vCPUs, then interrupt controllers, which hand them what is pending, then the clock of the guest; devices
//! last, as they tell again what their drivers have not acknowledged. Then the guest is told that it is another one.
//!
//! Invariant: what the configuration says is the host's side, and nothing of that is in a snapshot: sockets, images,
//! interfaces, addresses, limits. What a driver has seen must be the same: which devices there are, in which order,
//! and how large.

use kvm_ioctls::{Kvm, VcpuFd, VmFd};

use super::board::Board;
use super::snapshots::disks;
use super::{MachineError, host};
use crate::arch::{self, Chipset};
use crate::devices::generation::{Generation, GenerationId};
use crate::snapshot::state::{About, DiskState, MachineState};
use crate::snapshot::{Opened, Refusal};
use hearth_config::vm::VmConfig;

/// Refuses a snapshot that is of another machine than the configuration describes, before anything is made.
pub(super) fn compare(opened: &Opened, config: &VmConfig) -> Result<(), MachineError> {
    let About { base, vcpus, memory_bytes, .. } = &opened.state.about;
    let refuse = |why: String| Err(Refusal::of_state(&opened.folder, why).into());
    if let Some(base) = base {
        return refuse(format!("is a difference to {base}, expected a full snapshot: see snapshot merge"));
    }
    if *vcpus != config.machine.vcpus {
        return refuse(format!("has {vcpus} vCPUs, machine.vcpus is {}", config.machine.vcpus));
    }
    if *memory_bytes != config.machine.memory.bytes() {
        let (mib, wanted) = (memory_bytes >> 20, config.machine.memory.0);
        return refuse(format!("has {mib} MiB of memory, machine.memory_mib is {wanted}"));
    }
    if config.machine.huge_pages {
        return refuse("cannot be restored into huge pages, machine.huge_pages is true".into());
    }
    Ok(())
}

/// Makes processors and interrupt controllers what they were.
pub(super) fn processors(
    opened: &Opened,
    kvm: &Kvm,
    vm: &VmFd,
    vcpus: &[VcpuFd],
    chipset: &Chipset,
) -> Result<(), MachineError> {
    let MachineState { vcpus: saved, chipset: shared, .. } = &opened.state;
    let refused = |error: arch::SavedError| MachineError::Snapshot(opened.refuse(&error));
    for (vcpu, state) in vcpus.iter().zip(saved) {
        arch::restore_vcpu(kvm, vm, vcpu, state, shared).map_err(refused)?;
    }
    chipset.restore(vm, vcpus, shared).map_err(refused)?;
    vcpus.iter().for_each(arch::after_pause);
    Ok(())
}

/// Makes every part of the board what it was, and tells the guest that it goes on as another machine.
pub(super) fn parts(
    opened: &Opened,
    config: &VmConfig,
    board: &Board<'_>,
    generation_id: &GenerationId,
) -> Result<(), MachineError> {
    let refuse = |why: String| MachineError::Snapshot(Refusal::of_state(&opened.folder, why));
    same_disks(&opened.state.about.disks, &disks(config, &board.disks).map_err(|e| refuse(e.to_string()))?)
        .map_err(refuse)?;
    let saved = &opened.state.parts;
    for index in 0..saved.len().max(board.parts.len()) {
        match (saved.get(index), board.parts.get(index)) {
            (Some((name, state)), Some(part)) if name == part.name() => {
                part.restore(state).map_err(|unfit| refuse(format!("{name}: {unfit}")))?;
            }
            (Some((name, _)), None) => {
                return Err(refuse(format!("has `{name}`, which the configuration does not have")));
            }
            (None, Some(part)) => {
                return Err(refuse(format!("lacks `{}`, which the configuration has", part.name())));
            }
            (Some((name, _)), Some(part)) => {
                let here = part.name();
                return Err(refuse(format!("has `{name}` where the configuration has `{here}`")));
            }
            (None, None) => {}
        }
    }
    Generation::draw()
        .and_then(|generation| generation_id.change(generation))
        .map_err(host("give the guest a generation ID"))
}

fn same_disks(saved: &[DiskState], here: &[DiskState]) -> Result<(), String> {
    if saved.len() != here.len() {
        return Err(format!("has {} disks, the configuration {}", saved.len(), here.len()));
    }
    for (saved, here) in saved.iter().zip(here) {
        let id = &saved.id;
        if *id != here.id {
            return Err(format!("has disk `{id}` where the configuration has `{}`", here.id));
        }
        if saved.bytes != here.bytes {
            return Err(format!("disk `{id}` has {} bytes, the image {}", saved.bytes, here.bytes));
        }
        if saved.read_only != here.read_only {
            let said = |read_only| if read_only { "read-only" } else { "writable" };
            let (there, here) = (said(saved.read_only), said(here.read_only));
            return Err(format!("disk `{id}` is {there}, and {here} in the configuration"));
        }
        if saved.sum != here.sum {
            return Err(format!("disk `{id}`: the image is another one, or was written since"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_disk_is_refused_by_what_tells_it_apart() {
        let disk = || DiskState { id: "root".into(), bytes: 4096, read_only: true, sum: 7 };
        assert!(same_disks(&[disk()], &[disk()]).is_ok());
        for (here, why) in [
            (vec![], "has 1 disks, the configuration 0"),
            (
                vec![DiskState { id: "data".into(), ..disk() }],
                "has disk `root` where the configuration has `data`",
            ),
            (vec![DiskState { bytes: 8192, ..disk() }], "disk `root` has 4096 bytes, the image 8192"),
            (
                vec![DiskState { read_only: false, ..disk() }],
                "disk `root` is read-only, and writable in the configuration",
            ),
            (
                vec![DiskState { sum: 8, ..disk() }],
                "disk `root`: the image is another one, or was written since",
            ),
        ] {
            assert_eq!(same_disks(&[disk()], &here).unwrap_err(), why);
        }
    }
}
