//! A way from one thread to another, for threads behind filters of system calls.
//!
//! Duty: letters in their order, and that either end hears of the other's going. Not its duty: a bound; whoever sends
//! has one.
//!
//! Why not the standard library's: it locks nothing, so who meets the other end in the middle of a letter yields the
//! processor until it is there (`sched_yield`), on whichever thread, now and then.
//!
//! Invariant: no end makes any system call but `futex`.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

#[derive(Debug)]
struct State<T> {
    letters: VecDeque<T>,
    /// Both ends are there.
    open: bool,
}

#[derive(Debug)]
struct Shared<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&self) {
        self.lock().open = false;
        self.changed.notify_all();
    }
}

/// The end that letters go into.
#[derive(Debug)]
pub struct Sender<T>(Arc<Shared<T>>);

/// The end that they come out of.
#[derive(Debug)]
pub struct Receiver<T>(Arc<Shared<T>>);

/// Both ends of a new one.
#[must_use]
pub fn mailbox<T>() -> (Sender<T>, Receiver<T>) {
    let state = Mutex::new(State { letters: VecDeque::new(), open: true });
    let shared = Arc::new(Shared { state, changed: Condvar::new() });
    (Sender(shared.clone()), Receiver(shared))
}

impl<T> Sender<T> {
    /// Whether the other end is there; if not, the letter is gone.
    pub fn send(&self, letter: T) -> bool {
        let mut state = self.0.lock();
        let open = state.open;
        if open {
            state.letters.push_back(letter);
        }
        drop(state);
        self.0.changed.notify_one();
        open
    }

    /// Drops the letters that nobody has taken yet.
    pub fn take_back(&self) {
        let letters = std::mem::take(&mut self.0.lock().letters);
        drop(letters);
    }
}

impl<T> Receiver<T> {
    /// The next letter, if there is one.
    pub fn try_take(&self) -> Option<T> {
        self.0.lock().letters.pop_front()
    }

    /// The next letter, waiting for it; `None`: the other end is gone, and so is all that it sent.
    pub fn take(&self) -> Option<T> {
        let mut state = self.0.lock();
        loop {
            let letter = state.letters.pop_front();
            if letter.is_some() || !state.open {
                return letter;
            }
            state = self.0.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.0.close();
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn letters_come_in_order_and_the_last_ones_after_their_sender_has_gone() {
        let (sender, receiver) = mailbox();
        assert_eq!(receiver.try_take(), None);
        assert!(sender.send(1) && sender.send(2));
        assert_eq!(receiver.try_take(), Some(1));
        drop(sender);
        assert_eq!((receiver.take(), receiver.take()), (Some(2), None));
    }

    #[test]
    fn what_nobody_took_can_be_taken_back_and_nobody_to_take_it_is_told() {
        let (sender, receiver) = mailbox();
        assert!(sender.send(1) && sender.send(2));
        sender.take_back();
        assert_eq!(receiver.try_take(), None);
        drop(receiver);
        assert!(!sender.send(3));
    }

    #[test]
    fn who_waits_wakes_when_a_letter_comes_or_the_sender_goes() {
        let (sender, receiver) = mailbox();
        let (back, answers) = mailbox();
        let echo = thread::spawn(move || {
            while let Some(letter) = receiver.take() {
                assert!(back.send(letter));
            }
        });
        for letter in 0..1000 {
            assert!(sender.send(letter));
            assert_eq!(answers.take(), Some(letter));
        }
        drop(sender);
        assert_eq!(answers.take(), None);
        echo.join().unwrap();
    }
}
