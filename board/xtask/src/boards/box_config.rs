//! A box's configuration before it is packed.
//!
//! Duty: let whoever edits it hear of its faults here, where he sits, and not from a box that restarts its daemon
//! for ever. Not here: what is right (`hearth-config`), nor what only the daemon can tell (cycles of `after`).

use std::path::Path;

use hearth_config::{Faults, device::DeviceConfig, network::NetworkConfig, workload::WorkloadConfig};
use thiserror::Error;

/// The faults themselves have been printed, each on its line.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("the configuration has {faults} fault{} and nothing was built", if *faults == 1 { "" } else { "s" })]
pub(crate) struct ConfigError {
    faults: usize,
}

/// What must be in the folder; what is there must be right in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// `hearth.toml` and `workloads/`: a board gets both, and `network.toml` if it is there.
    All,
    /// `workloads/`: on this machine itself the tools write their own `hearth.toml`.
    Workloads,
}

/// Checks the folder and prints its faults.
pub(crate) fn check(folder: &Path, part: Part) -> Result<(), ConfigError> {
    let Err(faults) = read(folder, part) else { return Ok(()) };
    for fault in &faults {
        eprintln!("{fault}");
    }
    Err(ConfigError { faults: faults.iter().count() })
}

fn read(folder: &Path, part: Part) -> Result<(), Faults> {
    let file = folder.join("hearth.toml");
    let device = match part {
        Part::Workloads if !file.exists() => Ok(()),
        Part::All | Part::Workloads => DeviceConfig::load(&file).map(drop),
    };
    let workloads = WorkloadConfig::load_all(&folder.join("workloads")).map(drop);
    let network = NetworkConfig::load_if_there(&folder.join("network.toml")).map(drop);
    let all = [device, network, workloads].into_iter().filter_map(Result::err).flat_map(Faults::into_list);
    Faults::from_list(all.collect()).map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn all_faults_of_all_files_are_found_with_their_places() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        fs::create_dir(folder.path().join("workloads")).unwrap();
        write("hearth.toml", "[paths]\nvm = \"/x\"\n");
        write("workloads/a.toml", "kind = \"job\"\nimage = 3\n");
        let faults = read(folder.path(), Part::All).unwrap_err().to_string();
        let lines: Vec<_> = faults.lines().collect();
        assert_eq!(lines.len(), 2, "{faults}");
        assert!(lines[0].contains("/hearth.toml:2:1: paths.vm: "), "{faults}");
        assert!(lines[1].contains("/workloads/a.toml:2:1: image: "), "{faults}");
        assert_eq!(check(folder.path(), Part::Workloads), Err(ConfigError { faults: 2 }));
        fs::remove_file(folder.path().join("hearth.toml")).unwrap();
        assert_eq!(check(folder.path(), Part::All), Err(ConfigError { faults: 2 }), "a missing file is one");
        assert_eq!(check(folder.path(), Part::Workloads), Err(ConfigError { faults: 1 }));
    }

    #[test]
    fn the_projects_own_configuration_has_no_faults() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config");
        assert_eq!(check(&folder, Part::All), Ok(()));
    }
}
