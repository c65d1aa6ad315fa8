//! A box with an outbox on a disk, its broker, an observer at the broker; and what has to be true of all that it hears.
//!
//! Duty: what each outage needs. Not here: outages. Each figure that the box is shown is another number, so that it can
//! be told which ones came, how often, and when they were.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use hearth_fleet::figures::Snapshot;
use hearth_fleet::shell::{Options, Word};
use hearth_fleet::sparkplug::payload::{Payload, Scalar};
use hearth_fleet::sparkplug::session::News;
use hearth_fleet_tests::PATIENCE;
use hearth_fleet_tests::broker::Broker;
use hearth_fleet_tests::member::{Member, figures, options};
use hearth_fleet_tests::observer::{Heard, MISSES_NOTHING, Observer};
use hearth_fleet_tests::tap::Tap;
use prost::Message;
use tempfile::TempDir;

/// Once that the broker handed the figure on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    /// The figure.
    pub(crate) value: u64,
    /// When it was so, as the box says.
    pub(crate) at: u64,
    pub(crate) how: How,
    /// After which of the node's births.
    pub(crate) birth: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    Birth,
    Live,
    History,
}

pub(crate) struct Scene {
    program: &'static Path,
    pub(crate) broker: Broker,
    pub(crate) observer: Observer,
    folder: TempDir,
    options: Options,
    member: Option<Member>,
    /// The figure that the box is shown next.
    next: u64,
    processes: u64,
}

/// A scene with somebody between box and broker.
pub(crate) fn tapped(program: &'static Path) -> (Scene, Tap) {
    tapped_with(program, |_| {})
}

pub(crate) fn tapped_with(program: &'static Path, more: impl FnOnce(&mut Options)) -> (Scene, Tap) {
    let broker = Broker::start(program, MISSES_NOTHING).unwrap();
    let tap = Tap::new(broker.socket()).unwrap();
    let scene = Scene::new(program, broker, &tap.server(), more);
    (scene, tap)
}

