//! NBIRTH and DBIRTH, and rebirths.

use super::*;

/// And `tck-id-topics-dbirth-mqtt`, `tck-id-topics-ndata-mqtt`, `tck-id-topics-ddata-mqtt`,
/// `tck-id-topics-ddeath-mqtt`, `tck-id-payloads-nbirth-qos`, `tck-id-payloads-nbirth-retain`,
/// `tck-id-payloads-dbirth-qos`, `tck-id-payloads-dbirth-retain`, `tck-id-payloads-ndata-qos`,
/// `tck-id-payloads-ndata-retain`, `tck-id-payloads-ddata-qos`, `tck-id-payloads-ddata-retain`,
/// `tck-id-message-flow-edge-node-birth-publish-nbirth-qos`, `...-nbirth-retained`,
/// `tck-id-message-flow-device-birth-publish-dbirth-qos`, `...-dbirth-retained`.
#[test]
fn tck_id_topics_nbirth_mqtt() {
    let Some(story) = story() else { return };
    for one in story.of(&["NBIRTH", "DBIRTH", "NDATA", "DDATA", "DDEATH"]) {
        assert_eq!((one.publish.qos, one.publish.retain), (0, false), "{}", one.verb);
    }
}

/// And `tck-id-payloads-nbirth-seq`, `tck-id-payloads-sequence-num-zero-nbirth`, `tck-id-payloads-sequence-num-req-nbirth`,
/// `tck-id-message-flow-edge-node-birth-publish-nbirth-payload-seq`.
#[test]
fn tck_id_topics_nbirth_seq_num() {
    let Some(story) = story() else { return };
    let births = story.of(&["NBIRTH"]);
    assert_eq!(births.iter().map(|birth| birth.payload.seq).collect::<Vec<_>>(), [Some(0); 3]);
}

/// And `tck-id-operational-behavior-data-publish-nbirth-values`, `...-dbirth-values`, `tck-id-topics-dbirth-metric-reqs`,
/// `tck-id-payloads-metric-datatype-value`, `tck-id-topics-nbirth-metric-reqs`, `tck-id-topics-dbirth-metrics`, `tck-id-payloads-metric-datatype-req`,
/// `tck-id-payloads-name-birth-data-requirement`.
#[test]
fn tck_id_topics_nbirth_metrics() {
    let Some(story) = story() else { return };
    for metric in story.of(&BIRTHS).iter().flat_map(|birth| &birth.payload.metrics) {
        assert!(
            metric.name.is_some() && metric.datatype.is_some() && metric.timestamp.is_some(),
            "{metric:?}"
        );
        assert!(metric.value.is_some() != (metric.is_null == Some(true)), "{metric:?}");
    }
}

/// And `tck-id-payloads-nbirth-rebirth-req`, `tck-id-operational-behavior-data-commands-rebirth-name`,
/// `...-rebirth-name-aliases`, `...-rebirth-datatype`, `...-rebirth-value`.
#[test]
fn tck_id_topics_nbirth_rebirth_metric() {
    let Some(story) = story() else { return };
    for birth in story.of(&["NBIRTH"]) {
        let control = birth.metric("Node Control/Rebirth");
        assert_eq!(
            (control.alias, control.datatype, &control.value),
            (None, Some(11), &Some(Scalar::Boolean(false)))
        );
    }
}

/// And `tck-id-payloads-timestamp-in-UTC`, `tck-id-payloads-dbirth-timestamp`, `tck-id-payloads-ndata-timestamp`,
/// `tck-id-payloads-ddata-timestamp`, `tck-id-payloads-nbirth-timestamp`, `tck-id-topics-dbirth-timestamp`, `tck-id-topics-ndata-timestamp`,
/// `tck-id-topics-ddata-timestamp`, `tck-id-payloads-ddeath-timestamp`.
#[test]
fn tck_id_topics_nbirth_timestamp() {
    let Some(story) = story() else { return };
    let stamps: Vec<u64> = story
        .of(&["NBIRTH", "DBIRTH", "NDATA", "DDATA", "DDEATH"])
        .iter()
        .filter_map(|one| one.payload.timestamp)
        .collect();
    assert_eq!(stamps.len(), story.told.len() - 1);
    assert!(stamps.is_sorted() && stamps[0] > 1_700_000_000_000, "{stamps:?}");
}

