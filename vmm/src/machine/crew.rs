//! The vCPU threads, as one.
//!
//! Duty: start them, hold and release them together, and see every one of them off. Not its duty: when.
//! Invariant: no thread outlives the crew. What the threads run on (buses, guest memory, descriptors) can
//! go when the crew is gone.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::JoinHandle;

use kvm_ioctls::{VcpuFd, VmFd};

use super::ending::Ending;
use super::gate::Gate;
use super::halt::Sleepers;
use super::kick::{self, Kick};
use super::tally::Tally;
use super::vcpu::{Buses, Vcpu};
use crate::jail::filter;

/// One thread, and what reaches it.
#[derive(Debug)]
struct Hand {
    thread: JoinHandle<()>,
    kick: Arc<Kick>,
    tally: Arc<Tally>,
    descriptor: OwnedFd,
}

/// All vCPU threads of a machine.
#[derive(Debug)]
pub(super) struct Crew {
    gate: Arc<Gate>,
    sleepers: Arc<Sleepers>,
    hands: Vec<Hand>,
}

impl Crew {
    /// Starts a thread for each of `vcpus`.
    pub(super) fn start(
        vcpus: impl ExactSizeIterator<Item = VcpuFd>,
        buses: &Arc<Buses>,
        ending: &Arc<Ending>,
    ) -> io::Result<Self> {
        kick::prepare()?;
        let gate = Arc::new(Gate::new(u8::try_from(vcpus.len()).unwrap_or(u8::MAX))?);
        // Whole from the first thread on, so that a failure half-way sends home who has started.
        let sleepers = Arc::new(Sleepers::default());
        let mut crew = Self { gate, sleepers, hands: Vec::with_capacity(vcpus.len()) };
        for (index, fd) in (0u8..).zip(vcpus) {
            let kick = Arc::new(Kick::of(&fd)?);
            let tally = Arc::new(Tally::default());
            let descriptor = kick::duplicate(&fd)?;
            let vcpu = Vcpu {
                index,
                fd,
                buses: buses.clone(),
                ending: ending.clone(),
                gate: crew.gate.clone(),
                sleepers: crew.sleepers.clone(),
                kick: kick.clone(),
                tally: tally.clone(),
            };
            let thread = std::thread::Builder::new().name(format!("vcpu{index}")).spawn(|| vcpu.run())?;
            crew.gate.expect_one_more();
            crew.hands.push(Hand { thread, kick, tally, descriptor });
        }
        Ok(crew)
    }

    /// Where they rest.
    pub(super) const fn gate(&self) -> &Arc<Gate> {
        &self.gate
    }

    /// Calls every vCPU out of the guest and to the gate. `Gate::full` tells when they are there.
    pub(super) fn hold(&self) {
        self.gate.hold();
        self.kick_all();
    }

    /// Lets them back in.
    pub(super) fn release(&self) {
        self.gate.release();
    }

    /// What each of them did.
    pub(super) fn tallies(&self) -> impl ExactSizeIterator<Item = &Tally> {
        self.hands.iter().map(|hand| &*hand.tally)
    }

    /// Every vCPU by a descriptor of its own, to ask KVM about it. Only while all are held: KVM would wait for one that
    /// is in the guest.
    pub(super) fn twins(&self, vm: &VmFd) -> io::Result<Vec<VcpuFd>> {
        self.hands.iter().map(|hand| kick::twin(vm, &hand.descriptor)).collect()
    }

    /// Has every vCPU say whether anything could wake it.
    pub(super) fn ask_who_sleeps(&self) {
        self.sleepers.ask();
        self.kick_all();
    }

    /// Whether all said, since they were asked, that nothing can.
    pub(super) fn all_sleep_for_good(&self) -> bool {
        self.sleepers.take(self.hands.len())
    }

    fn kick_all(&self) {
        for hand in &self.hands {
            kick::interrupt(&hand.kick, hand.tally.thread());
        }
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        self.gate.dismiss();
        self.kick_all();
        if filter::is_on() {
            // They keep what they are, and have let go of what they had: the process ends with them.
            self.gate.wait_until_home();
            self.hands.clear();
        }
        for hand in self.hands.drain(..) {
            if hand.thread.join().is_err() {
                log::error!("a vCPU thread ended by a panic");
            }
        }
    }
}
