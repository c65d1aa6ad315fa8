//! What an outbox promises, one promise at a time. Cuts of power are in `campaign`.

mod campaign;

use super::*;
use hearth_disk::faulty::{Fate, Faulty};

const NOW: Moment = Moment::START;

fn stamp(unix_ms: u64) -> Stamp {
    Stamp { unix_ms, trusted: true }
}

/// Files of few records, so that little is needed to fill them.
fn small() -> Limits {
    Limits { segment_bytes: 300, batch_bytes: 100, free_bytes: 0, ..Limits::default() }
}

struct Box {
    disk: Faulty,
    outbox: Outbox,
}

impl Box {
    fn new(limits: Limits) -> Box {
        let mut disk = Faulty::default();
        let outbox = Outbox::open(&mut disk, limits, 1);
        Box { disk, outbox }
    }

    fn append(&mut self, class: Class, body: &str) -> RecordId {
        self.outbox.append(&mut self.disk, NOW, stamp(1), class, body.as_bytes()).unwrap().0
    }

    fn take(&mut self, most: usize) -> Vec<Delivery> {
        self.outbox.take(&mut self.disk, NOW, stamp(2), most)
    }

    fn acknowledge(&mut self, id: RecordId) {
        self.outbox.acknowledge(&mut self.disk, NOW, id);
    }

    /// Takes and acknowledges all there is.
    fn drain(&mut self) -> Vec<String> {
        let mut bodies = Vec::new();
        loop {
            let taken = self.take(7);
            if taken.is_empty() {
                return bodies;
            }
            for delivery in taken {
                bodies.push(String::from_utf8(delivery.body).unwrap());
                self.acknowledge(delivery.id);
            }
        }
    }

    /// A daemon that was killed; its disk is as it was.
    fn killed(&mut self, generation: u64) {
        self.outbox = Outbox::open(&mut self.disk, self.outbox.limits, generation);
    }

    fn files(&mut self) -> Vec<String> {
        self.disk.list().unwrap().into_iter().map(|(name, _)| name).collect()
    }

    fn write(&mut self) {
        self.outbox.turn(&mut self.disk, NOW.after(Duration::from_secs(3600)));
    }

    fn words(&mut self) -> Vec<String> {
        self.outbox.troubles().map(|trouble| trouble.to_string()).collect()
    }
}

#[test]
fn what_matters_most_goes_first_and_within_a_class_the_oldest() {
    let mut it = Box::new(small());
    for (class, body) in [
        (Class::Bulk, "b"),
        (Class::Telemetry, "t1"),
        (Class::Answer, "a1"),
        (Class::Telemetry, "t2"),
        (Class::Alarm, "!"),
        (Class::Answer, "a2"),
    ] {
        it.append(class, body);
    }
    assert_eq!(it.drain(), ["a1", "a2", "!", "t1", "t2", "b"]);
}

#[test]
fn what_arrives_while_the_link_is_up_never_touches_the_disk() {
    let mut it = Box::new(small());
    for round in 0..100 {
        it.append(Class::Telemetry, &format!("figures of round {round}"));
        assert_eq!(it.drain().len(), 1);
        it.outbox.turn(&mut it.disk, NOW.after(Duration::from_secs(round)));
    }
    assert_eq!((it.disk.operations, it.outbox.figures().held), (0, 0));
    assert_eq!(it.outbox.next_deadline(), None);
}

#[test]
fn an_answer_is_kept_when_append_returns_and_others_with_their_batch() {
    let mut it = Box::new(small());
    let kept = |it: &mut Box, class, body: &[u8]| {
        it.outbox.append(&mut it.disk, NOW, stamp(1), class, body).unwrap().1
    };
    assert!(kept(&mut it, Class::Answer, b"done"));
    assert!(!kept(&mut it, Class::Telemetry, &[0; 60]));
    assert!(kept(&mut it, Class::Telemetry, &[0; 60]), "a batch is full");
    assert!(!kept(&mut it, Class::Alarm, b"!"));
    let due = NOW.after(Limits::default().batch_after[Class::Alarm.place()]);
    assert_eq!(it.outbox.next_deadline(), Some(due));
    it.outbox.turn(&mut it.disk, due);
    it.killed(2);
    assert_eq!(it.take(9).len(), 4);
}

