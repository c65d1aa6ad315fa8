//! An honest driver.

use std::ops::Range;

use super::*;
use crate::memory;

#[test]
fn pages_that_are_put_aside_go_back_in_one_request_for_each_run() {
    let mut rig = Rig::new();
    let head = rig.list(INFLATE, [300, 305, 301, 303, 200, 302, 201]);
    assert_eq!(rig.notify(INFLATE), Ok(Backlog::Done));
    let page = |from: u64, to: u64| (from * PAGE, to * PAGE);
    assert_eq!(rig.taken(), [page(200, 202), page(300, 304), page(305, 306)]);
    assert_eq!(rig.queues[INFLATE].used(), [Used { head, written: 0 }]);
    assert_eq!(rig.interrupts.take(), [INFLATE]);
    assert_eq!((rig.count("inflated_pages"), rig.count("given_back_bytes")), (7, 7 * PAGE));
    assert_eq!(rig.count("given_back_calls"), 3);
}

#[test]
fn pages_in_falling_order_are_one_run() {
    let mut rig = Rig::new();
    rig.list(INFLATE, (512..768).rev());
    assert_eq!(rig.notify(INFLATE), Ok(Backlog::Done));
    assert_eq!(rig.taken(), [(512 * PAGE, 768 * PAGE)]);
}

#[test]
fn a_list_longer_than_a_turn_goes_on_where_it_was() {
    let mut rig = Rig::new();
    let all = (0..1024).chain(number(UPPER)..number(testing::END)).collect::<Vec<_>>();
    let head = rig.list(INFLATE, all);
    assert_eq!(rig.notify(INFLATE), Ok(Backlog::More));
    assert_eq!((rig.taken(), rig.queues[INFLATE].used()), (vec![(0, 4 << 20)], vec![]));
    assert_eq!(rig.notify(INFLATE), Ok(Backlog::Done));
    assert_eq!(rig.taken(), [(UPPER, SEAM), (SEAM, testing::END)]);
    assert_eq!(rig.queues[INFLATE].used(), [Used { head, written: 0 }]);
}

#[test]
fn everything_has_gone_back_before_the_driver_may_use_it_again() {
    let mut rig = Rig::new();
    // Three turns for one chain.
    rig.list(INFLATE, (0..3000).map(|n| 256 + n % 700));
    rig.list(INFLATE, [100]);
    rig.work(INFLATE);
    rig.report(&[(UPPER, 1 << 20), (3 << 20, 1 << 20)]);
    rig.work(REPORTING);
    let seen = rig.device.lender_for_tests().seen.lock().unwrap().clone();
    assert_eq!(seen.len(), rig.taken().len());
    // The first list was not used before its last page had gone, nor was the second, nor the blocks.
    let (first, rest) = seen.split_at(seen.len() - 3);
    assert!(first.len() >= 3 && first.iter().all(|used| *used == [0; 4]), "{seen:?}");
    assert_eq!(rest, [[1, 0, 0, 0], [2, 0, 0, 0], [2, 0, 0, 0]]);
    assert_eq!(rig.queues[REPORTING].used().len(), 1);
}

#[test]
fn taking_pages_back_asks_nothing_of_the_host() {
    let mut rig = Rig::new();
    let head = rig.list(DEFLATE, 0..100);
    assert_eq!(rig.notify(DEFLATE), Ok(Backlog::Done));
    assert_eq!((rig.taken(), rig.count("deflated_pages")), (vec![], 100));
    assert_eq!(rig.queues[DEFLATE].used(), [Used { head, written: 0 }]);
    assert_eq!(rig.interrupts.take(), [DEFLATE]);
}

#[test]
fn blocks_that_are_free_go_back_merged() {
    let mut rig = Rig::new();
    let blocks = [(3 << 20, 512 << 10), (UPPER, 1 << 20), ((3 << 20) + (512 << 10), 512 << 10)];
    let head = rig.report(&blocks);
    assert_eq!(rig.notify(REPORTING), Ok(Backlog::Done));
    assert_eq!(rig.taken(), [(3 << 20, 4 << 20), (UPPER, SEAM)]);
    assert_eq!(rig.queues[REPORTING].used(), [Used { head, written: 0 }]);
    assert_eq!((rig.count("reported_bytes"), rig.count("given_back_bytes")), (2 << 20, 2 << 20));
}

#[test]
fn where_the_host_s_pages_are_larger_only_whole_ones_go_back() {
    for granule in [16 << 10, 64 << 10] {
        let mut rig = Rig::with(Some(granule), ALL, 64);
        let first = number(2 << 20);
        let of_one = u32::try_from(granule / PAGE).unwrap();
        // All of one, all but the first of the next, and one page elsewhere.
        rig.list(INFLATE, (first..first + of_one).chain(first + of_one + 1..first + 2 * of_one).chain([300]));
        assert_eq!(rig.notify(INFLATE), Ok(Backlog::Done));
        assert_eq!(rig.taken(), [(2 << 20, (2 << 20) + granule)]);
        assert_eq!(rig.count("kept_bytes"), granule - PAGE + PAGE);
        rig.report(&[((3 << 20) + PAGE, 2 * granule)]);
        assert_eq!(rig.notify(REPORTING), Ok(Backlog::Done));
        assert_eq!(rig.taken(), [((3 << 20) + granule, (3 << 20) + 2 * granule)]);
    }
}

#[test]
fn where_nothing_can_go_back_the_guest_is_not_asked_to_report() {
    let mut rig = Rig::with(None, ALL & !bits::REPORTING, 64);
    assert_eq!(rig.device.features(), bits::STATISTICS | bits::DEFLATE_ON_OOM);
    assert_eq!(rig.device.queue_max_sizes().len(), 3);
    rig.list(INFLATE, 256..512);
    assert_eq!(rig.notify(INFLATE), Ok(Backlog::Done));
    assert_eq!((rig.taken(), rig.count("kept_bytes")), (vec![], 1 << 20));
    assert_eq!(rig.queues[INFLATE].used().len(), 1);
}

