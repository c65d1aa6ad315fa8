//! The session against a list of what it says; what a real broker makes of it is shown in `tests/conformance.rs`.

use std::time::Duration;

use hearth_core::Moment;
use prost::Message as _;

use super::*;
use crate::figures::{Device, Figure, Value};
use crate::letters::{Letter, What};
use crate::sparkplug::Pauses;
use crate::sparkplug::history::Kept;
use crate::sparkplug::payload::{Metric, Payload, Scalar};
use crate::topics::Id;

struct Rig {
    session: Session,
    now: Now,
    figures: Snapshot,
    server: Option<usize>,
    said: Vec<(String, Payload)>,
    kept: Vec<Vec<u8>>,
    other: Vec<Action>,
}

fn id(name: &str) -> Id {
    Id::new(name).unwrap()
}

fn figures() -> Snapshot {
    let node = vec![
        Figure::wide("Host/Load", Value::Real(0.5), 0.25, 0),
        Figure::exact("Workloads/Good", Value::Whole(2)),
    ];
    let device = |name: &str| Device {
        id: id(name),
        figures: vec![
            Figure::exact("State", Value::Text("ready".into())),
            Figure::wide("Memory", Value::Whole(1000), 100.0, 10),
        ],
    };
    Snapshot { node, devices: vec![device("web"), device("web.1")] }
}

impl Rig {
    fn new(servers: usize, primary_host: Option<&str>) -> Rig {
        let topics = Topics::new(id("plant"), id("box"));
        let config = Config {
            topics,
            servers,
            primary_host: primary_host.map(id),
            pauses: Pauses::default(),
            history_per_s: 100,
        };
        let now = Now { mono: Moment::from_millis(5), wall_ms: 1_700_000_000_000 };
        let mut rig = Rig {
            session: Session::new(config, 255, 7),
            now,
            figures: figures(),
            server: None,
            said: Vec::new(),
            kept: Vec::new(),
            other: Vec::new(),
        };
        rig.sample();
        rig
    }

    fn step(&mut self, event: Event) -> &mut Rig {
        for action in self.session.step(self.now, event) {
            match action {
                Action::Publish(message) => {
                    let payload = Payload::decode(message.payload.as_slice()).unwrap();
                    self.said.push((message.topic, payload));
                }
                Action::Keep(kept) => self.kept.push(kept),
                Action::Connect { server, will } => {
                    self.server = Some(server);
                    self.other.push(Action::Connect { server, will });
                }
                other => self.other.push(other),
            }
        }
        self
    }

    fn sample(&mut self) -> &mut Rig {
        let figures = self.figures.clone();
        self.step(Event::Figures(figures))
    }

    fn wait(&mut self, time: Duration) -> &mut Rig {
        self.now.mono = self.now.mono.after(time);
        self.now.wall_ms += u64::try_from(time.as_millis()).unwrap();
        self.step(Event::Tick)
    }

    /// Until the session does something by itself.
    fn wait_for_it(&mut self) -> &mut Rig {
        let time = self.session.deadline().expect("a deadline").since(self.now.mono);
        self.wait(time)
    }

    fn online(&mut self) -> &mut Rig {
        self.wait_for_it().step(Event::Accepted).step(Event::Subscribed { granted: true });
        assert!(self.session.is_online());
        self
    }

    fn lose(&mut self) -> &mut Rig {
        self.step(Event::Lost { why: "gone".to_owned(), oversized: false })
    }

    fn hear(&mut self, topic: &str, payload: Vec<u8>) -> &mut Rig {
        self.step(Event::Received { topic: topic.to_owned(), payload })
    }

    fn said(&mut self) -> Vec<(String, Payload)> {
        std::mem::take(&mut self.said)
    }

    /// The last part of topics that matter, with the sequence.
    fn told(&mut self) -> Vec<String> {
        let short = |(topic, payload): (String, Payload)| {
            let words: Vec<&str> = topic.split('/').collect();
            let device = words.get(4).map_or(String::new(), |device| format!(" {device}"));
            format!("{}{device} {}", words[2], payload.seq.map_or("-".to_owned(), |seq| seq.to_string()))
        };
        self.said().into_iter().map(short).collect()
    }

