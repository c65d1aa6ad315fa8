//! The virtio-mmio transport: registers on one side, a device model on the other.
//!
//! Duty: the initialisation dance of virtio 1.2, section 3.1, doorbells and interrupts, and the one place
//! where a broken ring becomes DEVICE_NEEDS_RESET. Not its duty: what the rings carry.
//!
//! ```text
//!            ACKNOWLEDGE, DRIVER        FEATURES_OK            DRIVER_OK
//!   Reset ──────────────────────▶ Negotiating ─────▶ Configuring ─────▶ Active
//!     ▲                                                   │               │ broken ring
//!     │ nothing is under way                              ▼               ▼
//!     └─────── Draining ◀── status = 0 ◀────────────────────────── NeedsReset
//! ```
//!
//! A reset takes the rings away at once. What the host then still does with guest memory is waited for by the vCPU
//! that asked for the reset, and by nobody else: it does not hold the device's lock meanwhile, so neither the event
//! loop nor another vCPU waits with it.
//!
//! Invariant: queue addresses and sizes exist in [`Phase::Configuring`] only. Entering `Active` moves them
//! into rings that have no setters, so a driver that rewrites them afterwards writes to nothing.

pub mod registers;
mod saved;
mod setup;
mod shell;

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use vmm_sys_util::eventfd::EventFd;

use self::registers as reg;
use self::registers::status;
use self::setup::{AddressHalf, QueueSetup};
pub use self::shell::{Doorbells, HostEnd};
use super::device::{Activation, Backlog, Interrupt, Thread, VirtioDevice};
use super::feature;
use super::rings::{Ring, RingFault};
use crate::logger::Quota;
use crate::machine::BusDevice;
use crate::memory::GuestRam;

/// How far the driver has come, and what only exists that far.
enum Phase {
    /// Nothing is agreed on; the status bits so far and the features the driver wrote so far.
    Negotiating { accepted: u64 },
    /// Features are fixed, queues are being set up.
    Configuring { accepted: u64, queues: Vec<QueueSetup> },
    /// The device has its rings. Which queues the driver made ready is kept for reads of QUEUE_READY.
    Active { accepted: u64, ready: Vec<bool> },
    /// The driver must reset the device before it works again.
    NeedsReset,
    /// The driver did, and the host is not done with its memory yet. The status reads as it was until then.
    Draining,
}

/// How often a vCPU that waits for the end of its reset looks whether it has come. Drivers reset what is idle, as a
/// rule, and then nobody waits.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

struct State<D: ?Sized> {
    phase: Phase,
    status: u32,
    device_features_select: u32,
    driver_features_select: u32,
    queue_select: u32,
    model: D,
}

/// The interrupt line of one transport, with the reasons for its last interrupts.
struct Line {
    reasons: AtomicU32,
    generation: AtomicU32,
    event: EventFd,
}

impl Line {
    fn raise(&self, reason: u32) {
        self.reasons.fetch_or(reason, Ordering::SeqCst);
        if let Err(error) = self.event.write(1) {
            log::error!("cannot raise a virtio interrupt: {error}");
        }
    }
}

impl Interrupt for Line {
    fn used(&self, _queue: usize) {
        self.raise(reg::interrupt::USED);
    }

    fn config_changed(&self) {
        self.generation.fetch_add(1, Ordering::SeqCst);
        self.raise(reg::interrupt::CONFIG);
    }
}

/// Who is told that a driver broke its device, by the device's name.
type Told = Box<dyn Fn(&str) + Send + Sync>;

/// One virtio device on the MMIO bus.
///
/// The model stands last, so that an `Arc<Transport<Model>>` becomes an `Arc<Transport<dyn VirtioDevice>>` where
/// nobody needs to know which device it is: registers and doorbells are compiled once, not once per device.
pub struct Transport<D: ?Sized> {
    line: Arc<Line>,
    memory: GuestRam,
    /// What the log calls the device.
    name: String,
    complaints: Quota,
    /// Rung once the driver is ready, see [`Transport::ring_when_active`].
    bells: OnceLock<Arc<[EventFd]>>,
    needs_reset: Option<Told>,
    state: Mutex<State<D>>,
}

impl<D: ?Sized> std::fmt::Debug for Transport<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Transport").field("name", &self.name).finish_non_exhaustive()
    }
}

