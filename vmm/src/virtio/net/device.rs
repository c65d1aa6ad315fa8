//! The model of a network card: what the guest sees of it, and the frames that it sends.
//!
//! Duty: features and configuration space; frames off the send queue, each with a header that was checked, to
//! the host's [`Port`]. Not its duty: frames for the guest (`receive.rs`), descriptors, time.
//!
//! Invariant: limits outlive a reset, so a guest gets no fresh burst by resetting its card. The interface is set anew only
//! where a driver agreed to something else than the one before it, and at a pace: that is a matter of the whole host.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Instant;

use hearth_config::vm::Mac;

use super::header::{self, HEADER_BYTES, Lie};
use super::receive::{Desk, Receiver};
use super::{Offloads, Port, RECEIVE_QUEUE, SEND_QUEUE, offload};
use crate::logger::Quota;
use crate::memory::GuestRam;
use crate::rate::{Bucket, Limit, Verdict};
use crate::virtio::device::{Activation, Backlog, Interrupt, VirtioDevice};
use crate::virtio::device_id;
use crate::virtio::rings::{Chain, GuestSlice, Ring, RingFault};
use crate::virtio::state::Rings;
use crate::virtio::vectored::Pieces;

/// Descriptors per queue: fourteen frames of the largest size with a page per buffer.
const QUEUE_SIZE: u16 = 256;
/// Bytes that one turn may move each way: sixteen of the longest frames. Protects the other devices of the event
/// loop from the time that the host's network takes for them.
pub(super) const TURN_BYTES: usize = 1 << 20;
/// How often the interface may be set anew, at once and from then on per second. Each time takes the lock of all of the
/// host's networks and may be told to everybody who listens for changes of links; a guest that boots needs it once.
const SETTINGS_AT_ONCE: u64 = 8;
const SETTINGS_PER_SECOND: u64 = 1;
/// What a driver may be told of its MTU (5.1.4.1).
const MTUS: std::ops::RangeInclusive<u16> = 68..=u16::MAX;

const FEATURE_MTU: u64 = 1 << 3;
const FEATURE_MAC: u64 = 1 << 5;
const FEATURE_MRG_RXBUF: u64 = 1 << 15;

/// A card as the configuration describes it.
#[derive(Debug)]
pub struct Card {
    /// Its address.
    pub mac: Mac,
    /// What the guest may receive.
    pub receive: Limit,
    /// What it may send.
    pub send: Limit,
}

/// What passed and what did not, since the VM started.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) received_frames: u64,
    pub(super) received_bytes: u64,
    /// Bytes that were copied out of the spill buffer.
    pub(super) copied_bytes: u64,
    /// Frames that the guest had no buffers for, that were too long for them, or that came before it was there.
    receive_dropped: u64,
    /// Receive buffers that were none.
    receive_refused: u64,
    receive_errors: u64,
    sent_frames: u64,
    sent_bytes: u64,
    /// Frames with a header that lies, or no frames at all.
    send_refused: u64,
    send_errors: u64,
    lies: Quota,
    failures: Quota,
}

impl Counters {
    pub(super) fn drop_received(&mut self) {
        self.receive_dropped = self.receive_dropped.saturating_add(1);
    }

    pub(super) fn refuse_buffer(&mut self) {
        self.receive_refused = self.receive_refused.saturating_add(1);
    }

    pub(super) fn fail_to_receive(&mut self, error: &std::io::Error) {
        self.receive_errors = self.receive_errors.saturating_add(1);
        if self.failures.allow() {
            log::warn!("net: the host's interface cannot be read: {error}");
        }
    }

    fn refuse_frame(&mut self, lie: Lie) {
        self.send_refused = self.send_refused.saturating_add(1);
        if self.lies.allow() {
            log::warn!("net: the guest sent {lie}; dropped");
        }
    }

    fn fail_to_send(&mut self, error: &std::io::Error) {
        self.send_errors = self.send_errors.saturating_add(1);
        if self.failures.allow() {
            log::warn!("net: the host's interface refused a frame: {error}");
        }
    }
}

struct Active {
    memory: GuestRam,
    interrupt: Arc<dyn Interrupt>,
    offloads: Offloads,
    /// The interface knows of them, or has failed to take them.
    told: bool,
    receiver: Option<Receiver>,
    send: Option<Ring>,
    /// The next frame was accounted for, but the host's interface was full.
    paid: bool,
}

