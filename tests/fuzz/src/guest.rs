//! A guest that drives one virtio device, mostly as drivers do: registers, rings, buffers.
//!
//! Duty: play an input as a sequence of what a guest and its host can do to a device, and show at the end that a driver
//! which resets it and begins anew is served. Not its duty: any device's protocol ([`Play`]).
//!
//! What holds whatever the guest does, and is asserted here: nothing panics; a device that was given no new work comes
//! to rest within a bounded number of turns; queues do not change once they are active; a reset ends, and an honest
//! driver behind it gets its answers. Memory is bounded by the fuzzer (`-malloc_limit_mb`).

use std::time::{Duration, Instant};

use hearth_vmm::machine::BusDevice;
use hearth_vmm::memory::{self, GuestRam};
use hearth_vmm::rate::{Bucket, Limit};
use hearth_vmm::virtio::device::{Backlog, VirtioDevice};
use hearth_vmm::virtio::feature;
use hearth_vmm::virtio::mmio::Transport;
use hearth_vmm::virtio::mmio::registers::{self as reg, status};
use hearth_vmm::virtio::state::{PhaseState, TransportState};
use vm_memory::{Bytes, GuestAddress};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::wild::Wild;

/// Where RAM has its hole, where it goes on, where two of its regions touch, and where it ends.
pub const HOLE: u64 = 4 << 20;
/// See [`HOLE`].
pub const UPPER: u64 = 8 << 20;
/// See [`HOLE`].
pub const SEAM: u64 = 9 << 20;
/// See [`HOLE`].
pub const END: u64 = 10 << 20;

/// Steps of one input.
const STEPS: usize = 96;
/// Turns after which a device that got nothing new has to be at rest. A balloon reads a long list in sixteen, a console
/// looks a hundred times for room, and a queue has 256 chains.
const TURNS: usize = 4096;
/// How often a rate limit is waited for: a guest whose disk may move a byte a second waits longer than anybody looks on.
const WAITS: usize = 64;

/// VIRTQ_DESC_F_NEXT, VIRTQ_DESC_F_WRITE, VIRTQ_DESC_F_INDIRECT.
const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;
/// The parts of a queue, from where it begins.
const AVAILABLE: u64 = 0x4000;
const USED: u64 = 0x8000;
/// Where queues begin, and how far apart they are.
const QUEUES: u64 = 0x1_0000;
const QUEUE: u64 = 0x1_0000;
/// Where buffers are, when nothing is wrong with them.
const BUFFERS: std::ops::Range<u64> = 0x10_0000..HOLE;

/// RAM with a hole and a seam.
///
/// # Panics
/// Where the host has none.
#[must_use]
pub fn ram() -> GuestRam {
    let mib = 1 << 20;
    let ranges = [(GuestAddress(0), 4 * mib), (GuestAddress(UPPER), mib), (GuestAddress(SEAM), mib)];
    memory::allocate(&ranges).expect("the host gives ten megabytes")
}

/// A part of a request: bytes to the device, or room for its answer.
#[derive(Debug, Clone)]
pub enum Piece {
    /// What the driver says.
    Out(Vec<u8>),
    /// Room.
    In(u32),
}

#[derive(Debug, Clone, Copy)]
struct Descriptor {
    address: u64,
    bytes: u32,
    flags: u16,
    next: u16,
}

/// One queue as its driver sees it.
#[derive(Debug, Clone, Copy)]
struct Lane {
    base: u64,
    size: u16,
    offered: u16,
    descriptor: u16,
    seen: u16,
}

/// The guest, with the device that it drives.
#[derive(Debug)]
pub struct Guest<D> {
    /// Its RAM.
    pub ram: GuestRam,
    /// The device.
    pub transport: Transport<D>,
    /// The time, which passes when somebody says so.
    pub now: Instant,
    lanes: Vec<Lane>,
    buffer: u64,
}

impl<D: VirtioDevice> Guest<D> {
    /// A guest before its driver.
    pub fn new(model: D) -> Self {
        Self::with_ram(model, ram())
    }

