//! Every kind of mistake, with the exact line that a person reads.

use std::path::Path;

use hearth_config::Faults;
use hearth_config::device::DeviceConfig;
use hearth_config::guest::GuestConfig;
use hearth_config::vm::VmConfig;
use hearth_config::workload::WorkloadConfig;

const BOOT: &str = "[boot]\nkernel = \"k\"\n";

fn check<T: std::fmt::Debug>(parse: impl Fn(&str) -> Result<T, Faults>, cases: &[(&str, &str)]) {
    for (text, expected) in cases {
        let faults = parse(text).expect_err(text);
        assert_eq!(faults.to_string(), *expected, "for the text\n{text}");
    }
}

#[test]
fn machine_files_are_refused_with_place_key_and_expectation() {
    let with_boot = |text: &str| VmConfig::parse("vm.toml", &format!("{BOOT}{text}"));
    check(
        with_boot,
        &[
            (
                "[machine]\nmemory_mib = 4\n",
                "vm.toml:4:1: machine.memory_mib: expected at least 32 MiB, found 4",
            ),
            (
                "[machine]\n  memory_mib = 65537",
                "vm.toml:4:3: machine.memory_mib: expected at most 65536 MiB, found 65537",
            ),
            (
                "[machine]\nvcpus = \"two\"",
                "vm.toml:4:1: machine.vcpus: expected a whole number from 1 to 16, found the string \"two\"",
            ),
            ("[machine]\nvcpus = -1", "vm.toml:4:1: machine.vcpus: expected at least 1, found -1"),
            (
                "[machine]\nvcpus = 1.5",
                "vm.toml:4:1: machine.vcpus: expected a whole number from 1 to 16, found the number 1.5",
            ),
            (
                "[machine]\nvcpus = 999999999999999999999999999999999999999999",
                "vm.toml:4:1: machine.vcpus: expected at most 16, found 9999999999999999999999999999999999999999…",
            ),
            (
                "[machine]\nmemory = 64",
                "vm.toml:4:1: machine.memory: unknown key, did you mean memory_mib? (known here: vcpus, memory_mib, huge_pages, on_reboot)",
            ),
            (
                "[machine]\ncolour = 1",
                "vm.toml:4:1: machine.colour: unknown key (known here: vcpus, memory_mib, huge_pages, on_reboot)",
            ),
            (
                "[bloot]\n",
                "vm.toml:3:2: bloot: unknown key, did you mean boot? (known here: machine, boot, serial, console, block, net, vsock, rng, balloon, watchdog, control, stop)",
            ),
            ("[serial]\noutput = true", "vm.toml:4:1: serial.output: expected a string, found true"),
            (
                "[serial]\noutput = \"\"",
                "vm.toml:4:1: serial.output: expected \"stdout\", \"null\", \"off\" or a path, found \"\"",
            ),
            (
                "[console]\noutput = \"off\"",
                "vm.toml:4:1: console.output: expected \"stdout\", \"null\" or a path (without [console] there is none), found \"off\"",
            ),
            (
                "[console]\ninput = \"tty\"",
                "vm.toml:4:1: console.input: expected \"null\" or \"stdin\", found \"tty\"",
            ),
            (
                "[serial]\noutput = \"a.log\"\n[console]\noutput = \"a.log\"",
                "vm.toml:6:1: console.output: expected a file of its own, serial.output names the same",
            ),
            (
                "[[block]]\nid = \"a\"",
                "vm.toml:3:1: block[0].path: missing, expected the path of a disk image",
            ),
            (
                "[[block]]\nid = \"a b\"\npath = \"x\"",
                "vm.toml:4:1: block[0].id: expected 1 to 20 letters, digits, - or _, found \"a b\"",
            ),
            (
                "[[block]]\nid = \"a\"\npath = \"x\"\n[[block]]\nid = \"a\"\npath = \"y\"",
                "vm.toml:7:1: block[1].id: expected a name of its own, \"a\" is taken by a device above",
            ),
            (
                "[block]\nid = \"a\"",
                "vm.toml:3:2: block: expected a list of tables, written [[block]], found a table",
            ),
            (
                "[[block]]\nid = \"a\"\npath = \"x\"\nread_only = 1",
                "vm.toml:6:1: block[0].read_only: expected true or false, found the number 1",
            ),
            (
                "[vsock]\nsocket = \"s\"",
                "vm.toml:3:2: vsock.cid: missing, expected the guest's address, 3 or more",
            ),
            ("[vsock]\ncid = 2\nsocket = \"s\"", "vm.toml:4:1: vsock.cid: expected at least 3, found 2"),
            (
                "[vsock]\ncid = 4294967295\nsocket = \"s\"",
                "vm.toml:4:1: vsock.cid: expected at most 4294967294, found 4294967295",
            ),
        ],
    );
}

