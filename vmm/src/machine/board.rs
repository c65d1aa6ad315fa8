//! The board: where devices are plugged in before the first instruction.
//!
//! Duty: give each device its address, its interrupt, its doorbells and its place in the event loop.
//! Not its duty: what a device does; which files it stands on is in the configuration.
//!
//! Invariant: what is plugged in here is what the firmware tables describe; both come from `slots`.

use std::sync::{Arc, Mutex};

use event_manager::{MutEventSubscriber, SubscriberOps};
use hearth_config::vm::{self as config, Output as Destination, VmConfig};
use kvm_ioctls::{IoEventAddress, VmFd};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use super::alarm::Alarm;
use super::duty::Duty;
use super::pump::Pump;
use super::sink::Sink;
use super::vcpu::Buses;
use super::{EndWatch, Ending, EventsError, Loop, MachineError, host, refused};
use crate::arch::{self, MmioSlot};
use crate::devices::serial::Serial;
use crate::jail::Printer;
use crate::keyboard::{Keyboard, Stdin};
use crate::listener::Listener;
use crate::memory::{GuestRam, Lender};
use crate::output::Output;
use crate::rate::{Bucket, Limit};
use crate::snapshot::Part;
use crate::virtio::balloon::{Balloon, Settings};
use crate::virtio::block::{Block, Completions};
use crate::virtio::console::{Console, Input};
use crate::virtio::device::VirtioDevice;
use crate::virtio::mmio::{Doorbells, Transport, registers};
use crate::virtio::net::{self, Attached, Card, Net};
use crate::virtio::rng::{HostEntropy, Rng};
use crate::virtio::vsock::{self, Vsock};

/// Registers of one virtio-mmio device take this much of the bus.
const SLOT_LENGTH: u64 = 0x1000;

