//! Orders of workloads that cannot be kept.
//!
//! Duty: find names that lead nowhere, and circles. Not here: what happens at run time (`state`).
//! Invariant: in a configuration without faults every `after` and `requires` names another workload of it, and
//! there is no cycle.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::spec::{Config, Spec};

/// Places are indices into the workloads, and into the `after` of one followed by its `requires`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ConfigFault {
    /// Two workloads have the same name.
    Twice {
        workload: usize,
        first: usize,
    },
    UnknownPredecessor {
        workload: usize,
        place: usize,
    },
    /// Each waits for the next, the last for the first. `place` is the place in the first one's list.
    Cycle {
        workloads: Vec<usize>,
        place: usize,
    },
}

impl Config {
    /// Whether the core can work with it.
    pub fn check(&self) -> Result<(), Vec<ConfigFault>> {
        let mut faults = Vec::new();
        let mut predecessors = Vec::with_capacity(self.workloads.len());
        for (workload, spec) in self.workloads.iter().enumerate() {
            if let Some(first) = place_of(&self.workloads, &spec.name).filter(|first| *first < workload) {
                faults.push(ConfigFault::Twice { workload, first });
            }
            let mut of_this = Vec::new();
            for (place, name) in spec.predecessors().enumerate() {
                match place_of(&self.workloads, name) {
                    Some(index) => of_this.push(index),
                    None => faults.push(ConfigFault::UnknownPredecessor { workload, place }),
                }
            }
            predecessors.push(of_this);
        }
        if faults.is_empty() {
            faults.extend(cycle(&predecessors));
        }
        if faults.is_empty() { Ok(()) } else { Err(faults) }
    }
}

fn place_of(specs: &[Spec], name: &str) -> Option<usize> {
    specs.iter().position(|spec| spec.name == name)
}

/// Takes away whatever can start until nothing is left; what stays behind is, or waits for, a cycle.
fn cycle(predecessors: &[Vec<usize>]) -> Option<ConfigFault> {
    let mut placed = alloc::vec![false; predecessors.len()];
    loop {
        let mut progress = false;
        for (index, of_this) in predecessors.iter().enumerate() {
            if !placed[index] && of_this.iter().all(|other| placed[*other]) {
                placed[index] = true;
                progress = true;
            }
        }
        if !progress {
            break;
        }
    }
    // Everyone left waits for someone left: walk along until one comes up twice.
    let unplaced = |index: usize| predecessors[index].iter().copied().find(|next| !placed[*next]);
    let mut at = placed.iter().position(|done| !done)?;
    let mut path = Vec::new();
    while !path.contains(&at) {
        path.push(at);
        at = unplaced(at)?;
    }
    let start = path.iter().position(|index| *index == at)?;
    let mut members = path.split_off(start);
    // Told from its first member in the list, so that the same mistake reads the same.
    let least = members.iter().enumerate().min_by_key(|(_, index)| **index).map_or(0, |(place, _)| place);
    members.rotate_left(least);
    let second = members.get(1).copied().unwrap_or(members[0]);
    let place = predecessors[members[0]].iter().position(|other| *other == second)?;
    Some(ConfigFault::Cycle { workloads: members, place })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Version;
    use crate::spec::{Build, Kind, Needs};

    fn want(name: &str, after: &[&str]) -> Spec {
        let build = Build { version: Version(1), needs: Needs::default() };
        let after = after.iter().map(|name| (*name).into()).collect();
        Spec { after, ..Spec::new(name, Kind::Service { replicas: 1 }, build) }
    }

    fn faults(workloads: &[Spec]) -> Vec<ConfigFault> {
        Config { workloads: workloads.to_vec(), ..Config::default() }.check().err().unwrap_or_default()
    }

    #[test]
    fn an_order_that_can_be_kept_has_no_fault() {
        let needs = Spec { requires: ["a".into()].to_vec(), ..want("c", &["b"]) };
        assert_eq!(faults(&[needs, want("a", &[]), want("b", &["a"])]), []);
    }

    #[test]
    fn every_unknown_and_every_double_name_is_told() {
        let needs = Spec { requires: ["y".into()].to_vec(), ..want("b", &["a"]) };
        assert_eq!(
            faults(&[want("a", &["x"]), needs, want("a", &[])]),
            [
                ConfigFault::UnknownPredecessor { workload: 0, place: 0 },
                ConfigFault::UnknownPredecessor { workload: 1, place: 1 },
                ConfigFault::Twice { workload: 2, first: 0 },
            ]
        );
    }

    #[test]
    fn a_cycle_is_told_by_its_members_alone() {
        let list =
            [want("a", &["d"]), want("b", &["e", "c"]), want("c", &["d"]), want("d", &["b"]), want("e", &[])];
        assert_eq!(faults(&list), [ConfigFault::Cycle { workloads: [1, 2, 3].to_vec(), place: 1 }]);
        let itself = faults(&[want("a", &["a"])]);
        assert_eq!(itself, [ConfigFault::Cycle { workloads: [0].to_vec(), place: 0 }]);
    }
}
