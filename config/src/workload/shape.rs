//! From the keys of a workload's file to its configuration.
//!
//! Duty: keys, defaults, and contradictions between keys. Not here: probes, which are a list of their own.
//! Invariant: every key is asked for whatever the others say, so that no fault hides another one's key.

use std::time::Duration;

use crate::guest;
use crate::reader::{Entry, Table};
use crate::vm::{self, Machine};

use super::{
    After, BUDGET, Ceiling, FORGIVEN, Kind, LATE_WORTH_S, LOG_KIB, MAX_ARGUMENTS, MAX_COMMAND_BYTES,
    MAX_WORKLOADS, REPLICAS, Restart, RestartPolicy, Rollout, SECONDS, START_S, Scale, WAIT_MS,
    WorkloadConfig, WorkloadName, foreseen, heal, probe, remote, telemetry,
};

/// Processors of all replicas together; the workload has 64 at most, of 16 each.
const CEILING_VCPUS: std::ops::RangeInclusive<u64> = 1..=1024;
/// MiB of all replicas together: 4 TiB.
const CEILING_MIB: std::ops::RangeInclusive<u64> = 32..=4_194_304;
/// Requests without which nothing is said about errors.
const REQUESTS: std::ops::RangeInclusive<u64> = 0..=1_000_000;

pub(super) fn workload(table: &mut Table<'_>, name: WorkloadName, file: String) -> WorkloadConfig {
    let kind = kind(table);
    let image = table
        .required("image", "the name of a squashfs image")
        .text_as("the name of a squashfs image", |text| {
            (!text.is_empty() && !text.contains('\0')).then(|| text.into())
        });
    let command = command(&table.entry("command"));
    let after = predecessors(&table.entry("after"), &name, &[]);
    let requires = predecessors(&table.entry("requires"), &name, &after);
    let (mut balloon, mut memory) = (false, Machine::default().memory);
    WorkloadConfig {
        file,
        kind,
        image: image.unwrap_or_default(),
        command,
        after,
        requires,
        start_within: seconds(&table.entry("start_within_s"), START_S, 120),
        log_kib_per_minute: table.entry("log_kib_per_minute").small(LOG_KIB, " KiB"),
        resources: table.section("resources", |t| {
            let machine = vm::machine(t, Machine::default());
            memory = machine.memory;
            balloon = t.entry("balloon").flag().unwrap_or(false);
            machine
        }),
        balloon,
        ceiling: table.section("ceiling", ceiling),
        restart: table.section("restart", |t| restart(t, kind)),
        heal: table.section("heal", heal::heal),
        warm: table.section("snapshot", |t| warm(t, kind)),
        probes: probe::list(table),
        rollout: table.section("rollout", rollout),
        scale: table.optional_section("scale", |t| scale(t, kind)),
        keep_warm: table.optional_section("keep_warm", |t| foreseen::keep_warm(t, kind)),
        ballooning: table.optional_section("balloon", |t| foreseen::ballooning(t, memory, balloon)),
        remote: table.section("remote", remote::remote),
        telemetry: table.optional_section("telemetry", telemetry::telemetry),
        name,
    }
}

fn kind(table: &mut Table<'_>) -> Kind {
    #[derive(Clone, Copy)]
    enum Word {
        Service,
        Job,
        Function,
    }
    let kinds = [("service", Word::Service), ("job", Word::Job), ("function", Word::Function)];
    let kind = table.required("kind", "\"service\", \"job\" or \"function\"").choice(&kinds);
    let (replicas, idle) = (table.entry("replicas"), table.entry("idle_s"));
    let number = replicas.small(REPLICAS, "").unwrap_or(1);
    let wait = seconds(&idle, SECONDS, 300);
    if idle.is_there() && !matches!(kind, Some(Word::Function) | None) {
        idle.fault("expected only for a function, which alone ends when nobody wants it");
    }
    match kind {
        Some(Word::Service) | None => Kind::Service { replicas: number },
        Some(Word::Function) => Kind::Function { most: number, idle: wait },
        Some(Word::Job) => {
            if replicas.is_there() {
                replicas.fault("expected only for a service or a function, a job runs once");
            }
            Kind::Job
        }
    }
}

fn restart(table: &mut Table<'_>, kind: Kind) -> Restart {
    let entry = table.entry("policy");
    let policies = [
        ("always", RestartPolicy::Always),
        ("on-failure", RestartPolicy::OnFailure),
        ("never", RestartPolicy::Never),
    ];
    let policy = match (kind, entry.choice(&policies)) {
        (Kind::Job, Some(RestartPolicy::Always)) => {
            entry.fault("expected \"on-failure\" or \"never\" for a job, found \"always\"");
            RestartPolicy::Never
        }
        (_, Some(policy)) => policy,
        (Kind::Service { .. }, None) => RestartPolicy::Always,
        (Kind::Job, None) => RestartPolicy::Never,
        (Kind::Function { .. }, None) => RestartPolicy::OnFailure,
    };
    let retries = table.entry("retries");
    if retries.is_there() && kind != Kind::Job {
        retries.fault("expected only for a job, the others are tried as often as their budget lets them");
    }
    let in_guest = table.entry("in_guest");
    if in_guest.is_there() && kind == Kind::Job {
        in_guest.fault("expected only for a service or a function, a job is tried again in a new machine");
    }
    Restart {
        policy,
        retries: retries.small(FORGIVEN, ""),
        budget: table.entry("budget").small(BUDGET, "").unwrap_or(10),
        window: seconds(&table.entry("window_s"), SECONDS, 600),
        in_guest: in_guest.flag().unwrap_or(false),
    }
}

