//! One request at a time: what is carried out, what is refused, and with which status.

use super::*;
use crate::virtio::rings::RingFault;

#[test]
fn what_is_written_is_read_again() {
    let mut rig = Rig::new(MemoryDisk::new(16), false);
    rig.ram.write_slice(&[7; 1024], GuestAddress(DATA_AT)).unwrap();
    assert_eq!(rig.request(OUT, 3, 1024), OK);
    rig.ram.write_slice(&[0; 2048], GuestAddress(DATA_AT)).unwrap();
    assert_eq!(rig.request(IN, 2, 2048), OK);
    let mut data = vec![0; 2048];
    rig.ram.read_slice(&mut data, GuestAddress(DATA_AT)).unwrap();
    assert_eq!(data, [vec![2; 512], vec![7; 1024], vec![5; 512]].concat());
    assert_eq!(rig.interrupts.take(), [0, 0]);
    assert_eq!(rig.request(FLUSH, 0, 0), OK);
}

#[test]
fn requests_outside_the_disk_or_of_broken_sectors_fail() {
    let mut rig = Rig::new(MemoryDisk::new(16), false);
    for (kind, sector, bytes) in [
        (IN, 16, 512),
        (IN, 15, 1024),
        (OUT, 16, 512),
        (IN, u64::MAX, 512),
        (OUT, u64::MAX / 512, 512),
        (IN, 1 << 55, 512),
        (IN, 0, 511),
        (OUT, 0, 513),
    ] {
        assert_eq!(rig.request(kind, sector, bytes), IO_ERROR, "{kind} {sector} {bytes}");
    }
    assert_eq!(rig.request(IN, 15, 512), OK, "and the device goes on");
}

#[test]
fn a_read_only_disk_takes_no_write_whatever_the_driver_thinks() {
    let mut rig = Rig::new(MemoryDisk::new(16), true);
    assert_ne!(rig.device.features() & (1 << 5), 0);
    let before = rig.disk().content.clone();
    rig.ram.write_slice(&[0xff; 512], GuestAddress(DATA_AT)).unwrap();
    assert_eq!(rig.request(OUT, 0, 512), IO_ERROR);
    assert_eq!(rig.disk().content, before);
    assert_eq!(rig.request(IN, 0, 512), OK);
}

#[test]
fn types_without_a_feature_are_unsupported() {
    let mut rig = Rig::new(MemoryDisk::new(16), false);
    for kind in [2, 3, 14, u32::MAX] {
        assert_eq!(rig.request(kind, 0, 512), UNSUPPORTED);
    }
}

