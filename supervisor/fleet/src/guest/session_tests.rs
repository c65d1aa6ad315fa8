//! A client's packets, and what comes of them.

use proptest::prelude::*;
use rumqttc::mqttbytes::v4::{SubscribeFilter, Unsubscribe};

use super::*;
use crate::guest::{Intake, Limits, MAX_PACKET};

fn at(seconds: u64) -> Moment {
    Moment::START.after(Duration::from_secs(seconds))
}

fn limits(messages_per_min: u32) -> Limits {
    Limits {
        topics: vec![Filter::new("#").unwrap()],
        max_bytes: 100,
        json: false,
        messages_per_min,
        bytes_per_min: 1 << 20,
        class: Class::Bulk,
    }
}

struct Client {
    session: Session,
    account: Account,
}

impl Client {
    fn new(limits: Option<Limits>) -> Client {
        Client { session: Session::new(at(0)), account: Account::new(limits, at(0)) }
    }

    fn open(messages_per_min: u32, connect: Connect) -> Client {
        let mut client = Client::new(Some(limits(messages_per_min)));
        assert_eq!(client.says(0, Packet::Connect(connect)), [connack(ConnectReturnCode::Success)]);
        client
    }

    fn step(&mut self, seconds: u64, event: Event) -> Vec<Action> {
        self.session.step(at(seconds), &mut self.account, event)
    }

    fn says(&mut self, seconds: u64, packet: Packet) -> Vec<Action> {
        self.step(seconds, Event::Packet(packet))
    }
}

fn connect() -> Connect {
    Connect::new("id")
}

fn message(topic: &str, qos: QoS, pkid: u16) -> Packet {
    Packet::Publish(Publish { pkid, ..Publish::new(topic, qos, "payload") })
}

fn post(topic: &str, unkept: Option<u16>) -> Action {
    Action::Post { topic: topic.to_owned(), payload: "payload".into(), class: Class::Bulk, unkept }
}

fn puback(id: u16) -> Action {
    Action::Send(Packet::PubAck(PubAck::new(id)))
}

#[test]
fn what_is_said_with_qos_1_is_acknowledged_in_order_once_it_is_kept() {
    let mut client = Client::open(60, connect());
    assert_eq!(client.says(1, message("a", QoS::AtMostOnce, 0)), [post("a", None)]);
    assert_eq!(client.says(1, message("a", QoS::AtLeastOnce, 7)), [post("a", Some(7))]);
    assert_eq!(client.says(1, message("b", QoS::AtLeastOnce, 8)), [post("b", Some(8))]);
    assert_eq!(client.says(1, message("b", QoS::AtLeastOnce, 8)), [], "it is on its way");
    // Refused, and behind the others.
    assert_eq!(client.says(1, message("cmd/x", QoS::AtLeastOnce, 9)), []);
    assert_eq!(client.step(2, Event::Kept(8)), []);
    assert_eq!(client.step(2, Event::Kept(7)), [puback(7), puback(8), puback(9)]);
    assert_eq!(client.step(2, Event::Kept(7)), []);
    assert_eq!(client.account.counts().messages, 3);
}

#[test]
fn who_may_say_nothing_is_told_so_and_so_is_who_speaks_something_else() {
    let mut client = Client::new(None);
    let refused = |code, closing| [connack(code), Action::Close(closing)];
    assert_eq!(
        client.says(0, Packet::Connect(connect())),
        refused(ConnectReturnCode::NotAuthorized, Closing::Refused)
    );
    let version = || refused(ConnectReturnCode::RefusedProtocolVersion, Closing::Nonsense);
    let newer = Connect { protocol: Protocol::V5, ..connect() };
    assert_eq!(Client::new(Some(limits(1))).says(0, Packet::Connect(newer)), version());
    assert_eq!(Client::new(Some(limits(1))).says(0, Packet::PingReq), version());
    assert_eq!(Client::new(Some(limits(1))).step(0, Event::Nonsense), version());
    let nobody = Connect { clean_session: false, ..Connect::new("") };
    assert_eq!(
        Client::new(Some(limits(1))).says(0, Packet::Connect(nobody)),
        refused(ConnectReturnCode::BadClientId, Closing::Nonsense)
    );
    let mut late = Client::new(Some(limits(1)));
    assert_eq!((late.session.deadline(), late.step(9, Event::Tick)), (Some(at(10)), vec![]));
    assert_eq!(late.step(10, Event::Tick), [Action::Close(Closing::Silent)]);
    assert!(late.session.is_closed() && !late.session.wants_packet());
}

#[test]
fn over_the_quota_qos_0_is_dropped_and_qos_1_waits_with_its_client() {
    let mut client = Client::open(1, Connect { keep_alive: 10, ..connect() });
    assert_eq!(client.says(0, message("a", QoS::AtLeastOnce, 1)), [post("a", Some(1))]);
    assert_eq!(client.says(0, message("a", QoS::AtMostOnce, 0)), []);
    assert_eq!(client.says(0, message("b", QoS::AtLeastOnce, 2)), []);
    assert!(!client.session.wants_packet());
    assert_eq!(client.session.deadline(), Some(at(60)), "nobody listens, so nobody is silent");
    assert_eq!(client.step(59, Event::Tick), []);
    assert_eq!(client.step(60, Event::Tick), [post("b", Some(2))]);
    assert!(client.session.wants_packet());
    assert_eq!(client.session.deadline(), Some(at(75)));
    let counts = client.account.counts();
    assert_eq!((counts.messages, counts.refused, counts.delayed), (2, 1, 1));
}

