//! The example files are the documentation of the options: they parse, and say what they claim.

use std::path::{Path, PathBuf};

use hearth_config::Faults;
use hearth_config::device::{DeviceConfig, Watchdog};
use hearth_config::guest::GuestConfig;
use hearth_config::network::{Method, NetworkConfig};
use hearth_config::vm::VmConfig;
use hearth_config::workload::{
    Check, Class, Kind, Payload, Probe, Remote, RestartPolicy, Role, Signers, Telemetry, WorkloadConfig,
};

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

/// With the settings that are only shown: a comment has a space behind its sign.
fn with_all_settings(file: &str) -> String {
    let text = std::fs::read_to_string(folder().join(file)).expect("an example");
    let line = |line: &str| {
        let setting = line.strip_prefix('#').filter(|rest| !rest.is_empty() && !rest.starts_with(' '));
        format!("{}\n", setting.unwrap_or(line))
    };
    text.lines().map(line).collect()
}

#[test]
fn the_box_example_shows_every_key_and_what_it_shows_is_good() {
    let text = with_all_settings("hearth.toml");
    let device = DeviceConfig::parse("hearth.toml", &text).unwrap();
    let shortest = DeviceConfig::parse("hearth.toml", "[watchdog]\n").unwrap().watchdog.unwrap();
    assert_eq!(shortest, Watchdog { reboot: false, pretimeout: None, ..device.watchdog.unwrap() });
    let text_of_fleet = "[fleet]\nservers = [\"mqtt://a\"]\n";
    let shortest = DeviceConfig::parse("hearth.toml", text_of_fleet).unwrap().fleet.unwrap();
    let shown = device.fleet.unwrap();
    assert_eq!(
        (shortest.keep_alive, shortest.connect, shortest.period, shortest.history_per_s, shortest.outbox),
        (shown.keep_alive, shown.connect, shown.period, shown.history_per_s, shown.outbox)
    );
    assert_eq!(shortest.trust.operate_threshold, shown.trust.operate_threshold);
    every_key_is_there(&text, &|text| DeviceConfig::parse("hearth.toml", text).unwrap_err());
}

#[test]
fn the_service_example_shows_every_key_with_the_defaults_of_those_that_have_some() {
    let service = WorkloadConfig::load(&folder().join("service.toml")).unwrap();
    let plain = WorkloadConfig::parse("service.toml", "kind = \"service\"\nimage = \"i\"").unwrap();
    assert_eq!(service.start_within, plain.start_within);
    assert_eq!(service.resources, plain.resources);
    assert_eq!(service.rollout, plain.rollout);
    assert_eq!(plain.remote, Remote::default(), "nobody");
    assert_eq!(service.remote.exec, Some(Signers::Release));
    assert_eq!(service.remote.fetch_logs, Some(Signers::Operate));
    let text = "kind = \"job\"\nimage = \"i\"\n[telemetry]\n";
    let short = WorkloadConfig::parse("service.toml", text).unwrap().telemetry.unwrap();
    let shown = service.telemetry.clone().unwrap();
    assert_eq!(
        (short.topics.as_slice(), short.payload, short.class),
        (["#".to_owned()].as_slice(), Payload::Any, Class::Bulk)
    );
    let defaults =
        Telemetry { topics: short.topics.clone(), payload: short.payload, class: short.class, ..shown };
    assert_eq!((short, plain.telemetry.clone()), (defaults, None));
    assert!(service.restart.in_guest && service.warm && !plain.warm);
    assert_eq!(service.restart, hearth_config::workload::Restart { in_guest: true, ..plain.restart });
    assert_eq!(plain.probes, [Probe::heartbeat()]);
    let text =
        "kind = \"job\"\nimage = \"i\"\n[[probe]]\ncheck = \"http\"\nrole = \"readiness\"\nport = 8080";
    let short = WorkloadConfig::parse("service.toml", text).unwrap();
    let check = Check::Http { port: 8080, path: "/healthy".to_owned() };
    assert_eq!(service.probes[0], Probe { check, ..short.probes[0].clone() });
    assert_eq!((&service.probes[2], service.probes.len()), (&Probe::heartbeat(), 3));
    assert_eq!(service.probes[1].role, Role::Liveness);

    let text = with_all_settings("service.toml");
    every_key_is_there(&text, &|text| WorkloadConfig::parse("service.toml", text).unwrap_err());
}

#[test]
fn the_network_example_states_the_defaults_and_shows_every_key() {
    let example = NetworkConfig::load(&folder().join("network.toml")).unwrap();
    assert_eq!(example, NetworkConfig::default());
    let text = with_all_settings("network.toml");
    let shown = NetworkConfig::parse("network.toml", &text).unwrap();
    assert!(matches!(shown.interfaces[0].method, Method::Static(fixed) if fixed.gateway.is_some()));
    every_key_is_there(&text, &|text| NetworkConfig::parse("network.toml", text).unwrap_err());
}

