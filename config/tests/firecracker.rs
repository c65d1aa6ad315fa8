//! Files for Firecracker's `--config-file` are machines here, or say in its words why not.

use std::path::{Path, PathBuf};

use hearth_config::vm::{
    Balloon, Block, Boot, Identity, Input, Jail, Limit, Mac, Machine, Net, OnReboot, Output, Rate, Rng,
    Serial, Stop, VmConfig, Vsock,
};
use hearth_config::{Form, Mebibytes, Source, Strictness};

/// Every field that both monitors have.
const FULL: &str = r#"{
  "boot-source": {
    "kernel_image_path": "vmlinux.bin",
    "boot_args": "console=ttyS0 reboot=k panic=1",
    "initrd_path": "initrd.cpio"
  },
  "drives": [
    {"drive_id": "data", "path_on_host": "data.img", "is_root_device": false, "is_read_only": false,
     "cache_type": "Writeback", "io_engine": "Async", "partuuid": null, "socket": null,
     "rate_limiter": {"bandwidth": {"size": 1048576, "one_time_burst": 4096, "refill_time": 100},
                      "ops": {"size": 10, "refill_time": 1000}}},
    {"drive_id": "rootfs", "path_on_host": "rootfs.ext4", "is_root_device": true, "is_read_only": true,
     "cache_type": "Unsafe", "io_engine": "Sync", "rate_limiter": null}
  ],
  "machine-config": {"vcpu_count": 2, "mem_size_mib": 1024, "smt": false, "track_dirty_pages": false,
                     "cpu_template": "None", "huge_pages": "2M"},
  "cpu-config": null,
  "balloon": {"amount_mib": 64, "deflate_on_oom": true, "stats_polling_interval_s": 5,
              "free_page_hinting": false, "free_page_reporting": true},
  "network-interfaces": [
    {"iface_id": "eth0", "guest_mac": "06:00:c0:a8:00:02", "host_dev_name": "tap0", "mtu": null,
     "rx_rate_limiter": {"bandwidth": {"size": 1000, "refill_time": 3000}},
     "tx_rate_limiter": {"bandwidth": {"size": 0, "refill_time": 0}, "ops": null}}
  ],
  "vsock": {"guest_cid": 3, "uds_path": "./v.sock", "vsock_id": "vsock0"},
  "entropy": {"rate_limiter": {"bandwidth": {"size": 18446744073709551615, "refill_time": 1}}},
  "serial": {"serial_out_path": "serial.log", "rate_limiter": {"size": 1000, "refill_time": 1000}},
  "logger": null, "metrics": null, "mmds-config": null, "memory-hotplug": null, "pmem": []
}"#;

fn parse(text: &str) -> Result<VmConfig, String> {
    VmConfig::parse("vm.json", text).map_err(|faults| faults.to_string())
}

fn rate(per_second: u64, burst: u64, once: u64) -> Option<Rate> {
    Some(Rate { per_second, burst, once })
}

