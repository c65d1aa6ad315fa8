//! Serial port, watchdogs, clock and the platform's other registers: any access of any width at any time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hearth_vmm::arch;
use hearth_vmm::devices::pl031::Pl031;
use hearth_vmm::devices::serial::Serial;
use hearth_vmm::devices::watchdog::ib700::Ib700;
use hearth_vmm::devices::watchdog::sp805::Sp805;
use hearth_vmm::devices::watchdog::wdat::Wdat;
use hearth_vmm::devices::watchdog::{Watchdog, WatchdogState};
use hearth_vmm::machine::{Bus, BusDevice, Ending, MachineClock};
use hearth_vmm::output::{OUTPUT_BUFFER, Output};
use hearth_vmm::snapshot::{Part, PartState};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::wild::Wild;

/// The scratch register of a serial port.
const SCRATCH: u64 = 7;

fn serial(output: &Output) -> Option<Serial> {
    Some(Serial::new(EventFd::new(EFD_NONBLOCK).ok()?, output.clone(), None))
}

/// A port that is written to, read, and moved to another process.
fn drive_serial(wild: &mut Wild<'_>) {
    let Ok(output) = Output::new() else { return };
    let Some(mut port) = serial(&output) else { return };
    for _ in 0..200 {
        if wild.is_spent() {
            break;
        }
        let offset = wild.below(8);
        match wild.byte() % 8 {
            0..=3 => port.write(offset, &[wild.byte()]),
            4 | 5 => port.read(offset, &mut [0]),
            6 if wild.one_in(8) => {
                let state = port.save();
                let Some(other) = serial(&output) else { return };
                assert!(other.restore(&state).is_ok(), "what a port keeps is what a port takes");
                port = other;
            }
            6 => output.take(wild.index(1000), &mut Vec::new()),
            _ => {
                let mut bytes = wild.bytes(9);
                port.read(offset, &mut bytes);
                port.write(offset, &bytes);
            }
        }
        assert!(output.waiting() <= OUTPUT_BUFFER, "output is bounded");
    }
    // The divisor's latch may hide some of it, and this one never.
    port.write(SCRATCH, &[0x5a]);
    let mut byte = [0];
    port.read(SCRATCH, &mut byte);
    assert_eq!(byte, [0x5a], "the port still works");
}

/// Time on the machine's own clock, which never goes back.
fn later(now: &mut Duration, wild: &mut Wild<'_>) -> Duration {
    *now = now.saturating_add(Duration::from_micros(wild.odd() & 0xff_ffff_ffff));
    *now
}

fn drive_watchdog<W: Watchdog + Default>(
    wild: &mut Wild<'_>,
    forged: impl Fn(&mut Wild<'_>) -> WatchdogState,
) {
    let (mut dog, mut now) = (W::default(), Duration::ZERO);
    for _ in 0..64 {
        if wild.is_spent() {
            break;
        }
        // The bus passes on what is within a device's range only.
        let near = wild.pick(&[0, 2, 4, 8, 0xc, 0x10, 0xc00]);
        let offset = if wild.one_in(6) { wild.odd() & 0xfff } else { near };
        match wild.byte() % 6 {
            0..=2 => {
                let bytes =
                    if wild.one_in(5) { 0x1acc_e551u32.to_le_bytes().to_vec() } else { wild.bytes(8) };
                dog.write(later(&mut now, wild), offset, &bytes);
            }
            3 => dog.read(later(&mut now, wild), offset, &mut vec![0; wild.index(9)]),
            4 => {
                let state = dog.save();
                let mut other = W::default();
                assert!(
                    other.restore(&state).is_ok() && other.save() == state,
                    "a watchdog goes on as it was"
                );
                dog = other;
            }
            _ => {
                let mut other = W::default();
                if other.restore(&forged(wild)).is_ok() {
                    dog = other;
                }
            }
        }
        let _ = dog.deadline();
    }
}

fn span(wild: &mut Wild<'_>) -> Duration {
    Duration::new(wild.odd(), wild.odd32() % 1_000_000_000)
}

fn when(wild: &mut Wild<'_>) -> Option<Duration> {
    wild.one_in(2).then(|| span(wild))
}

fn sp805(wild: &mut Wild<'_>) -> WatchdogState {
    WatchdogState::Sp805 {
        load: wild.odd32(),
        control: wild.odd32() & 7,
        locked: wild.one_in(2),
        counting: when(wild).map(|since| (since, wild.one_in(2))),
        stopped_at: wild.odd32(),
    }
}

/// Everything that the architecture puts on its buses.
fn drive_buses(wild: &mut Wild<'_>) {
    let (Ok(ending), mut pio, mut mmio) = (Ending::new(), Bus::default(), Bus::default()) else { return };
    let (ending, clock) = (Arc::new(ending), Arc::new(MachineClock::started(Instant::now())));
    let parts = arch::add_platform(&mut pio, &mut mmio, &ending).expect("the platform has its places");
    let dogs = arch::add_watchdogs(&mut pio, &mut mmio, &clock, &ending).expect("the watchdogs have theirs");
    let states: Vec<PartState> =
        parts.iter().map(|part| part.save()).chain(dogs.iter().map(|dog| dog.part.save())).collect();
    for _ in 0..64 {
        if wild.is_spent() {
            break;
        }
        let near = [0x60, 0x64, 0x440, 0x505, 0x600, 0x620, 0x0900_0000, 0x0901_0000, 0x4000_0000];
        let address = if wild.one_in(4) { wild.odd() } else { wild.pick(&near) + wild.below(16) };
        let bus = if wild.one_in(2) { &mmio } else { &pio };
        let mut bytes = wild.bytes(8);
        if wild.one_in(2) {
            bus.write(address, &bytes);
        } else {
            bus.read(address, &mut bytes);
        }
    }
    for (part, state) in parts.iter().chain(dogs.iter().map(|dog| &dog.part)).zip(&states) {
        assert!(part.restore(state).is_ok(), "{} goes back to where it was", part.name());
    }
}

/// The target.
pub fn run(data: &[u8]) {
    let mut wild = Wild::new(data);
    match wild.byte() % 6 {
        0 | 1 => drive_serial(&mut wild),
        2 => drive_watchdog::<Wdat>(&mut wild, |wild| WatchdogState::Wdat {
            count: wild.odd16().to_le_bytes(),
            deadline: when(wild),
        }),
        3 => drive_watchdog::<Ib700>(&mut wild, |wild| WatchdogState::Ib700 { deadline: when(wild) }),
        4 => {
            drive_watchdog::<Sp805>(&mut wild, sp805);
            let mut clock = Pl031::default();
            for _ in 0..32 {
                clock.write(wild.odd32(), wild.below(0x24) & !3, wild.odd32());
                let _ = clock.read(wild.odd32(), wild.odd());
            }
        }
        _ => drive_buses(&mut wild),
    }
}
