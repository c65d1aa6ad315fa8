//! CONNECT, Will and bdSeq; what is subscribed to; how a box leaves.

use super::*;

/// And `tck-id-principles-birth-certificates-order`.
#[test]
fn tck_id_message_flow_edge_node_birth_publish_connect() {
    let Some(story) = story() else { return };
    for connection in [0, 1] {
        let mut of: Vec<&Packet> =
            story.said.iter().filter(|one| one.connection == connection).map(|one| &one.packet).collect();
        of.retain(|packet| !matches!(packet, Packet::Other(_)));
        assert!(matches!(of[0], Packet::Connect(_)), "{:?}", of[0]);
        assert!(matches!(of[1], Packet::Subscribe(_)), "{:?}", of[1]);
        assert!(matches!(of[2], Packet::Publish(first) if first.topic.contains("/NBIRTH/")), "{:?}", of[2]);
    }
}

#[test]
fn tck_id_principles_persistence_clean_session_311() {
    let Some(story) = story() else { return };
    assert_eq!(
        story.connects().iter().map(|connect| connect.clean_session).collect::<Vec<_>>(),
        [true, true]
    );
}

/// And `tck-id-message-flow-edge-node-birth-publish-will-message`, `...-will-message-topic`, `...-will-message-qos`,
/// `...-will-message-will-retained`, `tck-id-payloads-ndeath-will-message-qos`,
/// `tck-id-payloads-ndeath-will-message-retain`.
#[test]
fn tck_id_payloads_ndeath_will_message() {
    let Some(story) = story() else { return };
    for (will, _) in story.wills() {
        assert_eq!((will.topic.as_str(), will.qos, will.retain), ("spBv1.0/plant/NDEATH/box", 1, false));
    }
}

/// And `tck-id-payloads-ndeath-seq`, `tck-id-topics-ndeath-seq`,
/// `tck-id-message-flow-edge-node-birth-publish-will-message-payload`.
#[test]
fn tck_id_topics_ndeath_payload() {
    let Some(story) = story() else { return };
    let published = story.of(&["NDEATH"]).into_iter().map(|death| death.payload.clone());
    for death in story.wills().into_iter().map(|(_, payload)| payload).chain(published) {
        assert_eq!((death.seq, death.metrics.len()), (None, 1));
        assert_eq!((death.metrics[0].name.as_deref(), death.metrics[0].datatype), (Some("bdSeq"), Some(4)));
    }
}

/// And `tck-id-payloads-nbirth-bdseq-repeat`, `tck-id-payloads-ndeath-bdseq`, `tck-id-topics-nbirth-bdseq-included`,
/// `tck-id-message-flow-edge-node-birth-publish-nbirth-payload-bdSeq`.
#[test]
fn tck_id_topics_nbirth_bdseq_matching() {
    let Some(story) = story() else { return };
    let wills = story.wills();
    for one in story.of(&["NBIRTH", "NDEATH"]) {
        assert_eq!(one.bd_seq(), wills[one.connection].1.metrics[0].value.as_ref(), "{}", one.verb);
    }
}

#[test]
fn tck_id_topics_nbirth_bdseq_increment() {
    let Some(program) = broker::program() else { return };
    let broker = Broker::start(program, "").unwrap();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("session"), "bd_seq 254\n").unwrap();
    let mut numbers = Vec::new();
    // Also over restarts of the process, and round the corner.
    for _ in 0..2 {
        let tap = Tap::new(broker.socket()).unwrap();
        let member = Member::start(options("box", &[tap.server()], folder.path()).unwrap()).unwrap();
        member.show(figures(0, 1));
        wait(&tap, "NBIRTH", 1);
        tap.cut();
        wait(&tap, "NBIRTH", 2);
        member.stop();
        let births = told(&tap.said()).into_iter().filter(|one| one.verb == "NBIRTH");
        numbers.extend(births.map(|birth| birth.bd_seq().cloned()));
    }
    assert_eq!(numbers, [254, 255, 0, 1].map(|number| Some(Scalar::Long(number))));
}

/// And `tck-id-message-flow-device-dcmd-subscribe`.
#[test]
fn tck_id_message_flow_edge_node_ncmd_subscribe() {
    let Some(story) = story() else { return };
    let subscribed = story.said.iter().find_map(|one| match &one.packet {
        Packet::Subscribe(filters) => Some(filters.clone()),
        _ => None,
    });
    let subscribed = subscribed.unwrap();
    for filter in ["spBv1.0/plant/NCMD/box", "spBv1.0/plant/DCMD/box/+"] {
        assert!(subscribed.contains(&(filter.to_owned(), 1)), "{filter}: {subscribed:?}");
    }
}

/// And `tck-id-operational-behavior-edge-node-intentional-disconnect-packet`,
/// `tck-id-payloads-ndeath-will-message-publisher`,
/// `tck-id-payloads-ndeath-will-message-publisher-disconnect-mqtt311`.
#[test]
fn tck_id_operational_behavior_edge_node_intentional_disconnect_ndeath() {
    let Some(story) = story() else { return };
    let [.., death, last] = story.said.as_slice() else { panic!("said nothing") };
    assert_eq!(last.packet, Packet::Disconnect);
    assert!(matches!(&death.packet, Packet::Publish(death) if death.topic == "spBv1.0/plant/NDEATH/box"));
    assert_eq!(story.of(&["NDEATH"]).len(), 1);
}

/// Likewise where the broker takes the CONNECT and refuses the box; not where nobody took it, see `outage`.
#[test]
fn tck_id_topics_nbirth_bdseq_increment_where_the_broker_refuses() {
    let Some(program) = broker::program() else { return };
    // It has no password for anybody.
    let broker = Broker::start(program, "per_listener_settings false\nallow_anonymous false\n").unwrap();
    let tap = Tap::new(broker.socket()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let member = Member::start(options("box", &[tap.server()], folder.path()).unwrap()).unwrap();
    member.show(figures(0, 1));
    let wills = |said: &[Said]| -> Vec<Option<Scalar>> {
        let will = |one: &Said| match &one.packet {
            Packet::Connect(connect) => connect.will.clone(),
            _ => None,
        };
        let read = |will: Publish| Payload::decode(will.payload.as_slice()).unwrap().metrics[0].value.clone();
        said.iter().filter_map(will).map(read).collect()
    };
    let three = tap.wait(|said| Some(wills(said)).filter(|wills| wills.len() > 2)).unwrap();
    assert_eq!(three[..3], [0, 1, 2].map(|number| Some(Scalar::Long(number))));
    member.stop();
}
