//! What workloads tell a fleet: clients that are not ours at the host's end of a guest's pipe, and a broker that is not
//! ours either.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use super::door::told;
use super::*;

use hearth_fleet_tests::broker::{self, Broker, Listener};

impl Site {
    /// Where a replica's agent leads its clients.
    fn pipe(&self, replica: &str) -> PathBuf {
        self.state().join("vm").join(replica).join("vsock.sock_1027")
    }

    /// As a program in the guest would.
    fn listen(&self, replica: &str, filter: &str) -> Listener {
        Listener::start(&["--unix".into(), self.pipe(replica).into()], filter).expect("mosquitto_sub")
    }

    /// Likewise. Says how it ended.
    fn publish(&self, replica: &str, topic: &str, qos: &str, lines: &str) -> i32 {
        let mut child = Command::new("mosquitto_pub")
            .arg("--unix")
            .arg(self.pipe(replica))
            .args(["-t", topic, "-q", qos, "-l"])
            .stdin(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("mosquitto_pub");
        // One that is not let in reads nothing.
        let _ = child.stdin.take().expect("a pipe").write_all(lines.as_bytes());
        child.wait().expect("an end").code().expect("an end of its own")
    }
}

fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads on until a message is this one.
fn hears(listener: &mut Listener, topic: &str, payload: &str) {
    let wanted = format!("{topic} {}", hex(payload));
    assert!(listener.find(|line| (line == wanted).then_some(())).is_some(), "{wanted}");
}

#[test]
fn a_workload_tells_the_fleet_and_hears_its_own_commands_in_every_replica() {
    let Some(program) = broker::program() else { return };
    let broker = Broker::start(program, "").unwrap();
    let server = format!("unix:{}", broker.socket().display());
    let site = Site::with_fake()
        .workload("other", "service", "serve", "[telemetry]")
        .workload("silent", "service", "serve", "")
        .workload("web", "service", "serve", "replicas = 2\n[telemetry]\ntopics = [\"t/#\"]")
        .member(&server);
    let mut fleet = broker.listen("hearth/v1/plant/box/workload/#").unwrap();
    let mut daemon = site.start();
    daemon.wait_for("hearthd | ready: 3 of 3 workloads");
    daemon.wait_for_if_unseen(&format!("hearthd | fleet: {server} is connected"));
    assert!(site.machine("web").boot.cmdline.contains(" hearth.mqtt=1883 -- "));
    assert!(!site.machine("silent").boot.cmdline.contains("hearth.mqtt") && !site.pipe("silent").exists());

    assert_eq!(site.publish("web", "t/1", "1", "21.5\n"), 0);
    hears(&mut fleet, "hearth/v1/plant/box/workload/web/t/1", "21.5");
    assert_eq!(site.publish("web.1", "t/2", "0", "22.5\n"), 0);
    hears(&mut fleet, "hearth/v1/plant/box/workload/web/t/2", "22.5");
    // What may not be said is acknowledged and dropped; people hear why.
    assert_eq!(site.publish("web", "humidity", "1", "1\n"), 0);
    daemon.wait_for("hearthd | web: telemetry \"humidity\": not one of its telemetry.topics");
    let events = told(&site, &["events", "--json"]);
    assert!(events.contains("telemetry-refused"), "{events}");

    let mut replicas = ["web", "web.1"].map(|replica| site.listen(replica, "cmd/#"));
    let mut other = site.listen("other", "#");
    broker.publish("hearth/v1/plant/box/workload/web/cmd/led", b"on", &["-q", "1"]).unwrap();
    replicas.iter_mut().for_each(|replica| hears(replica, "cmd/led", "on"));
    // Neither that, nor what others tell, is this one's: its own word comes first.
    assert_eq!(site.publish("web", "t/3", "1", "1\n"), 0);
    broker.publish("hearth/v1/plant/box/workload/other/cmd/x", b"y", &["-q", "1"]).unwrap();
    let first = other
        .find(|line| line.contains('/').then(|| line.to_owned()).filter(|line| !line.contains("Client")));
    assert_eq!(first, Some(format!("cmd/x {}", hex("y"))));

    let explained = told(&site, &["explain", "web"]);
    assert!(explained.contains("3 messages, 18 bytes to the fleet"), "{explained}");
    assert!(explained.contains("2 commands heard"), "{explained}");
    assert!(explained.contains("1 refused"), "{explained}");
    daemon.stop();
}

#[test]
fn what_was_acknowledged_to_a_workload_during_an_outage_outlives_the_daemon_too() {
    let Some(program) = broker::program() else { return };
    let mut broker = Broker::start(program, "").unwrap();
    let server = format!("unix:{}", broker.socket().display());
    let site = Site::with_fake().workload("web", "service", "serve", "[telemetry]").member(&server);
    let mut daemon = site.start();
    daemon.wait_for("hearthd | ready: 1 of 1 workloads");
    daemon.wait_for_if_unseen(&format!("hearthd | fleet: {server} is connected"));
    broker.kill().unwrap();
    daemon.wait_until(|line| line.starts_with(&format!("hearthd | fleet: {server} is lost")));
    let lines: String = (0..40).map(|number| format!("message {number}\n")).collect();
    assert_eq!(site.publish("web", "t", "1", &lines), 0, "all of them are acknowledged");
    daemon.kill();
    broker.start_again(program).unwrap();
    let mut fleet = broker.listen("hearth/v1/plant/box/workload/web/t").unwrap();
    let mut daemon = site.start();
    let mut missing: Vec<String> = (0..40).map(|number| hex(&format!("message {number}"))).collect();
    let all = fleet.find(|line| {
        missing.retain(|payload| !line.ends_with(payload.as_str()));
        missing.is_empty().then_some(())
    });
    assert!(all.is_some(), "{missing:?}");
    daemon.wait_for("hearthd | ready: 1 of 1 workloads");
    // The pipe is there for who comes anew.
    assert_eq!(site.publish("web", "t", "1", "again\n"), 0);
    hears(&mut fleet, "hearth/v1/plant/box/workload/web/t", "again");
    daemon.stop();
}

#[test]
fn on_a_box_in_no_fleet_it_is_dropped_and_a_hostile_client_costs_its_own_connection() {
    if broker::program().is_none() {
        return;
    }
    let more = "[telemetry]\nmessages_per_min = 2\nkib_per_min = 8";
    let site = Site::with_fake().workload("web", "service", "serve", more);
    let mut daemon = site.start();
    daemon.wait_for("hearthd | ready: 1 of 1 workloads");
    assert_eq!(site.publish("web", "t", "1", "1\n"), 0, "as by a broker that nobody listens to");
    let explained = told(&site, &["explain", "web"]);
    assert!(explained.contains("1 messages, 2 bytes dropped: this box is in no fleet"), "{explained}");

    for nonsense in [&[0xff; 9000][..], &[0x10, 0xff, 0xff, 0xff, 0x7f], &[0x40, 2, 0, 1], &[0x10, 0]] {
        let mut stream = UnixStream::connect(site.pipe("web")).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(nonsense).unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert_eq!(answer, [0x20, 2, 0, 1], "no such version, and the end");
    }
    // As many as there are places for, saying nothing; the next one is hung up on.
    let idle: Vec<_> = (0..8).map(|_| UnixStream::connect(site.pipe("web")).unwrap()).collect();
    let mut last = UnixStream::connect(site.pipe("web")).unwrap();
    last.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(last.read(&mut [0; 4]).unwrap(), 0);
    drop(idle);

    // A minute's allowance, and no more; the clients that were there may not be gone yet.
    while site.publish("web", "t", "0", "2\n3\n4\n") != 0 {}
    daemon.wait_until(|line| {
        line.starts_with("hearthd | web: telemetry \"t\": more than its telemetry.messages_per_min")
    });
    assert!(told(&site, &["events", "--json"]).contains("over-quota"));

    daemon.stop();
}