    fn with_ram(model: D, ram: GuestRam) -> Self {
        let queues = (0u64..).zip(model.queue_max_sizes());
        let lane = |(number, size): (u64, &u16)| Lane {
            base: QUEUES + number * QUEUE,
            size: *size,
            offered: 0,
            descriptor: 0,
            seen: 0,
        };
        let lanes = queues.map(lane).collect();
        let transport = Self::transport(model, &ram);
        Self { ram, transport, now: Instant::now(), lanes, buffer: BUFFERS.start }
    }

    fn transport(model: D, ram: &GuestRam) -> Transport<D> {
        let interrupt = EventFd::new(EFD_NONBLOCK).expect("the host gives an event");
        Transport::new("device", model, ram.clone(), interrupt)
    }

    /// Writes a register of 32 bits.
    pub fn write(&self, register: u64, value: u32) {
        BusDevice::write(&self.transport, register, &value.to_le_bytes());
    }

    /// Reads a register of 32 bits.
    pub fn read(&self, register: u64) -> u32 {
        let mut word = [0; 4];
        BusDevice::read(&self.transport, register, &mut word);
        u32::from_le_bytes(word)
    }

    /// What the device offers.
    pub fn offered_features(&self) -> u64 {
        let half = |select| {
            self.write(reg::DEVICE_FEATURES_SEL, select);
            u64::from(self.read(reg::DEVICE_FEATURES))
        };
        half(0) | half(1) << 32
    }

