//! The guest's numbers: asked for, answered, and neither waited for nor answered in a circle.

use super::super::statistics::MAX_ENTRIES;
use super::*;

fn entries(list: &[(u16, u64)]) -> Vec<u8> {
    list.iter().flat_map(|(tag, value)| [&tag.to_le_bytes()[..], &value.to_le_bytes()].concat()).collect()
}

impl Rig<Host> {
    /// Offers a list of statistics, without a notification.
    fn tell(&mut self, list: &[(u16, u64)]) -> u16 {
        let bytes = entries(list);
        self.ram.write_slice(&bytes, GuestAddress(LIST_AT)).unwrap();
        let bytes = u32::try_from(bytes.len()).unwrap();
        self.queues[STATISTICS].offer(&[Buffer::readable(LIST_AT, bytes)])
    }

    fn ask(&mut self) -> Asked {
        self.device.ask_statistics(Instant::now()).unwrap()
    }

    fn told(&self) -> Vec<(&'static str, u64)> {
        let mut all = Vec::new();
        if let Some(statistics) = self.device.statistics() {
            statistics.report(&mut |name, value| all.push((name, value)));
        }
        all
    }
}

#[test]
fn the_driver_answers_when_it_is_asked_and_keeps_its_buffer_waiting_until_then() {
    for features in [ALL, ALL | feature::EVENT_IDX] {
        let mut rig = Rig::with(Some(PAGE), features, 4);
        let news = Arc::new(Mutex::new(0));
        let ear = news.clone();
        rig.device.listen(move |what| *ear.lock().unwrap() += u32::from(what == News::Statistics));
        assert_eq!(rig.ask(), Asked::Before, "there is a driver, and nothing of it yet");
        let first = rig.tell(&[(4, 1 << 20), (5, 6 << 20)]);
        let now = Instant::now();
        assert_eq!(rig.device.notify(STATISTICS, now), Ok(Backlog::Done));
        assert_eq!(rig.told(), [("free_bytes", 1 << 20), ("total_bytes", 6 << 20)]);
        assert_eq!(rig.device.statistics().unwrap().at, now);
        assert_eq!((rig.queues[STATISTICS].used(), rig.interrupts.take()), (vec![], vec![]));

        // More often than the queue is long.
        for round in 1..10 {
            assert_eq!(rig.ask(), Asked::Now);
            assert_eq!(rig.queues[STATISTICS].used(), [Used { head: first, written: 0 }]);
            assert_eq!(rig.interrupts.take(), [STATISTICS]);
            assert_eq!(rig.ask(), Asked::Before);
            assert_eq!(rig.tell(&[(3, round.into())]), first);
            if features & feature::EVENT_IDX != 0 {
                // The driver notifies of its next list.
                assert_eq!(rig.queues[STATISTICS].available_event(), round);
                rig.queues[STATISTICS].set_used_event(round);
            }
            assert_eq!(rig.notify(STATISTICS), Ok(Backlog::Done));
            assert_eq!(rig.told(), [("minor_faults", round.into())]);
        }
        assert_eq!((*news.lock().unwrap(), rig.count("statistics")), (10, 10));
    }
}

#[test]
fn without_a_driver_that_knows_of_statistics_nobody_is_asked() {
    let mut rig = Rig::new();
    rig.device.reset();
    assert_eq!(rig.ask(), Asked::Nobody);
    let mut rig = Rig::with(Some(PAGE), ALL & !bits::STATISTICS, 64);
    rig.tell(&[(4, 1)]);
    assert_eq!((rig.notify(STATISTICS), rig.ask()), (Ok(Backlog::Done), Asked::Nobody));
    assert_eq!(rig.told(), []);
}

#[test]
fn lists_that_come_unasked_stay_where_they_are() {
    let mut rig = Rig::with(Some(PAGE), ALL, 16);
    for value in 0..16 {
        rig.tell(&[(0, value)]);
    }
    for _ in 0..100 {
        assert_eq!(rig.notify(STATISTICS), Ok(Backlog::Done));
    }
    assert_eq!((rig.queues[STATISTICS].used(), rig.count("statistics")), (vec![], 1));
    // Each wish takes one, without a further notification.
    for round in 1..=5 {
        assert_eq!(rig.ask(), Asked::Now);
        assert_eq!((rig.queues[STATISTICS].used().len(), rig.count("statistics")), (1, round + 1));
    }
}

#[test]
fn every_tag_has_its_name_and_unknown_ones_are_passed_over() {
    let mut rig = Rig::new();
    let list: Vec<(u16, u64)> =
        (0..16).map(|tag| (tag, 100 + u64::from(tag))).chain([(16, 1), (u16::MAX, 2)]).collect();
    rig.tell(&list);
    assert_eq!(rig.notify(STATISTICS), Ok(Backlog::Done));
    let told = rig.told();
    assert_eq!(told.iter().map(|(_, value)| *value).collect::<Vec<_>>(), (100..116).collect::<Vec<_>>());
    // Those of the specification, in its order.
    let names = "swapped_in_bytes swapped_out_bytes major_faults minor_faults free_bytes total_bytes \
                 available_bytes disk_cache_bytes huge_pages_allocated huge_pages_failed";
    assert!(told.iter().zip(names.split(' ')).all(|((name, _), expected)| *name == expected));
}

#[test]
fn lists_that_are_empty_torn_backwards_or_endless_are_read_as_far_as_they_go() {
    let mut rig = Rig::with(Some(PAGE), ALL, 64);
    let torn = [entries(&[(4, 7)]), vec![5, 0, 1]].concat();
    rig.ram.write_slice(&torn, GuestAddress(LIST_AT)).unwrap();
    rig.queues[STATISTICS].offer(&[Buffer::readable(LIST_AT, 13)]);
    rig.queues[STATISTICS].offer(&[Buffer::writable(LIST_AT, 100)]);
    assert_eq!(rig.notify(STATISTICS), Ok(Backlog::Done));
    assert_eq!(rig.told(), [("free_bytes", 7)]);
    assert_eq!(rig.ask(), Asked::Now);
    assert_eq!(rig.told(), [], "a buffer to write to says nothing");

    // Ever so many entries, of which the last would count.
    let list = [vec![(4, 1); MAX_ENTRIES], vec![(4, 2); 100]].concat();
    rig.tell(&list);
    assert_eq!(rig.ask(), Asked::Now);
    assert_eq!(rig.told(), [("free_bytes", 1)]);
    rig.queues[STATISTICS].offer(&[Buffer::readable(UPPER, 1 << 20); 60]);
    assert_eq!(rig.ask(), Asked::Now);
    assert_eq!(rig.told(), [("swapped_in_bytes", 0)]);
}

#[test]
fn statistics_of_a_driver_that_is_gone_are_gone() {
    let mut rig = Rig::new();
    rig.tell(&[(4, 1)]);
    assert_eq!(rig.notify(STATISTICS), Ok(Backlog::Done));
    rig.device.reset();
    assert_eq!(rig.told(), []);
    rig.queues[STATISTICS] = GuestQueue::new(&rig.ram, queue_at(2), 64);
    rig.activate();
    assert_eq!(rig.ask(), Asked::Before, "the buffer of the driver before is forgotten");
}