    fn wills(&self) -> Vec<u64> {
        self.other
            .iter()
            .filter_map(|action| match action {
                Action::Connect { will, .. } => {
                    Some(bd_seq(&Payload::decode(will.payload.as_slice()).unwrap()))
                }
                _ => None,
            })
            .collect()
    }
}

fn metric<'p>(payload: &'p Payload, name: &str) -> &'p Metric {
    payload.metrics.iter().find(|metric| metric.name.as_deref() == Some(name)).expect(name)
}

fn bd_seq(payload: &Payload) -> u64 {
    match metric(payload, "bdSeq").value {
        Some(Scalar::Long(number)) => number,
        _ => panic!("no number"),
    }
}

fn rebirth(name: &str) -> Vec<u8> {
    let metric =
        Metric { name: Some(name.to_owned()), value: Some(Scalar::Boolean(true)), ..Metric::default() };
    Payload { metrics: vec![metric], ..Payload::default() }.encode_to_vec()
}

#[test]
fn births_come_first_in_one_sequence_and_only_they_have_names() {
    let mut rig = Rig::new(1, None);
    rig.online();
    let said = rig.said();
    let seqs: Vec<_> = said.iter().map(|(_, payload)| payload.seq).collect();
    assert_eq!(seqs, [Some(0), Some(1), Some(2)]);
    let (topic, nbirth) = &said[0];
    assert_eq!(topic, "spBv1.0/plant/NBIRTH/box");
    assert_eq!(bd_seq(nbirth), 255);
    let asked = metric(nbirth, "Node Control/Rebirth");
    assert_eq!((asked.alias, asked.datatype, &asked.value), (None, Some(11), &Some(Scalar::Boolean(false))));
    let aliases: std::collections::BTreeSet<u64> = said
        .iter()
        .flat_map(|(_, payload)| payload.metrics.iter().filter_map(|metric| metric.alias))
        .collect();
    assert_eq!(aliases.len(), 6);
    assert!(
        said.iter()
            .flat_map(|(_, payload)| &payload.metrics)
            .all(|metric| metric.timestamp.is_some() && metric.datatype.is_some() && metric.value.is_some())
    );

    rig.figures.node[1].value = Value::Whole(1);
    rig.figures.devices[1].figures[0].value = Value::Text("failed".into());
    rig.wait(Duration::from_secs(10)).sample();
    let said = rig.said();
    assert_eq!(said.len(), 2);
    let (topic, ddata) = &said[1];
    assert_eq!((topic.as_str(), ddata.seq), ("spBv1.0/plant/DDATA/box/web.1", Some(4)));
    let changed = &ddata.metrics[0];
    assert_eq!((&changed.name, changed.datatype, changed.alias), (&None, None, Some(5)));
    assert_eq!(changed.timestamp, Some(1_700_000_010_000 + rig.now.mono.as_millis() - 10_005));
    rig.sample();
    assert_eq!(rig.told(), [] as [&str; 0]);
}

#[test]
fn bd_seq_moves_with_each_connect_that_left_and_is_on_the_disk_before() {
    let mut rig = Rig::new(1, None);
    rig.wait_for_it().step(Event::Refused { sent: false, why: "refused".to_owned() });
    rig.wait_for_it().step(Event::Refused { sent: true, why: "not authorized".to_owned() });
    rig.online().lose().wait_for_it();
    assert_eq!(rig.wills(), [255, 255, 0, 1]);
    let order: Vec<_> = rig
        .other
        .iter()
        .filter_map(|action| match action {
            Action::Remember { bd_seq } => Some(*bd_seq),
            Action::Connect { .. } => Some(100),
            _ => None,
        })
        .collect();
    assert_eq!(order, [0, 100, 100, 1, 100, 2, 100]);
    let births: Vec<_> =
        rig.said().iter().filter(|(topic, _)| topic.contains("NBIRTH")).map(|(_, p)| bd_seq(p)).collect();
    assert_eq!(births, [0]);
}

#[test]
fn the_sequence_goes_round_at_255() {
    let mut rig = Rig::new(1, None);
    rig.online();
    for round in 0..300_u64 {
        rig.figures.node[1].value = Value::Whole(round + 10);
        rig.sample();
        rig.session.confirm(u64::MAX, &mut Vec::new());
    }
    let seqs: Vec<u64> = rig.said().iter().filter_map(|(_, payload)| payload.seq).collect();
    assert_eq!(seqs, (0..303).map(|number| number % 256).collect::<Vec<u64>>());
}

