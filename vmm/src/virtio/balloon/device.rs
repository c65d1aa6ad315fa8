//! The model of a memory balloon: a target for the guest, and RAM that comes back from it.
//!
//! Duty: the configuration space, who has the guest's statistics, and a turn for each queue. Not its duty: taking
//! pages from the guest's RAM ([`Lend`]), interrupts and doorbells (the transport).
//!
//! Statistics are asked for by giving the driver its buffer back (5.5.6.3):
//!
//! ```text
//!                     the driver's first list
//!   nothing ────────────────────────────────────▶ held ──┐ ask_statistics
//!                                                  ▲     ▼
//!                        the driver's next list    └── asked
//! ```
//!
//! Invariant: the driver gets its buffer back only when somebody asked: lists that come unasked stay in the ring,
//! so a driver that sends them as fast as it can keeps nobody busy, and one that never answers keeps nobody waiting.

use std::sync::Arc;
use std::time::Instant;

use super::lanes::{Lane, Named, Role};
use super::ledger::{Ledger, PAGE};
use super::lend::Lend;
use super::statistics::Statistics;
use crate::memory::GuestRam;
use crate::snapshot::Unfit;
use crate::virtio::device::{Activation, Backlog, Interrupt, VirtioDevice};
use crate::virtio::device_id;
use crate::virtio::rings::{Chain, RingFault};
use crate::virtio::state::{ModelState, Rings};

/// Feature bits (5.5.3). VIRTIO_BALLOON_F_MUST_TELL_HOST is not among them: pages come back without a word.
pub(super) mod feature {
    /// VIRTIO_BALLOON_F_STATS_VQ.
    pub(crate) const STATISTICS: u64 = 1 << 1;
    /// VIRTIO_BALLOON_F_DEFLATE_ON_OOM.
    pub(crate) const DEFLATE_ON_OOM: u64 = 1 << 2;
    /// VIRTIO_BALLOON_F_REPORTING.
    pub(crate) const REPORTING: u64 = 1 << 5;
}

/// Descriptors of each queue. Linux reports 32 blocks at a time, and gives a shorter queue up.
const QUEUE_SIZE: u16 = 64;
/// Pages in a MiB.
const PAGES_PER_MIB: u32 = (1 << 20) / 4096;
/// Where the configuration space has what the driver writes: how large the balloon is (5.5.4).
const ACTUAL_AT: u64 = 4;

/// What a balloon is made with.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// MiB of the guest's RAM.
    pub memory_mib: u32,
    /// MiB that the guest is to give back from the start; less than it has.
    pub target_mib: u32,
    /// The guest takes memory back before it kills a process for lack of it.
    pub deflate_on_oom: bool,
    /// The guest tells of blocks as they become free.
    pub reporting: bool,
}

/// A target that would leave the guest nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected less than the machine's {memory_mib} MiB, found {target_mib}")]
pub struct TooMuch {
    /// What was asked for.
    pub target_mib: u32,
    /// What the guest has.
    pub memory_mib: u32,
}

/// What a guest did that somebody may want to hear of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// It answered with its statistics.
    Statistics,
    /// It says that the balloon has another size.
    Size,
}

/// What became of a wish for statistics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Asked {
    /// The driver was asked; [`News::Statistics`] comes when it answers, if it does.
    Now,
    /// It was asked before and has not answered.
    Before,
    /// No driver that knows of statistics.
    Nobody,
}

/// Hears of the guest's doings. Called with the device locked, from the event loop or a vCPU: it must not wait.
type Listener = Box<dyn Fn(News) + Send>;

/// What there is while a driver is ready.
struct Active {
    memory: GuestRam,
    interrupt: Arc<dyn Interrupt>,
    lanes: Vec<Option<Lane>>,
    /// The driver's buffer for statistics, while it is here.
    held: Option<Chain>,
}

/// The model.
pub struct BalloonDevice<L> {
    lender: L,
    settings: Settings,
    /// Pages that the driver says it has put aside. Whatever it says.
    actual: u32,
    active: Option<Active>,
    statistics: Option<Statistics>,
    /// Lists of statistics that were read.
    answers: u64,
    named: Named,
    ledger: Ledger,
    listener: Option<Listener>,
}

