//! What becomes of figures when a broker dies, a link breaks, bytes vanish or come late; and of what a broker keeps to
//! hurt. Whatever happens, it comes to this: every figure arrives, one that comes twice says the same of itself, and the
//! box is never out of order (`scene`).

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

mod network;
mod scene;

use hearth_fleet::shell::Word;
use hearth_fleet::sparkplug::session::News;
use hearth_fleet_tests::broker;
use hearth_fleet_tests::observer::Heard;
use hearth_fleet_tests::tap::{Said, Tap, Way};
use hearth_fleet_tests::wire::Packet;
use std::time::Duration;

use self::scene::{How, Scene, has, tapped, tapped_with, times};

/// For as long as a test lasts nobody gives up for want of an answer.
const LONG: Duration = Duration::from_secs(600);

#[test]
fn a_broker_that_was_away_is_told_of_all_that_it_missed_in_order_and_behind_the_births() {
    let Some(program) = broker::program() else { return };
    let (mut scene, tap) = tapped(program);
    tap.shut();
    scene.broker.kill().unwrap();
    scene.tell(30);
    scene.start_broker_again();
    tap.open();
    let told = scene.all_arrive();
    // The last one is in the birth; all others are history.
    let birth = told.iter().rposition(|one| one.how == How::Birth).unwrap();
    assert!(told[birth].value >= scene.last() - 1, "{told:?}");
    let history: Vec<u64> =
        told[birth + 1..].iter().filter(|one| one.how == How::History).map(|one| one.value).collect();
    assert!(history.len() >= 28, "{history:?}");
    scene.end();
}

#[test]
fn what_vanished_in_a_half_open_link_is_told_again() {
    let Some(program) = broker::program() else { return };
    let (mut scene, tap) = tapped(program);
    tap.let_vanish(&[Way::ToBroker, Way::ToBox]);
    scene.tell(4);
    scene.wait("history", |told| times(told, 4) == 1);
    let told = scene.all_arrive();
    let history = told.iter().filter(|one| one.how == How::History).map(|one| one.value);
    assert_eq!(history.collect::<Vec<_>>(), [1, 2, 3, 4]);
    // The broker never heard of the end of the old connection, and closes it for the new one.
    assert_eq!(tap.connections(), 2);
    scene.end();
}

#[test]
fn what_arrived_and_was_not_confirmed_comes_twice_and_says_the_same_of_itself() {
    let Some(program) = broker::program() else { return };
    let (mut scene, tap) = tapped(program);
    tap.let_vanish(&[Way::ToBox]);
    scene.tell(3);
    let told = scene.wait("twice", |told| (1..4).all(|value| times(told, value) == 2));
    scene.all_arrive();
    for value in 1..4 {
        let how: Vec<How> = told.iter().filter(|one| one.value == value).map(|one| one.how).collect();
        assert_eq!(
            how.iter().filter(|how| **how != How::Birth).collect::<Vec<_>>(),
            [&How::Live, &How::History]
        );
    }
    scene.end();
}

#[test]
fn a_link_that_is_slow_delays_figures_and_repeats_none() {
    let Some(program) = broker::program() else { return };
    let (mut scene, tap) = tapped_with(program, |options| options.keep_alive = LONG);
    for way in [Way::ToBroker, Way::ToBox] {
        for _ in 0..5 {
            let before = scene.last();
            tap.hold(way);
            scene.tell(3);
            let data = |said: &[Said]| said.iter().filter(|one| is_data(one)).count() as u64 > before + 2;
            assert!(tap.wait(|said| data(said).then_some(())).is_some());
            tap.release();
            scene.wait("all of it", |told| has(told, before + 3));
        }
    }
    let told = scene.all_arrive();
    assert!(told.iter().skip(1).all(|one| one.how == How::Live), "{told:?}");
    assert_eq!((told.len() as u64, tap.connections()), (scene.last() + 1, 1));
    scene.end();
}

fn is_data(said: &Said) -> bool {
    matches!(&said.packet, Packet::Publish(publish) if publish.topic.contains("/NDATA/"))
}

#[test]
fn a_link_that_flaps_loses_nothing() {
    let Some(program) = broker::program() else { return };
    let (mut scene, tap) = tapped(program);
    for _ in 0..8 {
        scene.tell(7);
        let some = scene.last() - 3;
        scene.wait("some", |told| has(told, some));
        tap.cut();
    }
    scene.all_arrive();
    scene.end();
}

