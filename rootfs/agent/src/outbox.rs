//! What the workload wrote and what became of it, on its way out.
//!
//! Duty: keep it in order, within a bound, until the host or the console takes it.
//! Not its duty: who takes it and when.
//! Invariant: holds at most `MAX_HELD` bytes of output, `MAX_RUNS` runs, `MAX_NOTICES` notices and `MAX_ANSWERS` answers. When output comes
//! faster than it goes, the oldest goes first and is counted; the workload itself is never held up.

use hearth_wire::{ExitStatus, FromAgent, MAX_OUTPUT, Output, Stream};
use std::collections::VecDeque;

/// Bytes of output: what `intake` lets wait, and one more turn's reading of both streams on top, so that nothing
/// is lost while it pauses. Little in the smallest guest of 32 MiB.
const MAX_HELD: usize = 256 * 1024;

/// Pieces of output by one stream. Bounds the bookkeeping of a workload that writes single bytes to its two
/// streams in turn.
const MAX_RUNS: usize = 1024;

/// Notices; a restarting workload makes two a second at most, and only the newest matter.
const MAX_NOTICES: usize = 16;

/// Answers to the host's questions; it has as many probes, and waits for none of them long.
const MAX_ANSWERS: usize = 16;

/// What the host must know about the workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Notice {
    Started { pid: u32 },
    Exited(ExitStatus),
    Warm(ExitStatus),
    Held,
    Identified,
}

