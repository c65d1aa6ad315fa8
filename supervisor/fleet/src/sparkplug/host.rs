//! The primary host, as far as its STATE messages tell.
//!
//! Duty: which of them count. Not here: what follows (`session`).
//! Invariant: a message older than the last one that counted changes nothing
//! (`tck-id-message-flow-edge-node-birth-publish-phid-wait-timestamp`).

use serde::Deserialize;

use crate::topics::Id;

/// Bytes of a STATE message that are parsed at all; good ones have 50.
const MAX_STATE: usize = 4096;

/// `tck-id-host-topic-phid-birth-payload`; what else stands there is skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct HostState {
    pub online: bool,
    /// Milliseconds since 1970, UTC.
    pub timestamp: u64,
}

impl HostState {
    pub fn read(payload: &[u8]) -> Option<HostState> {
        if payload.len() > MAX_STATE { None } else { serde_json::from_slice(payload).ok() }
    }
}

/// What is known of the host that this box waits for.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) id: Id,
    latest: Option<u64>,
    /// None: nothing was heard of it over this connection.
    pub(super) online: Option<bool>,
}

impl Host {
    pub(super) fn new(id: Id) -> Host {
        Host { id, latest: None, online: None }
    }

    /// Another connection, perhaps to another server.
    pub(super) fn forget(&mut self) {
        self.online = None;
    }

    /// `tck-id-message-flow-edge-node-birth-publish-phid-wait-id`, `...-phid-wait-online`, `...-phid-wait-timestamp`.
    pub(super) fn hear(&mut self, id: &str, payload: &[u8]) {
        let Some(state) = HostState::read(payload).filter(|_| id == self.id.as_str()) else { return };
        if self.latest.is_none_or(|latest| state.timestamp >= latest) {
            self.latest = Some(state.timestamp);
            self.online = Some(state.online);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_hosts_own_latest_word_counts() {
        let mut host = Host::new(Id::new("scada").unwrap());
        let mut hear = |id: &str, text: &str| {
            host.hear(id, text.as_bytes());
            host.online
        };
        assert_eq!(hear("other", r#"{"online":true,"timestamp":1}"#), None);
        for bad in
            ["", "ONLINE", r#"{"online":true}"#, r#"{"online":1,"timestamp":1}"#, r#"{"timestamp":-1}"#]
        {
            assert_eq!(hear("scada", bad), None, "{bad}");
        }
        assert_eq!(hear("scada", r#"{"online":true,"timestamp":10,"more":[1]}"#), Some(true));
        assert_eq!(hear("scada", r#"{"online":false,"timestamp":9}"#), Some(true));
        assert_eq!(hear("scada", r#"{"online":false,"timestamp":10}"#), Some(false));
        let long = format!(r#"{{"online":true,"timestamp":11,"more":"{}"}}"#, "x".repeat(MAX_STATE));
        assert_eq!(hear("scada", &long), Some(false));
    }
}