impl std::fmt::Debug for Active {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Active").field("offloads", &self.offloads).finish_non_exhaustive()
    }
}

/// The model.
#[derive(Debug)]
pub struct NetDevice<P> {
    port: P,
    card: Card,
    counters: Counters,
    active: Option<Active>,
    /// What the interface was told last; `None`: who knows.
    set_to: Option<Offloads>,
    settings: Bucket,
}

impl<P: Port> NetDevice<P> {
    /// A card on `port`.
    pub fn new(port: P, card: Card) -> Self {
        Self {
            port,
            card,
            counters: Counters::default(),
            active: None,
            set_to: Some(Offloads::default()),
            settings: Bucket::new(SETTINGS_PER_SECOND, SETTINGS_AT_ONCE),
        }
    }

    fn mtu(&self) -> Option<u16> {
        self.port.mtu().filter(|mtu| MTUS.contains(mtu))
    }

    /// Tells the interface what the driver agreed to, where that is news. When to try again, if not now.
    fn set_port(&mut self, offloads: Offloads, now: Instant) -> Option<Instant> {
        let wanted = offloads.left_to_guest();
        if self.set_to == Some(wanted) {
            return None;
        }
        if let Verdict::Wait(time) = self.settings.take(1, now) {
            return Some(time);
        }
        let set = self.port.agree(wanted);
        self.set_to = set.is_ok().then_some(wanted);
        if let Err(error) = set {
            self.counters.fail_to_receive(&error);
        }
        None
    }

    fn receive(&mut self, active: &mut Active, now: Instant) -> Result<Backlog, RingFault> {
        // Before the first frame is taken, and here rather than when the driver gets ready: that is on a vCPU's thread,
        // which cannot be made to wait.
        if !active.told {
            if let Some(time) = self.set_port(active.offloads, now) {
                return Ok(Backlog::Until(time));
            }
            active.told = true;
        }
        let Active { memory, interrupt, receiver: Some(receiver), .. } = active else {
            return Ok(Backlog::Done);
        };
        let mut desk = Desk {
            port: &mut self.port,
            memory,
            limit: &mut self.card.receive,
            counters: &mut self.counters,
            now,
        };
        let backlog = receiver.deliver(&mut desk)?;
        if receiver.wants_interrupt()? {
            interrupt.used(RECEIVE_QUEUE);
        }
        Ok(backlog)
    }

    fn send(&mut self, active: &mut Active, now: Instant) -> Result<Backlog, RingFault> {
        let Active { memory, interrupt, offloads, send: Some(ring), paid, .. } = active else {
            return Ok(Backlog::Done);
        };
        let mut backlog = Backlog::More;
        let mut moved = 0usize;
        for _ in 0..ring.size() {
            if moved >= TURN_BYTES {
                break;
            }
            let Some(chain) = ring.pop()? else {
                backlog = Backlog::Done;
                break;
            };
            let header = match header_of(&chain, memory, *offloads) {
                Ok(header) => header,
                Err(lie) => {
                    self.counters.refuse_frame(lie);
                    ring.complete(chain, 0)?;
                    continue;
                }
            };
            let bytes = chain.readable_bytes().saturating_sub(HEADER_BYTES);
            if !*paid && let Verdict::Wait(time) = self.card.send.take(bytes as u64, now) {
                ring.put_back(chain);
                backlog = Backlog::Until(time);
                break;
            }
            *paid = false;
            match send_one(&mut self.port, header, &chain, memory) {
                Ok(()) => {
                    self.counters.sent_frames = self.counters.sent_frames.saturating_add(1);
                    self.counters.sent_bytes = self.counters.sent_bytes.saturating_add(bytes as u64);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    *paid = true;
                    ring.put_back(chain);
                    backlog = Backlog::HostFull;
                    break;
                }
                // The frame is lost, as on any wire: to try again could go on for ever.
                Err(error) => self.counters.fail_to_send(&error),
            }
            ring.complete(chain, 0)?;
            moved = moved.saturating_add(bytes);
        }
        if ring.wants_interrupt()? {
            interrupt.used(SEND_QUEUE);
        }
        Ok(backlog)
    }

    /// The configuration space (5.1.4): the address; status and number of queue pairs, which are not offered; MTU.
    fn config_space(&self) -> [u8; 12] {
        let Mac([a, b, c, d, e, f]) = self.card.mac;
        let [low, high] = self.mtu().unwrap_or(0).to_le_bytes();
        [a, b, c, d, e, f, 0, 0, 0, 0, low, high]
    }
}