#[test]
fn a_rebirth_says_all_again_with_the_same_bd_seq_and_no_data_comes_before_it() {
    let mut rig = Rig::new(1, None);
    rig.online().said();
    rig.wait(Duration::from_secs(5)).hear("spBv1.0/plant/NCMD/box", rebirth("Node Control/Rebirth"));
    let said = rig.said();
    assert_eq!((said[0].1.seq, bd_seq(&said[0].1), said.len()), (Some(0), 255, 3));
    // A second one at once waits, and data with it.
    rig.hear("spBv1.0/plant/NCMD/box", rebirth("Node Control/Rebirth"));
    rig.figures.node[1].value = Value::Whole(77);
    rig.sample();
    assert_eq!(rig.told(), [] as [&str; 0]);
    assert_eq!(rig.session.wants_letter(rig.now), Err(None));
    let said = rig.wait_for_it().said();
    assert_eq!(said.len(), 3);
    assert_eq!(metric(&said[0].1, "Workloads/Good").value, Some(Scalar::Long(77)));
}

#[test]
fn a_device_is_born_anew_when_somebody_asks_and_what_else_is_asked_is_counted() {
    let mut rig = Rig::new(1, None);
    rig.online().wait(Duration::from_secs(2)).told();
    rig.hear("spBv1.0/plant/DCMD/box/web", rebirth("Device Control/Rebirth"));
    assert_eq!(rig.told(), ["DBIRTH web 3"]);
    rig.wait(Duration::from_secs(2));
    rig.hear("spBv1.0/plant/DCMD/box/nobody", rebirth("Device Control/Rebirth"));
    rig.hear("spBv1.0/plant/NCMD/box", rebirth("Outputs/Valve"));
    rig.hear("spBv1.0/plant/NCMD/box", b"\xff\xff".to_vec());
    rig.hear("spBv1.0/plant/NCMD/other", rebirth("Node Control/Rebirth"));
    assert_eq!(rig.told(), [] as [&str; 0]);
    assert_eq!(rig.session.ignored(), Ignored { foreign: 1, malformed: 1, unknown: 2 });
}

#[test]
fn devices_come_and_go_within_a_session() {
    let mut rig = Rig::new(1, None);
    rig.online().told();
    let gone = rig.figures.devices.remove(0);
    rig.sample();
    assert_eq!(rig.told(), ["DDEATH web 3"]);
    rig.figures.devices.push(gone);
    rig.sample();
    assert_eq!(rig.told(), ["DBIRTH web 4"]);
    // A figure that no birth named.
    rig.figures.node.push(Figure::exact("Workloads/db/State", Value::Text("ready".into())));
    rig.sample();
    assert_eq!(rig.told(), ["NBIRTH 0", "DBIRTH web 1", "DBIRTH web.1 2"]);
}

#[test]
fn a_stop_says_ndeath_then_disconnects_and_ends() {
    let mut rig = Rig::new(1, None);
    rig.online().told();
    rig.step(Event::Stop);
    let said = rig.said();
    assert_eq!(
        (said[0].0.as_str(), said[0].1.seq, said[0].1.metrics.len()),
        ("spBv1.0/plant/NDEATH/box", None, 1)
    );
    assert_eq!(bd_seq(&said[0].1), 255);
    rig.other.clear();
    rig.step(Event::Acknowledged(Tag::Death));
    assert_eq!(rig.other, [Action::Disconnect]);
    rig.step(Event::Closed);
    assert_eq!(rig.other.last(), Some(&Action::Ended));
    // A broker that does not answer holds nobody up.
    let mut rig = Rig::new(1, None);
    rig.online().step(Event::Stop).wait_for_it().wait_for_it();
    assert_eq!(rig.other.last(), Some(&Action::Ended));
    assert!(rig.other.contains(&Action::Disconnect));
}