/// And `tck-id-payloads-ndata-order`, `tck-id-payloads-ddata-order`, `tck-id-message-flow-device-birth-publish-nbirth-wait`.
#[test]
fn tck_id_payloads_dbirth_order() {
    let Some(story) = story() else { return };
    let verbs: Vec<&str> = story.told.iter().map(|one| one.verb.as_str()).collect();
    let births = ["NBIRTH", "DBIRTH", "DBIRTH", "DBIRTH"];
    let places: Vec<usize> = (0..verbs.len()).filter(|place| verbs[*place] == "NBIRTH").collect();
    assert_eq!(places.len(), 3);
    assert_eq!(&verbs[..4], births);
    assert_eq!(&verbs[places[1]..places[1] + 4], births);
    assert_eq!(&verbs[places[2]..places[2] + 3], &births[..3]);
}

/// And `tck-id-message-flow-device-birth-publish-dbirth-topic`, `...-dbirth-match-edge-node-topic`,
/// `tck-id-topics-ndata-topic`, `tck-id-topics-ddata-topic`, `tck-id-topics-ddeath-topic`,
/// `tck-id-topic-structure-namespace-device-id-associated-message-types`, `...-device-id-non-associated-message-types`.
#[test]
fn tck_id_topics_dbirth_topic() {
    let Some(story) = story() else { return };
    for one in &story.told {
        let device = one.device.as_ref().map_or(String::new(), |device| format!("/{device}"));
        assert_eq!(one.publish.topic, format!("spBv1.0/plant/{}/box{device}", one.verb));
        assert_eq!(one.device.is_some(), one.verb.starts_with('D'));
    }
}

#[test]
fn tck_id_payloads_alias_uniqueness() {
    let Some(story) = story() else { return };
    let mut seen = std::collections::BTreeSet::new();
    for birth in story.of(&BIRTHS) {
        if birth.verb == "NBIRTH" {
            seen.clear();
        }
        let aliases = birth.payload.metrics.iter().filter_map(|metric| metric.alias);
        aliases.for_each(|alias| assert!(seen.insert(alias), "{alias} twice"));
    }
    assert!(seen.len() >= 8);
}

/// And `tck-id-operational-behavior-data-commands-rebirth-action-1`, `...-rebirth-action-3`.
#[test]
fn tck_id_operational_behavior_data_commands_rebirth_action_2() {
    let Some(story) = story() else { return };
    let births = story.of(&["NBIRTH"]);
    assert_eq!((births[0].connection, births[1].connection), (0, 0));
    assert_eq!(births[0].bd_seq(), births[1].bd_seq());
}

/// And `tck-id-operational-behavior-data-commands-ncmd-rebirth-name`: what asks for nothing, or is not to be read,
/// changes nothing and costs no connection.
#[test]
fn tck_id_operational_behavior_data_commands_ncmd_rebirth_value() {
    let Some(program) = broker::program() else { return };
    let broker = Broker::start(program, "").unwrap();
    let tap = Tap::new(broker.socket()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let member = Member::start(options("box", &[tap.server()], folder.path()).unwrap()).unwrap();
    member.show(figures(1, 1));
    wait(&tap, "DBIRTH", 1);
    for payload in [
        command("Node Control/Rebirth", false),
        command("Node Control/Reboot", true),
        b"\xff\xff\xff not a payload".to_vec(),
        vec![0],
    ] {
        broker.publish("spBv1.0/plant/NCMD/box", &payload, &["-q", "1"]).unwrap();
    }
    // All of them were taken in, in order: each with QoS 1 was acknowledged. A box that is to be born tells nothing else.
    let acknowledged = |said: &[Said]| said.iter().filter(|one| one.packet == Packet::Other(4)).count() == 4;
    assert!(tap.wait(|said| acknowledged(said).then_some(())).is_some());
    member.show(figures(1, 2));
    wait(&tap, "DDATA", 1);
    assert_eq!((count(&tap.said(), "NBIRTH"), tap.connections()), (1, 1));
    member.stop();
}
