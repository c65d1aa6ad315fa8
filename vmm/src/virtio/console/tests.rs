//! A driver that prints and is typed to, honestly and not, on rings in memory.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use proptest::prelude::*;
use vm_memory::{Bytes, GuestAddress};

use super::device::{RECEIVE, TRANSMIT};
use super::patience::{LOOK, PATIENCE};
use super::*;
use crate::keyboard::Stdin;
use crate::memory::GuestRam;
use crate::output::{OUTPUT_BUFFER, Output};
use crate::virtio::device::{Activation, Backlog, VirtioDevice};
use crate::virtio::feature;
use crate::virtio::rings::{RingFault, Writer};
use crate::virtio::testing::{self, Buffer, GuestQueue, HOLE, Interrupts, UPPER, Used};

const TEXT_AT: u64 = 0x10_0000;
const KEYS_AT: u64 = 0x20_0000;
const EMERGENCY_WRITE: u64 = 8;

/// What was typed, in pieces; after the last, nothing yet or the end.
#[derive(Clone, Default)]
struct Typed(Arc<Mutex<TypedState>>);

#[derive(Default)]
struct TypedState {
    pieces: Vec<Vec<u8>>,
    ends: bool,
    wanted: u32,
}

impl Typed {
    fn push(&self, piece: &[u8]) {
        self.0.lock().unwrap().pieces.insert(0, piece.to_vec());
    }
}

impl Input for Typed {
    fn read(&mut self, into: &mut Writer<'_>) -> io::Result<usize> {
        let mut state = self.0.lock().unwrap();
        let Some(mut piece) = state.pieces.pop() else {
            return if state.ends { Ok(0) } else { Err(io::ErrorKind::WouldBlock.into()) };
        };
        let rest = piece.split_off(piece.len().min(into.remaining()));
        if !rest.is_empty() {
            state.pieces.push(rest);
        }
        Ok(into.write(&piece))
    }

    fn wanted(&self) {
        self.0.lock().unwrap().wanted += 1;
    }
}

struct Rig {
    ram: GuestRam,
    keys: GuestQueue,
    text: GuestQueue,
    output: Output,
    typed: Typed,
    device: Console,
    interrupts: Arc<Interrupts>,
}

impl Rig {
    fn new() -> Self {
        let typed = Typed::default();
        Self::typed_by(Box::new(typed.clone()), typed)
    }

    fn typed_by(input: Box<dyn Input>, typed: Typed) -> Self {
        let ram = testing::ram();
        let output = Output::new().unwrap();
        let mut rig = Self {
            keys: GuestQueue::new(&ram, GuestAddress(0x1_0000), 16),
            text: GuestQueue::new(&ram, GuestAddress(0x2_0000), 32),
            device: Console::new(output.clone(), Some(input)),
            interrupts: Arc::new(Interrupts::default()),
            ram,
            output,
            typed,
        };
        rig.activate();
        rig
    }

    fn activate(&mut self) {
        self.device.activate(Activation {
            memory: self.ram.clone(),
            rings: vec![
                Some(self.keys.ring(feature::VERSION_1).unwrap()),
                Some(self.text.ring(feature::VERSION_1).unwrap()),
            ],
            features: feature::VERSION_1,
            interrupt: self.interrupts.clone(),
        });
    }

    fn print(&mut self, text: &[u8]) -> u16 {
        self.ram.write_slice(text, GuestAddress(TEXT_AT)).unwrap();
        self.text.offer(&[Buffer::readable(TEXT_AT, u32::try_from(text.len()).unwrap())])
    }

    fn flood(&mut self, bytes: usize) {
        self.print(&vec![b'x'; bytes]);
    }

    fn notify(&mut self, queue: usize) -> Result<Backlog, RingFault> {
        self.device.notify(queue, Instant::now())
    }

    fn printed(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.output.take(usize::MAX, &mut bytes);
        bytes
    }

    fn count(&self, name: &str) -> u64 {
        let mut found = None;
        self.device.counters(&mut |counter, value| found = (counter == name).then_some(value).or(found));
        found.unwrap()
    }
}