#[test]
fn births_wait_for_the_primary_host_and_it_alone() {
    let mut rig = Rig::new(2, Some("scada"));
    let state = |online: bool, timestamp: u64| {
        format!("{{\"online\":{online},\"timestamp\":{timestamp}}}").into_bytes()
    };
    rig.wait_for_it().step(Event::Accepted).step(Event::Subscribed { granted: true });
    let filters = rig.other.iter().find_map(|action| match action {
        Action::Subscribe(filters) => Some(filters.clone()),
        _ => None,
    });
    assert!(filters.unwrap().contains(&"spBv1.0/STATE/scada".to_owned()));
    rig.hear("spBv1.0/STATE/other", state(true, 9));
    assert_eq!(rig.told(), [] as [&str; 0]);
    rig.hear("spBv1.0/STATE/scada", state(true, 10));
    assert_eq!(rig.told().len(), 3);
    rig.hear("spBv1.0/STATE/scada", state(false, 9));
    assert!(rig.session.is_online());
    rig.hear("spBv1.0/STATE/scada", state(false, 10));
    assert_eq!(rig.told(), ["NDEATH -"]);
    rig.step(Event::Acknowledged(Tag::Death)).step(Event::Closed).wait_for_it();
    assert_eq!(rig.server, Some(1));
    // There, its last word is that it is offline, too: on to the next.
    rig.step(Event::Accepted).step(Event::Subscribed { granted: true });
    rig.hear("spBv1.0/STATE/scada", state(false, 11));
    assert_eq!(rig.told(), ["NDEATH -"]);
    rig.step(Event::Acknowledged(Tag::Death)).step(Event::Closed).wait_for_it();
    assert_eq!(rig.server, Some(0));
}

#[test]
fn an_outage_becomes_history_that_is_told_behind_the_births_at_a_pace() {
    let mut rig = Rig::new(1, None);
    rig.online().lose();
    rig.said();
    rig.figures.devices[0].figures[0].value = Value::Text("failed".into());
    rig.sample();
    rig.figures.node[1].value = Value::Whole(1);
    rig.figures.devices.remove(0);
    rig.sample();
    let kept: Vec<Kept> = rig.kept.iter().map(|kept| Kept::decode(kept.as_slice()).unwrap()).collect();
    assert_eq!(kept.len(), 2);
    assert_eq!(kept[0].device.as_deref(), Some("web"));
    assert_eq!(kept[0].metrics.iter().map(|metric| metric.is_historical).collect::<Vec<_>>(), [Some(true)]);
    rig.online().told();
    for (place, letter) in std::mem::take(&mut rig.kept).into_iter().enumerate() {
        let letter = Letter { id: u64::try_from(place).unwrap(), what: What::History(letter) };
        assert_eq!(rig.session.wants_letter(rig.now), Ok(()));
        rig.step(Event::Letter(letter));
        assert!(matches!(rig.session.wants_letter(rig.now), Err(Some(_))));
        rig.wait(Duration::from_millis(10));
    }
    let said = rig.said();
    let topics: Vec<&str> = said.iter().map(|(topic, _)| topic.split('/').nth(2).unwrap()).collect();
    // "web" is gone by now, and comes back to be told of.
    assert_eq!(topics, ["DBIRTH", "DDATA", "DDEATH", "NDATA"]);
    let (_, ndata) = &said[3];
    assert_eq!((ndata.metrics[0].is_historical, ndata.metrics[0].alias), (Some(true), Some(2)));
    assert!(ndata.timestamp > ndata.metrics[0].timestamp);
    rig.other.clear();
    rig.wait_for_it();
    assert_eq!(rig.other, [Action::Probe]);
    rig.step(Event::Confirmed { published: 5 });
    assert_eq!(rig.other, [Action::Probe, Action::Acknowledged(0)]);
    rig.step(Event::Confirmed { published: 6 });
    assert_eq!(rig.other.last(), Some(&Action::Acknowledged(1)));
}

#[test]
fn what_was_live_and_not_confirmed_becomes_history_when_the_connection_breaks() {
    let mut rig = Rig::new(1, None);
    rig.online();
    for load in [3, 4, 5] {
        rig.figures.node[1].value = Value::Whole(load);
        rig.sample();
    }
    rig.step(Event::Confirmed { published: 4 }).lose();
    let kept: Vec<_> =
        rig.kept.iter().map(|kept| Kept::decode(kept.as_slice()).unwrap().metrics[0].value.clone()).collect();
    assert_eq!(kept, [Some(Scalar::Long(4)), Some(Scalar::Long(5))]);
    assert!(rig.other.contains(&Action::Again));
}