    /// The dance of an honest driver that takes `features`, with queues as large as may be; whether it is served.
    #[expect(clippy::cast_possible_truncation, reason = "halves of 64 bits, both written")]
    pub fn set_up(&mut self, features: u64) -> bool {
        self.write(reg::STATUS, 0);
        self.write(reg::STATUS, status::ACKNOWLEDGE);
        self.write(reg::STATUS, status::ACKNOWLEDGE | status::DRIVER);
        for (select, half) in [(0, features as u32), (1, (features >> 32) as u32)] {
            self.write(reg::DRIVER_FEATURES_SEL, select);
            self.write(reg::DRIVER_FEATURES, half);
        }
        let agreed = status::ACKNOWLEDGE | status::DRIVER | status::FEATURES_OK;
        self.write(reg::STATUS, agreed);
        for queue in 0..self.lanes.len() {
            self.set_up_queue(queue);
        }
        self.write(reg::STATUS, agreed | status::DRIVER_OK);
        // The transport rings every bell then.
        (0..self.lanes.len()).for_each(|queue| self.turn(queue));
        self.read(reg::STATUS) == agreed | status::DRIVER_OK
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "halves of 64 bits, both written, and at most four queues"
    )]
    fn set_up_queue(&mut self, queue: usize) {
        let Some(lane) = self.lanes.get_mut(queue) else { return };
        *lane = Lane { offered: 0, descriptor: 0, seen: 0, ..*lane };
        let Lane { base, size, .. } = *lane;
        for (part, bytes) in [(AVAILABLE, 6 + 2 * usize::from(size)), (USED, 6 + 8 * usize::from(size))] {
            self.put(base + part, &vec![0; bytes]);
        }
        self.write(reg::QUEUE_SEL, queue as u32);
        self.write(reg::QUEUE_SIZE, size.into());
        let parts = [
            (reg::QUEUE_DESC, base),
            (reg::QUEUE_DRIVER, base + AVAILABLE),
            (reg::QUEUE_DEVICE, base + USED),
        ];
        for ((low, high), address) in parts {
            self.write(low, address as u32);
            self.write(high, (address >> 32) as u32);
        }
        self.write(reg::QUEUE_READY, 1);
    }

    /// Puts bytes into RAM, as far as there is any.
    fn put(&self, address: u64, bytes: &[u8]) {
        // A guest that writes beyond its RAM writes nowhere.
        let _ = self.ram.write_slice(bytes, GuestAddress(address));
    }

    /// Takes bytes out of RAM; zeroes where there is none.
    #[must_use]
    pub fn get(&self, address: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        let _ = self.ram.read_slice(&mut bytes, GuestAddress(address));
        bytes
    }

    fn room(&mut self, bytes: u64) -> u64 {
        if self.buffer.checked_add(bytes).is_none_or(|end| end > BUFFERS.end) {
            self.buffer = BUFFERS.start;
        }
        let address = self.buffer;
        // Odd places come by themselves, as pieces have odd lengths.
        self.buffer = (self.buffer + bytes).min(BUFFERS.end);
        address
    }

    /// Offers an honest chain; where its room for answers begins.
    pub fn offer(&mut self, queue: usize, pieces: &[Piece]) -> u64 {
        let chain = self.lay_out(pieces);
        let answer = chain.iter().find(|one| one.flags & WRITE != 0).map_or(0, |one| one.address);
        self.publish(queue, &chain, None);
        answer
    }

    /// Puts the bytes of a request into RAM and describes where they are.
    fn lay_out(&mut self, pieces: &[Piece]) -> Vec<Descriptor> {
        let mut chain = Vec::new();
        for piece in pieces {
            let (bytes, flags) = match piece {
                Piece::Out(bytes) => (u32::try_from(bytes.len()).unwrap_or(0), 0),
                Piece::In(bytes) => (*bytes, WRITE),
            };
            let address = self.room(bytes.into());
            if let Piece::Out(bytes) = piece {
                self.put(address, bytes);
            }
            chain.push(Descriptor { address, bytes, flags, next: 0 });
        }
        chain
    }

    /// Offers a chain that may be cut differently, and that may be broken.
    fn offer_wildly(&mut self, queue: usize, pieces: &[Piece], wild: &mut Wild<'_>) {
        let mut chain = self.lay_out(pieces);
        while wild.one_in(4) && chain.len() < 20 {
            split(&mut chain, wild);
        }
        self.publish(queue, &chain, Some(wild));
    }

    fn publish(&mut self, queue: usize, chain: &[Descriptor], mut wild: Option<&mut Wild<'_>>) {
        let Some(mut lane) = self.lanes.get(queue).copied() else { return };
        let size = lane.size.max(1);
        let mut chain = chain.to_vec();
        chain.truncate(size.into());
        let indirect = wild.as_deref_mut().is_some_and(|wild| wild.one_in(8));
        let (table, first) =
            if indirect { (self.room(chain.len() as u64 * 16), 0) } else { (lane.base, lane.descriptor) };
        let length = chain.len();
        let place = |number: usize| {
            let number = u16::try_from(number).unwrap_or(0);
            if indirect { number } else { first.wrapping_add(number) % size }
        };
        for (number, one) in chain.iter_mut().enumerate() {
            if number + 1 < length {
                one.flags |= NEXT;
                one.next = place(number + 1);
            }
            if let Some(wild) = wild.as_deref_mut() {
                bend(one, &lane, wild);
            }
        }
        for (number, one) in chain.iter().enumerate() {
            self.describe(table, place(number), *one);
        }
        let mut head = place(0);
        if indirect {
            head = lane.descriptor % size;
            let bytes = u32::try_from(length * 16).unwrap_or(0);
            let mut one = Descriptor { address: table, bytes, flags: INDIRECT, next: 0 };
            if let Some(wild) = wild.as_deref_mut() {
                bend(&mut one, &lane, wild);
            }
            self.describe(lane.base, head, one);
            lane.descriptor = (head + 1) % size;
        } else {
            lane.descriptor = place(length);
        }
        if let Some(wild) = wild.as_deref_mut()
            && wild.one_in(40)
        {
            head = wild.odd16();
        }
        let slot = lane.base + AVAILABLE + 4 + 2 * u64::from(lane.offered % size);
        self.put(slot, &head.to_le_bytes());
        lane.offered = lane.offered.wrapping_add(1);
        if let Some(wild) = wild
            && wild.one_in(60)
        {
            lane.offered = wild.odd16();
        }
        self.put(lane.base + AVAILABLE + 2, &lane.offered.to_le_bytes());
        if let Some(place) = self.lanes.get_mut(queue) {
            *place = lane;
        }
    }

    fn describe(&self, table: u64, index: u16, one: Descriptor) {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&one.address.to_le_bytes());
        bytes[8..12].copy_from_slice(&one.bytes.to_le_bytes());
        bytes[12..14].copy_from_slice(&one.flags.to_le_bytes());
        bytes[14..].copy_from_slice(&one.next.to_le_bytes());
        self.put(table.wrapping_add(u64::from(index) * 16), &bytes);
    }

    /// How many bytes the device says it wrote into each chain that it has given back since the last call.
    pub fn used(&mut self, queue: usize) -> Vec<u32> {
        let Some(mut lane) = self.lanes.get(queue).copied() else { return Vec::new() };
        let word = |bytes: Vec<u8>| bytes.iter().rev().fold(0u32, |all, byte| all << 8 | u32::from(*byte));
        let index = word(self.get(lane.base + USED + 2, 2));
        let mut all = Vec::new();
        while u32::from(lane.seen) != index {
            let slot = lane.base + USED + 4 + 8 * u64::from(lane.seen % lane.size.max(1));
            all.push(word(self.get(slot + 4, 4)));
            lane.seen = lane.seen.wrapping_add(1);
        }
        if let Some(place) = self.lanes.get_mut(queue) {
            *place = lane;
        }
        all
    }

    /// Gives a queue its turns until the device has no more to do, waiting for rate limits a while.
    ///
    /// # Panics
    /// Where it goes on for ever.
    pub fn turn(&mut self, queue: usize) {
        let mut waits = 0;
        for _ in 0..TURNS {
            match self.transport.work(|model| model.notify(queue, self.now)) {
                Backlog::Done | Backlog::HostFull => return,
                Backlog::More => {}
                Backlog::Until(time) => {
                    waits += 1;
                    if waits > WAITS {
                        return;
                    }
                    self.now = self.now.max(time);
                }
            }
        }
        panic!("queue {queue} has had {TURNS} turns and is not at rest");
    }

    /// Whether the driver is to reset the device.
    #[must_use]
    pub fn needs_reset(&self) -> bool {
        self.read(reg::STATUS) & status::DEVICE_NEEDS_RESET != 0
    }

    fn queue(&self, wild: &mut Wild<'_>) -> usize {
        // Now and then one that does not exist.
        if wild.one_in(50) { wild.index(8) } else { wild.index(self.lanes.len()) }
    }
}

