//! Bytes that are a state, and bytes that are none.

use proptest::prelude::*;

use super::*;
use crate::devices::serial::Serial;
use crate::output::Output;
use crate::snapshot::Part;
use crate::virtio::state::{ModelState, PhaseState, RingState, TransportState};

/// A state with something of everything.
fn sample() -> MachineState {
    let ring = RingState { size: 128, parts: [0x1000, 0x2000, 0x3000], position: 7 };
    let transport = TransportState {
        device_type: 19,
        status: 15,
        selected: [1, 1, 2],
        reasons: 1,
        generation: 3,
        phase: PhaseState::Active {
            accepted: 1 << 32,
            rings: [Some(ring), None, Some(ring)].into_iter().collect(),
        },
        model: ModelState::Vsock { next_port: 1 << 30 },
    };
    let interrupt = vmm_sys_util::eventfd::EventFd::new(0).unwrap();
    let serial = Serial::new(interrupt, Output::new().unwrap(), None);
    let disk = DiskState { id: "root".into(), bytes: 1 << 20, read_only: true, sum: 99 };
    MachineState {
        about: About {
            architecture: ARCHITECTURE.into(),
            id: Id([7; 16]),
            base: Some(Id([8; 16])),
            program: "a test".into(),
            taken_at: 1_700_000_000,
            vcpus: 2,
            processor: 5,
            memory_bytes: 32 << 20,
            memory_sum: 6,
            disks: vec![disk],
        },
        ran: Duration::from_millis(1234),
        chipset: ChipsetState::sample(),
        vcpus: vec![VcpuState::sample(); 2],
        parts: vec![("vsock".into(), PartState::Virtio(transport)), ("serial".into(), serial.save())],
        runs: vec![Run { offset: 0, bytes: 4096 }],
    }
}

/// The same bytes with the checksum that they should have.
fn sealed(mut file: Vec<u8>) -> Vec<u8> {
    let (length, sum) = (u32::try_from(file.len() - HEADER).unwrap(), CRC.checksum(&file[HEADER..]));
    file[12..16].copy_from_slice(&length.to_le_bytes());
    file[16..20].copy_from_slice(&sum.to_le_bytes());
    file
}

#[test]
fn a_state_reads_back_as_itself() {
    let file = encode(&sample());
    assert_eq!(decode(&file), Ok(sample()));
    assert_eq!(sealed(file.clone()), file);
}

#[test]
fn a_file_that_was_cut_or_grew_is_refused() {
    let file = encode(&sample());
    for length in 0..file.len() {
        assert!(matches!(decode(&file[..length]), Err(Fault::Length { .. })), "{length}");
    }
    let longer = [&file[..], &[0]].concat();
    assert_eq!(
        decode(&longer),
        Err(Fault::Length { expected: file.len() as u64, found: file.len() as u64 + 1 })
    );
    assert_eq!(decode(&vec![0; MAX_BYTES + 1]), Err(Fault::TooLong));
}

#[test]
fn every_bit_that_flips_is_seen() {
    let file = encode(&sample());
    for bit in 0..file.len() * 8 {
        let mut flipped = file.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(decode(&flipped).is_err(), "bit {bit}");
    }
}

#[test]
fn what_is_wrong_is_said() {
    let file = encode(&sample());
    let with = |at: usize, byte: u8| {
        let mut file = file.clone();
        file[at] = byte;
        decode(&file).unwrap_err().to_string()
    };
    assert_eq!(with(0, b'X'), "not the state of a machine");
    assert_eq!(with(8, 2), "has format 2, expected 1: made by another version");
    assert_eq!(with(HEADER + 9, 0xff), "its checksum does not match: altered or damaged");
    let foreign =
        MachineState { about: About { architecture: "riscv64".into(), ..sample().about }, ..sample() };
    assert_eq!(decode(&encode(&foreign)), Err(Fault::Architecture));
    let more = sealed([&file[..], &[0]].concat());
    assert_eq!(decode(&more), Err(Fault::Content));
}

#[test]
fn a_state_that_names_two_architectures_is_refused() {
    let mut file = encode(&sample());
    // The one before the state is right, the one that people are told is not.
    let told = HEADER + 1 + ARCHITECTURE.len() + 1;
    file[told] = b'X';
    assert_eq!(decode(&sealed(file)), Err(Fault::Content));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// The checksum keeps damage out, not people: behind it anything may stand.
    #[test]
    fn whatever_stands_behind_a_right_checksum_nothing_panics(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut file = encode(&sample());
        for (place, byte) in changes {
            let place = HEADER + place.index(file.len() - HEADER);
            file[place] = byte;
        }
        let _ = decode(&sealed(file.clone()));
        file.truncate(HEADER + cut.index(file.len() - HEADER));
        let _ = decode(&sealed(file));
    }

    #[test]
    fn random_bytes_are_no_state(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut file = encode(&sample())[..HEADER].to_vec();
        let architecture = file.len();
        file.extend(bytes);
        prop_assert!(architecture <= file.len());
        prop_assert!(decode(&sealed(file)).is_err());
    }
}
