//! The machine: assembled from a configuration, run until something ends it.
//!
//! Duty: the order in which KVM wants things made, which device stands where, and who runs on which thread:
//! one thread per vCPU, and the calling thread for every device (the event loop).
//! Not its duty: what a device does, what an architecture looks like.
//!
//! | file | what |
//! |---|---|
//! | `mod.rs`, `board.rs`, `platform.rs`, `bus.rs` | assembly: everything up to the first instruction |
//! | `vcpu.rs`, `crew.rs`, `kick.rs`, `gate.rs`, `tally.rs` | vCPU threads: what they do, and how they rest |
//! | `life.rs` | running, paused, stopping, ended: every decision, pure |
//! | `conductor.rs`, `duty.rs`, `orders.rs`, `bell.rs`, `agent_call.rs`, `introduction.rs`, `pump.rs`, `statistics.rs` | the event loop, which carries decisions out |
//! | `jailed.rs` | the same in a jail: what is opened on which side of the split |
//! | `snapshots.rs`, `writer.rs`, `restored.rs` | written down while it rests, and put together again |
//! | `template.rs`, `warm_up.rs` | brought up to be written down once and copied often |
//! | `clock.rs`, `pace.rs` | time without the pauses; how often a guest's doings are told |
//! | `suspicion.rs` | whether this KVM interprets |
//! | `error.rs` | why there is no machine, and which key of the configuration is at fault |
//! | `ending.rs`, `halt.rs`, `alarm.rs`, `signals.rs`, `reboots.rs` | what a machine ends by, or starts again after |
//! | `sink/`, `farewell.rs` | what the guest printed, to its last word; how long an end may take |
//!
//! Invariant: nothing here can change once vCPUs run; buses and rings are shared read-only. No thread and no
//! descriptor of a machine is left when its run is over, but for its network interfaces: a reboot in this process
//! starts from nothing.

mod agent_call;
mod alarm;
mod bell;
mod board;
mod bus;
mod clock;
mod conductor;
mod crew;
mod duty;
mod ending;
mod error;
mod farewell;
mod gate;
mod halt;
mod introduction;
mod jailed;
mod kick;
mod life;
mod orders;
mod pace;
mod platform;
mod pump;
mod reboots;
mod restored;
mod signals;
mod sink;
mod snapshots;
mod statistics;
mod suspicion;
mod tally;
mod template;
mod vcpu;
mod warm_up;
mod writer;

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use event_manager::{EventManager, EventOps, EventSet, Events, MutEventSubscriber, SubscriberOps};
use hearth_config::vm::{OnReboot, VmConfig};
use hearth_wire::control::{self, Event};
use kvm_ioctls::{Kvm, VcpuFd, VmFd};

use self::alarm::Alarm;
use self::board::Board;
pub use self::bus::{Bus, BusDevice, Overlap};
pub use self::clock::MachineClock;
use self::conductor::{Conductor, Make, Rested, Surroundings, lock};
use self::crew::Crew;
use self::duty::Duty;
pub use self::ending::Ending;
pub use self::error::{EventsError, MachineError};
use self::error::{host, refused};
use self::farewell::Farewell;
use self::halt::HaltWatch;
use self::introduction::Introduction;
use self::life::{End, Life, Patience};
use self::pump::Pump;
pub(crate) use self::reboots::Reboots;
use self::signals::StopSignals;
use self::sink::Sink;
pub(crate) use self::sink::{examine as examine_output, put_aside};
use self::snapshots::Snapshots;
use self::suspicion::Suspicion;
pub use self::template::Place;
use self::template::Template;
use self::vcpu::Buses;
use self::warm_up::WarmUp;
use crate::Outcome;
use crate::arch::{self, BootFiles, Chipset, ChipsetError, Fittings};
use crate::control::Server;
use crate::devices::generation::Generation;
use crate::devices::power_button::PowerButton;
use crate::jail::Containment;
use crate::jail::filter::{self, Role};
use crate::kvm;
use crate::listener::Listener;
use crate::mapped_file::Mapped;
use crate::memory::{self, GuestRam, Pages};
use crate::snapshot::{Base, Opened, anchored};
use crate::virtio::net::Attached;

type Loop = EventManager<Box<dyn MutEventSubscriber>>;

