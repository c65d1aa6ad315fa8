//! The rules of Sparkplug 3.0 for an Edge Node, each seen on the wire between the box's own thread and a real broker.
//! A test is named after the rule's id in the specification; further ids that say the same stand above it.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

mod births;
mod data;
mod host;
mod names;
mod session;

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
    command("Node Control/Rebirth", true)
}

fn command(name: &str, value: bool) -> Vec<u8> {
    let metric = Metric {
        name: Some(name.to_owned()),
        datatype: Some(11),
        timestamp: Some(1),
        value: Some(Scalar::Boolean(value)),
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
