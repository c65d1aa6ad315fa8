//! What the fleet asks to see, and programs that it runs: commands that give output.
//!
//! | file | what |
//! |---|---|
//! | `output.rs` | bytes into numbered pieces, within a bound |
//! | `program.rs` | a program in a guest |
//! | `looks.rs` | a console, a log |
//!
//! ```text
//! begun --> running --its own end, its time is over, cancelled, the daemon leaves--> all pieces, the end's mark, the end
//! ```
//!
//! Duty: run them beside everything else, and end them. Not here: who may (`hearth-fleet`, `daemon`), keeping what they
//! say until a broker has it (the outbox).
//! Invariant: so many at a time, each bounded in bytes and time. Who takes nothing from a stream slows that stream down,
//! and nobody else.

mod looks;
mod output;
mod program;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use hearth_fleet::tree::{News, Outcome, Stream, Subject};
use smol::LocalExecutor;
use smol::channel::{Receiver, Sender, bounded};
use smol::future::or;

use self::output::Output;
use crate::api::server::{Caller, Door};
use crate::api::types::SnapshotWanted;
use crate::api::{Reply, snapshot};

/// Streams at a time: some people who look.
const MAX_STREAMS: usize = 4;

/// What is told of one while it lasts.
#[derive(Clone, Debug)]
pub(crate) struct Speaker {
    pub(super) news: Sender<News>,
    /// Wakes the thread that takes it.
    pub(super) nudge: Sender<()>,
}

impl Speaker {
    /// Waits while the thread has enough to do.
    async fn tell(&self, news: News) {
        // Nobody takes it only when the daemon leaves.
        let _ = self.news.send(news).await;
        let _ = self.nudge.try_send(());
    }

    async fn tell_all(&self, news: impl IntoIterator<Item = News>) {
        for news in news {
            self.tell(news).await;
        }
    }
}

/// Those that run, by the IDs of their commands. Who ends one says why.
#[derive(Clone, Debug, Default)]
pub(crate) struct Streams(Rc<RefCell<BTreeMap<String, Sender<&'static str>>>>);

/// One of them, as all its parts see it.
struct Running<'r> {
    door: &'r Door,
    speaker: &'r Speaker,
    id: &'r str,
    stream: &'r Stream,
}

impl Streams {
    /// `Some`: it does not begin.
    pub(crate) fn begin(
        &self,
        executor: &LocalExecutor<'static>,
        door: Door,
        speaker: Speaker,
        id: String,
        stream: Stream,
    ) -> Option<Outcome> {
        if self.0.borrow().len() >= MAX_STREAMS {
            return Some(Outcome::Rejected(format!("{MAX_STREAMS} streams are on their way already")));
        }
        let (stop, stopped) = bounded(1);
        self.0.borrow_mut().insert(id.clone(), stop);
        let streams = self.clone();
        let running = async move {
            let running = Running { door: &door, speaker: &speaker, id: &id, stream: &stream };
            let ended = running.run(stopped).await;
            // Before its end is told: who hears of that may ask for the next one.
            streams.0.borrow_mut().remove(&id);
            speaker.tell(News::Ended { id, outcome: ended }).await;
        };
        executor.spawn(running).detach();
        None
    }

    pub(crate) fn cancel(&self, of: &str) -> Outcome {
        match self.0.borrow().get(of) {
            Some(stop) => {
                let _ = stop.try_send("it was cancelled");
                Outcome::Done
            }
            None => Outcome::Failed(format!("{of} is over, or is nothing that can be cancelled")),
        }
    }

    pub(super) fn leave(&self) {
        for stop in self.0.borrow().values() {
            let _ = stop.try_send("the daemon leaves");
        }
    }
}

impl Running<'_> {
    async fn run(&self, stopped: Receiver<&'static str>) -> Outcome {
        let mut output = Output::new(self.stream.kind(), self.id, self.stream.most_bytes);
        let ended = {
            let stop = async { Err(stopped.recv().await.unwrap_or("it was cancelled").to_owned()) };
            let work = async {
                match &self.stream.subject {
                    Subject::Exec { command, input, within } => {
                        self.program(command, input, *within, &mut output).await.map(Some)
                    }
                    Subject::Console { follow } => self.console(*follow, &mut output).await.map(|()| None),
                    Subject::Logs { lines } => self.log(*lines, &mut output).await.map(|()| None),
                }
            };
            or(stop, work).await
        };
        let exit = ended.as_ref().ok().copied().flatten();
        let failure = match ended {
            Ok(None | Some(0)) => None,
            Ok(Some(status)) => Some(format!("it ended with status {status}")),
            Err(why) => Some(why),
        };
        self.speaker.tell_all(output.flush()).await;
        let (mark, tally) = output.end(exit);
        self.speaker.tell(mark).await;
        Outcome::Streamed { failure, tally }
    }
}

/// A machine written down for the fleet, which takes as long as a disk does.
pub(crate) fn take_snapshot(
    executor: &LocalExecutor<'static>,
    door: Door,
    speaker: Speaker,
    id: String,
    workload: String,
    name: Option<String>,
) {
    let taking = async move {
        let caller = Caller::Local(by(&id));
        let reply = snapshot::take(&door, &caller, workload, SnapshotWanted { name }).await;
        let outcome = if reply.status == 201 { Outcome::Done } else { Outcome::Failed(words(&reply)) };
        speaker.tell(News::Ended { id, outcome }).await;
    };
    executor.spawn(taking).detach();
}

/// Who it was, for people at the box.
fn by(id: &str) -> String {
    format!("the fleet (command {id})")
}

/// Why something cannot be.
fn words(reply: &Reply) -> String {
    let value: Option<serde_json::Value> = serde_json::from_slice(&reply.body).ok();
    let message = value.as_ref().and_then(|value| value.get("message")).and_then(serde_json::Value::as_str);
    message.unwrap_or("it cannot be had").to_owned()
}
