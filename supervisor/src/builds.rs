//! The builds of each workload that machines may still be made of.
//!
//! Duty: what is inside a machine, by the version that the core names. Not here: which of them are wanted.
//! Invariant: holds what the files say, and what a record of the core names; nothing else for longer than that.

use std::collections::BTreeMap;
use std::rc::Rc;

use hearth_config::workload::WorkloadConfig;
use hearth_core::{Record, Version};

use crate::wanted;

/// By name and version.
#[derive(Debug, Default)]
pub(crate) struct Builds {
    known: BTreeMap<(String, Version), Rc<WorkloadConfig>>,
}

impl Builds {
    /// Takes in what the files say; of one version the newest text counts.
    pub(crate) fn learn(&mut self, workloads: &[WorkloadConfig]) {
        for workload in workloads {
            self.known.insert(key(workload), Rc::new(workload.clone()));
        }
    }

    pub(crate) fn get(&self, name: &str, version: Version) -> Option<Rc<WorkloadConfig>> {
        self.known.get(&(name.to_owned(), version)).map(Rc::clone)
    }

    /// Drops what neither the record nor the files name any more.
    pub(crate) fn prune(&mut self, record: &Record, files: &[WorkloadConfig]) {
        let kept = record.versions();
        self.retain(&record.name, files, |version| kept.contains(&version));
    }

    /// The workload is gone, but a file may name it again by now.
    pub(crate) fn forget(&mut self, name: &str, files: &[WorkloadConfig]) {
        self.retain(name, files, |_| false);
    }

    fn retain(&mut self, name: &str, files: &[WorkloadConfig], keep: impl Fn(Version) -> bool) {
        let in_files: Vec<_> = files.iter().filter(|one| one.name.as_str() == name).map(key).collect();
        self.known.retain(|known, _| known.0 != name || keep(known.1) || in_files.contains(known));
    }
}

fn key(workload: &WorkloadConfig) -> (String, Version) {
    (workload.name.as_str().to_owned(), wanted::build(workload).version)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn web(memory_mib: u32) -> WorkloadConfig {
        let text = format!("kind = \"service\"\nimage = \"i\"\nresources.memory_mib = {memory_mib}");
        WorkloadConfig::parse("web.toml", &text).unwrap()
    }

    #[test]
    fn a_workload_that_is_gone_from_the_core_stays_as_far_as_a_file_names_it() {
        let mut builds = Builds::default();
        let [old, new] = [web(64), web(128)];
        builds.learn(std::slice::from_ref(&old));
        builds.learn(std::slice::from_ref(&new));
        let there = |builds: &Builds| [&old, &new].map(|one| builds.get("web", key(one).1).is_some());
        builds.forget("other", &[]);
        assert_eq!(there(&builds), [true, true]);
        builds.forget("web", std::slice::from_ref(&new));
        assert_eq!(there(&builds), [false, true]);
        builds.forget("web", &[]);
        assert_eq!(there(&builds), [false, false]);
    }
}
