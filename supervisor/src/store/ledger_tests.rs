//! The ledger through failed writes, power cuts at every step, and damage.

use super::*;
use hearth_core::{Build, Durable, Kind, Needs, Restarts, Run, Slots, Tripped, Version};
use hearth_disk::faulty::{Fate, Faulty, Unsynced};

fn record(name: &str, run: u32) -> Record {
    Record {
        name: name.to_owned(),
        durable: Durable {
            last_run: Run(run),
            kind: Kind::Job,
            current: Build { version: Version(7), needs: Needs { memory_mib: 128, cpu_milli: 1000 } },
            good: true,
            previous: None,
            rejected: Some(Version(9)),
            breaker: Tripped::Not,
            stopped: false,
            scale: Some(2),
            done: Slots::default(),
            failed: Slots::default(),
            asked: Slots::default(),
            snapshot: None,
        },
        restarts: Restarts::default(),
    }
}

fn open(disk: &mut Faulty) -> (Ledger, Option<Damage>) {
    Ledger::open(disk).expect("the disk works")
}

type Deed = fn(&mut Ledger, &mut Faulty) -> Result<(), LedgerError>;

/// One write of many kinds. What is kept after each is compared with what the ledger has in memory.
const DEEDS: [Deed; 7] = [
    |ledger, disk| ledger.remember(disk, &record("web", 1)),
    |ledger, disk| {
        ledger.note_boot(disk, BootNote { id: "b".into(), failed_boots: 1, ..BootNote::default() })
    },
    |ledger, disk| ledger.remember(disk, &record("job", 5)),
    |ledger, disk| ledger.remember(disk, &record("web", 2)),
    |ledger, disk| ledger.remember_device(disk, DeviceRecord::default()),
    |ledger, disk| ledger.forget(disk, "job"),
    |ledger, disk| ledger.remember(disk, &record("web", 3)),
];

/// Does all deeds with a fate at one operation. Gives the disk, and what may be found after it: what was surely kept,
/// and what was under way when the power went.
fn live(fate: Option<(usize, Fate)>) -> (Faulty, Vec<Kept>) {
    let mut disk = fate.map_or_else(Faulty::default, |(number, fate)| Faulty::with_fate(number, fate));
    let mut possible = vec![Kept::default()];
    let Ok((mut ledger, _)) = Ledger::open(&mut disk) else { return (disk, possible) };
    for deed in DEEDS {
        match deed(&mut ledger, &mut disk) {
            Ok(()) => possible = vec![ledger.kept.clone()],
            // Not taken: it may be there or not, and then the next one counts.
            Err(_) => possible.push(ledger.kept.clone()),
        }
    }
    (disk, possible)
}

const WAYS: [Unsynced; 4] = [Unsynced::Lost, Unsynced::Kept, Unsynced::Half, Unsynced::Zeros];

#[test]
fn what_was_taken_outlives_a_power_cut_at_every_operation() {
    let operations = live(None).0.operations;
    assert!(operations > 15, "{operations}");
    for number in 1..=operations {
        let (disk, possible) = live(Some((number, Fate::PowerCut)));
        for way in WAYS {
            let mut disk = disk.after_power_cut(way);
            let (ledger, damage) = open(&mut disk);
            assert!(possible.contains(&ledger.kept), "cut at {number}, {way:?}: {:#?}", ledger.kept);
            assert!(matches!(damage, None | Some(Damage::Torn { .. })), "cut at {number}: {damage:?}");
            let kept = ledger.kept;
            assert_eq!(open(&mut disk).0.kept, kept, "the repair of cut {number} holds");
        }
    }
}

#[test]
fn an_operation_that_fails_costs_nothing_but_itself() {
    for number in 1..=live(None).0.operations {
        let (disk, possible) = live(Some((number, Fate::Fails)));
        for way in WAYS {
            let kept = open(&mut disk.after_power_cut(way)).0.kept;
            assert!(possible.contains(&kept), "failure at {number}, {way:?}: {kept:#?}");
        }
        if possible.len() == 1 && number > 4 {
            assert_eq!(possible[0].records["web"], record("web", 3), "later writes were taken again");
        }
    }
}

#[test]
fn a_torn_tail_is_cut_and_told() {
    let (mut disk, possible) = live(None);
    disk.append(FILE, &[1, 2, 3]).unwrap();
    let (ledger, damage) = open(&mut disk);
    assert_eq!(damage, Some(Damage::Torn { bytes: 3 }));
    assert_eq!(ledger.kept, possible[0]);
    assert_eq!(open(&mut disk).1, None);
}

#[test]
fn damage_in_the_middle_costs_what_it_hit_and_a_copy_is_kept() {
    let (mut disk, possible) = live(None);
    disk.damage(FILE, MAGIC.len() + 12);
    let (ledger, damage) = open(&mut disk);
    assert!(matches!(damage, Some(Damage::Holes { .. })), "{damage:?}");
    assert_eq!(ledger.kept, possible[0], "a later record of the same workload was behind it");
    assert!(disk.length(ASIDE).is_some());
}

#[test]
fn a_file_of_another_version_is_put_aside_and_the_start_goes_on() {
    let (mut disk, _) = live(None);
    disk.damage(FILE, MAGIC.len() - 1);
    let (ledger, damage) = open(&mut disk);
    assert_eq!(damage, Some(Damage::Foreign));
    assert_eq!(ledger.kept, Kept::default());
    assert!(disk.length(ASIDE).is_some());
    assert_eq!(open(&mut disk).1, None);
}

#[test]
fn the_file_stays_short_however_often_something_is_remembered() {
    let mut disk = Faulty::default();
    let (mut ledger, _) = open(&mut disk);
    let mut longest = 0;
    for run in 0..5000 {
        ledger.remember(&mut disk, &record("web", run)).unwrap();
        longest = longest.max(disk.length(FILE).unwrap());
    }
    assert!(longest < SLACK + 1024, "{longest}");
    assert_eq!(open(&mut disk).0.kept.records["web"], record("web", 4999));
}

/// Failing here means that the bytes changed: raise the digit in `MAGIC`, and say what becomes of files of before.
#[test]
fn the_bytes_of_a_note_stay_what_they_are() {
    let mut bytes = Vec::new();
    push(&mut bytes, &Note::Workload(Box::new(record("web", 300)))).unwrap();
    assert_eq!(
        bytes[8..],
        [0, 3, b'w', b'e', b'b', 172, 2, 1, 7, 128, 1, 232, 7, 1, 0, 1, 9, 0, 0, 1, 2, 0, 0, 0, 0, 0]
    );
    bytes.clear();
    let boot = BootNote {
        id: "b".into(),
        failed_boots: 2,
        settled: true,
        stopped: false,
        came_up: BootReason::PowerOn,
        next: Some(BootReason::Healing),
    };
    push(&mut bytes, &Note::Boot(boot)).unwrap();
    assert_eq!(bytes[8..], [3, 1, b'b', 2, 1, 0, 0, 1, 2]);
}
