//! The file `state` of a snapshot, as somebody made it: read, checked, and given to the parts of a machine.

use std::io;
use std::time::Instant;

use crc::{CRC_32_ISO_HDLC, Crc};
use hearth_vmm::arch;
use hearth_vmm::devices::serial::Serial;
use hearth_vmm::machine::{Bus, Ending, MachineClock};
use hearth_vmm::memory;
use hearth_vmm::output::Output;
use hearth_vmm::rate::Limit;
use hearth_vmm::snapshot::state::{About, FORMAT, Id, MAX_BYTES, MachineState, decode, encode};
use hearth_vmm::snapshot::{Part, PartState};
use hearth_vmm::virtio::balloon::{BalloonDevice, Settings};
use hearth_vmm::virtio::console::Console;
use hearth_vmm::virtio::device::{Backlog, VirtioDevice};
use hearth_vmm::virtio::mmio::Transport;
use hearth_vmm::virtio::rings::Writer;
use hearth_vmm::virtio::rng::{Entropy, RngDevice};
use hearth_vmm::virtio::state::{ModelState, PhaseState, RingState, TransportState};
use serde::Serialize;
use std::sync::Arc;
use vm_memory::{Bytes, GuestAddress};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::guest;
use crate::wild::Wild;

const CRC: Crc<u32> = Crc::<u32>::new(&CRC_32_ISO_HDLC);
/// Bytes before the body.
const HEADER: usize = 20;

struct Zeroes;

impl Entropy for Zeroes {
    fn fill(&mut self, into: &mut Writer<'_>, max: usize) -> io::Result<usize> {
        Ok(into.write(&vec![0; max]))
    }
}

/// A file around a body, with the checksum that it should have.
fn sealed(body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
    let header =
        [&b"HEARTHVM"[..], &FORMAT.to_le_bytes(), &length.to_le_bytes(), &CRC.checksum(body).to_le_bytes()];
    [&header.concat()[..], body].concat()
}

/// What vCPUs share, in the shape that a state has it: its fields are not for others.
#[cfg(target_arch = "x86_64")]
fn chipset() -> impl Serialize {
    ([vec![1u8; 40], vec![2; 40], vec![3; 40]], vec![4u8; 40], 5u64, 6u64, Some(7u32))
}

#[cfg(target_arch = "aarch64")]
fn chipset() -> impl Serialize {
    ((3u8, vec![1u64; 40]), 5u64)
}

/// The body of a good state with these parts.
fn body(parts: &[(String, PartState)]) -> Vec<u8> {
    let architecture = std::env::consts::ARCH.to_owned();
    let about = About {
        architecture: architecture.clone(),
        id: Id([7; 16]),
        base: None,
        program: "fuzz".into(),
        taken_at: 1_700_000_000,
        vcpus: 1,
        processor: 5,
        memory_bytes: 10 << 20,
        memory_sum: 6,
        disks: Vec::new(),
    };
    let ran = std::time::Duration::from_millis(1234);
    // No vCPUs: theirs are bytes to everybody but KVM. No runs.
    let state = (about, ran, chipset(), 0u8, parts, vec![(0u64, 4096u64)]);
    postcard::to_allocvec(&(architecture, state)).unwrap_or_default()
}

/// What a sane machine would have kept, with some of it forged.
fn parts(wild: &mut Wild<'_>) -> Vec<(String, PartState)> {
    let kinds = [(3, "console"), (4, "rng"), (5, "balloon")];
    let mut parts = Vec::new();
    for _ in 0..=wild.index(3) {
        let (device_type, name) = wild.pick(&kinds);
        let ring = RingState { size: 8, parts: [0x1_0000, 0x1_4000, 0x1_8000], position: 0 };
        let model = if device_type == 5 { ModelState::Balloon { actual: 3 } } else { ModelState::Plain };
        let mut state = TransportState {
            device_type,
            status: 15,
            selected: [0; 3],
            reasons: 0,
            generation: 0,
            phase: PhaseState::Active { accepted: 1 << 32, rings: [Some(ring)].into_iter().collect() },
            model,
        };
        while wild.one_in(3) {
            guest::forge(&mut state, wild);
        }
        parts.push((name.to_owned(), PartState::Virtio(state)));
    }
    if let (Ok(output), Ok(event)) = (Output::new(), EventFd::new(EFD_NONBLOCK)) {
        parts.push(("serial".into(), Serial::new(event, output, None).save()));
    }
    parts
}