impl<D: VirtioDevice> Transport<D> {
    /// A transport in front of `model`; `interrupt` is the event that KVM turns into the guest's interrupt.
    pub fn new(name: impl Into<String>, model: D, memory: GuestRam, interrupt: EventFd) -> Self {
        Self {
            state: Mutex::new(State {
                model,
                phase: Phase::Negotiating { accepted: 0 },
                status: 0,
                device_features_select: 0,
                driver_features_select: 0,
                queue_select: 0,
            }),
            line: Arc::new(Line {
                reasons: AtomicU32::new(0),
                generation: AtomicU32::new(0),
                event: interrupt,
            }),
            memory,
            name: name.into(),
            complaints: Quota::default(),
            bells: OnceLock::new(),
            needs_reset: None,
        }
    }

    /// Has `told` called with the device's name whenever the driver broke a ring; from any thread.
    #[must_use]
    pub fn on_needs_reset(mut self, told: impl Fn(&str) + Send + Sync + 'static) -> Self {
        self.needs_reset = Some(Box::new(told));
        self
    }
}

impl<D: VirtioDevice + ?Sized> Transport<D> {
    /// From now on every queue gets a turn when the driver sets DRIVER_OK. A driver that filled its queues before
    /// need not notify again, and what the host had to say until then is not heard a second time.
    fn ring_when_active(&self, bells: Arc<[EventFd]>) {
        // There is one listener for the life of a transport.
        let _ = self.bells.set(bells);
    }

    /// What the log calls the device.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The device's turn: `work` runs with the model, and a broken ring that it meets stops the device
    /// until the driver resets it. A device that is not active has no turn.
    pub fn work(&self, work: impl FnOnce(&mut D) -> Result<Backlog, RingFault>) -> Backlog {
        let mut state = self.lock();
        if !matches!(state.phase, Phase::Active { .. }) {
            return Backlog::Done;
        }
        match work(&mut state.model) {
            Ok(backlog) => backlog,
            Err(fault) => {
                self.stop(&mut state, &fault);
                Backlog::Done
            }
        }
    }

    /// As [`work`](Self::work), when the host finished something. Where the driver that asked for it is gone, the model
    /// takes it back without a word.
    pub fn settle(&self, work: impl FnOnce(&mut D) -> Result<Backlog, RingFault>) {
        if self.work(work) == Backlog::More {
            self.ring_all();
        }
        let mut state = self.lock();
        if !matches!(state.phase, Phase::Active { .. }) {
            self.drain(&mut state, Thread::EventLoop);
        }
    }

    /// Waits until nothing that the device began is still under way, see [`VirtioDevice::quiesce`]. Once the
    /// device has no turns any more, guest memory then stays as it is.
    pub fn quiesce(&self) {
        let _ = self.work(|model| model.quiesce().map(|()| Backlog::Done));
    }

    /// What the device did so far, by name.
    pub fn counters(&self, report: &mut dyn FnMut(&'static str, u64)) {
        self.lock().model.counters(report);
    }

    /// Reads or inspects the model, whatever its phase. For shells: nothing a ring depends on.
    pub fn model<R>(&self, look: impl FnOnce(&mut D) -> R) -> R {
        look(&mut self.lock().model)
    }

    fn lock(&self) -> MutexGuard<'_, State<D>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stop(&self, state: &mut State<D>, fault: &RingFault) {
        self.complain(format_args!("the driver broke a ring ({fault}); it must reset the device"));
        state.model.reset();
        state.phase = Phase::NeedsReset;
        state.status |= status::DEVICE_NEEDS_RESET;
        self.line.config_changed();
        if let Some(told) = &self.needs_reset {
            told(&self.name);
        }
    }

    fn complain(&self, what: std::fmt::Arguments<'_>) {
        if self.complaints.allow() {
            log::warn!("{}: {what}", self.name);
        }
    }

    fn offered(state: &State<D>) -> u64 {
        state.model.features() | feature::VERSION_1 | feature::EVENT_IDX | feature::INDIRECT_DESC
    }

    fn read_register(&self, offset: u64) -> u32 {
        match offset {
            // The two registers of the interrupt path need no lock: a vCPU never waits for the device here.
            reg::INTERRUPT_STATUS => return self.line.reasons.load(Ordering::SeqCst),
            reg::CONFIG_GENERATION => return self.line.generation.load(Ordering::SeqCst),
            _ => {}
        }
        let state = self.lock();
        let select = state.queue_select as usize;
        match offset {
            reg::MAGIC => reg::MAGIC_VALUE,
            reg::VERSION => reg::VERSION_VALUE,
            reg::DEVICE_ID => state.model.device_type(),
            reg::VENDOR_ID => reg::VENDOR_VALUE,
            reg::DEVICE_FEATURES => half(Self::offered(&state), state.device_features_select),
            reg::QUEUE_SIZE_MAX => state.model.queue_max_sizes().get(select).copied().map_or(0, u32::from),
            reg::QUEUE_READY => u32::from(match &state.phase {
                Phase::Configuring { queues, .. } => queues.get(select).is_some_and(QueueSetup::is_ready),
                Phase::Active { ready, .. } => ready.get(select).copied().unwrap_or(false),
                Phase::Negotiating { .. } | Phase::NeedsReset | Phase::Draining => false,
            }),
            reg::STATUS => state.status,
            offset if offset == reg::SHM_LEN.0 || offset == reg::SHM_LEN.1 => u32::MAX,
            _ => 0,
        }
    }