#[test]
fn a_box_that_begins_again_without_a_link_tells_of_the_time_before_that() {
    let Some(program) = broker::program() else { return };
    let (mut scene, tap) = tapped(program);
    tap.shut();
    tap.cut();
    for _ in 0..3 {
        scene.tell(5);
        scene.restart();
    }
    scene.tell(5);
    tap.open();
    let told = scene.all_arrive();
    assert!(told.iter().filter(|one| one.how == How::History).count() >= 18, "{told:?}");
    scene.end();
}

/// Good enough to choose troubles.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

fn trouble(scene: &mut Scene, tap: &Tap, dice: &mut Dice) {
    match dice.roll(7) {
        0 => {
            tap.shut();
            scene.broker.kill().unwrap();
            scene.tell(dice.roll(5));
            scene.start_broker_again();
            tap.open();
        }
        1 => tap.cut(),
        2 => tap.let_vanish(&[Way::ToBroker, Way::ToBox]),
        3 => tap.let_vanish(&[Way::ToBox]),
        4 => tap.hold(if dice.roll(2) == 0 { Way::ToBroker } else { Way::ToBox }),
        5 => tap.release(),
        _ => scene.restart(),
    }
}

#[test]
fn any_troubles_in_any_order_lose_nothing() {
    let Some(program) = broker::program() else { return };
    for seed in 0..3 {
        let (mut scene, tap) = tapped(program);
        let mut dice = Dice(seed);
        for _ in 0..20 {
            scene.tell(dice.roll(6));
            trouble(&mut scene, &tap, &mut dice);
            // Sometimes it is over soon, sometimes the next one comes on top.
            if dice.roll(3) > 0 {
                scene.tell(1);
                let last = scene.last();
                tap.release();
                scene.wait("the last", |told| has(told, last));
            }
        }
        tap.release();
        scene.all_arrive();
        scene.end();
    }
}

#[test]
fn the_broker_says_that_a_box_is_dead_whose_link_breaks() {
    let Some(program) = broker::program() else { return };
    let (scene, tap) = tapped(program);
    tap.shut();
    tap.cut();
    assert!(scene.observer.wait(|heard| heard.iter().any(is_death).then_some(())).is_some());
    scene.end();
}

fn is_death(heard: &Heard) -> bool {
    matches!(heard, Heard::Message(publish) if publish.topic == "spBv1.0/plant/NDEATH/box")
}

#[test]
fn a_message_that_the_broker_keeps_and_that_is_too_large_to_take_cuts_the_box_off_once() {
    let Some(program) = broker::program() else { return };
    let (mut scene, tap) = tapped(program);
    let large = vec![b'x'; 600 << 10];
    scene.broker.publish("hearth/v1/plant/box/desired", &large, &["-q", "1", "-r"]).unwrap();
    let subscriptions = |said: &[Said]| {
        let filters = said.iter().filter_map(|one| match &one.packet {
            Packet::Subscribe(filters) => Some(filters.len()),
            _ => None,
        });
        Some(filters.collect::<Vec<_>>()).filter(|found| found.len() == 2)
    };
    assert_eq!(tap.wait(subscriptions), Some(vec![5, 2]));
    scene.tell(1);
    scene.all_arrive();
    let told = scene.observer.wait(|heard| {
        let reports = |heard: &Heard| {
            matches!(heard, Heard::Message(publish) if publish.topic.ends_with("/reported")
            && String::from_utf8_lossy(&publish.payload).contains("was larger than it takes"))
        };
        heard.iter().any(reports).then_some(())
    });
    assert!(told.is_some());
    assert!(scene.words().contains(&Word::Session(News::Poisoned { server: 0 })), "{:?}", scene.words());
    scene.end();
}

#[test]
fn a_server_that_is_not_there_is_passed_over() {
    let Some(program) = broker::program() else { return };
    let (scene, _tap) = tapped_with(program, |options| {
        let nobody = format!("unix:{}", options.folder.join("nobody").display());
        options.servers.insert(0, nobody.parse().unwrap());
        options.session.servers = 2;
    });
    // No CONNECT had left for the one that is not there.
    let memo = std::fs::read_to_string(scene.folder().join("session")).unwrap();
    assert_eq!(memo.lines().next(), Some("bd_seq 1"));
    scene.end();
}
