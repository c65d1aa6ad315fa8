//! How fast a guest's kernel mode runs, measured by a guest that counts down and reports.
//!
//! A flag in CPUID or a module's name says what KVM claims; this says what it does. The guest is a loop of
//! two instructions in one page, so it runs even where KVM interprets and knows few instructions.

use std::time::{Duration, Instant};

use kvm_ioctls::{Kvm, VcpuExit, VcpuFd};
use vm_memory::GuestAddress;

use super::guest;
use crate::memory;

/// Instructions in one round of the loop.
const INSTRUCTIONS_PER_ROUND: u64 = 2;
/// Interpreted, these take some milliseconds; on a processor, microseconds.
const FIRST_ROUNDS: u32 = 5_000;
/// A run this long needs no longer one after it.
const LONG_ENOUGH: Duration = Duration::from_millis(5);
/// Even at 10 billion instructions/s this is long enough.
const MOST_ROUNDS: u32 = 50_000_000;
/// The fastest run counts: a box that boots has other things to do, and each of them only makes a run slower.
const RUNS: u32 = 8;

/// Why the micro-guest did not run.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProbeError {
    #[error(transparent)]
    Memory(#[from] memory::MemoryError),
    #[error("{0}")]
    Kvm(#[from] kvm_ioctls::Error),
    #[error("its code cannot be written")]
    Code(#[from] vm_memory::GuestMemoryError),
    #[error("unexpected exit {0}")]
    Exit(String),
}

/// Million instructions per second of a guest in kernel mode.
pub(super) fn measure(kvm: &Kvm) -> Result<u64, ProbeError> {
    with_guest(kvm, |vcpu| {
        let (mut rounds, mut fastest) = (FIRST_ROUNDS, 0);
        for _ in 0..RUNS {
            let took = count_down(vcpu, rounds)?;
            fastest = fastest.max(mips(rounds, took));
            if took < LONG_ENOUGH {
                rounds = rounds.saturating_mul(10).min(MOST_ROUNDS);
            }
        }
        Ok(fastest)
    })
}

/// The same from three short runs: enough to tell interpreting from running.
pub(super) fn glance(kvm: &Kvm) -> Result<u64, ProbeError> {
    with_guest(kvm, |vcpu| {
        let mut fastest = 0;
        for _ in 0..3 {
            fastest = fastest.max(mips(FIRST_ROUNDS, count_down(vcpu, FIRST_ROUNDS)?));
        }
        Ok(fastest)
    })
}

fn with_guest(
    kvm: &Kvm,
    measure: impl FnOnce(&mut VcpuFd) -> Result<u64, ProbeError>,
) -> Result<u64, ProbeError> {
    let vm = kvm.create_vm()?;
    let ram = memory::allocate(&[(GuestAddress(guest::RAM), guest::RAM_BYTES)])?;
    memory::register(&vm, &ram)?;
    let mut vcpu = vm.create_vcpu(0)?;
    guest::prepare(&vm, &vcpu, &ram)?;
    // The first run also faults the page in.
    count_down(&mut vcpu, 1)?;
    measure(&mut vcpu)
}

fn mips(rounds: u32, took: Duration) -> u64 {
    let microseconds = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1);
    u64::from(rounds) * INSTRUCTIONS_PER_ROUND / microseconds
}

fn count_down(vcpu: &mut VcpuFd, rounds: u32) -> Result<Duration, ProbeError> {
    guest::start(vcpu, rounds)?;
    let began = Instant::now();
    match vcpu.run()? {
        VcpuExit::IoOut(..) | VcpuExit::MmioWrite(..) => Ok(began.elapsed()),
        exit => Err(ProbeError::Exit(format!("{exit:?}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_micro_guest_counts_on_any_kvm() {
        match crate::kvm::open() {
            Ok(kvm) => {
                assert!(measure(&kvm).unwrap() > 0);
                // A machine with other things to do may take any of these runs off the processor.
                assert!((0..100).any(|_| glance(&kvm).unwrap() > 0));
            }
            Err(error) => eprintln!("skipped: {error}"),
        }
    }
}
