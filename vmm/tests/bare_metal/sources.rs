//! Every way in which the monitor is told what to run.

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tempfile::TempDir;

use super::{SLEEP_CONTROL, SOFT_OFF};
use crate::guest::Guest;

const TOML: &str = "[machine]\nmemory_mib = 32\n[boot]\nkernel = \"guest.elf\"\n";
const JSON: &str = r#"{
  "boot-source": {"kernel_image_path": "guest.elf", "boot_args": "console=ttyS0 reboot=k panic=1"},
  "drives": [
    {"drive_id": "data", "path_on_host": "data.img", "is_root_device": false, "is_read_only": false},
    {"drive_id": "rootfs", "path_on_host": "root.img", "is_root_device": true, "is_read_only": true}
  ],
  "machine-config": {"vcpu_count": 1, "mem_size_mib": 32}
}"#;

/// A program starts and closes a few files in less, on any machine that is not stuck.
const LONG_ENOUGH_MS: u16 = 20_000;

/// A folder with a guest that says "up" and powers off, and two disks.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let guest = Guest::new().print("up\n").out(SLEEP_CONTROL, SOFT_OFF).halt();
    guest.write(&folder.path().join("guest.elf"));
    for disk in ["data.img", "root.img"] {
        fs::write(folder.path().join(disk), [0; 4096]).unwrap();
    }
    folder
}

fn monitor(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hearth-vmm"));
    command.args(arguments).current_dir(folder).stdin(Stdio::null());
    command
}

fn told(ended: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (ended.status.code(), text(&ended.stdout), text(&ended.stderr))
}

fn up() -> (Option<i32>, String, String) {
    (Some(0), "up\n".to_owned(), String::new())
}

/// A file that the next child is started with, at the number that it has here.
fn left_open(path: &Path) -> (File, String) {
    let file = File::open(path).unwrap();
    fcntl(&file, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
    let number = file.as_raw_fd().to_string();
    (file, number)
}

#[test]
fn a_file_for_firecracker_runs_unchanged() {
    need_kvm!();
    let folder = folder();
    fs::write(folder.path().join("vm.json"), JSON).unwrap();
    fs::write(folder.path().join("config"), JSON).unwrap();
    for arguments in [&["run", "vm.json"][..], &["run", "config"], &["run", "--config-file", "config"]] {
        assert_eq!(told(&monitor(folder.path(), arguments).output().unwrap()), up(), "{arguments:?}");
    }
}

#[test]
fn a_descriptor_and_standard_input_carry_either_form_and_paths_start_in_the_working_directory() {
    need_kvm!();
    let folder = folder();
    let elsewhere = tempfile::tempdir().unwrap();
    for text in [TOML, JSON] {
        let path = elsewhere.path().join("config");
        fs::write(&path, text).unwrap();
        let (_open, number) = left_open(&path);
        let by_descriptor = monitor(folder.path(), &["run", "--fd", &number]).output().unwrap();
        assert_eq!(told(&by_descriptor), up(), "{text}");

        let mut command = monitor(folder.path(), &["run", "-"]);
        let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = piped.spawn().unwrap();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        assert_eq!(told(&child.wait_with_output().unwrap()), up(), "{text}");
    }
}

#[test]
fn a_configuration_on_the_standard_input_that_it_wants_for_the_guest_is_told() {
    let folder = folder();
    let check = |text: &str| {
        let mut command = monitor(folder.path(), &["check", "-"]);
        let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = piped.spawn().unwrap();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        told(&child.wait_with_output().unwrap())
    };
    let (status, _, stderr) = check(&format!("{TOML}[console]\ninput = \"stdin\"\n"));
    assert_eq!(status, Some(0));
    assert!(
        stderr.ends_with(
            "console.input: the configuration was all of standard input, nobody types to the guest\n"
        ),
        "{stderr}"
    );
    // Firecracker has it so whether the file says it or not.
    assert_eq!(check(JSON).2, "");
}

#[test]
fn check_tells_all_faults_of_the_configuration_and_its_files_without_kvm() {
    let folder = folder();
    let check = |arguments: &[&str]| told(&monitor(folder.path(), arguments).output().unwrap());
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    write("vm.toml", TOML);
    write("vm.json", JSON);
    assert_eq!(check(&["check", "vm.toml"]), (Some(0), "vm.toml: no faults\n".to_owned(), String::new()));
    assert_eq!(check(&["check", "vm.json"]).0, Some(0));

    fs::remove_file(folder.path().join("guest.elf")).unwrap();
    fs::remove_file(folder.path().join("root.img")).unwrap();
    let faults = "hearth-vmm: vm.json:2:19: boot-source.kernel_image_path: guest.elf: cannot be read: No such file or directory (os error 2)\n\
         hearth-vmm: vm.json:5:28: drives[1].path_on_host: cannot be used as a disk: root.img: cannot be opened: No such file or directory (os error 2)\n";
    assert_eq!(check(&["check", "vm.json"]), (Some(2), String::new(), faults.to_owned()));
    assert_eq!(
        check(&["run", "vm.json"]),
        (Some(2), String::new(), faults.to_owned()),
        "before KVM is opened"
    );

    Guest::new().halt().write(&folder.path().join("guest.elf"));
    write("vm.json", "{\"boot-source\": {\"kernel_image_path\": \"guest.elf\"}, \"mmds-config\": {}}");
    let lacking = "vm.json:1:53: mmds-config: not supported here: there is no metadata service";
    let (status, _, stderr) = check(&["check", "vm.json"]);
    assert_eq!((status, stderr), (Some(2), format!("hearth-vmm: {lacking}\n")));
    let (status, stdout, stderr) = check(&["check", "--lenient", "vm.json"]);
    assert_eq!((status, stdout.as_str()), (Some(0), "vm.json: no faults\n"));
    assert!(stderr.contains(lacking), "{stderr}");
}

#[test]
fn a_descriptor_that_was_not_given_is_told_plainly() {
    let folder = folder();
    for number in ["2", "77", "-1"] {
        let (status, _, stderr) =
            told(&monitor(folder.path(), &["run", &format!("--fd={number}")]).output().unwrap());
        let expected = format!(
            "hearth-vmm: fd:{number}: expected a descriptor, from 3 on, that this process was started with\n"
        );
        assert_eq!((status, stderr), (Some(2), expected));
    }
    let (_open, number) = left_open(folder.path());
    let (status, _, stderr) = told(&monitor(folder.path(), &["run", "--fd", &number]).output().unwrap());
    assert_eq!(
        (status, stderr),
        (Some(2), format!("hearth-vmm: fd:{number}: cannot be read: Is a directory (os error 21)\n"))
    );
}

#[test]
fn a_descriptor_that_nobody_named_is_closed_before_anything_is_read() {
    let folder = folder();
    let (ours, theirs) = std::io::pipe().unwrap();
    fcntl(&theirs, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
    let mut command = monitor(folder.path(), &["check", "-"]);
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = piped.spawn().unwrap();
    drop(theirs);
    // It waits for its configuration now, and the pipe ends: nobody has its other end any more.
    let mut looked_at = [PollFd::new(ours.as_fd(), PollFlags::POLLIN)];
    let ended = poll(&mut looked_at, PollTimeout::from(LONG_ENOUGH_MS)).unwrap();
    let waits = child.try_wait().unwrap().is_none();
    drop(child.stdin.take());
    child.wait().unwrap();
    assert!(ended == 1 && waits);
}