    fn write_register(&self, offset: u64, value: u32) {
        if offset == reg::INTERRUPT_ACK {
            self.line.reasons.fetch_and(!value, Ordering::SeqCst);
            return;
        }
        let mut guard = self.lock();
        let state = &mut *guard;
        match offset {
            reg::DEVICE_FEATURES_SEL => state.device_features_select = value,
            reg::DRIVER_FEATURES_SEL => state.driver_features_select = value,
            reg::DRIVER_FEATURES => {
                if let Phase::Negotiating { accepted } = &mut state.phase {
                    set_half(accepted, state.driver_features_select, value);
                }
            }
            reg::QUEUE_SEL => state.queue_select = value,
            reg::STATUS if value == 0 => self.reset(guard),
            reg::STATUS => self.write_status(state, value),
            _ => {
                let select = state.queue_select as usize;
                if let Phase::Configuring { queues, .. } = &mut state.phase
                    && let Some(queue) = queues.get_mut(select)
                {
                    write_queue_register(queue, offset, value);
                }
            }
        }
    }

    /// Takes the rings away, and comes back when the host has let go of what was in them: Linux takes a reset for done
    /// when the write returns, and uses that memory for something else.
    fn reset<'a>(&'a self, mut state: MutexGuard<'a, State<D>>) {
        if !matches!(state.phase, Phase::NeedsReset | Phase::Draining) {
            state.model.reset();
        }
        state.phase = Phase::Draining;
        self.drain(&mut state, Thread::Vcpu);
        while matches!(state.phase, Phase::Draining) {
            drop(state);
            // The event loop drains, too, but it may have ended with the machine.
            // Waits as locks do: vCPUs are let make no other call that waits.
            std::thread::park_timeout(LOOK_AGAIN);
            state = self.lock();
            self.drain(&mut state, Thread::Vcpu);
        }
    }

    /// Has the model take back what the host is done with. The last of it ends a reset.
    fn drain(&self, state: &mut State<D>, on: Thread) {
        state.model.drain(on);
        if matches!(state.phase, Phase::Draining) && state.model.under_way() == 0 {
            state.phase = Phase::Negotiating { accepted: 0 };
            state.status = 0;
            state.queue_select = 0;
            state.device_features_select = 0;
            state.driver_features_select = 0;
            self.line.reasons.store(0, Ordering::SeqCst);
        }
    }

    /// Virtio 1.2, 2.1.1: bits are only ever added, in order, until a write of zero resets the device.
    fn write_status(&self, state: &mut State<D>, value: u32) {
        if matches!(state.phase, Phase::Draining) {
            self.complain(format_args!("the driver did not wait for the end of its reset; ignored"));
            return;
        }
        let added = value & !state.status;
        let cleared = state.status & !value & !status::DEVICE_NEEDS_RESET;
        if cleared != 0 {
            self.complain(format_args!("the driver cleared status bits {cleared:#x}; ignored"));
            return;
        }
        state.status |= added & (status::ACKNOWLEDGE | status::FAILED);
        if added & status::DRIVER != 0 && state.status & status::ACKNOWLEDGE != 0 {
            state.status |= status::DRIVER;
        }
        if added & status::FEATURES_OK != 0 && state.status & status::DRIVER != 0 {
            self.fix_features(state);
        }
        if added & status::DRIVER_OK != 0 && state.status & status::FEATURES_OK != 0 {
            self.activate(state);
        }
    }

    /// FEATURES_OK stays off where the driver accepted what was not offered, or refuses the one revision
    /// that we speak: the driver reads it back and gives up (virtio 1.2, 3.1.1, steps 5 and 6).
    fn fix_features(&self, state: &mut State<D>) {
        let Phase::Negotiating { accepted } = state.phase else { return };
        let foreign = accepted & !Self::offered(state);
        if foreign != 0 || accepted & feature::VERSION_1 == 0 {
            self.complain(format_args!("the driver's features {accepted:#x} were not offered; refused"));
            return;
        }
        let queues = state.model.queue_max_sizes().iter().copied().map(QueueSetup::new).collect();
        state.phase = Phase::Configuring { accepted, queues };
        state.status |= status::FEATURES_OK;
    }

    fn activate(&self, state: &mut State<D>) {
        let Phase::Configuring { accepted, queues } = &mut state.phase else { return };
        let accepted = *accepted;
        let setups = std::mem::take(queues);
        let ready: Vec<bool> = setups.iter().map(QueueSetup::is_ready).collect();
        let rings: Result<Vec<_>, RingFault> =
            setups.into_iter().map(|setup| setup.into_ring(&self.memory, accepted)).collect();
        match rings {
            Ok(rings) => {
                state.phase = Phase::Active { accepted, ready };
                state.status |= status::DRIVER_OK;
                self.hand_over(state, rings, accepted);
                self.ring_all();
            }
            Err(fault) => {
                // The bit is set so that the driver sees a device that started and then failed.
                state.status |= status::DRIVER_OK;
                self.stop(state, &fault);
            }
        }
    }
}

