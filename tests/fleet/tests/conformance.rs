//! The rules of Sparkplug 3.0 for an Edge Node, each seen on the wire between the box's own thread and a real broker.
//! A test is named after the rule's id in the specification; further ids that say the same stand above it.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use hearth_fleet::sparkplug::payload::{Metric, Payload, Scalar};
use hearth_fleet_tests::broker::{self, Broker};
use hearth_fleet_tests::member::{Member, figures, options};
use hearth_fleet_tests::tap::{Said, Tap};
use hearth_fleet_tests::wire::{Connect, Packet, Publish};
use prost::Message;

const REPLICAS: usize = 3;

/// A message of the box.
#[derive(Clone, Debug)]
struct Told {
    connection: usize,
    verb: String,
    device: Option<String>,
    publish: Publish,
    payload: Payload,
}

impl Told {
    fn metric(&self, name: &str) -> &Metric {
        let named = |metric: &&Metric| metric.name.as_deref() == Some(name);
        self.payload.metrics.iter().find(named).unwrap_or_else(|| panic!("{name} in {self:?}"))
    }

    fn bd_seq(&self) -> Option<&Scalar> {
        self.metric("bdSeq").value.as_ref()
    }

    fn is(&self, verbs: &[&str]) -> bool {
        verbs.contains(&self.verb.as_str())
    }
}

struct Story {
    said: Vec<Said>,
    told: Vec<Told>,
}

fn told(said: &[Said]) -> Vec<Told> {
    let told = |one: &Said| match &one.packet {
        Packet::Publish(publish) => {
            let words: Vec<&str> = publish.topic.split('/').collect();
            Some(Told {
                connection: one.connection,
                verb: words.get(2).unwrap_or(&"").to_string(),
                device: words.get(4).map(ToString::to_string),
                publish: publish.clone(),
                payload: Payload::decode(publish.payload.as_slice()).unwrap(),
            })
        }
        _ => None,
    };
    said.iter().filter_map(told).collect()
}

fn count(said: &[Said], verb: &str) -> usize {
    told(said).iter().filter(|one| one.verb == verb).count()
}

/// Waits until the box said so many messages of a kind.
fn wait(tap: &Tap, verb: &str, times: usize) {
    let found = tap.wait(|said| (count(said, verb) >= times).then_some(()));
    assert!(found.is_some(), "{times} {verb}: {:#?}", tap.said());
}

fn rebirth_request() -> Vec<u8> {
    let metric = Metric {
        name: Some("Node Control/Rebirth".to_owned()),
        datatype: Some(11),
        timestamp: Some(1),
        value: Some(Scalar::Boolean(true)),
        ..Metric::default()
    };
    Payload { timestamp: Some(1), metrics: vec![metric], ..Payload::default() }.encode_to_vec()
}

