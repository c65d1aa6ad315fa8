//! The requests that the disk has not answered yet, and the flushes that wait for some of them.
//!
//! Duty: own each chain from the moment its request is pending until it is answered; keep a flush back until
//! every change that the driver asked for before it is over. Reads are not waited for, and nothing waits for a
//! flush: a flush is no barrier (virtio 1.2, 5.2.6.2 asks for less still, for completed writes only).
//!
//! Invariant: at most one job per head, so never more than the queue has descriptors.

use std::collections::VecDeque;

use super::request::Request;
use crate::virtio::rings::Chain;

/// One request with its chain.
#[derive(Debug)]
#[must_use = "its chain is lost to the driver unless it is answered"]
pub(super) struct Job {
    pub(super) chain: Chain,
    pub(super) request: Request,
    /// Its place in the order of requests.
    order: u64,
    /// What it counts, in bytes.
    load: u64,
}

#[derive(Debug)]
pub(super) struct UnderWay {
    /// Pending jobs, by the head of their chain.
    jobs: Vec<Option<Job>>,
    pending: usize,
    /// How many of the pending jobs change the disk.
    changes: usize,
    /// What all of them count.
    load: u64,
    /// Flushes that wait for changes, in order.
    held: VecDeque<Job>,
    next_order: u64,
}

impl UnderWay {
    /// Nothing is under way on a queue of `size` descriptors.
    pub(super) fn new(size: u16) -> Self {
        let jobs = (0..size).map(|_| None).collect();
        Self { jobs, pending: 0, changes: 0, load: 0, held: VecDeque::new(), next_order: 0 }
    }

    /// Gives a request, which counts so much, its place in the order.
    pub(super) fn job(&mut self, chain: Chain, request: Request, load: u64) -> Job {
        let order = self.next_order;
        self.next_order = order.wrapping_add(1);
        Job { chain, request, order, load }
    }

    /// Pending jobs, and flushes that are held back.
    pub(super) fn len(&self) -> usize {
        self.pending.saturating_add(self.held.len())
    }

    /// What pending jobs and flushes that are held back count, in bytes.
    pub(super) const fn load(&self) -> u64 {
        self.load
    }

    /// Whether `request` has to wait for others that came before it.
    pub(super) fn must_wait(&self, request: Request) -> bool {
        request == Request::Flush && self.changes > 0
    }

    /// Keeps a flush until [`due`](Self::due) lets it go.
    pub(super) fn hold(&mut self, job: Job) {
        self.load = self.load.saturating_add(job.load);
        self.held.push_back(job);
    }

    /// The disk will tell of `job` later.
    pub(super) fn insert(&mut self, job: Job) {
        if let Some(place) = self.jobs.get_mut(usize::from(job.chain.head())) {
            self.pending = self.pending.saturating_add(1);
            self.changes = self.changes.saturating_add(usize::from(job.request.modifies()));
            self.load = self.load.saturating_add(job.load);
            *place = Some(job);
        }
    }

    /// The disk told of the job with this head.
    pub(super) fn take(&mut self, head: u16) -> Option<Job> {
        let job = self.jobs.get_mut(usize::from(head))?.take()?;
        self.pending = self.pending.saturating_sub(1);
        self.changes = self.changes.saturating_sub(usize::from(job.request.modifies()));
        self.load = self.load.saturating_sub(job.load);
        Some(job)
    }

    /// The first change that is pending: flushes from before it are due.
    pub(super) fn first_change(&self) -> Option<u64> {
        if self.held.is_empty() || self.changes == 0 {
            return None;
        }
        self.jobs.iter().flatten().filter(|job| job.request.modifies()).map(|job| job.order).min()
    }

    /// A flush for which nothing before `first_change` is left to wait for.
    pub(super) fn due(&mut self, first_change: Option<u64>) -> Option<Job> {
        let order = self.held.front()?.order;
        if first_change.is_some_and(|first| first < order) {
            return None;
        }
        let job = self.held.pop_front()?;
        self.load = self.load.saturating_sub(job.load);
        Some(job)
    }
}
