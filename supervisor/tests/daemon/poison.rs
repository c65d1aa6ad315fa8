//! What lies at a broker for a box and hurts: it costs no daemon more than a few starts, and no workload any.

use super::fleet::Person;
use super::*;

use hearth_fleet_tests::broker::{self, Broker};
use hearth_fleet_tests::observer::{Heard, Observer};

const DESIRED: &str = "hearth/v1/plant/box/desired";
/// The broker keeps it for whoever comes.
const KEPT: [&str; 3] = ["-q", "1", "-r"];
/// Of one desired state, before it gives way.
const STARTS: usize = 3;

fn site(person: &Person) -> Site {
    let (status, key) = person.fleet(&["keygen", "--no-password", "operate"]);
    assert_eq!(status, 0, "{key}");
    let site = Site::with_fake().workload("web", "service", "serve", "");
    site.member(&person.broker).operated_by(key.lines().next().expect("a key"))
}

fn person(broker: &Broker) -> Person {
    let folder = tempfile::tempdir().expect("a folder");
    Person { folder, broker: format!("unix:{}", broker.socket().display()) }
}

/// Waits for a report with all of these words.
fn reported(observer: &Observer, words: &[&str]) {
    let has = |heard: &Heard| match heard {
        Heard::Message(publish) if publish.topic == "hearth/v1/plant/box/reported" => {
            let text = String::from_utf8_lossy(&publish.payload);
            words.iter().all(|word| text.contains(word))
        }
        _ => false,
    };
    let found = observer.wait(|heard| heard.iter().any(has).then_some(()));
    assert!(found.is_some(), "{words:?} was never reported");
}

#[test]
fn a_desired_state_with_which_the_daemon_ends_gives_way_to_the_one_before_whatever_the_broker_keeps() {
    let Some(program) = broker::program() else { return };
    let broker = Broker::start(program, "").unwrap();
    let person = person(&broker);
    let site = site(&person);
    let mut daemon = site.start();
    daemon.wait_for("hearthd | ready: 1 of 1 workloads");
    let good = r#""extra":{"kind":"service","image":"i","command":["serve"]}"#;
    assert_eq!(person.push(1, good).0, 0);
    daemon.wait_for("hearthd | ready: 2 of 2 workloads");
    // It ends in order, so it lived through that.
    daemon.stop();

    let mut daemon = site.start();
    daemon.wait_for("hearthd | ready: 2 of 2 workloads");
    let bad = r#""bad":{"kind":"service","image":"i","command":["serve"]}"#;
    assert_eq!(person.push(2, bad).0, 0);
    // The test is what ends the daemon; it knows no better than that it was this one.
    daemon.kill();
    for _ in 1..STARTS {
        let mut daemon = site.start();
        daemon.wait_for("hearthd | ready: 2 of 2 workloads");
        daemon.kill();
    }
    let observer = Observer::default();
    observer.attach(&broker.socket()).unwrap();
    let mut daemon = site.start();
    daemon.wait_for(&format!(
        "hearthd | ALARM: fleet: its desired state is not followed: the daemon ended {STARTS} times while it took this in"
    ));
    daemon.wait_for("hearthd | ready: 2 of 2 workloads");
    // It lies at the broker still, and is not taken up again.
    reported(&observer, &[r#""version":1"#, "ended 3 times", r#""extra":"#]);
    assert!(!daemon.said("hearthd | fleet: version 2 of its desired state is followed"));
    daemon.kill();
    let mut daemon = site.start();
    daemon.wait_for("hearthd | ready: 2 of 2 workloads");
    // Another one is another matter.
    let (status, told) = person.push(3, bad);
    assert_eq!((status, told.contains("1 of 1 converged")), (0, true), "{told}");
    daemon.stop();
}

#[test]
fn what_is_too_large_or_nonsense_and_kept_by_the_broker_holds_no_start_up_and_no_workload() {
    let Some(program) = broker::program() else { return };
    let broker = Broker::start(program, "").unwrap();
    let person = person(&broker);
    let site = site(&person);
    let observer = Observer::default();
    observer.attach(&broker.socket()).unwrap();
    broker.publish("hearth/v1/plant/box/cmd/reboot/1", b"{\"signatures\":", &KEPT).unwrap();
    broker.publish("spBv1.0/plant/NCMD/box", &[0xff; 100], &KEPT).unwrap();
    broker.publish(DESIRED, b"\xff\x00 no envelope", &KEPT).unwrap();
    for start in 0..2 {
        let mut daemon = site.start();
        daemon.wait_for("hearthd | ready: 1 of 1 workloads");
        daemon.wait_for(&format!("hearthd | fleet: {} is connected", person.broker));
        reported(&observer, &["expected an envelope", r#""rejected_desired":"#]);
        if start == 0 {
            daemon.kill();
            continue;
        }
        broker.publish(DESIRED, &vec![b'x'; 600 << 10], &KEPT).unwrap();
        daemon.wait_for(&format!(
            "hearthd | ALARM: fleet: {} keeps a message for this box that is too large to take",
            person.broker
        ));
        reported(&observer, &["was larger than it takes", r#""oversized":1"#]);
        daemon.stop();
        assert!(daemon.said("web     | asked to stop"));
    }
}
