//! The models: what their drivers do, and what no driver would.

use proptest::prelude::*;

use super::ib700::{Ib700, timeout};
use super::sp805::Sp805;
use super::wdat::{self, Wdat};
use super::*;

const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

const fn us(micros: u64) -> Duration {
    Duration::from_micros(micros)
}

fn word_of(model: &impl Watchdog, now: Duration, offset: u64) -> u32 {
    let mut data = [0xff; 4];
    model.read(now, offset, &mut data);
    u32::from_le_bytes(data)
}

#[test]
fn ib700_has_the_times_of_its_table() {
    let table: Vec<_> = (0..16).map(|value| timeout(value).as_secs()).collect();
    assert_eq!(table, [30, 28, 26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0]);
}

#[test]
fn ib700_starts_is_petted_and_stops() {
    let mut model = Ib700::default();
    assert_eq!(model.deadline(), None);
    model.write(s(5), 2, &[0xa]);
    assert_eq!(model.deadline(), Some(s(15)));
    model.write(s(9), 2, &[0xe]);
    assert_eq!(model.deadline(), Some(s(11)));
    model.write(s(10), 1, &[0]);
    assert_eq!(model.deadline(), Some(s(11)), "the port between the two");
    model.write(s(10), 0, &[0]);
    assert_eq!(model.deadline(), None);
    model.write(s(20), 2, &[0xf, 0]);
    assert_eq!(model.deadline(), Some(s(20)), "16 bits at once, as the board's manual has it");
}

#[test]
fn wdat_counts_from_what_was_written_last() {
    let mut model = Wdat::default();
    model.write(s(0), wdat::COUNT.into(), &20u16.to_le_bytes());
    model.write(s(1), wdat::PET.into(), &[1]);
    assert_eq!(model.deadline(), None, "a pet does not start it");
    model.write(s(1), wdat::RUNNING.into(), &[1]);
    assert_eq!(model.deadline(), Some(s(3)));
    let mut left = [0; 2];
    model.read(us(1_950_000), wdat::LEFT.into(), &mut left);
    assert_eq!(u16::from_le_bytes(left), 11, "a period that has begun is left");
    model.write(s(2), wdat::COUNT.into(), &50u16.to_le_bytes());
    assert_eq!(model.deadline(), Some(s(3)), "for the next pet");
    model.write(s(2), wdat::PET.into(), &[0]);
    assert_eq!(model.deadline(), Some(s(7)));
    let mut running = [0];
    model.read(s(2), wdat::RUNNING.into(), &mut running);
    assert_eq!(running, [1]);
    model.write(s(3), wdat::RUNNING.into(), &[0]);
    assert_eq!(model.deadline(), None);
    model.read(s(3), wdat::RUNNING.into(), &mut running);
    assert_eq!(running, [0]);
}

/// SP805 as Linux programs it.
struct Driver(Sp805);

const LOAD: u64 = 0;
const VALUE: u64 = 4;
const CONTROL: u64 = 8;
const INTCLR: u64 = 0xc;
const RIS: u64 = 0x10;
const LOCK: u64 = 0xc00;
const KEY: u32 = 0x1acc_e551;

impl Driver {
    fn write(&mut self, now: Duration, offset: u64, value: u32) {
        self.0.write(now, offset, &value.to_le_bytes());
    }

    fn pet(&mut self, now: Duration, load: u32) {
        for (offset, value) in [(LOCK, KEY), (LOAD, load), (INTCLR, 1), (LOCK, 1)] {
            self.write(now, offset, value);
        }
    }

    fn start(&mut self, now: Duration, load: u32) {
        for (offset, value) in [(LOCK, KEY), (LOAD, load), (INTCLR, 1), (CONTROL, 3), (LOCK, 1)] {
            self.write(now, offset, value);
        }
    }
}

#[test]
fn sp805_bites_after_two_counts_and_tells_which_one_it_is_in() {
    let mut driver = Driver(Sp805::default());
    driver.start(s(10), 999_999);
    assert_eq!(driver.0.deadline(), Some(s(12)));
    assert_eq!(word_of(&driver.0, us(10_400_000), VALUE), 599_999);
    assert_eq!(word_of(&driver.0, us(10_999_999), RIS), 0);
    assert_eq!(word_of(&driver.0, s(11), RIS), 1);
    assert_eq!(word_of(&driver.0, us(11_400_000), VALUE), 599_999);
    driver.pet(us(11_500_000), 999_999);
    assert_eq!(driver.0.deadline(), Some(us(13_500_000)));
    assert_eq!(word_of(&driver.0, us(11_500_000), RIS), 0);
}

