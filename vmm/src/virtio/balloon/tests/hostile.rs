//! A driver that lies about what it has.

use super::*;

#[test]
fn pages_that_are_no_ram_are_counted_and_left_out() {
    let mut rig = Rig::new();
    let outside = [number(HOLE), number(UPPER) - 1, number(testing::END), 1 << 20, u32::MAX];
    rig.list(INFLATE, outside.into_iter().chain([number(UPPER)]));
    assert_eq!(rig.notify(INFLATE), Ok(Backlog::Done));
    assert_eq!(rig.taken(), [(UPPER, UPPER + PAGE)]);
    assert_eq!((rig.count("outside_bytes"), rig.queues[INFLATE].used().len()), (5 * PAGE, 1));
}

#[test]
fn runs_over_a_hole_or_a_seam_are_cut_there() {
    let mut rig = Rig::new();
    rig.list(INFLATE, number(HOLE - 2 * PAGE)..number(HOLE + 2 * PAGE));
    assert_eq!(rig.notify(INFLATE), Ok(Backlog::Done));
    assert_eq!((rig.taken(), rig.count("outside_bytes")), (vec![(HOLE - 2 * PAGE, HOLE)], 2 * PAGE));
    rig.list(INFLATE, [number(SEAM - PAGE), number(SEAM)]);
    assert_eq!(rig.notify(INFLATE), Ok(Backlog::Done));
    assert_eq!(rig.taken(), [(SEAM - PAGE, SEAM), (SEAM, SEAM + PAGE)]);
}

#[test]
fn a_page_that_is_named_again_and_again_goes_back_once() {
    let mut rig = Rig::new();
    rig.list(INFLATE, [700, 600, 700, 600, 700, 601, 600]);
    rig.report(&[(3 << 20, 1 << 20), (3 << 20, 1 << 20), ((3 << 20) + PAGE, 8 * PAGE)]);
    assert_eq!((rig.notify(INFLATE), rig.notify(REPORTING)), (Ok(Backlog::Done), Ok(Backlog::Done)));
    assert_eq!(rig.taken(), [(600 * PAGE, 602 * PAGE), (700 * PAGE, 701 * PAGE), (3 << 20, 4 << 20)]);
}

#[test]
fn a_list_without_end_costs_a_bounded_turn_at_a_time_and_ends() {
    let mut rig = Rig::new();
    // No two neighbours, so that each page is a request to the host.
    rig.write_list(LIST_AT, (0..0x2_0000).map(|n| 2 * (n % 400)));
    let head = rig.queues[INFLATE].offer(&[Buffer::readable(LIST_AT, 0x8_0000); 60]);
    let mut turns = 0;
    while rig.queues[INFLATE].used().is_empty() {
        assert_eq!(rig.notify(INFLATE), Ok(Backlog::More), "{head}");
        assert!(rig.taken().len() as u64 <= TURN_PAGES);
        turns += 1;
        assert!(turns <= CHAIN_PAGES / TURN_PAGES);
    }
    assert_eq!(rig.notify(INFLATE), Ok(Backlog::Done));
    assert_eq!(rig.count("inflated_pages"), CHAIN_PAGES);
    assert_eq!(rig.count("ignored_pages"), 60 * 0x2_0000 - CHAIN_PAGES);
}

#[test]
fn a_full_ring_of_lists_shares_its_turns() {
    let mut rig = Rig::new();
    rig.write_list(LIST_AT, (0..512).map(|n| 2 * n));
    for _ in 0..64 {
        rig.queues[INFLATE].offer(&[Buffer::readable(LIST_AT, 2048)]);
    }
    assert_eq!(rig.notify(INFLATE), Ok(Backlog::More));
    assert_eq!((rig.queues[INFLATE].used().len(), rig.taken().len() as u64), (2, TURN_PAGES));
    assert_eq!(rig.work(INFLATE), 32);
}

#[test]
fn a_report_of_gigabytes_costs_a_bounded_turn_at_a_time_and_ends() {
    let mut rig = Rig::new();
    // The same blocks, over and over: 64 MiB of one and 56 of another.
    let blocks = [[(2 << 20, 2 << 20); 32].as_slice(), [(UPPER, 2 << 20); 28].as_slice()].concat();
    let head = rig.report(&blocks);
    assert_eq!(rig.notify(REPORTING), Ok(Backlog::More));
    assert_eq!((rig.taken(), rig.queues[REPORTING].used()), (vec![(2 << 20, 4 << 20)], vec![]));
    assert_eq!(rig.notify(REPORTING), Ok(Backlog::Done));
    assert_eq!(rig.taken(), [(UPPER, SEAM), (SEAM, testing::END)]);
    assert_eq!(rig.queues[REPORTING].used(), [Used { head, written: 0 }]);
    assert_eq!(rig.count("reported_bytes"), 120 << 20);
    const { assert!(TURN_BYTES < 120 << 20) };
}

#[test]
fn reports_of_crumbs_cost_a_bounded_number_of_calls_a_turn_and_end() {
    let mut rig = Rig::with(Some(PAGE), ALL | feature::INDIRECT_DESC, 64);
    // A full ring of chains as long as may be, all alike: no two of a chain's pages are neighbours.
    let crumbs: Vec<_> = (0..64).map(|n| Buffer::writable((3 << 20) + 2 * n * PAGE, 4096)).collect();
    for _ in 0..64 {
        rig.queues[REPORTING].offer_indirect(LIST_AT, &crumbs);
    }
    for _ in 0..4 {
        assert_eq!(rig.notify(REPORTING), Ok(Backlog::More));
        assert_eq!((rig.taken().len() as u64, rig.queues[REPORTING].used().len()), (TURN_PAGES, 16));
    }
    assert_eq!(rig.notify(REPORTING), Ok(Backlog::Done));
    assert_eq!((rig.count("reported_bytes"), rig.count("given_back_calls")), (64 * 64 * PAGE, 64 * 64));
}

