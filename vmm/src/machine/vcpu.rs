//! A vCPU's thread: enter the guest, answer its exit, again.
//!
//! Invariant: nothing the guest does ends the process from here. An exit that cannot be answered ends the
//! machine with an [`Outcome`] that says so, and the event loop does the rest.

use std::sync::Arc;

use kvm_ioctls::{VcpuExit, VcpuFd};
use nix::libc::{EAGAIN, EINTR};

use super::bus::Bus;
use super::ending::Ending;
use super::gate::{Gate, Way};
use super::halt::Sleepers;
use super::kick::Kick;
use super::tally::{Reason, Tally};
use crate::jail::filter::{self, Role};
use crate::{Outcome, arch};

/// The address spaces a vCPU sees.
#[derive(Debug, Default)]
pub(super) struct Buses {
    /// Port I/O; empty on ARM.
    pub(super) pio: Bus,
    /// Memory-mapped I/O.
    pub(super) mmio: Bus,
}

/// One virtual processor and what it needs to run.
#[derive(Debug)]
pub(super) struct Vcpu {
    /// Its number, for messages.
    pub(super) index: u8,
    /// Its KVM descriptor.
    pub(super) fd: VcpuFd,
    /// Where its accesses go.
    pub(super) buses: Arc<Buses>,
    /// Where its end is told.
    pub(super) ending: Arc<Ending>,
    /// Where it waits when it is kicked out of the guest.
    pub(super) gate: Arc<Gate>,
    /// Where it tells that nothing can wake it.
    pub(super) sleepers: Arc<Sleepers>,
    /// What kicks it.
    pub(super) kick: Arc<Kick>,
    /// What it did.
    pub(super) tally: Arc<Tally>,
}

/// What an exit leads to.
enum Next {
    /// Into the guest again.
    Guest,
    /// Somebody wants something of this vCPU.
    Gate,
    /// The machine ends.
    End(Outcome),
}

impl Vcpu {
    /// Runs until the machine ends.
    pub(super) fn run(mut self) {
        self.tally.adopt_thread();
        filter::enter(Role::Vcpu);
        self.work();
        let gate = self.gate.clone();
        drop(self);
        gate.come_home();
        // Behind a filter a thread cannot end: it would take as many system calls as it lives by.
        while filter::is_on() {
            std::thread::park();
        }
    }

    fn work(&mut self) {
        while self.ending.outcome().is_none() {
            match self.run_once() {
                Next::Guest => {}
                Next::Gate => {
                    self.kick.clear();
                    self.sleepers.answer(self.index, || arch::sleeps_for_good(&self.fd));
                    match self.gate.pass() {
                        Way::Straight => {}
                        Way::Rested => arch::after_pause(&self.fd),
                        Way::Home => return,
                    }
                }
                Next::End(outcome) => self.ending.end(outcome),
            }
        }
    }

    /// One stay in the guest. What wants the vCPU is looked for after a kick only: every kick ends the stay,
    /// or the next one before it begins, with EINTR.
    fn run_once(&mut self) -> Next {
        let index = self.index;
        let (reason, next) = match self.fd.run() {
            Ok(VcpuExit::IoOut(port, data)) => {
                self.buses.pio.write(port.into(), data);
                (Reason::IoOut, Next::Guest)
            }
            Ok(VcpuExit::IoIn(port, data)) => {
                self.buses.pio.read(port.into(), data);
                (Reason::IoIn, Next::Guest)
            }
            Ok(VcpuExit::MmioWrite(address, data)) => {
                self.buses.mmio.write(address, data);
                (Reason::MmioWrite, Next::Guest)
            }
            Ok(VcpuExit::MmioRead(address, data)) => {
                self.buses.mmio.read(address, data);
                (Reason::MmioRead, Next::Guest)
            }
            Ok(VcpuExit::Hlt) => (Reason::Halt, Next::End(Outcome::Halt)),
            Ok(VcpuExit::Shutdown) => (Reason::Shutdown, Next::End(Outcome::TripleFault)),
            Ok(VcpuExit::SystemEvent(kind, _)) => (Reason::SystemEvent, system_event(kind)),
            Ok(VcpuExit::Intr) => (Reason::Kick, Next::Gate),
            Ok(exit) => {
                log::error!("vCPU {index}: KVM cannot go on: {exit:?}");
                (Reason::Other, Next::End(Outcome::InternalError))
            }
            Err(error) => match error.errno() {
                EINTR => (Reason::Kick, Next::Gate),
                // A vCPU that another one has not started yet.
                EAGAIN => (Reason::Other, Next::Guest),
                _ => {
                    log::error!("vCPU {index}: KVM cannot run it: {error}");
                    (Reason::Other, Next::End(Outcome::InternalError))
                }
            },
        };
        self.tally.count(reason);
        next
    }
}

/// What the guest asked its firmware for: PSCI calls on ARM.
fn system_event(kind: u32) -> Next {
    match kind {
        kvm_bindings::KVM_SYSTEM_EVENT_SHUTDOWN => Next::End(Outcome::PowerOff),
        kvm_bindings::KVM_SYSTEM_EVENT_RESET => Next::End(Outcome::Reboot),
        kvm_bindings::KVM_SYSTEM_EVENT_CRASH => Next::End(Outcome::Panic),
        other => {
            log::warn!("system event {other} of the guest is not known; ignored");
            Next::Guest
        }
    }
}
