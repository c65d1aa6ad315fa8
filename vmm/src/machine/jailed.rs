//! A machine in its jail: what is opened on either side of the split, and in which order.
//!
//! ```text
//!  porter:  signals ─ control socket ─ vsock socket ─ interfaces ─ enter ──── watches, runs errands ──── ends alike
//!  machine:                                          └─ assemble ─ close ─ filters ─ run ─ end, or another life
//! ```
//!
//! Duty: that order. Not here: walls (`crate::jail`), what a machine is made of.
//!
//! Invariant: no path leads to what the porter keeps: sockets have theirs until it ends, so a machine that reboots
//! takes nothing from anybody and loses none of its clients.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use event_manager::SubscriberOps;
use hearth_config::vm::{OnReboot, VmConfig};
use hearth_wire::control::{self, Event};
use nix::fcntl::OFlag;

use super::conductor::{Surroundings, to_wire};
use super::reboots::Reboots;
use super::signals::{self, StopSignals};
use super::template::{Place, Template};
use super::{Machine, MachineError, host};
use crate::Outcome;
use crate::control::{Server, open as open_control};
use crate::jail::{self, Household, Purpose, outside};
use crate::listener::Listener;
use crate::places;
use crate::snapshot::Opened;
use crate::virtio::net::Attached;
use crate::virtio::vsock;

/// What the porter opens for every life.
struct Opening {
    control: Option<Listener>,
    vsock: Option<Listener>,
    taps: Attached,
    /// Where it goes; not open any more when it is there.
    network: Option<File>,
}

impl Opening {
    fn of(config: &VmConfig, network: Option<&Path>) -> Result<Self, MachineError> {
        let network = network.and_then(|path| {
            let opened = places::open(path, OFlag::O_RDONLY | OFlag::O_NONBLOCK);
            opened
                .inspect_err(|error| log::warn!("{}: no namespace to go into: {error}", path.display()))
                .ok()
        });
        let control = config.control.as_ref().map(|control| open_control(&control.socket)).transpose()?;
        let vsock = config.vsock.as_ref().map(|vsock| vsock::listen(&vsock.socket)).transpose()?;
        let mut taps = Attached::default();
        for (index, card) in config.net.iter().enumerate() {
            taps.tap(&card.tap).map_err(|source| MachineError::Net { index, source })?;
        }
        Ok(Self { control, vsock, taps, network })
    }
}

/// A machine's process, and what it was given.
struct Inside {
    surroundings: Surroundings,
    opening: Opening,
    lacks: jail::Lacks,
    first: bool,
    reboots: Reboots,
}

/// Goes in. Returns in the machine's process only.
fn enter(
    config: &VmConfig,
    network: Option<&Path>,
    template: Option<&Place>,
) -> Result<Inside, MachineError> {
    let opening = Opening::of(config, network)?;
    let household = Household { config, template, stops: signals::that_stop() };
    let life = jail::enter(&household).map_err(host("start the machine's process"))?;
    let stops = StopSignals::told_by(life.stops)
        .map_err(|errno| MachineError::Host("watch for signals", errno.into()))?;
    let control = match &opening.control {
        Some(listener) => {
            let listener = listener.share().map_err(host("share the control socket"))?;
            Some(Arc::new(Mutex::new(Server::on(listener, life.clients)?)))
        }
        None => None,
    };
    let surroundings = Surroundings {
        signals: Arc::new(Mutex::new(stops)),
        control,
        reboots: life.reboots.count(),
        lacks: None,
    };
    Ok(Inside { surroundings, opening, lacks: life.lacks, first: life.number == 0, reboots: life.reboots })
}

impl Inside {
    fn assemble(&mut self, config: &VmConfig, from: Option<Opened>) -> Result<Machine, MachineError> {
        let door = self.opening.vsock.as_ref().map(Listener::share).transpose();
        let door = door.map_err(host("share the vsock socket"))?;
        Machine::assemble(config, &mut self.opening.taps, door, from.filter(|_| self.first))
    }

    /// Shuts the door behind a machine that has all that it needs.
    fn close(&mut self, config: &VmConfig, purpose: Purpose) -> Result<(), MachineError> {
        let network = self.opening.network.take();
        let lacks = jail::close(config, purpose, network, std::mem::take(&mut self.lacks))
            .map_err(host("close the jail"))?;
        if !lacks.layers().is_empty() {
            log::warn!("this host lacks a part of the jail: {lacks}");
        }
        self.surroundings.lacks = Some(lacks.names());
        Ok(())
    }

    /// Tells everybody why there is no machine.
    fn fail(&self, error: MachineError) -> MachineError {
        let error = if self.first { error } else { MachineError::Again(Box::new(error)) };
        let end = control::End { status: error.refusal().status(), how: None };
        self.surroundings.tell(&[Event::Ended(end)]);
        error
    }
}

/// Runs the machine of `config` to its end. Returns in the machine's process; the one that called ends like it.
pub(super) fn run(
    config: &VmConfig,
    from: Option<Opened>,
    network: Option<&Path>,
) -> Result<Outcome, MachineError> {
    let mut inside = enter(config, network, None)?;
    if !inside.first {
        inside.surroundings.tell(&[Event::Rebooted { count: inside.reboots.count() }]);
    }
    let purpose = if from.is_some() && inside.first { Purpose::Copy } else { Purpose::Machine };
    let machine = inside.assemble(config, from).map_err(|error| inside.fail(error))?;
    inside.close(config, purpose).map_err(|error| inside.fail(error))?;
    let (end, farewell) = machine.run(&inside.surroundings, None)?;
    if end.outcome == Outcome::Reboot && config.machine.on_reboot == OnReboot::Restart {
        if inside.reboots.allow(Instant::now()) {
            let stays = inside.surroundings.control.as_deref().map(|control| super::lock(control).stays());
            outside::again(stays.unwrap_or_default()).map_err(host("ask for another life"))?;
            drop(farewell);
            return Ok(end.outcome);
        }
        log::warn!("the guest reboots again and again; it is not started once more");
    }
    drop(farewell);
    super::tell_end(&inside.surroundings, end);
    Ok(end.outcome)
}

/// Boots the machine of `config`, and writes it down at `place` once its agent says, within a time, that it is warm.
pub(super) fn make_template(
    config: &VmConfig,
    place: Place,
    within: Duration,
    network: Option<&Path>,
) -> Result<PathBuf, MachineError> {
    let warm_up = super::warm_up(config)?;
    let mut inside = enter(config, network, Some(&place))?;
    let mut machine = inside.assemble(config, None)?;
    machine.events.add_subscriber(Box::new(warm_up.clone()));
    machine.snapshots.becomes_template = true;
    inside.close(config, Purpose::Template)?;
    let mut template = Template::new(place, warm_up, within);
    let (end, farewell) = machine.run(&inside.surroundings, Some(&mut template))?;
    inside.surroundings.tell(&[Event::Ended(to_wire(end))]);
    drop(farewell);
    template.outcome().map_err(MachineError::NoTemplate)
}