#[test]
fn every_field_that_both_have_arrives() {
    let expected = VmConfig {
        machine: Machine { vcpus: 2, memory: Mebibytes(1024), huge_pages: true, on_reboot: OnReboot::Report },
        boot: Boot {
            kernel: "vmlinux.bin".into(),
            initrd: Some("initrd.cpio".into()),
            cmdline: "console=ttyS0 reboot=k panic=1 root=/dev/vda ro".to_owned(),
        },
        serial: Serial {
            output: Some(Output::File("serial.log".into())),
            input: Input::Null,
            limit: Limit { bytes: rate(1000, 1000, 0), operations: None },
        },
        console: None,
        block: vec![
            Block {
                id: "rootfs".to_owned(),
                path: "rootfs.ext4".into(),
                read_only: true,
                limit: Limit::default(),
            },
            Block {
                id: "data".to_owned(),
                path: "data.img".into(),
                read_only: false,
                limit: Limit { bytes: rate(10_485_760, 1_048_576, 4096), operations: rate(10, 10, 0) },
            },
        ],
        net: vec![Net {
            id: "eth0".to_owned(),
            tap: "tap0".to_owned(),
            mac: Mac::parse("06:00:c0:a8:00:02"),
            // A third of a thousand, rounded down.
            receive: Limit { bytes: rate(333, 1000, 0), operations: None },
            send: Limit::default(),
        }],
        vsock: Some(Vsock { cid: 3, socket: "./v.sock".into() }),
        // More than anything moves.
        rng: Some(Rng { limit: Limit { bytes: rate(1 << 40, 1 << 40, 0), operations: None } }),
        balloon: Some(Balloon { target: Mebibytes(64), deflate_on_oom: true, free_page_reporting: true }),
        watchdog: None,
        control: None,
        stop: Stop::default(),
        snapshot: None,
        identity: Identity::default(),
        jail: Jail::default(),
    };
    assert_eq!(parse(FULL), Ok(expected));
}

#[test]
fn the_serial_port_is_typed_to_unless_it_prints_into_a_file() {
    let input = |serial: &str| {
        let text = format!("{{\"boot-source\":{{\"kernel_image_path\":\"k\"}}{serial}}}");
        parse(&text).unwrap().serial.input
    };
    assert_eq!(input(""), Input::Stdin);
    assert_eq!(input(",\"serial\":{\"rate_limiter\":null}"), Input::Stdin);
    assert_eq!(input(",\"serial\":{\"serial_out_path\":\"s\"}"), Input::Null);
}

#[test]
fn the_kernel_is_told_of_its_root_as_firecracker_does() {
    let cmdline = |boot: &str, drive: &str| {
        let text = format!("{{\"boot-source\":{{\"kernel_image_path\":\"k\"{boot}}},\"drives\":[{drive}]}}");
        parse(&text).unwrap().boot.cmdline
    };
    let drive = |more: &str| format!("{{\"drive_id\":\"r\",\"path_on_host\":\"d\"{more}}}");
    let root = drive(",\"is_root_device\":true,\"is_read_only\":false");
    let by_uuid = drive(",\"is_root_device\":true,\"is_read_only\":true,\"partuuid\":\"0eaa91a0-01\"");
    let not_root = drive(",\"is_root_device\":false,\"partuuid\":\"0eaa91a0-01\"");
    let quiet = ",\"boot_args\":\"quiet\"";
    assert_eq!(cmdline(quiet, &root), "quiet root=/dev/vda rw");
    assert_eq!(cmdline(quiet, &by_uuid), "quiet root=PARTUUID=0eaa91a0-01 ro");
    assert_eq!(cmdline(quiet, &not_root), "quiet");
    assert_eq!(cmdline(",\"boot_args\":\"a -- b -- c\"", &root), "a root=/dev/vda rw -- b -- c");
    assert_eq!(cmdline(",\"boot_args\":\"\"", &root), "root=/dev/vda rw");
    assert_eq!(cmdline(",\"boot_args\":null", &not_root), "panic=1 nomodule 8250.nr_uarts=0 swiotlb=noforce");
}