#[test]
fn what_a_guest_prints_comes_out_in_order_and_its_buffers_come_back() {
    let mut rig = Rig::new();
    let first = rig.print(b"hello ");
    rig.ram.write_slice(b"wor", GuestAddress(HOLE - 3)).unwrap();
    rig.ram.write_slice(b"ld\n", GuestAddress(UPPER)).unwrap();
    let second = rig.text.offer(&[Buffer::readable(HOLE - 3, 3), Buffer::readable(UPPER, 3)]);
    assert_eq!(rig.notify(TRANSMIT), Ok(Backlog::Done));
    assert_eq!(rig.text.used(), [Used { head: first, written: 0 }, Used { head: second, written: 0 }]);
    assert_eq!(rig.printed(), b"hello world\n");
    assert_eq!(rig.interrupts.take(), [TRANSMIT]);
    assert_eq!(rig.count("output_bytes"), 12);
}

#[test]
fn a_guest_waits_for_a_reader_that_reads() {
    let start = Instant::now();
    let mut rig = Rig::new();
    rig.flood(OUTPUT_BUFFER - 10);
    rig.print(b"last words of 22 bytes");
    assert_eq!(rig.device.notify(TRANSMIT, start), Ok(Backlog::Until(start + LOOK)));
    assert_eq!(rig.text.used().len(), 1);
    let mut taken = Vec::new();
    rig.output.take(100, &mut taken);
    assert_eq!(rig.device.notify(TRANSMIT, start + LOOK), Ok(Backlog::Done));
    assert!(rig.printed().ends_with(b"last words of 22 bytes"));
    assert_eq!(rig.count("output_dropped"), 0);
}

#[test]
fn output_that_nobody_reads_is_bounded_and_counted_and_holds_the_guest_up_once() {
    let start = Instant::now();
    let mut rig = Rig::new();
    rig.flood(OUTPUT_BUFFER);
    rig.flood(1000);
    let mut now = start;
    while let Ok(Backlog::Until(time)) = rig.device.notify(TRANSMIT, now) {
        now = time;
    }
    assert_eq!(now, start + PATIENCE);
    assert_eq!(rig.text.used().len(), 2);
    for _ in 0..100 {
        rig.flood(1000);
        assert_eq!(rig.device.notify(TRANSMIT, now), Ok(Backlog::Done), "no more patience");
        assert_eq!(rig.text.used().len(), 1);
    }
    assert_eq!((rig.count("output_bytes"), rig.count("output_dropped")), (OUTPUT_BUFFER as u64, 101_000));
}

#[test]
fn a_chain_of_gigabytes_is_not_copied() {
    let mut rig = Rig::new();
    // Three megabytes, over and over the same: 93 MB in one chain.
    let buffers = vec![Buffer::readable(TEXT_AT, 3 << 20); 31];
    rig.text.offer(&buffers);
    assert_eq!(rig.notify(TRANSMIT), Ok(Backlog::Done));
    assert_eq!(rig.printed().len(), OUTPUT_BUFFER);
    assert_eq!(rig.count("output_dropped"), 31 * (3 << 20) - OUTPUT_BUFFER as u64);
}

#[test]
fn an_emergency_byte_is_printed_before_any_driver_and_after_a_reset() {
    let output = Output::new().unwrap();
    let mut device = Console::new(output.clone(), None);
    device.write_config(EMERGENCY_WRITE, b"P");
    device.write_config(EMERGENCY_WRITE, &u32::from(b'a').to_le_bytes());
    device.reset();
    device.write_config(EMERGENCY_WRITE, b"n\0");
    for (offset, bytes) in [(0, &b"x"[..]), (7, b"x"), (9, b"x"), (8, b""), (u64::MAX, b"x")] {
        device.write_config(offset, bytes);
    }
    let mut printed = Vec::new();
    output.take(10, &mut printed);
    assert_eq!(printed, b"Pan");
}

#[test]
fn a_flood_of_emergencies_is_bounded_and_counted() {
    let mut rig = Rig::new();
    for _ in 0..OUTPUT_BUFFER + 5 {
        rig.device.write_config(EMERGENCY_WRITE, b"!");
    }
    assert_eq!((rig.printed().len(), rig.count("output_dropped")), (OUTPUT_BUFFER, 5));
}

