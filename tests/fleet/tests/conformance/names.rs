//! Names in topics.

use hearth_fleet::topics::{BadId, Id};

use super::*;

/// And `tck-id-topic-structure-namespace-valid-group-id`, `tck-id-topic-structure-namespace-valid-edge-node-id`,
/// `tck-id-intro-group-id-chars`, `tck-id-intro-edge-node-id-chars`, `tck-id-intro-device-id-chars`: all three are the
/// same kind of name, and no other gets into a topic.
#[test]
fn tck_id_topic_structure_namespace_valid_device_id() {
    for bad in ["a+b", "a/b", "#", ""] {
        assert_eq!(Id::new(bad), Err(BadId), "{bad:?}");
        assert_eq!(options(bad, &[], std::path::Path::new("/nowhere")).err(), Some(BadId));
    }
    let Some(story) = story() else { return };
    for one in &story.told {
        let words = one.publish.topic.split('/').count();
        assert_eq!(words, if one.verb.starts_with('D') { 5 } else { 4 });
        assert!(!one.publish.topic.contains(['+', '#']), "{}", one.publish.topic);
    }
}

/// And `tck-id-topic-structure`, `tck-id-topic-structure-namespace-a`.
#[test]
fn tck_id_topics_nbirth_topic() {
    let Some(story) = story() else { return };
    assert!(story.told.iter().all(|one| one.publish.topic.starts_with("spBv1.0/plant/")));
}

/// And `tck-id-topic-structure-namespace-unique-device-id`: of two devices that are alike but for case the first is one.
#[test]
fn tck_id_case_sensitivity_sparkplug_ids() {
    let Some(program) = broker::program() else { return };
    let broker = Broker::start(program, "").unwrap();
    let tap = Tap::new(broker.socket()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let member = Member::start(options("box", &[tap.server()], folder.path()).unwrap()).unwrap();
    let crowd = |load| {
        let mut snapshot = figures(3, load);
        snapshot.devices[1].id = Id::new("WEB.0").unwrap();
        snapshot
    };
    member.show(crowd(1));
    wait(&tap, "DBIRTH", 2);
    member.show(crowd(2));
    wait(&tap, "DDATA", 2);
    let devices: Vec<_> = told(&tap.said()).into_iter().filter_map(|one| one.device).collect();
    assert_eq!(devices, ["web.0", "web.2", "web.0", "web.2"]);
    member.stop();
}