impl<L> std::fmt::Debug for BalloonDevice<L> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BalloonDevice").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl<L: Lend> BalloonDevice<L> {
    /// A balloon whose pages go to `lender`.
    pub fn new(lender: L, settings: Settings) -> Result<Self, TooMuch> {
        let mut device = Self {
            lender,
            settings,
            actual: 0,
            active: None,
            statistics: None,
            answers: 0,
            named: Named::default(),
            ledger: Ledger::default(),
            listener: None,
        };
        device.set_target(settings.target_mib)?;
        Ok(device)
    }

    #[cfg(test)]
    pub(super) const fn lender_for_tests(&mut self) -> &mut L {
        &mut self.lender
    }

    /// Has `listener` called with what the guest does. It must neither wait nor use the transport.
    pub fn listen(&mut self, listener: impl Fn(News) + Send + 'static) {
        self.listener = Some(Box::new(listener));
    }

    /// How much the guest is to give back. It may take its time, and need not get there.
    pub fn set_target(&mut self, target_mib: u32) -> Result<(), TooMuch> {
        let memory_mib = self.settings.memory_mib;
        if target_mib >= memory_mib {
            return Err(TooMuch { target_mib, memory_mib });
        }
        self.settings.target_mib = target_mib;
        if let Some(active) = &self.active {
            active.interrupt.config_changed();
        }
        Ok(())
    }

    /// MiB that the guest is to give back.
    pub const fn target_mib(&self) -> u32 {
        self.settings.target_mib
    }

    /// Bytes that the driver says it has put aside: at most what the guest has.
    pub fn actual_bytes(&self) -> u64 {
        u64::from(self.actual.min(pages(self.settings.memory_mib))).saturating_mul(PAGE)
    }

    /// What the guest said of its memory last, if it ever did since its driver is ready.
    pub const fn statistics(&self) -> Option<&Statistics> {
        self.statistics.as_ref()
    }

    /// Has the driver tell its statistics anew; a fault as in [`VirtioDevice::notify`]. To be called in a turn
    /// ([`Transport::work`](crate::virtio::mmio::Transport::work)), since the driver may have broken the ring.
    pub fn ask_statistics(&mut self, now: Instant) -> Result<Asked, RingFault> {
        self.ask(now).inspect_err(|_| self.active = None)
    }

    fn ask(&mut self, now: Instant) -> Result<Asked, RingFault> {
        let Some(active) = &mut self.active else { return Ok(Asked::Nobody) };
        let of_statistics =
            |lane: &Option<Lane>| lane.as_ref().is_some_and(|lane| lane.role == Role::Statistics);
        let Some(queue) = active.lanes.iter().position(of_statistics) else { return Ok(Asked::Nobody) };
        let Some(lane) = active.lanes.get_mut(queue).and_then(Option::as_mut) else {
            return Ok(Asked::Nobody);
        };
        let Some(chain) = active.held.take() else { return Ok(Asked::Before) };
        lane.ring.complete(chain, 0)?;
        if lane.ring.wants_interrupt()? {
            active.interrupt.used(queue);
        }
        // A list that came unasked has waited in the ring, and nobody will notify of it again; where there is none,
        // this look is what has the driver notify of its next.
        self.hear_statistics(queue, now)?;
        Ok(Asked::Now)
    }

    /// Reads the driver's list and keeps its buffer, unless there is one already.
    fn hear_statistics(&mut self, queue: usize, now: Instant) -> Result<(), RingFault> {
        let Some(active) = &mut self.active else { return Ok(()) };
        let Some(lane) = active.lanes.get_mut(queue).and_then(Option::as_mut) else { return Ok(()) };
        if active.held.is_some() {
            return Ok(());
        }
        let Some(chain) = lane.ring.pop()? else { return Ok(()) };
        self.statistics = Some(Statistics::read(chain.reader(&active.memory), now));
        self.answers = self.answers.saturating_add(1);
        active.held = Some(chain);
        self.tell(News::Statistics);
        Ok(())
    }

    /// Free pages are worth telling of where the host can take them.
    fn reports(&self) -> bool {
        self.settings.reporting && self.lender.granule().is_some()
    }

    fn tell(&self, news: News) {
        if let Some(listener) = &self.listener {
            listener(news);
        }
    }

    fn turn(&mut self, queue: usize, now: Instant) -> Result<Backlog, RingFault> {
        let Some(active) = &mut self.active else { return Ok(Backlog::Done) };
        let Some(lane) = active.lanes.get_mut(queue).and_then(Option::as_mut) else {
            return Ok(Backlog::Done);
        };
        if lane.role == Role::Statistics {
            self.hear_statistics(queue, now)?;
            return Ok(Backlog::Done);
        }
        let backlog = lane.turn(&active.memory, &self.lender, &mut self.ledger, &mut self.named)?;
        if lane.ring.wants_interrupt()? {
            active.interrupt.used(queue);
        }
        Ok(backlog)
    }
}

