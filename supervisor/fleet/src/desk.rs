//! What outlives a connection: the outbox and the management tree, as the session sees them.
//!
//! Duty: letters out of both, in order of what matters; what the daemon is to do, and what it says, between the two
//! threads. Not here: what is decided (`tree`), what is kept (`outbox`).
//! Invariant: what must arrive is in the outbox before anybody is handed it. A report is made when it is handed out, so
//! it is never older than that; it needs no keeping, because another daemon makes it again.

use std::collections::{BTreeMap, VecDeque};

use hearth_core::Moment;
use hearth_disk::Disk;
use serde::{Deserialize, Serialize};

use crate::Now;
use crate::guest::{self, Post, Promises, Word};
use crate::letters::{Letter, Letters, Standing, What};
use crate::outbox::{Class, Outbox, RecordId, Stamp, Trouble};
use crate::tree::{Message, News, Order, Tree};

/// A report's letter; the outbox's numbers are far below.
const REPORT: u64 = 1 << 63;
/// Letters that are fetched from the outbox at a time.
const AHEAD: usize = 16;

/// The other end: the daemon's loop.
pub trait Daemon {
    /// Takes an order, or gives it back if it has too many.
    fn order(&mut self, order: Order) -> Result<(), Order>;
    fn news(&mut self) -> Option<News>;
    fn tell(&mut self, trouble: Trouble);
    /// What a workload wants told.
    fn post(&mut self) -> Option<Post>;
    /// Something for a workload, or given back if it is too much now.
    fn guest(&mut self, word: Word) -> Result<(), Word>;
}

/// What a record of the outbox says. Kept: variants are only ever appended.
#[derive(Serialize, Deserialize)]
enum Body<'b> {
    History(&'b [u8]),
    /// Retained.
    Message {
        place: &'b str,
        payload: &'b str,
    },
    /// Likewise below the box's own place, for those who listen now.
    Passing {
        place: &'b str,
        payload: &'b [u8],
    },
}

#[derive(Debug)]
pub struct Desk<D: Disk, S: Daemon> {
    disk: D,
    /// Of the tree: another folder.
    shelf: D,
    daemon: S,
    outbox: Outbox,
    tree: Tree,
    /// Of the box's place in the tree, with a slash behind it.
    own: String,
    ready: VecDeque<Letter>,
    /// Handed out and not acknowledged.
    flying: BTreeMap<u64, RecordId>,
    /// What is said first on each connection: reports come behind it.
    once: VecDeque<Message>,
    /// Reports that are on their way, by their letters.
    reports: BTreeMap<u64, Message>,
    next_report: u64,
    waiting_order: Option<Order>,
    /// To workloads, that what they said is kept.
    promises: Promises,
    /// When somebody was here last.
    seen: Now,
}

/// The daemon leaves.
impl<D: Disk, S: Daemon> Drop for Desk<D, S> {
    fn drop(&mut self) {
        self.settle(self.seen);
        self.tree.close(&mut self.shelf);
        self.outbox.close(&mut self.disk, self.seen.mono);
        self.tell();
    }
}

impl<D: Disk, S: Daemon> Desk<D, S> {
    /// `own` is the box's place in the tree, without a slash behind it.
    pub fn new(disk: D, shelf: D, daemon: S, outbox: Outbox, tree: Tree, own: &str, now: Now) -> Desk<D, S> {
        let once = tree.capabilities().into();
        let own = format!("{own}/");
        let mut desk = Desk {
            disk,
            shelf,
            daemon,
            outbox,
            tree,
            own,
            ready: VecDeque::new(),
            flying: BTreeMap::new(),
            once,
            reports: BTreeMap::new(),
            next_report: REPORT,
            waiting_order: None,
            promises: Promises::default(),
            seen: now,
        };
        desk.tell();
        desk
    }

    /// Between tree, outbox and daemon, until nothing moves.
    fn settle(&mut self, now: Now) {
        self.seen = now;
        while let Some(news) = self.daemon.news() {
            match news {
                News::Piece { place, payload } => {
                    self.put(now, Class::Bulk, &Body::Passing { place: &place, payload: &payload });
                }
                news => self.tree.told(&mut self.shelf, now, news),
            }
        }
        self.once.extend(self.tree.announcements());
        while let Some(Message { place, payload }) = self.tree.next_message() {
            self.put(now, Class::Answer, &Body::Message { place: &place, payload: &payload });
        }
        while let Some(order) = self.waiting_order.take().or_else(|| self.tree.next_order()) {
            if let Err(order) = self.daemon.order(order) {
                self.waiting_order = Some(order);
                break;
            }
        }
        for _ in 0..guest::MAX_POSTS {
            let Some(post) = self.promises.has_room().then(|| self.daemon.post()).flatten() else { break };
            self.take(now, &post);
        }
        self.keep_promises(now);
        self.tell();
    }

