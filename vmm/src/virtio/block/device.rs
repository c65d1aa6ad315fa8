//! The model of a block device: requests in, statuses out.
//!
//! Duty: start what [`Request`] admits, in the order of the queue and no faster than the limit, and answer each
//! request once, when the disk is done with it. Not its duty: host files ([`Disk`]), interrupts and doorbells (the
//! transport).
//!
//! ```text
//!            pop                 start: Pending              finished
//!   queue ─────────▶ parse, limit ─────────────▶ under way ───────────▶ answered
//!                       │   │ flush after changes   ▲                      ▲
//!                       │   └──────────▶ held ──────┘ changes are over     │
//!                       └──────────────────────────────────────────────────┘
//!                         rejected, or start: Done
//! ```
//!
//! Invariants: a read-only device never asks its disk for a change, whatever features the driver claims. After
//! [`reset`](VirtioDevice::reset) nothing more is started for the driver, and what is under way answers nobody.

use std::io;
use std::time::Instant;

use super::counters::Counters;
use super::disk::{Disk, Started, Tag, Work};
use super::request::{MAX_DISCARDED, MAX_ZEROED, Rejection, Request, Terms};
use super::under_way::{Job, UnderWay};
use super::{SECTOR, feature};
use crate::logger::Quota;
use crate::memory::GuestRam;
use crate::rate::{Limit, Verdict};
use crate::virtio::device::{Activation, Backlog, Thread, VirtioDevice};
use crate::virtio::device_id;
use crate::virtio::rings::{Chain, Ring, RingFault};
use crate::virtio::state::Rings;

/// The one queue.
const QUEUE: usize = 0;
/// Descriptors of it: sixty-four requests of four in flight.
pub(super) const QUEUE_SIZE: u16 = 256;
/// Bytes that one turn may move. Buffers may overlap, so a bound on chains alone is none on work: the event
/// loop would not come back while a guest reads its whole disk into one page, over and over.
const TURN_BYTES: u64 = 4 << 20;
/// Bytes under way at which the next request waits in the queue, [`Request::load`] of each. A reset, a pause and the end
/// of the machine wait for what is under way, and a ring full of the largest requests, 4 GiB, would keep a slow disk
/// busy for a minute, as one full of flushes or of discards would.
const MAX_UNDER_WAY: u64 = 64 << 20;
/// Bytes of the answer to GET_ID (5.2.6).
const ID_BYTES: usize = 20;

const STATUS_OK: u8 = 0;
const STATUS_IO_ERROR: u8 = 1;
const STATUS_UNSUPPORTED: u8 = 2;

/// The model.
#[derive(Debug)]
pub struct BlockDevice<D> {
    disk: D,
    id: [u8; ID_BYTES],
    read_only: bool,
    limit: Limit,
    active: Option<Active>,
    /// Counts activations, see [`Tag`].
    generation: u32,
    counters: Counters,
    complaints: Quota,
}

/// What exists from DRIVER_OK to the next reset.
#[derive(Debug)]
struct Active {
    activation: Activation,
    under_way: UnderWay,
    /// The queue waits for room under way.
    crowded: bool,
}

impl Active {
    /// Whether the queue waited for room and has it now.
    const fn goes_on(&mut self) -> bool {
        let goes_on = self.crowded && self.under_way.load() < MAX_UNDER_WAY;
        self.crowded &= !goes_on;
        goes_on
    }

    fn ring(&mut self) -> Option<&mut Ring> {
        self.activation.rings.get_mut(QUEUE).and_then(Option::as_mut)
    }
}

impl<D: Disk> BlockDevice<D> {
    /// A device on `disk`; `id` is cut to the 20 bytes that the protocol has.
    pub fn new(disk: D, id: &str, read_only: bool, limit: Limit) -> Self {
        let mut padded = [0; ID_BYTES];
        for (to, from) in padded.iter_mut().zip(id.bytes()) {
            *to = from;
        }
        Self {
            disk,
            id: padded,
            read_only,
            limit,
            active: None,
            generation: 0,
            counters: Counters::default(),
            complaints: Quota::default(),
        }
    }

