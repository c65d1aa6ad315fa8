//! One connection to one broker.
//!
//! Duty: the session's messages into requests, in order, and the client library's events into the session's. Which
//! publication was acknowledged follows from the order in which the library says that it sent them.
//! Not here: when there is a connection. Invariant: one client for one connection. The library keeps what was under way
//! for the next connection of the same client and sends it before any birth, or drops it without a word; here there is
//! no next connection.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use rumqttc::mqttbytes::Error as CodecError;
use rumqttc::{
    AsyncClient, ConnectionError, Event as Heard, LastWill, MqttOptions, NetworkOptions, Outgoing, Packet,
    QoS, StateError, SubscribeFilter, SubscribeReasonCode, TlsConfiguration, Transport,
};
use rustls::ClientConfig;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::Options;
use super::server::{Place, Server};
use crate::sparkplug::session::{Event, Message, Tag};

/// Bytes of a message that is taken from a broker: the largest desired state, and some.
const MAX_INCOMING: usize = 512 << 10;
/// Of one that is sent: the largest birth.
const MAX_OUTGOING: usize = 1 << 20;
/// Requests that the library has and has not sent.
const AT_THE_LIBRARY: usize = 16;
/// Messages that wait for it: three births of the largest box. Who takes none of so many is not there any more.
const MAX_WAITING: usize = 1024;
/// Its events that wait for the session.
const EVENTS: usize = 32;
/// Acknowledgements that may be missing at a time.
const INFLIGHT: u16 = 64;
/// What nobody subscribes to: leaving it is a round trip.
const PROBE: &str = "hearth/v1/-/-/-";

/// Whether there is a way to the server at all.
pub(super) enum Way {
    Open(Option<Arc<ClientConfig>>),
    /// It wants TLS, and the files for that cannot be used.
    Closed,
}

#[derive(Debug)]
pub(super) struct Connection {
    client: AsyncClient,
    heard: mpsc::Receiver<Result<Heard, ConnectionError>>,
    pump: JoinHandle<()>,
    accepted: bool,
    /// In order, what the library has not taken yet.
    waiting: VecDeque<Request>,
    /// In order, publications that the library has and has not sent.
    handed: VecDeque<Option<Tag>>,
    unacknowledged: BTreeMap<u16, Tag>,
    /// Publications that were sent.
    sent: u64,
    /// How many there were when a round trip began.
    ping: Option<u64>,
    probes: BTreeMap<u16, u64>,
    filters: Vec<String>,
}

#[derive(Debug)]
enum Request {
    Publish(Message),
    Subscribe(Vec<String>),
    Probe,
    Disconnect,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.pump.abort();
    }
}