#[test]
fn what_this_machine_lacks_is_named_and_all_at_once() {
    let text = r#"{
  "boot-source": {"kernel_image_path": "k"},
  "drives": [
    {"drive_id": "r", "path_on_host": "d", "is_root_device": false, "socket": "s", "colour": 1}
  ],
  "machine-config": {"vcpu_count": 1, "mem_size_mib": 128, "smt": true, "track_dirty_pages": true,
    "cpu_template": "T2S",
    "huge_pages": "Transparent"},
  "cpu-config": "template.json",
  "balloon": {"amount_mib": 0, "deflate_on_oom": false, "free_page_hinting": true},
  "network-interfaces": [{"iface_id": "e", "host_dev_name": "tap0", "mtu": 1400}],
  "logger": {"log_path": "fc.log", "level": "Info"},
  "metrics": {"metrics_path": "m"},
  "mmds-config": {"network_interfaces": ["e"]},
  "memory-hotplug": {"total_size_mib": 1024},
  "pmem": [{"id": "p", "path_on_host": "p"}],
  "machine-confg": null
}"#;
    let expected = "\
vm.json:4:69: drives[0].socket: not supported here: a disk is a file or a block device, not vhost-user
vm.json:4:84: drives[0].colour: unknown key (known here: partuuid, is_root_device, is_read_only, cache_type, io_engine, socket, drive_id, path_on_host, rate_limiter)
vm.json:6:60: machine-config.smt: not supported here: every vCPU is a core of its own
vm.json:6:73: machine-config.track_dirty_pages: not supported here: there are no snapshots
vm.json:7:5: machine-config.cpu_template: not supported here: the guest sees the host's processor, there are no templates
vm.json:8:5: machine-config.huge_pages: not supported here: pages are those of the host, or 2M from its pool
vm.json:9:3: cpu-config: not supported here: the guest sees the host's processor, there are no templates
vm.json:10:57: balloon.free_page_hinting: not supported here: pages are reported as they become free (free_page_reporting)
vm.json:11:69: network-interfaces[0].mtu: not supported here: the guest's driver has its own default
vm.json:12:3: logger: not supported here: messages go to standard error, see --log-level
vm.json:13:3: metrics: not supported here: figures are asked for on the control socket
vm.json:14:3: mmds-config: not supported here: there is no metadata service
vm.json:15:3: memory-hotplug: not supported here: memory stays as it is; the balloon takes and gives
vm.json:16:3: pmem: not supported here: there are no pmem devices
vm.json:17:3: machine-confg: unknown key, did you mean machine-config? (known here: machine-config, drives, boot-source, serial, network-interfaces, vsock, entropy, balloon, cpu-config, mmds-config, memory-hotplug, logger, metrics, pmem)";
    assert_eq!(parse(text), Err(expected.to_owned()));

    let source = Source::text("vm.json", text);
    let (vm, warnings) = VmConfig::read(&source, Strictness::Lenient).unwrap();
    let mut warnings: Vec<String> = warnings.iter().map(ToString::to_string).collect();
    let mut lines: Vec<&str> = expected.lines().collect();
    // Warnings come as they are found.
    warnings.sort();
    lines.sort_unstable();
    assert_eq!(warnings, lines);
    assert_eq!((vm.machine.huge_pages, vm.net.len(), vm.block.len()), (false, 1, 1));
}

#[test]
fn lenience_is_for_what_is_lacking_and_not_for_what_is_wrong() {
    let source = Source::text("vm.json", "{\"boot-source\": {\"kernel_image_path\": 3}, \"x\": 1}");
    let faults = VmConfig::read(&source, Strictness::Lenient).unwrap_err().to_string();
    assert_eq!(faults, "vm.json:1:18: boot-source.kernel_image_path: expected a string, found the number 3");
}

