//! What was announced lately, and who waits for more.
//!
//! Duty: a ring of numbered events, and a bell for those who follow it. Not here: connections (`server`).
//! Invariant: nobody who follows has a queue: each keeps the number of the last event that it saw, and learns from the
//! numbers what it missed. So a slow reader costs nothing, and a fast one nothing twice.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};

use hearth_core::{Announcement, Moment, WorkloadId};
use smol::channel::{Receiver, Sender, bounded};

use super::metrics::Page;
use super::types::{EventLine, EventTold};
use super::words;
use crate::{wall, wording};

/// Events that are remembered: a bad night's, some 100 KiB.
pub(crate) const MAX_EVENTS: usize = 512;

#[derive(Debug, Default)]
pub(crate) struct Events {
    inner: RefCell<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    ring: VecDeque<EventTold>,
    last: u64,
    bells: Vec<Sender<()>>,
    /// By kind and workload, which is empty for the box itself.
    counts: BTreeMap<(&'static str, String), u64>,
}

/// Something that the shell of the daemon did for somebody; the core has no part in it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Note<'n> {
    pub(crate) kind: &'static str,
    pub(crate) workload: &'n str,
    pub(crate) replica: &'n str,
    pub(crate) text: &'n str,
}

impl Events {
    /// `text` is what people are told on the console.
    pub(crate) fn tell(
        &self,
        announcement: &Announcement,
        at: Moment,
        text: &str,
        name: impl Fn(WorkloadId) -> String,
    ) -> EventTold {
        let about = words::about(announcement);
        let workload = about.workload.map(&name);
        let replica = about.replica.map(|id| wording::replica(&name(id.workload), id.slot));
        self.push(about.kind, about.alarm, at, workload, replica, text)
    }

    pub(crate) fn note(&self, note: &Note<'_>, at: Moment) -> EventTold {
        let Note { kind, workload, replica, text } = *note;
        self.push(kind, false, at, Some(workload.to_owned()), Some(replica.to_owned()), text)
    }

    fn push(
        &self,
        kind: &'static str,
        alarm: bool,
        at: Moment,
        workload: Option<String>,
        replica: Option<String>,
        text: &str,
    ) -> EventTold {
        let mut inner = self.inner.borrow_mut();
        inner.last += 1;
        let told = EventTold {
            number: inner.last,
            at_ms: at.as_millis(),
            unix_ms: wall::unix_ms(),
            kind: kind.into(),
            alarm,
            workload,
            replica,
            text: text.to_owned(),
        };
        *inner.counts.entry((kind, told.workload.clone().unwrap_or_default())).or_default() += 1;
        if inner.ring.len() == MAX_EVENTS {
            inner.ring.pop_front();
        }
        inner.ring.push_back(told.clone());
        // One that is rung already is as good.
        inner.bells.retain(|bell| !bell.is_closed());
        for bell in &inner.bells {
            let _ = bell.try_send(());
        }
        told
    }

    /// The workload is gone: nobody counts for it any more.
    pub(crate) fn forget(&self, workload: &str) {
        self.inner.borrow_mut().counts.retain(|(_, of), _| of != workload);
    }

    /// How often something of a kind was told, of whatever workload.
    pub(crate) fn count(&self, kind: &str) -> u64 {
        self.inner.borrow().counts.iter().filter(|((of, _), _)| *of == kind).map(|(_, count)| count).sum()
    }

    pub(super) fn count_on(&self, page: &mut Page) {
        let inner = self.inner.borrow();
        page.events(inner.counts.iter().map(|((kind, workload), count)| (*kind, workload.as_str(), *count)));
    }

    /// Rings whenever something was told since the last time it rang.
    pub(crate) fn bell(&self) -> Receiver<()> {
        let (sender, receiver) = bounded(1);
        self.inner.borrow_mut().bells.push(sender);
        receiver
    }