#[test]
fn a_client_subscribes_to_its_commands_and_hears_nothing_else() {
    let mut client = Client::open(60, connect());
    let wanted = ["cmd/#", "a/#", "#", "cmd#", "$SYS/#", "+/b"];
    let filters = wanted.map(|path| SubscribeFilter::new(path.to_owned(), QoS::ExactlyOnce));
    let answer = client.says(1, Packet::Subscribe(Subscribe { pkid: 3, filters: filters.to_vec() }));
    let (yes, no) = (SubscribeReasonCode::Success(QoS::AtMostOnce), SubscribeReasonCode::Failure);
    assert_eq!(answer, [Action::Send(Packet::SubAck(SubAck::new(3, vec![yes, no, yes, no, no, yes])))]);
    let said = |client: &mut Client, topic: &str| {
        client.step(1, Event::Said { topic: topic.to_owned(), payload: "on".into() })
    };
    let told = Publish::new("cmd/a", QoS::AtMostOnce, "on");
    assert_eq!(said(&mut client, "cmd/a"), [Action::Send(Packet::Publish(told))]);
    let mut leave = Unsubscribe::new("cmd/#");
    leave.topics.push("#".to_owned());
    leave.pkid = 4;
    let gone = client.says(1, Packet::Unsubscribe(leave));
    assert_eq!(gone, [Action::Send(Packet::UnsubAck(UnsubAck { pkid: 4 }))]);
    assert_eq!(said(&mut client, "cmd/a"), []);
    assert_eq!(said(&mut client, "cmd/b").len(), 1);
    assert_eq!(client.account.counts().heard, 2);
    // As many filters as there is room for, and the same again.
    for number in 0..2 * MAX_FILTERS {
        let subscribe = Subscribe { pkid: 5, ..Subscribe::new(format!("cmd/{number}"), QoS::AtMostOnce) };
        let _ = client.says(1, Packet::Subscribe(subscribe));
    }
    assert_eq!(client.session.filters.len(), MAX_FILTERS);
    let again = Subscribe { pkid: 5, ..Subscribe::new("+/b", QoS::AtMostOnce) };
    let granted = client.says(1, Packet::Subscribe(again));
    assert_eq!(granted, [Action::Send(Packet::SubAck(SubAck::new(5, vec![yes])))]);
}

#[test]
fn a_will_is_told_unless_the_client_leaves_in_order() {
    let with_will = || {
        let will = LastWill::new("state", "payload", QoS::AtLeastOnce, true);
        Client::open(60, Connect { last_will: Some(will), keep_alive: 10, ..connect() })
    };
    let mut client = with_will();
    assert_eq!(client.says(1, Packet::Disconnect), [Action::Close(Closing::Wanted)]);
    let mut client = with_will();
    assert_eq!(client.step(1, Event::Gone), [post("state", None), Action::Close(Closing::Wanted)]);
    let mut client = with_will();
    assert_eq!(client.says(9, Packet::PingReq), [Action::Send(Packet::PingResp)]);
    assert_eq!(client.session.deadline(), Some(at(24)));
    assert_eq!(client.step(23, Event::Tick), []);
    assert_eq!(client.step(24, Event::Tick), [post("state", None), Action::Close(Closing::Silent)]);
    let mut client = with_will();
    let _ = client.says(1, message("a", QoS::AtLeastOnce, 1));
    assert_eq!(client.step(1, Event::Lost(2)), []);
    assert_eq!(client.step(1, Event::Lost(1)), [post("state", None), Action::Close(Closing::Lost)]);
}

#[test]
fn what_is_not_spoken_here_ends_the_connection_and_is_counted() {
    let ends = |packet, closing| {
        let mut client = Client::open(60, connect());
        assert_eq!(client.says(1, packet), [Action::Close(closing)]);
        client
    };
    let twice = ends(message("a", QoS::ExactlyOnce, 1), Closing::Refused);
    assert_eq!(twice.account.counts().refused, 1);
    ends(message("a/+", QoS::AtMostOnce, 0), Closing::Nonsense);
    ends(Packet::Connect(connect()), Closing::Nonsense);
    ends(Packet::PingResp, Closing::Nonsense);
    ends(Packet::Subscribe(Subscribe::new("cmd/#", QoS::AtMostOnce)), Closing::Nonsense);
    let many = vec![SubscribeFilter::new("cmd".to_owned(), QoS::AtMostOnce); MAX_FILTERS_AT_ONCE + 1];
    ends(Packet::Subscribe(Subscribe { pkid: 1, filters: many }), Closing::Nonsense);
}

