//! Somebody who looks at a fleet and speaks to it: a person's tool, for some seconds.
//!
//! Duty: one connection that waits for what it asked. Not here: what is asked. Invariant: nothing waits for ever, and a
//! lost connection is an end, not a pause.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rumqttc::{
    Client, ClientError, Connection, ConnectionError, Event, MqttOptions, Packet, QoS, RecvTimeoutError,
    SubscribeFilter, TlsConfiguration, Transport,
};
use thiserror::Error;

use super::server::{Place, Server};
use super::tls::{self, Identity, TlsError};

/// For an answer of the broker itself.
const PATIENCE: Duration = Duration::from_secs(30);
/// Bytes of a message, in either direction: the largest desired state, and some.
const MAX_PACKET: usize = 1 << 20;
/// Messages that came while something else was waited for. Ten reports of each of ten thousand boxes.
const MAX_WAITING: usize = 100_000;
const AT_THE_LIBRARY: usize = 64;

#[derive(Debug, Error)]
pub enum VisitorError {
    #[error("no TLS")]
    Tls(#[from] TlsError),
    #[error("the broker cannot be reached, or went away")]
    Connection(#[from] Box<ConnectionError>),
    #[error("the connection takes nothing any more")]
    Closed,
    #[error("the broker does not answer")]
    Silent,
}

impl From<ClientError> for VisitorError {
    fn from(_: ClientError) -> VisitorError {
        VisitorError::Closed
    }
}

/// How to get in.
#[derive(Clone, Debug)]
pub struct Ticket {
    pub server: Server,
    pub client_id: String,
    pub credentials: Option<(String, String)>,
    pub ca: Option<PathBuf>,
    pub identity: Option<Identity>,
}

/// A message that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    pub topic: String,
    pub payload: Vec<u8>,
    /// It lay at the broker.
    pub retained: bool,
}

pub struct Visitor {
    client: Client,
    connection: Connection,
    waiting: VecDeque<Told>,
}

impl std::fmt::Debug for Visitor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Visitor").field("waiting", &self.waiting.len()).finish_non_exhaustive()
    }
}

impl Visitor {
    pub fn connect(ticket: &Ticket) -> Result<Visitor, VisitorError> {
        let (name, port) = match &ticket.server.place {
            Place::Host { name, port } => (name.clone(), *port),
            Place::Unix(path) => (path.clone(), 0),
        };
        let mut mqtt = MqttOptions::new(&ticket.client_id, name, port);
        mqtt.set_clean_session(true).set_max_packet_size(MAX_PACKET, MAX_PACKET);
        if let Some((user, password)) = &ticket.credentials {
            mqtt.set_credentials(user, password);
        }
        if matches!(ticket.server.place, Place::Unix(_)) {
            mqtt.set_transport(Transport::Unix);
        } else if ticket.server.tls {
            let config =
                tls::config(ticket.ca.as_deref(), ticket.identity.as_ref(), std::sync::Arc::default())?;
            mqtt.set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(config)));
        }
        let (client, connection) = Client::new(mqtt, AT_THE_LIBRARY);
        let mut visitor = Visitor { client, connection, waiting: VecDeque::new() };
        visitor.wait(|packet| matches!(packet, Packet::ConnAck(_)))?;
        Ok(visitor)
    }

    pub fn subscribe(&mut self, filters: &[String]) -> Result<(), VisitorError> {
        let all = filters.iter().map(|filter| SubscribeFilter::new(filter.clone(), QoS::AtLeastOnce));
        self.client.try_subscribe_many(all.collect::<Vec<_>>())?;
        self.wait(|packet| matches!(packet, Packet::SubAck(_)))
    }

    /// Until the broker has it.
    pub fn publish(&mut self, topic: &str, payload: &[u8]) -> Result<(), VisitorError> {
        self.client.try_publish(topic, QoS::AtLeastOnce, true, payload)?;
        self.wait(|packet| matches!(packet, Packet::PubAck(_)))
    }

    /// For those who listen now; it goes out with the next look.
    pub fn pass(&mut self, topic: &str, payload: &[u8]) -> Result<(), VisitorError> {
        while self.client.try_publish(topic, QoS::AtMostOnce, false, payload).is_err() {
            // The library takes some at a time, and sends them while somebody looks.
            if self.turn(PATIENCE)?.is_none() {
                return Err(VisitorError::Silent);
            }
        }
        Ok(())
    }

    /// The next message, if one comes before that.
    pub fn next(&mut self, until: Instant) -> Result<Option<Told>, VisitorError> {
        while self.waiting.is_empty() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || self.turn(left)?.is_none() {
                break;
            }
        }
        Ok(self.waiting.pop_front())
    }

    fn wait(&mut self, is_it: impl Fn(&Packet) -> bool) -> Result<(), VisitorError> {
        let until = Instant::now() + PATIENCE;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.turn(left)? {
                Some(Event::Incoming(packet)) if is_it(&packet) => return Ok(()),
                Some(_) => {}
                None => return Err(VisitorError::Silent),
            }
        }
    }

    /// One event of the library's; none if nothing came.
    fn turn(&mut self, patience: Duration) -> Result<Option<Event>, VisitorError> {
        match self.connection.recv_timeout(patience) {
            Ok(Ok(Event::Incoming(Packet::Publish(message)))) => {
                if self.waiting.len() < MAX_WAITING {
                    let (topic, retained) = (message.topic.clone(), message.retain);
                    self.waiting.push_back(Told { topic, payload: message.payload.to_vec(), retained });
                }
                Ok(Some(Event::Incoming(Packet::Publish(message))))
            }
            Ok(Ok(event)) => Ok(Some(event)),
            Ok(Err(error)) => Err(Box::new(error).into()),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(VisitorError::Closed),
        }
    }
}
