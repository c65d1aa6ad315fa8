//! Everything the box is told to do, read and checked before anything starts.
//!
//! Duty: load the box's file and its workloads, put them in order, gather all faults.
//! Not here: what single files may say (`hearth-config`), which orders can be kept (`hearth-core`).

use std::path::{Path, PathBuf};

use hearth_config::device::DeviceConfig;
use hearth_config::workload::{self, WorkloadConfig};
use hearth_config::{Fault, Faults, vm};
use hearth_core::{Kind, Plan, PlanFault, RestartPolicy, StopTimes, Wanted};

/// A box that may start.
#[derive(Debug)]
pub struct Setup {
    pub device: DeviceConfig,
    /// In the order of the plan's ids.
    pub workloads: Vec<WorkloadConfig>,
    pub plan: Plan,
}

impl Setup {
    pub fn load(config: &Path) -> Result<Setup, Faults> {
        let device = DeviceConfig::load(config)?;
        let workloads = WorkloadConfig::load_all(&device.paths.workloads)?;
        let mut faults: Vec<Fault> =
            workloads.iter().filter_map(|one| short_enough(config, &device.paths.state, one)).collect();
        match plan(&workloads) {
            Ok(plan) if faults.is_empty() => return Ok(Setup { device, workloads, plan }),
            Ok(_) => {}
            Err(more) => faults.extend(more),
        }
        Err(Faults::from_list(faults)
            .unwrap_or_else(|| Fault::of_file("hearth.toml", "cannot be used").into()))
    }

    pub fn stop_times(&self) -> StopTimes {
        StopTimes { agent: self.device.stop.agent, terminate: self.device.stop.terminate }
    }
}

/// Where a workload's machine keeps its files.
pub fn vm_folder(state: &Path, workload: &WorkloadConfig) -> PathBuf {
    state.join("vm").join(workload.name.as_str())
}

/// The Unix socket of the machine's vsock device.
pub fn vsock_socket(folder: &Path) -> PathBuf {
    folder.join("vsock.sock")
}

fn short_enough(config: &Path, state: &Path, workload: &WorkloadConfig) -> Option<Fault> {
    let socket = vsock_socket(&vm_folder(state, workload));
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

fn plan(workloads: &[WorkloadConfig]) -> Result<Plan, Vec<Fault>> {
    let wanted: Vec<Wanted<'_>> = workloads
        .iter()
        .map(|one| Wanted {
            name: one.name.as_str(),
            kind: match one.kind {
                workload::Kind::Service => Kind::Service,
                workload::Kind::Job => Kind::Job,
            },
            restart: match one.restart {
                workload::RestartPolicy::Always => RestartPolicy::Always,
                workload::RestartPolicy::OnFailure => RestartPolicy::OnFailure,
                workload::RestartPolicy::Never => RestartPolicy::Never,
            },
            after: one.after.iter().map(|after| after.name.as_str()).collect(),
        })
        .collect();
    Plan::new(&wanted).map_err(|faults| faults.iter().map(|fault| locate(workloads, fault)).collect())
}

fn locate(workloads: &[WorkloadConfig], fault: &PlanFault) -> Fault {
    let name = |index: usize| workloads[index].name.as_str();
    match fault {
        PlanFault::UnknownAfter { workload, after } => {
            let known: Vec<&str> = (0..workloads.len()).filter(|other| other != workload).map(name).collect();
            let missing = &workloads[*workload].after[*after].name;
            let message = format!(
                "expected another workload of the box, found \"{missing}\" (there are: {})",
                known.join(", ")
            );
            workloads[*workload].fault_after(*after, message)
        }
        PlanFault::Cycle { workloads: members, after } => {
            let first = members.first().copied().unwrap_or_default();
            let round: Vec<&str> = members.iter().copied().chain([first]).map(name).collect();
            let message = format!("expected an order without a cycle, found {}", round.join(" after "));
            workloads[first].fault_after(*after, message)
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
        assert_eq!(setup.unwrap().plan.ids().count(), 2);
    }
}
