//! Why a vCPU left the guest, counted.
//!
//! Duty: one number per reason, that costs the vCPU a plain store and can be read at any time.
//! Invariant: only the vCPU's own thread counts, so no addition needs a lock or an atomic read-modify-write.
//! The names are part of the statistics, and never change their meaning.

use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// Why a vCPU left the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Reason {
    IoIn,
    IoOut,
    MmioRead,
    MmioWrite,
    Halt,
    Shutdown,
    SystemEvent,
    Kick,
    Other,
}

/// What statistics call them, in order.
const NAMES: [&str; 9] =
    ["io_in", "io_out", "mmio_read", "mmio_write", "halt", "shutdown", "system_event", "kick", "other"];

/// The exits of one vCPU and, by way of its thread, its time.
#[derive(Debug, Default)]
pub(super) struct Tally {
    exits: [AtomicU64; NAMES.len()],
    /// The number of the thread; zero before it runs.
    thread: AtomicI32,
    /// When it was about to enter the guest for the first time, in nanoseconds of the host's monotonic clock.
    first_entry: AtomicU64,
}

impl Tally {
    /// This thread is the vCPU's, and enters the guest now.
    pub(super) fn adopt_thread(&self) {
        self.thread.store(nix::unistd::gettid().as_raw(), Ordering::SeqCst);
        self.first_entry.store(monotonic_ns(), Ordering::Relaxed);
    }

    /// One more exit.
    pub(super) fn count(&self, reason: Reason) {
        if let Some(count) = self.exits.get(reason as usize) {
            count.store(count.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        }
    }

    /// When the guest was entered first, in nanoseconds of the host's monotonic clock; zero before.
    pub(super) fn first_entry_ns(&self) -> u64 {
        self.first_entry.load(Ordering::Relaxed)
    }

    /// The number of the thread, once it runs.
    pub(super) fn thread(&self) -> Option<i32> {
        Some(self.thread.load(Ordering::SeqCst)).filter(|thread| *thread != 0)
    }

    /// Names and numbers.
    pub(super) fn report(&self, report: &mut dyn FnMut(&'static str, u64)) {
        for (name, count) in NAMES.iter().zip(&self.exits) {
            report(name, count.load(Ordering::Relaxed));
        }
    }

    /// CPU time of the thread: of the guest, and of what the monitor does for it on that thread.
    pub(super) fn cpu_time(&self) -> Option<Duration> {
        match self.thread.load(Ordering::Relaxed) {
            0 => None,
            thread => clock_gettime(clock_of(thread)).ok().map(Duration::from),
        }
    }
}

/// The clock of a thread's CPU time, as the kernel numbers it (`include/linux/posix-timers_types.h`): the
/// complement of the thread's number, then "of one thread" and "as the scheduler counts".
const fn clock_of(thread: i32) -> ClockId {
    const PER_THREAD: i32 = 4;
    const SCHEDULER: i32 = 2;
    ClockId::from_raw((!thread << 3) | PER_THREAD | SCHEDULER)
}

/// Nanoseconds of the host's monotonic clock, as other processes of the host see it.
pub(super) fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |time| Duration::from(time).as_nanos());
    u64::try_from(now).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_a_name_and_a_count_of_its_own() {
        let tally = Tally::default();
        tally.count(Reason::IoIn);
        for _ in 0..3 {
            tally.count(Reason::Other);
        }
        let mut seen = Vec::new();
        tally.report(&mut |name, count| seen.push((name, count)));
        assert_eq!(seen.first(), Some(&("io_in", 1)));
        assert_eq!(seen.last(), Some(&("other", 3)));
        assert_eq!(seen.iter().map(|(_, count)| count).sum::<u64>(), 4);
    }

    #[test]
    fn the_time_is_the_threads_own() {
        let tally = Tally::default();
        assert_eq!(tally.cpu_time(), None);
        std::thread::scope(|scope| {
            scope.spawn(|| tally.adopt_thread()).join().unwrap();
        });
        tally.adopt_thread();
        let before = tally.cpu_time().unwrap();
        // Some work; the clock of a thread only moves when the thread does.
        let mut sum = 0u64;
        while tally.cpu_time().unwrap() == before {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
    }
}
