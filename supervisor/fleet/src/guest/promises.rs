//! Who waits until what was said is kept.
//!
//! ```text
//! made --the disk or the broker has it--> kept --somebody took the word--> gone
//!      \--it gave way, was too large----> lost --/
//! ```
//!
//! Duty: for each message that somebody waits for, one word, once. Not here: what is kept (`outbox`).
//! Invariant: nobody hears that something is kept before it is.

use std::collections::VecDeque;
use std::time::Duration;

use hearth_core::Moment;

use super::Word;
use crate::outbox::{Class, Fate, RecordId};

/// Messages that are not kept yet. The outbox holds as much in memory.
const MAX_WAITING: usize = 512;
/// After a word that nobody took.
const AGAIN: Duration = Duration::from_millis(100);

#[derive(Debug, Default)]
pub(crate) struct Promises {
    waiting: VecDeque<Promise>,
    /// Somebody has too many words now.
    again: Option<Moment>,
}

#[derive(Debug)]
struct Promise {
    ticket: u64,
    class: Class,
    /// None: it was too large for a record.
    id: Option<RecordId>,
}

impl Promises {
    pub(crate) fn has_room(&self) -> bool {
        self.waiting.len() < MAX_WAITING
    }

    pub(crate) fn make(&mut self, ticket: u64, class: Class, id: Option<RecordId>) {
        self.waiting.push_back(Promise { ticket, class, id });
    }

    /// Tells of those that are decided, as long as somebody takes it.
    pub(crate) fn keep(
        &mut self,
        now: Moment,
        fate: impl Fn(Class, RecordId) -> Fate,
        mut tell: impl FnMut(Word) -> Result<(), Word>,
    ) {
        self.again = None;
        let mut full = false;
        self.waiting.retain(|promise| {
            if full {
                return true;
            }
            let ticket = promise.ticket;
            let word = match promise.id.map_or(Fate::Lost, |id| fate(promise.class, id)) {
                Fate::Waits => return true,
                Fate::Kept => Word::Kept { ticket },
                Fate::Lost => Word::Lost { ticket },
            };
            full = tell(word).is_err();
            full
        });
        if full {
            self.again = Some(now.after(AGAIN));
        }
    }

    /// When [`Promises::keep`] is worth another try.
    pub(crate) fn again(&self) -> Option<Moment> {
        self.again
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u64) -> RecordId {
        RecordId { generation: 1, number }
    }

    #[test]
    fn each_hears_once_and_not_before_and_a_word_that_nobody_took_is_said_again() {
        let mut promises = Promises::default();
        for number in 1..=4 {
            promises.make(number, Class::Bulk, Some(id(number)));
        }
        promises.make(5, Class::Bulk, None);
        let fate = |_, id: RecordId| match id.number {
            1 | 4 => Fate::Kept,
            2 => Fate::Lost,
            _ => Fate::Waits,
        };
        let mut told = Vec::new();
        promises.keep(Moment::START, fate, |word| {
            if told.len() == 2 {
                return Err(word);
            }
            told.push(word);
            Ok(())
        });
        assert_eq!(promises.again(), Some(Moment::START.after(AGAIN)));
        promises.keep(Moment::START, fate, |word| {
            told.push(word);
            Ok(())
        });
        let expected = [
            Word::Kept { ticket: 1 },
            Word::Lost { ticket: 2 },
            Word::Kept { ticket: 4 },
            Word::Lost { ticket: 5 },
        ];
        assert_eq!((told.as_slice(), promises.again()), (expected.as_slice(), None));
        promises.keep(
            Moment::START,
            |_, _| Fate::Kept,
            |word| {
                assert_eq!(word, Word::Kept { ticket: 3 });
                Ok(())
            },
        );
    }
}