#[test]
fn what_was_in_the_air_comes_again_under_the_same_id_and_what_arrived_does_not() {
    let mut it = Box::new(small());
    for body in ["1", "2", "3", "4"] {
        it.append(Class::Telemetry, body);
    }
    it.outbox.session_began();
    let taken = it.take(3);
    assert!(taken.iter().all(|delivery| delivery.historical));
    it.acknowledge(taken[1].id);
    it.outbox.session_began();
    let fresh = it.append(Class::Telemetry, "5");
    let again = it.take(9);
    let told: Vec<_> = again.iter().map(|delivery| (delivery.id, delivery.historical)).collect();
    let (first, third) = (taken[0].id, taken[2].id);
    let fourth = RecordId { number: third.number + 1, ..third };
    assert_eq!(told, [(first, true), (third, true), (fourth, true), (fresh, false)]);
    again.iter().for_each(|delivery| it.acknowledge(delivery.id));
    assert_eq!(it.drain(), [""; 0]);
    assert_eq!(it.outbox.figures().held, 0);
}

#[test]
fn files_are_read_back_past_what_memory_holds_and_go_when_all_of_them_arrived() {
    let mut it = Box::new(Limits { segment_bytes: 64 << 10, batch_bytes: 4 << 10, ..small() });
    let bodies: Vec<String> = (0..4000).map(|number| format!("{number:0100}")).collect();
    for body in &bodies {
        it.append(Class::Telemetry, body);
    }
    let figures = it.outbox.figures();
    assert!(figures.held < 1000, "{figures:?}");
    assert!(figures.stored_bytes > 400 << 10, "{figures:?}");
    assert!(it.files().len() > 5);
    assert_eq!(it.drain(), bodies);
    assert_eq!(it.files().len(), 2, "the cursor, and the file that is written to next");
    assert_eq!(it.words(), [""; 0]);
}

#[test]
fn a_file_that_grows_while_it_is_read_is_read_on() {
    let mut it = Box::new(Limits { segment_bytes: 64 << 20, batch_bytes: 4 << 10, ..small() });
    let bodies: Vec<String> = (0..2500).map(|number| format!("{number:0100}")).collect();
    let (before, after) = bodies.split_at(1000);
    for body in before {
        it.append(Class::Telemetry, body);
    }
    let first = it.take(1).remove(0);
    it.acknowledge(first.id);
    for body in after {
        it.append(Class::Telemetry, body);
    }
    assert_eq!(it.drain(), bodies[1..]);
    assert_eq!(it.files().len(), 1);
}

#[test]
fn what_is_done_with_is_noted_after_a_while_and_a_torn_note_is_no_obstacle() {
    let mut it = Box::new(small());
    for generation in 2..5 {
        it.append(Class::Answer, "a");
        assert_eq!(it.drain(), ["a"]);
        let due = it.outbox.next_deadline();
        assert_eq!(due, Some(NOW.after(NOTE_WITHIN)));
        it.outbox.turn(&mut it.disk, NOW.after(NOTE_WITHIN));
        assert_eq!(it.outbox.next_deadline(), None);
        it.killed(generation);
        assert_eq!(it.drain(), [""; 0]);
        // As the power may leave it.
        it.disk.append("cursor", &[9, 0, 0, 0, 1]).unwrap();
        it.killed(generation + 10);
    }
}

#[test]
fn flash_gets_little_more_than_what_is_to_be_kept() {
    let mut it = Box::new(Limits::default());
    // As a week without a link, and then the way out; a hundred bytes are a report of some metrics.
    for number in 0..20_000 {
        it.append(Class::Telemetry, &format!("{number:0100}"));
    }
    assert_eq!(it.drain().len(), 20_000);
    let figures = it.outbox.figures();
    assert_eq!(figures.written_bytes, it.disk.written as u64, "every byte is accounted for");
    assert!(figures.written_bytes * 10 <= figures.accepted_bytes * 13, "{figures:?}");
}