/// The header of the frame in `chain`, checked.
fn header_of(chain: &Chain, memory: &GuestRam, offloads: Offloads) -> Result<[u8; HEADER_BYTES], Lie> {
    let frame = chain.readable_bytes().checked_sub(HEADER_BYTES).ok_or(Lie::Length)?;
    if chain.writable_bytes() > 0 {
        return Err(Lie::Direction);
    }
    let header = chain.reader(memory).read_array().ok_or(Lie::Length)?;
    header::checked(header, frame, offloads)
}

fn send_one<P: Port>(
    port: &mut P,
    mut header: [u8; HEADER_BYTES],
    chain: &Chain,
    memory: &GuestRam,
) -> std::io::Result<()> {
    let mut rest = chain.reader(memory);
    rest.skip(HEADER_BYTES);
    let mut pieces = Pieces::new();
    let own = pieces.push(GuestSlice::from(&mut header[..]));
    if own.is_err() || rest.pieces().any(|piece| pieces.push(piece).is_err()) {
        // More buffers across seams of memory than any driver makes.
        return Err(ErrorKind::InvalidInput.into());
    }
    port.send(&pieces).map(drop)
}

impl<P: Port> VirtioDevice for NetDevice<P> {
    fn device_type(&self) -> u32 {
        device_id::NET
    }

    fn features(&self) -> u64 {
        let mtu = if self.mtu().is_some() { FEATURE_MTU } else { 0 };
        FEATURE_MAC | FEATURE_MRG_RXBUF | mtu | self.port.offers() & (offload::ALWAYS | offload::UDP)
    }

    fn queue_max_sizes(&self) -> &'static [u16] {
        &[QUEUE_SIZE; 2]
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        let space = self.config_space();
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        for (to, from) in data.iter_mut().zip(space.get(start..).unwrap_or_default()) {
            *to = *from;
        }
    }

    fn activate(&mut self, activation: Activation) {
        let Activation { memory, rings, features, interrupt } = activation;
        let offloads = Offloads::agreed(features);
        let mut rings = rings.into_iter();
        let mergeable = features & FEATURE_MRG_RXBUF != 0;
        let knows_flags = offloads.has(offload::GUEST_CSUM);
        let receiver = rings.next().flatten().map(|ring| Receiver::new(ring, mergeable, knows_flags));
        let send = rings.next().flatten();
        self.active = Some(Active { memory, interrupt, offloads, told: false, receiver, send, paid: false });
    }

    fn notify(&mut self, queue: usize, now: Instant) -> Result<Backlog, RingFault> {
        // Taken for the turn and put back at its end: a ring that broke stays gone.
        let Some(mut active) = self.active.take() else { return Ok(Backlog::Done) };
        let backlog = match queue {
            RECEIVE_QUEUE => self.receive(&mut active, now)?,
            SEND_QUEUE => self.send(&mut active, now)?,
            _ => Backlog::Done,
        };
        self.active = Some(active);
        Ok(backlog)
    }

    /// Buffers that were taken ahead count as not taken. A frame that waits in them, for its limit or for more of
    /// them, is lost to whoever goes on from here, as frames are on any wire.
    fn rings(&self) -> Rings {
        let Some(active) = &self.active else { return Rings::new() };
        let rings = [active.receiver.as_ref().map(Receiver::save), active.send.as_ref().map(Ring::save)];
        rings.into_iter().collect()
    }

    /// What waits in the interface came for the machine as it is now, unlike before a driver's first start.
    fn relocated(&mut self) {
        if let Some(active) = &mut self.active {
            if let Some(receiver) = &mut active.receiver {
                receiver.welcome_all();
            }
            // The address may be another one.
            active.interrupt.config_changed();
        }
    }

    fn reset(&mut self) {
        self.active = None;
    }

    fn counters(&self, report: &mut dyn FnMut(&'static str, u64)) {
        let counters = &self.counters;
        report("received_frames", counters.received_frames);
        report("received_bytes", counters.received_bytes);
        report("received_bytes_copied", counters.copied_bytes);
        report("receive_dropped", counters.receive_dropped);
        report("receive_refused", counters.receive_refused);
        report("receive_errors", counters.receive_errors);
        report("sent_frames", counters.sent_frames);
        report("sent_bytes", counters.sent_bytes);
        report("send_refused", counters.send_refused);
        report("send_errors", counters.send_errors);
    }
}