impl<L: Lend> VirtioDevice for BalloonDevice<L> {
    fn device_type(&self) -> u32 {
        device_id::BALLOON
    }

    fn features(&self) -> u64 {
        let optional =
            [(self.settings.deflate_on_oom, feature::DEFLATE_ON_OOM), (self.reports(), feature::REPORTING)];
        optional
            .into_iter()
            .filter(|(wanted, _)| *wanted)
            .fold(feature::STATISTICS, |all, (_, bit)| all | bit)
    }

    fn queue_max_sizes(&self) -> &'static [u16] {
        if self.reports() { &[QUEUE_SIZE; 4] } else { &[QUEUE_SIZE; 3] }
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        let [target, actual] = [pages(self.settings.target_mib), self.actual].map(u32::to_le_bytes);
        let space = target.into_iter().chain(actual).skip(usize::try_from(offset).unwrap_or(usize::MAX));
        for (byte, value) in data.iter_mut().zip(space) {
            *byte = value;
        }
    }

    fn write_config(&mut self, offset: u64, data: &[u8]) {
        let mut actual = self.actual.to_le_bytes();
        for (index, value) in (0u64..).zip(data) {
            let at = offset.checked_add(index).and_then(|place| place.checked_sub(ACTUAL_AT));
            let at = at.and_then(|at| usize::try_from(at).ok());
            if let Some(byte) = at.and_then(|at| actual.get_mut(at)) {
                *byte = *value;
            }
        }
        let actual = u32::from_le_bytes(actual);
        if std::mem::replace(&mut self.actual, actual) != actual {
            self.tell(News::Size);
        }
    }

    fn activate(&mut self, activation: Activation) {
        let Activation { memory, rings, features, interrupt } = activation;
        self.active = Some(Active { memory, interrupt, lanes: Lane::all(rings, features), held: None });
    }

    fn notify(&mut self, queue: usize, now: Instant) -> Result<Backlog, RingFault> {
        // A ring that broke stays gone.
        self.turn(queue, now).inspect_err(|_| self.active = None)
    }

    /// The list that the driver left for statistics, and one that is half done, count as not taken: they are the last
    /// of their rings, and doing them again is harmless.
    fn rings(&self) -> Rings {
        let Some(active) = &self.active else { return Rings::new() };
        active.lanes.iter().map(|lane| lane.as_ref().map(|lane| lane.ring.save())).collect()
    }

    fn save(&self) -> ModelState {
        ModelState::Balloon { actual: self.actual }
    }

    /// Whatever the driver said, it may say again: no number of pages is wrong ([`Self::actual_bytes`]).
    fn restore(&mut self, state: &ModelState) -> Result<(), Unfit> {
        let ModelState::Balloon { actual } = state else {
            return Err(Unfit("what it keeps is another device's"));
        };
        self.actual = *actual;
        Ok(())
    }

    /// The target may be another one.
    fn relocated(&mut self) {
        if let Some(active) = &self.active {
            active.interrupt.config_changed();
        }
    }

    fn reset(&mut self) {
        self.active = None;
        self.statistics = None;
        // A driver that starts anew has no pages, whatever the one before it had.
        if std::mem::take(&mut self.actual) != 0 {
            self.tell(News::Size);
        }
    }

    fn counters(&self, report: &mut dyn FnMut(&'static str, u64)) {
        let sums = self.ledger.sums();
        report("target_bytes", u64::from(pages(self.settings.target_mib)).saturating_mul(PAGE));
        report("size_bytes", self.actual_bytes());
        report("inflated_pages", self.named.inflated);
        report("deflated_pages", self.named.deflated);
        report("reported_bytes", self.named.reported);
        report("ignored_pages", self.named.ignored);
        report("given_back_bytes", sums.given_back);
        report("given_back_calls", sums.calls);
        report("outside_bytes", sums.outside);
        report("kept_bytes", sums.kept);
        report("failed", sums.failed);
        report("statistics", self.answers);
    }
}

/// Pages in so many MiB; there are never more than the configuration allows.
const fn pages(mib: u32) -> u32 {
    mib.saturating_mul(PAGES_PER_MIB)
}
