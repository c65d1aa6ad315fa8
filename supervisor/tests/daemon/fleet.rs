//! A box that is a member of a fleet, seen from a broker.

use super::*;

use hearth_fleet_tests::broker::{self, Broker};
use hearth_fleet_tests::tap::{Said, Tap};
use hearth_fleet_tests::wire::Packet;

impl Site {
    fn member(self, server: &str) -> Site {
        let text = fs::read_to_string(self.config()).expect("the file");
        let fleet =
            format!("[fleet]\nservers = [{server:?}]\ngroup = \"plant\"\nnode = \"box\"\nperiod_s = 1\n");
        fs::write(self.config(), text + &fleet).expect("a file");
        self
    }
}

/// Whether the box published on one of these topics something with these words in it.
fn told(said: &[Said], topics: &[&str], words: &[&str]) -> bool {
    said.iter().any(|one| match &one.packet {
        Packet::Publish(publish) if topics.contains(&publish.topic.as_str()) => words
            .iter()
            .all(|word| publish.payload.windows(word.len()).any(|window| window == word.as_bytes())),
        _ => false,
    })
}

#[test]
fn a_member_of_a_fleet_tells_of_its_workloads_and_says_when_it_goes() {
    let Some(program) = broker::program() else { return };
    let broker = Broker::start(program, "").unwrap();
    let tap = Tap::new(broker.socket()).unwrap();
    let site = Site::with_fake().workload("web", "service", "serve", "replicas = 2").member(&tap.server());
    let mut daemon = site.start();
    daemon.wait_for("hearthd | ready: 1 of 1 workloads");
    daemon.wait_for(&format!("hearthd | fleet: {} is connected", tap.server()));
    let wait = |topics: &[&str], words: &[&str]| {
        let found = tap.wait(|said| told(said, topics, words).then_some(()));
        assert!(found.is_some(), "{topics:?} {words:?}: {:#?}", tap.said());
    };
    wait(
        &["spBv1.0/plant/NBIRTH/box"],
        &["bdSeq", "Workloads/web/State", "Host/Memory available", "Outbox/Depth"],
    );
    wait(&["spBv1.0/plant/DBIRTH/box/web"], &["State", "Memory"]);
    // It may be born while it starts, and say later that it is ready.
    wait(&["spBv1.0/plant/DBIRTH/box/web", "spBv1.0/plant/DDATA/box/web"], &["ready"]);
    wait(&["spBv1.0/plant/DBIRTH/box/web.1"], &[]);
    // A box that is killed is dead to hosts by its Will, and comes back with the next bdSeq.
    daemon.kill();
    let mut daemon = site.start();
    daemon.wait_for("hearthd | 2 running machines taken over");
    daemon.wait_for(&format!("hearthd | fleet: {} is connected", tap.server()));
    daemon.stop();
    // It is on its way through the tap yet.
    tap.wait(|said| said.iter().any(|one| one.packet == Packet::Disconnect).then_some(()));
    let said = tap.said();
    assert_eq!(said.last().map(|one| &one.packet), Some(&Packet::Disconnect));
    assert!(told(&said, &["spBv1.0/plant/NDEATH/box"], &["bdSeq"]));
    assert_eq!(said.last().map(|one| one.connection), Some(1));
}

#[test]
fn a_broker_that_is_not_there_holds_nothing_up() {
    let folder = tempfile::tempdir().unwrap();
    let server = format!("unix:{}", folder.path().join("nobody").display());
    let site = Site::with_fake().workload("web", "service", "serve", "").member(&server);
    let mut daemon = site.start();
    daemon.wait_for("hearthd | ready: 1 of 1 workloads");
    daemon.wait_for(&format!(
        "hearthd | fleet: {server} cannot be reached, and is tried on: No such file or directory (os error 2)"
    ));
    daemon.stop();
    assert!(daemon.said("web     | asked to stop"));
}