    /// At most `most` of those behind number `after`, with what is forgotten before them, and the number to go on
    /// from; `None` if there are none.
    pub(crate) fn behind(&self, after: u64, most: usize) -> Option<(Vec<EventLine>, u64)> {
        let inner = self.inner.borrow();
        // Numbers that were never given out are an earlier daemon's: who comes with one starts over.
        let after = if after > inner.last { 0 } else { after };
        let oldest = inner.ring.front()?.number;
        let lost = oldest.saturating_sub(after.saturating_add(1));
        let known = inner.ring.iter().filter(|told| told.number > after).take(most);
        let told: Vec<EventLine> = known.cloned().map(EventLine::Told).collect();
        let last = match told.last()? {
            EventLine::Told(told) => told.number,
            EventLine::Lost { .. } => after,
        };
        let note = (lost > 0).then_some(EventLine::Lost { lost });
        Some((note.into_iter().chain(told).collect(), last))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tell(events: &Events, times: usize) {
        for _ in 0..times {
            let _ = events.tell(&Announcement::Stopping, Moment::START, "stopping", |_| String::new());
        }
    }

    fn numbers(found: Option<(Vec<EventLine>, u64)>) -> Vec<i64> {
        let lines = found.map(|(lines, _)| lines).unwrap_or_default();
        let number = |line: &EventLine| match line {
            EventLine::Told(told) => i64::try_from(told.number).unwrap(),
            EventLine::Lost { lost } => -i64::try_from(*lost).unwrap(),
        };
        lines.iter().map(number).collect()
    }

    #[test]
    fn who_follows_gets_every_event_once_in_pieces_of_any_size() {
        let events = Events::default();
        assert_eq!(events.behind(0, 10), None);
        tell(&events, 5);
        let (lines, last) = events.behind(0, 2).unwrap();
        assert_eq!((lines.len(), last), (2, 2));
        assert_eq!(numbers(events.behind(last, 10)), [3, 4, 5]);
        assert_eq!(events.behind(5, 10), None);
    }

    #[test]
    fn what_is_forgotten_is_counted_and_the_ring_does_not_grow() {
        let events = Events::default();
        tell(&events, MAX_EVENTS + 10);
        assert_eq!(events.inner.borrow().ring.len(), MAX_EVENTS);
        assert_eq!(numbers(events.behind(3, 2)), [-7, 11, 12]);
        assert_eq!(numbers(events.behind(10, 1)), [11]);
    }

    #[test]
    fn a_number_of_an_earlier_daemon_starts_over() {
        let events = Events::default();
        tell(&events, 2);
        assert_eq!(numbers(events.behind(77, 10)), [1, 2]);
    }

    #[test]
    fn a_bell_rings_once_for_many_events_and_is_forgotten_with_its_holder() {
        let events = Events::default();
        let bell = events.bell();
        tell(&events, 3);
        assert_eq!(bell.try_recv(), Ok(()));
        assert!(bell.try_recv().is_err());
        drop(bell);
        tell(&events, 1);
        assert!(events.inner.borrow().bells.is_empty());
    }

    #[test]
    fn an_event_carries_whom_it_is_about_and_whether_it_is_an_alarm() {
        let events = Events::default();
        let workload = WorkloadId::from_number(0);
        let quarantined = Announcement::Quarantined { workload, failure: None, restarts: 3 };
        events.tell(&quarantined, Moment::from_millis(7), "web: ALARM", |_| "web".to_owned());
        let (lines, _) = events.behind(0, 1).unwrap();
        let text = serde_json::to_string(&lines[0]).unwrap();
        let told: EventTold = serde_json::from_str(&text).unwrap();
        assert_eq!(
            (told.kind.as_ref(), told.alarm, told.workload.as_deref()),
            ("quarantined", true, Some("web"))
        );
        assert_eq!((told.at_ms, told.replica), (7, None));
    }

    #[test]
    fn events_are_counted_by_kind_and_workload_until_it_is_gone() {
        let events = Events::default();
        let workload = WorkloadId::from_number(0);
        for _ in 0..MAX_EVENTS + 1 {
            let _ = events.tell(&Announcement::Retried { workload }, Moment::START, "", |_| "web".to_owned());
        }
        tell(&events, 2);
        let page = || {
            let mut page = Page::default();
            events.count_on(&mut page);
            String::from_utf8(page.into_bytes()).unwrap()
        };
        assert!(page().contains("{kind=\"retried\",workload=\"web\"} 513\n"), "{}", page());
        events.forget("web");
        assert!(!page().contains("web") && page().contains("{kind=\"stopping\"} 2\n"), "{}", page());
    }
}
