//! Questions to running machines, and other wishes that need their agent or monitor.
//!
//! Duty: pass them on, and tell which answer belongs to which question. Not here: when something is asked, what an
//! answer means (`hearth-core`), talking to the agent itself (`agent`).
//! Invariant: an answer that comes after its question was asked anew changes nothing, and however many questions nobody
//! takes, there is room for a request to stop.

use std::cell::{Cell, RefCell};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use hearth_config::workload::{Check, MAX_PROBES};
use hearth_wire::control::{Answer, Order};
use hearth_wire::{Question, ToAgent, UrlPath, Words};
use smol::LocalExecutor;
use smol::channel::Sender;

use crate::machine::{Reporter, What};
use crate::monitor;

/// Questions that wait for an agent: each probe has one under way, and the heartbeat none.
pub(crate) const MAX_WAITING: usize = MAX_PROBES;
/// Between the signal that asks a workload to end and its kill, when it is to begin anew in the same guest. The core
/// waits half a minute in all.
const RESTART_GRACE: Duration = Duration::from_secs(5);
/// A number of a question is the turn above the place of its probe.
const PLACE_BITS: u32 = 8;

/// What one machine was asked.
#[derive(Debug, Default)]
pub(crate) struct Asking {
    turn: Cell<u32>,
    /// The newest question of each probe that has no answer yet.
    open: RefCell<[Option<u32>; MAX_PROBES + 1]>,
    /// What its processors had done when they were last asked.
    progress: Rc<Cell<Option<u64>>>,
}

impl Asking {
    /// A number for a question of the probe at `place`.
    fn number(&self, place: u8) -> u32 {
        self.turn.set(self.turn.get().wrapping_add(1) & (u32::MAX >> PLACE_BITS));
        let number = self.turn.get() << PLACE_BITS | u32::from(place);
        if let Some(open) = self.open.borrow_mut().get_mut(usize::from(place)) {
            *open = Some(number);
        }
        number
    }

    /// The place of the probe that waits for this answer.
    pub(crate) fn answered(&self, number: u32) -> Option<u8> {
        let place = u8::try_from(number & (u32::MAX >> (u32::BITS - PLACE_BITS))).ok()?;
        let mut open = self.open.borrow_mut();
        let waiting = open.get_mut(usize::from(place)).filter(|waiting| **waiting == Some(number))?;
        *waiting = None;
        Some(place)
    }

    /// Asks; the answer is reported as [`What::Answered`].
    pub(crate) fn ask(
        &self,
        executor: &LocalExecutor<'_>,
        requests: &Sender<ToAgent>,
        control: PathBuf,
        (place, check, timeout): (u8, &Check, Duration),
        reporter: Reporter,
    ) {
        let id = self.number(place);
        if let Some(question) = question(check) {
            let timeout_ms = u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX);
            if requests.len() < MAX_WAITING {
                // Room is left; and if the agent is gone for good, silence is the answer.
                let _ = requests.try_send(ToAgent::Ask { id, timeout_ms, question });
            }
        } else if *check == Check::VcpuProgress {
            let progress = Rc::clone(&self.progress);
            let asking = async move {
                let Some(now) = work_of_processors(&control, timeout).await else { return };
                let good = progress.replace(Some(now)) != Some(now);
                reporter.report(What::Answered { id, good }).await;
            };
            executor.spawn(asking).detach();
        }
    }
}

/// Has the agent start the workload anew in its guest.
pub(crate) fn restart_process(requests: &Sender<ToAgent>) {
    let grace_ms = u32::try_from(RESTART_GRACE.as_millis()).unwrap_or(u32::MAX);
    // Full means that nobody takes requests; the core waits for the workload's start, and not for ever.
    let _ = requests.try_send(ToAgent::Restart { grace_ms });
}

/// Has the monitor's balloon hold so much.
pub(crate) fn balloon(executor: &LocalExecutor<'_>, control: PathBuf, mib: u32, reporter: Reporter) {
    let asking = async move {
        if let Err(error) =
            monitor::ask(&control, Order::BalloonTarget { mib }, monitor::PATIENCE, |_| {}).await
        {
            reporter.complain(&format!("its balloon is not set: {error}"));
        }
    };
    executor.spawn(asking).detach();
}

/// What the agent is asked, if it is the one to ask.
fn question(check: &Check) -> Option<Question> {
    match check {
        Check::Exec { command } => {
            let bytes: Vec<u8> = command.iter().flat_map(|word| word.bytes().chain([0])).collect();
            // It fits: the configuration bounds it.
            Words::from_slice(&bytes).ok().map(Question::Exec)
        }
        Check::Tcp { port } => Some(Question::Tcp { port: *port }),
        Check::Http { port, path } => {
            UrlPath::try_from(path.as_str()).ok().map(|path| Question::Http { port: *port, path })
        }
        Check::Heartbeat | Check::VcpuProgress | Check::Watchdog | Check::Pvpanic => None,
    }
}

