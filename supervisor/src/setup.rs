//! Everything the box is told to do, read and checked before anything starts.
//!
//! Duty: load the box's file and its workloads, put them in order, gather all faults.
//! Not here: what single files may say (`hearth-config`), which orders can be kept (`hearth-core`).

use std::path::{Path, PathBuf};

use hearth_config::device::DeviceConfig;
use hearth_config::workload::{self, WorkloadConfig};
use hearth_config::{Fault, Faults, vm};
use hearth_core::{
    Build, Config, ConfigFault, DeviceSpec, Kind, Needs, RestartPolicy, RestartSpec, Spec, StopTimes, Version,
};

/// A box that may start.
#[derive(Debug)]
pub struct Setup {
    pub device: DeviceConfig,
    pub workloads: Vec<WorkloadConfig>,
    /// The same for the core, in the same order.
    pub wanted: Config,
}

impl Setup {
    pub fn load(config: &Path) -> Result<Setup, Faults> {
        let device = DeviceConfig::load(config)?;
        let workloads = WorkloadConfig::load_all(&device.paths.workloads)?;
        let mut faults: Vec<Fault> =
            workloads.iter().filter_map(|one| short_enough(config, &device.paths.state, one)).collect();
        let wanted = wanted(&device, &workloads);
        match wanted.check() {
            Ok(()) if faults.is_empty() => return Ok(Setup { device, workloads, wanted }),
            Ok(()) => {}
            Err(more) => faults.extend(more.iter().map(|fault| locate(&workloads, fault))),
        }
        Err(Faults::from_list(faults)
            .unwrap_or_else(|| Fault::of_file("hearth.toml", "cannot be used").into()))
    }

    pub fn workload(&self, name: &str) -> Option<&WorkloadConfig> {
        self.workloads.iter().find(|workload| workload.name.as_str() == name)
    }
}

/// Where a machine keeps its files; `name` is its replica's.
pub fn vm_folder(state: &Path, name: &str) -> PathBuf {
    state.join("vm").join(name)
}

/// The Unix socket of the machine's vsock device.
pub fn vsock_socket(folder: &Path) -> PathBuf {
    folder.join("vsock.sock")
}

fn short_enough(config: &Path, state: &Path, workload: &WorkloadConfig) -> Option<Fault> {
    let socket = vsock_socket(&vm_folder(state, workload.name.as_str()));
    let bytes = socket.as_os_str().len();
    (bytes > vm::MAX_SOCKET_PATH_BYTES).then(|| Fault {
        file: config.display().to_string(),
        position: None,
        key: "paths.state".to_owned(),
        message: format!(
            "expected a shorter path: {} has {bytes} bytes, a socket's path at most {}",
            socket.display(),
            vm::MAX_SOCKET_PATH_BYTES
        ),
    })
}

fn wanted(device: &DeviceConfig, workloads: &[WorkloadConfig]) -> Config {
    let stop = StopTimes { agent: device.stop.agent, terminate: device.stop.terminate };
    Config {
        device: DeviceSpec { stop, ..DeviceSpec::default() },
        workloads: workloads.iter().map(spec).collect(),
    }
}

fn spec(workload: &WorkloadConfig) -> Spec {
    let kind = match workload.kind {
        workload::Kind::Service => Kind::Service { replicas: 1 },
        workload::Kind::Job => Kind::Job,
    };
    let policy = match workload.restart {
        workload::RestartPolicy::Always => RestartPolicy::Always,
        workload::RestartPolicy::OnFailure => RestartPolicy::OnFailure,
        workload::RestartPolicy::Never => RestartPolicy::Never,
    };
    let needs = Needs {
        memory_mib: workload.resources.memory.0,
        cpu_milli: u32::from(workload.resources.vcpus).saturating_mul(1000),
    };
    Spec {
        after: workload.after.iter().map(|after| after.name.as_str().to_owned()).collect(),
        restart: RestartSpec::new(policy),
        ..Spec::new(workload.name.as_str(), kind, Build { version: version(workload), needs })
    }
}

