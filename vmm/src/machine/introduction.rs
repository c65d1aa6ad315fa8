//! Who a machine is that goes on from a snapshot.
//!
//! Duty: make it up from the configuration, the host's clock and its random numbers, and bring it to the guest's agent
//! as soon as the guest's vsock driver has heard that all its connections are gone: before, it may take a new one for
//! one of them. Again where the guest hung up, as a driver does that takes its time. And again where the answer was long in coming: the time in the message was late
//! by up to as much, and the second way through a guest is a quick one.
//! Not its duty: what the agent does with it; the generation ID, which has told the guest's kernel before its first
//! instruction.
//!
//! ```text
//!   driver has heard, or is late ──▶ call ──hung up──▶ call again ── … ──▶ GivenUp
//!                                     └──answered──▶ Identified ──▶ call again until an answer is quick ──▶ Over
//! ```
//!
//! Invariant: it is the same identity in every try, with a seed and a time of its own; and there is a bound to tries.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use event_manager::SubscriberOps;
use hearth_config::vm::{MachineId, Net, VmConfig};
use hearth_wire::{FromAgent, Identity, Seed, ToAgent};

use super::Loop;
use super::agent_call::AgentCall;
use super::conductor::lock;
use crate::virtio::net::derived_mac;

/// Calls, of which all but the last may be cut off. Each one that is cut off has met another step of the guest's
/// driver coming to itself.
const TRIES: u32 = 8;
/// For the driver to hear of the reset; some never say that they did.
const RESET_PATIENCE: Duration = Duration::from_millis(50);
/// From a message to its answer: a guest's clock is late by no more than this.
const QUICK: Duration = Duration::from_millis(20);

/// What came of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Progress {
    Waiting,
    /// The guest is who it should be. Told once.
    Identified,
    /// And its clock is right.
    Over,
    /// And nobody will be.
    GivenUp(String),
}

/// The way from "a snapshot was restored" to "the guest knows who it is".
pub(super) struct Introduction {
    socket: PathBuf,
    hostname: String,
    machine_id: Option<[u8; 16]>,
    macs: Vec<[u8; 6]>,
    /// Whether the driver has not heard of the reset yet.
    resets: Option<Box<dyn Fn() -> bool>>,
    /// When nobody waits for it any more.
    until: Option<Instant>,
    tries: u32,
    call: Option<(Instant, Arc<Mutex<AgentCall>>)>,
    identified: bool,
}

impl Introduction {
    /// `None` where the machine has no vsock device, and so no way to an agent.
    pub(super) fn new(config: &VmConfig, resets: Option<Box<dyn Fn() -> bool>>) -> io::Result<Option<Self>> {
        let Some(vsock) = &config.vsock else { return Ok(None) };
        let card = |net: &Net| net.mac.unwrap_or_else(|| derived_mac(&net.tap, &net.id)).0;
        let machine_id = match config.identity.machine_id {
            MachineId::Keep => None,
            MachineId::Fixed(id) => Some(id),
            MachineId::New => Some(drawn()?),
        };
        Ok(Some(Self {
            socket: vsock.socket.clone(),
            hostname: config.identity.hostname.clone().unwrap_or_default(),
            machine_id,
            macs: config.net.iter().map(card).collect(),
            resets,
            until: None,
            tries: 0,
            call: None,
            identified: false,
        }))
    }

    /// When to look again, whatever happens.
    pub(super) fn due(&self) -> Option<Instant> {
        self.until.filter(|_| self.call.is_none())
    }

    /// Calls for the first time, or looks at what came of the last call.
    pub(super) fn attend(&mut self, now: Instant, events: &mut Loop) -> Progress {
        if let Some((began, call)) = &self.call {
            let call = lock(call);
            match call.answer() {
                Some(FromAgent::Identified) if !self.identified => {
                    self.identified = true;
                    return Progress::Identified;
                }
                Some(FromAgent::Identified) if call.answered_within(*began) <= QUICK => {
                    return Progress::Over;
                }
                Some(FromAgent::Identified) => {}
                Some(_) => return Progress::GivenUp("its agent answered something else".into()),
                None if !call.is_refused() => return Progress::Waiting,
                None => {}
            }
        }
        let until = *self.until.get_or_insert(now + RESET_PATIENCE);
        if self.call.is_none() && now < until && self.resets.as_ref().is_some_and(|resets| resets()) {
            return Progress::Waiting;
        }
        match (self.tries, self.identified) {
            (TRIES.., true) => return Progress::Over,
            (TRIES.., false) => return Progress::GivenUp("its agent does not answer".into()),
            _ => self.tries += 1,
        }
        let call = self.message().and_then(|m| AgentCall::ask(&self.socket, &m));
        match call {
            Ok(call) => {
                let call = Arc::new(Mutex::new(call));
                events.add_subscriber(Box::new(call.clone()));
                self.call = Some((now, call));
                Progress::Waiting
            }
            Err(error) => Progress::GivenUp(error.to_string()),
        }
    }

    fn message(&self) -> io::Result<ToAgent> {
        let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Ok(ToAgent::Identify(Identity {
            seed: Seed(drawn()?),
            wall_clock_ns: u64::try_from(since_1970.as_nanos()).unwrap_or(0),
            // The configuration keeps to the same bounds.
            hostname: self.hostname.as_str().try_into().unwrap_or_default(),
            machine_id: self.machine_id,
            macs: self.macs.iter().copied().take(hearth_wire::MAX_CARDS).collect(),
        }))
    }
}