/// One device that goes on, and then works with whatever its ring has.
fn restore<D: VirtioDevice>(model: D, state: &TransportState, wild: &mut Wild<'_>) {
    let ram = guest::ram();
    let bytes = wild.bytes(300);
    let _ = ram.write_slice(&bytes, GuestAddress(0x1_0000));
    let Ok(event) = EventFd::new(EFD_NONBLOCK) else { return };
    let transport = Transport::new("restored", model, ram, event);
    if transport.restore(state).is_err() {
        return;
    }
    let again = transport.save();
    assert_eq!(
        (again.device_type, again.status, &again.model),
        (state.device_type, state.status, &state.model)
    );
    for queue in 0..4 {
        for _ in 0..64 {
            if transport.work(|model| model.notify(queue, Instant::now())) != Backlog::More {
                break;
            }
        }
    }
}

fn restore_all(state: &MachineState, wild: &mut Wild<'_>) {
    let (Ok(output), Ok(event), Ok(ending)) = (Output::new(), EventFd::new(EFD_NONBLOCK), Ending::new())
    else {
        return;
    };
    let (mut pio, mut mmio, ending) = (Bus::default(), Bus::default(), Arc::new(ending));
    let clock = Arc::new(MachineClock::resumed(state.ran, Instant::now()));
    let dogs = arch::add_watchdogs(&mut pio, &mut mmio, &clock, &ending).unwrap_or_default();
    let serial = Serial::new(event, output.clone(), None);
    for (_, part) in &state.parts {
        match part {
            PartState::Virtio(device) => {
                let settings =
                    Settings { memory_mib: 6, target_mib: 1, deflate_on_oom: true, reporting: true };
                let lender = memory::Lender::new(&guest::ram());
                match device.device_type {
                    3 => restore(Console::new(output.clone(), None), device, wild),
                    4 => restore(RngDevice::new(Zeroes, Limit::default()), device, wild),
                    _ => restore(BalloonDevice::new(lender, settings).expect("a target"), device, wild),
                }
            }
            other => {
                let _ = serial.restore(other);
                dogs.iter().for_each(|dog| {
                    let _ = dog.part.restore(other);
                });
            }
        }
    }
    let mut bytes = [0; 8];
    for address in [0x3f8, 0x440, 0x620, 0x622] {
        pio.read(address, &mut bytes[..1]);
        pio.write(address, &[1]);
    }
    let _ = memory::check_runs(&state.runs, state.about.memory_bytes);
}

/// The target.
pub fn run(data: &[u8]) {
    let mut wild = Wild::new(data);
    let mut file = match wild.byte() % 8 {
        0 => wild.bytes(MAX_BYTES),
        1 => sealed(&wild.bytes(2000)),
        _ => {
            let parts = parts(&mut wild);
            let mut body = body(&parts);
            for _ in 0..wild.index(6) {
                let at = wild.index(body.len());
                match wild.byte() % 4 {
                    0 => body.truncate(at),
                    1 => drop(body.splice(at..at, wild.bytes(12)).collect::<Vec<_>>()),
                    _ => body.iter_mut().skip(at).take(1).for_each(|byte| *byte = wild.byte()),
                }
            }
            sealed(&body)
        }
    };
    if wild.one_in(12) {
        let at = wild.index(file.len().min(HEADER + 4));
        file.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= wild.byte());
    }
    if let Ok(state) = decode(&file) {
        assert_eq!(
            decode(&encode(&state)).as_ref(),
            Ok(&state),
            "a state that was read is written as the same"
        );
        restore_all(&state, &mut wild);
    }
}

/// Whether a file without faults is one that this program reads; for the test that this target reaches anything.
#[must_use]
pub fn reads_its_own() -> bool {
    decode(&sealed(&body(&parts(&mut Wild::new(&[]))))).is_ok()
}