/// Cuts one buffer of a chain in two, or makes one of it that overlaps.
fn split(chain: &mut Vec<Descriptor>, wild: &mut Wild<'_>) {
    let at = wild.index(chain.len());
    let Some(one) = chain.get_mut(at) else { return };
    if one.bytes < 2 {
        return;
    }
    let first = 1 + u32::try_from(wild.below(u64::from(one.bytes) - 1)).unwrap_or(0);
    let rest = Descriptor { address: one.address + u64::from(first), bytes: one.bytes - first, ..*one };
    one.bytes = first;
    chain.insert(at + 1, rest);
}

/// Breaks a descriptor, seldom.
fn bend(one: &mut Descriptor, lane: &Lane, wild: &mut Wild<'_>) {
    if !wild.one_in(32) {
        return;
    }
    match wild.byte() % 6 {
        0 => one.address = odd_address(lane, wild),
        1 => one.bytes = wild.odd32(),
        2 => one.flags ^= 1 << (wild.byte() % 4),
        3 => one.next = wild.odd16(),
        // An honest mistake: its own answer lies over its own question.
        4 => one.address = BUFFERS.start,
        _ => {
            *one = Descriptor {
                address: wild.odd(),
                bytes: wild.odd32(),
                flags: wild.odd16(),
                next: wild.odd16(),
            }
        }
    }
}