    /// What holds the sectors, to be changed before the driver comes.
    pub const fn disk_mut(&mut self) -> &mut D {
        &mut self.disk
    }

    /// What holds the sectors.
    pub const fn disk(&self) -> &D {
        &self.disk
    }

    /// Requests that are neither answered nor in the queue any more.
    pub fn in_flight(&self) -> usize {
        self.active.as_ref().map_or(0, |active| active.under_way.len())
    }

    /// Answers what the disk has finished. To be called when it has something to tell. There is a backlog where the
    /// queue waited for that.
    pub fn settle(&mut self) -> Result<Backlog, RingFault> {
        let settled = self.with_active(|device, active| {
            device.settle_active(active)?;
            Ok(if active.goes_on() { Backlog::More } else { Backlog::Done })
        });
        settled.unwrap_or(Ok(Backlog::Done))
    }

    /// Lends what is active to `work`. A ring that broke stays gone: its chains with it, and whatever the disk
    /// still does for them ends before the reset does that must follow.
    fn with_active<T>(
        &mut self,
        work: impl FnOnce(&mut Self, &mut Active) -> Result<T, RingFault>,
    ) -> Option<Result<T, RingFault>> {
        let mut active = self.active.take()?;
        let result = work(self, &mut active);
        if result.is_ok() {
            self.active = Some(active);
        }
        Some(result)
    }

