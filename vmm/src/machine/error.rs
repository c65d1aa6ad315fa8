//! Why a machine could not be assembled or kept running, and whose fault that is.

use std::io;
use std::path::PathBuf;

use super::bus::Overlap;
use crate::arch::{BootError, ChipsetError};
use crate::control::ControlError;
use crate::kvm::KvmError;
use crate::listener::ListenError;
use crate::memory::MemoryError;
use crate::outcome::Refusal;
use crate::snapshot;
use crate::virtio::balloon;
use crate::virtio::block::OpenError;
use crate::virtio::net::TapError;
use crate::virtio::vsock::HostError;

/// Why a machine could not be assembled or kept running.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// KVM cannot be used at all.
    #[error(transparent)]
    Kvm(#[from] KvmError),
    /// KVM refused a part of the machine.
    #[error("KVM refused to {0}")]
    Refused(&'static str, #[source] kvm_ioctls::Error),
    /// Guest memory.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// Interrupt controllers, timers, first vCPU state.
    #[error(transparent)]
    Chipset(#[from] ChipsetError),
    /// Kernel, initrd, command line.
    #[error(transparent)]
    Boot(#[from] BootError),
    /// A disk.
    #[error("cannot be used as a disk")]
    Block {
        /// Its place in the configuration, from 0.
        index: usize,
        /// What is wrong with it.
        source: OpenError,
    },
    /// A network card.
    #[error("cannot be used as a network card")]
    Net {
        /// Its place in the configuration, from 0.
        index: usize,
        /// What is wrong with its interface.
        source: TapError,
    },
    /// The balloon's target.
    #[error(transparent)]
    Balloon(#[from] balloon::TooMuch),
    /// The vsock device's host side.
    #[error(transparent)]
    Vsock(#[from] HostError),
    /// The control socket.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// Where the serial port or the console prints.
    #[error("{}: cannot be written", path.display())]
    Output {
        /// The key of the configuration.
        key: &'static str,
        /// The file, or what stands for it.
        path: PathBuf,
        /// What the host said.
        source: io::Error,
    },
    /// More devices than interrupts.
    #[error("{asked} virtio devices are configured, expected at most {max}")]
    TooManyDevices {
        /// How many the configuration names.
        asked: usize,
        /// How many there is room for.
        max: u32,
    },
    /// More vCPUs than KVM makes.
    #[error("expected at most {max}, which is what KVM makes here, found {asked}")]
    TooManyVcpus {
        /// How many the configuration names.
        asked: u8,
        /// How many this KVM makes.
        max: usize,
    },
    /// The socket on which the guest says that it is warm.
    #[error(transparent)]
    WarmUp(#[from] ListenError),
    /// A guest that did not become a template.
    #[error("no template: {0}")]
    NoTemplate(String),
    /// A snapshot that this machine cannot go on from.
    #[error(transparent)]
    Snapshot(#[from] snapshot::Refusal),
    /// The layout tables contradict themselves.
    #[error("bus layout")]
    Layout(#[from] Overlap),
    /// A descriptor, a thread or a signal mask that the host did not give.
    #[error("cannot {0}")]
    Host(&'static str, #[source] io::Error),
    /// The event loop.
    #[error("event loop")]
    Events(#[from] EventsError),
    /// The guest ran, and the host has changed since it was started.
    #[error("the guest rebooted and cannot be started again")]
    Again(#[source] Box<MachineError>),
}

impl MachineError {
    /// The key of the configuration that is at fault, if one is.
    #[must_use]
    pub fn key(&self) -> Option<String> {
        match self {
            Self::Boot(error) => error.key().map(str::to_owned),
            Self::Memory(error) => error.key().map(str::to_owned),
            Self::Balloon(_) => Some("balloon.target_mib".to_owned()),
            Self::Block { index, .. } => Some(format!("block[{index}].path")),
            Self::Net { index, .. } => Some(format!("net[{index}].tap")),
            Self::WarmUp(_) => Some("vsock.socket".to_owned()),
            Self::Vsock(HostError::Watch(_)) => None,
            Self::Vsock(_) => Some("vsock.socket".to_owned()),
            Self::Output { key, .. } => Some((*key).to_owned()),
            Self::Control(ControlError::Watch(_)) => None,
            Self::Control(_) => Some("control.socket".to_owned()),
            Self::TooManyDevices { .. } => Some("block".to_owned()),
            Self::TooManyVcpus { .. } => Some("machine.vcpus".to_owned()),
            Self::Kvm(_)
            | Self::Refused(..)
            | Self::Chipset(_)
            | Self::Snapshot(_)
            | Self::NoTemplate(_)
            | Self::Layout(_)
            | Self::Host(..)
            | Self::Again(_)
            | Self::Events(_) => None,
        }
    }

    /// What the process ends with.
    #[must_use]
    pub fn refusal(&self) -> Refusal {
        match self {
            Self::Kvm(_) => Refusal::Kvm,
            // Found when the value was used, and still a fault of the file. A machine that ran once had none.
            Self::Snapshot(_) => Refusal::Usage,
            _ if self.key().is_some() => Refusal::Usage,
            _ => Refusal::Failure,
        }
    }
}

/// `event_manager::Error` with a source that prints.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct EventsError(pub(super) event_manager::Error);

pub(super) fn host(what: &'static str) -> impl Fn(io::Error) -> MachineError {
    move |source| MachineError::Host(what, source)
}

pub(super) fn refused(what: &'static str) -> impl Fn(kvm_ioctls::Error) -> MachineError {
    move |source| MachineError::Refused(what, source)
}