/// A microVM, ready to run.
pub struct Machine {
    vcpus: Vec<VcpuFd>,
    /// Has the descriptors of VM and chipset: closing them takes their part of the machine away.
    snapshots: Snapshots,
    /// Mapped for longer than a vCPU runs: the threads are gone before any field of this is.
    memory: GuestRam,
    buses: Arc<Buses>,
    events: Loop,
    duty: Duty,
    sinks: Vec<Arc<Mutex<Sink>>>,
    ending: Arc<Ending>,
    alarm: Arc<Alarm>,
    clock: Arc<MachineClock>,
    power_button: PowerButton,
    pump: Option<Pump>,
    inspected: Vec<Arc<dyn board::Inspect>>,
    make: Make,
    patience: Patience,
    /// For a guest that goes on as somebody else.
    introduction: Option<Introduction>,
}

impl std::fmt::Debug for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Machine")
            .field("vcpus", &self.vcpus.len())
            .field("buses", &self.buses)
            .finish_non_exhaustive()
    }
}

impl Machine {
    /// Builds everything up to, and not including, the first instruction: of the guest's kernel, or the next one of
    /// the guest in a snapshot.
    ///
    /// Interfaces that an earlier machine of this process had are in `taps`, and come to be there. The vsock socket is
    /// `door`, or listened on here.
    pub fn assemble(
        config: &VmConfig,
        taps: &mut Attached,
        door: Option<Listener>,
        from: Option<Opened>,
    ) -> Result<Self, MachineError> {
        if let Some(opened) = &from {
            restored::compare(opened, config)?;
        }
        let ending = Arc::new(Ending::new().map_err(host("make an event"))?);
        let kvm = kvm::open()?;
        let (asked, max) = (config.machine.vcpus, kvm.get_max_vcpus());
        if usize::from(asked) > max {
            return Err(MachineError::TooManyVcpus { asked, max });
        }
        let vm = kvm.create_vm().map_err(refused("create a VM"))?;
        let bytes = usize::try_from(config.machine.memory.bytes()).unwrap_or(usize::MAX);
        let pages = if config.machine.huge_pages { Pages::Huge } else { Pages::Ordinary };
        let ranges = arch::ram_ranges(bytes);
        let memory = match &from {
            Some(opened) => memory::map_file(&opened.memory, &ranges)?,
            None => memory::allocate_of(pages, &ranges)?,
        };
        memory::register(&vm, &memory)?;
        let mut chipset = Chipset::before_vcpus(&vm, config.machine.vcpus)?;
        let vcpus = (0..config.machine.vcpus)
            .map(|index| vm.create_vcpu(index.into()).map_err(refused("create a vCPU")))
            .collect::<Result<Vec<_>, _>>()?;
        chipset.after_vcpus(&vm, &vcpus)?;

        let mut board = Board::new(&vm, &memory, taps, door, &ending)?;
        board.add_serial(config)?;
        board.add_virtio(config)?;
        let ran = from.as_ref().map_or(Duration::ZERO, |opened| opened.state.ran);
        let clock = Arc::new(MachineClock::resumed(ran, Instant::now()));
        board.add_watchdog(config, &clock, &ending)?;
        let power_button = board.power_button()?;
        let generation_id = board.generation_id()?;
        let introduction = match &from {
            Some(_) => {
                Introduction::new(config, board.vsock_resets.take()).map_err(host("draw an identity"))?
            }
            None => None,
        };
        let mapped = Mapped::default();
        let base = match from {
            Some(opened) => {
                restored::processors(&opened, &kvm, &vm, &vcpus, &chipset)?;
                restored::parts(&opened, config, &board, &generation_id)?;
                Some(Base { file: opened.memory, id: Some(opened.state.about.id) })
            }
            None => {
                start(config, &kvm, &vm, &vcpus, &chipset, &board, &mapped)?;
                Generation::draw()
                    .and_then(|generation| generation_id.set(generation))
                    .map_err(host("give the guest a generation ID"))?;
                None
            }
        };
        let Board { buses, events, duty, inspected, parts, disks, sinks, alarm, pump, .. } = board;
        let snapshots = Snapshots::new(kvm, vm, chipset, parts, disks, anchored(config), base)
            .map_err(host("make an event"))?
            .with_boot_files(mapped.into_inner());
        Ok(Self {
            vcpus,
            snapshots,
            memory,
            buses: Arc::new(buses),
            events,
            duty,
            sinks,
            ending,
            alarm,
            clock,
            power_button,
            pump,
            inspected,
            introduction,
            make: Make {
                vcpus: config.machine.vcpus,
                memory_mib: config.machine.memory.0,
                vsock: config.vsock.as_ref().map(|vsock| vsock.socket.clone()),
            },
            patience: Patience {
                agent: Duration::from_secs(config.stop.agent_s.into()),
                button: Duration::from_secs(config.stop.button_s.into()),
            },
        })
    }

