//! What the files of the box mean for the core.
//!
//! Duty: from configurations to the desired state, and the version of a machine. Pure. Not here: reading files
//! (`setup`), the machine itself (`guest_boot`).
//! Invariant: the probes of a workload have the same places in both, and two files that lead to the same machine have
//! the same version.

use std::time::Duration;

use hearth_config::device::{Capacity, DeviceConfig, Watchdog};
use hearth_config::workload::{self, Check, HealMeans, Probe, Role, WorkloadConfig};
use hearth_core::{
    Allowed, Ballooning, Build, Config, DeviceSpec, HealingOrder, HealingSpec, KeepWarm, Kind, Needs,
    ProbeSpec, RestartPolicy, RestartSpec, RolloutSpec, Rung, Rungs, Scaling, Spec, StopTimes, Subsystem,
    Version, WatchdogSpec,
};

/// Petting three times as often as needed forgives two pets that come too late.
const PETS_IN_A_TIMEOUT: u32 = 3;

/// The parts of the daemon without which the box is not cared for, and how long each may be silent: the store for
/// longest, since a worn disk may take its time over one write.
const CRITICAL: [(Subsystem, Duration); 3] = [
    (Subsystem::Loop, Duration::from_secs(10)),
    (Subsystem::Machines, Duration::from_secs(20)),
    (Subsystem::Store, Duration::from_secs(30)),
];

pub fn config(device: &DeviceConfig, workloads: &[WorkloadConfig]) -> Config {
    Config {
        device: DeviceSpec {
            capacity: capacity(&device.capacity),
            stop: StopTimes { agent: device.stop.agent, terminate: device.stop.terminate },
            watchdog: watchdog(device),
            safe_mode_after: device.safe_mode.failed_boots,
            safe_mode_for: device.safe_mode.hold,
        },
        workloads: workloads.iter().map(spec).collect(),
    }
}

fn capacity(capacity: &Capacity) -> hearth_core::Capacity {
    hearth_core::Capacity {
        memory_mib: capacity.memory.map_or(u32::MAX, |memory| memory.0),
        cpu_milli: capacity.cpus.map_or(u32::MAX, |cpus| milli(u32::from(cpus))),
        memory_percent: capacity.memory_percent,
        cpu_percent: capacity.cpu_percent,
    }
}

/// How often the hardware is to be petted.
pub(crate) fn pet_period(watchdog: &Watchdog) -> Duration {
    watchdog.timeout / PETS_IN_A_TIMEOUT
}

fn watchdog(device: &DeviceConfig) -> WatchdogSpec {
    device.watchdog.as_ref().map_or_else(WatchdogSpec::default, |watchdog| WatchdogSpec {
        period: Some(pet_period(watchdog)),
        critical: CRITICAL.to_vec(),
        patience: watchdog.patience,
        reboot: watchdog.reboot,
    })
}

