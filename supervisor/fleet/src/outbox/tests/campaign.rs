//! Power cuts at every operation on the disk, through lives of an outbox that nobody would think of.
//!
//! For each life it is noted what was promised: a record that was called kept, and did not arrive, is there after the
//! cut; one that comes is what its id stood for before it, whether it had reached the disk then or not.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use hearth_disk::faulty::Unsynced;

/// Lives, and ways in which what was not synced may be found, at each cut of each.
const LIVES: u64 = 60;
const STEPS: usize = 70;
const MIXED: u64 = 20;
/// Lives in which the daemon is killed and the machine is not: less to try at each cut, so more cuts.
const KILLED_LIVES: std::ops::Range<u64> = 1000..1270;

struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

/// What is known from outside.
#[derive(Default)]
struct Known {
    /// All that was ever taken in.
    bodies: BTreeMap<RecordId, (Class, Vec<u8>)>,
    arrived: BTreeSet<RecordId>,
    kept: BTreeSet<RecordId>,
    /// Told by earlier daemons.
    gave_way: u64,
}

/// Every second life has little room.
fn limits(seed: u64) -> Limits {
    let most_bytes = if seed.is_multiple_of(2) { 64 << 20 } else { 7 * 4096 };
    Limits { segment_bytes: 300, batch_bytes: 120, free_bytes: 0, most_bytes, ..Limits::default() }
}

struct Life {
    disk: Faulty,
    outbox: Outbox,
    known: Known,
    dice: Dice,
    now: Moment,
    generation: u64,
    /// Drops that this daemon knew of when it began.
    before: u64,
}

impl Life {
    fn live(seed: u64, fate: Option<(usize, Fate)>) -> Life {
        let mut disk = fate.map_or_else(Faulty::default, |(number, fate)| Faulty::with_fate(number, fate));
        let outbox = Outbox::open(&mut disk, limits(seed), 1);
        let dice = Dice(seed);
        let mut life =
            Life { disk, outbox, known: Known::default(), dice, now: NOW, generation: 1, before: 0 };
        for _ in 0..STEPS {
            // Whoever is without power does nothing more.
            if !life.disk.is_dead() {
                life.step();
                life.note_kept();
            }
        }
        life.known.gave_way += dropped(&life.outbox) - life.before;
        life
    }

    fn step(&mut self) {
        match self.dice.roll(24) {
            0..12 => self.append(),
            12..15 => {
                self.now = self.now.after(Duration::from_secs(self.dice.roll(100)));
                self.outbox.turn(&mut self.disk, self.now);
            }
            15..21 => self.deliver(),
            21 => self.outbox.session_began(),
            22 => {
                self.outbox.close(&mut self.disk, self.now);
                self.note_kept();
                self.open();
            }
            _ => self.open(),
        }
    }

    fn append(&mut self) {
        let class = Class::ALL[usize::try_from(self.dice.roll(4)).unwrap()];
        let length = usize::try_from(self.dice.roll(60)).unwrap();
        let body = format!("{} {}", self.known.bodies.len(), "x".repeat(length)).into_bytes();
        let (id, kept) = self.outbox.append(&mut self.disk, self.now, stamp(1), class, &body).unwrap();
        assert_eq!(self.known.bodies.insert(id, (class, body)), None, "an id was given twice");
        if kept {
            self.known.kept.insert(id);
        }
    }

    fn deliver(&mut self) {
        let most = usize::try_from(self.dice.roll(6)).unwrap();
        for delivery in self.outbox.take(&mut self.disk, self.now, stamp(2), most) {
            self.known.check(&delivery);
            if self.dice.roll(5) > 0 {
                self.outbox.acknowledge(&mut self.disk, self.now, delivery.id);
                self.known.arrived.insert(delivery.id);
            }
        }
    }

    fn open(&mut self) {
        self.generation += 1;
        self.known.gave_way += dropped(&self.outbox) - self.before;
        self.outbox = Outbox::open(&mut self.disk, self.outbox.limits, self.generation);
        self.before = dropped(&self.outbox);
    }

    /// All that is in memory and was written.
    fn note_kept(&mut self) {
        for queue in &self.outbox.queues {
            let ids = queue.kept().map(|number| RecordId { generation: self.generation, number });
            self.known.kept.extend(ids);
        }
    }
}

fn dropped(outbox: &Outbox) -> u64 {
    outbox.figures().dropped.iter().sum()
}

impl Known {
    fn check(&self, delivery: &Delivery) {
        let was = self.bodies.get(&delivery.id);
        assert_eq!(was, Some(&(delivery.class, delivery.body.clone())), "{} is something else", delivery.id);
    }

