//! The builds of each workload that machines may still be made of.
//!
//! Duty: what is inside a machine, by the version that the core names; with what earlier daemons kept of it. Not here:
//! which of them are wanted.
//! Invariant: holds what the files say, and what a record of the core names; nothing else for longer than that.

use std::collections::BTreeMap;
use std::rc::Rc;

use hearth_config::workload::WorkloadConfig;
use hearth_core::{Record, Version};

use crate::contents::Contents;
use crate::setup::Setup;
use crate::versions::Versions;

/// By name and version.
#[derive(Debug)]
pub(crate) struct Builds {
    known: BTreeMap<(String, Version), Rc<WorkloadConfig>>,
    pub(crate) kept: Versions,
}

impl Builds {
    pub(crate) fn new(setup: &Setup) -> Builds {
        let kept = Versions::new(&setup.device.store.folder, &setup.device.paths.images);
        let mut builds = Builds { known: BTreeMap::new(), kept };
        builds.learn(setup);
        builds
    }

    /// Takes in what the files say; of one version the newest text counts.
    pub(crate) fn learn(&mut self, setup: &Setup) {
        let new = setup.versions().map(|(workload, version)| {
            ((workload.name.as_str().to_owned(), version), Rc::new(workload.clone()))
        });
        self.known.extend(new);
    }

    pub(crate) fn get(
        &mut self,
        name: &str,
        version: Version,
        contents: &mut Contents,
    ) -> Option<Rc<WorkloadConfig>> {
        let key = (name.to_owned(), version);
        if let Some(known) = self.known.get(&key) {
            return Some(Rc::clone(known));
        }
        let kept = Rc::new(self.kept.get(name, version, contents)?);
        self.known.insert(key, Rc::clone(&kept));
        Some(kept)
    }

    /// Drops what neither the record nor the files name any more.
    pub(crate) fn prune(&mut self, record: &Record, setup: &Setup) {
        let kept = record.versions();
        self.retain(&record.name, setup, |version| kept.contains(&version));
    }

    /// The workload is gone, but a file may name it again by now.
    pub(crate) fn forget(&mut self, name: &str, setup: &Setup) {
        self.retain(name, setup, |_| false);
    }

    /// Room is needed: of what is kept only these stay, and what the files say.
    pub(crate) fn collect(&mut self, keep: &[Version], setup: &Setup) {
        for name in self.kept.names() {
            self.retain(&name, setup, |version| keep.contains(&version));
        }
    }

    fn retain(&mut self, name: &str, setup: &Setup, keep: impl Fn(Version) -> bool) {
        let in_files = |version| {
            setup.versions().any(|(workload, its)| workload.name.as_str() == name && its == version)
        };
        let keep = |version| keep(version) || in_files(version);
        self.known.retain(|known, _| known.0 != name || keep(known.1));
        self.kept.retain(name, keep);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::Path;

    fn setup(folder: &Path, memory_mib: Option<u32>) -> Setup {
        let workloads = folder.join("workloads");
        fs::create_dir_all(&workloads).unwrap();
        let file = workloads.join("web.toml");
        match memory_mib {
            Some(mib) => {
                let text = format!("kind = \"service\"\nimage = \"i\"\nresources.memory_mib = {mib}");
                fs::write(file, text).unwrap();
            }
            None => fs::remove_file(file).unwrap(),
        }
        let text = format!("store.folder = {:?}", folder.join("store"));
        fs::write(folder.join("hearth.toml"), text).unwrap();
        Setup::load(&folder.join("hearth.toml")).unwrap()
    }

    fn version(setup: &Setup) -> Version {
        setup.versions().next().unwrap().1
    }

    #[test]
    fn a_workload_that_is_gone_from_the_core_stays_as_far_as_a_file_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let old = setup(folder.path(), Some(64));
        let mut builds = Builds::new(&old);
        let new = setup(folder.path(), Some(128));
        builds.learn(&new);
        let there = |builds: &mut Builds| {
            [&old, &new].map(|one| builds.get("web", version(one), &mut Contents::default()).is_some())
        };
        builds.forget("other", &new);
        assert_eq!(there(&mut builds), [true, true]);
        builds.forget("web", &new);
        assert_eq!(there(&mut builds), [false, true]);
        let none = setup(folder.path(), None);
        builds.forget("web", &none);
        assert_eq!(there(&mut builds), [false, false]);
    }
}