impl From<Notice> for FromAgent {
    fn from(notice: Notice) -> Self {
        match notice {
            Notice::Started { pid } => Self::Started { pid },
            Notice::Exited(status) => Self::Exited { status },
            Notice::Warm(status) => Self::Warm { status },
            Notice::Held => Self::Held,
            Notice::Identified => Self::Identified,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Entry {
    /// So many bytes at the front of `bytes`, less those of runs before.
    Run {
        stream: Stream,
        len: usize,
    },
    Notice(Notice),
}

#[derive(Debug, Default)]
pub(crate) struct Outbox {
    bytes: VecDeque<u8>,
    entries: VecDeque<Entry>,
    /// Of `entries`.
    runs: usize,
    /// Not told to anybody yet.
    dropped: u64,
    answers: VecDeque<(u32, bool)>,
}

impl Outbox {
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.dropped == 0 && self.answers.is_empty()
    }

    /// Bytes of output that wait.
    pub(crate) fn waiting(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn output(&mut self, stream: Stream, bytes: &[u8]) {
        // Of a piece larger than everything that can be held, only the end would survive anyway.
        let (lost, bytes) = bytes.split_at(bytes.len().saturating_sub(MAX_HELD));
        self.dropped = self.dropped.saturating_add(lost.len() as u64);
        if bytes.is_empty() {
            return;
        }
        while self.bytes.len() + bytes.len() > MAX_HELD {
            self.drop_oldest(self.bytes.len() + bytes.len() - MAX_HELD);
        }
        self.bytes.extend(bytes);
        match self.entries.back_mut() {
            Some(Entry::Run { stream: last, len }) if *last == stream => *len += bytes.len(),
            _ => {
                self.entries.push_back(Entry::Run { stream, len: bytes.len() });
                self.runs += 1;
            }
        }
        while self.runs > MAX_RUNS {
            self.drop_oldest(usize::MAX);
        }
    }

    pub(crate) fn notice(&mut self, notice: Notice) {
        self.entries.push_back(Entry::Notice(notice));
        let is_notice = |entry: &Entry| matches!(entry, Entry::Notice(_));
        if self.entries.iter().filter(|entry| is_notice(entry)).count() > MAX_NOTICES
            && let Some(oldest) = self.entries.iter().position(is_notice)
        {
            self.entries.remove(oldest);
        }
    }

    /// What the host asked. It waits for this, so it goes before what the workload wrote.
    pub(crate) fn answer(&mut self, id: u32, good: bool) {
        self.answers.push_back((id, good));
        if self.answers.len() > MAX_ANSWERS {
            self.answers.pop_front();
        }
    }

    /// For a host that just came: it has to know the present state first, unless what is held tells it.
    pub(crate) fn introduce(&mut self, present: Notice) {
        if !self.entries.iter().any(|entry| matches!(entry, Entry::Notice(_))) {
            self.entries.push_front(Entry::Notice(present));
        }
    }

    /// The next message for the host. What was lost is told before what came after it.
    pub(crate) fn pop(&mut self) -> Option<FromAgent> {
        if let Some((id, good)) = self.answers.pop_front() {
            return Some(FromAgent::Answered { id, good });
        }
        if self.dropped > 0 {
            return Some(FromAgent::Dropped { bytes: std::mem::take(&mut self.dropped) });
        }
        match *self.entries.front()? {
            Entry::Notice(notice) => {
                self.entries.pop_front();
                Some(notice.into())
            }
            Entry::Run { stream, len } => {
                let bytes: Output = self.bytes.drain(..len.min(MAX_OUTPUT)).collect();
                self.shorten_run(0, bytes.len());
                Some(FromAgent::Output { stream, bytes })
            }
        }
    }

    /// Up to `max` bytes of text for the console, and how many were lost before them. Notices are for the host
    /// only and are thrown away: the next one is introduced to the present state.
    pub(crate) fn take_text(&mut self, max: usize, mut take: impl FnMut(&[u8])) -> u64 {
        // Who asked is gone.
        self.answers.clear();
        let mut left = max;
        while let Some(entry) = self.entries.front().copied() {
            match entry {
                Entry::Notice(_) => drop(self.entries.pop_front()),
                Entry::Run { .. } if left == 0 => break,
                Entry::Run { len, .. } => {
                    let text: Vec<u8> = self.bytes.drain(..len.min(left)).collect();
                    take(&text);
                    left -= text.len();
                    self.shorten_run(0, text.len());
                }
            }
        }
        std::mem::take(&mut self.dropped)
    }

    /// Throws away up to `bytes` of the oldest run.
    fn drop_oldest(&mut self, bytes: usize) {
        let oldest = self.entries.iter().enumerate().find_map(|(index, entry)| match entry {
            Entry::Run { len, .. } => Some((index, *len)),
            Entry::Notice(_) => None,
        });
        let Some((index, len)) = oldest else { return };
        let gone = len.min(bytes);
        self.bytes.drain(..gone);
        self.dropped = self.dropped.saturating_add(gone as u64);
        self.shorten_run(index, gone);
    }

    fn shorten_run(&mut self, index: usize, by: usize) {
        if let Some(Entry::Run { len, .. }) = self.entries.get_mut(index) {
            *len -= by;
            if *len == 0 {
                self.entries.remove(index);
                self.runs -= 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn popped(outbox: &mut Outbox) -> Vec<FromAgent> {
        std::iter::from_fn(|| outbox.pop()).collect()
    }

    fn output(stream: Stream, bytes: &[u8]) -> FromAgent {
        FromAgent::Output { stream, bytes: Output::from_slice(bytes).expect("short") }
    }

    #[test]
    fn what_went_in_comes_out_in_order_and_joined() {
        let mut outbox = Outbox::default();
        outbox.notice(Notice::Started { pid: 7 });
        outbox.output(Stream::Stdout, b"one ");
        outbox.output(Stream::Stdout, b"two");
        outbox.output(Stream::Stderr, b"three");
        outbox.notice(Notice::Exited(ExitStatus::Code(0)));
        let expected = [
            FromAgent::Started { pid: 7 },
            output(Stream::Stdout, b"one two"),
            output(Stream::Stderr, b"three"),
            FromAgent::Exited { status: ExitStatus::Code(0) },
        ];
        assert_eq!(popped(&mut outbox), expected);
        assert!(outbox.is_empty());
    }

    #[test]
    fn the_oldest_output_goes_first_and_is_told_but_notices_stay() {
        let mut outbox = Outbox::default();
        outbox.notice(Notice::Started { pid: 7 });
        outbox.output(Stream::Stderr, b"old");
        outbox.output(Stream::Stdout, &[b'x'; MAX_HELD - 1]);
        outbox.notice(Notice::Exited(ExitStatus::Code(0)));
        let all = popped(&mut outbox);
        assert_eq!(all[0], FromAgent::Dropped { bytes: 2 });
        assert_eq!(all[1], FromAgent::Started { pid: 7 });
        assert_eq!(all[2], output(Stream::Stderr, b"d"));
        assert_eq!(all.last(), Some(&FromAgent::Exited { status: ExitStatus::Code(0) }));
    }

    #[test]
    fn single_bytes_to_both_streams_in_turn_cost_bounded_bookkeeping() {
        let mut outbox = Outbox::default();
        for _ in 0..MAX_RUNS {
            outbox.output(Stream::Stdout, b"o");
            outbox.output(Stream::Stderr, b"e");
        }
        assert_eq!((outbox.entries.len(), outbox.waiting()), (MAX_RUNS, MAX_RUNS));
        assert_eq!(outbox.pop(), Some(FromAgent::Dropped { bytes: MAX_RUNS as u64 }));
    }

    #[test]
    fn one_piece_larger_than_everything_keeps_its_end() {
        let mut outbox = Outbox::default();
        let mut piece = vec![b'x'; MAX_HELD + 10];
        piece.push(b'!');
        outbox.output(Stream::Stdout, &piece);
        assert_eq!(outbox.pop(), Some(FromAgent::Dropped { bytes: 11 }));
        assert!(
            matches!(popped(&mut outbox).last(), Some(FromAgent::Output { bytes, .. }) if bytes.ends_with(b"!"))
        );
    }

    #[test]
    fn a_new_host_hears_the_present_state_once() {
        let present = Notice::Started { pid: 7 };
        let mut outbox = Outbox::default();
        outbox.output(Stream::Stdout, b"x");
        outbox.introduce(present);
        outbox.introduce(present);
        assert_eq!(popped(&mut outbox), [FromAgent::Started { pid: 7 }, output(Stream::Stdout, b"x")]);
        outbox.notice(Notice::Exited(ExitStatus::Signal(9)));
        outbox.introduce(present);
        assert_eq!(popped(&mut outbox), [FromAgent::Exited { status: ExitStatus::Signal(9) }]);
    }

    #[test]
    fn an_answer_goes_before_output_and_only_the_newest_wait() {
        let mut outbox = Outbox::default();
        outbox.output(Stream::Stdout, b"x");
        for id in 0..=17 {
            outbox.answer(id, id % 2 == 0);
        }
        let all = popped(&mut outbox);
        assert_eq!(all.len(), MAX_ANSWERS + 1);
        assert_eq!(all[0], FromAgent::Answered { id: 2, good: true });
        assert_eq!(all[MAX_ANSWERS], output(Stream::Stdout, b"x"));
        outbox.answer(1, true);
        assert!(!outbox.is_empty());
        outbox.take_text(1, |_| {});
        assert!(outbox.is_empty(), "nobody waits for it at the console");
    }

    #[test]
    fn the_console_gets_the_text_and_the_count() {
        let mut outbox = Outbox::default();
        outbox.notice(Notice::Started { pid: 7 });
        outbox.output(Stream::Stdout, &[b'x'; MAX_HELD]);
        outbox.output(Stream::Stderr, b"err");
        let mut text = Vec::new();
        assert_eq!(outbox.take_text(5, |bytes| text.extend_from_slice(bytes)), 3);
        assert_eq!((text.as_slice(), outbox.waiting()), (&b"xxxxx"[..], MAX_HELD - 5));
        assert_eq!(outbox.take_text(MAX_HELD, |bytes| text.extend_from_slice(bytes)), 0);
        assert_eq!((text.len(), &text[text.len() - 4..]), (MAX_HELD, &b"xerr"[..]));
        assert!(outbox.is_empty());
    }

    proptest! {
        #[test]
        fn every_byte_is_delivered_or_counted_and_the_bounds_hold(
            writes in proptest::collection::vec((any::<bool>(), 0..5000_usize, any::<bool>()), 0..2000),
        ) {
            let mut outbox = Outbox::default();
            let (mut written, mut came, mut lost) = (0, 0, 0);
            let mut count = |message: Option<FromAgent>| match message {
                Some(FromAgent::Output { bytes, .. }) => came += bytes.len() as u64,
                Some(FromAgent::Dropped { bytes }) => lost += bytes,
                _ => {}
            };
            for (to_stdout, len, pop) in writes {
                let stream = if to_stdout { Stream::Stdout } else { Stream::Stderr };
                // Mostly tiny pieces, to reach the bound on runs too.
                let len = if len < 4000 { 1 } else { len };
                outbox.output(stream, &vec![0; len]);
                outbox.notice(Notice::Started { pid: 1 });
                written += len as u64;
                prop_assert!(outbox.bytes.len() <= MAX_HELD);
                prop_assert!(outbox.entries.len() <= MAX_RUNS + MAX_NOTICES);
                if pop {
                    count(outbox.pop());
                }
            }
            while !outbox.is_empty() {
                count(outbox.pop());
            }
            prop_assert_eq!(came + lost, written);
            prop_assert!(outbox.bytes.is_empty() && outbox.runs == 0);
        }
    }
}