/// A key that nobody knows makes the reader list those that it knows in that place.
fn every_key_is_there(text: &str, faults: &dyn Fn(&str) -> Faults) {
    let known = |text: &str, place: &str| -> Vec<String> {
        let faults = faults(text);
        let fault = faults.iter().find(|fault| fault.key == format!("{place}zzz")).expect("a fault");
        let (_, list) = fault.message.split_once("(known here: ").unwrap_or(("", ")"));
        list.trim_end_matches(')').split(", ").filter(|key| !key.is_empty()).map(str::to_owned).collect()
    };
    let body_of = |text: &str| text.split("\n[").next().unwrap_or_default().to_owned();
    let shown = |body: &str, key: &str| body.lines().any(|line| line.starts_with(&format!("{key} = ")));
    for section in known(&format!("zzz = 1\n{text}"), "") {
        let header = [format!("\n[{section}]\n"), format!("\n[[{section}]]\n")]
            .into_iter()
            .find(|header| text.contains(header.as_str()));
        let Some(header) = header else {
            assert!(shown(&body_of(text), &section), "{section}");
            continue;
        };
        let place = if header.contains("[[") { format!("{section}[0].") } else { format!("{section}.") };
        let bodies: String = text.split(&header).skip(1).map(body_of).collect();
        for key in known(&text.replacen(&header, &format!("{header}zzz = 1\n"), 1), &place) {
            let below = format!("\n[{section}.{key}]\n");
            let Some((_, body)) = text.split_once(&below) else {
                assert!(shown(&bodies, &key), "{section}.{key}");
                continue;
            };
            let place = format!("{section}.{key}.");
            for inner in known(&text.replacen(&below, &format!("{below}zzz = 1\n"), 1), &place) {
                assert!(shown(&body_of(body), &inner), "{place}{inner}");
            }
        }
    }
}

#[test]
fn the_demo_workloads_are_a_job_and_two_services_in_order() {
    let workloads = WorkloadConfig::load_all(&folder().join("workloads")).unwrap();
    let facts: Vec<_> =
        workloads.iter().map(|w| (w.name.as_str(), w.kind, w.restart.policy, w.after.len())).collect();
    assert_eq!(
        facts,
        [
            ("clock", Kind::Service { replicas: 1 }, RestartPolicy::Always, 0),
            ("echo", Kind::Service { replicas: 1 }, RestartPolicy::Always, 1),
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

    // A key that nobody knows makes the reader list those that it knows in that place.
    let text = std::fs::read_to_string(folder().join("vm.toml")).unwrap();
    let known = |text: &str, place: &str| -> Vec<String> {
        let faults = VmConfig::parse("vm.toml", text).unwrap_err();
        let fault = faults.iter().find(|fault| fault.key == format!("{place}zzz")).unwrap();
        let (_, list) = fault.message.split_once("(known here: ").unwrap_or(("", ")"));
        list.trim_end_matches(')').split(", ").filter(|key| !key.is_empty()).map(str::to_owned).collect()
    };
    let sections = known(&format!("{text}[zzz]\n"), "");
    assert_eq!(sections.len(), 15);
    for section in sections {
        let list = text.contains(&format!("\n[[{section}]]\n"));
        let (header, place) = if list {
            (format!("\n[[{section}]]\n"), format!("{section}[0]."))
        } else {
            (format!("\n[{section}]\n"), format!("{section}."))
        };
        let (_, behind) = text.split_once(&header).expect(&section);
        let body = behind.split("\n[").next().unwrap();
        for key in known(&text.replacen(&header, &format!("{header}zzz = 1\n"), 1), &place) {
            assert!(body.lines().any(|line| line.starts_with(&format!("{key} = "))), "{section}.{key}");
        }
    }
    for key in known(&text.replacen("limit = { ", "limit = { zzz = 1, ", 1), "serial.limit.") {
        assert!(text.contains(&format!("{key} = ")), "{key}");
    }
}

#[test]
fn the_guest_example_states_the_defaults_but_commands_and_environment() {
    let guest = GuestConfig::load(&folder().join("workload.toml")).unwrap();
    let expected = GuestConfig {
        command: guest.command.clone(),
        warm_up: guest.warm_up.clone(),
        env: guest.env.clone(),
        ..GuestConfig::default()
    };
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

#[test]
fn the_boxs_paths_are_absolute_even_if_its_file_is_named_from_the_current_folder() {
    let folder = tempfile::tempdir().unwrap();
    // Up from here to the root, and down again.
    let up: PathBuf = std::env::current_dir().unwrap().components().skip(1).map(|_| "..").collect();
    let relative = up.join(folder.path().strip_prefix("/").unwrap());
    let here = std::env::current_dir().unwrap().join(&relative);
    let text =
        "[paths]\nvmm = \"vmm\"\nkernel = \"k\"\ninitrd = \"i\"\nimages = \"./images\"\nstate = \"state\"\n";
    std::fs::write(folder.path().join("hearth.toml"), text).unwrap();
    let paths = DeviceConfig::load(&relative.join("hearth.toml")).unwrap().paths;
    let found = [&paths.vmm, &paths.kernel, &paths.initrd, &paths.images, &paths.state, &paths.workloads];
    let expected = ["vmm", "k", "i", "images", "state", "workloads"].map(|name| here.join(name));
    assert_eq!(found, expected.each_ref());
}
