//! What a guest's MQTT client says to the daemon.

use std::time::Duration;

use hearth_core::Moment;
use hearth_fleet::guest::bytes::BytesMut;
use hearth_fleet::guest::{Account, Action, Event, Filter, Intake, Limits, MAX_UNKEPT, Session};
use hearth_fleet::outbox::Class;
use rumqttc::mqttbytes::v4::{SubscribeFilter, Unsubscribe};
use rumqttc::{Connect, LastWill, Packet, PubAck, Publish, QoS, Subscribe};

use crate::wild::Wild;

/// What the workload may say in a message.
const MAX_BYTES: usize = 100;

fn qos(wild: &mut Wild<'_>) -> QoS {
    wild.pick(&[QoS::AtMostOnce, QoS::AtLeastOnce, QoS::AtLeastOnce, QoS::ExactlyOnce])
}

fn topic(wild: &mut Wild<'_>) -> String {
    let levels = ["a", "temperature", "cmd", "..", "+", "#", "$SYS", "", "ü", "\u{0}", "b"];
    let all: Vec<&str> =
        (0..=wild.index(4)).map(|_| if wild.one_in(4) { wild.pick(&levels) } else { "a" }).collect();
    all.join("/")
}

fn packet(wild: &mut Wild<'_>) -> Packet {
    match wild.byte() % 12 {
        0 => {
            let mut connect = Connect::new(if wild.one_in(4) { "" } else { "id" });
            connect.keep_alive = wild.odd16();
            connect.clean_session = !wild.one_in(3);
            if wild.one_in(2) {
                connect.last_will =
                    Some(LastWill::new(topic(wild), wild.bytes(20), qos(wild), wild.one_in(2)));
            }
            Packet::Connect(connect)
        }
        1 => Packet::Subscribe(Subscribe {
            pkid: wild.odd16(),
            filters: (0..=wild.index(70)).map(|_| SubscribeFilter::new(topic(wild), qos(wild))).collect(),
        }),
        2 => Packet::Unsubscribe(Unsubscribe { pkid: wild.odd16(), topics: vec![topic(wild)] }),
        3 => Packet::PingReq,
        4 => Packet::PubAck(PubAck::new(wild.odd16())),
        5 if wild.one_in(4) => Packet::Disconnect,
        _ => {
            let length = if wild.one_in(9) { wild.index(60_000) } else { wild.index(120) };
            let mut publish = Publish::new(topic(wild), qos(wild), vec![b'x'; length]);
            publish.pkid = if publish.qos == QoS::AtMostOnce { 0 } else { 1 + u16::from(wild.byte()) };
            (publish.dup, publish.retain) = (wild.one_in(4), wild.one_in(4));
            Packet::Publish(publish)
        }
    }
}

/// What a client sends: packets, as a rule, and a CONNECT first.
fn stream(wild: &mut Wild<'_>) -> Vec<u8> {
    let mut stream = BytesMut::new();
    if !wild.one_in(6) {
        // An honest packet is always written.
        let _ = Packet::Connect(Connect::new("id")).write(&mut stream, usize::MAX);
    }
    for _ in 0..wild.index(40) {
        if wild.one_in(20) {
            stream.extend_from_slice(&wild.bytes(30));
        } else {
            let _ = packet(wild).write(&mut stream, usize::MAX);
        }
    }
    let mut stream = stream.to_vec();
    if wild.one_in(4) {
        crate::frames::damage(&mut stream, wild);
    }
    stream
}

/// The target.
pub fn run(data: &[u8]) {
    let mut wild = Wild::new(data);
    let limits = Limits {
        topics: Filter::new("#").into_iter().collect(),
        max_bytes: MAX_BYTES,
        json: wild.one_in(4),
        messages_per_min: u32::from(wild.byte()),
        bytes_per_min: 1 << 20,
        class: Class::Bulk,
    };
    let mut now = Moment::START;
    let (mut account, mut session, mut intake) =
        (Account::new(Some(limits), now), Session::new(now), Intake::default());
    let stream = stream(&mut wild);
    let mut left = &stream[..];
    while !left.is_empty() && !session.is_closed() {
        let (here, rest) = left.split_at((1 + wild.index(3000)).min(left.len()).min(intake.room()));
        intake.push(here);
        left = rest;
        now = now.after(Duration::from_millis(u64::from(wild.odd16())));
        while session.wants_packet() {
            let event = match intake.take() {
                Ok(Some(packet)) => Event::Packet(packet),
                Ok(None) => break,
                Err(_) => Event::Nonsense,
            };
            step(&mut session, &mut account, now, event, &mut wild);
        }
        step(&mut session, &mut account, now, Event::Tick, &mut wild);
        if wild.one_in(6) {
            let said = Event::Said { topic: topic(&mut wild), payload: vec![1; 9].into() };
            step(&mut session, &mut account, now, said, &mut wild);
        }
        if here.is_empty() && !session.wants_packet() {
            // What is not read stays with the guest until its time comes.
            break;
        }
    }
    let _ = session.step(now, &mut account, Event::Gone);
    assert!(session.is_closed(), "who hangs up is gone");
}

fn step(session: &mut Session, account: &mut Account, now: Moment, event: Event, wild: &mut Wild<'_>) {
    let mut unkept = 0;
    for action in session.step(now, account, event) {
        let Action::Post { topic, payload, unkept: id, .. } = action else { continue };
        assert!(
            !topic.starts_with("cmd/") && !topic.split('/').any(|level| matches!(level, "" | "." | ".."))
        );
        assert!(payload.len() <= MAX_BYTES && !topic.contains(['+', '#', '\0']));
        unkept += usize::from(id.is_some());
        let Some(id) = id else { continue };
        let word = if wild.one_in(12) { Event::Lost(id) } else { Event::Kept(id) };
        if !wild.one_in(4) {
            let _ = session.step(now, account, word);
        }
    }
    assert!(unkept <= MAX_UNKEPT);
}
