//! Journals that are full, broken and torn, each replayed.

use super::*;
use hearth_core::{
    Boot, Build, Config, DeviceRecord, Found, Kind, Needs, Run, Said, Slot, Spec, Version, VmEnd, WorkloadId,
};
use hearth_disk::faulty::{Fate, Faulty, Unsynced};

const SEED: u64 = 42;

/// A box whose one service crashes again and again.
fn story(length: u32) -> Vec<Entry> {
    let build = Build { version: Version(1), needs: Needs::default() };
    let spec = Spec::new("web", Kind::Service { replicas: 1 }, build);
    let config = Config { workloads: vec![spec], ..Config::default() };
    let opening = [
        Event::Begin { boot: Boot::default(), device: DeviceRecord::default(), records: Vec::new() },
        Event::Configured(Box::new(config)),
        Event::Surveyed,
    ];
    let replica = WorkloadId::from_number(0).replica(Slot::FIRST);
    let crashes = (1..=length).flat_map(|run| {
        let vm = replica.run(Run(run));
        [Event::Vm { vm, said: Said::Ended(VmEnd::Panicked) }, Event::Tick]
    });
    let events = opening.into_iter().chain(crashes);
    (0..)
        .map(|second| Moment::from_millis(second * 10_000))
        .zip(events)
        .map(|(at, event)| Entry { at, event })
        .collect()
}

/// Lives through the story and gives the disk, and the state at the end.
fn live(mut disk: Faulty, most: usize, story: &[Entry]) -> (Faulty, State) {
    let (mut journal, _) = Journal::begin(&mut disk, SEED, most);
    let mut state = State::new(SEED);
    for Entry { at, event } in story {
        let _ = journal.note(&mut disk, *at, event, &state);
        let _ = state.step(*at, event.clone());
    }
    (disk, state)
}

fn tape(disk: &mut Faulty, file: &str) -> Result<Tape, TapeError> {
    Tape::read(&disk.read(file).expect("the disk works").expect("the file is there"))
}

fn replayed(tape: &Tape) -> State {
    let mut state = tape.start();
    for Entry { at, event } in &tape.entries {
        let _ = state.step(*at, event.clone());
    }
    state
}

#[test]
fn a_journal_gives_the_state_to_the_last_bit() {
    let story = story(20);
    let (mut disk, state) = live(Faulty::default(), 1 << 20, &story);
    let tape = tape(&mut disk, FILES[0]).unwrap();
    assert_eq!((tape.entries.as_slice(), tape.torn), (story.as_slice(), 0));
    assert_eq!(replayed(&tape), state);
}

#[test]
fn full_files_are_followed_by_one_that_begins_with_the_state_and_the_oldest_goes() {
    let most = 4 * 256;
    let (mut disk, state) = live(Faulty::default(), most, &story(300));
    assert_eq!(replayed(&tape(&mut disk, FILES[0]).unwrap()), state);
    for pair in FILES.windows(2) {
        let (newer, older) = (tape(&mut disk, pair[0]).unwrap(), tape(&mut disk, pair[1]).unwrap());
        assert_eq!(newer.start(), replayed(&older), "{} follows {}", pair[0], pair[1]);
    }
}

#[test]
fn a_journal_that_broke_goes_on_without_a_gap_later() {
    for number in 1..60 {
        let disk = Faulty::with_fate(number, Fate::Fails);
        let (mut disk, state) = live(disk, 4 * 256, &story(40));
        assert_eq!(replayed(&tape(&mut disk, FILES[0]).unwrap()), state, "failure at {number}");
    }
}

#[test]
fn a_torn_end_costs_the_entries_that_are_torn_and_nothing_before() {
    let story = story(20);
    let (mut disk, _) = live(Faulty::default(), 1 << 20, &story);
    disk.append(FILES[0], &[7; 5]).unwrap();
    let mut disk = disk.after_power_cut(Unsynced::Kept);
    let tape = tape(&mut disk, FILES[0]).unwrap();
    assert_eq!((tape.entries.len(), tape.torn), (story.len(), 5));
}

#[test]
fn what_is_no_journal_is_said_to_be_none() {
    assert_eq!(Tape::read(b"something else"), Err(TapeError::Foreign));
    assert_eq!(Tape::read(MAGIC), Err(TapeError::Headless));
}

#[test]
fn an_entry_by_reference_has_the_bytes_of_an_entry() {
    let entry = Entry { at: Moment::from_millis(300), event: Event::Tick };
    let by_reference = EntryOf { at: entry.at, event: &entry.event };
    assert_eq!(postcard::to_allocvec(&entry), postcard::to_allocvec(&by_reference));
}

/// Failing here means that the bytes changed: raise the digit in `MAGIC`, or machines and journals of before are
/// misread.
#[test]
fn the_bytes_of_an_event_stay_what_they_are() {
    let vm = WorkloadId::from_number(1).replica(Slot(2)).run(Run(300));
    let bytes = |event| {
        let entry = Entry { at: Moment::from_millis(300), event };
        postcard::to_allocvec(&entry).expect("it fits")
    };
    assert_eq!(bytes(Event::Tick), [172, 2, 0]);
    assert_eq!(bytes(Event::Vm { vm, said: Said::Heartbeat }), [172, 2, 5, 1, 2, 172, 2, 3]);
    assert_eq!(bytes(Event::Vm { vm, said: Said::WorkloadStarted }), [172, 2, 5, 1, 2, 172, 2, 2]);
    assert_eq!(bytes(Event::StopNow), [172, 2, 12]);
    let build = Build { version: Version(7), needs: Needs { memory_mib: 128, cpu_milli: 1000 } };
    let found = Found { name: "web".to_owned(), slot: Slot(2), run: Run(300), build };
    let found = bytes(Event::Found(Box::new(found)));
    assert_eq!(found, [172, 2, 3, 3, b'w', b'e', b'b', 2, 172, 2, 7, 128, 1, 232, 7]);
}