#[test]
fn a_machine_without_a_kernel_is_told_so_once() {
    let parse = |text: &str| VmConfig::parse("vm.toml", text);
    check(
        parse,
        &[
            ("", "vm.toml:1:1: boot.kernel: missing, expected the path of a kernel image"),
            ("\n[boot]\n", "vm.toml:2:2: boot.kernel: missing, expected the path of a kernel image"),
            ("boot = 3", "vm.toml:1:1: boot: expected a table, found the number 3"),
            ("[boot]\nkernel = \"\"", "vm.toml:2:1: boot.kernel: expected a path, found \"\""),
            (
                "[boot]\nkernel = \"k\"\ncmdline = \"a\\nb\"",
                "vm.toml:3:1: boot.cmdline: expected one line without control characters",
            ),
        ],
    );
}

#[test]
fn limits_of_length_are_kept() {
    let long_line = format!("{BOOT}cmdline = \"{}\"", "x".repeat(1537));
    let long_socket = format!("{BOOT}[vsock]\ncid = 3\nsocket = \"{}\"", "s".repeat(97));
    let many_disks = format!("{BOOT}{}", "[[block]]\n".repeat(17));
    let parse = |text: &str| VmConfig::parse("vm.toml", text);
    check(
        parse,
        &[
            (&long_line, "vm.toml:3:1: boot.cmdline: expected at most 1536 bytes, found 1537"),
            (&long_socket, "vm.toml:5:1: vsock.socket: expected a path of at most 96 bytes, found 97"),
            (&many_disks, "vm.toml:3:3: block: expected at most 16 items, found 17"),
        ],
    );
}

#[test]
fn all_mistakes_of_a_file_are_told_at_once_in_its_order() {
    let text = "[machine]\nvcpus = 99\nmemory_mib = 1\n[boot]\nkernl = \"k\"\n[vsock]\ncid = \"x\"\n";
    check(
        |text| VmConfig::parse("vm.toml", text),
        &[(
            text,
            "vm.toml:2:1: machine.vcpus: expected at most 16, found 99\n\
             vm.toml:3:1: machine.memory_mib: expected at least 32 MiB, found 1\n\
             vm.toml:4:2: boot.kernel: missing, expected the path of a kernel image\n\
             vm.toml:5:1: boot.kernl: unknown key, did you mean kernel? (known here: kernel, initrd, cmdline)\n\
             vm.toml:6:2: vsock.socket: missing, expected the path of a Unix socket\n\
             vm.toml:7:1: vsock.cid: expected a whole number from 3 to 4294967294, found the string \"x\"",
        )],
    );
}

#[test]
fn text_that_is_not_toml_is_told_with_its_place() {
    for text in
        ["[boot", "kernel", "a = ", "a = 1\na = 2", "a = \"x", "\u{0}", "= 1", "[[a]\n", "a = 'x\n'\nb = ]"]
    {
        let faults = VmConfig::parse("vm.toml", text).expect_err(text);
        for fault in &faults {
            let line = fault.to_string();
            assert!(line.starts_with("vm.toml:"), "{line}");
            assert!(fault.position.is_some() && !line.contains('\n'), "{line}");
        }
    }
    check(|text| VmConfig::parse("vm.toml", text), &[("a = 1\na = 2", "vm.toml:2:1: duplicate key")]);
}

#[test]
fn workload_files_are_refused_with_place_key_and_expectation() {
    let base = "kind = \"job\"\nimage = \"i\"\n";
    let with_base = |text: &str| WorkloadConfig::parse("workloads/a.toml", &format!("{base}{text}"));
    check(
        with_base,
        &[
            (
                "after = [\"b\", \"b\"]",
                "workloads/a.toml:3:15: after[1]: expected each workload once, found \"b\" again",
            ),
            ("after = [\"a\"]", "workloads/a.toml:3:10: after[0]: expected another workload, found itself"),
            (
                "after = [\"B\"]",
                "workloads/a.toml:3:10: after[0]: expected a workload's name, 1 to 32 lower-case letters, digits or -, starting with a letter, found \"B\"",
            ),
            (
                "after = \"b\"",
                "workloads/a.toml:3:1: after: expected an array of workload names, found the string \"b\"",
            ),
            (
                "command = []",
                "workloads/a.toml:3:1: command: expected a program and its arguments, found an empty array",
            ),
            (
                "command = [\"x\", 3]",
                "workloads/a.toml:3:17: command[1]: expected a string, found the number 3",
            ),
            (
                "command = [\"x\", \"--\"]",
                "workloads/a.toml:3:17: command[1]: expected no bare --, the kernel would cut the command there; put it into a script in the image",
            ),
            (
                "command = [\"x\", 'say \"hi\"']",
                "workloads/a.toml:3:17: command[1]: expected no double quotes and control characters; put them into a script in the image",
            ),
            (
                "[restart]\npolicy = \"always\"",
                "workloads/a.toml:4:1: restart.policy: expected \"on-failure\" or \"never\" for a job, found \"always\"",
            ),
            (
                "[restart]\npolicy = \"sometimes\"",
                "workloads/a.toml:4:1: restart.policy: expected \"always\", \"on-failure\" or \"never\", found \"sometimes\"",
            ),
            (
                "[resources]\nmemory_mib = 1",
                "workloads/a.toml:4:1: resources.memory_mib: expected at least 32 MiB, found 1",
            ),
            ("resources = 1", "workloads/a.toml:3:1: resources: expected a table, found the number 1"),
        ],
    );
    check(
        |file| WorkloadConfig::parse(file, base),
        &[(
            "Bad Name.toml",
            "Bad Name.toml: expected a file name of 1 to 32 lower-case letters, digits or -, starting with a letter, then .toml",
        )],
    );
    check(
        |text| WorkloadConfig::parse("a.toml", text),
        &[(
            "",
            "a.toml:1:1: kind: missing, expected \"service\" or \"job\"\na.toml:1:1: image: missing, expected the name of a squashfs image",
        )],
    );
    let long = format!("command = [\"x\", \"{}\"]", "y".repeat(1024));
    check(
        with_base,
        &[(
            &long,
            "workloads/a.toml:3:1: command: expected at most 1024 bytes, found 1027; put it into a script in the image",
        )],
    );
}