#[test]
fn wrong_values_are_refused_with_place_key_and_expectation() {
    let with = |more: &str| format!("{{\"boot-source\": {{\"kernel_image_path\": \"k\"}},\n{more}}}");
    for (more, expected) in [
        (
            "\"machine-config\": {\"vcpu_count\": 32, \"mem_size_mib\": 1.5}",
            "vm.json:2:20: machine-config.vcpu_count: expected at most 16, found 32\n\
             vm.json:2:38: machine-config.mem_size_mib: expected a whole number from 32 to 65536 MiB, found the number 1.5",
        ),
        (
            "\"machine-config\": {\"mem_size_mib\": 33, \"huge_pages\": \"2M\"}",
            "vm.json:2:40: machine-config.huge_pages: expected a memory of a multiple of 2 MiB, found 33",
        ),
        ("\"drives\": {}", "vm.json:2:1: drives: expected an array of objects, found an object"),
        ("\"drives\": [7]", "vm.json:2:12: drives[0]: expected an object, found the number 7"),
        (
            "\"drives\": [{}]",
            "vm.json:2:12: drives[0].is_root_device: missing, expected true or false\n\
             vm.json:2:12: drives[0].drive_id: missing, expected a name for the device\n\
             vm.json:2:12: drives[0].path_on_host: missing, expected the path of a disk image",
        ),
        (
            "\"drives\": [\n{\"drive_id\":\"a\",\"path_on_host\":\"a\",\"is_root_device\":true},\n\
             {\"drive_id\":\"b\",\"path_on_host\":\"b\",\"is_root_device\":true,\"cache_type\":\"Fast\"}]",
            "vm.json:4:36: drives[1].is_root_device: expected one root device, drives[0] is it\n\
             vm.json:4:58: drives[1].cache_type: expected \"Unsafe\" or \"Writeback\", found \"Fast\"",
        ),
        (
            "\"entropy\": {\"rate_limiter\": {\"ops\": {\"size\": 1, \"refill_time\": 60000}}}",
            "vm.json:2:38: entropy.rate_limiter.ops.size: expected at least one in a second, found 1 in 60000 ms",
        ),
        (
            "\"entropy\": {\"rate_limiter\": {\"ops\": {\"size\": -1}}}",
            "vm.json:2:30: entropy.rate_limiter.ops.refill_time: missing, expected a number of milliseconds\n\
             vm.json:2:38: entropy.rate_limiter.ops.size: expected at least 0, found -1",
        ),
        (
            "\"balloon\": {\"amount_mib\": 128, \"deflate_on_oom\": false}",
            "vm.json:2:13: balloon.amount_mib: expected less than the machine's 128 MiB, found 128",
        ),
        ("\"a\": 1,, \"b\": 2", "vm.json:2:8: expected a key in double quotes, found ','"),
    ] {
        assert_eq!(parse(&with(more)), Err(expected.to_owned()), "{more}");
    }
    assert_eq!(
        VmConfig::read(&Source::text("x", "[]").taken_for(Form::Json), Strictness::Strict)
            .unwrap_err()
            .to_string(),
        "x:1:1: expected an object"
    );
    assert_eq!(
        parse("{}"),
        Err("vm.json:1:1: boot-source.kernel_image_path: missing, expected the path of a kernel image"
            .to_owned())
    );
}

#[test]
fn contradictions_are_told_in_the_names_of_the_file() {
    let text = r#"{"boot-source": {"kernel_image_path": "k"}, "drives": [
{"drive_id": "a", "path_on_host": "same", "is_root_device": false, "is_read_only": false},
{"drive_id": "b", "path_on_host": "other", "is_root_device": false},
{"drive_id": "c", "path_on_host": "./same", "is_root_device": true}],
"network-interfaces": [{"iface_id": "x", "host_dev_name": "tap0"},
{"iface_id": "y", "host_dev_name": "tap0"}]}"#;
    assert_eq!(
        parse(text),
        Err("vm.json:2:19: drives[0].path_on_host: expected a file of its own, drives[2].path_on_host names the same\n\
             vm.json:6:19: network-interfaces[1].host_dev_name: expected an interface of its own, \"tap0\" is taken by network-interfaces[0]"
            .to_owned())
    );
}

