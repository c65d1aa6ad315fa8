//! What becomes of figures when a broker dies, a link breaks, or bytes vanish; and of what a broker keeps to hurt.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::collections::BTreeMap;
use std::path::Path;

use hearth_fleet::figures::Snapshot;
use hearth_fleet::shell::Word;
use hearth_fleet::sparkplug::payload::{Payload, Scalar};
use hearth_fleet::sparkplug::session::News;
use hearth_fleet_tests::broker::{self, Broker};
use hearth_fleet_tests::member::{Member, figures, options};
use hearth_fleet_tests::tap::{Said, Tap};
use hearth_fleet_tests::wire::Packet;
use prost::Message;

/// What the figure was, when, and whether it was told as history; only what reached the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Heard {
    value: u64,
    at: u64,
    historical: bool,
}

fn heard(said: &[Said]) -> Vec<Heard> {
    let mut names = BTreeMap::new();
    let mut heard = Vec::new();
    for one in said.iter().filter(|one| one.delivered) {
        let Packet::Publish(publish) = &one.packet else { continue };
        if !publish.topic.contains("/NBIRTH/") && !publish.topic.contains("/NDATA/") {
            continue;
        }
        for metric in Payload::decode(publish.payload.as_slice()).unwrap().metrics {
            if let (Some(name), Some(alias)) = (&metric.name, metric.alias) {
                names.insert(alias, name.clone());
            }
            let name = metric.alias.and_then(|alias| names.get(&alias));
            if let (Some("Workloads/Good"), Some(Scalar::Long(value))) =
                (name.map(String::as_str), metric.value)
            {
                let historical = metric.is_historical == Some(true);
                heard.push(Heard { value, at: metric.timestamp.unwrap(), historical });
            }
        }
    }
    heard
}

fn wait(tap: &Tap, what: &str, found: impl Fn(&[Heard]) -> bool) -> Vec<Heard> {
    let heard_it = tap.wait(|said| Some(heard(said)).filter(|heard| found(heard)));
    heard_it.unwrap_or_else(|| panic!("{what}: {:#?}", heard(&tap.said())))
}

/// Figures with only one that moves.
fn load(value: u64) -> Snapshot {
    figures(0, value)
}

fn member(tap: &Tap, folder: &Path) -> Member {
    Member::start(options("box", &[tap.server()], folder).unwrap()).unwrap()
}

fn has(value: u64) -> impl Fn(&[Heard]) -> bool {
    move |heard| heard.iter().any(|one| one.value == value)
}

