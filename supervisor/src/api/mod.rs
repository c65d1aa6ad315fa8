//! The local API: what people and programs on the box may ask of a running `hearthd`, as JSON over HTTP/1.1.
//!
//! | file | what |
//! |---|---|
//! | `types.rs` | what is answered, for both sides |
//! | `words.rs`, `view.rs` | the core's state as these types |
//! | `http.rs` | requests out of bytes, answers into bytes |
//! | `routes.rs` | which request is which question |
//! | `metrics.rs` | the same for Prometheus |
//! | `events.rs` | what was announced lately, and who waits for more |
//! | `server.rs` | connections |
//! | `console.rs` | those that show a guest's console |
//! | `snapshot.rs` | a machine written down on request |
//! | `token.rs` | who may ask over TCP |
//! | `exec.rs` | those that become a line to a program in a guest |
//! | `client.rs` | the other side, for `hearthctl` |
//!
//! Duty: questions and requests in, answers out. Not here: decisions (`hearth-core`), tables for people (`ctl`).
//! Invariant: connections, bytes of a request, questions that wait and remembered events are bounded; who reads slowly
//! is told what it missed, or disconnected, and holds nobody up.

pub mod client;
mod console;
pub(crate) mod events;
pub(crate) mod exec;
mod http;
mod metrics;
mod routes;
pub(crate) mod server;
pub(crate) mod snapshot;
pub(crate) mod token;
pub mod types;
pub(crate) mod view;
pub(crate) mod words;

use hearth_core::{Event, Kind, Moment, Request, Said, State, WorkloadId};
use smol::channel::Sender;

pub(crate) use self::view::answer;

/// Questions that wait for the daemon's loop; who asks more waits.
pub(crate) const MAX_QUESTIONS: usize = 16;

/// What a connection wants of the daemon's loop.
#[derive(Debug)]
pub(crate) struct Ask {
    pub(crate) question: Question,
    pub(crate) answer: Sender<Reply>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Question {
    Status,
    Explain {
        workload: String,
    },
    /// Which machine is meant by the name of a workload or of a replica.
    Reach {
        name: String,
    },
    Do {
        workload: String,
        deed: Deed,
    },
    LeaveSafeMode,
    BeginAgain,
    Reboot,
    Metrics,
    /// What is foreseen of a workload; none: of the host.
    Forecast {
        workload: Option<String>,
    },
    /// Likewise, and what was learnt of it is forgotten.
    Unlearn {
        workload: Option<String>,
    },
    /// Somebody knows how it was before.
    Teach {
        workload: String,
        lesson: types::Lesson,
    },
    /// Somebody passed requests on to it.
    Served {
        workload: String,
        served: types::Served,
    },
}

/// What may be done to one workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deed {
    Restart,
    Stop,
    Start,
    Retry,
    /// Somebody agrees to what is proposed to heal it.
    Heal,
    Undo,
    /// Ends its machines as a crash would, for people who want to see what happens then.
    Kill,
    Scale(Option<u16>),
    /// So many replicas of a function are asked for.
    Demand(u16),
}

/// A status of HTTP and a body of JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

impl Question {
    /// What the core is to hear before the answer is drawn; `None` for questions that change nothing, and for
    /// workloads that there are not.
    pub(crate) fn event(&self, core: &State) -> Option<Event> {
        let request = match self {
            Question::Status | Question::Metrics | Question::Explain { .. } | Question::Reach { .. } => {
                return None;
            }
            // The core hears what is made of it.
            Question::Forecast { .. } | Question::Unlearn { .. } | Question::Teach { .. } => return None,
            Question::Served { workload, served } => {
                let vm = view::machine(core, workload, served.replica.as_deref()?)?;
                let (requests, errors) = (served.requests, served.errors);
                return Some(Event::Vm { vm, said: Said::Served { requests, errors } });
            }
            Question::LeaveSafeMode => Request::LeaveSafeMode,
            Question::BeginAgain => Request::ReExec,
            Question::Reboot => Request::Reboot,
            Question::Do { workload, deed } => {
                let workload = core.id_of(workload)?;
                match *deed {
                    Deed::Restart => Request::Restart(workload),
                    Deed::Stop => Request::Stop(workload),
                    Deed::Start => Request::Start(workload),
                    Deed::Retry => Request::Retry(workload),
                    Deed::Heal => Request::Heal(workload),
                    // The core hears of it as of any crash.
                    Deed::Kill => return None,
                    Deed::Undo => Request::UndoRollout(workload),
                    // What runs of a function is what is asked for: its file says no number.
                    Deed::Scale(replicas) if is_function(core, workload) => {
                        return Some(Event::Demand { workload, replicas: replicas.unwrap_or_default() });
                    }
                    Deed::Scale(replicas) => Request::Scale { workload, replicas },
                    Deed::Demand(replicas) if is_function(core, workload) => {
                        return Some(Event::Demand { workload, replicas });
                    }
                    // The answer says so.
                    Deed::Demand(_) => return None,
                }
            }
        };
        Some(Event::Ask(request))
    }
}

pub(crate) fn is_function(core: &State, workload: WorkloadId) -> bool {
    core.explain(workload).is_some_and(|story| matches!(story.kind, Kind::Function { .. }))
}

impl Question {
    /// Whose machines are to end as by a crash.
    pub(crate) fn victim(&self, core: &State) -> Option<WorkloadId> {
        match self {
            Question::Do { workload, deed: Deed::Kill } => core.id_of(workload),
            _ => None,
        }
    }
}

impl Ask {
    /// Who asked may have hung up.
    pub(crate) fn answer(&self, core: &State, telemetry: view::Telemetry<'_>, now: Moment) {
        self.reply(answer(core, telemetry, now, &self.question));
    }

    pub(crate) fn reply(&self, reply: Reply) {
        let _ = self.answer.try_send(reply);
    }
}
