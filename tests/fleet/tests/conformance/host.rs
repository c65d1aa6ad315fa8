//! A primary host that a box waits for.

use super::*;

fn state(broker: &Broker, host: &str, online: bool, timestamp: u64) {
    let text = format!("{{\"online\":{online},\"timestamp\":{timestamp}}}");
    broker.publish(&format!("spBv1.0/STATE/{host}"), text.as_bytes(), &["-q", "1", "-r"]).unwrap();
}

/// And `tck-id-operational-behavior-primary-application-state-with-multiple-servers-state-subs`,
/// `tck-id-message-flow-edge-node-birth-publish-phid-wait-id`, `...-phid-wait-online`,
/// `tck-id-operational-behavior-edge-node-birth-sequence-wait`.
#[test]
fn tck_id_message_flow_edge_node_birth_publish_phid_wait() {
    let Some(program) = broker::program() else { return };
    let broker = Broker::start(program, "").unwrap();
    let tap = Tap::new(broker.socket()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut options = options("box", &[tap.server()], folder.path()).unwrap();
    options.session.primary_host = Some(hearth_fleet::topics::Id::new("scada").unwrap());
    let member = Member::start(options).unwrap();
    state(&broker, "scada", false, 10);
    state(&broker, "other", true, 20);
    member.show(figures(1, 1));
    let subscribed = |said: &[Said]| {
        said.iter().find_map(|one| match &one.packet {
            Packet::Subscribe(filters) => Some(filters.clone()),
            _ => None,
        })
    };
    let filters = tap.wait(subscribed).unwrap();
    assert!(filters.contains(&("spBv1.0/STATE/scada".to_owned(), 1)), "{filters:?}");
    // It answers to a ping, so it had what came before that, and is silent.
    let pings = |said: &[Said]| said.iter().filter(|one| one.packet == Packet::Other(12)).nth(1).map(drop);
    tap.wait(pings).unwrap();
    assert_eq!(count(&tap.said(), "NBIRTH"), 0);
    state(&broker, "scada", true, 11);
    wait(&tap, "DBIRTH", 1);
    member.stop();
}

/// And `tck-id-message-flow-edge-node-birth-publish-phid-wait-timestamp`,
/// `tck-id-operational-behavior-edge-node-termination-host-offline`, `...-host-offline-reconnect`,
/// `...-host-offline-timestamp`,
/// `tck-id-operational-behavior-primary-application-state-with-multiple-servers-walk`,
/// `...-multiple-servers-single-server`.
#[test]
fn tck_id_message_flow_edge_node_birth_publish_phid_offline() {
    let Some(program) = broker::program() else { return };
    let [here, there] = [(); 2].map(|()| Broker::start(program, "").unwrap());
    let [tap, other] = [&here, &there].map(|broker| Tap::new(broker.socket()).unwrap());
    let folder = tempfile::tempdir().unwrap();
    let mut options = options("box", &[tap.server(), other.server()], folder.path()).unwrap();
    options.session.primary_host = Some(hearth_fleet::topics::Id::new("scada").unwrap());
    state(&here, "scada", true, 10);
    state(&there, "scada", true, 12);
    let member = Member::start(options).unwrap();
    member.show(figures(1, 1));
    wait(&tap, "DBIRTH", 1);
    // Older than what was heard: nothing.
    state(&here, "scada", false, 9);
    member.show(figures(1, 2));
    wait(&tap, "DDATA", 1);
    assert_eq!(count(&other.said(), "NBIRTH"), 0);
    state(&here, "scada", false, 11);
    wait(&tap, "NDEATH", 1);
    wait(&other, "DBIRTH", 1);
    let last = tap.said().pop().unwrap();
    assert_eq!(last.packet, Packet::Disconnect);
    member.stop();
}