/// A box that comes, tells, is asked for a rebirth, loses a device, loses its link, and leaves.
fn story() -> Option<Story> {
    let program = broker::program()?;
    let broker = Broker::start(program, "").unwrap();
    let tap = Tap::new(broker.socket()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let member = Member::start(options("box", &[tap.server()], folder.path()).unwrap()).unwrap();
    member.show(figures(REPLICAS, 1));
    wait(&tap, "DBIRTH", REPLICAS);
    member.show(figures(REPLICAS, 2));
    wait(&tap, "DDATA", REPLICAS);
    broker.publish("spBv1.0/plant/NCMD/box", &rebirth_request(), &["-q", "0"]).unwrap();
    wait(&tap, "DBIRTH", 2 * REPLICAS);
    member.show(figures(REPLICAS - 1, 3));
    wait(&tap, "DDATA", 2 * REPLICAS - 1);
    wait(&tap, "DDEATH", 1);
    tap.cut();
    wait(&tap, "DBIRTH", 3 * REPLICAS - 1);
    member.stop();
    // It is on its way through the tap yet.
    tap.wait(|said| said.iter().any(|one| one.packet == Packet::Disconnect).then_some(()));
    let said = tap.said();
    let told = told(&said);
    Some(Story { said, told })
}

impl Story {
    fn connects(&self) -> Vec<&Connect> {
        let connect = |one| match one {
            &Said { packet: Packet::Connect(ref connect), .. } => Some(connect),
            _ => None,
        };
        self.said.iter().filter_map(connect).collect()
    }

    fn wills(&self) -> Vec<(&Publish, Payload)> {
        let read = |will: &Publish| Payload::decode(will.payload.as_slice()).unwrap();
        self.connects()
            .iter()
            .map(|connect| connect.will.as_ref().unwrap())
            .map(|will| (will, read(will)))
            .collect()
    }

    fn of(&self, verbs: &[&str]) -> Vec<&Told> {
        let found: Vec<&Told> = self.told.iter().filter(|one| one.is(verbs)).collect();
        assert!(!found.is_empty(), "{verbs:?}");
        found
    }
}

const BIRTHS: [&str; 2] = ["NBIRTH", "DBIRTH"];
const DATA: [&str; 2] = ["NDATA", "DDATA"];

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

/// And `tck-id-topics-dbirth-mqtt`, `tck-id-topics-ndata-mqtt`, `tck-id-topics-ddata-mqtt`,
/// `tck-id-topics-ddeath-mqtt`, `tck-id-payloads-nbirth-qos`, `tck-id-payloads-nbirth-retain`,
/// `tck-id-payloads-dbirth-qos`, `tck-id-payloads-dbirth-retain`.
#[test]
fn tck_id_topics_nbirth_mqtt() {
    let Some(story) = story() else { return };
    for one in story.of(&["NBIRTH", "DBIRTH", "NDATA", "DDATA", "DDEATH"]) {
        assert_eq!((one.publish.qos, one.publish.retain), (0, false), "{}", one.verb);
    }
}

/// And `tck-id-payloads-nbirth-seq`, `tck-id-payloads-sequence-num-zero-nbirth`.
#[test]
fn tck_id_topics_nbirth_seq_num() {
    let Some(story) = story() else { return };
    let births = story.of(&["NBIRTH"]);
    assert_eq!(births.iter().map(|birth| birth.payload.seq).collect::<Vec<_>>(), [Some(0); 3]);
}

/// And `tck-id-payloads-sequence-num-always-included`, `tck-id-payloads-dbirth-seq-inc`,
/// `tck-id-payloads-ndata-seq-inc`, `tck-id-payloads-ddata-seq-inc`, `tck-id-payloads-ddeath-seq-inc`.
#[test]
fn tck_id_payloads_sequence_num_incrementing() {
    let Some(story) = story() else { return };
    let mut next = 0;
    for one in story.of(&["NBIRTH", "DBIRTH", "NDATA", "DDATA", "DDEATH"]) {
        if one.verb == "NBIRTH" {
            next = 0;
        }
        assert_eq!(one.payload.seq, Some(next), "{}", one.verb);
        next = (next + 1) % 256;
    }
    let first: Vec<u64> =
        story.told.iter().take_while(|one| one.connection == 0).filter_map(|one| one.payload.seq).collect();
    assert!(first.len() > 10, "{first:?}");
}

/// And `tck-id-topics-nbirth-metric-reqs`, `tck-id-topics-dbirth-metrics`, `tck-id-payloads-metric-datatype-req`,
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

/// And `tck-id-payloads-nbirth-timestamp`, `tck-id-topics-dbirth-timestamp`, `tck-id-topics-ndata-timestamp`,
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
/// `tck-id-topics-nbirth-topic`, `tck-id-topics-ndata-topic`, `tck-id-topics-ddata-topic`, `tck-id-topics-ddeath-topic`,
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

/// And `tck-id-payloads-alias-birth-requirement`, `tck-id-payloads-metric-datatype-not-req`.
#[test]
fn tck_id_payloads_alias_data_cmd_requirement() {
    let Some(story) = story() else { return };
    let mut known = std::collections::BTreeSet::new();
    for one in story.of(&["NBIRTH", "DBIRTH", "NDATA", "DDATA"]) {
        for metric in &one.payload.metrics {
            if one.is(&DATA) {
                assert!(metric.name.is_none() && metric.datatype.is_none(), "{metric:?}");
                assert!(known.contains(&metric.alias.unwrap()), "{metric:?}");
            } else {
                known.extend(metric.alias);
            }
        }
    }
}

/// And `tck-id-operational-behavior-data-publish-nbirth-change`, `...-dbirth-change`.
#[test]
fn tck_id_principles_rbe_recommended() {
    let Some(story) = story() else { return };
    // What nobody confirmed before the link broke is told again as history.
    let is_live = |one: &&Told| one.payload.metrics.iter().all(|metric| metric.is_historical.is_none());
    let live: Vec<&Told> = story.of(&DATA).into_iter().filter(is_live).collect();
    for one in &live {
        // Of three figures one moved.
        assert_eq!(one.payload.metrics.len(), 1, "{one:?}");
    }
    let of = |verb: &str| live.iter().filter(|one| one.verb == verb).count();
    assert_eq!((of("NDATA"), of("DDATA")), (2, 2 * REPLICAS - 1));
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

#[test]
fn tck_id_operational_behavior_device_ddeath() {
    let Some(story) = story() else { return };
    let deaths = story.of(&["DDEATH"]);
    assert_eq!((deaths.len(), deaths[0].device.as_deref()), (1, Some("web.2")));
    assert!(deaths[0].payload.seq.is_some());
}

/// And `tck-id-operational-behavior-data-commands-rebirth-action-1`, `...-rebirth-action-3`.
#[test]
fn tck_id_operational_behavior_data_commands_rebirth_action_2() {
    let Some(story) = story() else { return };
    let births = story.of(&["NBIRTH"]);
    assert_eq!((births[0].connection, births[1].connection), (0, 0));
    assert_eq!(births[0].bd_seq(), births[1].bd_seq());
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

fn state(broker: &Broker, host: &str, online: bool, timestamp: u64) {
    let text = format!("{{\"online\":{online},\"timestamp\":{timestamp}}}");
    broker.publish(&format!("spBv1.0/STATE/{host}"), text.as_bytes(), &["-q", "1", "-r"]).unwrap();
}

/// And `tck-id-message-flow-edge-node-birth-publish-phid-wait-id`, `...-phid-wait-online`,
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
    let subscribed =
        |said: &[Said]| said.iter().any(|one| matches!(one.packet, Packet::Subscribe(_))).then_some(());
    tap.wait(subscribed).unwrap();
    // It answers to a ping, so it had what came before that, and is silent.
    let pings = |said: &[Said]| said.iter().filter(|one| one.packet == Packet::Other(12)).nth(1).map(drop);
    tap.wait(pings).unwrap();
    assert_eq!(count(&tap.said(), "NBIRTH"), 0);
    state(&broker, "scada", true, 11);
    wait(&tap, "DBIRTH", 1);
    member.stop();
}

/// And `tck-id-message-flow-edge-node-birth-publish-phid-wait-timestamp`,
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
