//! What guests show on their consoles, as it came.
//!
//! Duty: the last bytes of each replica's console, and a bell for those who look on. Not here: lines of it (`lines`,
//! `logs`), connections (`api`).
//! Invariant: nobody who looks on has a queue: each keeps how far it has read, and learns what it missed. A replica's
//! screen outlives its machine, so that the last words of a machine that died can be read, and goes with its workload.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use smol::channel::{Receiver, Sender, bounded};

/// Bytes that are remembered of one console: some screens full, the whole way up of a kernel that is not quiet.
pub(crate) const SCREEN_BYTES: usize = 16 << 10;

/// A handle; clones are the same screens.
#[derive(Clone, Debug, Default)]
pub(crate) struct Screens(Rc<RefCell<BTreeMap<String, Screen>>>);

#[derive(Debug, Default)]
struct Screen {
    bytes: VecDeque<u8>,
    /// Since the daemon's start.
    written: u64,
    bells: Vec<Sender<()>>,
}

/// What somebody has not read yet.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    /// Bytes before it that are not remembered any more.
    pub(crate) lost: u64,
    pub(crate) bytes: Vec<u8>,
    /// Where to go on.
    pub(crate) last: u64,
}

impl Screens {
    pub(crate) fn show(&self, replica: &str, bytes: &[u8]) {
        let mut screens = self.0.borrow_mut();
        let screen = match screens.get_mut(replica) {
            Some(screen) => screen,
            None => screens.entry(replica.to_owned()).or_default(),
        };
        screen.written += u64::try_from(bytes.len()).unwrap_or_default();
        let tail = &bytes[bytes.len().saturating_sub(SCREEN_BYTES)..];
        let surplus = (screen.bytes.len() + tail.len()).saturating_sub(SCREEN_BYTES);
        screen.bytes.drain(..surplus);
        screen.bytes.extend(tail);
        screen.bells.retain(|bell| !bell.is_closed());
        for bell in &screen.bells {
            // One that is rung already is as good.
            let _ = bell.try_send(());
        }
    }

    pub(crate) fn has(&self, replica: &str) -> bool {
        self.0.borrow().contains_key(replica)
    }

    /// Rings whenever something was shown since the last time it rang.
    pub(crate) fn bell(&self, replica: &str) -> Receiver<()> {
        let (sender, receiver) = bounded(1);
        self.0.borrow_mut().entry(replica.to_owned()).or_default().bells.push(sender);
        receiver
    }

    /// What was shown behind the first `after` bytes, at most `most` bytes of it; `None` if there is nothing.
    pub(crate) fn behind(&self, replica: &str, after: u64, most: usize) -> Option<Piece> {
        let screens = self.0.borrow();
        let screen = screens.get(replica)?;
        let oldest = screen.written - u64::try_from(screen.bytes.len()).unwrap_or_default();
        let from = after.max(oldest);
        let skip = usize::try_from(from - oldest).unwrap_or(usize::MAX);
        let bytes: Vec<u8> = screen.bytes.iter().skip(skip).take(most).copied().collect();
        let last = from + u64::try_from(bytes.len()).unwrap_or_default();
        (!bytes.is_empty()).then_some(Piece { lost: from - after, bytes, last })
    }

    /// The workload is gone, and with it its replicas.
    pub(crate) fn forget(&self, workload: &str) {
        let is_its = |replica: &str| replica.split('.').next() == Some(workload);
        self.0.borrow_mut().retain(|replica, _| !is_its(replica));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(lost: u64, bytes: &[u8], last: u64) -> Option<Piece> {
        Some(Piece { lost, bytes: bytes.to_vec(), last })
    }

    #[test]
    fn who_looks_on_gets_every_byte_once_in_pieces_of_any_size() {
        let screens = Screens::default();
        assert!(!screens.has("web"));
        assert_eq!(screens.behind("web", 0, 10), None);
        screens.show("web", b"hello ");
        screens.show("web", b"world");
        assert_eq!(screens.behind("web", 0, 8), piece(0, b"hello wo", 8));
        assert_eq!(screens.behind("web", 8, 8), piece(0, b"rld", 11));
        assert_eq!(screens.behind("web", 11, 8), None);
        assert_eq!(screens.behind("web.1", 0, 8), None);
    }

    #[test]
    fn what_is_not_remembered_is_counted() {
        let screens = Screens::default();
        screens.show("web", b"old");
        screens.show("web", &[b'x'; SCREEN_BYTES - 1]);
        assert_eq!(screens.behind("web", 0, 2), piece(2, b"dx", 4));
        screens.show("web", &[b'y'; 2 * SCREEN_BYTES]);
        let last = u64::try_from(3 * SCREEN_BYTES + 2).unwrap();
        let lost = u64::try_from(2 * SCREEN_BYTES + 2).unwrap();
        assert_eq!(screens.behind("web", 0, usize::MAX), piece(lost, &[b'y'; SCREEN_BYTES], last));
    }

    #[test]
    fn a_bell_rings_for_its_own_screen_and_a_workload_takes_its_screens_along() {
        let screens = Screens::default();
        let bell = screens.bell("web.1");
        screens.show("web", b"x");
        assert!(bell.try_recv().is_err());
        screens.show("web.1", b"x");
        screens.show("web.1", b"y");
        assert!(bell.try_recv().is_ok() && bell.try_recv().is_err());
        screens.show("webby", b"x");
        screens.forget("web");
        assert_eq!(["web", "web.1", "webby"].map(|name| screens.has(name)), [false, false, true]);
    }
}