    /// What is too large for a record is larger than anything that is made here, and has none.
    fn put(&mut self, now: Now, class: Class, body: &Body<'_>) -> Option<RecordId> {
        let bytes = postcard::to_allocvec(body).ok()?;
        let put = self.outbox.append(&mut self.disk, now.mono, stamp(now), class, &bytes);
        put.map(|(id, _)| id)
    }

    /// A workload's message.
    fn take(&mut self, now: Now, post: &Post) {
        let place = post.place();
        let body = Body::Passing { place: &place, payload: &post.payload };
        let id = self.put(now, post.class, &body);
        if let Some(ticket) = post.ticket {
            if id.is_some() {
                self.outbox.hasten(post.class, now.mono.after(guest::KEPT_WITHIN));
            }
            self.promises.make(ticket, post.class, id);
        }
    }

    fn keep_promises(&mut self, now: Now) {
        let (outbox, daemon) = (&self.outbox, &mut self.daemon);
        self.promises.keep(now.mono, |class, id| outbox.fate(class, id), |word| daemon.guest(word));
    }

    fn tell(&mut self) {
        let troubles: Vec<_> = self.outbox.troubles().collect();
        troubles.into_iter().for_each(|trouble| self.daemon.tell(trouble));
    }

    fn report(&mut self, message: Message) -> Letter {
        let id = self.next_report;
        self.next_report = self.next_report.saturating_add(1);
        let what = self.message(&message.place, message.payload.as_bytes(), true);
        self.reports.insert(id, message);
        Letter { id, what }
    }

    fn message(&self, place: &str, payload: &[u8], retain: bool) -> What {
        What::Message { topic: format!("{}{place}", self.own), payload: payload.to_vec(), retain }
    }

    fn fetch(&mut self, now: Now) {
        for delivery in self.outbox.take(&mut self.disk, now.mono, stamp(now), AHEAD) {
            let what = match postcard::from_bytes(&delivery.body) {
                Ok(Body::History(kept)) => What::History(kept.to_vec()),
                Ok(Body::Message { place, payload }) => self.message(place, payload.as_bytes(), true),
                Ok(Body::Passing { place, payload }) => self.message(place, payload, false),
                Err(_) => {
                    // Of a version that nobody reads any more.
                    self.outbox.acknowledge(&mut self.disk, now.mono, delivery.id);
                    continue;
                }
            };
            self.flying.insert(delivery.id.number, delivery.id);
            self.ready.push_back(Letter { id: delivery.id.number, what });
        }
    }
}

impl<D: Disk, S: Daemon> Letters for Desk<D, S> {
    fn keep(&mut self, kept: Vec<u8>, now: Now) {
        self.put(now, Class::Telemetry, &Body::History(&kept));
        self.tell();
    }

    fn next(&mut self, now: Now) -> Option<Letter> {
        self.settle(now);
        if let Some(message) = self.once.pop_front() {
            return Some(self.report(message));
        }
        if let Some(message) = self.tree.report(now) {
            return Some(self.report(message));
        }
        if self.ready.is_empty() {
            self.fetch(now);
        }
        self.ready.pop_front()
    }

    fn acknowledged(&mut self, id: u64, now: Now) {
        self.reports.remove(&id);
        if let Some(id) = self.flying.remove(&id) {
            self.outbox.acknowledge(&mut self.disk, now.mono, id);
        }
        self.keep_promises(now);
    }

    fn again(&mut self) {
        self.ready.clear();
        self.flying.clear();
        self.outbox.session_began();
        self.reports.clear();
        // All of it: the next broker may know nothing, or be one that lost what it kept.
        self.once = self.tree.capabilities().into();
        self.tree.report_again();
    }

    fn received(&mut self, place: &str, payload: &[u8], now: Now) {
        if let Some(word) = guest::said(place, payload) {
            // Who takes none of so many misses it, as one that does not run does.
            let _ = self.daemon.guest(word);
            return;
        }
        let clock_set = now.is_plausible();
        // How workloads stand counts for what may be done to them.
        self.settle(now);
        self.tree.received(&mut self.shelf, now, clock_set, place, payload);
        self.settle(now);
    }

    fn oversized(&mut self) {
        self.tree.oversized();
    }