#[test]
fn sp805_with_its_interrupt_left_standing_bites_after_one_more_count() {
    let mut driver = Driver(Sp805::default());
    driver.start(s(0), 999_999);
    driver.write(us(1_500_000), LOCK, KEY);
    driver.write(us(1_500_000), LOAD, 1_999_999);
    assert_eq!(driver.0.deadline(), Some(us(3_500_000)));
}

#[test]
fn sp805_without_its_reset_goes_round_and_bites_at_the_next_zero_once_it_has_it() {
    let mut driver = Driver(Sp805::default());
    driver.write(s(0), LOAD, 999_999);
    driver.write(s(0), CONTROL, 1);
    assert_eq!(driver.0.deadline(), None);
    driver.write(us(7_250_000), CONTROL, 3);
    assert_eq!(driver.0.deadline(), Some(s(8)));
    driver.write(us(7_250_000), CONTROL, 0);
    assert_eq!(driver.0.deadline(), None);
    assert_eq!(word_of(&driver.0, s(100), VALUE), 749_999, "it stands where it was stopped");
}

#[test]
fn sp805_is_locked_until_the_key_is_written() {
    let mut driver = Driver(Sp805::default());
    driver.start(s(0), 4_999_999);
    driver.write(s(1), CONTROL, 0);
    assert_eq!(driver.0.deadline(), Some(s(10)), "locked");
    assert_eq!(word_of(&driver.0, s(1), LOCK), 1);
    driver.write(s(1), LOCK, KEY);
    assert_eq!(word_of(&driver.0, s(1), LOCK), 0);
    driver.write(s(1), CONTROL, 0);
    assert_eq!(driver.0.deadline(), None);
}

#[test]
fn sp805_is_recognised_and_takes_whole_words_only() {
    let mut model = Sp805::default();
    assert_eq!([0xfe0, 0xfe4, 0xfe8, 0xfec].map(|offset| word_of(&model, s(0), offset)), [5, 0x18, 0x14, 0]);
    model.write(s(0), CONTROL, &[3]);
    model.write(s(0), CONTROL, &[3, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(model.deadline(), None);
}

/// Any accesses at any times; what a model shows in between must hold together.
fn torment(model: &mut impl Watchdog, accesses: &[(u32, u64, Vec<u8>, bool)]) -> Result<(), TestCaseError> {
    let mut now = Duration::ZERO;
    for (wait, offset, data, write) in accesses {
        now += us((*wait).into());
        if *write {
            model.write(now, *offset, data);
        } else {
            model.read(now, *offset, &mut data.clone());
        }
        if let Some(deadline) = model.deadline() {
            // Set by this write or passed meanwhile; never beyond the longest time there is.
            prop_assert!(deadline <= now + s(2 * 4295), "{deadline:?} at {now:?}");
        }
    }
    Ok(())
}

fn accesses() -> impl Strategy<Value = Vec<(u32, u64, Vec<u8>, bool)>> {
    let offset = prop_oneof![0u64..8, (0u64..8).prop_map(|word| word * 4), Just(LOCK), any::<u64>()];
    let word = prop_oneof![Just(KEY), 0u32..4, any::<u32>()].prop_map(|word| word.to_le_bytes().to_vec());
    let data = prop_oneof![word, proptest::collection::vec(any::<u8>(), 0..9)];
    proptest::collection::vec((any::<u32>(), offset, data, any::<bool>()), 0..40)
}

proptest! {
    #[test]
    fn no_sequence_of_accesses_breaks_a_model(accesses in accesses()) {
        torment(&mut Ib700::default(), &accesses)?;
        torment(&mut Wdat::default(), &accesses)?;
        torment(&mut Sp805::default(), &accesses)?;
    }

    #[test]
    fn ib700_bites_exactly_when_the_table_says(writes in proptest::collection::vec((0u64..60, 0u8..17), 1..20)) {
        let (mut model, mut now) = (Ib700::default(), Duration::ZERO);
        for (wait, value) in writes {
            now += s(wait);
            // One more than the values there are: stop.
            let stops = value == 16;
            model.write(now, if stops { 0 } else { 2 }, &[value]);
            let expected = (!stops).then(|| now + s(30 - 2 * u64::from(value)));
            prop_assert_eq!(model.deadline(), expected);
        }
    }

    #[test]
    fn a_driver_of_sp805_gets_the_timeout_it_asked_for(
        timeout in 1u32..4000,
        pets in proptest::collection::vec(0u64..4000, 0..10),
    ) {
        // As Linux computes it.
        let load = u32::try_from(u64::from(super::sp805::CLOCK_HZ / 2) * u64::from(timeout) - 1).unwrap();
        let (mut driver, mut now) = (Driver(Sp805::default()), Duration::ZERO);
        driver.start(now, load);
        for pet in pets {
            now += s(pet % u64::from(timeout));
            driver.pet(now, load);
            prop_assert_eq!(driver.0.deadline(), Some(now + s(timeout.into())));
        }
    }
}
