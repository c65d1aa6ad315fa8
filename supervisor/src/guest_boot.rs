//! The machine that a workload gets.
//!
//! Duty: from a workload and the box's paths to a `VmConfig`. Pure. Not here: writing or starting it.

use std::path::Path;

use hearth_config::device::Paths;
use hearth_config::vm::{
    Balloon, Block, Boot, Console, Control, Identity, Jail, Limit, Rng, Serial, Snapshot, Stop, VmConfig,
    Vsock, Watchdog,
};
use hearth_config::workload::{Check, WorkloadConfig};

use crate::setup::{control_socket, snapshots_folder, vsock_socket};

/// What every guest kernel is told: where to print, to end at once when it panics (the monitor reports it), and
/// where the workload's image is.
const CMDLINE: &str = "console=hvc0 quiet panic=-1 hearth.root=/dev/vda";

/// The guest's vsock address. Every machine has a vsock of its own, so one number serves all.
const GUEST_CID: u32 = 3;

/// The machine of `workload`, with its socket in `folder`; its guest is called `name`, whether it boots or goes on from a
/// snapshot.
pub fn machine_of(workload: &WorkloadConfig, paths: &Paths, folder: &Path, name: &str) -> VmConfig {
    let command = workload.command_line();
    let mut cmdline = format!("{CMDLINE} hostname={name}");
    if let Some(telemetry) = &workload.telemetry {
        cmdline = format!("{cmdline} hearth.mqtt={}", telemetry.port);
    }
    if !command.is_empty() {
        cmdline = format!("{cmdline} -- {command}");
    }
    VmConfig {
        machine: workload.resources,
        boot: Boot { kernel: paths.kernel.clone(), initrd: Some(paths.initrd.clone()), cmdline },
        // The guest's driver takes a page at a time; a serial port would stop it for each byte.
        serial: Serial { output: None, ..Serial::default() },
        console: Some(Console::default()),
        block: vec![Block {
            id: "root".to_owned(),
            path: workload.image_in(&paths.images),
            read_only: true,
            limit: Limit::default(),
        }],
        net: Vec::new(),
        vsock: Some(Vsock { cid: GUEST_CID, socket: vsock_socket(folder) }),
        rng: Some(Rng::default()),
        balloon: workload.balloon.then(Balloon::default),
        watchdog: has_watchdog(workload).then_some(Watchdog),
        control: Some(Control { socket: control_socket(folder) }),
        // The daemon asks the agent itself, and signals the monitor when that did not help.
        stop: Stop { agent_s: 0, button_s: 0 },
        snapshot: Some(Snapshot { folder: snapshots_folder(&paths.state, name), rebase: false }),
        identity: Identity { hostname: Some(name.to_owned()), ..Identity::default() },
        jail: Jail::default(),
    }
}

/// Whether its machines have a watchdog.
pub fn has_watchdog(workload: &WorkloadConfig) -> bool {
    workload.probes.iter().any(|probe| probe.check == Check::Watchdog)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hearth_config::device::DeviceConfig;
    use hearth_config::vm::MAX_CMDLINE_BYTES;
    use hearth_config::workload::{MAX_COMMAND_BYTES, MAX_NAME_BYTES};

    fn machine(text: &str) -> VmConfig {
        let workload =
            WorkloadConfig::parse("hello.toml", &format!("kind = \"job\"\nimage = \"d.squashfs\"\n{text}"))
                .unwrap();
        let device = DeviceConfig::parse("hearth.toml", "").unwrap();
        machine_of(&workload, &device.paths, Path::new("/run/hearth/vm/hello"), "hello.1")
    }

    #[test]
    fn the_command_goes_behind_the_dashes_and_the_image_is_read_only() {
        let vm = machine("command = [\"/bin/hello\", \"two words\"]\nresources.memory_mib = 64");
        assert!(
            vm.boot.cmdline.ends_with("hearth.root=/dev/vda hostname=hello.1 -- /bin/hello \"two words\""),
            "{}",
            vm.boot.cmdline
        );
        assert_eq!(vm.block[0].path, Path::new("/usr/lib/hearth/images/d.squashfs"));
        assert!(vm.block[0].read_only);
        assert_eq!(vm.machine.memory.0, 64);
        assert_eq!(vm.vsock.unwrap().socket, Path::new("/run/hearth/vm/hello/vsock.sock"));
        assert_eq!(vm.snapshot.unwrap().folder, Path::new("/run/hearth/snapshots/hello.1"));
    }

    #[test]
    fn a_guest_is_told_where_its_workload_finds_a_broker() {
        let vm = machine("command = [\"/bin/hello\"]\n[telemetry]\nport = 1884");
        assert_eq!(vm.boot.cmdline, format!("{CMDLINE} hostname=hello.1 hearth.mqtt=1884 -- /bin/hello"));
    }

    #[test]
    fn a_machine_has_the_devices_that_its_workload_asks_for() {
        let plain = machine("");
        assert_eq!((plain.balloon, plain.watchdog), (None, None));
        assert_eq!(plain.control.unwrap().socket, Path::new("/run/hearth/vm/hello/control.sock"));
        let more = machine("resources.balloon = true\n[[probe]]\ncheck = \"watchdog\"");
        assert_eq!((more.balloon, more.watchdog), (Some(Balloon::default()), Some(Watchdog)));
    }

    #[test]
    fn without_a_command_the_image_decides() {
        assert_eq!(machine("").boot.cmdline, format!("{CMDLINE} hostname=hello.1"));
    }

    #[test]
    fn a_guest_is_called_the_same_however_its_machine_was_made() {
        assert_eq!(machine("").identity.hostname.as_deref(), Some("hello.1"));
    }

    #[test]
    fn the_longest_command_still_fits_the_kernel_command_line() {
        // Worst: single bytes that each need two quotes.
        let worst = CMDLINE.len()
            + " hostname=.63 hearth.mqtt=65535 -- ".len()
            + MAX_NAME_BYTES
            + MAX_COMMAND_BYTES
            + 2 * hearth_config::workload::MAX_ARGUMENTS;
        assert!(worst <= MAX_CMDLINE_BYTES, "{worst}");
    }
}
