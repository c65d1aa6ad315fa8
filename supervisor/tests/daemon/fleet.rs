//! A box that is a member of a fleet, seen from a broker.

use super::*;

use hearth_fleet_tests::broker::{self, Broker};
use hearth_fleet_tests::tap::{Said, Tap};
use hearth_fleet_tests::wire::Packet;

impl Site {
    pub(super) fn member(self, server: &str) -> Site {
        let text = fs::read_to_string(self.config()).expect("the file");
        let outbox = self.folder.path().join("outbox");
        let fleet = format!(
            "[fleet]\nservers = [{server:?}]\ngroup = \"plant\"\nnode = \"box\"\nperiod_s = 1\n\
             [fleet.outbox]\nfolder = {outbox:?}\nfree_mib = 0\n"
        );
        fs::write(self.config(), text + &fleet).expect("a file");
        self
    }

    /// Whoever has that key may do the daily work.
    pub(super) fn operated_by(self, key: &str) -> Site {
        let text = fs::read_to_string(self.config()).expect("the file");
        let trust = format!("[fleet.trust]\noperate = [{key:?}]\n");
        fs::write(self.config(), text + &trust).expect("a file");
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

/// A person at another machine.
pub(super) struct Person {
    pub(super) folder: tempfile::TempDir,
    pub(super) broker: String,
}

impl Person {
    /// Status, and what was printed.
    pub(super) fn fleet(&self, words: &[&str]) -> (i32, String) {
        let output = Command::new(env!("CARGO_BIN_EXE_hearthctl"))
            .current_dir(self.folder.path())
            .env("HEARTH_BROKER", &self.broker)
            .arg("fleet")
            .args(words)
            .output()
            .expect("hearthctl");
        let text = [output.stdout, output.stderr].concat();
        (output.status.code().expect("an end of its own"), String::from_utf8(text).expect("text"))
    }

    pub(super) fn push(&self, version: u32, workloads: &str) -> (i32, String) {
        let text = format!(
            r#"{{"hearth":"desired","for":["plant/*"],"version":{version},"workloads":{{{workloads}}}}}"#
        );
        fs::write(self.folder.path().join("desired.json"), text).expect("a file");
        let words = ["push", "--group", "plant", "--key", "operate.key", "--to", "box", "--wait", "60"];
        self.fleet(&[&words[..], &["desired.json"]].concat())
    }

    fn run(&self, key: &str, workload: &str) -> (i32, String) {
        let words =
            ["run", "--group", "plant", "--key", key, "restart-workload", "box", "--workload", workload];
        self.fleet(&words)
    }
}

#[test]
fn a_fleet_adds_a_workload_and_restarts_it_and_the_box_keeps_to_it_without_a_network() {
    let Some(program) = broker::program() else { return };
    let broker = Broker::start(program, "").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let person = Person { folder, broker: format!("unix:{}", broker.socket().display()) };
    let (status, key) = person.fleet(&["keygen", "--no-password", "operate"]);
    assert_eq!(status, 0, "{key}");
    assert_eq!(person.fleet(&["keygen", "--no-password", "stranger"]).0, 0);
    let site = Site::with_fake().workload("web", "service", "serve", "");
    let site = site.member(&person.broker).operated_by(key.lines().next().unwrap());
    let mut daemon = site.start();
    daemon.wait_for("hearthd | ready: 1 of 1 workloads");

    let extra = r#""extra":{"kind":"service","image":"i","command":["serve"]}"#;
    let (status, told) = person.push(1, extra);
    assert_eq!((status, told.contains("1 of 1 converged")), (0, true), "{told}");
    daemon.wait_for("hearthd | fleet: version 1 of its desired state is followed");
    daemon.wait_for("hearthd | ready: 2 of 2 workloads");
    let (_, list) = person.fleet(&["list", "--group", "plant"]);
    let row: Vec<_> = list.lines().nth(1).unwrap_or_default().split_whitespace().collect();
    assert_eq!(row, ["box", "1", "1", "converged"], "{list}");

    assert_eq!(person.run("operate.key", "extra"), (0, "box: successful\n".to_owned()));
    daemon.wait_for("hearthd | ready: 2 of 2 workloads");
    assert_eq!(person.run("operate.key", "nope"), (1, "box: failed: there is no workload nope\n".to_owned()));
    let refused = "box: rejected: expected 1 signatures by keys of operate, found 0\n";
    assert_eq!(person.run("stranger.key", "extra"), (1, refused.to_owned()));

    let (status, told) = person.push(2, r#""extra":{"kind":"service"}"#);
    assert_eq!(status, 1);
    assert!(told.contains("box: Rejected: desired/extra:1:1: image: missing"), "{told}");
    let (_, stale) = person.push(1, r#""extra":null"#);
    assert!(stale.contains("version 1 was accepted before, and said something else"), "{stale}");

    // What does not work is taken back by the box, and that is not what was wanted.
    let bad = r#""extra":{"kind":"service","image":"i","command":["crash","12"],"rollout":{"window_s":1}}"#;
    let (status, told) = person.push(3, bad);
    assert_eq!((status, told.contains("box: Failed: extra ")), (1, true), "{told}");
    assert!(told.contains("failed and was taken back, "), "{told}");
    let (_, list) = person.fleet(&["list", "--group", "plant", "--diff"]);
    assert!(list.contains(" failed "), "{list}");
    assert!(person.push(4, extra).1.contains("1 of 1 converged"));

    drop(broker);
    daemon.stop();
    let mut daemon = site.start();
    daemon.wait_for("hearthd | ready: 2 of 2 workloads");
    daemon.stop();
}
