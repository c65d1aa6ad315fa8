//! What a guest did wrong, or what was given up because of a bound: counted always, logged for a while.
//!
//! Invariant: a guest cannot write the host's log at will; each kind has a quota for the life of the VM.

use crate::logger::Quota;

/// One kind of thing that should not happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Incident {
    /// A packet said that it came from another context than the guest's.
    ForeignSource,
    /// A chain too short for a header, or for what its header promised.
    Malformed,
    /// A packet that no connection, or not one in that state, could mean.
    Unexpected,
    /// Bytes without credit, or credit for bytes that were never sent.
    Overdrawn,
    /// No room for one more connection.
    Refused,
    /// A connection that only waited for its end made room for a new one.
    Evicted,
    /// More RSTs to send than may be kept.
    ResetLost,
}

impl Incident {
    const COUNT: usize = 7;

    const ALL: [Self; Self::COUNT] = [
        Self::ForeignSource,
        Self::Malformed,
        Self::Unexpected,
        Self::Overdrawn,
        Self::Refused,
        Self::Evicted,
        Self::ResetLost,
    ];

    /// Its name in statistics.
    const fn name(self) -> &'static str {
        match self {
            Self::ForeignSource => "foreign_source",
            Self::Malformed => "malformed",
            Self::Unexpected => "unexpected",
            Self::Overdrawn => "overdrawn",
            Self::Refused => "refused",
            Self::Evicted => "evicted",
            Self::ResetLost => "reset_lost",
        }
    }

    const fn text(self) -> &'static str {
        match self {
            Self::ForeignSource => "a packet from a foreign context was dropped",
            Self::Malformed => "a packet was shorter than its header says",
            Self::Unexpected => "a packet was out of place and is answered with RST",
            Self::Overdrawn => "a connection broke flow control and is reset",
            Self::Refused => "a connection was refused: too many are open",
            Self::Evicted => "a connection that never ended made room for a new one",
            Self::ResetLost => "an RST was dropped: the guest takes none",
        }
    }
}

/// How often each kind happened since the VM started; a reset of the device does not clear it.
#[derive(Debug, Default)]
pub struct Incidents {
    counts: [u64; Incident::COUNT],
    quotas: [Quota; Incident::COUNT],
}

impl Incidents {
    /// How often it happened.
    #[must_use]
    pub fn count(&self, incident: Incident) -> u64 {
        self.counts.get(incident as usize).copied().unwrap_or(0)
    }

    /// Every kind's name and count.
    pub(super) fn report(&self, report: &mut dyn FnMut(&'static str, u64)) {
        for incident in Incident::ALL {
            report(incident.name(), self.count(incident));
        }
    }

    pub(super) fn note(&mut self, incident: Incident) {
        if let Some(count) = self.counts.get_mut(incident as usize) {
            *count = count.saturating_add(1);
        }
        if self.quotas.get(incident as usize).is_some_and(Quota::allow) {
            log::warn!("vsock: {}", incident.text());
        }
    }
}
