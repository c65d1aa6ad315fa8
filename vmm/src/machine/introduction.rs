//! Who a machine is that goes on from a snapshot.
//!
//! Duty: make it up from the configuration, the host's clock and its random numbers, bring it to the guest's agent as
//! soon as the guest runs, and again where the guest hung up: its vsock driver, told that all its connections are gone, may take the
//! new one for one of them. Not its duty: what the agent does with it; the generation ID, which has told the
//! guest's kernel before its first instruction.
//!
//! Invariant: every try carries a seed and a time of its own, and there is a bound to tries.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use event_manager::SubscriberOps;
use hearth_config::vm::{MachineId, VmConfig};
use hearth_wire::{FromAgent, Identity, Seed, ToAgent};

use super::Loop;
use super::agent_call::AgentCall;
use super::conductor::lock;
use crate::virtio::net::derived_mac;

/// Calls, of which all but the last may be cut off. Each one that is cut off has met another step of the guest's
/// driver coming to itself.
const TRIES: u32 = 8;

/// What came of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Progress {
    Waiting,
    /// The guest is who it should be.
    Done,
    /// And nobody will be.
    GivenUp(String),
}

/// The way from "a snapshot was restored" to "the guest knows who it is".
#[derive(Debug)]
pub(super) struct Introduction {
    socket: PathBuf,
    hostname: String,
    machine_id: MachineId,
    macs: Vec<[u8; 6]>,
    tries: u32,
    call: Option<Arc<Mutex<AgentCall>>>,
}

impl Introduction {
    /// `None` where the machine has no vsock device, and so no way to an agent.
    pub(super) fn new(config: &VmConfig) -> Option<Self> {
        let card = |net: &hearth_config::vm::Net| net.mac.unwrap_or_else(|| derived_mac(&net.tap, &net.id)).0;
        Some(Self {
            socket: config.vsock.as_ref()?.socket.clone(),
            hostname: config.identity.hostname.clone().unwrap_or_default(),
            machine_id: config.identity.machine_id,
            macs: config.net.iter().map(card).collect(),
            tries: 0,
            call: None,
        })
    }

    /// Calls for the first time, or looks at what came of the last call.
    pub(super) fn attend(&mut self, events: &mut Loop) -> Progress {
        if let Some(call) = &self.call {
            let call = lock(call);
            match call.answer() {
                Some(FromAgent::Identified) => return Progress::Done,
                Some(_) => return Progress::GivenUp("its agent answered something else".into()),
                None if !call.is_refused() => return Progress::Waiting,
                None if self.tries >= TRIES => return Progress::GivenUp("its agent does not answer".into()),
                None => {}
            }
        }
        self.tries += 1;
        let message = match self.message() {
            Ok(message) => message,
            Err(error) => return Progress::GivenUp(error.to_string()),
        };
        match AgentCall::ask(&self.socket, &message) {
            Ok(call) => {
                let call = Arc::new(Mutex::new(call));
                events.add_subscriber(Box::new(call.clone()));
                self.call = Some(call);
                Progress::Waiting
            }
            Err(error) => Progress::GivenUp(error.to_string()),
        }
    }

    fn message(&self) -> Result<ToAgent, getrandom::Error> {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed)?;
        let machine_id = match self.machine_id {
            MachineId::Keep => None,
            MachineId::Fixed(id) => Some(id),
            MachineId::New => {
                let mut id = [0; 16];
                getrandom::fill(&mut id)?;
                Some(id)
            }
        };
        let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Ok(ToAgent::Identify(Identity {
            seed: Seed(seed),
            wall_clock_ns: u64::try_from(since_1970.as_nanos()).unwrap_or(0),
            // The configuration keeps to the same bounds.
            hostname: self.hostname.as_str().try_into().unwrap_or_default(),
            machine_id,
            macs: self.macs.iter().copied().take(hearth_wire::MAX_CARDS).collect(),
        }))
    }
}