#[test]
fn how_things_stood_when_a_box_began_is_kept_where_nobody_could_be_told() {
    let began = |rig: &mut Rig| {
        rig.figures.node[1].value = Value::Whole(3);
        rig.sample();
        rig.figures.node[1].value = Value::Whole(4);
        rig.sample();
        let kept = rig.kept.iter().map(|kept| Kept::decode(kept.as_slice()).unwrap());
        kept.map(|kept| (kept.device, kept.metrics.len(), kept.metrics[0].timestamp)).collect::<Vec<_>>()
    };
    let mut offline = Rig::new(1, None);
    let first = Some(offline.now.wall_ms);
    offline.now.wall_ms += 10_000;
    let (later, device) = (Some(offline.now.wall_ms), |name: &str| Some(name.to_owned()));
    let whole = [(None, 2, first), (device("web"), 2, first), (device("web.1"), 2, first)];
    assert_eq!(began(&mut offline), [&whole[..], &[(None, 1, later), (None, 1, later)]].concat());
    // A birth says it, too.
    assert_eq!(began(Rig::new(1, None).online()), []);
}

#[test]
fn more_than_can_wait_for_its_confirmation_is_asked_for_and_never_taken_for_told() {
    let mut rig = Rig::new(1, None);
    rig.online();
    for load in 1000..2500 {
        rig.figures.node[1].value = Value::Whole(load);
        rig.sample();
    }
    let probes = rig.other.iter().filter(|action| **action == Action::Probe).count();
    assert_eq!(probes, 1);
    rig.lose();
    let value = |kept: &Vec<u8>| Kept::decode(kept.as_slice()).unwrap().metrics[0].value.clone();
    let kept: Vec<_> = rig.kept.iter().map(value).collect();
    assert_eq!(kept, (1000..2500).map(|load| Some(Scalar::Long(load))).collect::<Vec<_>>());
    assert!(!rig.other.iter().any(|action| matches!(action, Action::Acknowledged(_))));
}

#[test]
fn a_broker_that_refuses_subscriptions_or_never_answers_is_left() {
    let mut rig = Rig::new(2, None);
    rig.wait_for_it().step(Event::Accepted).step(Event::Subscribed { granted: false });
    assert!(rig.other.contains(&Action::Cut));
    rig.wait_for_it();
    assert_eq!(rig.server, Some(1));
    rig.step(Event::Accepted).wait_for_it().wait_for_it();
    assert_eq!(rig.server, Some(0));
    assert_eq!(rig.told(), [] as [&str; 0]);
}

#[test]
fn a_message_too_large_to_take_ends_no_more_than_one_connection() {
    let mut rig = Rig::new(1, None);
    rig.online().step(Event::Lost { why: "too large".to_owned(), oversized: true });
    rig.other.clear();
    rig.online();
    let filters = |rig: &Rig| {
        rig.other.iter().rev().find_map(|action| match action {
            Action::Subscribe(filters) => Some(filters.len()),
            _ => None,
        })
    };
    assert_eq!(filters(&rig), Some(2));
    rig.wait(POISONED).lose().online();
    assert_eq!(filters(&rig), Some(5));
}

#[test]
fn words_for_the_tree_are_handed_on_and_late_ones_change_nothing() {
    let mut rig = Rig::new(1, None);
    rig.online().other.clear();
    rig.hear("hearth/v1/plant/box/desired", b"x".to_vec());
    assert_eq!(rig.other, [Action::Deliver { place: "desired".to_owned(), payload: b"x".to_vec() }]);
    rig.lose().said();
    rig.other.clear();
    rig.hear("hearth/v1/plant/box/desired", b"x".to_vec())
        .step(Event::Accepted)
        .step(Event::Subscribed { granted: true })
        .step(Event::Closed)
        .step(Event::Acknowledged(Tag::Death))
        .lose();
    assert_eq!((rig.other.as_slice(), rig.said.len()), (&[] as &[Action], 0));
}