/// Everything that the monitor counts of the machine's processors, their time included, in one number.
async fn work_of_processors(control: &Path, patience: Duration) -> Option<u64> {
    let mut sum = 0_u64;
    let counted = monitor::ask(control, Order::Statistics, patience, |answer| {
        if let Answer::Figures { of, figures, .. } = answer
            && of.starts_with("vcpu")
        {
            sum = figures.iter().fold(sum, |sum, figure| sum.wrapping_add(figure.value));
        }
    });
    counted.await.ok()?;
    Some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hearth_config::workload::{
        MAX_PROBE_ARGUMENTS, MAX_PROBE_COMMAND_BYTES, MAX_PROBE_PATH_BYTES, WorkloadConfig,
    };
    use hearth_core::{Run, Slot, WorkloadId};
    use smol::channel::bounded;

    use crate::console::Console;

    fn reporter() -> (Reporter, smol::channel::Receiver<crate::machine::Report>) {
        let (reports, reported) = bounded(4);
        let reporter = Reporter {
            vm: WorkloadId::from_number(0).replica(Slot::FIRST).run(Run(1)),
            name: "web".into(),
            workload: "web".into(),
            logs: None,
            screens: crate::screens::Screens::default(),
            console: Console::new(["web"], std::io::sink()).unwrap(),
            reports,
            guests: crate::guests::Guests::none(&Console::new(["web"], std::io::sink()).unwrap()),
            heartbeat: Duration::from_secs(1),
        };
        (reporter, reported)
    }

    #[test]
    fn an_answer_counts_once_and_only_to_the_newest_question_of_its_probe() {
        let asking = Asking::default();
        let first = asking.number(3);
        let other = asking.number(16);
        let second = asking.number(3);
        assert_eq!(asking.answered(first), None, "asked anew since");
        assert_eq!(asking.answered(second), Some(3));
        assert_eq!(asking.answered(second), None, "twice");
        assert_eq!(asking.answered(other), Some(16));
        assert_eq!(asking.answered(255), None);
        asking.turn.set(u32::MAX >> PLACE_BITS);
        let wrapped = asking.number(1);
        assert_eq!(asking.answered(wrapped), Some(1));
    }

    #[test]
    fn the_largest_questions_of_a_file_fit_their_messages() {
        let word = "x".repeat(MAX_PROBE_COMMAND_BYTES / MAX_PROBE_ARGUMENTS - 1);
        let command = vec![word; MAX_PROBE_ARGUMENTS];
        assert!(question(&Check::Exec { command }).is_some());
        let path = "/".repeat(MAX_PROBE_PATH_BYTES);
        assert!(question(&Check::Http { port: 1, path }).is_some());
        let text = "kind = \"job\"\nimage = \"i\"";
        let plain = WorkloadConfig::parse("a.toml", text).unwrap();
        assert_eq!(question(&plain.probes[0].check), None);
    }

    #[test]
    fn questions_that_nobody_takes_leave_room_for_a_stop() {
        let executor = LocalExecutor::new();
        let (requests, waiting) = bounded(crate::machine::MAX_REQUESTS);
        let asking = Asking::default();
        for _ in 0..100 {
            let probe = (0, &Check::Tcp { port: 1 }, Duration::from_secs(1));
            asking.ask(&executor, &requests, PathBuf::new(), probe, reporter().0);
        }
        assert_eq!(waiting.len(), MAX_WAITING);
        restart_process(&requests);
        requests.try_send(ToAgent::Shutdown { grace_ms: 1 }).unwrap();
    }

    #[test]
    fn processors_that_do_nothing_between_two_questions_are_bad() {
        let folder = tempfile::tempdir().unwrap();
        let control = folder.path().join("control.sock");
        let listener = smol::net::unix::UnixListener::bind(&control).unwrap();
        let executor = LocalExecutor::new();
        let (reporter, reported) = reporter();
        let (requests, _waiting) = bounded(crate::machine::MAX_REQUESTS);
        let asking = Asking::default();
        let mut goods = Vec::new();
        smol::block_on(executor.run(async {
            for work in [5, 5, 9] {
                let probe = (0, &Check::VcpuProgress, Duration::from_secs(60));
                asking.ask(&executor, &requests, control.clone(), probe, reporter.clone());
                monitor::tests::answer_once(&listener, work).await;
                let What::Answered { id, good } = reported.recv().await.unwrap().what else {
                    panic!("no answer")
                };
                assert_eq!(asking.answered(id), Some(0));
                goods.push(good);
            }
        }));
        assert_eq!(goods, [true, false, true]);
    }
}