    /// Runs the guest to its end. The calling thread becomes the event loop.
    ///
    /// What it gives back besides the end watches over how long the end takes, until it is dropped.
    fn run(
        mut self,
        surroundings: &Surroundings,
        template: Option<&mut Template>,
    ) -> Result<(End, Option<Farewell>), MachineError> {
        self.snapshots.prepare().map_err(host("start a helper"))?;
        let vcpus = std::mem::take(&mut self.vcpus).into_iter();
        let crew = Crew::start(vcpus, &self.buses, &self.ending).map_err(host("start the vCPU threads"))?;
        let mut conductor = Conductor {
            surroundings,
            make: self.make,
            life: Life::new(self.patience),
            crew,
            events: self.events,
            duty: self.duty,
            inspected: self.inspected,
            ending: self.ending,
            alarm: self.alarm,
            clock: self.clock,
            power_button: self.power_button,
            halt: HaltWatch::new(Instant::now()),
            suspicion: Suspicion::since(Instant::now()),
            pump: self.pump,
            snapshots: self.snapshots,
            memory: self.memory.clone(),
            agent: None,
            introduction: self.introduction,
            template,
            identified_ns: None,
            rested: Rested::default(),
            began: Instant::now(),
        };
        filter::enter(Role::EventLoop);
        let end = conductor.run()?;
        let farewell = Farewell::of(end)
            .inspect_err(|error| log::error!("nobody watches over the end of the machine: {error}"))
            .ok();
        // Joins the vCPUs, and waits for what is under way at the disks.
        drop(conductor);
        for sink in &self.sinks {
            lock(sink).finish(farewell::Patience::of(end).last_words);
        }
        Ok((end, farewell))
    }
}

/// Runs the machine of `config` to its end, through every reboot that the configuration has it make: from its kernel, or
/// `from` where a snapshot has it.
///
/// In a jail this returns in the machine's own process, and the one that called ends as that does.
pub fn run(
    config: &VmConfig,
    from: Option<Opened>,
    containment: &Containment,
) -> Result<Outcome, MachineError> {
    if let Containment::Jailed { network } = containment {
        return jailed::run(config, from, network.as_deref());
    }
    let mut surroundings = surroundings(config)?;
    live(config, from, &mut surroundings).inspect_err(|error| {
        let end = control::End { status: error.refusal().status(), how: None };
        surroundings.tell(&[Event::Ended(end)]);
    })
}

/// What there is before a machine, without a jail.
fn surroundings(config: &VmConfig) -> Result<Surroundings, MachineError> {
    // Before the first thread, so that every thread has them blocked; and before the first socket has a path,
    // so that none is left behind.
    let signals =
        StopSignals::block().map_err(|errno| MachineError::Host("watch for signals", errno.into()))?;
    let control = config.control.as_ref().map(|control| Server::listen(&control.socket)).transpose()?;
    Ok(Surroundings {
        signals: Arc::new(Mutex::new(signals)),
        control: control.map(Mutex::new).map(Arc::new),
        reboots: 0,
        lacks: None,
    })
}

/// All lives of the machine.
fn live(
    config: &VmConfig,
    mut from: Option<Opened>,
    surroundings: &mut Surroundings,
) -> Result<Outcome, MachineError> {
    let mut reboots = Reboots::default();
    let mut taps = Attached::default();
    loop {
        let machine =
            Machine::assemble(config, &mut taps, None, from.take()).map_err(|error| {
                match reboots.count() {
                    0 => error,
                    _ => MachineError::Again(Box::new(error)),
                }
            })?;
        let (end, farewell) = machine.run(surroundings, None)?;
        drop(farewell);
        let again = end.outcome == Outcome::Reboot && config.machine.on_reboot == OnReboot::Restart;
        if again && reboots.allow(Instant::now()) {
            surroundings.reboots = reboots.count();
            surroundings.tell(&[Event::Rebooted { count: reboots.count() }]);
            continue;
        }
        if again {
            log::warn!("the guest reboots again and again; it is not started once more");
        }
        tell_end(surroundings, end);
        return Ok(end.outcome);
    }
}