fn warm(table: &mut Table<'_>, kind: Kind) -> bool {
    let warm = table.entry("warm");
    let wanted = warm.flag().unwrap_or(false);
    if wanted && kind == Kind::Job {
        warm.fault("expected only for a service or a function, a job begins at its beginning");
    }
    wanted
}

fn ceiling(table: &mut Table<'_>) -> Ceiling {
    Ceiling {
        memory: table.entry("memory_mib").small(CEILING_MIB, " MiB").map(crate::Mebibytes),
        vcpus: table.entry("vcpus").small(CEILING_VCPUS, ""),
    }
}

fn rollout(table: &mut Table<'_>) -> Rollout {
    let mut milli = |key, default| table.entry(key).small(0..=1000, " thousandths").unwrap_or(default);
    let (error_margin_milli, readiness_margin_milli) =
        (milli("error_margin_milli", 20), milli("readiness_margin_milli", 50));
    Rollout {
        canary_percent: table.entry("canary_percent").small(1..=100, " %").unwrap_or(10),
        window: seconds(&table.entry("window_s"), SECONDS, 120),
        failures: table.entry("failures").small(FORGIVEN, "").unwrap_or(0),
        error_margin_milli,
        readiness_margin_milli,
        requests: table.entry("requests").small(REQUESTS, "").unwrap_or(20),
    }
}

fn scale(table: &mut Table<'_>, kind: Kind) -> Scale {
    let (fewest, largest) = (table.entry("least"), table.required("most", "a number of replicas"));
    let least = fewest.small(REPLICAS, "").unwrap_or(1);
    let most = largest.small(REPLICAS, "");
    if !matches!(kind, Kind::Service { .. }) {
        largest.fault("expected only for a service, a function has as many as are asked for and a job one");
    }
    if let Some(most) = most.filter(|most| *most < least) {
        largest.fault(format!("expected at least the {least} of scale.least, found {most}"));
    }
    let mut ms =
        |key, default| Duration::from_millis(table.entry(key).number(WAIT_MS, " ms").unwrap_or(default));
    let (wait, work) = (ms("wait_ms", 100), ms("work_ms", 100));
    Scale {
        least,
        most: most.unwrap_or(least),
        wait,
        work,
        late_worth_s: table.entry("late_worth_s").small(LATE_WORTH_S, " s").unwrap_or(20),
        late_percent: table.entry("late_percent").small(1..=100, " %").unwrap_or(1),
        patience: seconds(&table.entry("patience_s"), SECONDS, 300),
        automatic: table.entry("automatic").flag().unwrap_or(true),
    }
}

fn seconds(entry: &Entry<'_>, range: std::ops::RangeInclusive<u64>, default: u64) -> Duration {
    Duration::from_secs(entry.number(range, " s").unwrap_or(default))
}

/// The names of other workloads; `before` are those that another key names already.
fn predecessors(entry: &Entry<'_>, own: &WorkloadName, before: &[After]) -> Vec<After> {
    let mut list: Vec<After> = Vec::new();
    for item in entry.items("an array of workload names", MAX_WORKLOADS).unwrap_or_default() {
        let Some(name) =
            item.text_as(&format!("a workload's name, {}", WorkloadName::EXPECTED), WorkloadName::new)
        else {
            continue;
        };
        if name == *own {
            item.fault("expected another workload, found itself");
        } else if list.iter().any(|earlier| earlier.name == name) {
            item.fault(format!("expected each workload once, found \"{name}\" again"));
        } else if before.iter().any(|earlier| earlier.name == name) {
            item.fault(format!("expected each workload once, found \"{name}\" in after, too"));
        }
        let (file, position) = item.place();
        list.push(After { name, file, position });
    }
    list
}

fn command(entry: &Entry<'_>) -> Vec<String> {
    let words = guest::command(entry, MAX_ARGUMENTS, |word| {
        // What the kernel's own splitting of its command line cannot carry.
        if word == "--" {
            Err(
                "expected no bare --, the kernel would cut the command there; put it into a script in the image",
            )
        } else if word.contains('"') || word.chars().any(char::is_control) {
            Err("expected no double quotes and control characters; put them into a script in the image")
        } else {
            Ok(())
        }
    });
    let bytes: usize = words.iter().map(|word| word.len() + 1).sum();
    if bytes > MAX_COMMAND_BYTES {
        entry.fault(format!(
            "expected at most {MAX_COMMAND_BYTES} bytes, found {bytes}; put it into a script in the image"
        ));
    }
    words
}
