//! Where a broker is.
//!
//! Duty: `mqtt://host:port`, `mqtts://host:port` and `unix:path`, read. Not here: names, which are resolved with each
//! connection.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// As assigned for MQTT.
const PORT: u16 = 1883;
const TLS_PORT: u16 = 8883;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    pub place: Place,
    pub tls: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    Host { name: String, port: u16 },
    Unix(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("expected \"mqtts://HOST:PORT\", \"mqtt://HOST:PORT\" or \"unix:/PATH\"")]
pub struct BadServer;

impl FromStr for Server {
    type Err = BadServer;

    fn from_str(text: &str) -> Result<Server, BadServer> {
        if let Some(path) = text.strip_prefix("unix:") {
            let place = Place::Unix(path.to_owned());
            return if path.starts_with('/') { Ok(Server { place, tls: false }) } else { Err(BadServer) };
        }
        let (tls, rest) = match text.split_once("://") {
            Some(("mqtts", rest)) => (true, rest),
            Some(("mqtt", rest)) => (false, rest),
            _ => return Err(BadServer),
        };
        let (name, port) = split(rest.strip_suffix('/').unwrap_or(rest))?;
        let port = match port {
            Some(port) => port.parse().ok().filter(|port| *port != 0).ok_or(BadServer)?,
            None if tls => TLS_PORT,
            None => PORT,
        };
        // An address in brackets is no name that a certificate could have.
        let in_brackets = name.starts_with('[');
        let part = |character: char| {
            character.is_ascii_alphanumeric() || matches!(character, '.' | '-' | '_' | ':' | '[' | ']')
        };
        if name.is_empty() || !name.chars().all(part) || (tls && in_brackets) {
            return Err(BadServer);
        }
        Ok(Server { place: Place::Host { name: name.to_owned(), port }, tls })
    }
}

fn split(rest: &str) -> Result<(&str, Option<&str>), BadServer> {
    if rest.starts_with('[') {
        let end = rest.find(']').ok_or(BadServer)? + 1;
        return match rest[end..].strip_prefix(':') {
            Some(port) => Ok((&rest[..end], Some(port))),
            None if rest.len() == end => Ok((rest, None)),
            None => Err(BadServer),
        };
    }
    match rest.split_once(':') {
        Some((_, port)) if port.contains(':') => Err(BadServer),
        Some((name, port)) => Ok((name, Some(port))),
        None => Ok((rest, None)),
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Host { name, port } => {
                write!(f, "{}://{name}:{port}", if self.tls { "mqtts" } else { "mqtt" })
            }
            Place::Unix(path) => write!(f, "unix:{path}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_read_with_the_ports_that_are_theirs() {
        for (text, expected) in [
            ("mqtts://broker.example", "mqtts://broker.example:8883"),
            ("mqtt://10.0.0.7:1884/", "mqtt://10.0.0.7:1884"),
            ("mqtt://broker", "mqtt://broker:1883"),
            ("mqtt://[::1]:7", "mqtt://[::1]:7"),
            ("unix:/run/broker", "unix:/run/broker"),
        ] {
            assert_eq!(text.parse::<Server>().map(|server| server.to_string()), Ok(expected.to_owned()));
        }
        for bad in [
            "",
            "broker",
            "http://b",
            "mqtt://",
            "mqtt://b:0",
            "mqtt://b:x",
            "mqtt://::1",
            "mqtts://[::1]",
            "mqtt://[::1]x",
            "mqtt://a@b",
            "unix:b",
            "mqtt://b/c",
        ] {
            assert_eq!(bad.parse::<Server>(), Err(BadServer), "{bad}");
        }
    }
}
