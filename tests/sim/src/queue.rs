//! What will happen, and when.
//!
//! Duty: a queue by time. Not here: what it is that happens (`world`).
//! Invariant: what is planned for the same moment happens in the order in which it was planned, so a seed's hours are
//! the same every time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use hearth_core::{BootReason, Moment, Said, Vm, VmEnd, WorkloadEnd};

use crate::guest::Key;

/// Something that will happen.
#[derive(Clone, Debug)]
pub(crate) enum Thing {
    /// A machine's own doing.
    Guest(Key, Doing),
    /// A word reaches the daemon of that life.
    Word {
        life: u32,
        vm: Vm,
        said: Said,
    },
    /// A subsystem of the daemon speaks.
    Subsystem(usize),
    DaemonBegins {
        reason: Option<BootReason>,
    },
    Thaws,
    PowerFails {
        cuts: u8,
    },
    /// Something may go wrong.
    Weather,
    /// The person may do something.
    Edit,
    /// The person did not mean it.
    Regret {
        place: usize,
        replicas: Option<u16>,
    },
    /// The person agrees to what is proposed.
    Agree {
        place: usize,
    },
    NextSeason,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Doing {
    ComesUp,
    Beats,
    Reconnects,
    WorkloadEnds(WorkloadEnd),
    ProcessRuns,
    Hangs,
    Ends(VmEnd),
}

/// By time, then in the order in which it was planned.
#[derive(Debug)]
struct Planned {
    at: Moment,
    number: u64,
    thing: Thing,
}

impl PartialEq for Planned {
    fn eq(&self, other: &Planned) -> bool {
        self.number == other.number
    }
}

impl Eq for Planned {}

impl PartialOrd for Planned {
    fn partial_cmp(&self, other: &Planned) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Planned {
    fn cmp(&self, other: &Planned) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

#[derive(Debug, Default)]
pub(crate) struct Queue {
    heap: BinaryHeap<Reverse<Planned>>,
    planned: u64,
}

impl Queue {
    pub(crate) fn plan(&mut self, at: Moment, thing: Thing) {
        self.planned += 1;
        self.heap.push(Reverse(Planned { at, number: self.planned, thing }));
    }

    pub(crate) fn next(&self) -> Option<Moment> {
        self.heap.peek().map(|Reverse(planned)| planned.at)
    }

    pub(crate) fn pop(&mut self) -> Option<(Moment, Thing)> {
        self.heap.pop().map(|Reverse(planned)| (planned.at, planned.thing))
    }
}
