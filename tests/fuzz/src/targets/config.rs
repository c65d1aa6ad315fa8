//! Configuration files: any text, and the project's own examples with something wrong.

use hearth_config::device::DeviceConfig;
use hearth_config::guest::GuestConfig;
use hearth_config::network::NetworkConfig;
use hearth_config::vm::VmConfig;
use hearth_config::workload::WorkloadConfig;
use hearth_config::{Form, Source, Strictness};

use crate::wild::Wild;

/// The commented example of each file, in the order of [`read_toml`].
const TOML: [&str; 5] = [
    include_str!("../../../../config/vm.toml"),
    include_str!("../../../../config/hearth.toml"),
    include_str!("../../../../config/workload.toml"),
    include_str!("../../../../config/network.toml"),
    include_str!("../../../../config/service.toml"),
];
/// A machine as Firecracker's users write it.
const FIRECRACKER: &str = r#"{"boot-source": {"kernel_image_path": "vmlinux", "boot_args": "console=ttyS0"},
"drives": [{"drive_id": "root", "path_on_host": "root.img", "is_root_device": true, "is_read_only": false,
"rate_limiter": {"bandwidth": {"size": 1048576, "one_time_burst": 0, "refill_time": 100}}}],
"machine-config": {"vcpu_count": 2, "mem_size_mib": 256, "smt": false},
"network-interfaces": [{"iface_id": "net0", "guest_mac": "06:00:00:00:00:01", "host_dev_name": "tap0"}],
"vsock": {"guest_cid": 3, "uds_path": "vsock"}, "balloon": {"amount_mib": 0, "deflate_on_oom": true}}"#;
/// A workload as a fleet says it.
const WORKLOAD: &str = r#"{"image": "hello.img", "memory_mib": 64, "vcpus": 1, "restart": "always"}"#;

/// What leads somewhere.
const WORDS: [&str; 40] = [
    "\n",
    "\"",
    "'''",
    "\"\"\"",
    "[",
    "]",
    "[[",
    "]]",
    "{",
    "}",
    "=",
    " = ",
    ",",
    ".",
    "#",
    "\\u0000",
    "\\uD800",
    "\\",
    "-1",
    "0",
    "1e999",
    "0x7fffffffffffffff",
    "18446744073709551616",
    "nan",
    "-inf",
    "1979-05-27T07:32:00Z",
    "true",
    "null",
    "\"\"",
    "[]",
    "{}",
    "[[block]]\n",
    "[machine]\n",
    "memory_mib",
    "vcpus = 255",
    "path = \"/\"",
    "\u{feff}",
    "\u{202e}",
    "ü",
    "\u{0}",
];

/// A text that is an example with some changes, or whatever is left of the input.
fn text(example: &str, wild: &mut Wild<'_>) -> String {
    let mut text = if wild.one_in(4) {
        String::from_utf8_lossy(&wild.bytes(4000)).into_owned()
    } else {
        // Comments are most of an example, and nothing happens in them.
        example
            .lines()
            .filter(|line| !line.starts_with("# ") || wild.one_in(30))
            .map(|line| format!("{line}\n"))
            .collect()
    };
    for _ in 0..wild.index(12) {
        let at = place(&text, wild);
        match wild.byte() % 6 {
            0 => {
                let end = place(&text, wild).clamp(at, (at + 200).min(text.len()));
                let end = (at..=end).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(at);
                text.replace_range(at..end, "");
            }
            1 => {
                let bytes = wild.bytes(12);
                text.insert_str(at, &String::from_utf8_lossy(&bytes));
            }
            2 => {
                let line = text.lines().nth(wild.index(60)).unwrap_or_default().to_owned();
                text.insert_str(at, &format!("\n{}\n", line.trim_start_matches("#")));
            }
            3 => {
                let depth = wild.index(200);
                text.insert_str(at, &wild.pick(&["[", "{a=", "{\"a\":", "a."]).repeat(depth));
            }
            _ => text.insert_str(at, wild.pick(&WORDS)),
        }
    }
    text
}

fn place(text: &str, wild: &mut Wild<'_>) -> usize {
    let at = wild.index(text.len() + 1);
    (0..=at).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

/// A machine that was read can be written down, and is read as the same.
fn check_machine(machine: &VmConfig) {
    let Ok(text) = machine.to_toml() else { return };
    assert_eq!(VmConfig::parse("written.toml", &text).as_ref(), Ok(machine), "{text}");
}

/// Faults are for people: each names the file, and none is empty or of more than one line.
fn check_faults(faults: &hearth_config::Faults) {
    assert!(faults.iter().next().is_some(), "a refusal has a reason");
    for fault in faults.iter() {
        let said = fault.to_string();
        assert!(said.contains("a.toml") && !said.trim_end().contains('\n'), "{said:?}");
    }
}

/// The target `toml`.
pub fn run_toml(data: &[u8]) {
    let mut wild = Wild::new(data);
    let which = wild.index(TOML.len());
    let text = text(TOML[which], &mut wild);
    let faults = match which {
        0 => {
            VmConfig::read(&Source::text("a.toml", text.as_str()).taken_for(Form::Toml), Strictness::Lenient)
                .map(|(machine, _)| check_machine(&machine))
                .err()
        }
        1 => DeviceConfig::parse("a.toml", &text).err(),
        2 => WorkloadConfig::parse("workloads/a.toml", &text)
            .map(|workload| {
                let machine = workload.machine_toml();
                assert!(workload.command_line().len() < 1 << 20 && machine.len() < 1 << 21);
            })
            .err(),
        3 => NetworkConfig::parse("a.toml", &text).err(),
        _ => GuestConfig::parse("a.toml", &text).err(),
    };
    faults.iter().for_each(check_faults);
}

/// The target `json`.
pub fn run_json(data: &[u8]) {
    let mut wild = Wild::new(data);
    let fleet = wild.one_in(3);
    let text = text(if fleet { WORKLOAD } else { FIRECRACKER }, &mut wild);
    let faults = if fleet {
        WorkloadConfig::parse_json("a", "a.toml", &text).err()
    } else {
        let source = Source::text("a.toml", text).taken_for(Form::Json);
        let strictness = if wild.one_in(2) { Strictness::Strict } else { Strictness::Lenient };
        VmConfig::read(&source, strictness).map(|(machine, _)| check_machine(&machine)).err()
    };
    faults.iter().for_each(check_faults);
}

/// Every example as it is.
pub fn toml_seeds() -> Vec<Vec<u8>> {
    let mut seeds = crate::noises(4, 300);
    seeds.extend((0..5).map(|which| vec![which * 51]));
    seeds
}