#[test]
fn keys_reach_the_guest_and_only_as_many_as_it_has_room_for() {
    let mut rig = Rig::new();
    rig.typed.push(b"ls -l\n");
    assert_eq!(rig.device.input_ready(Instant::now()), Ok(Backlog::Done));
    assert_eq!(rig.typed.0.lock().unwrap().pieces.len(), 1, "not read: nowhere to put it");
    let heads =
        [KEYS_AT, KEYS_AT + 0x1000, KEYS_AT + 0x2000].map(|at| rig.keys.offer(&[Buffer::writable(at, 4)]));
    assert_eq!(rig.notify(RECEIVE), Ok(Backlog::Done));
    assert_eq!(rig.keys.used(), [Used { head: heads[0], written: 4 }, Used { head: heads[1], written: 2 }]);
    assert_eq!(rig.ram.read_obj::<[u8; 4]>(GuestAddress(KEYS_AT)).unwrap(), *b"ls -");
    assert_eq!(rig.ram.read_obj::<[u8; 2]>(GuestAddress(KEYS_AT + 0x1000)).unwrap(), *b"l\n");
    assert_eq!((rig.interrupts.take(), rig.count("input_bytes")), (vec![RECEIVE], 6));

    rig.typed.push(b"q");
    assert_eq!(rig.device.input_ready(Instant::now()), Ok(Backlog::Done));
    assert_eq!(rig.keys.used(), [Used { head: heads[2], written: 1 }], "the buffer was put back before");
}

#[test]
fn the_end_of_input_is_no_end_of_the_guest() {
    let mut rig = Rig::new();
    rig.typed.0.lock().unwrap().ends = true;
    rig.keys.offer(&[Buffer::writable(KEYS_AT, 4)]);
    assert_eq!(rig.notify(RECEIVE), Ok(Backlog::Done));
    rig.typed.push(b"from nowhere");
    assert_eq!(rig.notify(RECEIVE), Ok(Backlog::Done), "not asked again");
    assert_eq!(rig.keys.used(), []);
    rig.print(b"still here");
    assert_eq!(rig.notify(TRANSMIT), Ok(Backlog::Done));
    assert_eq!(rig.printed(), b"still here");
}

#[test]
fn buffers_for_keys_that_have_no_room_go_back() {
    let mut rig = Rig::new();
    rig.typed.push(b"x");
    let head = rig.keys.offer(&[Buffer::readable(KEYS_AT, 4)]);
    assert_eq!(rig.notify(RECEIVE), Ok(Backlog::Done));
    assert_eq!(rig.keys.used(), [Used { head, written: 0 }]);
    assert_eq!(rig.typed.0.lock().unwrap().pieces.len(), 1);
}

#[test]
fn a_new_driver_asks_for_what_was_typed_before() {
    let mut rig = Rig::new();
    assert_eq!(rig.typed.0.lock().unwrap().wanted, 1);
    rig.device.reset();
    rig.activate();
    assert_eq!(rig.typed.0.lock().unwrap().wanted, 2);
}

#[test]
fn a_turn_is_bounded_by_the_queue_in_both_directions() {
    let mut rig = Rig::new();
    for at in 0..16 {
        rig.keys.offer(&[Buffer::writable(KEYS_AT + at, 1)]);
        rig.typed.push(b"x");
    }
    for _ in 0..32 {
        rig.print(b"y");
    }
    assert_eq!(rig.notify(RECEIVE), Ok(Backlog::More));
    assert_eq!(rig.notify(TRANSMIT), Ok(Backlog::More));
    assert_eq!((rig.keys.used().len(), rig.text.used().len()), (16, 32));
}

#[test]
fn a_broken_ring_is_told_and_the_device_rests_until_it_is_activated_again() {
    for broken in [RECEIVE, TRANSMIT] {
        let mut rig = Rig::new();
        rig.typed.push(b"x");
        let queue = if broken == RECEIVE { &mut rig.keys } else { &mut rig.text };
        queue.set_available_index(100);
        assert_eq!(rig.notify(broken), Err(RingFault::AvailableIndex));
        rig.print(b"lost");
        assert_eq!(rig.notify(TRANSMIT), Ok(Backlog::Done));
        assert_eq!(rig.printed(), b"");
    }
}

#[test]
fn queues_that_do_not_exist_and_a_device_that_was_reset_do_nothing() {
    let mut rig = Rig::new();
    for queue in [2, usize::MAX] {
        assert_eq!(rig.notify(queue), Ok(Backlog::Done));
    }
    let mut byte = [0xaa];
    rig.device.read_config(0, &mut byte);
    assert_eq!(byte, [0xaa]);
    rig.device.reset();
    rig.print(b"x");
    assert_eq!(rig.notify(TRANSMIT), Ok(Backlog::Done));
    assert_eq!(rig.printed(), b"");
}