#[test]
fn guest_and_box_files_are_refused_with_place_key_and_expectation() {
    check(
        |text| GuestConfig::parse("workload.toml", text),
        &[
            (
                "working_dir = \"tmp\"",
                "workload.toml:1:1: working_dir: expected an absolute path, found \"tmp\"",
            ),
            ("env = { A = 1 }", "workload.toml:1:9: env.A: expected a string, found the number 1"),
            (
                "env = { \"A=B\" = \"c\" }",
                "workload.toml:1:1: env: expected names without = and no zero bytes, found \"A=B\"",
            ),
            ("stop_timeout_s = 0", "workload.toml:1:1: stop_timeout_s: expected at least 1 s, found 0"),
            (
                "when_done = \"explode\"",
                "workload.toml:1:1: when_done: expected \"poweroff\", \"reboot\", \"restart\" or \"stay\", found \"explode\"",
            ),
            ("stop_signal = 15", "workload.toml:1:1: stop_signal: expected a string, found the number 15"),
            ("command = [\"\"]", "workload.toml:1:12: command[0]: expected a program, found an empty string"),
        ],
    );
    check(
        |text| DeviceConfig::parse("hearth.toml", text),
        &[
            ("[paths]\nvmm = 1", "hearth.toml:2:1: paths.vmm: expected a string, found the number 1"),
            ("[path]\n", "hearth.toml:1:2: path: unknown key, did you mean paths? (known here: paths, stop)"),
            ("stop.agent_s = 3601", "hearth.toml:1:6: stop.agent_s: expected at most 3600 s, found 3601"),
        ],
    );
}

#[test]
fn files_that_cannot_be_read_are_faults_too() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let shown = |name: &str| at(name).display().to_string();

    let missing = VmConfig::load(&at("none.toml")).unwrap_err().to_string();
    assert_eq!(
        missing,
        format!("{}: cannot be read: No such file or directory (os error 2)", shown("none.toml"))
    );

    std::fs::write(at("latin.toml"), b"[boot]\nkernel = \"\xfc\"").unwrap();
    let latin = VmConfig::load(&at("latin.toml")).unwrap_err().to_string();
    assert_eq!(latin, format!("{}: expected UTF-8 text", shown("latin.toml")));

    std::fs::write(at("big.toml"), vec![b'#'; (1 << 20) + 1]).unwrap();
    let big = VmConfig::load(&at("big.toml")).unwrap_err().to_string();
    assert_eq!(big, format!("{}: expected a configuration file of at most 1024 KiB", shown("big.toml")));

    let a_folder = VmConfig::load(folder.path()).unwrap_err().to_string();
    assert!(a_folder.contains("cannot be read"), "{a_folder}");
    assert!(
        WorkloadConfig::load_all(Path::new("/nonexistent"))
            .unwrap_err()
            .to_string()
            .starts_with("/nonexistent: cannot be read")
    );
}

#[test]
fn the_faults_of_all_workload_files_come_together() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.toml"), "kind = 1\nimage = \"i\"").unwrap();
    std::fs::write(folder.path().join("b.toml"), "kind = \"job\"\nimage = 2").unwrap();
    std::fs::write(folder.path().join("README"), "not a workload").unwrap();
    let faults = WorkloadConfig::load_all(folder.path()).unwrap_err();
    let keys: Vec<_> = faults.iter().map(|fault| fault.key.as_str()).collect();
    assert_eq!(keys, ["kind", "image"]);
}