#[test]
fn no_more_is_on_its_way_than_can_be_remembered() {
    let mut client = Client::open(1000, connect());
    for id in 1..=u16::try_from(MAX_UNKEPT).unwrap() {
        assert!(client.session.wants_packet());
        let _ = client.says(1, message("a", QoS::AtLeastOnce, id));
    }
    assert!(!client.session.wants_packet());
    assert_eq!(client.session.deadline(), None);
    assert_eq!(client.step(2000, Event::Kept(1)), [puback(1)]);
    assert_eq!(client.session.deadline(), Some(at(2015)));
}

/// Bytes of a client that may be anything, some of it good.
fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let connects = any::<(u16, bool)>().prop_map(|(keep_alive, clean_session)| {
        let last_will = Some(LastWill::new("w/ü", "x", QoS::AtLeastOnce, true));
        Packet::Connect(Connect { keep_alive, clean_session, last_will, ..connect() })
    });
    // Most of it does not end the connection, or little would be tried behind that.
    let topic = prop_oneof![9 => "[aü/]{1,6}", 1 => "[a+#$/ü\u{0}]{0,6}"];
    let qos = prop_oneof![9 => 0..2_u8, 1 => Just(2)];
    let good = prop_oneof![
        1 => connects.clone(),
        10 => (topic, qos, any::<u16>(), 0..200_usize).prop_map(|(topic, qos, pkid, size)| {
            let qos = rumqttc::mqttbytes::qos(qos).unwrap();
            let pkid = if qos == QoS::AtMostOnce { 0 } else { pkid.max(1) };
            Packet::Publish(Publish { pkid, ..Publish::new(topic, qos, vec![b'x'; size]) })
        }),
        5 => ("[cmd+#/ü]{0,6}", any::<u16>()).prop_map(|(path, pkid)| Packet::Subscribe(Subscribe {
            pkid,
            ..Subscribe::new(path, QoS::AtLeastOnce)
        })),
        2 => ("[cmd+#/]{0,6}", any::<u16>())
            .prop_map(|(path, pkid)| Packet::Unsubscribe(Unsubscribe { pkid, ..Unsubscribe::new(path) })),
        2 => Just(Packet::PingReq),
    ];
    let bytes = |packet: Packet| {
        let mut bytes = prost::bytes::BytesMut::new();
        packet.write(&mut bytes, usize::MAX).unwrap();
        bytes.to_vec()
    };
    let noise = || proptest::collection::vec(any::<u8>(), 0..40);
    let first = prop_oneof![9 => connects.prop_map(bytes), 1 => noise()];
    let piece = prop_oneof![30 => good.prop_map(bytes), 1 => noise()];
    (first, proptest::collection::vec(piece, 0..60)).prop_map(|(first, rest)| [first, rest.concat()].concat())
}

proptest! {
    #[test]
    fn whatever_bytes_come_nothing_panics_and_memory_is_bounded(
        stream in hostile(),
        cut in any::<u8>(),
        at_byte in any::<u16>(),
        flip in any::<u8>(),
        size in 1..64_usize,
    ) {
        let mut stream = stream;
        // A byte that is wrong, where there is one.
        if cut > 128 && !stream.is_empty() {
            let place = usize::from(at_byte) % stream.len();
            stream[place] ^= flip;
        }
        let mut client = Client::new(Some(limits(20)));
        let mut intake = Intake::default();
        let mut posted = 0;
        for (seconds, bytes) in (0..).zip(stream.chunks(size)) {
            prop_assert!(intake.room() >= bytes.len());
            intake.push(bytes);
            while client.session.wants_packet() {
                let event = match intake.take() {
                    Ok(Some(packet)) => Event::Packet(packet),
                    Ok(None) => break,
                    Err(_) => Event::Nonsense,
                };
                for action in client.step(seconds, event) {
                    if let Action::Post { topic, unkept, payload, .. } = action {
                        posted += 1;
                        prop_assert!(!topic.starts_with("cmd/") && !topic.contains("//") && payload.len() <= 100);
                        if let Some(id) = unkept {
                            let _ = client.step(seconds, Event::Kept(id));
                        }
                    }
                }
            }
            let _ = client.step(seconds, Event::Tick);
            prop_assert!(client.session.filters.len() <= MAX_FILTERS);
            prop_assert!(client.session.unkept.len() <= MAX_UNKEPT);
            if client.session.is_closed() {
                break;
            }
            // What is not read stays with the guest.
            if !client.session.wants_packet() {
                break;
            }
        }
        prop_assert!(posted <= 20 + 20 * stream.len() / size / 60 + 1);
    }

    #[test]
    fn a_length_that_lies_costs_the_connection_and_no_memory(length in (MAX_PACKET + 1)..268_435_455, kind in 0..=255_u8) {
        let mut bytes = vec![kind];
        let mut rest = length;
        while rest > 0 {
            bytes.push(u8::try_from(rest % 128).unwrap() | if rest >= 128 { 0x80 } else { 0 });
            rest /= 128;
        }
        let mut intake = Intake::default();
        intake.push(&bytes);
        prop_assert!(intake.take().is_err());
    }
}