    /// A daemon begins on what the cut left.
    fn survive(&self, disk: &mut Faulty, limits: Limits, garbage: bool) {
        let mut outbox = Outbox::open(disk, limits, 1000);
        let mut came: BTreeSet<RecordId> = BTreeSet::new();
        let mut last = [None; 4];
        loop {
            let taken = outbox.take(disk, NOW, stamp(2), 5);
            if taken.is_empty() {
                break;
            }
            for delivery in taken {
                self.check(&delivery);
                assert!(delivery.historical);
                assert!(came.insert(delivery.id), "{} came twice in one session", delivery.id);
                let last = &mut last[delivery.class.place()];
                assert!(last.replace(delivery.id.number).is_none_or(|last| last < delivery.id.number));
                // Not all of them: the next daemon is to have something.
                if delivery.id.number % 3 > 0 {
                    outbox.acknowledge(disk, NOW, delivery.id);
                }
            }
        }
        let lost: Vec<_> =
            self.kept.iter().filter(|id| !came.contains(id) && !self.arrived.contains(id)).collect();
        assert!(lost.len() as u64 <= self.gave_way, "{} gave way, lost: {lost:?}", self.gave_way);
        let put_aside = outbox.troubles().any(|trouble| matches!(trouble, Trouble::PutAside { .. }));
        assert!(garbage || !put_aside, "a power cut leaves nothing that nobody understands");
        // And it goes on.
        let (id, kept) = outbox.append(disk, NOW, stamp(3), Class::Answer, b"after").unwrap();
        assert!(kept && !self.bodies.contains_key(&id));
        let mut outbox = Outbox::open(disk, limits, 1001);
        let taken = outbox.take(disk, NOW, stamp(4), MAX_FLYING);
        assert!(taken.iter().any(|delivery| delivery.id == id && delivery.body == b"after"));
        taken.iter().filter(|delivery| delivery.id != id).for_each(|delivery| self.check(delivery));
    }
}

#[test]
fn fifteen_thousand_power_cuts_lose_nothing_that_was_kept_and_make_nothing_up() {
    let mut cuts = 0_u32;
    for seed in 0..LIVES {
        let operations = Life::live(seed, None).disk.operations;
        for number in 1..=operations {
            let life = Life::live(seed, Some((number, Fate::PowerCut)));
            let mixed = (0..MIXED).map(|way| Unsynced::Mixed(way ^ (number as u64) << 8 ^ seed << 32));
            let ways =
                [Unsynced::Lost, Unsynced::Kept, Unsynced::Half, Unsynced::Zeros].into_iter().chain(mixed);
            for way in ways {
                let mut disk = life.disk.after_power_cut(way);
                life.known.survive(&mut disk, limits(seed), matches!(way, Unsynced::Mixed(_)));
                cuts += 1;
            }
        }
    }
    assert!(cuts >= 15_000, "{cuts}");
}

/// The kernel has all that was written, so what a killed daemon left half done is what the next one finds.
#[test]
fn fifteen_thousand_kills_between_any_two_operations_lose_nothing_that_was_kept() {
    let mut kills = 0_u32;
    for seed in KILLED_LIVES {
        for number in 1..=Life::live(seed, None).disk.operations {
            let life = Life::live(seed, Some((number, Fate::PowerCut)));
            life.known.survive(&mut life.disk.after_power_cut(Unsynced::Kept), limits(seed), false);
            kills += 1;
        }
    }
    assert!(kills >= 15_000, "{kills}");
}

#[test]
fn an_operation_that_fails_loses_nothing_that_was_kept() {
    for seed in 0..LIVES {
        for number in 1..=Life::live(seed, None).disk.operations {
            let life = Life::live(seed, Some((number, Fate::Fails)));
            life.known.survive(&mut life.disk.after_power_cut(Unsynced::Lost), limits(seed), false);
            life.known.survive(&mut life.disk.after_power_cut(Unsynced::Kept), limits(seed), false);
        }
    }
}

#[test]
fn a_cut_while_a_cut_is_repaired_changes_nothing() {
    for seed in 0..LIVES {
        let mut life = Life::live(seed, None);
        let before = dropped(&life.outbox);
        life.append();
        life.known.gave_way += dropped(&life.outbox) - before;
        for way in 0..8 {
            for number in 1..6 {
                let mut disk = life.disk.after_power_cut(Unsynced::Mixed(way));
                disk.meet(number, Fate::PowerCut);
                let mut outbox = Outbox::open(&mut disk, life.outbox.limits, 500);
                for delivery in outbox.take(&mut disk, NOW, stamp(2), 5) {
                    life.known.check(&delivery);
                }
                life.known.survive(&mut disk.after_power_cut(Unsynced::Mixed(way + 1)), limits(seed), true);
            }
        }
    }
}