fn spec(workload: &WorkloadConfig) -> Spec {
    let kind = match workload.kind {
        workload::Kind::Service { replicas } => Kind::Service { replicas },
        workload::Kind::Job => Kind::Job,
        workload::Kind::Function { most, idle } => Kind::Function { most, idle },
    };
    let policy = match workload.restart.policy {
        workload::RestartPolicy::Always => RestartPolicy::Always,
        workload::RestartPolicy::OnFailure => RestartPolicy::OnFailure,
        workload::RestartPolicy::Never => RestartPolicy::Never,
    };
    let names = |list: &[workload::After]| list.iter().map(|one| one.name.as_str().to_owned()).collect();
    let ceiling = workload.ceiling;
    Spec {
        name: workload.name.as_str().to_owned(),
        kind,
        build: build(workload),
        after: names(&workload.after),
        requires: names(&workload.requires),
        probes: workload.probes.iter().enumerate().map(|(place, probe)| asked(place, probe)).collect(),
        start_within: workload.start_within,
        restart: RestartSpec {
            policy,
            retries: workload.restart.retries,
            budget: workload.restart.budget,
            window: workload.restart.window,
        },
        rollout: rollout(&workload.rollout),
        allowed: Allowed {
            process_restart: workload.restart.in_guest,
            balloon: workload.balloon,
            restore: workload.warm,
            // No machine has a disk that it may write.
            fresh_disk: false,
        },
        healing: HealingSpec {
            order: match workload.heal.order {
                workload::HealOrder::Learnt => HealingOrder::Learnt,
                workload::HealOrder::Cost => HealingOrder::Cost,
                workload::HealOrder::Strength => HealingOrder::Strength,
            },
            automatic: automatic(workload),
        },
        ceiling: (ceiling.memory.is_some() || ceiling.vcpus.is_some()).then(|| Needs {
            memory_mib: ceiling.memory.map_or(u32::MAX, |memory| memory.0),
            cpu_milli: ceiling.vcpus.map_or(u32::MAX, milli),
        }),
        scaling: workload
            .scale
            .filter(|scale| scale.automatic)
            .map(|scale| Scaling { least: scale.least, most: scale.most }),
        keep_warm: workload
            .keep_warm
            .filter(|keep| keep.automatic)
            .map(|keep| KeepWarm { least: keep.least, most: keep.most }),
        ballooning: workload
            .ballooning
            .filter(|ballooning| ballooning.automatic)
            .map(|ballooning| Ballooning { least_mib: ballooning.least.0 }),
        log_bytes_per_minute: workload.log_kib_per_minute.map(|kib| kib.saturating_mul(1024)),
    }
}

/// What is done to heal it without asking anybody: of what a file can name, what its file does name; and whatever no file
/// can name.
pub(crate) fn automatic(workload: &WorkloadConfig) -> Rungs {
    let named = |means: &HealMeans| workload.heal.automatic.contains(means);
    let of = |rung: &Rung| match rung {
        Rung::RestartProcess => named(&HealMeans::RestartInGuest),
        Rung::Restore => named(&HealMeans::Restore),
        // Nothing was started yet that could be lost by another try.
        Rung::ColdRestart | Rung::Retry => named(&HealMeans::ColdStart),
        Rung::RollBack => named(&HealMeans::RollBack),
        _ => true,
    };
    Rungs::of(&Rung::ALL.into_iter().filter(of).collect::<Vec<_>>())
}

/// What is inside a workload's machines, and what they take, whatever its image holds.
pub fn build(workload: &WorkloadConfig) -> Build {
    let needs = Needs {
        memory_mib: workload.resources.memory.0,
        cpu_milli: milli(u32::from(workload.resources.vcpus)),
    };
    Build { version: version(workload), needs }
}

fn milli(processors: u32) -> u32 {
    processors.saturating_mul(1000)
}

fn rollout(rollout: &workload::Rollout) -> RolloutSpec {
    RolloutSpec {
        canary_percent: rollout.canary_percent,
        window: rollout.window,
        failures: rollout.failures,
        error_margin_milli: rollout.error_margin_milli,
        readiness_margin_milli: rollout.readiness_margin_milli,
        requests: rollout.requests,
    }
}

/// The core names commands and paths by a number: the place of their probe.
fn asked(place: usize, probe: &Probe) -> ProbeSpec {
    let number = u8::try_from(place).unwrap_or(u8::MAX);
    ProbeSpec {
        role: match probe.role {
            Role::Startup => hearth_core::Role::Startup,
            Role::Liveness => hearth_core::Role::Liveness,
            Role::Readiness => hearth_core::Role::Readiness,
        },
        check: match &probe.check {
            Check::Heartbeat => hearth_core::Check::Heartbeat,
            Check::Exec { .. } => hearth_core::Check::Exec { command: number },
            Check::Tcp { port } => hearth_core::Check::Tcp { port: *port },
            Check::Http { port, .. } => hearth_core::Check::Http { port: *port, path: number },
            Check::VcpuProgress => hearth_core::Check::VcpuProgress,
            Check::Watchdog => hearth_core::Check::Watchdog,
            Check::Pvpanic => hearth_core::Check::Pvpanic,
        },
        period: probe.period,
        timeout: probe.timeout,
        failures: probe.failures,
        successes: probe.successes,
    }
}