impl<D: VirtioDevice + ?Sized> Transport<D> {
    fn hand_over(&self, state: &mut State<D>, rings: Vec<Option<Ring>>, features: u64) {
        let (memory, interrupt) = (self.memory.clone(), self.line.clone());
        state.model.activate(Activation { memory, rings, features, interrupt });
    }

    /// Gives every queue a turn.
    fn ring_all(&self) {
        for bell in self.bells.get().into_iter().flat_map(|bells| bells.iter()) {
            if let Err(error) = bell.write(1) {
                log::error!("{}: cannot ring its own doorbell: {error}", self.name);
            }
        }
    }
}

fn write_queue_register(queue: &mut QueueSetup, offset: u64, value: u32) {
    match offset {
        reg::QUEUE_SIZE => queue.set_size(value),
        reg::QUEUE_READY => queue.set_ready(value == 1),
        offset if offset == reg::QUEUE_DESC.0 => queue.descriptors.set(AddressHalf::Low, value),
        offset if offset == reg::QUEUE_DESC.1 => queue.descriptors.set(AddressHalf::High, value),
        offset if offset == reg::QUEUE_DRIVER.0 => queue.available.set(AddressHalf::Low, value),
        offset if offset == reg::QUEUE_DRIVER.1 => queue.available.set(AddressHalf::High, value),
        offset if offset == reg::QUEUE_DEVICE.0 => queue.used.set(AddressHalf::Low, value),
        offset if offset == reg::QUEUE_DEVICE.1 => queue.used.set(AddressHalf::High, value),
        _ => {}
    }
}

/// The half of a 64-bit feature word that a select register names; there is nothing past the second.
#[expect(clippy::cast_possible_truncation, reason = "each arm takes exactly the 32 bits that it means")]
const fn half(word: u64, select: u32) -> u32 {
    match select {
        0 => word as u32,
        1 => (word >> 32) as u32,
        _ => 0,
    }
}

fn set_half(word: &mut u64, select: u32, value: u32) {
    match select {
        0 => *word = (*word & !0xffff_ffff) | u64::from(value),
        1 => *word = (*word & 0xffff_ffff) | (u64::from(value) << 32),
        _ => {}
    }
}

impl<D: VirtioDevice + ?Sized> BusDevice for Transport<D> {
    fn read(&self, offset: u64, data: &mut [u8]) {
        data.fill(0);
        if let Some(offset) = offset.checked_sub(reg::CONFIG) {
            self.lock().model.read_config(offset, data);
        } else if let Ok(word) = <&mut [u8; 4]>::try_from(data)
            && offset.is_multiple_of(4)
        {
            *word = self.read_register(offset).to_le_bytes();
        }
    }

    fn write(&self, offset: u64, data: &[u8]) {
        if let Some(offset) = offset.checked_sub(reg::CONFIG) {
            self.lock().model.write_config(offset, data);
        } else if let Ok(word) = <[u8; 4]>::try_from(data)
            && offset.is_multiple_of(4)
        {
            self.write_register(offset, u32::from_le_bytes(word));
        }
    }
}

impl BusDevice for Arc<Transport<dyn VirtioDevice>> {
    fn read(&self, offset: u64, data: &mut [u8]) {
        Transport::read(self, offset, data);
    }

    fn write(&self, offset: u64, data: &[u8]) {
        Transport::write(self, offset, data);
    }
}

#[cfg(test)]
mod tests;