/// Where something begins or ends.
fn odd_address(lane: &Lane, wild: &mut Wild<'_>) -> u64 {
    let edges = [0, lane.base, lane.base + AVAILABLE, lane.base + USED, HOLE, UPPER, SEAM, END, u64::MAX];
    wild.pick(&edges).wrapping_add(wild.below(33)).wrapping_sub(16)
}

/// A limit that may be none, or very small.
pub fn limit(wild: &mut Wild<'_>) -> Limit {
    let mut bucket = || wild.one_in(6).then(|| Bucket::new(wild.odd() >> 20, wild.odd() >> 20));
    Limit::new(bucket(), bucket())
}

/// What is peculiar to a device.
pub trait Play {
    /// Its model.
    type Model: VirtioDevice;

    /// A device as it is when a machine is made.
    fn model(&mut self) -> Self::Model;

    /// A request for `queue` that makes sense, as a rule.
    fn request(&mut self, queue: usize, wild: &mut Wild<'_>) -> Vec<Piece>;

    /// Something happens on the host.
    fn host(&mut self, guest: &mut Guest<Self::Model>, wild: &mut Wild<'_>);

    /// The driver is about to reset the device: what the host has under way comes to an end.
    fn before_reset(&mut self) {}

    /// An honest driver is served by a device that was just reset.
    fn prove(&mut self, guest: &mut Guest<Self::Model>);
}

/// Plays all of an input.
///
/// # Panics
/// Where what this module promises does not hold.
pub fn play<P: Play>(mut play: P, wild: &mut Wild<'_>) {
    let mut guest = Guest::new(play.model());
    if !wild.one_in(8) {
        let features = guest.offered_features();
        assert!(guest.set_up(features), "an honest driver is served");
    }
    for _ in 0..STEPS {
        if wild.is_spent() {
            break;
        }
        step(&mut play, &mut guest, wild);
    }
    play.before_reset();
    guest.write(reg::STATUS, 0);
    assert_eq!(guest.read(reg::STATUS), 0, "a reset ends");
    play.prove(&mut guest);
}

fn step<P: Play>(play: &mut P, guest: &mut Guest<P::Model>, wild: &mut Wild<'_>) {
    match wild.byte() % 20 {
        0..=6 => {
            let queue = guest.queue(wild);
            for _ in 0..=wild.index(4) {
                let pieces = play.request(queue, wild);
                guest.offer_wildly(queue, &pieces, wild);
            }
            if !wild.one_in(5) {
                guest.turn(queue);
            }
        }
        7..=8 => {
            let queue = guest.queue(wild);
            guest.turn(queue);
        }
        9..=11 => play.host(guest, wild),
        12 => write_somewhere(play, guest, wild),
        13 => {
            let mut data = vec![0xa5; 1 + wild.index(9)];
            BusDevice::read(&guest.transport, wild.odd() & 0xfff, &mut data);
        }
        14 => {
            let (offset, bytes) = (wild.below(80), wild.bytes(8));
            BusDevice::write(&guest.transport, reg::CONFIG + offset, &bytes);
        }
        15 => {
            play.before_reset();
            let features = guest.offered_features();
            // Each bit that is offered may be declined.
            let mask = if wild.one_in(3) { wild.odd() } else { 0 };
            guest.set_up(features & !(mask & !feature::VERSION_1));
        }
        16 => guest.now += Duration::from_millis(wild.odd() & 0xffff),
        17 => {
            let lane = guest.lanes.get(guest.queue(wild)).copied();
            let part = wild.pick(&[AVAILABLE, USED, 0]);
            let at = lane.map_or(0, |lane| lane.base) + part + wild.below(24);
            let bytes = wild.bytes(8);
            guest.put(at, &bytes);
        }
        18 => move_elsewhere(play, guest, wild),
        _ => {
            guest.transport.quiesce();
            guest.transport.counters(&mut |_, _| {});
        }
    }
}

fn write_somewhere<P: Play>(play: &mut P, guest: &mut Guest<P::Model>, wild: &mut Wild<'_>) {
    let registers = [
        reg::STATUS,
        reg::QUEUE_SEL,
        reg::QUEUE_SIZE,
        reg::QUEUE_READY,
        reg::QUEUE_DESC.0,
        reg::QUEUE_DRIVER.0,
        reg::QUEUE_DEVICE.0,
        reg::QUEUE_DEVICE.1,
        reg::DRIVER_FEATURES,
        reg::DRIVER_FEATURES_SEL,
        reg::INTERRUPT_ACK,
        reg::QUEUE_NOTIFY,
    ];
    let register = if wild.one_in(4) { wild.odd() & 0x1ff } else { wild.pick(&registers) };
    play.before_reset();
    let before = guest.transport.save();
    if wild.one_in(6) {
        let bytes = wild.bytes(9);
        BusDevice::write(&guest.transport, register, &bytes);
    } else {
        let value =
            if wild.one_in(3) { wild.odd32() } else { wild.pick(&[0, 1, 2, 3, 7, 11, 15, 64, 128, 207]) };
        guest.write(register, value);
    }
    let after = guest.transport.save();
    if let (PhaseState::Active { rings: was, .. }, PhaseState::Active { rings, .. }) =
        (&before.phase, &after.phase)
        && register != reg::STATUS
    {
        assert_eq!(was, rings, "queues do not change once they are active");
    }
}

/// The machine goes on in another process, with a state that somebody may have changed on the way.
fn move_elsewhere<P: Play>(play: &mut P, guest: &mut Guest<P::Model>, wild: &mut Wild<'_>) {
    play.before_reset();
    guest.transport.quiesce();
    let mut state = guest.transport.save();
    while wild.one_in(3) {
        forge(&mut state, wild);
    }
    let transport = Guest::transport(play.model(), &guest.ram);
    // One that was refused is not used, and neither is its machine: another one starts.
    guest.transport = match transport.restore(&state) {
        Ok(()) => transport,
        Err(_) => Guest::transport(play.model(), &guest.ram),
    };
    // A restored device has its bells rung.
    (0..guest.lanes.len()).for_each(|queue| guest.turn(queue));
}

/// Changes something of a state.
pub fn forge(state: &mut TransportState, wild: &mut Wild<'_>) {
    match wild.byte() % 8 {
        0 => state.status = wild.odd32(),
        1 => state.selected = [wild.odd32(), wild.odd32(), wild.odd32()],
        2 => state.reasons = wild.odd32() & 7,
        3 => state.generation = wild.odd32(),
        4 => state.device_type = wild.odd32() & 31,
        5 => {
            let numbers: Vec<u32> = vec![wild.odd32(), wild.odd32()];
            use hearth_vmm::virtio::state::ModelState;
            state.model = match wild.byte() % 3 {
                0 => ModelState::Plain,
                1 => ModelState::Balloon { actual: numbers[0] },
                _ => ModelState::Vsock { next_port: numbers[1] },
            };
        }
        _ => match &mut state.phase {
            PhaseState::Negotiating { accepted } => *accepted = wild.odd(),
            PhaseState::Configuring { accepted, queues } => {
                *accepted ^= wild.odd();
                let at = wild.index(queues.len());
                if let Some(queue) = queues.get_mut(at) {
                    queue.size = wild.odd32();
                    queue.ready = wild.one_in(2);
                    queue.parts[wild.index(3)] = wild.odd();
                }
            }
            PhaseState::Active { accepted, rings } => {
                *accepted ^= wild.odd() & wild.odd();
                let at = wild.index(rings.len());
                match rings.get_mut(at) {
                    Some(Some(ring)) if !wild.one_in(5) => match wild.byte() % 3 {
                        0 => ring.size = wild.odd16(),
                        1 => ring.parts[wild.index(3)] = wild.odd(),
                        _ => ring.position = wild.odd16(),
                    },
                    Some(ring) => *ring = None,
                    None => {}
                }
            }
            PhaseState::NeedsReset => {}
        },
    }
}