/// A digest of all that takes a new machine to change. It is compared with itself over restarts of the daemon, so it
/// must not depend on the standard library's hasher, which may change: FNV-1a.
fn version(workload: &WorkloadConfig) -> Version {
    let image = workload.image.as_os_str().as_encoded_bytes();
    let words = workload.command.iter().map(String::as_bytes);
    let resources = format!("{:?} {:?}", workload.kind, workload.resources);
    let digest = [image, resources.as_bytes()]
        .into_iter()
        .chain(words)
        .flat_map(|part| part.iter().copied().chain([0]))
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
    Version(digest)
}

fn locate(workloads: &[WorkloadConfig], fault: &ConfigFault) -> Fault {
    let name = |index: usize| workloads[index].name.as_str();
    match fault {
        // Names are those of files in one folder.
        ConfigFault::Twice { workload, .. } => {
            Fault::of_file(workloads[*workload].file.clone(), "expected each name once")
        }
        ConfigFault::UnknownPredecessor { workload, place } => {
            let known: Vec<&str> = (0..workloads.len()).filter(|other| other != workload).map(name).collect();
            let missing = &workloads[*workload].after[*place].name;
            let message = format!(
                "expected another workload of the box, found \"{missing}\" (there are: {})",
                known.join(", ")
            );
            workloads[*workload].fault_after(*place, message)
        }
        ConfigFault::Cycle { workloads: members, place } => {
            let first = members.first().copied().unwrap_or_default();
            let round: Vec<&str> = members.iter().copied().chain([first]).map(name).collect();
            let message = format!("expected an order without a cycle, found {}", round.join(" after "));
            workloads[first].fault_after(*place, message)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn boxed(files: &[(&str, &str)], hearth: &str) -> (tempfile::TempDir, Result<Setup, Faults>) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("workloads")).unwrap();
        std::fs::write(folder.path().join("hearth.toml"), hearth).unwrap();
        for (name, text) in files {
            let text = format!("kind = \"job\"\nimage = \"i\"\n{text}");
            std::fs::write(folder.path().join("workloads").join(name), text).unwrap();
        }
        let setup = Setup::load(&folder.path().join("hearth.toml"));
        (folder, setup)
    }

    fn refusal(files: &[(&str, &str)], hearth: &str) -> String {
        let (folder, setup) = boxed(files, hearth);
        setup.unwrap_err().to_string().replace(&folder.path().display().to_string(), "BOX")
    }

    #[test]
    fn unknown_names_and_cycles_are_told_where_they_are_written() {
        assert_eq!(
            refusal(&[("a.toml", "after = [\"b\", \"x\"]"), ("b.toml", "")], ""),
            "BOX/workloads/a.toml:3:15: after[1]: expected another workload of the box, found \"x\" (there are: b)"
        );
        assert_eq!(
            refusal(&[("a.toml", "after = [\"b\"]"), ("b.toml", "after = [\"a\"]")], ""),
            "BOX/workloads/a.toml:3:10: after[0]: expected an order without a cycle, found a after b after a"
        );
    }

    #[test]
    fn a_state_folder_too_deep_for_sockets_is_told_before_anything_starts() {
        let deep = format!("paths.state = \"/{}\"", "d".repeat(90));
        let told = refusal(&[("a.toml", "")], &deep);
        assert!(told.starts_with("BOX/hearth.toml: paths.state: expected a shorter path: /ddd"), "{told}");
    }

    #[test]
    fn a_good_box_is_planned() {
        let (_folder, setup) = boxed(&[("a.toml", "after = [\"b\"]"), ("b.toml", "")], "");
        let setup = setup.unwrap();
        assert_eq!(setup.wanted.workloads.len(), 2);
        assert_eq!(setup.wanted.workloads[0].after, ["b"]);
    }

    #[test]
    fn a_version_changes_with_all_that_takes_a_new_machine_and_with_nothing_else() {
        let version = |more: &str| {
            let (_folder, setup) = boxed(&[("a.toml", more), ("b.toml", "")], "");
            setup.unwrap().wanted.workloads[0].build.version
        };
        let plain = version("");
        assert_eq!(version(""), plain);
        assert_eq!(version("after = [\"b\"]\nrestart.policy = \"on-failure\""), plain);
        assert_ne!(version("command = [\"a\"]"), plain);
        assert_ne!(version("command = [\"a\", \"b\"]"), version("command = [\"ab\"]"));
        assert_ne!(version("resources.memory_mib = 256"), plain);
    }
}
