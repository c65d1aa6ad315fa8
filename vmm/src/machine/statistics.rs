//! What the machine has done so far, in numbers.
//!
//! Duty: gather them when somebody asks, and not before. Names are part of the interface.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hearth_wire::control::{Answer, Figure, Figures, LogLevel, Status};
use log::LevelFilter;

use super::board::Inspect;
use super::crew::Crew;
use super::pump::Pump;
use crate::control::{Server, Ticket};

/// The machine's own numbers.
pub(super) struct Whole {
    pub(super) status: Status,
    pub(super) memory_in_use: Option<u64>,
    /// When its guest was somebody else than the one of its snapshot, by the host's monotonic clock.
    pub(super) identified_ns: Option<u64>,
    pub(super) last_pause: Option<Duration>,
}

/// Answers with the numbers of each vCPU, each device and, last, the machine.
pub(super) fn tell(
    control: &mut Server,
    ticket: Ticket,
    machine: &Whole,
    crew: &Crew,
    devices: &[Arc<dyn Inspect>],
) {
    let mut exits = 0u64;
    for (index, tally) in crew.tallies().enumerate() {
        let mut figures = Figures::new();
        let nanos = tally.cpu_time().map_or(0, |time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
        add(&mut figures, "cpu_time_ns", nanos);
        add(&mut figures, "first_entry_monotonic_ns", tally.first_entry_ns());
        tally.report(&mut |name, count| {
            exits = exits.saturating_add(count);
            add(&mut figures, name, count);
        });
        let of = &*format!("vcpu{index}");
        control.answer_in_part(ticket, Answer::Figures { of, figures, more: true });
    }
    for device in devices {
        let mut figures = Figures::new();
        device.counters(&mut |name, value| add(&mut figures, name, value));
        control.answer_in_part(ticket, Answer::Figures { of: device.name(), figures, more: true });
    }
    let mut figures = Figures::new();
    let Whole { status, memory_in_use, identified_ns, last_pause } = machine;
    add(&mut figures, "uptime_ms", status.uptime_ms);
    add(&mut figures, "reboots", status.reboots.into());
    add(&mut figures, "exits", exits);
    add(&mut figures, "memory_bytes", u64::from(status.memory_mib) << 20);
    let pause_ns = last_pause.map(|pause| u64::try_from(pause.as_nanos()).unwrap_or(u64::MAX));
    for (name, known) in [
        ("memory_in_use_bytes", *memory_in_use),
        ("identified_monotonic_ns", *identified_ns),
        ("last_pause_ns", pause_ns),
    ] {
        known.iter().for_each(|value| add(&mut figures, name, *value));
    }
    control.answer(ticket, Answer::Figures { of: "machine", figures, more: false });
}

/// Answers with the balloon's size and what the guest says of its memory.
pub(super) fn tell_balloon(control: &mut Server, ticket: Ticket, pump: &Pump) {
    let mut figures = Figures::new();
    pump.figures(Instant::now(), &mut |name, value| add(&mut figures, name, value));
    control.answer(ticket, Answer::Figures { of: "balloon", figures, more: false });
}

/// As many as fit; no device has more.
fn add(figures: &mut Figures<'static>, name: &'static str, value: u64) {
    let _ = figures.push(Figure { name, value });
}

/// What the logger tells at present.
pub(super) fn log_level() -> LogLevel {
    match log::max_level() {
        LevelFilter::Off | LevelFilter::Error => LogLevel::Error,
        LevelFilter::Warn => LogLevel::Warn,
        LevelFilter::Info => LogLevel::Info,
        LevelFilter::Debug => LogLevel::Debug,
        LevelFilter::Trace => LogLevel::Trace,
    }
}

/// What the logger is told by a client.
pub(super) const fn filter_of(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::Error,
        LogLevel::Warn => LevelFilter::Warn,
        LogLevel::Info => LevelFilter::Info,
        LogLevel::Debug => LevelFilter::Debug,
        LogLevel::Trace => LevelFilter::Trace,
    }
}
