//! One process, one microVM: the machine that `hearth-vmm` assembles and runs.
//!
//! | where | what |
//! |---|---|
//! | [`machine`] | puts the parts together, runs the vCPUs and the event loop, ends in an [`Outcome`] |
//! | [`arch`] | what differs: memory layout, boot protocol, interrupt controller, firmware tables |
//! | [`devices`] | platform devices: serial port, power and reset registers |
//! | [`virtio`] | the MMIO transport and one folder per device |
//! | [`memory`] | guest RAM: the only place that maps it and shows it to KVM |
//! | [`places`] | where a path leads that root may walk |
//! | [`mapped_file`] | kernels and initial RAM disks, mapped into it rather than copied |
//! | [`kvm`] | opens KVM and says plainly when it cannot be used |
//! | [`preflight`] | what is wrong with a configuration on this host, before KVM is opened |
//! | [`inherited`] | takes over a descriptor that came across exec |
//! | [`keyboard`] | what is typed to the monitor, for a device of the guest |
//! | [`output`] | what the guest printed and the host has not taken yet |
//! | [`jail`] | what the machine's process may still do once its guest runs |
//! | [`control`] | the control socket: requests in, answers and events out |
//! | [`mailbox`] | from one thread to another, with no call that a filter lacks |
//! | [`listener`] | listening Unix sockets and their paths |
//! | [`snapshot`] | the machine as files: written down, and restored from them |
//! | [`stdio`] | standard output and standard error, without waiting for their readers |
//! | [`rate`] | how much a guest may ask of the host per second |
//! | [`logger`] | what the monitor says of itself, on standard error |
//! | [`outcome`] | how a machine ends, and the exit status that tells it |
//! | [`doctor`] | measures what the host really offers |
//!
//! Not here: restart policy, networking policy, anything that outlives the VM.

pub mod arch;
pub mod control;
pub mod devices;
pub mod doctor;
pub mod inherited;
pub mod jail;
pub mod keyboard;
pub mod kvm;
pub mod listener;
pub mod logger;
pub mod machine;
pub mod mailbox;
pub mod mapped_file;
pub mod memory;
pub mod outcome;
pub mod output;
pub mod places;
pub mod preflight;
pub mod rate;
pub mod snapshot;
pub mod stdio;
pub mod virtio;

pub use machine::Machine;
pub use outcome::Outcome;
