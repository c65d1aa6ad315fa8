//! The way to the broker.
//!
//! Duty: arguments into a connection. Not here: what is said on it.

use std::fs;
use std::io;
use std::path::PathBuf;

use clap::Args;
use hearth_fleet::shell::{BadServer, Identity, Server, Ticket, Visitor};
use hearth_fleet::topics::{BadId, Id, Topics};
use thiserror::Error;

use super::FleetError;

/// Says it for all calls.
const VARIABLE: &str = "HEARTH_BROKER";

#[derive(Clone, Debug, Args)]
pub struct Way {
    /// Such as mqtts://broker.example, mqtt://HOST:PORT or unix:/PATH; by default $HEARTH_BROKER
    #[arg(long, value_name = "URL")]
    broker: Option<String>,
    /// The group of boxes
    #[arg(long, value_name = "NAME", default_value = "hearth")]
    pub(super) group: String,
    /// The authorities of a broker with TLS
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Who one is to it, and the key of that
    #[arg(long, value_name = "FILE", requires = "certificate_key")]
    certificate: Option<PathBuf>,
    #[arg(long, value_name = "FILE", requires = "certificate")]
    certificate_key: Option<PathBuf>,
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// Its first line is the user's password
    #[arg(long, value_name = "FILE", requires = "user")]
    password_file: Option<PathBuf>,
}

#[derive(Debug, Error)]
pub(super) enum WayError {
    #[error("expected --broker URL, or HEARTH_BROKER in the environment")]
    None,
    #[error("--broker")]
    Broker(#[from] BadServer),
    #[error("{0}")]
    Name(String, #[source] BadId),
    #[error("{}", .0.display())]
    Password(PathBuf, #[source] io::Error),
}

impl Way {
    pub(super) fn visit(&self) -> Result<Visitor, FleetError> {
        let broker = self.broker.clone().or_else(|| std::env::var(VARIABLE).ok()).ok_or(WayError::None)?;
        let server: Server = broker.parse().map_err(WayError::from)?;
        let password = match &self.password_file {
            Some(file) => {
                let text =
                    fs::read_to_string(file).map_err(|error| WayError::Password(file.clone(), error))?;
                text.lines().next().unwrap_or_default().to_owned()
            }
            None => String::new(),
        };
        let identity = self.certificate.clone().zip(self.certificate_key.clone());
        let ticket = Ticket {
            server,
            client_id: format!("hearthctl-{}", std::process::id()),
            credentials: self.user.clone().map(|user| (user, password)),
            ca: self.ca.clone(),
            identity: identity.map(|(certificate, key)| Identity { certificate, key }),
        };
        Ok(Visitor::connect(&ticket)?)
    }

    /// A box's place in the tree.
    pub(super) fn place(&self, node: &str) -> Result<String, WayError> {
        Ok(Topics::new(self.id(&self.group)?, self.id(node)?).management())
    }

    /// What lies below the places of all boxes of the group.
    pub(super) fn below(&self, what: &str) -> Result<String, WayError> {
        let group = self.id(&self.group)?;
        Ok(format!("hearth/v1/{group}/+/{what}"))
    }

    /// Telemetry of the group: `what` is the topic behind that.
    pub(super) fn telemetry(&self, what: &str) -> Result<String, WayError> {
        Ok(format!("spBv1.0/{}/{what}", self.id(&self.group)?))
    }

    fn id(&self, name: &str) -> Result<Id, WayError> {
        Id::new(name).map_err(|error| WayError::Name(name.to_owned(), error))
    }
}

/// The box and what lies below its place, of a topic in the tree.
pub(super) fn split(topic: &str) -> Option<(&str, &str)> {
    let (_group, rest) = topic.strip_prefix("hearth/v1/")?.split_once('/')?;
    rest.split_once('/')
}
