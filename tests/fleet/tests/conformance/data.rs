//! NDATA, DDATA and DDEATH, and the sequence of all.

use super::*;

/// And `tck-id-topics-dbirth-seq`, `tck-id-topics-ndata-seq-num`, `tck-id-topics-ddata-seq-num`,
/// `tck-id-topics-ddeath-seq-num`, `tck-id-payloads-dbirth-seq`, `tck-id-payloads-ndata-seq`, `tck-id-payloads-ddata-seq`,
/// `tck-id-payloads-ddeath-seq`, `tck-id-payloads-ddeath-seq-number`,
/// `tck-id-message-flow-device-birth-publish-dbirth-payload-seq`, `tck-id-payloads-sequence-num-always-included`, `tck-id-payloads-dbirth-seq-inc`,
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

#[test]
fn tck_id_operational_behavior_device_ddeath() {
    let Some(story) = story() else { return };
    let deaths = story.of(&["DDEATH"]);
    assert_eq!((deaths.len(), deaths[0].device.as_deref()), (1, Some("web.2")));
    assert!(deaths[0].payload.seq.is_some());
}

/// Behind 255 comes 0.
#[test]
fn tck_id_payloads_ndata_seq_inc() {
    let Some(program) = broker::program() else { return };
    let broker = Broker::start(program, "").unwrap();
    let tap = Tap::new(broker.socket()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let member = Member::start(options("box", &[tap.server()], folder.path()).unwrap()).unwrap();
    member.show(figures(0, 0));
    wait(&tap, "NBIRTH", 1);
    const LOOKS: u64 = 600;
    (1..=LOOKS).for_each(|load| member.show(figures(0, load)));
    wait(&tap, "NDATA", 600);
    let told = told(&tap.said());
    let numbers = told.iter().filter(|one| one.verb != "NDEATH").map(|one| one.payload.seq);
    assert_eq!(numbers.collect::<Vec<_>>(), (0..=LOOKS).map(|number| Some(number % 256)).collect::<Vec<_>>());
    member.stop();
}

/// In all messages: when the figure was so.
#[test]
fn tck_id_payloads_metric_timestamp_in_utc() {
    let Some(story) = story() else { return };
    for one in story.of(&["NBIRTH", "DBIRTH", "NDATA", "DDATA", "NDEATH"]) {
        let until = one.payload.timestamp.unwrap();
        for metric in &one.payload.metrics {
            assert!((1_700_000_000_000..=until).contains(&metric.timestamp.unwrap()), "{metric:?}");
        }
    }
}