fn drawn<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::{UnixListener, UnixStream};

    use event_manager::EventManager;
    use hearth_wire::{Decoder, MAX_FRAME, encode};

    use super::*;

    struct Bench {
        folder: tempfile::TempDir,
        host: UnixListener,
        events: Loop,
    }

    impl Bench {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let host = UnixListener::bind(folder.path().join("vsock")).unwrap();
            host.set_nonblocking(true).unwrap();
            Self { folder, host, events: EventManager::new().unwrap() }
        }

        fn introduction(&self, more: &str) -> Introduction {
            let socket = self.folder.path().join("vsock");
            let text = format!("[boot]\nkernel = \"k\"\n[vsock]\ncid = 3\nsocket = {socket:?}\n{more}");
            Introduction::new(&VmConfig::parse("vm.toml", &text).unwrap(), None).unwrap().unwrap()
        }

        /// The call, and who it says that the guest is.
        fn heard(&self) -> (UnixStream, Identity) {
            let mut stream = self.host.accept().unwrap().0;
            stream.set_nonblocking(false).unwrap();
            let mut bytes = [0; 14 + MAX_FRAME];
            let count = stream.read(&mut bytes).unwrap();
            let frame = bytes[..count].strip_prefix(b"CONNECT 1025\n").unwrap();
            let mut decoder = Decoder::new();
            assert!(decoder.push(frame).is_empty());
            let Ok(Some(ToAgent::Identify(identity))) = decoder.pop() else { panic!("no identity") };
            (stream, identity)
        }

        fn answer(&mut self, mut stream: UnixStream) {
            let mut frame = [0; MAX_FRAME];
            let mut bytes = b"OK 1\n".to_vec();
            bytes.extend_from_slice(encode(&FromAgent::Identified, &mut frame).unwrap());
            stream.write_all(&bytes).unwrap();
            self.events.run_with_timeout(0).unwrap();
        }
    }

    #[test]
    fn a_guest_that_hangs_up_is_told_again_and_it_is_the_same_identity() {
        let mut bench = Bench::new();
        let mut introduction = bench.introduction("[identity]\nhostname = \"till\"\n");
        let now = Instant::now();
        assert_eq!(introduction.attend(now, &mut bench.events), Progress::Waiting);
        let (stream, first) = bench.heard();
        drop(stream);
        bench.events.run_with_timeout(0).unwrap();
        assert_eq!(introduction.attend(now, &mut bench.events), Progress::Waiting);
        let (stream, second) = bench.heard();
        assert_eq!((&first.hostname, first.machine_id), (&second.hostname, second.machine_id));
        assert!(first.machine_id.is_some() && first.hostname == "till" && first.seed != second.seed);
        bench.answer(stream);
        assert_eq!(introduction.attend(now, &mut bench.events), Progress::Identified);
    }

    #[test]
    fn an_answer_that_was_long_in_coming_makes_for_another_time() {
        let mut bench = Bench::new();
        let mut introduction = bench.introduction("[identity]\nmachine_id = \"keep\"\n");
        let long_ago = Instant::now().checked_sub(QUICK * 2).unwrap();
        for told in [Progress::Identified, Progress::Waiting] {
            assert_eq!(introduction.attend(long_ago, &mut bench.events), Progress::Waiting);
            let (stream, identity) = bench.heard();
            assert_eq!(identity.machine_id, None);
            bench.answer(stream);
            if told == Progress::Identified {
                assert_eq!(introduction.attend(Instant::now(), &mut bench.events), told);
            }
        }
        // A call that is answered before it began, as far as this clock goes.
        let later = Instant::now() + QUICK;
        assert_eq!(introduction.attend(later, &mut bench.events), Progress::Waiting);
        bench.answer(bench.heard().0);
        assert_eq!(introduction.attend(later, &mut bench.events), Progress::Over);
    }

    #[test]
    fn nobody_calls_before_the_driver_has_heard_of_the_reset_unless_it_is_late() {
        let mut bench = Bench::new();
        let now = Instant::now();
        for (heard, wait, calls) in
            [(false, Duration::ZERO, false), (true, Duration::ZERO, true), (false, RESET_PATIENCE, true)]
        {
            let mut introduction = bench.introduction("");
            introduction.resets = Some(Box::new(|| true));
            assert_eq!(introduction.attend(now, &mut bench.events), Progress::Waiting);
            assert_eq!(introduction.due(), Some(now + RESET_PATIENCE));
            if heard {
                introduction.resets = Some(Box::new(|| false));
            }
            assert_eq!(introduction.attend(now + wait, &mut bench.events), Progress::Waiting);
            assert_eq!(bench.host.accept().is_ok(), calls, "heard: {heard}, after {wait:?}");
        }
    }

    #[test]
    fn a_guest_without_an_agent_is_given_up() {
        let mut bench = Bench::new();
        let mut introduction = bench.introduction("");
        for _ in 0..TRIES {
            assert_eq!(introduction.attend(Instant::now(), &mut bench.events), Progress::Waiting);
            drop(bench.host.accept().unwrap());
            bench.events.run_with_timeout(0).unwrap();
        }
        assert!(matches!(introduction.attend(Instant::now(), &mut bench.events), Progress::GivenUp(_)));
    }
}
