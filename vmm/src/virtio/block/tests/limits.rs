//! Rate limits.

use std::time::Duration;

use super::*;
use crate::rate::Bucket;

const SECOND: Duration = Duration::from_secs(1);

fn limited(bytes: Option<(u64, u64)>, operations: Option<(u64, u64)>) -> Rig<MemoryDisk> {
    let bucket = |(rate, burst)| Bucket::new(rate, burst);
    Rig::limited(MemoryDisk::new(64), false, Limit::new(bytes.map(bucket), operations.map(bucket)))
}

#[test]
fn bytes_beyond_the_limit_wait_in_the_queue() {
    let mut rig = limited(Some((1024, 1024)), None);
    let buffers = rig.buffers(IN, 0, 1024);
    let now = Instant::now();
    let heads = [rig.queue.offer(&buffers), rig.queue.offer(&buffers)];
    let later = now + SECOND;
    assert_eq!(rig.device.notify(0, now), Ok(Backlog::Until(later)));
    assert_eq!(rig.heads(), heads[..1]);
    assert_eq!(rig.device.notify(0, now), Ok(Backlog::Until(later)), "asked again too soon");
    assert!(rig.heads().is_empty());
    assert_eq!(rig.device.notify(0, later), Ok(Backlog::Done));
    assert_eq!(rig.heads(), heads[1..]);
    assert_eq!((rig.counter("limited"), rig.counter("reads")), (2, 2));
}

#[test]
fn a_flush_costs_an_operation_and_no_bytes_and_never_overtakes() {
    let mut rig = limited(Some((512, 512)), Some((2, 2)));
    let now = Instant::now();
    let write = rig.buffers(OUT, 0, 512);
    let flush = [Buffer::readable(HEADER_AT, 16), Buffer::writable(STATUS_AT, 1)];
    let first = rig.queue.offer(&write);
    assert_eq!(rig.device.notify(0, now), Ok(Backlog::Done));
    rig.header(FLUSH, 0);
    let second = rig.queue.offer(&flush);
    assert_eq!(rig.device.notify(0, now), Ok(Backlog::Done), "no bytes are left, and it needs none");
    assert_eq!(rig.heads(), [first, second]);
    rig.queue.offer(&flush);
    assert_eq!(rig.device.notify(0, now), Ok(Backlog::Until(now + SECOND / 2)), "the third operation");
    assert_eq!(rig.disk().asked, [Asked::Write { sector: 0, durable: false }, Asked::Flush]);
}

#[test]
fn requests_that_are_refused_cost_an_operation() {
    let mut rig = limited(None, Some((1, 3)));
    let now = Instant::now();
    let buffers = rig.buffers(99, 0, 512);
    for _ in 0..5 {
        rig.queue.offer(&buffers);
    }
    assert_eq!(rig.device.notify(0, now), Ok(Backlog::Until(now + SECOND)));
    assert_eq!((rig.heads().len(), rig.counter("failed")), (3, 3));
}

#[test]
fn zeroes_count_as_bytes_and_a_discard_as_none() {
    let mut rig = limited(Some((512, 512)), None);
    for _ in 0..3 {
        assert_eq!(rig.range(DISCARD, 0, 8, 0), OK);
    }
    assert_eq!(rig.range(WRITE_ZEROES, 0, 1, 0), OK);
    let read = rig.buffers(IN, 0, 512);
    rig.queue.offer(&read);
    assert!(matches!(rig.notify(), Backlog::Until(_)));
}