#[test]
fn a_fault_that_shows_later_has_the_files_own_name_and_place() {
    let source = Source::text("vm.json", FULL);
    for (key, expected) in [
        ("boot.kernel", "vm.json:3:5: boot-source.kernel_image_path: no"),
        // The root drive came first, and stands second in the file.
        ("block[0].path", "vm.json:12:28: drives[1].path_on_host: no"),
        ("block[1].path", "vm.json:8:26: drives[0].path_on_host: no"),
        ("net[0].tap", "vm.json:21:60: network-interfaces[0].host_dev_name: no"),
        ("vsock.socket", "vm.json:25:29: vsock.uds_path: no"),
        ("machine.memory_mib", "vm.json:15:39: machine-config.mem_size_mib: no"),
        ("serial.output", "vm.json:27:14: serial.serial_out_path: no"),
        ("block", "vm.json:7:3: drives: no"),
        // Not in the file, nor in its format.
        ("control.socket", "vm.json: control.socket: no"),
    ] {
        assert_eq!(VmConfig::fault_at(&source, key, "no").to_string(), expected);
    }
}

#[test]
fn the_form_follows_from_the_name_or_the_first_character_and_paths_from_the_form() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let json = "\n {\"boot-source\": {\"kernel_image_path\": \"k\"}}";
    let kernel = |path: &Path| VmConfig::load(path).unwrap().boot.kernel;
    assert_eq!(kernel(&write("vm.json", json)), Path::new("k"));
    assert_eq!(kernel(&write("vm.conf", json)), Path::new("k"));
    assert_eq!(kernel(&write("vm.toml", "boot.kernel = \"k\"")), folder.path().join("k"));

    let toml_by_mistake = write("toml.json", "boot.kernel = \"k\"");
    let faults = VmConfig::load(&toml_by_mistake).unwrap_err().to_string();
    assert!(faults.ends_with("toml.json:1:1: expected a JSON value, found 'b'"), "{faults}");

    let stream = |text: &str| Source::stream("fd:3", text.as_bytes()).unwrap();
    let read = |source: &Source| VmConfig::read(source, Strictness::Strict).unwrap().0.boot.kernel;
    assert_eq!(read(&stream(json)), PathBuf::from("k"));
    assert_eq!(read(&stream("boot.kernel = \"k\"")), PathBuf::from("k"));
    assert_eq!(
        VmConfig::read(&stream("boot.kernel = 3"), Strictness::Strict).unwrap_err().to_string(),
        "fd:3:1:6: boot.kernel: expected a string, found the number 3"
    );
    let endless = std::io::repeat(b'#');
    assert_eq!(
        Source::stream("-", endless).unwrap_err().to_string(),
        "-: expected a configuration file of at most 1024 KiB"
    );
}

#[test]
fn the_kernel_s_line_has_room_for_what_is_added_about_its_root_drive() {
    // The example's is said to be read-only, in 17 bytes.
    let with = |bytes| parse(&FULL.replace("console=ttyS0 reboot=k panic=1", &"a".repeat(bytes)));
    let longest = with(1519).unwrap();
    assert_eq!(longest.boot.cmdline.len(), 1536);
    assert_eq!(VmConfig::parse("vm.toml", &longest.to_toml().unwrap()).unwrap(), longest);
    for bytes in [1520, 1536] {
        let faults = with(bytes).unwrap_err().to_string();
        assert!(faults.contains("boot-source.boot_args: expected at most 1519 bytes, found 15"), "{faults}");
    }
}

#[test]
fn a_machine_of_such_a_file_is_written_down_in_our_form_and_read_as_the_same() {
    // As a snapshot keeps it. With the longest names that there are, such as UUIDs.
    let text = FULL.replace("\"rootfs\"", &format!("\"{}\"", "r".repeat(64)));
    let text = text.replace("\"eth0\"", &format!("\"{}\"", "e".repeat(64)));
    // And into files that are called as words of ours.
    for name in ["serial.log", "stdout", "null", "off"] {
        let machine = parse(&text.replace("serial.log", name)).unwrap();
        assert!(matches!(&machine.serial.output, Some(Output::File(_))), "{name}");
        let written = machine.to_toml().unwrap();
        assert_eq!(VmConfig::parse("vm.toml", &written).unwrap(), machine, "{written}");
    }
}