impl Scene {
    /// The box is connected and told its first figure when it returns.
    pub(crate) fn new(
        program: &'static Path,
        broker: Broker,
        server: &str,
        more: impl FnOnce(&mut Options),
    ) -> Scene {
        let observer = Observer::default();
        observer.attach(&broker.socket()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let mut options = options("box", &[server.to_owned()], folder.path()).unwrap();
        more(&mut options);
        let mut scene =
            Scene { program, broker, observer, folder, options, member: None, next: 0, processes: 0 };
        scene.begin();
        scene.tell(1);
        scene.wait("the first", |told| has(told, 0));
        scene
    }

    fn begin(&mut self) {
        self.processes += 1;
        self.member = Some(Member::with_outbox(self.options.clone(), self.processes).unwrap());
    }

    fn member(&self) -> &Member {
        self.member.as_ref().unwrap()
    }

    /// Shows the box so many figures.
    pub(crate) fn tell(&mut self, count: u64) {
        for _ in 0..count {
            self.member().show(load(self.next));
            self.next += 1;
        }
    }

    /// The box's program ends in order and begins again.
    pub(crate) fn restart(&mut self) {
        self.member.take().unwrap().stop();
        self.begin();
        self.tell(1);
    }

    /// The observer hears all of the next broker, too, if nobody is let in before this returns.
    pub(crate) fn start_broker_again(&mut self) {
        self.broker.start_again(self.program).unwrap();
        self.observer.attach(&self.broker.socket()).unwrap();
    }

    pub(crate) fn words(&self) -> Vec<Word> {
        self.member().words.lock().unwrap().clone()
    }

    /// So many connections, as it says.
    pub(crate) fn wait_until_it_lost(&self, connections: usize) {
        let is_loss = |word: &&Word| matches!(word, Word::Session(News::Lost { .. }));
        let deadline = Instant::now() + PATIENCE;
        while self.words().iter().filter(is_loss).count() < connections {
            assert!(Instant::now() < deadline, "{:?}", self.words());
            std::thread::yield_now();
        }
    }

    /// The last figure that was shown.
    pub(crate) fn last(&self) -> u64 {
        self.next - 1
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn wait(&self, what: &str, found: impl Fn(&[Told]) -> bool) -> Vec<Told> {
        let told = self.observer.wait(|heard| Some(read(heard)).filter(|told| found(told)));
        told.unwrap_or_else(|| panic!("{what}: {:#?}", read(&self.observer.heard())))
    }

    /// Waits until the broker heard of every figure, and checks what it heard.
    pub(crate) fn all_arrive(&self) -> Vec<Told> {
        let missing = |told: &[Told]| (0..self.next).find(|value| !has(told, *value));
        let found = self.observer.wait(|heard| Some(read(heard)).filter(|told| missing(told).is_none()));
        let Some(told) = found else {
            let told = read(&self.observer.heard());
            panic!("{:?} never came: {told:#?}", missing(&told));
        };
        check(&told);
        told
    }

    pub(crate) fn end(mut self) {
        if let Some(member) = self.member.take() {
            member.stop();
        }
    }
}

/// A box on which only one figure moves.
fn load(value: u64) -> Snapshot {
    figures(0, value)
}

pub(crate) fn has(told: &[Told], value: u64) -> bool {
    told.iter().any(|one| one.value == value)
}

/// Not in a birth.
pub(crate) fn times(told: &[Told], value: u64) -> usize {
    told.iter().filter(|one| one.value == value && one.how != How::Birth).count()
}

/// A figure that comes twice is the same both times, which its time says: the id by which hosts know it. Within a session
/// history is in order, and none of it comes twice.
fn check(told: &[Told]) {
    let mut times = BTreeMap::new();
    let mut last = None;
    for one in told.iter().filter(|one| one.how != How::Birth) {
        let first = *times.entry(one.value).or_insert(one.at);
        assert_eq!(first, one.at, "{} was at two times: {told:#?}", one.value);
        if one.how == How::History {
            let place = (one.birth, one.value);
            assert!(last.is_none_or(|last| last < place), "{one:?} is behind {last:?}: {told:#?}");
            last = Some(place);
        }
    }
}

/// What the broker handed on of the figure. Fails where the box breaks the order of Sparkplug: data before a birth, or
/// after the box's death, or out of sequence.
fn read(heard: &[Heard]) -> Vec<Told> {
    let (mut told, mut births) = (Vec::new(), 0);
    // Of the session that is alive: names by alias, bdSeq, and the sequence.
    let mut alive: Option<(BTreeMap<u64, String>, Option<Scalar>, u64)> = None;
    for one in heard {
        let publish = match one {
            Heard::Attached => {
                alive = None;
                continue;
            }
            Heard::Message(publish) => publish,
        };
        let Some(("spBv1.0", rest)) = publish.topic.split_once('/') else { continue };
        let verb = rest.split('/').nth(1).unwrap_or_default();
        let payload = Payload::decode(publish.payload.as_slice()).unwrap();
        match verb {
            "NBIRTH" => {
                births += 1;
                let named =
                    payload.metrics.iter().filter_map(|metric| Some((metric.alias?, metric.name.clone()?)));
                alive = Some((named.collect(), payload.metrics[0].value.clone(), 0));
            }
            "NDEATH" => {
                // One of an earlier session says nothing of this one.
                alive = alive.filter(|(_, bd_seq, _)| *bd_seq != payload.metrics[0].value);
                continue;
            }
            _ => {}
        }
        let (names, _, next) = alive.as_mut().unwrap_or_else(|| panic!("{verb} of a box that is not born"));
        assert_eq!(payload.seq, Some(*next), "{verb}");
        *next = (*next + 1) % 256;
        for metric in &payload.metrics {
            let name = metric.alias.map(|alias| names.get(&alias).expect("an alias of the birth"));
            let Some(Scalar::Long(value)) = metric.value else { continue };
            if name.is_some_and(|name| name == "Workloads/Good") {
                let how = match verb {
                    "NBIRTH" => How::Birth,
                    _ if metric.is_historical == Some(true) => How::History,
                    _ => How::Live,
                };
                told.push(Told { value, at: metric.timestamp.unwrap(), how, birth: births });
            }
        }
    }
    told
}