#[test]
fn a_storm_on_the_way_back_ends_its_turn_with_the_ring_s_length() {
    let mut rig = Rig::with(Some(PAGE), ALL, 8);
    for _ in 0..8 {
        rig.queues[DEFLATE].offer(&[Buffer::readable(1 << 20, 3 << 20)]);
    }
    assert_eq!(rig.notify(DEFLATE), Ok(Backlog::More));
    assert_eq!((rig.queues[DEFLATE].used().len(), rig.taken()), (8, vec![]));
    assert_eq!(rig.notify(DEFLATE), Ok(Backlog::Done));
}

#[test]
fn chains_of_the_wrong_kind_and_torn_numbers_go_back_unread() {
    let mut rig = Rig::new();
    rig.write_list(LIST_AT, [500, 501]);
    rig.queues[INFLATE].offer(&[Buffer::writable(LIST_AT, 8)]);
    rig.queues[INFLATE].offer(&[Buffer::readable(LIST_AT, 3)]);
    rig.queues[INFLATE].offer(&[Buffer::readable(LIST_AT, 7)]);
    rig.queues[REPORTING].offer(&[Buffer::readable(UPPER, 1 << 20)]);
    assert_eq!((rig.notify(INFLATE), rig.notify(REPORTING)), (Ok(Backlog::Done), Ok(Backlog::Done)));
    assert_eq!(rig.taken(), [(500 * PAGE, 501 * PAGE)]);
    assert_eq!((rig.queues[INFLATE].used().len(), rig.queues[REPORTING].used().len()), (3, 1));
    // A list in pieces that tear its numbers is read all the same.
    let pieces = [(0, 3), (3, 2), (5, 3)].map(|(at, bytes)| Buffer::readable(LIST_AT + at, bytes));
    rig.queues[INFLATE].offer(&pieces);
    assert_eq!(rig.notify(INFLATE), Ok(Backlog::Done));
    assert_eq!(rig.taken(), [(500 * PAGE, 502 * PAGE)]);
}

#[test]
fn the_guest_s_own_rings_and_lists_may_be_lent_and_nothing_breaks() {
    let ram = testing::ram();
    let mut rig = Rig::on(ram.clone(), crate::memory::Lender::new(&ram), ALL, 64);
    rig.list(INFLATE, 0..1024);
    assert!(rig.notify(INFLATE).is_ok());
    // Its rings are zeroes now. Whatever they say, the device says something, too.
    for queue in 0..4 {
        let _ = rig.notify(queue);
    }
    assert_eq!(rig.count("given_back_bytes"), 4 << 20);
}

#[test]
fn a_host_that_takes_nothing_is_counted_and_the_driver_hears_nothing_of_it() {
    let mut rig = Rig::new();
    rig.device.lender_for_tests().fails = true;
    rig.list(INFLATE, [500, 502]);
    assert_eq!(rig.notify(INFLATE), Ok(Backlog::Done));
    assert_eq!((rig.count("failed"), rig.count("given_back_bytes")), (2, 0));
    assert_eq!(rig.queues[INFLATE].used().len(), 1);
}

#[test]
fn a_broken_ring_is_told_and_the_device_rests_until_it_is_activated_again() {
    for queue in [INFLATE, DEFLATE, STATISTICS, REPORTING] {
        let mut rig = Rig::new();
        rig.queues[queue].set_available_index(100);
        assert_eq!(rig.notify(queue), Err(RingFault::AvailableIndex));
        assert_eq!(rig.notify(queue), Ok(Backlog::Done));
        assert_eq!(rig.device.ask_statistics(Instant::now()), Ok(Asked::Nobody));
    }
    let mut rig = Rig::new();
    rig.queues[STATISTICS].offer(&[Buffer::readable(LIST_AT, 10)]);
    assert_eq!(rig.notify(STATISTICS), Ok(Backlog::Done));
    rig.queues[STATISTICS].set_available_index(100);
    assert_eq!(rig.device.ask_statistics(Instant::now()), Err(RingFault::AvailableIndex));
    assert_eq!(rig.device.ask_statistics(Instant::now()), Ok(Asked::Nobody));
}

#[test]
fn a_reset_forgets_what_was_half_done() {
    let mut rig = Rig::new();
    rig.list(INFLATE, (0..2000).map(|n| 2 * (n % 500)));
    assert_eq!(rig.notify(INFLATE), Ok(Backlog::More));
    rig.device.reset();
    rig.taken();
    assert_eq!((rig.notify(INFLATE), rig.taken()), (Ok(Backlog::Done), vec![]));
    rig.queues[INFLATE] = GuestQueue::new(&rig.ram, queue_at(0), 64);
    rig.activate();
    assert_eq!((rig.notify(INFLATE), rig.taken()), (Ok(Backlog::Done), vec![]));
}

#[test]
fn a_size_beyond_the_guest_s_memory_is_told_as_all_of_it() {
    let mut rig = Rig::new();
    rig.device.write_config(4, &u32::MAX.to_le_bytes());
    assert_eq!((rig.device.actual_bytes(), rig.config()), (6 << 20, [0, u32::MAX]));
}