    fn turn(&mut self, active: &mut Active, now: Instant) -> Result<Backlog, RingFault> {
        let Some(chains) = active.ring().map(|ring| ring.size()) else { return Ok(Backlog::Done) };
        let terms = Terms {
            capacity: self.disk.bytes(),
            read_only: self.read_only,
            features: active.activation.features,
        };
        let mut backlog = Backlog::More;
        let mut moved = 0u64;
        for _ in 0..chains {
            if moved >= TURN_BYTES {
                break;
            }
            if active.under_way.load() >= MAX_UNDER_WAY {
                active.crowded = true;
                backlog = Backlog::Done;
                break;
            }
            let Some(chain) = active.ring().map_or(Ok(None), Ring::pop)? else {
                backlog = Backlog::Done;
                break;
            };
            let request = Request::parse(&chain, &mut chain.reader(&active.activation.memory), terms);
            // In order: whatever is behind a request that must wait, flushes among it, waits with it. A flush is
            // one operation of no bytes.
            if let Verdict::Wait(time) = self.limit.take(request.map_or(0, Request::bytes), now) {
                self.counters.limited();
                if let Some(ring) = active.ring() {
                    ring.put_back(chain);
                }
                backlog = Backlog::Until(time);
                break;
            }
            let bytes = chain.readable_bytes().saturating_add(chain.writable_bytes());
            moved = moved
                .saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX))
                .saturating_add(request.map_or(0, |request| request.weight(terms.durable())));
            match request {
                Ok(request) => self.begin(active, chain, request, terms)?,
                Err(rejection) => self.reject(active, chain, rejection)?,
            }
        }
        self.settle_active(active)?;
        Ok(if active.goes_on() { Backlog::More } else { backlog })
    }

    fn begin(
        &mut self,
        active: &mut Active,
        chain: Chain,
        request: Request,
        terms: Terms,
    ) -> Result<(), RingFault> {
        if chain.writable_bytes() == 0 {
            // Not even a byte for the status: nothing can be said, the chain goes back as it came.
            return self.reject(active, chain, Rejection::Invalid);
        }
        let job = active.under_way.job(chain, request, request.load(terms.durable()));
        if active.under_way.must_wait(request) {
            active.under_way.hold(job);
            return Ok(());
        }
        self.start(active, job)
    }

    fn start(&mut self, active: &mut Active, job: Job) -> Result<(), RingFault> {
        let tag = Tag { generation: self.generation, head: job.chain.head() };
        let memory = &active.activation.memory;
        match self.ask(&job, memory, active.activation.features, tag) {
            Started::Done(result) => self.finish(active, job, &result),
            Started::Pending => {
                active.under_way.insert(job);
                self.counters.in_flight(active.under_way.len());
                Ok(())
            }
        }
    }

    /// Has the disk do what `job` asks for.
    fn ask(&mut self, job: &Job, memory: &GuestRam, features: u64, tag: Tag) -> Started {
        let mut reader = job.chain.reader(memory);
        let mut writer = job.chain.writer(memory);
        // Without FLUSH the driver has no other way to stable storage than each write (5.2.6.2).
        let durable = features & feature::FLUSH == 0;
        let work = match job.request {
            Request::Read { bytes: 0, .. }
            | Request::Write { bytes: 0, .. }
            | Request::Discard { bytes: 0, .. }
            | Request::Zero { bytes: 0, .. } => return Started::Done(Ok(())),
            Request::GetId if writer.remaining() > ID_BYTES => {
                writer.write(&self.id);
                return Started::Done(Ok(()));
            }
            Request::GetId => return Started::Done(Err(io::ErrorKind::InvalidInput.into())),
            Request::Read { offset, .. } => {
                writer.limit(writer.remaining().saturating_sub(1));
                Work::Read { offset, into: writer }
            }
            Request::Write { offset, .. } => {
                reader.skip(super::request::HEADER);
                Work::Write { offset, from: reader, durable }
            }
            Request::Flush => Work::Flush,
            Request::Discard { offset, bytes } => Work::Discard { offset, bytes },
            Request::Zero { offset, bytes, unmap } => Work::Zero { offset, bytes, unmap, durable },
        };
        self.disk.start(tag, work)
    }

    fn finish(&mut self, active: &mut Active, job: Job, result: &io::Result<()>) -> Result<(), RingFault> {
        let status = match result {
            Ok(()) => {
                self.counters.done(job.request);
                STATUS_OK
            }
            // The host turned out not to have it after all: a driver then does without.
            Err(error) if error.kind() == io::ErrorKind::Unsupported => {
                self.counters.failed();
                STATUS_UNSUPPORTED
            }
            Err(error) => {
                self.counters.failed();
                if self.complaints.allow() {
                    log::warn!("block: {:?} failed: {error}", job.request);
                }
                STATUS_IO_ERROR
            }
        };
        // What the driver asked for is in every byte before the status.
        let filled = status == STATUS_OK
            && match job.request {
                Request::Read { .. } => true,
                Request::GetId => job.chain.writable_bytes() == ID_BYTES.saturating_add(1),
                _ => false,
            };
        Self::answer(active, job.chain, status, filled)
    }

    fn reject(&mut self, active: &mut Active, chain: Chain, rejection: Rejection) -> Result<(), RingFault> {
        self.counters.failed();
        let status = match rejection {
            Rejection::Unsupported => STATUS_UNSUPPORTED,
            Rejection::Invalid => STATUS_IO_ERROR,
        };
        Self::answer(active, chain, status, false)
    }

    /// Gives a chain back with its last writable byte, where it has one, as the status. So many bytes as it says were
    /// written from the first writable one on (2.7.8.2): none, where the status stands behind data that are not there.
    fn answer(active: &mut Active, chain: Chain, status: u8, filled: bool) -> Result<(), RingFault> {
        let mut writer = chain.writer(&active.activation.memory);
        let room = writer.remaining();
        writer.skip(room.saturating_sub(1));
        writer.write(&[status]);
        let written = if filled || room <= 1 { room } else { 0 };
        active.ring().map_or(Ok(()), |ring| ring.complete(chain, written))
    }

    fn settle_active(&mut self, active: &mut Active) -> Result<(), RingFault> {
        self.disk.submit();
        while let Some((tag, result)) = self.disk.finished() {
            let current = tag.generation == self.generation;
            if let Some(job) = current.then(|| active.under_way.take(tag.head)).flatten() {
                self.finish(active, job, &result)?;
            }
        }
        let first_change = active.under_way.first_change();
        while let Some(flush) = active.under_way.due(first_change) {
            self.start(active, flush)?;
        }
        self.disk.submit();
        if active.ring().map_or(Ok(false), Ring::wants_interrupt)? {
            active.activation.interrupt.used(QUEUE);
        }
        Ok(())
    }

    /// The configuration space (5.2.4) up to and including `write_zeroes_may_unmap`. What belongs to a feature
    /// that is not offered is zero.
    fn config_space(&self) -> [u8; 60] {
        let sectors = |bytes: u64| u32::try_from(bytes.checked_div(SECTOR).unwrap_or(0)).unwrap_or(u32::MAX);
        let space = self.disk.space();
        let mut config = [0; 60];
        let mut put = |offset: usize, field: &[u8]| {
            for (to, from) in config.iter_mut().skip(offset).zip(field) {
                *to = *from;
            }
        };
        put(0, &self.disk.bytes().checked_div(SECTOR).unwrap_or(0).to_le_bytes());
        // Header and status take a descriptor each.
        put(12, &u32::from(QUEUE_SIZE.saturating_sub(2)).to_le_bytes());
        if let Some(alignment) = self.discard() {
            put(36, &sectors(MAX_DISCARDED).to_le_bytes());
            put(40, &1u32.to_le_bytes());
            put(44, &sectors(alignment).max(1).to_le_bytes());
        }
        if self.zero() {
            put(48, &sectors(MAX_ZEROED).to_le_bytes());
            put(52, &1u32.to_le_bytes());
            put(56, &[u8::from(space.discard.is_some())]);
        }
        config
    }

    fn discard(&self) -> Option<u64> {
        self.disk.space().discard.filter(|_| !self.read_only)
    }

    fn zero(&self) -> bool {
        self.disk.space().zero && !self.read_only
    }
}