/// Tells subscribers how the machine ended, and why.
fn tell_end(surroundings: &Surroundings, end: End) {
    let cause = match end.outcome {
        Outcome::Panic => Some(Event::GuestPanic),
        Outcome::WatchdogExpired => Some(Event::WatchdogExpired),
        _ => None,
    };
    surroundings.tell(cause.as_slice());
    surroundings.tell(&[Event::Ended(conductor::to_wire(end))]);
}

/// Boots the machine of `config`, and writes it down at `place` once its agent says, within a time, that it is warm.
/// In a jail this returns in the machine's own process, as [`run`] does.
pub fn make_template(
    config: &VmConfig,
    place: Place,
    within: Duration,
    containment: &Containment,
) -> Result<PathBuf, MachineError> {
    if let Containment::Jailed { network } = containment {
        return jailed::make_template(config, place, within, network.as_deref());
    }
    let surroundings = surroundings(config)?;
    let warm_up = warm_up(config)?;
    let mut machine = Machine::assemble(config, &mut Attached::default(), None, None)?;
    machine.events.add_subscriber(Box::new(warm_up.clone()));
    let mut template = Template::new(place, warm_up, within);
    let (end, farewell) = machine.run(&surroundings, Some(&mut template))?;
    surroundings.tell(&[Event::Ended(conductor::to_wire(end))]);
    drop(farewell);
    template.outcome().map_err(MachineError::NoTemplate)
}

/// Where a guest that becomes a template says that it is warm.
fn warm_up(config: &VmConfig) -> Result<Arc<Mutex<WarmUp>>, MachineError> {
    let Some(vsock) = &config.vsock else {
        return Err(MachineError::NoTemplate(
            "expected [vsock]: the guest says on it that it is warm".into(),
        ));
    };
    Ok(Arc::new(Mutex::new(WarmUp::listen(&vsock.socket)?)))
}

/// Loads what the guest starts from, and gives the first vCPU its first instruction.
fn start(
    config: &VmConfig,
    kvm: &Kvm,
    vm: &VmFd,
    vcpus: &[VcpuFd],
    chipset: &Chipset,
    board: &Board<'_>,
    mapped: &Mapped,
) -> Result<(), MachineError> {
    let files = BootFiles {
        kernel: &config.boot.kernel,
        initrd: config.boot.initrd.as_deref(),
        cmdline: &config.boot.cmdline,
        mapped,
    };
    let fittings = Fittings {
        vcpus: config.machine.vcpus,
        slots: &board.slots,
        serial: config.serial.output.is_some(),
        watchdog: config.watchdog.is_some(),
    };
    let entry = arch::load(board.memory, &files, chipset, &fittings)?;
    Ok(configure_vcpus(kvm, vm, vcpus, entry)?)
}

fn configure_vcpus(kvm: &Kvm, vm: &VmFd, vcpus: &[VcpuFd], entry: arch::Entry) -> Result<(), ChipsetError> {
    let count = u8::try_from(vcpus.len()).unwrap_or(u8::MAX);
    (0..count)
        .zip(vcpus)
        .try_for_each(|(index, vcpu)| arch::configure_vcpu(kvm, vm, vcpu, index, count, entry))
}

/// Wakes the loop when the machine ends.
struct EndWatch(Arc<Ending>);

impl MutEventSubscriber for EndWatch {
    fn process(&mut self, _events: Events, _ops: &mut EventOps<'_>) {
        // The loop looks at the outcome by itself; the event stays readable, nobody waits again.
    }

    fn init(&mut self, ops: &mut EventOps<'_>) {
        if let Err(error) = ops.add(Events::new(self.0.event(), EventSet::IN)) {
            log::error!("cannot watch for the end of the machine: {error}");
        }
    }
}