#[test]
fn features_are_those_of_the_configuration() {
    let host = || Host::new(&testing::ram(), Some(PAGE));
    let offered = |deflate_on_oom, reporting| {
        let settings = Settings { deflate_on_oom, reporting, ..SETTINGS };
        let device = BalloonDevice::new(host(), settings).unwrap();
        (device.features(), device.queue_max_sizes().len())
    };
    assert_eq!(offered(false, false), (bits::STATISTICS, 3));
    assert_eq!(offered(true, false), (bits::STATISTICS | bits::DEFLATE_ON_OOM, 3));
    assert_eq!(offered(true, true), (bits::STATISTICS | bits::DEFLATE_ON_OOM | bits::REPORTING, 4));
    // Linux does not take a balloon that reports over a queue of fewer.
    let device = BalloonDevice::new(host(), SETTINGS).unwrap();
    assert!(device.queue_max_sizes().iter().all(|&size| size >= 32));
}

#[test]
fn queues_of_features_that_were_not_accepted_are_not_counted() {
    let mut rig = Rig::with(Some(PAGE), ALL & !bits::STATISTICS, 64);
    rig.queues[2].offer(&[Buffer::writable(UPPER, 1 << 20)]);
    assert_eq!(rig.notify(2), Ok(Backlog::Done));
    assert_eq!(rig.taken(), [(UPPER, SEAM)]);

    let mut rig = Rig::with(Some(PAGE), ALL & !bits::REPORTING, 64);
    rig.report(&[(UPPER, 1 << 20)]);
    assert_eq!(rig.notify(REPORTING), Ok(Backlog::Done));
    assert_eq!((rig.taken(), rig.queues[REPORTING].used()), (vec![], vec![]));
}

#[test]
fn a_target_is_told_in_pages_with_an_interrupt_once_the_driver_is_ready() {
    let mut device = BalloonDevice::new(Host::new(&testing::ram(), Some(PAGE)), SETTINGS).unwrap();
    device.set_target(3).unwrap();
    assert_eq!(device.target_mib(), 3);
    let mut rig = Rig::new();
    rig.device.set_target(5).unwrap();
    assert_eq!((rig.config(), rig.interrupts.take_changes()), ([5 * 256, 0], 1));
    rig.device.reset();
    rig.device.set_target(1).unwrap();
    assert_eq!((rig.config(), rig.interrupts.take_changes()), ([256, 0], 0));
}

#[test]
fn a_target_that_leaves_the_guest_nothing_is_refused_and_the_old_one_stays() {
    let mut rig = Rig::new();
    rig.device.set_target(2).unwrap();
    rig.interrupts.take_changes();
    for target_mib in [6, 7, u32::MAX] {
        let refused = TooMuch { target_mib, memory_mib: 6 };
        assert_eq!(rig.device.set_target(target_mib), Err(refused));
    }
    assert_eq!((rig.config(), rig.interrupts.take_changes()), ([512, 0], 0));
    let settings = Settings { target_mib: 6, ..SETTINGS };
    let error = BalloonDevice::new(Host::new(&testing::ram(), None), settings).unwrap_err();
    assert_eq!(error.to_string(), "expected less than the machine's 6 MiB, found 6");
}

#[test]
fn what_the_driver_says_of_its_size_is_told_until_it_starts_anew() {
    let mut rig = Rig::new();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let ear = heard.clone();
    rig.device.listen(move |news| ear.lock().unwrap().push(news));
    rig.device.write_config(4, &512u32.to_le_bytes());
    rig.device.write_config(4, &512u32.to_le_bytes());
    assert_eq!((rig.config(), rig.device.actual_bytes()), ([0, 512], 2 << 20));
    assert_eq!((rig.count("size_bytes"), heard.lock().unwrap().clone()), (2 << 20, vec![News::Size]));
    rig.device.reset();
    assert_eq!((rig.config(), heard.lock().unwrap().len()), ([0, 0], 2));
}

#[test]
fn memory_really_goes_back_to_the_host_and_comes_again_empty() {
    let ram = testing::ram();
    let mut rig = Rig::on(ram.clone(), memory::Lender::new(&ram), ALL, 64);
    let granule = rig.device.lender_for_tests().granule().unwrap();
    let touch = |range: Range<u64>| {
        for at in range.step_by(usize::try_from(granule).unwrap()) {
            ram.write_obj(0x5au8, GuestAddress(at)).unwrap();
        }
    };
    touch(2 << 20..HOLE);
    touch(UPPER..SEAM + (1 << 20));
    rig.list(INFLATE, number(2 << 20)..number(3 << 20));
    let before = memory::in_use(&ram).unwrap();
    rig.work(INFLATE);
    // Over the seam: two mappings of the host.
    rig.report(&[(SEAM - (512 << 10), 1 << 20)]);
    rig.work(REPORTING);
    assert_eq!(before - memory::in_use(&ram).unwrap(), 2 << 20);
    assert_eq!((rig.count("given_back_bytes"), rig.count("failed")), (2 << 20, 0));
    for (at, byte) in [(2 << 20, 0), ((3 << 20) - granule, 0), (3 << 20, 0x5a), (SEAM, 0), (UPPER, 0x5a)] {
        assert_eq!(ram.read_obj::<u8>(GuestAddress(at)).unwrap(), byte, "{at:#x}");
    }
    touch(2 << 20..3 << 20);
    assert_eq!(ram.read_obj::<u8>(GuestAddress(2 << 20)).unwrap(), 0x5a);
}
