//! Everything the box is told to do, read and checked before anything starts.
//!
//! Duty: load the box's file and its workloads, gather all faults, say where machines keep their files.
//! Not here: what single files may say (`hearth-config`), what that means for the core (`wanted`), which orders can be
//! kept (`hearth-core`).

use std::path::{Path, PathBuf};

use hearth_config::device::DeviceConfig;
use hearth_config::workload::{Kind, WorkloadConfig};
use hearth_config::{Fault, Faults, vm};
use hearth_core::{Config, ConfigFault, MAX_REPLICAS, Slot, Version};

use crate::contents::Contents;
use crate::share::Share;
use crate::{wanted, wording};

/// A box that may start.
#[derive(Debug)]
pub struct Setup {
    /// The box's file.
    pub file: PathBuf,
    pub device: DeviceConfig,
    pub workloads: Vec<WorkloadConfig>,
    /// The same for the core, in the same order.
    pub wanted: Config,
    /// What the fleet wants beside the box's own files.
    pub share: Share,
    /// Workloads of the box's own files.
    local: Vec<WorkloadConfig>,
    /// Workloads that both name.
    pub conflicts: Vec<String>,
}

impl Setup {
    pub fn load(config: &Path) -> Result<Setup, Faults> {
        let device = DeviceConfig::load(config)?;
        let local = WorkloadConfig::load_all(&device.paths.workloads)?;
        Setup::of(config, device, local, Share::default())
    }

    /// The same files as they are now. Paths are those of the start: machines, sockets and locks are there by now.
    pub fn load_again(&self) -> Result<Setup, Faults> {
        let device = DeviceConfig::load(&self.file)?;
        let device = DeviceConfig { paths: self.device.paths.clone(), ..device };
        let local = WorkloadConfig::load_all(&device.paths.workloads)?;
        Setup::of(&self.file, device, local, self.share.clone())
    }

    /// The files as they were last good, with what the fleet wants now: their faults are not the fleet's.
    pub fn sharing(&self, share: Share) -> Result<Setup, Faults> {
        Setup::of(&self.file, self.device.clone(), self.local.clone(), share)
    }

    fn of(
        config: &Path,
        device: DeviceConfig,
        local: Vec<WorkloadConfig>,
        share: Share,
    ) -> Result<Setup, Faults> {
        let (workloads, conflicts) = share.merge(local.clone())?;
        let mut faults: Vec<Fault> =
            workloads.iter().filter_map(|one| short_enough(config, &device.paths.state, one)).collect();
        let wanted = wanted::config(&device, &workloads);
        match wanted.check() {
            Ok(()) if faults.is_empty() => {
                return Ok(Setup {
                    file: config.to_owned(),
                    device,
                    workloads,
                    wanted,
                    share,
                    local,
                    conflicts,
                });
            }
            Ok(()) => {}
            Err(more) => faults.extend(more.iter().map(|fault| locate(&workloads, fault))),
        }
        Err(Faults::from_list(faults)
            .unwrap_or_else(|| Fault::of_file("hearth.toml", "cannot be used").into()))
    }

    /// Makes the contents of images a part of the versions. Without it, another image of the same name is the same.
    pub(crate) fn look_at_images(&mut self, contents: &mut Contents) {
        for (workload, spec) in self.workloads.iter().zip(&mut self.wanted.workloads) {
            let image = contents.of(&workload.image_in(&self.device.paths.images));
            spec.build.version = wanted::with_image(wanted::build(workload).version, image);
        }
    }

    /// Each workload with the version that its file and its image make.
    pub(crate) fn versions(&self) -> impl Iterator<Item = (&WorkloadConfig, Version)> {
        self.workloads.iter().zip(self.wanted.workloads.iter().map(|spec| spec.build.version))
    }

    /// What the replicas are called.
    pub fn names(&self) -> Vec<String> {
        let slots = |workload: &WorkloadConfig| match workload.kind {
            Kind::Service { replicas } | Kind::Function { most: replicas, .. } => {
                replicas.max(workload.scale.map_or(0, |scale| scale.most))
            }
            Kind::Job => 1,
        };
        let of = |workload: &WorkloadConfig| {
            let name = workload.name.as_str().to_owned();
            (0..slots(workload)).map(move |slot| wording::replica(&name, Slot(slot))).collect::<Vec<_>>()
        };
        self.workloads.iter().flat_map(of).collect()
    }

    pub fn workload(&self, name: &str) -> Option<&WorkloadConfig> {
        self.workloads.iter().find(|workload| workload.name.as_str() == name)
    }
}

/// Where a machine keeps its files; `name` is its replica's.
pub fn vm_folder(state: &Path, name: &str) -> PathBuf {
    state.join("vm").join(name)
}

/// Where snapshots go that somebody asked for; `name` is the replica's.
pub fn snapshots_folder(state: &Path, name: &str) -> PathBuf {
    state.join("snapshots").join(name)
}

/// Where `hearthd` answers, given its state folder.
pub fn api_socket(state: &Path) -> PathBuf {
    state.join("api.sock")
}

/// The Unix socket of the machine's vsock device.
pub fn vsock_socket(folder: &Path) -> PathBuf {
    folder.join("vsock.sock")
}

/// The Unix socket on which the machine's monitor takes requests.
pub fn control_socket(folder: &Path) -> PathBuf {
    folder.join("control.sock")
}

fn short_enough(config: &Path, state: &Path, workload: &WorkloadConfig) -> Option<Fault> {
    let last = match workload.kind {
        Kind::Job => Slot::FIRST,
        // Somebody may want more of them than its file says.
        Kind::Service { .. } | Kind::Function { .. } => Slot(MAX_REPLICAS - 1),
    };
    let socket = vsock_socket(&vm_folder(state, &wording::replica(workload.name.as_str(), last)));
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

fn locate(workloads: &[WorkloadConfig], fault: &ConfigFault) -> Fault {
    let name = |index: usize| workloads[index].name.as_str();
    match fault {
        // Names are those of files in one folder.
        ConfigFault::Twice { workload, .. } => {
            Fault::of_file(workloads[*workload].file.clone(), "expected each name once")
        }
        ConfigFault::UnknownPredecessor { workload, place } => {
            let known: Vec<&str> = (0..workloads.len()).filter(|other| other != workload).map(name).collect();
            let missing = workloads[*workload].predecessors().nth(*place).map_or("", |one| one.name.as_str());
            let message = format!(
                "expected another workload of the box, found \"{missing}\" (there are: {})",
                known.join(", ")
            );
            workloads[*workload].fault_of_predecessor(*place, message)
        }
        ConfigFault::Cycle { workloads: members, place } => {
            let first = members.first().copied().unwrap_or_default();
            let round: Vec<&str> = members.iter().copied().chain([first]).map(name).collect();
            let message = format!("expected an order without a cycle, found {}", round.join(" after "));
            workloads[first].fault_of_predecessor(*place, message)
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
            refusal(&[("a.toml", "after = [\"b\"]\nrequires = [\"x\"]"), ("b.toml", "")], ""),
            "BOX/workloads/a.toml:4:13: requires[0]: expected another workload of the box, found \"x\" (there are: b)"
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
}
