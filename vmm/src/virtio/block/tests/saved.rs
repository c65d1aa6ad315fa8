//! A guest that goes on with a disk of another process.

use super::*;
use crate::virtio::feature;

#[test]
fn what_was_answered_stays_answered_and_what_was_not_is_done_once() {
    let ram = testing::ram();
    let mut queue = GuestQueue::new(&ram, GuestAddress(0x1_0000), 16);
    let activation = |rings| Activation {
        memory: ram.clone(),
        rings,
        features: feature::VERSION_1,
        interrupt: Arc::new(Interrupts::default()),
    };
    let device = |disk| BlockDevice::new(disk, "root", false, Limit::default());
    let mut old = device(MemoryDisk::later(8));
    old.activate(activation(vec![Some(queue.ring(feature::VERSION_1).unwrap())]));
    let write = |queue: &mut GuestQueue, sector: u64| {
        let header = GuestAddress(HEADER_AT + sector * 16);
        ram.write_slice(&[&OUT.to_le_bytes()[..], &[0; 4], &sector.to_le_bytes()].concat(), header).unwrap();
        let buffers =
            [Buffer::readable(header.0, 16), Buffer::readable(DATA_AT, 512), Buffer::writable(STATUS_AT, 1)];
        queue.offer(&buffers)
    };
    let first = write(&mut queue, 1);
    assert_eq!(old.notify(0, Instant::now()), Ok(Backlog::Done));
    // A pause waits for what is under way, and nobody has come to the second.
    old.disk_mut().finish(0);
    let _ = old.settle().unwrap();
    let second = write(&mut queue, 2);
    assert_eq!((old.under_way(), old.in_flight()), (0, 0));

    let mut new = device(MemoryDisk::new(8));
    new.activate(activation(vec![Some(queue.moved(feature::VERSION_1, old.rings()[0].as_ref()))]));
    assert_eq!(new.notify(0, Instant::now()), Ok(Backlog::Done));
    assert_eq!(new.disk().asked, [Asked::Write { sector: 2, durable: true }]);
    assert_eq!(queue.used().iter().map(|used| used.head).collect::<Vec<_>>(), [first, second]);
}
