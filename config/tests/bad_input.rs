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
                "vm.toml:3:2: bloot: unknown key, did you mean boot? (known here: machine, boot, serial, console, block, net, vsock, rng, balloon, watchdog, control, stop, snapshot, identity, jail)",
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
                "[serial]\noutput = \"a.log\"\n[console]\noutput = \"./a.log.1\"",
                "vm.toml:4:1: serial.output: expected a file of its own, when full it takes the place of console.output: a.log.1",
            ),
            (
                "[serial]\noutput = \"disk\"\n[[block]]\nid = \"a\"\npath = \"disk.1\"\nread_only = true",
                "vm.toml:4:1: serial.output: expected a file of its own, when full it takes the place of block[0].path: disk.1",
            ),
            (
                "[[block]]\nid = \"a\"",
                "vm.toml:3:1: block[0].path: missing, expected the path of a disk image",
            ),
            (
                "[[block]]\nid = \"a b\"\npath = \"x\"",
                "vm.toml:4:1: block[0].id: expected 1 to 64 letters, digits, - or _, found \"a b\"",
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
fn every_device_has_its_limits() {
    let with_boot = |text: &str| VmConfig::parse("vm.toml", &format!("{BOOT}{text}"));
    let long_control = format!("[control]\nsocket = \"{}\"", "c".repeat(108));
    let card = |more: &str| format!("[[net]]\nid = \"a\"\ntap = \"tap0\"\n{more}");
    let many_cards = "[[net]]\n".repeat(9);
    check(
        with_boot,
        &[
            (
                "[machine]\nhuge_pages = 1",
                "vm.toml:4:1: machine.huge_pages: expected true or false, found the number 1",
            ),
            (
                "[machine]\non_reboot = \"again\"",
                "vm.toml:4:1: machine.on_reboot: expected \"report\" or \"restart\", found \"again\"",
            ),
            (
                "[serial]\nlimit = { bytes_burst = 1 }",
                "vm.toml:4:11: serial.limit.bytes_burst: expected bytes_per_second beside it",
            ),
            (
                "[console]\nlimit = { operations_burst = 1, operations_once = 2 }",
                "vm.toml:4:11: console.limit.operations_burst: expected operations_per_second beside it\n\
                 vm.toml:4:33: console.limit.operations_once: expected operations_per_second beside it",
            ),
            (
                "[rng]\nlimit = { bytes_per_second = 0 }",
                "vm.toml:4:11: rng.limit.bytes_per_second: expected at least 1, found 0",
            ),
            (
                "[rng]\nlimit = { bytes_per_second = 1099511627777, bytes_burst = \"x\" }",
                "vm.toml:4:11: rng.limit.bytes_per_second: expected at most 1099511627776, found 1099511627777\n\
                 vm.toml:4:45: rng.limit.bytes_burst: expected a whole number from 1 to 1099511627776, found the string \"x\"",
            ),
            (
                "[rng]\nlimit = { bytes = 1 }",
                "vm.toml:4:11: rng.limit.bytes: unknown key, did you mean bytes_once? (known here: bytes_per_second, bytes_burst, bytes_once, operations_per_second, operations_burst, operations_once)",
            ),
            ("[rng]\nlimit = 5", "vm.toml:4:1: rng.limit: expected a table, found the number 5"),
            (
                "[[net]]\n",
                "vm.toml:3:1: net[0].id: missing, expected a name for the device\n\
                 vm.toml:3:1: net[0].tap: missing, expected the name of a TAP interface of the host",
            ),
            (&many_cards, "vm.toml:3:3: net: expected at most 8 items, found 9"),
            (
                "[[net]]\nid = \"a\"\ntap = \"a/b\"",
                "vm.toml:5:1: net[0].tap: expected the name of an interface, 1 to 15 bytes without / and blanks, found \"a/b\"",
            ),
            (
                &card("mac = \"01:00:00:00:00:00\""),
                "vm.toml:6:1: net[0].mac: expected the address of one station, like \"06:00:0a:00:00:02\", found \"01:00:00:00:00:00\"",
            ),
            (
                &card("recieve = {}"),
                "vm.toml:6:1: net[0].recieve: unknown key, did you mean receive? (known here: id, tap, mac, receive, send)",
            ),
            (
                "[balloon]\ntarget_mib = -1",
                "vm.toml:4:1: balloon.target_mib: expected at least 0 MiB, found -1",
            ),
            (
                "[balloon]\ndeflate_on_oom = \"yes\"\nfree_page_reporting = 0",
                "vm.toml:4:1: balloon.deflate_on_oom: expected true or false, found the string \"yes\"\n\
                 vm.toml:5:1: balloon.free_page_reporting: expected true or false, found the number 0",
            ),
            ("[watchdog]\ntimeout = 3", "vm.toml:4:1: watchdog.timeout: unknown key (this table has none)"),
            (
                "watchdog = true",
                "vm.toml:3:1: boot.watchdog: unknown key (known here: kernel, initrd, cmdline)",
            ),
            ("[control]\n", "vm.toml:3:2: control.socket: missing, expected the path of a Unix socket"),
            (&long_control, "vm.toml:4:1: control.socket: expected a path of at most 107 bytes, found 108"),
            ("[stop]\nagent_s = 3601", "vm.toml:4:1: stop.agent_s: expected at most 3600 s, found 3601"),
            (
                "[stop]\nbutton_s = 1.5",
                "vm.toml:4:1: stop.button_s: expected a whole number from 0 to 3600 s, found the number 1.5",
            ),
        ],
    );
}

#[test]
fn values_that_cannot_stand_beside_each_other_are_told_before_anything_is_opened() {
    let with_boot = |text: &str| VmConfig::parse("vm.toml", &format!("{BOOT}{text}"));
    let card =
        |n: u8, tap: &str, mac: &str| format!("[[net]]\nid = \"{n}\"\ntap = \"{tap}\"\nmac = \"{mac}\"\n");
    let (a, b) = ("06:00:00:00:00:01", "06:00:00:00:00:02");
    let disk = |n: u8, path: &str, read_only: bool| {
        format!("[[block]]\nid = \"{n}\"\npath = \"{path}\"\nread_only = {read_only}\n")
    };
    let both = |control: &str| {
        format!("[vsock]\ncid = 3\nsocket = \"run/v.sock\"\n[control]\nsocket = \"{control}\"\n")
    };
    check(
        with_boot,
        &[
            (
                "[balloon]\ntarget_mib = 128",
                "vm.toml:4:1: balloon.target_mib: expected less than the machine's 128 MiB, found 128",
            ),
            (
                "[machine]\nmemory_mib = 33\nhuge_pages = true",
                "vm.toml:5:1: machine.huge_pages: expected a memory of a multiple of 2 MiB, found 33",
            ),
            (
                &(card(1, "tap0", a) + &card(2, "tap0", a)),
                "vm.toml:9:1: net[1].tap: expected an interface of its own, \"tap0\" is taken by net[0]\n\
                 vm.toml:10:1: net[1].mac: expected an address of its own, net[0] has the same",
            ),
            (
                &(disk(1, "d", true) + &disk(2, "d", true) + &disk(3, "./d", false)),
                "vm.toml:13:1: block[2].path: expected a file of its own, block[0].path names the same",
            ),
            (
                &disk(1, "k", false),
                "vm.toml:5:1: block[0].path: expected a file of its own, boot.kernel names the same",
            ),
            (
                &(disk(1, "d", true) + "[serial]\noutput = \"d\""),
                "vm.toml:8:1: serial.output: expected a file of its own, block[0].path names the same",
            ),
            (
                &both("run//v.sock"),
                "vm.toml:7:1: control.socket: expected a file of its own, vsock.socket names the same",
            ),
            (
                &both("run/v.sock_1024"),
                "vm.toml:7:1: control.socket: expected a path that no guest reaches, a port of the host on vsock has this one",
            ),
            (
                "[serial]\noutput = \"off\"\ninput = \"stdin\"",
                "vm.toml:5:1: serial.input: expected a port to type to, \"off\" leaves it out of the machine",
            ),
            (
                "[serial]\ninput = \"stdin\"\n[console]\ninput = \"stdin\"",
                "vm.toml:6:1: console.input: expected \"null\", serial.input has standard input for itself",
            ),
            // What is at fault itself contradicts nothing.
            (
                "[machine]\nmemory_mib = 64000000\n[balloon]\ntarget_mib = 65536",
                "vm.toml:4:1: machine.memory_mib: expected at most 65536 MiB, found 64000000",
            ),
            (
                "[[block]]\nid = \"a\"\n[[block]]\nid = \"b\"",
                "vm.toml:3:1: block[0].path: missing, expected the path of a disk image\n\
                 vm.toml:5:1: block[1].path: missing, expected the path of a disk image",
            ),
        ],
    );
    for good in [
        card(1, "tap0", a) + &card(2, "tap1", b),
        disk(1, "d", true) + &disk(2, "d", true),
        both("run/v.sock_x") + "[serial]\noutput = \"stdout\"\n[console]\noutput = \"stdout\"\n",
        both("v.sock_1024"),
        "[balloon]\ntarget_mib = 127\n".to_owned(),
        "[serial]\ninput = \"stdin\"\n[console]\ninput = \"null\"\n".to_owned(),
        "[serial]\noutput = \"off\"\n[console]\ninput = \"stdin\"\n".to_owned(),
    ] {
        assert_eq!(with_boot(&good).map_err(|faults| faults.to_string()).err(), None, "{good}");
    }
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
            "a.toml:1:1: kind: missing, expected \"service\", \"job\" or \"function\"\na.toml:1:1: image: missing, expected the name of a squashfs image",
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
fn what_a_workload_wants_of_its_care_is_refused_with_place_key_and_expectation() {
    let service = |text: &str| {
        WorkloadConfig::parse("workloads/a.toml", &format!("kind = \"service\"\nimage = \"i\"\n{text}"))
    };
    check(
        service,
        &[
            ("replicas = 65", "workloads/a.toml:3:1: replicas: expected at most 64, found 65"),
            (
                "idle_s = 5",
                "workloads/a.toml:3:1: idle_s: expected only for a function, which alone ends when nobody wants it",
            ),
            (
                "after = [\"b\"]\nrequires = [\"c\", \"b\"]",
                "workloads/a.toml:4:18: requires[1]: expected each workload once, found \"b\" in after, too",
            ),
            (
                "restart.retries = 1",
                "workloads/a.toml:3:9: restart.retries: expected only for a job, the others are tried as often as their budget lets them",
            ),
            ("restart.budget = 0", "workloads/a.toml:3:9: restart.budget: expected at least 1, found 0"),
            (
                "restart.in_gest = true",
                "workloads/a.toml:3:9: restart.in_gest: unknown key, did you mean in_guest? (known here: policy, retries, in_guest, budget, window_s)",
            ),
            ("scale.most = 65", "workloads/a.toml:3:7: scale.most: expected at most 64, found 65"),
            (
                "scale = { least = 3, most = 2 }",
                "workloads/a.toml:3:22: scale.most: expected at least the 3 of scale.least, found 2",
            ),
            ("scale.least = 1", "workloads/a.toml:3:1: scale.most: missing, expected a number of replicas"),
            (
                "balloon.least_mib = 64",
                "workloads/a.toml:3:9: balloon.least_mib: expected resources.balloon = true beside it, without a balloon nothing is taken",
            ),
            (
                "resources.balloon = true\nballoon.least_mib = 512",
                "workloads/a.toml:4:9: balloon.least_mib: expected at most the 128 of resources.memory_mib, found 512",
            ),
            (
                "keep_warm.most = 1",
                "workloads/a.toml:3:11: keep_warm.most: expected only for a function, which alone waits for calls",
            ),
            (
                "heal.automatic = [\"reboot\"]",
                "workloads/a.toml:3:19: heal.automatic[0]: expected \"restart-in-guest\", \"restore\", \"cold-start\" or \"roll-back\", found \"reboot\"",
            ),
            (
                "heal.automatic = [\"restore\", \"restore\"]",
                "workloads/a.toml:3:30: heal.automatic[1]: expected each means once",
            ),
            (
                "heal.automatic = \"restore\"",
                "workloads/a.toml:3:6: heal.automatic: expected an array of means, such as [\"restore\"], found the string \"restore\"",
            ),
            (
                "heal.order = \"cheapest\"",
                "workloads/a.toml:3:6: heal.order: expected \"learnt\", \"cost\" or \"strength\", found \"cheapest\"",
            ),
            (
                "rollout.canary_percent = 0",
                "workloads/a.toml:3:9: rollout.canary_percent: expected at least 1 %, found 0",
            ),
            (
                "remote.exec = \"anybody\"",
                "workloads/a.toml:3:8: remote.exec: expected \"nobody\", \"operate\" or \"release\", found \"anybody\"",
            ),
            (
                "rollout.error_margin_milli = 1001",
                "workloads/a.toml:3:9: rollout.error_margin_milli: expected at most 1000 thousandths, found 1001",
            ),
            ("ceiling.vcpus = 0", "workloads/a.toml:3:9: ceiling.vcpus: expected at least 1, found 0"),
            (
                "resources.balloon = 1",
                "workloads/a.toml:3:11: resources.balloon: expected true or false, found the number 1",
            ),
            (
                "log_kib_per_minute = 983041",
                "workloads/a.toml:3:1: log_kib_per_minute: expected at most 983040 KiB, found 983041",
            ),
            (
                "telemetry.topics = [\"a/#\", \"a/#/b\"]",
                "workloads/a.toml:3:28: telemetry.topics[1]: expected a filter of topics such as \"temperature/#\", found \"a/#/b\"",
            ),
            (
                "telemetry = { max_bytes = 2000, kib_per_min = 1 }",
                "workloads/a.toml:3:15: telemetry.max_bytes: expected at most 1 KiB, which is all of its kib_per_min",
            ),
            (
                "telemetry.payload = \"xml\"",
                "workloads/a.toml:3:11: telemetry.payload: expected \"any\" or \"json\", found \"xml\"",
            ),
            (
                "telemetry.messages_per_min = 0",
                "workloads/a.toml:3:11: telemetry.messages_per_min: expected at least 1, found 0",
            ),
        ],
    );
    check(
        |text| WorkloadConfig::parse("a.toml", &format!("kind = \"job\"\nimage = \"i\"\n{text}")),
        &[
            (
                "replicas = 2",
                "a.toml:3:1: replicas: expected only for a service or a function, a job runs once",
            ),
            (
                "snapshot.warm = true",
                "a.toml:3:10: snapshot.warm: expected only for a service or a function, a job begins at its beginning",
            ),
            (
                "restart.in_guest = true",
                "a.toml:3:9: restart.in_guest: expected only for a service or a function, a job is tried again in a new machine",
            ),
        ],
    );
}

#[test]
fn probes_are_refused_with_place_key_and_expectation() {
    let probe = |text: &str| {
        let text = format!("kind = \"service\"\nimage = \"i\"\n[[probe]]\n{text}");
        WorkloadConfig::parse("a.toml", &text)
    };
    let many = "check = \"pvpanic\"\n[[probe]]\n".repeat(17);
    let long = format!("check = \"exec\"\nrole = \"liveness\"\ncommand = [\"{}\"]", "x".repeat(512));
    check(
        probe,
        &[
            (
                "",
                "a.toml:3:1: probe[0].check: missing, expected how it is asked, such as \"tcp\"\na.toml:3:1: probe[0].role: missing, expected \"startup\", \"liveness\" or \"readiness\"",
            ),
            (
                "check = \"ping\"\nrole = \"liveness\"",
                "a.toml:4:1: probe[0].check: expected \"heartbeat\", \"exec\", \"tcp\", \"http\", \"vcpu-progress\", \"watchdog\" or \"pvpanic\", found \"ping\"",
            ),
            (
                "check = \"tcp\"\nrole = \"liveness\"",
                "a.toml:3:1: probe[0].port: missing, expected the port in the guest",
            ),
            (
                "check = \"exec\"\nrole = \"startup\"\nport = 1",
                "a.toml:3:1: probe[0].command: missing, expected a program and its arguments\na.toml:6:1: probe[0].port: expected only for a check by tcp or http",
            ),
            (
                "check = \"tcp\"\nrole = \"startup\"\nport = 65536\npath = \"/\"",
                "a.toml:6:1: probe[0].port: expected at most 65535, found 65536\na.toml:7:1: probe[0].path: expected only for a check by http",
            ),
            (
                "check = \"http\"\nrole = \"startup\"\nport = 1\npath = \"/a b\"",
                "a.toml:7:1: probe[0].path: expected / and up to 256 bytes without spaces, found \"/a b\"",
            ),
            (
                "check = \"watchdog\"\nrole = \"readiness\"\ntimeout_ms = 1",
                "a.toml:5:1: probe[0].role: expected \"liveness\" for a probe that nobody asks\na.toml:6:1: probe[0].timeout_ms: expected only for a probe that is asked, this one speaks by itself",
            ),
            (
                "check = \"heartbeat\"\n[[probe]]\ncheck = \"heartbeat\"",
                "a.toml:6:1: probe[1].check: expected one heartbeat, found a second one",
            ),
            (
                "check = \"vcpu-progress\"\nrole = \"liveness\"\nperiod_ms = 99",
                "a.toml:6:1: probe[0].period_ms: expected at least 100 ms, found 99",
            ),
            (&many, "a.toml:3:3: probe: expected at most 16 items, found 18"),
            (
                &long,
                "a.toml:6:1: probe[0].command: expected at most 512 bytes, found 513; put it into a script in the image",
            ),
        ],
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
            (
                "[path]\n",
                "hearth.toml:1:2: path: unknown key, did you mean paths? (known here: paths, stop, capacity, safe_mode, watchdog, pressure, predict, weights, maintenance, store, logs, fleet, log, api)",
            ),
            (
                "capacity.memory_mib = 31",
                "hearth.toml:1:10: capacity.memory_mib: expected at least 32 MiB, found 31",
            ),
            (
                "capacity.cpu_percent = 1001",
                "hearth.toml:1:10: capacity.cpu_percent: expected at most 1000 %, found 1001",
            ),
            (
                "safe_mode.failed_boots = 0",
                "hearth.toml:1:11: safe_mode.failed_boots: expected at least 1, found 0",
            ),
            (
                "pressure.memory_full_percent = 10",
                "hearth.toml:1:10: pressure.memory_full_percent: expected a value below that of memory_short_percent, 10",
            ),
            (
                "pressure.disk_short_percent = 2",
                "hearth.toml:1:10: pressure.disk_short_percent: expected a value above that of disk_full_percent, 3",
            ),
            (
                "watchdog.timeout_s = 4",
                "hearth.toml:1:10: watchdog.timeout_s: expected at least 5 s, found 4",
            ),
            (
                "watchdog = { timeout_s = 20, pretimeout_s = 20 }",
                "hearth.toml:1:30: watchdog.pretimeout_s: expected less than the 20 s of watchdog.timeout_s, found 20",
            ),
            (
                "api.tcp = \"0.0.0.0:9180\"",
                "hearth.toml:1:5: api.tcp: expected a loopback address and a port, such as 127.0.0.1:9180, found \"0.0.0.0:9180\"",
            ),
            (
                "api.tcp = \"127.0.0.1:0\"",
                "hearth.toml:1:5: api.tcp: expected a loopback address and a port, such as 127.0.0.1:9180, found \"127.0.0.1:0\"",
            ),
            (
                "log.format = \"xml\"",
                "hearth.toml:1:5: log.format: expected \"human\" or \"json\", found \"xml\"",
            ),
            ("watchdog.device = ''", "hearth.toml:1:10: watchdog.device: expected a path, found \"\""),
            ("stop.agent_s = 3601", "hearth.toml:1:6: stop.agent_s: expected at most 3600 s, found 3601"),
        ],
    );
}

#[test]
fn what_a_box_says_of_its_fleet_is_refused_before_anybody_is_spoken_to() {
    const SERVER: &str = "expected \"mqtts://HOST:PORT\", \"mqtt://HOST:PORT\" or \"unix:/PATH\"";
    const NAME: &str = "expected a name of 1 to 96 bytes without + / # or control characters";
    let server = |text: &str| {
        (format!("servers = [\"{text}\"]"), format!("1:12: fleet.servers[0]: {SERVER}, found \"{text}\""))
    };
    let with = |line: &str, told: &str| (format!("servers = [\"mqtt://a\"]\n{line}"), told.to_owned());
    let of_key = |line: &str, told: &str| with(line, &format!("3:{told}"));
    let mut cases: Vec<(String, String)> = [
        "a",
        "http://a",
        "mqtt://",
        "mqtt://a:0",
        "mqtt://a:b",
        "mqtt://::1",
        "mqtt://[::1]x",
        "mqtts://[::1]",
        "mqtt://a/b",
        "unix:a",
    ]
    .map(|text| {
        let (line, told) = server(text);
        (line, format!("2{}", &told[1..]))
    })
    .to_vec();
    cases.extend([
        (
            String::new(),
            "1:2: fleet.servers: missing, expected a list of brokers such as \"mqtts://broker.example\""
                .to_owned(),
        ),
        ("servers = []".to_owned(), "2:1: fleet.servers: expected at least one broker".to_owned()),
        (
            "servers = [\"mqtts://a\"]".to_owned(),
            "1:2: fleet.ca: missing, expected a file with the authorities of servers with TLS".to_owned(),
        ),
        of_key("group = \"a/b\"", &format!("1: fleet.group: {NAME}, found \"a/b\"")),
        of_key("node = \"\"", &format!("1: fleet.node: {NAME}, found \"\"")),
        of_key("key = \"k\"", "1: fleet.key: expected certificate beside it"),
        of_key("certificate = \"k\"", "1: fleet.certificate: expected key beside it"),
        of_key("password_file = \"k\"", "1: fleet.password_file: expected username beside it"),
        of_key("keep_alive_s = 4", "1: fleet.keep_alive_s: expected at least 5 s, found 4"),
        of_key("outbox.mib = 0", "8: fleet.outbox.mib: expected at least 1 MiB, found 0"),
        of_key(
            "trust.operate = [\"RWx\"]",
            "18: fleet.trust.operate[0]: expected a public key of minisign, \"RW...\", found \"RWx\"",
        ),
    ]);
    for (line, told) in cases {
        let text = format!("[fleet]\n{line}\n");
        let faults = DeviceConfig::parse("hearth.toml", &text).unwrap_err().to_string();
        assert_eq!(faults, format!("hearth.toml:{told}"), "{text}");
    }
    let good = "[fleet]\nservers = [\"mqtts://b.example:1\", \"mqtt://[::1]:7\", \"unix:/a\"]\nca = \"ca\"\n";
    assert!(DeviceConfig::parse("hearth.toml", good).is_ok());
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