#[test]
fn standard_input_is_read_as_the_guest_makes_room_and_never_waited_for() {
    let (reader, mut writer) = io::pipe().unwrap();
    let (stdin, _keyboard) = Stdin::on(File::from(OwnedFd::from(reader)), false).unwrap();
    let mut rig = Rig::typed_by(Box::new(stdin), Typed::default());
    let first = rig.keys.offer(&[Buffer::writable(KEYS_AT, 3)]);
    assert_eq!(rig.notify(RECEIVE), Ok(Backlog::Done), "an empty pipe");
    writer.write_all(b"abcde").unwrap();
    assert_eq!(rig.notify(RECEIVE), Ok(Backlog::Done));
    assert_eq!(rig.keys.used(), [Used { head: first, written: 3 }]);
    let second = rig.keys.offer(&[Buffer::writable(KEYS_AT, 3)]);
    rig.keys.offer(&[Buffer::writable(KEYS_AT + 8, 3)]);
    assert_eq!(rig.notify(RECEIVE), Ok(Backlog::Done));
    assert_eq!(rig.keys.used(), [Used { head: second, written: 2 }]);
    assert_eq!(rig.ram.read_obj::<[u8; 3]>(GuestAddress(KEYS_AT)).unwrap(), *b"dec");
    drop(writer);
    assert_eq!(rig.notify(RECEIVE), Ok(Backlog::Done), "its end");
    assert_eq!(rig.keys.used(), []);
}

proptest! {
    /// Whatever chains, however often the host reads: every byte comes out in order or is counted, every chain
    /// comes back once.
    #[test]
    fn every_byte_comes_out_in_order_or_is_counted(
        steps in prop::collection::vec((1usize..70_000, 0usize..70_000, any::<bool>()), 1..20)
    ) {
        let mut rig = Rig::new();
        let (mut now, mut sent, mut seen) = (Instant::now(), Vec::new(), Vec::new());
        let mut next = 0u8;
        for (chain, (bytes, taken, patient)) in (1..).zip(steps) {
            let text: Vec<u8> = std::iter::repeat_with(|| { next = next.wrapping_add(1); next }).take(bytes).collect();
            rig.print(&text);
            let mut kept = None;
            while let Ok(Backlog::Until(time)) = rig.device.notify(TRANSMIT, now) {
                prop_assert!(time > now);
                now = time;
                if patient {
                    rig.output.take(OUTPUT_BUFFER, &mut seen);
                } else {
                    kept = Some(rig.output.room());
                }
            }
            sent.extend_from_slice(&text[..kept.unwrap_or(OUTPUT_BUFFER).min(text.len())]);
            rig.output.take(taken, &mut seen);
            prop_assert_eq!(rig.text.used().len(), 1, "chain {}", chain);
        }
        rig.output.take(usize::MAX, &mut seen);
        prop_assert!(seen == sent, "{} bytes came out, {} were expected", seen.len(), sent.len());
        prop_assert_eq!(rig.count("output_bytes"), sent.len() as u64);
    }

    /// However keys and buffers meet: every key arrives once and in order.
    #[test]
    fn every_key_arrives_once_and_in_order(
        steps in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..20), 0u32..12, any::<bool>()), 1..30)
    ) {
        let mut rig = Rig::new();
        let (mut typed, mut arrived) = (Vec::new(), Vec::new());
        let mut sizes = std::collections::HashMap::new();
        for (piece, room, key_first) in steps {
            if !piece.is_empty() {
                rig.typed.push(&piece);
                typed.extend(piece);
            }
            if room > 0 && rig.keys.free() > 0 {
                let at = KEYS_AT + u64::from(rig.keys.next_free()) * 16;
                let head = rig.keys.offer(&[Buffer::writable(at, room)]);
                sizes.insert(head, at);
            }
            let now = Instant::now();
            let turn = if key_first { rig.device.input_ready(now) } else { rig.device.notify(RECEIVE, now) };
            prop_assert!(turn.is_ok());
            for used in rig.keys.used() {
                let mut bytes = vec![0; used.written as usize];
                rig.ram.read_slice(&mut bytes, GuestAddress(sizes[&used.head])).unwrap();
                arrived.extend(bytes);
            }
        }
        prop_assert!(typed.starts_with(&arrived));
        prop_assert_eq!(rig.count("input_bytes"), arrived.len() as u64);
    }
}