/// A device as statistics see it.
pub(super) trait Inspect: Send + Sync {
    /// What the configuration calls it.
    fn name(&self) -> &str;
    /// What it did so far.
    fn counters(&self, report: &mut dyn FnMut(&'static str, u64));
    /// Requests that the host has not finished. A pause waits for them.
    fn under_way(&self) -> usize {
        0
    }
    /// Finishes what is left of it; the device has no turn after that.
    fn quiesce(&self) {}
}

impl Inspect for Arc<Transport<dyn VirtioDevice>> {
    fn name(&self) -> &str {
        Transport::name(self)
    }

    fn counters(&self, report: &mut dyn FnMut(&'static str, u64)) {
        Transport::counters(self, report);
    }

    fn under_way(&self) -> usize {
        self.model(|model| model.under_way())
    }

    fn quiesce(&self) {
        Transport::quiesce(self);
    }
}

/// The serial port is no virtio device: what it printed is all there is to tell.
struct SerialPort(Output);

impl Inspect for SerialPort {
    fn name(&self) -> &str {
        "serial"
    }

    fn counters(&self, report: &mut dyn FnMut(&'static str, u64)) {
        let account = self.0.account();
        report("output_bytes", account.accepted);
        report("output_dropped", account.dropped);
    }
}

/// A limit as the configuration says it.
pub(super) fn limit_of(limit: &config::Limit) -> Limit {
    let bucket = |rate: config::Rate| Bucket::new(rate.per_second, rate.burst).with_credit(rate.once);
    Limit::new(limit.bytes.map(bucket), limit.operations.map(bucket))
}

/// The machine while devices are being plugged in.
pub(super) struct Board<'a> {
    vm: &'a VmFd,
    pub(super) memory: &'a GuestRam,
    taps: &'a mut Attached,
    /// What the machine listens on for the host, if somebody has opened it already.
    door: Option<Listener>,
    pub(super) buses: Buses,
    pub(super) slots: Vec<MmioSlot>,
    pub(super) events: Loop,
    /// Who serves a device in the event loop: those that rest while the machine is paused.
    pub(super) duty: Duty,
    /// Where a device tells that its driver broke it.
    pub(super) alarm: Arc<Alarm>,
    /// The balloon, for whoever sets its target and asks for its statistics.
    pub(super) pump: Option<Pump>,
    /// Devices that have something to tell.
    pub(super) inspected: Vec<Arc<dyn Inspect>>,
    /// Everything that a snapshot keeps something of, in the machine's order.
    pub(super) parts: Vec<Arc<dyn Part>>,
    /// Disks, in the configuration's order.
    pub(super) disks: Vec<Arc<Transport<Block>>>,
    /// Whether the vsock driver may still take a new connection for one that is gone.
    pub(super) vsock_resets: Option<Box<dyn Fn() -> bool>>,
    /// Where what the guest prints goes; emptied when the machine has ended.
    pub(super) sinks: Vec<Arc<Mutex<Sink>>>,
}

impl<'a> Board<'a> {
    pub(super) fn new(
        vm: &'a VmFd,
        memory: &'a GuestRam,
        taps: &'a mut Attached,
        door: Option<Listener>,
        ending: &Arc<Ending>,
    ) -> Result<Self, MachineError> {
        let mut events = Loop::new().map_err(EventsError)?;
        events.add_subscriber(Box::new(EndWatch(ending.clone())));
        let mut buses = Buses::default();
        let parts = arch::add_platform(&mut buses.pio, &mut buses.mmio, ending)?;
        Ok(Self {
            vm,
            memory,
            taps,
            door,
            buses,
            slots: Vec::new(),
            events,
            duty: Duty::default(),
            alarm: Arc::new(Alarm::new().map_err(host("make an event"))?),
            pump: None,
            inspected: Vec::new(),
            parts,
            disks: Vec::new(),
            vsock_resets: None,
            sinks: Vec::new(),
        })
    }

    /// Puts what serves a device into the event loop.
    pub(super) fn serve(&mut self, subscriber: impl MutEventSubscriber + 'static) {
        self.duty.serve(&mut self.events, Box::new(subscriber));
    }

    pub(super) fn interrupt(&self, gsi: u32) -> Result<EventFd, MachineError> {
        let event = EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC).map_err(host("make an event"))?;
        self.vm.register_irqfd(&event, gsi).map_err(refused("wire an interrupt"))?;
        Ok(event)
    }

    pub(super) fn add_serial(&mut self, config: &VmConfig) -> Result<(), MachineError> {
        let Some(destination) = &config.serial.output else { return Ok(()) };
        let output = self.sink(Printer::Serial, "serial.output", destination, &config.serial.limit)?;
        let interrupt = self.interrupt(arch::layout::SERIAL_GSI)?;
        let (stdin, keyboard) = Self::typed(config.serial.input)?;
        let port = Arc::new(Serial::new(interrupt, output.clone(), stdin));
        arch::add_serial(&mut self.buses.pio, &mut self.buses.mmio, port.clone())?;
        self.parts.push(port.clone());
        if let Some(keyboard) = keyboard {
            self.serve(keyboard.plug(port));
        }
        self.inspected.push(Arc::new(SerialPort(output)));
        Ok(())
    }

    /// A buffer for what `name` prints, and who empties it.
    fn sink(
        &mut self,
        printer: Printer,
        key: &'static str,
        destination: &Destination,
        limit: &config::Limit,
    ) -> Result<Output, MachineError> {
        let output = Output::new().map_err(host("make an event"))?;
        let sink = Sink::open(printer, destination, limit_of(limit), output.clone()).map_err(|source| {
            let path = match destination {
                Destination::File(path) => path.clone(),
                _ => std::path::PathBuf::from("standard output"),
            };
            MachineError::Output { key, path, source }
        })?;
        let sink = Arc::new(Mutex::new(sink));
        self.serve(sink.clone());
        self.sinks.push(sink);
        Ok(output)
    }

    pub(super) fn add_virtio(&mut self, config: &VmConfig) -> Result<(), MachineError> {
        let single = [
            config.console.is_some(),
            config.rng.is_some(),
            config.vsock.is_some(),
            config.balloon.is_some(),
        ];
        let asked =
            config.block.len() + config.net.len() + single.into_iter().map(usize::from).sum::<usize>();
        if asked > arch::MAX_MMIO_SLOTS as usize {
            return Err(MachineError::TooManyDevices { asked, max: arch::MAX_MMIO_SLOTS });
        }
        // First, because the kernel looks for them in this order, and waits for nothing more than for these two.
        if let Some(console) = &config.console {
            self.add_console(console)?;
        }
        if let Some(rng) = &config.rng {
            let host = HostEntropy::open().map_err(host("open /dev/random"))?;
            self.plug("rng", Rng::new(host, limit_of(&rng.limit)))?;
        }
        for (index, disk) in config.block.iter().enumerate() {
            let model = Block::open(&disk.path, &disk.id, disk.read_only, limit_of(&disk.limit))
                .map_err(|source| MachineError::Block { index, source })?;
            let transport = self.plug(format!("block `{}`", disk.id), model)?;
            self.disks.push(transport.clone());
            if let Some(completions) = Completions::of(&transport).map_err(host("copy an event"))? {
                self.serve(completions);
            }
        }
        for (index, card) in config.net.iter().enumerate() {
            let tap = self.taps.tap(&card.tap).map_err(|source| MachineError::Net { index, source })?;
            let host_end = tap.host_end();
            let mac = card.mac.unwrap_or_else(|| net::derived_mac(&card.tap, &card.id));
            let parts = Card { mac, receive: limit_of(&card.receive), send: limit_of(&card.send) };
            let (_, doorbells) = self.wire(format!("net `{}`", card.id), Net::new(tap, parts))?;
            self.duty.serve_rings(&mut self.events, Box::new(doorbells.with_host_end(host_end)));
        }
        if let Some(vsock) = &config.vsock {
            let listener = match self.door.take() {
                Some(listener) => listener,
                None => vsock::listen(&vsock.socket)?,
            };
            let (host, door) = vsock::behind(listener, &vsock.socket)?;
            let transport = self.plug("vsock", Vsock::new(vsock.cid, host))?;
            let looked_at = transport.clone();
            self.vsock_resets = Some(Box::new(move || looked_at.model(|model| model.resets())));
            let reception = door.open(transport)?;
            self.serve(reception);
        }
        if let Some(balloon) = &config.balloon {
            self.add_balloon(balloon, config.machine.memory.0)?;
        }
        Ok(())
    }

    fn add_balloon(&mut self, balloon: &config::Balloon, memory_mib: u32) -> Result<(), MachineError> {
        let lender = Lender::new(self.memory);
        if lender.granule().is_none() {
            log::warn!("balloon: machine.huge_pages is set: what the guest lends back stays reserved for it");
        }
        let settings = Settings {
            memory_mib,
            target_mib: balloon.target.0,
            deflate_on_oom: balloon.deflate_on_oom,
            reporting: balloon.free_page_reporting,
        };
        let transport = self.plug("balloon", Balloon::new(lender, settings)?)?;
        self.pump = Some(Pump::new(transport).map_err(host("make an event"))?);
        Ok(())
    }

    fn add_console(&mut self, console: &config::Console) -> Result<(), MachineError> {
        let output = self.sink(Printer::Console, "console.output", &console.output, &console.limit)?;
        let (stdin, keyboard) = Self::typed(console.input)?;
        let input = stdin.map(|stdin| Box::new(stdin) as Box<dyn Input>);
        let transport = self.plug("console", Console::new(output, input))?;
        if let Some(keyboard) = keyboard {
            self.serve(keyboard.plug(transport));
        }
        Ok(())
    }

    /// Who types, and who tells that somebody did.
    fn typed(input: config::Input) -> Result<(Option<Stdin>, Option<Keyboard>), MachineError> {
        Ok(match input {
            config::Input::Null => (None, None),
            config::Input::Stdin => {
                let (stdin, keyboard) = Stdin::open().map_err(host("read standard input"))?;
                (Some(stdin), Some(keyboard))
            }
        })
    }

    /// Puts a model behind a transport, the transport on the bus, and its doorbells into the loop.
    fn plug<D: VirtioDevice + 'static>(
        &mut self,
        name: impl Into<String>,
        model: D,
    ) -> Result<Arc<Transport<D>>, MachineError> {
        let (transport, doorbells) = self.wire(name, model)?;
        self.duty.serve_rings(&mut self.events, Box::new(doorbells));
        Ok(transport)
    }

    /// Puts a model behind a transport and the transport on the bus; its doorbells are still to be served.
    fn wire<D: VirtioDevice + 'static>(
        &mut self,
        name: impl Into<String>,
        model: D,
    ) -> Result<(Arc<Transport<D>>, Doorbells), MachineError> {
        let index = u32::try_from(self.slots.len()).unwrap_or(u32::MAX);
        let slot = arch::mmio_slot(index)
            .ok_or(MachineError::TooManyDevices { asked: self.slots.len() + 1, max: arch::MAX_MMIO_SLOTS })?;
        let queues = model.queue_max_sizes().len();
        let interrupt = self.interrupt(slot.interrupt)?;
        let transport = Transport::new(name, model, self.memory.clone(), interrupt);
        let alarm = self.alarm.clone();
        let transport = Arc::new(transport.on_needs_reset(move |device| alarm.raise(device)));
        let doorbells = self.put_in(slot, queues, transport.clone())?;
        Ok((transport, doorbells))
    }

    /// What is the same for every device, and compiled once.
    fn put_in(
        &mut self,
        slot: MmioSlot,
        queues: usize,
        transport: Arc<Transport<dyn VirtioDevice>>,
    ) -> Result<Doorbells, MachineError> {
        let doorbell = IoEventAddress::Mmio(slot.base + registers::QUEUE_NOTIFY);
        let mut bells = Vec::with_capacity(queues);
        for queue in (0u32..).take(queues) {
            let bell = EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC).map_err(host("make an event"))?;
            self.vm.register_ioevent(&bell, &doorbell, queue).map_err(refused("wire a doorbell"))?;
            bells.push(bell);
        }
        self.buses.mmio.claim(slot.base, SLOT_LENGTH, Arc::new(transport.clone()))?;
        self.inspected.push(Arc::new(transport.clone()));
        self.parts.push(Arc::new(transport.clone()));
        self.slots.push(slot);
        Doorbells::new(transport, bells).map_err(host("make a timer"))
    }
}