impl<D: Disk> VirtioDevice for BlockDevice<D> {
    fn device_type(&self) -> u32 {
        device_id::BLOCK
    }

    fn features(&self) -> u64 {
        let when = |condition: bool, bit: u64| if condition { bit } else { 0 };
        feature::SEG_MAX
            | feature::FLUSH
            | when(self.read_only, feature::READ_ONLY)
            | when(self.discard().is_some(), feature::DISCARD)
            | when(self.zero(), feature::WRITE_ZEROES)
    }

    fn queue_max_sizes(&self) -> &'static [u16] {
        &[QUEUE_SIZE]
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        let space = self.config_space();
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        for (to, from) in data.iter_mut().zip(space.get(start..).unwrap_or_default()) {
            *to = *from;
        }
    }

    fn activate(&mut self, activation: Activation) {
        let size = activation.rings.get(QUEUE).and_then(Option::as_ref).map_or(0, Ring::size);
        self.generation = self.generation.wrapping_add(1);
        self.active = Some(Active { activation, under_way: UnderWay::new(size), crowded: false });
    }

    fn notify(&mut self, queue: usize, now: Instant) -> Result<Backlog, RingFault> {
        if queue != QUEUE {
            return Ok(Backlog::Done);
        }
        self.with_active(|device, active| device.turn(active, now)).unwrap_or(Ok(Backlog::Done))
    }

    fn under_way(&self) -> usize {
        self.disk.pending()
    }

    fn quiesce(&mut self) -> Result<(), RingFault> {
        while self.in_flight() > 0 && self.disk.pending() > 0 {
            self.disk.wait();
            let _ = self.settle()?;
        }
        Ok(())
    }

    fn rings(&self) -> Rings {
        self.active.as_ref().map(|active| active.activation.saved_rings()).unwrap_or_default()
    }

    fn reset(&mut self) {
        self.active = None;
        self.drain(Thread::Vcpu);
    }

    fn drain(&mut self, on: Thread) {
        let send = |disk: &mut D| match on {
            Thread::Vcpu => disk.offer(),
            Thread::EventLoop => disk.submit(),
        };
        // What a turn left unsent when its ring broke, first; then the rest of what ended in parts.
        send(&mut self.disk);
        while self.disk.finished().is_some() {}
        send(&mut self.disk);
    }

    fn counters(&self, report: &mut dyn FnMut(&'static str, u64)) {
        self.counters.report(report);
        self.disk.counters(report);
    }
}