#[test]
fn the_oldest_file_of_the_lowest_class_gives_way_and_its_records_are_counted() {
    let mut it = Box::new(Limits { most_bytes: 5 * 4096, ..small() });
    for number in 0..8 {
        it.append(Class::Bulk, &format!("{number:0100}"));
    }
    for number in 0..12 {
        it.append(Class::Telemetry, &format!("t{number:0100}"));
    }
    it.append(Class::Answer, "a");
    let dropped = it.outbox.figures().dropped;
    assert!(dropped[3] == 8 && dropped[2] > 0 && dropped[1] == 0 && dropped[0] == 0, "{dropped:?}");
    let left = it.drain();
    assert_eq!(left.len() as u64, 21 - dropped[3] - dropped[2], "{left:?}");
    assert_eq!(
        (left[0].as_str(), &left[1][100..]),
        ("a", dropped[2].to_string().as_str()),
        "the oldest went"
    );
    let words = it.words().join("\n");
    assert!(words.contains("no room: 8 records of bulk gave way"), "{words}");
    it.outbox.close(&mut it.disk, NOW);
    it.killed(2);
    assert_eq!(it.outbox.figures().dropped, dropped, "and stay counted");
}

#[test]
fn what_matters_less_gives_way_itself_and_others_room_is_left_alone() {
    let mut it = Box::new(Limits { most_bytes: 4096 + 299, ..small() });
    it.append(Class::Telemetry, &"t".repeat(200));
    for number in 0..2000 {
        it.append(Class::Bulk, &format!("{number:0100}"));
    }
    let figures = it.outbox.figures();
    assert!(figures.dropped[3] > 0 && figures.dropped[2] == 0, "{figures:?}");
    assert!(figures.held < 2000, "memory is bounded: {figures:?}");
    assert_eq!(it.drain().len() as u64, 2001 - figures.dropped[3]);

    let mut it = Box::new(Limits { free_bytes: 1 << 20, ..small() });
    it.disk.free = Some(1 << 20);
    it.append(Class::Answer, "a");
    assert_eq!(it.files(), [""; 0], "the floor holds");
    assert_eq!(it.words().len(), 1);
    it.disk.free = Some(2 << 20);
    it.write();
    assert_eq!(it.files().len(), 1, "and there is room again");
    assert_eq!(it.words(), ["outbox: it can be written again"]);
}

#[test]
fn what_is_too_old_is_not_sent_and_a_clock_that_nobody_set_makes_nothing_old() {
    let limits = Limits { ttl: [Duration::from_secs(1); 4], ..small() };
    let mut it = Box::new(limits);
    let append = |it: &mut Box, unix_ms, trusted, body: &str| {
        let at = Stamp { unix_ms, trusted };
        it.outbox.append(&mut it.disk, NOW, at, Class::Telemetry, body.as_bytes());
    };
    append(&mut it, 1000, true, "old");
    append(&mut it, 0, false, "unknown");
    append(&mut it, 2500, true, "new");
    let later = Stamp { unix_ms: 3000, trusted: false };
    assert_eq!(it.outbox.take(&mut it.disk, NOW, later, 9).len(), 3);
    it.outbox.session_began();
    let taken = it.outbox.take(&mut it.disk, NOW, Stamp { trusted: true, ..later }, 9);
    let bodies: Vec<_> = taken.into_iter().map(|delivery| delivery.body).collect();
    assert_eq!(bodies, [b"unknown".to_vec(), b"new".to_vec()]);
    assert_eq!(it.outbox.figures().expired, [0, 0, 1, 0]);
}

#[test]
fn a_record_beyond_the_bound_is_not_taken() {
    let mut it = Box::new(small());
    assert_eq!(it.outbox.append(&mut it.disk, NOW, stamp(1), Class::Answer, &[0; MAX_BODY + 1]), None);
    assert!(it.outbox.append(&mut it.disk, NOW, stamp(1), Class::Answer, &[0; MAX_BODY]).unwrap().1);
}