#[test]
fn the_id_needs_its_twenty_bytes() {
    let mut rig = Rig::new(MemoryDisk::new(16), false);
    assert_eq!(rig.request(GET_ID, 0, 20), OK);
    let mut id = [0xff; 20];
    rig.ram.read_slice(&mut id, GuestAddress(DATA_AT)).unwrap();
    assert_eq!(&id, b"root\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
    assert_eq!(rig.request(GET_ID, 0, 19), IO_ERROR);
}

#[test]
fn chains_without_header_or_status_are_given_back() {
    let mut rig = Rig::new(MemoryDisk::new(16), false);
    rig.header(IN, 0);
    assert_eq!(rig.submit(&[Buffer::readable(HEADER_AT, 16)]), UNTOUCHED, "no room for a status");
    assert_eq!(rig.submit(&[Buffer::writable(STATUS_AT, 1)]), IO_ERROR, "no header");
    rig.header(IN, 0);
    assert_eq!(rig.submit(&[Buffer::readable(HEADER_AT, 15), Buffer::writable(STATUS_AT, 1)]), IO_ERROR);
    assert_eq!(rig.request(IN, 0, 512), OK);
}

#[test]
fn a_header_and_a_status_in_pieces_are_whole() {
    let mut rig = Rig::new(MemoryDisk::new(16), false);
    rig.header(IN, 4);
    let status = rig.submit(&[
        Buffer::readable(HEADER_AT, 5),
        Buffer::readable(HEADER_AT + 5, 11),
        Buffer::writable(DATA_AT, 100),
        Buffer::writable(DATA_AT + 100, 412),
        Buffer::writable(STATUS_AT, 1),
    ]);
    assert_eq!(status, OK);
    assert_eq!(rig.ram.read_obj::<[u8; 2]>(GuestAddress(DATA_AT + 510)).unwrap(), [4, 4]);
}

#[test]
fn a_disk_that_fails_fails_the_request_only() {
    let mut rig = Rig::new(MemoryDisk::new(16), false);
    rig.device.disk_mut().fails = Some(io::ErrorKind::Other);
    assert_eq!(rig.request(IN, 0, 512), IO_ERROR);
    rig.device.disk_mut().fails = Some(io::ErrorKind::Unsupported);
    assert_eq!(rig.range(DISCARD, 0, 1, 0), UNSUPPORTED, "a host that changed its mind");
    rig.device.disk_mut().fails = None;
    assert_eq!(rig.request(FLUSH, 0, 0), OK);
    assert_eq!((rig.counter("failed"), rig.counter("flushes")), (2, 1));
}

#[test]
fn a_ring_that_breaks_is_reported_and_gone() {
    let mut rig = Rig::new(MemoryDisk::new(16), false);
    rig.queue.make_available(99);
    assert_eq!(rig.device.notify(0, Instant::now()), Err(RingFault::HeadOutOfRange));
    assert_eq!(rig.device.notify(0, Instant::now()), Ok(Backlog::Done), "nothing left to work on");
}

#[test]
fn a_driver_that_never_stops_is_served_in_turns() {
    let mut rig = Rig::new(MemoryDisk::new(16), false);
    rig.header(GET_ID, 0);
    // One chain, offered again before each look: the model must stop by itself.
    for _ in 0..64 {
        rig.queue.offer(&[Buffer::readable(HEADER_AT, 16)]);
    }
    assert_eq!(rig.device.notify(0, Instant::now()), Ok(Backlog::More));
    assert_eq!(rig.device.notify(0, Instant::now()), Ok(Backlog::Done));
}

#[test]
fn flushes_and_durable_writes_do_not_lengthen_a_turn_of_a_disk_that_waits() {
    // A driver that flushes, and one that cannot.
    for (kind, bytes, features) in [(FLUSH, 0, u64::MAX), (OUT, 512, !feature::FLUSH)] {
        let mut rig = Rig::new(MemoryDisk::new(16), false);
        rig.activate(features);
        let buffers = rig.buffers(kind, 0, bytes);
        for _ in 0..20 {
            rig.queue.offer(&buffers);
        }
        for turn in 1..=4 {
            assert_eq!(rig.notify(), Backlog::More, "{kind}");
            assert_eq!(rig.disk().asked.len(), 4 * turn, "{kind}");
        }
    }
}

#[test]
fn buffers_that_overlap_do_not_lengthen_a_turn() {
    let mut rig = Rig::new(MemoryDisk::new(4096), true);
    rig.header(IN, 0);
    // Two times 1.9 MB into the same place are one turn's worth; the third waits for the next.
    let overlapping = [Buffer::writable(0x10_0000, 1_900_032), Buffer::writable(STATUS_AT, 1)];
    for _ in 0..4 {
        rig.queue.offer(&[&[Buffer::readable(HEADER_AT, 16)][..], &overlapping].concat());
    }
    assert_eq!(rig.device.notify(0, Instant::now()), Ok(Backlog::More));
    assert_eq!(rig.queue.used().len(), 3);
    assert_eq!(rig.device.notify(0, Instant::now()), Ok(Backlog::Done));
    assert_eq!(rig.queue.used().len(), 1);
}

#[test]
fn a_request_larger_than_any_driver_makes_is_refused() {
    let mut rig = Rig::new(MemoryDisk::new(64), false);
    rig.header(IN, 0);
    let mib = 1 << 20;
    let mut buffers = vec![Buffer::readable(HEADER_AT, 16)];
    buffers.extend((0..9).map(|_| Buffer::writable(0x10_0000, 2 * mib)));
    buffers.push(Buffer::writable(STATUS_AT, 1));
    rig.queue.offer(&buffers);
    let _ = rig.device.notify(0, Instant::now()).unwrap();
    assert_eq!(rig.queue.used().len(), 1);
    assert_eq!(rig.ram.read_obj::<u8>(GuestAddress(STATUS_AT)).unwrap(), IO_ERROR);
}

#[test]
fn the_configuration_space_ends_where_it_ends() {
    let rig = Rig::new(MemoryDisk::new(16), false);
    let mut all = [0xaa; 64];
    rig.device.read_config(0, &mut all);
    assert_eq!(all[..8], 16u64.to_le_bytes());
    assert_eq!(all[60..], [0xaa; 4]);
    for offset in [60, 1000, u64::MAX] {
        let mut byte = [0xaa];
        rig.device.read_config(offset, &mut byte);
        assert_eq!(byte, [0xaa]);
    }
}

#[test]
fn what_can_be_discarded_and_zeroed_at_once_is_told() {
    let field = |rig: &Rig<MemoryDisk>, offset| {
        let mut field = [0; 4];
        rig.device.read_config(offset, &mut field);
        u32::from_le_bytes(field)
    };
    let rig = Rig::new(MemoryDisk::new(16), false);
    assert_eq!(rig.device.features() & (3 << 13), 3 << 13);
    let fields = [36, 40, 44, 48, 52, 56].map(|offset| field(&rig, offset));
    assert_eq!(fields, [(128 << 20) / 512, 1, 8, (4 << 20) / 512, 1, 1]);
    let cannot = Space { discard: None, zero: true };
    let rig = Rig::new(MemoryDisk { space: cannot, ..MemoryDisk::new(16) }, false);
    assert_eq!(rig.device.features() & (3 << 13), 1 << 14);
    assert_eq!([36, 40, 44, 48, 52, 56].map(|offset| field(&rig, offset)), [0, 0, 0, 8192, 1, 0]);
    let rig = Rig::new(MemoryDisk::new(16), true);
    assert_eq!(rig.device.features() & (3 << 13), 0, "a read-only disk stays as it is");
    assert_eq!([36, 40, 44, 48, 52, 56].map(|offset| field(&rig, offset)), [0; 6]);
}

#[test]
fn ranges_are_discarded_and_zeroed() {
    let mut rig = Rig::new(MemoryDisk::new(16), false);
    assert_eq!(rig.range(DISCARD, 2, 3, 0), OK);
    assert_eq!(rig.range(WRITE_ZEROES, 8, 8, 0), OK);
    assert_eq!(rig.range(WRITE_ZEROES, 0, 1, UNMAP), OK);
    assert_eq!(
        rig.disk().asked,
        [
            Asked::Discard { sector: 2, sectors: 3 },
            Asked::Zero { sector: 8, sectors: 8, unmap: false, durable: false },
            Asked::Zero { sector: 0, sectors: 1, unmap: true, durable: false },
        ]
    );
    assert_eq!((rig.counter("discards"), rig.counter("discarded_bytes")), (1, 3 * 512));
    assert_eq!((rig.counter("zeroings"), rig.counter("zeroed_bytes")), (2, 9 * 512));
    assert_eq!(rig.range(DISCARD, 2, 0, 0), OK, "nothing is nothing to do");
    assert_eq!(rig.disk().asked.len(), 3);
}

#[test]
fn ranges_that_are_no_ranges_of_this_disk_are_refused() {
    let mut rig = Rig::new(MemoryDisk::new(1 << 14), false);
    for kind in [DISCARD, WRITE_ZEROES] {
        assert_eq!(rig.range(kind, 1 << 14, 1, 0), IO_ERROR, "past the end");
        assert_eq!(rig.range(kind, (1 << 14) - 1, 2, 0), IO_ERROR, "over the end");
        assert_eq!(rig.range(kind, u64::MAX, 1, 0), IO_ERROR);
        assert_eq!(rig.range(kind, u64::MAX / 512, u32::MAX, 0), IO_ERROR);
        assert_eq!(rig.range(kind, 0, 1, 2), UNSUPPORTED, "a flag that does not exist");
        assert_eq!(rig.range(kind, 0, 1, 1 << 31), UNSUPPORTED);
    }
    assert_eq!(rig.range(DISCARD, 0, 1, UNMAP), UNSUPPORTED, "5.2.6.2 has this one for zeroes only");
    assert_eq!(rig.range(WRITE_ZEROES, 0, 8193, 0), IO_ERROR, "more than is told");
    assert_eq!(rig.range(WRITE_ZEROES, 0, 8192, 0), OK);
    for bytes in [0, 1, 15, 17, 32] {
        rig.header(DISCARD, 0);
        let mut buffers = vec![Buffer::readable(HEADER_AT, 16)];
        buffers.extend((bytes > 0).then_some(Buffer::readable(RANGE_AT, bytes)));
        buffers.push(Buffer::writable(STATUS_AT, 1));
        assert_eq!(rig.submit(&buffers), IO_ERROR, "{bytes} bytes are not one range");
    }
    assert_eq!(rig.disk().asked.len(), 1);
}

#[test]
fn ranges_without_the_feature_are_unsupported() {
    let mut rig = Rig::new(MemoryDisk::new(16), false);
    rig.activate(!(3 << 13));
    assert_eq!(rig.range(DISCARD, 0, 1, 0), UNSUPPORTED);
    assert_eq!(rig.range(WRITE_ZEROES, 0, 1, 0), UNSUPPORTED);
    let mut rig = Rig::new(MemoryDisk::new(16), true);
    assert_eq!(rig.range(DISCARD, 0, 1, 0), UNSUPPORTED);
    assert_eq!(rig.range(WRITE_ZEROES, 0, 1, 0), UNSUPPORTED);
    assert!(rig.disk().asked.is_empty());
}

#[test]
fn ranges_weigh_in_a_turn() {
    let mut rig = Rig::new(MemoryDisk::new(16), false);
    rig.header(DISCARD, 0);
    let range: [u32; 4] = [0, 0, 1, 0];
    rig.ram.write_obj(range, GuestAddress(RANGE_AT)).unwrap();
    for _ in 0..10 {
        rig.queue.offer(&[
            Buffer::readable(HEADER_AT, 16),
            Buffer::readable(RANGE_AT, 16),
            Buffer::writable(STATUS_AT, 1),
        ]);
    }
    let turns: Vec<_> = std::iter::from_fn(|| (rig.notify() == Backlog::More).then_some(())).collect();
    assert_eq!(turns.len(), 2, "four of them are enough for one");
    assert_eq!(rig.disk().asked.len(), 10);
}

#[test]
fn without_flush_every_write_is_durable_by_itself() {
    let mut rig = Rig::new(MemoryDisk::new(16), false);
    let requests = |rig: &mut Rig<MemoryDisk>| {
        rig.device.disk_mut().asked.clear();
        assert_eq!(rig.request(OUT, 3, 512), OK);
        assert_eq!(rig.range(WRITE_ZEROES, 8, 1, 0), OK);
        rig.disk().asked.clone()
    };
    let asked = |durable| {
        [Asked::Write { sector: 3, durable }, Asked::Zero { sector: 8, sectors: 1, unmap: false, durable }]
    };
    assert_eq!(requests(&mut rig), asked(false));
    rig.activate(!(1 << 9));
    assert_eq!(requests(&mut rig), asked(true));
}

#[test]
fn the_used_length_counts_what_was_written_and_nothing_else() {
    let mut rig = Rig::new(MemoryDisk::new(16), false);
    let written = |rig: &mut Rig<MemoryDisk>, kind, sector, bytes| {
        rig.begin(kind, sector, bytes);
        rig.queue.used()[0].written
    };
    assert_eq!(written(&mut rig, IN, 0, 1024), 1025);
    assert_eq!(written(&mut rig, GET_ID, 0, 20), 21);
    assert_eq!(written(&mut rig, GET_ID, 0, 100), 0, "the status stands apart from the name");
    assert_eq!(written(&mut rig, OUT, 0, 512), 1);
    assert_eq!(written(&mut rig, FLUSH, 0, 0), 1);
    assert_eq!(written(&mut rig, IN, 16, 512), 0, "outside the disk");
    assert_eq!(written(&mut rig, OUT, 16, 512), 1);
    assert_eq!(written(&mut rig, 77, 0, 512), 0, "unknown");
    rig.device.disk_mut().fails = Some(io::ErrorKind::Other);
    assert_eq!(written(&mut rig, IN, 0, 512), 0, "a disk that fails");
    assert_eq!(rig.status(), IO_ERROR);
}
