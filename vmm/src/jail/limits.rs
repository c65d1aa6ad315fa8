//! What one process may use of the host, whoever is in it.
//!
//! Duty: no core files, no more address space than a machine takes, no larger files than it writes, no more threads
//! than it has. Not here: bounds that the kernel keeps for a group of processes (`cgroup.rs`).

use std::io::{self, IsTerminal};
use std::os::fd::AsFd;

use hearth_config::vm::{Output, VmConfig};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::stat::{SFlag, fstat};
use nix::sys::utsname::uname;

use super::privileges::Who;
use super::{Lacks, Layer};

/// Bytes of address space beside guest memory: program, stacks, boot files, rings, and 64 MiB that the C library sets
/// aside for each thread without using them.
const BESIDE_BYTES: u64 = 512 << 20;
const PER_THREAD_BYTES: u64 = 160 << 20;
/// Threads beside the vCPUs: the event loop, helpers, and what the kernel starts for each disk.
const BESIDE_THREADS: u64 = 16;
pub(super) const THREADS_PER_DISK: u64 = 12;
/// Descriptors: streams of vsock, clients, and what the program itself takes; twice that.
const FOR_ALL_DESCRIPTORS: u64 = 1024;
const PER_DEVICE_DESCRIPTORS: u64 = 32;
/// Bytes of any file that is no disk and no memory: output, and what describes a snapshot.
const FILE_BYTES: u64 = 64 << 20;

/// Threads of this machine, at most.
pub(super) fn threads(config: &VmConfig) -> u64 {
    let disks = config.block.len() as u64;
    u64::from(config.machine.vcpus) + BESIDE_THREADS + THREADS_PER_DISK * disks
}

/// Descriptors of this machine, at most: what was taken over keeps no more files alive than that.
fn descriptors(config: &VmConfig) -> u64 {
    let devices = config.block.len() + config.net.len() + usize::from(config.machine.vcpus);
    FOR_ALL_DESCRIPTORS + PER_DEVICE_DESCRIPTORS * devices as u64
}

/// The bounds of one machine.
#[derive(Debug)]
pub(super) struct Bounds {
    bounds: Vec<(Resource, u64)>,
    /// Whoever started this has it write into a file of his, as long as he likes.
    is_boundless: bool,
}

impl Bounds {
    /// Found out while its files can still be looked at.
    pub(super) fn of(config: &VmConfig) -> Self {
        let ram = config.machine.memory.bytes();
        // Restored and written down: memory is mapped once more for moments.
        let space = 2 * ram + BESIDE_BYTES + PER_THREAD_BYTES * (u64::from(config.machine.vcpus) + 4);
        let mut bounds = vec![
            (Resource::RLIMIT_CORE, 0),
            (Resource::RLIMIT_AS, space),
            (Resource::RLIMIT_NPROC, threads(config)),
            (Resource::RLIMIT_NOFILE, descriptors(config)),
        ];
        let file = file_bytes(config);
        bounds.extend(file.map(|bytes| (Resource::RLIMIT_FSIZE, bytes)));
        Self { bounds, is_boundless: file.is_none() }
    }

    /// Sets them all.
    pub(super) fn set(mut self, who: Who, lacks: &mut Lacks) {
        if self.is_boundless {
            // No fault of the host's: somebody wants it so.
            log::info!("a standard stream is a file, so no file that this machine writes has a bound");
        }
        if lacks.has(Layer::UserNamespace) || (who == Who::Ordinary && !counts_for_each_namespace()) {
            // Counted per user: without a namespace of its own, of everything that the user runs.
            self.bounds.retain(|(resource, _)| *resource != Resource::RLIMIT_NPROC);
            lacks.note(Layer::ResourceLimits, "threads are counted for all that this user runs");
        }
        for (resource, bound) in self.bounds {
            let set = getrlimit(resource).and_then(|(_, hard)| {
                let bound = bound.min(hard);
                setrlimit(resource, bound, bound)
            });
            if let Err(errno) = set {
                lacks.note(Layer::ResourceLimits, format_args!("{resource:?}: {errno}"));
            }
        }
    }
}

/// Whether this kernel counts a user's threads for each user namespace: from 5.14 on.
fn counts_for_each_namespace() -> bool {
    uname().is_ok_and(|kernel| {
        let release = kernel.release().to_string_lossy();
        let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
        matches!((numbers.next(), numbers.next()), (Some(Ok(major)), Some(Ok(minor))) if (major, minor) >= (5, 14))
    })
}

/// The longest file that the machine writes; `None` where it writes to one that is not its own.
fn file_bytes(config: &VmConfig) -> Option<u64> {
    let outputs = [config.serial.output.as_ref(), config.console.as_ref().map(|console| &console.output)];
    let prints_here = outputs.into_iter().flatten().any(|output| *output == Output::Stdout);
    if (prints_here && is_file(&io::stdout())) || is_file(&io::stderr()) {
        return None;
    }
    let disks = config.block.iter().filter(|disk| !disk.read_only);
    let largest = disks.filter_map(|disk| std::fs::metadata(&disk.path).ok()).map(|disk| disk.len()).max();
    // Past the end of an image it is asked whether discarding works, which makes nothing longer.
    Some(largest.unwrap_or_default().max(config.machine.memory.bytes()).saturating_add(FILE_BYTES))
}

fn is_file(stream: &(impl AsFd + IsTerminal)) -> bool {
    !stream.is_terminal()
        && fstat(stream)
            .is_ok_and(|stat| SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == SFlag::S_IFREG)
}
