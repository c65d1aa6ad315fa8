//! A vCPU's thread: enter the guest, answer its exit, again.
//!
//! Invariant: nothing the guest does ends the process from here. An exit that cannot be answered ends the
//! machine with an [`Outcome`] that says so, and the event loop does the rest.

use std::sync::Arc;

use kvm_ioctls::{VcpuExit, VcpuFd};
use nix::libc::{EAGAIN, EINTR};

use super::bus::Bus;
use super::ending::Ending;
use crate::Outcome;
use crate::memory::GuestRam;

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
    /// What the guest's memory is mapped by: not to be unmapped under a running vCPU.
    pub(super) _memory: GuestRam,
}

impl Vcpu {
    /// Runs until the machine ends.
    pub(super) fn run(mut self) {
        while self.ending.outcome().is_none() {
            if let Some(outcome) = self.run_once() {
                self.ending.end(outcome);
            }
        }
    }

    fn run_once(&mut self) -> Option<Outcome> {
        let index = self.index;
        match self.fd.run() {
            Ok(VcpuExit::IoOut(port, data)) => self.buses.pio.write(port.into(), data),
            Ok(VcpuExit::IoIn(port, data)) => self.buses.pio.read(port.into(), data),
            Ok(VcpuExit::MmioWrite(address, data)) => self.buses.mmio.write(address, data),
            Ok(VcpuExit::MmioRead(address, data)) => self.buses.mmio.read(address, data),
            Ok(VcpuExit::Hlt) => return Some(Outcome::Halt),
            Ok(VcpuExit::Shutdown) => return Some(Outcome::TripleFault),
            Ok(VcpuExit::SystemEvent(kind, _)) => return system_event(kind),
            Ok(VcpuExit::Intr) => {}
            Ok(exit) => {
                log::error!("vCPU {index}: KVM cannot go on: {exit:?}");
                return Some(Outcome::InternalError);
            }
            // A signal, or a vCPU that another one has not started yet.
            Err(error) if matches!(error.errno(), EINTR | EAGAIN) => {}
            Err(error) => {
                log::error!("vCPU {index}: KVM cannot run it: {error}");
                return Some(Outcome::InternalError);
            }
        }
        None
    }
}

/// What the guest asked its firmware for: PSCI calls on ARM.
fn system_event(kind: u32) -> Option<Outcome> {
    match kind {
        kvm_bindings::KVM_SYSTEM_EVENT_SHUTDOWN => Some(Outcome::PowerOff),
        kvm_bindings::KVM_SYSTEM_EVENT_RESET => Some(Outcome::Reboot),
        kvm_bindings::KVM_SYSTEM_EVENT_CRASH => Some(Outcome::Panic),
        other => {
            log::warn!("system event {other} of the guest is not known; ignored");
            None
        }
    }
}