    fn standing(&self) -> Standing {
        let figures = self.outbox.figures();
        let waits = self.once.len() + self.ready.len() + usize::from(self.tree.has_report());
        let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        Standing {
            // Files say their bytes, not how many records are in them.
            depth: count(figures.held + waits).max(u64::from(figures.unread_bytes > 0)),
            bytes: figures.stored_bytes,
            dropped: figures.dropped.into_iter().sum(),
            accepted: figures.accepted_bytes,
            written: figures.written_bytes,
        }
    }

    fn deadline(&self) -> Option<Moment> {
        // A report that is due waits for a connection, not for the clock.
        let tree = self.tree.deadline(self.seen.mono);
        [self.outbox.next_deadline(), tree, self.promises.again()].into_iter().flatten().min()
    }

    fn tick(&mut self, now: Now) {
        self.tree.tick(&mut self.shelf, now);
        self.settle(now);
        self.outbox.turn(&mut self.disk, now.mono);
        self.keep_promises(now);
        self.tell();
    }
}

fn stamp(now: Now) -> Stamp {
    Stamp { unix_ms: now.wall_ms, trusted: now.is_plausible() }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;
    use std::time::Duration;

    use hearth_disk::faulty::{Faulty, Unsynced};
    use serde_json::{Value, json};

    use super::*;
    use crate::outbox::Limits;
    use crate::sign::testing::{Signer, ring, sealed, topics};
    use crate::tree::{Kind, Opening, Outcome, Rules};

    const WALL: u64 = 1_800_000_000_000;

    fn at(seconds: u64) -> Now {
        Now { mono: Moment::START.after(Duration::from_secs(seconds)), wall_ms: WALL }
    }

    #[derive(Default)]
    struct Loop {
        orders: Vec<Order>,
        news: VecDeque<News>,
        full: bool,
        posts: VecDeque<Post>,
        words: Vec<Word>,
    }

    #[derive(Clone, Default)]
    struct Ends(Rc<RefCell<Loop>>);

    impl Daemon for Ends {
        fn order(&mut self, order: Order) -> Result<(), Order> {
            let mut daemon = self.0.borrow_mut();
            if daemon.full {
                return Err(order);
            }
            daemon.orders.push(order);
            Ok(())
        }

        fn news(&mut self) -> Option<News> {
            self.0.borrow_mut().news.pop_front()
        }

        fn tell(&mut self, trouble: Trouble) {
            panic!("{trouble}");
        }

        fn post(&mut self) -> Option<Post> {
            self.0.borrow_mut().posts.pop_front()
        }

        fn guest(&mut self, word: Word) -> Result<(), Word> {
            let mut daemon = self.0.borrow_mut();
            if daemon.full {
                return Err(word);
            }
            daemon.words.push(word);
            Ok(())
        }
    }

    /// Both folders on disks that tests keep.
    #[derive(Clone, Default)]
    struct Shared(Rc<RefCell<Faulty>>);

    impl Disk for Shared {
        fn read(&mut self, name: &str) -> std::io::Result<Option<Vec<u8>>> {
            self.0.borrow_mut().read(name)
        }
        fn create(&mut self, name: &str, bytes: &[u8]) -> std::io::Result<()> {
            self.0.borrow_mut().create(name, bytes)
        }
        fn append(&mut self, name: &str, bytes: &[u8]) -> std::io::Result<()> {
            self.0.borrow_mut().append(name, bytes)
        }
        fn sync(&mut self, name: &str) -> std::io::Result<()> {
            self.0.borrow_mut().sync(name)
        }
        fn rename(&mut self, from: &str, to: &str) -> std::io::Result<()> {
            self.0.borrow_mut().rename(from, to)
        }
        fn remove(&mut self, name: &str) -> std::io::Result<()> {
            self.0.borrow_mut().remove(name)
        }
        fn list(&mut self) -> std::io::Result<Vec<(String, u64)>> {
            self.0.borrow_mut().list()
        }
        fn free(&mut self) -> std::io::Result<u64> {
            self.0.borrow_mut().free()
        }
        fn sync_folder(&mut self) -> std::io::Result<()> {
            self.0.borrow_mut().sync_folder()
        }
    }

    struct Site {
        operate: Signer,
        rules: Rules,
        disks: (Shared, Shared),
        daemon: Ends,
        generation: u64,
    }

    impl Site {
        fn new() -> Site {
            let operate = Signer::new();
            let keyring = ring(&operate, &Signer::new());
            let operations = vec![Kind::RestartWorkload];
            let boot = "b".to_owned();
            let rules = Rules { topics: topics(), keyring, fleet_wins: true, operations, boot };
            Site { operate, rules, disks: Default::default(), daemon: Ends::default(), generation: 0 }
        }

        fn desk(&mut self) -> Desk<Shared, Ends> {
            self.generation += 1;
            let (mut disk, mut shelf) = self.disks.clone();
            let outbox = Outbox::open(&mut disk, Limits::default(), self.generation);
            let opening = Opening::read(&mut shelf, &self.rules.boot);
            let tree = Tree::open(&mut shelf, self.rules.clone(), opening, at(0));
            Desk::new(disk, shelf, self.daemon.clone(), outbox, tree, "hearth/v1/plant/box-7", at(0))
        }

        fn command(&self) -> Vec<u8> {
            let text = json!({
                "hearth": "command", "for": ["*"], "op": "restart-workload", "id": "1", "issued": WALL,
                "workload": "web"
            });
            sealed(&text.to_string(), &[&self.operate]).to_json().into_bytes()
        }
    }

    fn letters(desk: &mut Desk<Shared, Ends>, now: Now) -> Vec<(u64, String)> {
        std::iter::from_fn(|| desk.next(now))
            .map(|letter| {
                let words = match letter.what {
                    What::History(kept) => format!("history {kept:?}"),
                    What::Message { topic, payload, retain: false } => {
                        let place = topic.strip_prefix("hearth/v1/plant/box-7/").unwrap();
                        format!("{place} {}", String::from_utf8(payload).unwrap())
                    }
                    What::Message { topic, payload, retain: true } => {
                        let payload: Value = serde_json::from_slice(&payload).unwrap();
                        let state = payload["state"].as_str().unwrap_or_default().to_owned();
                        format!("{} {state}", topic.strip_prefix("hearth/v1/plant/box-7/").unwrap())
                    }
                };
                (letter.id, words)
            })
            .collect()
    }

    fn words(letters: &[(u64, String)]) -> Vec<&str> {
        letters.iter().map(|(_, words)| words.as_str()).collect()
    }

    #[test]
    fn what_matters_is_handed_out_first_and_all_of_it_until_it_arrives() {
        let mut site = Site::new();
        let mut desk = site.desk();
        desk.keep(vec![1], at(0));
        desk.received("cmd/restart-workload/1", &site.command(), at(0));
        assert_eq!(site.daemon.0.borrow().orders.len(), 1);
        let first = letters(&mut desk, at(1));
        let all =
            ["cmd/restart-workload ", "reported none", "cmd/restart-workload/1 executing", "history [1]"];
        assert_eq!(words(&first), all);
        assert!(letters(&mut desk, at(1)).is_empty());
        desk.acknowledged(first[2].0, at(1));
        desk.again();
        let again = letters(&mut desk, at(9));
        assert_eq!(words(&again), [all[0], all[1], all[3]]);
        assert_eq!(again[2].0, first[3].0, "under the same id");
        again.iter().for_each(|(id, _)| desk.acknowledged(*id, at(9)));
        assert!(letters(&mut desk, at(20)).is_empty());
        desk.again();
        let anew = letters(&mut desk, at(20));
        assert_eq!(words(&anew), all[..2], "a broker may have lost what it kept");
        anew.iter().for_each(|(id, _)| desk.acknowledged(*id, at(20)));
        let standing = desk.standing();
        assert_eq!((standing.depth, standing.bytes, standing.dropped), (0, 4096, 0));
        assert!(standing.written > 0 && standing.accepted > 0, "an answer is on the disk at once");
    }

    #[test]
    fn the_end_of_a_command_outlives_the_power() {
        let mut site = Site::new();
        let mut desk = site.desk();
        desk.received("cmd/restart-workload/1", &site.command(), at(0));
        site.daemon.0.borrow_mut().news.push_back(News::Ended { id: "1".to_owned(), outcome: Outcome::Done });
        desk.tick(at(1));
        let cut =
            |disk: &Shared| Shared(Rc::new(RefCell::new(disk.0.borrow().after_power_cut(Unsynced::Lost))));
        site.disks = (cut(&site.disks.0), cut(&site.disks.1));
        let mut next = site.desk();
        let told = letters(&mut next, at(2));
        let answers = ["cmd/restart-workload/1 executing", "cmd/restart-workload/1 successful"];
        assert_eq!(words(&told)[2..], answers);
        next.received("cmd/restart-workload/1", &site.command(), at(3));
        assert_eq!(site.daemon.0.borrow().orders.len(), 1, "and it is not done again");
    }

    #[test]
    fn nobody_waits_for_a_report_by_the_clock_and_an_order_waits_for_the_daemon() {
        let mut site = Site::new();
        let mut desk = site.desk();
        desk.tick(at(1));
        assert_eq!(desk.deadline(), None, "there is no connection that could take the report");
        site.daemon.0.borrow_mut().full = true;
        desk.received("cmd/restart-workload/1", &site.command(), at(1));
        assert!(site.daemon.0.borrow().orders.is_empty());
        site.daemon.0.borrow_mut().full = false;
        desk.tick(at(2));
        assert_eq!(site.daemon.0.borrow().orders.len(), 1);
    }

    #[test]
    fn output_comes_behind_answers_and_is_for_those_who_listen() {
        let mut site = Site::new();
        let mut desk = site.desk();
        letters(&mut desk, at(0));
        desk.received("cmd/restart-workload/1", &site.command(), at(0));
        let ended = |outcome| News::Ended { id: "1".to_owned(), outcome };
        let piece = |number: u32, text: &str| News::Piece {
            place: format!("cmd/exec/1/out/{number}"),
            payload: text.as_bytes().to_vec(),
        };
        let tally = crate::tree::Tally { chunks: 2, ..Default::default() };
        let news = [piece(0, "a"), piece(1, "b"), ended(Outcome::Streamed { failure: None, tally })];
        site.daemon.0.borrow_mut().news.extend(news);
        let told = letters(&mut desk, at(1));
        let all = [
            "cmd/restart-workload/1 executing",
            "cmd/restart-workload/1 successful",
            "cmd/exec/1/out/0 a",
            "cmd/exec/1/out/1 b",
        ];
        assert_eq!(words(&told), all);
        desk.again();
        assert_eq!(words(&letters(&mut desk, at(5)))[2..], all, "until they arrived");
    }

    #[test]
    fn a_daemon_that_leaves_writes_what_it_has() {
        let mut site = Site::new();
        site.desk().keep(vec![7], at(0));
        let mut next = site.desk();
        assert!(words(&letters(&mut next, at(1))).contains(&"history [7]"));
    }

    fn said_by_web(ticket: Option<u64>) -> Post {
        let (workload, topic, class) = ("web".to_owned(), "t/1".to_owned(), Class::Bulk);
        Post { workload, topic, payload: b"21.5".to_vec(), class, ticket }
    }

    #[test]
    fn what_a_workload_says_is_kept_by_the_broker_or_soon_by_the_disk_and_only_then_promised() {
        let mut site = Site::new();
        let mut desk = site.desk();
        site.daemon.0.borrow_mut().posts.extend([said_by_web(Some(1)), said_by_web(None)]);
        let told = letters(&mut desk, at(1));
        let topic = "workload/web/t/1 21.5";
        assert_eq!(words(&told)[2..], [topic, topic]);
        assert_eq!(site.daemon.0.borrow().words, []);
        desk.acknowledged(told[2].0, at(1));
        assert_eq!(site.daemon.0.borrow().words, [Word::Kept { ticket: 1 }]);
        desk.acknowledged(told[3].0, at(1));
        // With no broker, the disk: not at once, and not much later.
        site.daemon.0.borrow_mut().posts.push_back(said_by_web(Some(2)));
        desk.again();
        desk.tick(at(2));
        assert_eq!(desk.deadline(), Some(at(2).mono.after(guest::KEPT_WITHIN)));
        assert_eq!(site.daemon.0.borrow().words.len(), 1);
        site.daemon.0.borrow_mut().full = true;
        desk.tick(at(3));
        assert!(desk.deadline() < Some(at(4).mono), "the word waits for somebody who takes it");
        site.daemon.0.borrow_mut().full = false;
        desk.tick(at(4));
        assert_eq!(site.daemon.0.borrow().words[1..], [Word::Kept { ticket: 2 }]);
        let cut =
            |disk: &Shared| Shared(Rc::new(RefCell::new(disk.0.borrow().after_power_cut(Unsynced::Lost))));
        site.disks = (cut(&site.disks.0), cut(&site.disks.1));
        let mut next = site.desk();
        assert!(words(&letters(&mut next, at(5))).contains(&topic));
    }

    #[test]
    fn what_the_fleet_says_to_a_workload_goes_to_the_daemon_and_nowhere_else() {
        let mut site = Site::new();
        let mut desk = site.desk();
        desk.received("workload/web/cmd/led", b"on", at(1));
        let (workload, topic) = ("web".to_owned(), "cmd/led".to_owned());
        let said = Word::Said { workload, topic, payload: b"on".to_vec() };
        assert_eq!(site.daemon.0.borrow().words, [said]);
        desk.received("workload/web/t/1", b"on", at(1));
        assert_eq!(site.daemon.0.borrow().words.len(), 1);
    }
}
