//! The transport alone: registers in any order and width, in front of a device that notes what it is told.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use hearth_vmm::machine::BusDevice;
use hearth_vmm::virtio::device::{Activation, Backlog, VirtioDevice};
use hearth_vmm::virtio::feature;
use hearth_vmm::virtio::mmio::Transport;
use hearth_vmm::virtio::mmio::registers::{self as reg, status};
use hearth_vmm::virtio::rings::RingFault;
use hearth_vmm::virtio::state::{PhaseState, Rings};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::guest;
use crate::wild::Wild;

/// What the device of this target offers besides what every one does.
const OFFERED: u64 = 0b1011;
const SIZES: [u16; 3] = [256, 64, 1];

/// Takes chains off its rings and gives them back.
#[derive(Default)]
struct Model {
    active: Option<Activation>,
    /// Whether it is active, for whoever looks on from outside.
    shown: Arc<AtomicBool>,
}

impl VirtioDevice for Model {
    fn device_type(&self) -> u32 {
        42
    }

    fn features(&self) -> u64 {
        OFFERED
    }

    fn queue_max_sizes(&self) -> &'static [u16] {
        &SIZES
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        data.fill(u8::try_from(offset & 0xff).unwrap_or(0));
    }

    fn activate(&mut self, activation: Activation) {
        assert!(self.active.is_none(), "a device is activated once between two resets");
        let foreign = activation.features
            & !(OFFERED | feature::VERSION_1 | feature::EVENT_IDX | feature::INDIRECT_DESC);
        assert!(
            foreign == 0 && activation.features & feature::VERSION_1 != 0,
            "what was not offered is not accepted"
        );
        assert_eq!(activation.rings.len(), SIZES.len());
        for (ring, most) in activation.rings.iter().zip(SIZES) {
            let size = ring.as_ref().map_or(1, hearth_vmm::virtio::rings::Ring::size);
            assert!(size.is_power_of_two() && size <= most, "a ring has a size that was offered");
        }
        self.active = Some(activation);
        self.shown.store(true, Ordering::Relaxed);
    }

    fn notify(&mut self, queue: usize, _now: Instant) -> Result<Backlog, RingFault> {
        let active = self.active.as_mut().expect("only an active device has turns");
        let Some(Some(ring)) = active.rings.get_mut(queue) else { return Ok(Backlog::Done) };
        for _ in 0..ring.size() {
            let Some(chain) = ring.pop()? else { return Ok(Backlog::Done) };
            let mut bytes = [0; 64];
            chain.reader(&active.memory).read(&mut bytes);
            let written = chain.writer(&active.memory).write(&bytes);
            ring.complete(chain, written)?;
        }
        Ok(if ring.wants_interrupt()? { Backlog::More } else { Backlog::Done })
    }

    fn rings(&self) -> Rings {
        self.active.as_ref().map(Activation::saved_rings).unwrap_or_default()
    }

    fn reset(&mut self) {
        self.active = None;
        self.shown.store(false, Ordering::Relaxed);
    }

    fn counters(&self, _report: &mut dyn FnMut(&'static str, u64)) {}
}

fn word(transport: &Transport<Model>, register: u64) -> u32 {
    let mut bytes = [0; 4];
    BusDevice::read(transport, register, &mut bytes);
    u32::from_le_bytes(bytes)
}

/// What registers show, whatever was written.
fn check(transport: &Transport<Model>, shown: &AtomicBool) {
    assert_eq!(word(transport, reg::MAGIC), reg::MAGIC_VALUE);
    assert_eq!(word(transport, reg::VERSION), reg::VERSION_VALUE);
    assert_eq!(word(transport, reg::DEVICE_ID), 42);
    let now = word(transport, reg::STATUS);
    let active = shown.load(Ordering::Relaxed);
    assert!(!active || now & (status::DRIVER_OK | status::DEVICE_NEEDS_RESET) == status::DRIVER_OK);
    // Each step has the ones before it.
    for (later, earlier) in [
        (status::DRIVER, status::ACKNOWLEDGE),
        (status::FEATURES_OK, status::DRIVER),
        (status::DRIVER_OK, status::FEATURES_OK),
        (status::DEVICE_NEEDS_RESET, status::DRIVER_OK),
    ] {
        assert!(now & later == 0 || now & earlier != 0, "status {now:#x}");
    }
}

/// The target.
pub fn run(data: &[u8]) {
    let mut wild = Wild::new(data);
    let ram = guest::ram();
    let shown = Arc::new(AtomicBool::new(false));
    let Ok(interrupt) = EventFd::new(EFD_NONBLOCK) else { return };
    let model = Model { shown: shown.clone(), ..Model::default() };
    let transport = Transport::new("mmio", model, ram, interrupt);
    let registers = [
        reg::STATUS,
        reg::DRIVER_FEATURES,
        reg::DRIVER_FEATURES_SEL,
        reg::DEVICE_FEATURES_SEL,
        reg::QUEUE_SEL,
        reg::QUEUE_SIZE,
        reg::QUEUE_READY,
        reg::QUEUE_DESC.0,
        reg::QUEUE_DESC.1,
        reg::QUEUE_DRIVER.0,
        reg::QUEUE_DRIVER.1,
        reg::QUEUE_DEVICE.0,
        reg::QUEUE_DEVICE.1,
        reg::QUEUE_NOTIFY,
        reg::INTERRUPT_ACK,
    ];
    for _ in 0..256 {
        if wild.is_spent() {
            break;
        }
        let before = transport.save();
        let register = if wild.one_in(10) { wild.odd() & 0x1ff } else { wild.pick(&registers) };
        match wild.byte() % 8 {
            0 => {
                let bytes = wild.bytes(12);
                BusDevice::write(&transport, register, &bytes);
            }
            1 => {
                let mut bytes = vec![0xff; wild.index(12)];
                BusDevice::read(&transport, register, &mut bytes);
            }
            2 => {
                let _ = transport.work(|model| model.notify(wild.index(4), Instant::now()));
            }
            choice => {
                // The next step of the dance is what most writes are.
                let now = word(&transport, reg::STATUS);
                let next = (now | (now + 1).next_power_of_two()).min(15);
                let value = match choice {
                    3 | 4 if register == reg::STATUS => wild.pick(&[1, 3, 11, 15, next]),
                    5 => wild.odd32(),
                    6 => 0x1000 * u32::from(wild.byte()),
                    _ => wild.pick(&[1, 0, 2, 16, 64, 256]),
                };
                BusDevice::write(&transport, register, &value.to_le_bytes());
            }
        }
        check(&transport, &shown);
        let after = transport.save();
        if let (PhaseState::Active { rings, .. }, PhaseState::Active { rings: now, .. }) =
            (before.phase, after.phase)
        {
            let places = |rings: &Rings| {
                rings.iter().map(|ring| ring.map(|ring| (ring.size, ring.parts))).collect::<Vec<_>>()
            };
            assert_eq!(places(&rings), places(&now), "queues do not change once they are active");
        }
    }
    BusDevice::write(&transport, reg::STATUS, &[0; 4]);
    assert_eq!((word(&transport, reg::STATUS), shown.load(Ordering::Relaxed)), (0, false), "a reset ends");
}
