//! What is foreseen, in the loop.
//!
//! Duty: looks when it is time, insights as events of the core, questions with those about what is foreseen. Not here: looking
//! (`lookout`), following (`hearth-core`). Invariant: what changes the box goes through the core.

use hearth_core::{Announcement, Event, Insight, Said, WorkloadId};
use hearth_foresight::Served;

use super::Daemon;
use crate::api::{Ask, Question, Reply, view};

impl Daemon {
    pub(super) fn look_out(&mut self) {
        let now = self.now();
        let looked = self.lookout.look(&self.core, now, &self.executor);
        let passed = self.lookout.pass(&self.core, now);
        self.follow_foresight(looked.into_iter().chain(passed).collect());
        if let Some(words) = self.lookout.keep(now) {
            self.console.say(&words);
        }
        self.keep_calendar_if_due();
    }

    fn follow_foresight(&mut self, insights: Vec<Insight>) {
        // On the way down it still looks, or it would be due without end; but nobody follows.
        if self.asked_to_stop {
            return;
        }
        for insight in insights {
            self.apply(Event::Foresaw(insight));
        }
    }

    /// What the core made of a call is what is learnt from.
    fn note_call(&mut self, workload: WorkloadId) {
        let Some(story) = self.core.explain(workload) else { return };
        if let Some(calls) = story.calls {
            let insights = self.lookout.called(&self.core, self.now(), &story.name, calls.in_use);
            self.follow_foresight(insights);
        }
    }

    /// What both versions of a rollout served is weighed with each word of it.
    fn note_served(&mut self, workload: WorkloadId) {
        let Some(story) = self.core.explain(workload) else { return };
        if let Some(compared) = story.compared {
            let insights = self.lookout.compared(&self.core, &story.name, compared);
            self.follow_foresight(insights);
        }
    }

    pub(super) fn keep_learnt(&mut self) {
        for words in self.lookout.leave() {
            self.console.say(&words);
        }
    }

    /// Who may have begun it.
    pub(super) fn note_trouble(&mut self, announcement: &Announcement) -> Option<Event> {
        let (replica, failure) = match announcement {
            Announcement::RestartIn { replica, .. } => (replica, None),
            Announcement::ProcessRestart { replica, failure, .. } => (replica, Some(failure)),
            Announcement::Failed { replica, failure } => {
                let now = self.now();
                return self.lookout.failed(&self.core, replica.workload, failure, now).map(Event::Foresaw);
            }
            _ => return None,
        };
        self.lookout.restarted(self.core.name(replica.workload).unwrap_or_default());
        let now = self.now();
        self.lookout.failed(&self.core, replica.workload, failure?, now).map(Event::Foresaw)
    }

    pub(super) fn answer(&mut self, ask: &Ask) {
        if let Some(event) = ask.question.event(&self.core) {
            let (called, served) = match &event {
                Event::Demand { workload, .. } => (Some(*workload), None),
                Event::Vm { vm, said: Said::Served { .. } } => (None, Some(vm.replica.workload)),
                _ => (None, None),
            };
            self.apply(event);
            called.into_iter().for_each(|workload| self.note_call(workload));
            served.into_iter().for_each(|workload| self.note_served(workload));
        }
        self.strike(&ask.question);
        match self.foreseen(&ask.question) {
            Some(reply) => ask.reply(reply),
            None => ask.answer(&self.core, &|name| self.guests.told(name), self.now()),
        }
    }

    /// What nobody but the lookout can answer.
    fn foreseen(&mut self, question: &Question) -> Option<Reply> {
        let workload = match question {
            Question::Served { workload, served } => {
                let of_nobody = |name: &str| view::machine(&self.core, workload, name).is_none();
                if served.replica.as_deref().is_some_and(of_nobody) {
                    return None;
                }
                let served =
                    Served { requests: served.requests, busy_ms: served.busy_ms, waiting: served.waiting };
                self.lookout.served(workload, served);
                return None;
            }
            Question::Forecast { workload } => workload.as_deref(),
            Question::Teach { workload, lesson } => {
                self.lookout.teach(workload, lesson);
                Some(workload.as_str())
            }
            Question::Metrics => {
                return Some(view::metrics(&self.core, self.now(), &self.lookout.outlooks()));
            }
            Question::Unlearn { workload } => {
                self.lookout.reset(workload.as_deref());
                workload.as_deref()
            }
            _ => return None,
        };
        let known = workload.is_none_or(|name| self.core.id_of(name).is_some());
        // Who is unknown is told so by whoever knows the others.
        known.then(|| match self.lookout.view(workload) {
            Some(view) => Reply::json(200, &view),
            None => {
                Reply::refused(409, "does-not-look", "predict.every_s is 0: nothing is measured".to_owned())
            }
        })
    }
}