/// A digest of all that takes a new machine to change. It is compared with itself over restarts of the daemon, so it
/// must not depend on the standard library's hasher, which may change: FNV-1a.
fn version(workload: &WorkloadConfig) -> Version {
    let image = workload.image.as_os_str().as_encoded_bytes();
    let words = workload.command.iter().map(String::as_bytes);
    let machine = format!(
        "{:?} {} {}",
        workload.resources,
        workload.balloon,
        crate::guest_boot::has_watchdog(workload)
    );
    // Its guests are told of it. Nothing where there is none: a version that was before there were any stays the same.
    let mqtt = workload.telemetry.as_ref().map(|telemetry| format!("mqtt {}", telemetry.port));
    let parts =
        [image, machine.as_bytes()].into_iter().chain(words).chain(mqtt.as_ref().map(String::as_bytes));
    Version(digest(FNV_OFFSET, parts.flat_map(|part| part.iter().copied().chain([0]))))
}

/// The version with what its image holds, if that can be read: another image under the same name is another version.
pub(crate) fn with_image(version: Version, image: Option<u64>) -> Version {
    image.map_or(version, |image| Version(digest(version.0, image.to_le_bytes())))
}

/// Where [`digest`] begins.
const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;

fn digest(begin: u64, bytes: impl IntoIterator<Item = u8>) -> u64 {
    bytes.into_iter().fold(begin, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn workload(kind: &str, more: &str) -> WorkloadConfig {
        WorkloadConfig::parse("web.toml", &format!("kind = \"{kind}\"\nimage = \"i\"\n{more}")).unwrap()
    }

    #[test]
    fn what_a_file_leaves_out_is_what_the_core_takes_for_granted() {
        for (word, kind) in [
            ("service", Kind::Service { replicas: 1 }),
            ("job", Kind::Job),
            ("function", Kind::Function { most: 1, idle: Duration::from_secs(300) }),
        ] {
            let plain = workload(word, "");
            assert_eq!(spec(&plain), Spec::new("web", kind, build(&plain)), "{word}");
        }
        let device = DeviceConfig::parse("hearth.toml", "").unwrap();
        assert_eq!(config(&device, &[]), Config::default());
    }

    #[test]
    fn every_wish_of_a_workload_reaches_the_core() {
        let text = "replicas = 3\nafter = [\"a\"]\nrequires = [\"r\"]\nstart_within_s = 7\nlog_kib_per_minute = 2\nsnapshot.warm = true\n\
            scale = { least = 2, most = 5 }\nceiling.memory_mib = 300\nresources = { vcpus = 2, memory_mib = 64, balloon = true }\nballoon = { least_mib = 48, automatic = true }\n\
            restart = { policy = \"on-failure\", budget = 4, window_s = 50, in_guest = true }\nheal = { order = \"strength\", automatic = [\"restore\"] }\n\
            rollout = { canary_percent = 50, window_s = 9, failures = 1, error_margin_milli = 2, readiness_margin_milli = 3, requests = 5 }\n\
            [[probe]]\ncheck = \"pvpanic\"\n\
            [[probe]]\ncheck = \"http\"\nrole = \"readiness\"\nport = 80\nperiod_ms = 500\ntimeout_ms = 20\nfailures = 4\nsuccesses = 2";
        let workload = workload("service", text);
        let pvpanic = ProbeSpec {
            role: hearth_core::Role::Liveness,
            check: hearth_core::Check::Pvpanic,
            period: Duration::from_secs(10),
            timeout: Duration::ZERO,
            failures: 3,
            successes: 1,
        };
        let http = ProbeSpec {
            role: hearth_core::Role::Readiness,
            check: hearth_core::Check::Http { port: 80, path: 1 },
            period: Duration::from_millis(500),
            timeout: Duration::from_millis(20),
            failures: 4,
            successes: 2,
        };
        let heartbeat = ProbeSpec::heartbeat(Duration::from_secs(1), Duration::from_secs(30));
        let window = Duration::from_secs(50);
        let expected = Spec {
            name: "web".to_owned(),
            kind: Kind::Service { replicas: 3 },
            build: Build { version: version(&workload), needs: Needs { memory_mib: 64, cpu_milli: 2000 } },
            after: vec!["a".to_owned()],
            requires: vec!["r".to_owned()],
            probes: vec![pvpanic, http, heartbeat],
            start_within: Duration::from_secs(7),
            restart: RestartSpec { policy: RestartPolicy::OnFailure, retries: None, budget: 4, window },
            rollout: RolloutSpec {
                canary_percent: 50,
                window: Duration::from_secs(9),
                failures: 1,
                error_margin_milli: 2,
                readiness_margin_milli: 3,
                requests: 5,
            },
            allowed: Allowed { process_restart: true, balloon: true, restore: true, ..Allowed::default() },
            healing: HealingSpec {
                order: HealingOrder::Strength,
                automatic: Rungs::of(&[
                    Rung::Restore,
                    Rung::FreshDisk,
                    Rung::Quarantine,
                    Rung::ReExec,
                    Rung::Reboot,
                    Rung::StopPetting,
                ]),
            },
            ceiling: Some(Needs { memory_mib: 300, cpu_milli: u32::MAX }),
            log_bytes_per_minute: Some(2048),
            scaling: Some(Scaling { least: 2, most: 5 }),
            keep_warm: None,
            ballooning: Some(Ballooning { least_mib: 48 }),
        };
        assert_eq!(spec(&workload), expected);
        let function = |more: &str| spec(&self::workload("function", more)).keep_warm;
        assert_eq!(function("keep_warm = { least = 1, most = 3 }"), Some(KeepWarm { least: 1, most: 3 }));
        assert_eq!(function("keep_warm = { most = 3, automatic = false }"), None);
    }

    #[test]
    fn what_the_box_has_reaches_the_core() {
        let text = "capacity = { memory_mib = 512, cpus = 4, memory_percent = 80, cpu_percent = 300 }\n\
            safe_mode = { failed_boots = 5, hold_s = 0 }\nwatchdog = { timeout_s = 30, patience_s = 7, reboot = true }";
        let device = DeviceConfig::parse("hearth.toml", text).unwrap();
        let device = config(&device, &[]).device;
        let capacity =
            hearth_core::Capacity { memory_mib: 512, cpu_milli: 4000, memory_percent: 80, cpu_percent: 300 };
        assert_eq!((device.capacity, device.safe_mode_after), (capacity, 5));
        assert_eq!(device.safe_mode_for, None);
        assert_eq!(device.watchdog.period, Some(Duration::from_secs(10)));
        assert_eq!((device.watchdog.patience, device.watchdog.reboot), (Duration::from_secs(7), true));
    }

    #[test]
    fn a_version_changes_with_all_that_takes_a_new_machine_and_with_nothing_else() {
        let version = |more: &str| version(&workload("service", more));
        let plain = version("");
        assert_eq!(version(""), plain);
        for same in
            ["after = [\"b\"]\nrestart.policy = \"on-failure\"", "replicas = 2", "snapshot.warm = true"]
        {
            assert_eq!(version(same), plain, "{same}");
        }
        for other in [
            "command = [\"a\"]",
            "resources.memory_mib = 256",
            "resources.balloon = true",
            "[[probe]]\ncheck = \"watchdog\"",
            "[telemetry]",
        ] {
            assert_ne!(version(other), plain, "{other}");
        }
        assert_eq!(version("[telemetry]"), version("[telemetry]\npayload = \"json\"\nkib_per_min = 8"));
        assert_ne!(version("[telemetry]"), version("[telemetry]\nport = 1884"));
        let told = workload("service", "command = [\"a\"]\n[telemetry]\nport = 1884");
        let kept = WorkloadConfig::parse("web.toml", &told.machine_toml()).unwrap();
        assert_eq!(super::version(&kept), super::version(&told), "what is kept of it makes the same machine");
        assert_ne!(version("command = [\"a\", \"b\"]"), version("command = [\"ab\"]"));
        let of_image = [None, Some(0), Some(1)].map(|image| with_image(plain, image));
        assert_eq!(of_image[0], plain);
        assert!(of_image[1] != plain && of_image[2] != plain && of_image[1] != of_image[2]);
    }
}
