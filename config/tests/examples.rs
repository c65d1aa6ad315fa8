//! The example files are the documentation of the options: they parse, and say what they claim.

use std::path::{Path, PathBuf};

use hearth_config::device::DeviceConfig;
use hearth_config::guest::GuestConfig;
use hearth_config::vm::VmConfig;
use hearth_config::workload::{Kind, RestartPolicy, WorkloadConfig};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

#[test]
fn the_box_example_states_the_defaults() {
    let example = DeviceConfig::load(&folder().join("hearth.toml")).unwrap();
    let mut defaults = DeviceConfig::parse("empty", "").unwrap();
    assert_eq!(defaults.paths.workloads, Path::new("workloads"));
    defaults.paths.workloads = folder().join("workloads");
    assert_eq!(example, defaults);
}

#[test]
fn the_demo_workloads_are_a_job_and_two_services_in_order() {
    let workloads = WorkloadConfig::load_all(&folder().join("workloads")).unwrap();
    let facts: Vec<_> =
        workloads.iter().map(|w| (w.name.as_str(), w.kind, w.restart, w.after.len())).collect();
    assert_eq!(
        facts,
        [
            ("clock", Kind::Service, RestartPolicy::Always, 0),
            ("echo", Kind::Service, RestartPolicy::Always, 1),
            ("hello", Kind::Job, RestartPolicy::Never, 0),
        ]
    );
    assert_eq!(workloads[0].image_in(Path::new("/images")), Path::new("/images/demo.squashfs"));
}

#[test]
fn the_machine_example_uses_every_key_and_lies_beside_its_files() {
    let vm = VmConfig::load(&folder().join("vm.toml")).unwrap();
    assert_eq!(vm.boot.kernel, folder().join("vmlinux"));
    assert_eq!(vm.boot.initrd, Some(folder().join("initrd.cpio")));
    assert_eq!(vm.block[0].path, folder().join("demo.squashfs"));
    assert_eq!(vm.vsock.unwrap().socket, folder().join("vsock.sock"));
}

#[test]
fn the_guest_example_states_the_defaults_but_command_and_environment() {
    let guest = GuestConfig::load(&folder().join("workload.toml")).unwrap();
    let expected =
        GuestConfig { command: guest.command.clone(), env: guest.env.clone(), ..GuestConfig::default() };
    assert_eq!(guest, expected);
    assert_eq!(guest.stop_signal.number(), 15);
}

#[test]
fn a_box_file_that_says_nothing_looks_for_workloads_beside_itself() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("hearth.toml");
    std::fs::write(&file, "").unwrap();
    assert_eq!(DeviceConfig::load(&file).unwrap().paths.workloads, folder.path().join("workloads"));
}
