//! What shall run, and in which order.
//!
//! Duty: turn names into ids, and find orders that cannot be kept.
//! Not here: what happens at run time (`state`).
//! Invariant: in a [`Plan`] every `after` names another workload of it, and there is no cycle.

use alloc::vec::Vec;

/// What it means that a workload ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Meant to run for ever; others may start once it runs.
    Service,
    /// Meant to end; others may start once it has ended with success.
    Job,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestartPolicy {
    Always,
    OnFailure,
    Never,
}

/// A workload of a [`Plan`], by its place in the list that the plan was made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkloadId(pub(crate) usize);

impl WorkloadId {
    pub fn index(self) -> usize {
        self.0
    }
}

/// One workload as a person asked for it.
#[derive(Clone, Debug)]
pub struct Wanted<'a> {
    pub name: &'a str,
    pub kind: Kind,
    pub restart: RestartPolicy,
    pub after: Vec<&'a str>,
}

/// An order that cannot be kept. Numbers are places in the list of wanted workloads, and in its `after`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlanFault {
    UnknownAfter {
        workload: usize,
        after: usize,
    },
    /// Each waits for the next, the last for the first. `after` is the place in the first one's list.
    Cycle {
        workloads: Vec<usize>,
        after: usize,
    },
}

/// Workloads in an order that can be kept.
#[derive(Clone, Debug)]
pub struct Plan {
    pub(crate) workloads: Vec<Planned>,
}

#[derive(Clone, Debug)]
pub(crate) struct Planned {
    pub(crate) kind: Kind,
    pub(crate) restart: RestartPolicy,
    pub(crate) after: Vec<WorkloadId>,
}

impl Plan {
    pub fn new(wanted: &[Wanted<'_>]) -> Result<Plan, Vec<PlanFault>> {
        let mut faults = Vec::new();
        let mut workloads = Vec::with_capacity(wanted.len());
        for (workload, want) in wanted.iter().enumerate() {
            let mut after = Vec::with_capacity(want.after.len());
            for (place, name) in want.after.iter().enumerate() {
                match wanted.iter().position(|other| other.name == *name) {
                    Some(index) => after.push(WorkloadId(index)),
                    None => faults.push(PlanFault::UnknownAfter { workload, after: place }),
                }
            }
            workloads.push(Planned { kind: want.kind, restart: want.restart, after });
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        match cycle(&workloads) {
            None => Ok(Plan { workloads }),
            Some(fault) => Err(alloc::vec![fault]),
        }
    }

    pub fn ids(&self) -> impl Iterator<Item = WorkloadId> + use<> {
        (0..self.workloads.len()).map(WorkloadId)
    }
}

/// Takes away whatever can start until nothing is left; what stays behind is, or waits for, a cycle.
fn cycle(workloads: &[Planned]) -> Option<PlanFault> {
    let mut placed = alloc::vec![false; workloads.len()];
    loop {
        let mut progress = false;
        for (index, workload) in workloads.iter().enumerate() {
            if !placed[index] && workload.after.iter().all(|id| placed[id.0]) {
                placed[index] = true;
                progress = true;
            }
        }
        if !progress {
            break;
        }
    }
    // Everyone left waits for someone left: walk along until one comes up twice.
    let unplaced_after =
        |index: usize| workloads[index].after.iter().map(|id| id.0).find(|next| !placed[*next]);
    let mut at = placed.iter().position(|done| !done)?;
    let mut path = Vec::new();
    while !path.contains(&at) {
        path.push(at);
        at = unplaced_after(at)?;
    }
    let start = path.iter().position(|index| *index == at)?;
    let members = path.split_off(start);
    // Told from its first member in the list, so that the same mistake reads the same.
    let least = members.iter().enumerate().min_by_key(|(_, index)| **index).map_or(0, |(place, _)| place);
    let mut members = members;
    members.rotate_left(least);
    let second = members.get(1).copied().unwrap_or(members[0]);
    let after = workloads[members[0]].after.iter().position(|id| id.0 == second)?;
    Some(PlanFault::Cycle { workloads: members, after })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn want<'a>(name: &'a str, after: &[&'a str]) -> Wanted<'a> {
        Wanted { name, kind: Kind::Service, restart: RestartPolicy::Always, after: after.to_vec() }
    }

    #[test]
    fn a_plan_knows_what_comes_after_what() {
        let plan = Plan::new(&[want("c", &["a", "b"]), want("a", &[]), want("b", &["a"])]).unwrap();
        assert_eq!(plan.workloads[0].after, [WorkloadId(1), WorkloadId(2)]);
        assert_eq!(plan.ids().count(), 3);
    }

    #[test]
    fn every_unknown_name_is_told() {
        let faults = Plan::new(&[want("a", &["x"]), want("b", &["a", "y"])]).unwrap_err();
        assert_eq!(
            faults,
            [
                PlanFault::UnknownAfter { workload: 0, after: 0 },
                PlanFault::UnknownAfter { workload: 1, after: 1 }
            ]
        );
    }

    #[test]
    fn a_cycle_is_told_by_its_members_alone() {
        let waits_for_it = want("a", &["d"]);
        let faults = Plan::new(&[
            waits_for_it,
            want("b", &["e", "c"]),
            want("c", &["d"]),
            want("d", &["b"]),
            want("e", &[]),
        ])
        .unwrap_err();
        assert_eq!(faults, [PlanFault::Cycle { workloads: [1, 2, 3].to_vec(), after: 1 }]);
        let itself = Plan::new(&[want("a", &["a"])]).unwrap_err();
        assert_eq!(itself, [PlanFault::Cycle { workloads: [0].to_vec(), after: 0 }]);
    }
}