impl Connection {
    pub(super) fn open(options: &Options, server: &Server, will: Message, way: Way) -> Connection {
        let (name, port) = match &server.place {
            Place::Host { name, port } => (name.clone(), *port),
            Place::Unix(path) => (path.clone(), 0),
        };
        let mut mqtt = MqttOptions::new(&options.client_id, name, port);
        // `tck-id-principles-persistence-clean-session-311`.
        mqtt.set_clean_session(true)
            .set_keep_alive(options.keep_alive)
            .set_max_packet_size(MAX_INCOMING, MAX_OUTGOING)
            .set_inflight(INFLIGHT)
            // `tck-id-payloads-ndeath-will-message-qos`, `tck-id-payloads-ndeath-will-message-retain`.
            .set_last_will(LastWill::new(will.topic, will.payload, QoS::AtLeastOnce, false));
        if let Some((user, password)) = &options.credentials {
            mqtt.set_credentials(user, password);
        }
        let (sender, heard) = mpsc::channel(EVENTS);
        let open = match (&server.place, way) {
            (_, Way::Closed) => false,
            (Place::Unix(_), _) => {
                mqtt.set_transport(Transport::Unix);
                true
            }
            (Place::Host { .. }, Way::Open(tls)) => {
                if let Some(tls) = tls {
                    mqtt.set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(tls)));
                }
                true
            }
        };
        let (client, mut events) = AsyncClient::new(mqtt, AT_THE_LIBRARY);
        let mut network = NetworkOptions::new();
        network.set_tcp_nodelay(true);
        network.set_connection_timeout(options.connect_within.as_secs());
        events.set_network_options(network);
        // The library's poll must not be cut off in the middle of a packet: it has a task of its own.
        let pump = tokio::spawn(async move {
            if !open {
                return;
            }
            loop {
                let heard = events.poll().await;
                let failed = heard.is_err();
                if sender.send(heard).await.is_err() || failed {
                    return;
                }
            }
        });
        Connection {
            client,
            heard,
            pump,
            accepted: false,
            waiting: VecDeque::new(),
            handed: VecDeque::new(),
            unacknowledged: BTreeMap::new(),
            sent: 0,
            ping: None,
            probes: BTreeMap::new(),
            filters: Vec::new(),
        }
    }

    pub(super) fn publish(&mut self, message: Message) {
        self.request(Request::Publish(message));
    }

    pub(super) fn subscribe(&mut self, filters: Vec<String>) {
        self.filters.clone_from(&filters);
        self.request(Request::Subscribe(filters));
    }

    pub(super) fn probe(&mut self) {
        self.request(Request::Probe);
    }

    pub(super) fn disconnect(&mut self) {
        self.request(Request::Disconnect);
    }

    fn request(&mut self, request: Request) {
        if self.waiting.len() >= MAX_WAITING {
            self.pump.abort();
            return;
        }
        self.waiting.push_back(request);
        self.feed();
    }

    /// As much as the library takes. It takes no topic with wildcards either, so none gets here.
    fn feed(&mut self) {
        while let Some(request) = self.waiting.front() {
            let taken = match request {
                Request::Publish(Message { topic, payload, tag, retain }) => {
                    let qos = if tag.is_some() { QoS::AtLeastOnce } else { QoS::AtMostOnce };
                    let taken = self.client.try_publish(topic, qos, *retain, payload.as_slice());
                    if taken.is_ok() {
                        self.handed.push_back(*tag);
                    }
                    taken
                }
                Request::Subscribe(filters) => {
                    let filters =
                        filters.iter().map(|filter| SubscribeFilter::new(filter.clone(), QoS::AtLeastOnce));
                    self.client.try_subscribe_many(filters)
                }
                Request::Probe => self.client.try_unsubscribe(PROBE),
                Request::Disconnect => self.client.try_disconnect(),
            };
            if taken.is_err() {
                return;
            }
            self.waiting.pop_front();
        }
    }

    /// What the session should hear next; `None` for what is only the library's.
    pub(super) async fn next(&mut self) -> Option<Event> {
        let heard = self.heard.recv().await;
        let event = match heard {
            Some(Ok(Heard::Incoming(packet))) => self.incoming(packet),
            Some(Ok(Heard::Outgoing(outgoing))) => self.outgoing(&outgoing),
            Some(Err(error)) => Some(self.over(&error)),
            None => Some(if self.accepted {
                Event::Lost { why: "it takes nothing any more".to_owned(), oversized: false }
            } else {
                Event::Refused { sent: false, why: "its files for TLS cannot be used".to_owned() }
            }),
        };
        self.feed();
        event
    }

    fn incoming(&mut self, packet: Packet) -> Option<Event> {
        match packet {
            // One that refuses is an error of the library's.
            Packet::ConnAck(_) => {
                self.accepted = true;
                Some(Event::Accepted)
            }
            Packet::SubAck(answer) => {
                let refused = |(filter, code): (&String, &SubscribeReasonCode)| {
                    // A broker that knows nothing of the management tree is good for telemetry.
                    filter.starts_with("spBv1.0/") && *code == SubscribeReasonCode::Failure
                };
                let granted = !self.filters.iter().zip(&answer.return_codes).any(refused);
                Some(Event::Subscribed { granted })
            }
            Packet::PubAck(answer) => self.unacknowledged.remove(&answer.pkid).map(Event::Acknowledged),
            Packet::PingResp => self.ping.take().map(|published| Event::Confirmed { published }),
            Packet::UnsubAck(answer) => {
                self.probes.remove(&answer.pkid).map(|published| Event::Confirmed { published })
            }
            Packet::Publish(message) => {
                Some(Event::Received { topic: message.topic, payload: message.payload.to_vec() })
            }
            _ => None,
        }
    }

    fn outgoing(&mut self, outgoing: &Outgoing) -> Option<Event> {
        match outgoing {
            Outgoing::Publish(number) => {
                self.sent += 1;
                if let Some(Some(tag)) = self.handed.pop_front() {
                    self.unacknowledged.insert(*number, tag);
                }
                None
            }
            Outgoing::PingReq => {
                self.ping = Some(self.sent);
                None
            }
            Outgoing::Unsubscribe(number) => {
                self.probes.insert(*number, self.sent);
                None
            }
            Outgoing::Disconnect => Some(Event::Closed),
            _ => None,
        }
    }

    fn over(&self, error: &ConnectionError) -> Event {
        let why = words(error);
        if self.accepted {
            Event::Lost { why, oversized: is_oversized(error) }
        } else {
            Event::Refused { sent: may_have_been_sent(error), why }
        }
    }
}

fn is_oversized(error: &ConnectionError) -> bool {
    matches!(
        error,
        ConnectionError::MqttState(StateError::Deserialization(CodecError::PayloadSizeLimitExceeded(_)))
    )
}

/// Whether CONNECT may have reached somebody: it goes out when the name, the connection and TLS stand, and what fails
/// behind that is another error. Who ran out of time may have got that far.
fn may_have_been_sent(error: &ConnectionError) -> bool {
    !matches!(error, ConnectionError::Io(_) | ConnectionError::Tls(_))
}

/// What people are told; the library's own words mostly end in those of its structures.
fn words(error: &ConnectionError) -> String {
    match error {
        ConnectionError::MqttState(StateError::AwaitPingResp) => "it does not answer any more".to_owned(),
        ConnectionError::MqttState(StateError::ConnectionAborted) => "it closed the connection".to_owned(),
        ConnectionError::NetworkTimeout | ConnectionError::FlushTimeout => {
            "it does not answer in time".to_owned()
        }
        ConnectionError::ConnectionRefused(code) => format!("it refuses: {code:?}"),
        ConnectionError::Io(error) => error.to_string(),
        ConnectionError::Tls(error) => super::one_line(error),
        other => super::one_line(other),
    }
}