#[test]
fn whatever_lies_in_its_folder_an_outbox_opens_and_says_what_it_put_aside() {
    let mut it = Box::new(small());
    it.append(Class::Answer, "good");
    it.disk.create("alarms-0000000000000001", b"something else altogether").unwrap();
    it.disk.create("bulk-0000000000000007", &[]).unwrap();
    it.disk.create("cursor", b"no cursor").unwrap();
    it.disk.create("README", b"for people").unwrap();
    it.killed(2);
    assert_eq!(it.drain(), ["good"]);
    let words = it.words().join("\n");
    assert!(words.contains("cursor cannot be read and is now cursor.bad"), "{words}");
    assert!(words.contains("alarms-0000000000000001 cannot be read and is now segment.bad"), "{words}");
    it.append(Class::Answer, "more");
    let files = it.files().join(" ");
    assert!(files.contains("README") && files.contains("segment.bad") && !files.contains("bulk"), "{files}");
}

#[test]
fn a_file_counts_up_to_its_first_damage() {
    let mut it = Box::new(Limits { segment_bytes: 4096, ..small() });
    for number in 0..9 {
        it.append(Class::Answer, &format!("{number:0100}"));
    }
    let name = it.files()[0].clone();
    it.disk.damage(&name, 500);
    it.killed(2);
    assert_eq!(it.drain().len(), 4);
    assert!(it.outbox.figures().damaged_bytes > 400);
    assert!(it.words()[0].contains("are damaged and dropped"));
}

#[test]
fn a_disk_that_fails_is_told_once_and_what_could_not_be_written_is_written_later() {
    for number in 1..8 {
        let mut it = Box::new(small());
        it.append(Class::Answer, "0");
        it.disk.meet(number, Fate::Fails);
        let bodies: Vec<String> = (1..6).map(|number| number.to_string()).collect();
        for body in &bodies {
            it.append(Class::Answer, body);
        }
        it.outbox.close(&mut it.disk, NOW);
        let words = it.words();
        assert!(words.len() <= 2, "{words:?}");
        it.killed(2);
        assert_eq!(it.drain(), ["0", "1", "2", "3", "4", "5"], "{number}");
    }
}

#[test]
fn without_a_disk_memory_has_to_do_and_is_bounded() {
    let mut it = Box::new(Limits::default());
    it.disk.meet(1, Fate::PowerCut);
    for number in 0..10_000 {
        it.append(Class::Telemetry, &format!("{number:0100}"));
    }
    let figures = it.outbox.figures();
    assert!(figures.held < 1000 && figures.dropped[2] == 10_000 - figures.held as u64, "{figures:?}");
    assert_eq!(it.words().len(), 2, "once that it fails, once what that cost");
    let last = it.drain().pop().unwrap();
    assert_eq!(last, format!("{:0100}", 9999));
}

#[test]
fn who_waits_learns_what_became_of_a_record_and_may_hurry_it() {
    use crate::outbox::Fate as Became;
    let mut it = Box::new(small());
    let fate = |it: &Box, id| it.outbox.fate(Class::Bulk, id);
    let (first, second) = (it.append(Class::Bulk, "first"), it.append(Class::Bulk, "second"));
    assert_eq!(it.take(2).len(), 2);
    it.acknowledge(second);
    assert_eq!((fate(&it, first), fate(&it, second)), (Became::Waits, Became::Kept));
    let soon = NOW.after(Duration::from_secs(1));
    it.outbox.hasten(Class::Bulk, soon);
    it.outbox.hasten(Class::Bulk, NOW.after(Duration::from_secs(5)));
    assert_eq!(it.outbox.next_deadline(), Some(soon));
    it.outbox.turn(&mut it.disk, soon);
    assert_eq!(fate(&it, first), Became::Kept);
    let third = it.append(Class::Bulk, "third");
    assert_eq!(fate(&it, third), Became::Waits);
    let slow = it.outbox.next_deadline();
    assert_eq!(slow, Some(NOW.after(Limits::default().batch_after[Class::Bulk.place()])));
    // With a disk that takes nothing, the oldest in memory give way.
    it.disk.meet(1, Fate::PowerCut);
    for _ in 0..6 {
        it.append(Class::Bulk, &"x".repeat(MAX_BODY));
    }
    assert_eq!((fate(&it, third), fate(&it, first)), (Became::Lost, Became::Kept));
}