#[test]
fn a_broker_that_was_away_is_told_of_all_that_it_missed_in_order_and_behind_the_births() {
    let Some(program) = broker::program() else { return };
    let mut broker = Broker::start(program, "").unwrap();
    let tap = Tap::new(broker.socket()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let member = member(&tap, folder.path());
    member.show(load(1));
    wait(&tap, "the first", has(1));
    broker.kill().unwrap();
    for value in 2..30 {
        member.show(load(value));
    }
    broker.start_again(program).unwrap();
    // The last one is in the birth; all others are history.
    let heard = wait(&tap, "all", |heard| (1..30).all(|value| has(value)(heard)));
    let history: Vec<Heard> = heard.iter().copied().filter(|one| one.historical).collect();
    assert!(history.len() >= 27, "{history:?}");
    assert!(history.iter().map(|one| one.value).is_sorted() && history.iter().map(|one| one.at).is_sorted());
    let birth = heard.iter().rposition(|one| !one.historical).unwrap();
    assert!(heard[birth].value >= 29 && heard[birth + 1..].iter().all(|one| one.historical), "{heard:?}");
    member.stop();
}

#[test]
fn what_vanished_in_a_half_open_link_is_told_again() {
    let Some(program) = broker::program() else { return };
    let broker = Broker::start(program, "").unwrap();
    let tap = Tap::new(broker.socket()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let member = member(&tap, folder.path());
    member.show(load(1));
    wait(&tap, "the first", has(1));
    tap.let_vanish();
    for value in 2..6 {
        member.show(load(value));
    }
    let history = |heard: &[Heard]| -> Vec<u64> {
        heard.iter().filter(|one| one.historical).map(|one| one.value).collect()
    };
    let heard = wait(&tap, "all", |heard| history(heard).contains(&5));
    assert_eq!(history(&heard), [2, 3, 4, 5]);
    member.stop();
}

#[test]
fn a_link_that_flaps_loses_nothing() {
    let Some(program) = broker::program() else { return };
    let broker = Broker::start(program, "").unwrap();
    let tap = Tap::new(broker.socket()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let member = member(&tap, folder.path());
    member.show(load(0));
    wait(&tap, "the first", has(0));
    for value in 1..60 {
        member.show(load(value));
        if value % 7 == 3 {
            wait(&tap, "some", has(value.saturating_sub(3)));
            tap.cut();
        }
    }
    wait(&tap, "all", |heard| (0..60).all(|value| has(value)(heard)));
    member.stop();
}

#[test]
fn the_broker_says_that_a_box_is_dead_whose_link_breaks() {
    let Some(program) = broker::program() else { return };
    let broker = Broker::start(program, "").unwrap();
    let tap = Tap::new(broker.socket()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut listener = broker.listen("spBv1.0/#").unwrap();
    let member = member(&tap, folder.path());
    member.show(load(1));
    let mut next = |topic: &str| {
        let found = listener.find(|line| line.strip_prefix(topic).map(|rest| rest.trim().to_owned()));
        let bytes = found.unwrap();
        let byte = |place: usize| u8::from_str_radix(&bytes[place..place + 2], 16).unwrap();
        Payload::decode((0..bytes.len()).step_by(2).map(byte).collect::<Vec<u8>>().as_slice()).unwrap()
    };
    let birth = next("spBv1.0/plant/NBIRTH/box ");
    tap.cut();
    let death = next("spBv1.0/plant/NDEATH/box ");
    assert_eq!(death.metrics.len(), 1);
    assert_eq!(death.metrics[0].value, birth.metrics[0].value);
    member.stop();
}

#[test]
fn a_message_that_the_broker_keeps_and_that_is_too_large_to_take_cuts_the_box_off_once() {
    let Some(program) = broker::program() else { return };
    let broker = Broker::start(program, "").unwrap();
    let tap = Tap::new(broker.socket()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let large = vec![b'x'; 600 << 10];
    broker.publish("hearth/v1/plant/box/desired", &large, &["-q", "1", "-r"]).unwrap();
    let member = member(&tap, folder.path());
    member.show(load(1));
    let subscriptions = |said: &[Said]| {
        let filters = said.iter().filter_map(|one| match &one.packet {
            Packet::Subscribe(filters) => Some(filters.len()),
            _ => None,
        });
        Some(filters.collect::<Vec<_>>()).filter(|found| found.len() == 2)
    };
    assert_eq!(tap.wait(subscriptions), Some(vec![4, 2]));
    member.show(load(2));
    wait(&tap, "the second", has(2));
    let words = member.words.lock().unwrap().clone();
    assert!(words.contains(&Word::Session(News::Poisoned { server: 0 })), "{words:?}");
    member.stop();
}

#[test]
fn a_server_that_is_not_there_is_passed_over() {
    let Some(program) = broker::program() else { return };
    let broker = Broker::start(program, "").unwrap();
    let tap = Tap::new(broker.socket()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let nobody = format!("unix:{}", folder.path().join("nobody").display());
    let options = options("box", &[nobody, tap.server()], folder.path()).unwrap();
    let member = Member::start(options).unwrap();
    member.show(load(1));
    wait(&tap, "the first", has(1));
    // No CONNECT had left for the one that is not there.
    assert_eq!(
        std::fs::read_to_string(folder.path().join("session")).unwrap().lines().next(),
        Some("bd_seq 1")
    );
    member.stop();
}
