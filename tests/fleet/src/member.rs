//! A box of the fleet: the real thread with figures that somebody made up.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hearth_core::Moment;
use hearth_disk::Folder;
use hearth_fleet::Now;
use hearth_fleet::desk::{Daemon, Desk};
use hearth_fleet::figures::{Device, Figure, Snapshot, Value};
use hearth_fleet::guest;
use hearth_fleet::letters::{Letters, Memory};
use hearth_fleet::outbox::{Limits, Outbox, Trouble};
use hearth_fleet::shell::{Options, Thread, Word};
use hearth_fleet::sign::Keyring;
use hearth_fleet::sparkplug::Pauses;
use hearth_fleet::sparkplug::session::Config;
use hearth_fleet::topics::{BadId, Id, Topics};
use hearth_fleet::tree::{News, Opening, Order, Rules, Tree};
use smol::Timer;

pub const GROUP: &str = "plant";

#[derive(Debug)]
pub struct Member {
    thread: Thread,
    pub words: Arc<Mutex<Vec<Word>>>,
}

/// A daemon with nothing to do, and nothing to say but what is wrong.
struct Idle;

impl Daemon for Idle {
    fn order(&mut self, _order: Order) -> Result<(), Order> {
        Ok(())
    }

    fn news(&mut self) -> Option<News> {
        None
    }

    fn tell(&mut self, trouble: Trouble) {
        eprintln!("{trouble}");
    }

    fn post(&mut self) -> Option<guest::Post> {
        None
    }

    fn guest(&mut self, _word: guest::Word) -> Result<(), guest::Word> {
        Ok(())
    }
}

/// Tries again at once, and asks every second whether the broker is there.
pub fn options(node: &str, servers: &[String], folder: &Path) -> Result<Options, BadId> {
    let topics = Topics::new(Id::new(GROUP)?, Id::new(node)?);
    Ok(Options {
        servers: servers.iter().filter_map(|server| server.parse().ok()).collect(),
        client_id: format!("hearth-{GROUP}-{node}"),
        credentials: None,
        ca: None,
        identity: None,
        keep_alive: Duration::from_secs(1),
        connect_within: Duration::from_secs(20),
        session: Config {
            topics,
            servers: servers.len(),
            primary_host: None,
            pauses: Pauses { first: Duration::from_millis(40), longest: Duration::from_millis(400) },
            history_per_s: 1000,
        },
        folder: folder.to_owned(),
    })
}

/// Of a box with so many replicas; `load` moves what may move.
pub fn figures(replicas: usize, load: u64) -> Snapshot {
    let node = vec![
        Figure::exact("Properties/Version", Value::Text("1.0".into())),
        Figure::exact("Workloads/Good", Value::Whole(load)),
        Figure::wide("Host/Load", Value::Real(0.5), 0.25, 25),
    ];
    let device = |number: usize| {
        Id::new(&format!("web.{number}")).ok().map(|id| Device {
            id,
            figures: vec![
                Figure::exact("State", Value::Text("ready".into())),
                Figure::exact("Restarts", Value::Whole(load)),
                Figure::wide("Memory", Value::Whole(64 << 20), 1_048_576.0, 5),
            ],
        })
    };
    Snapshot { node, devices: (0..replicas).filter_map(device).collect() }
}

impl Member {
    pub fn start(options: Options) -> io::Result<Member> {
        Member::with_letters(options, Memory::default)
    }

    /// What nobody could be told is on a disk, as the daemon has it. Each process has a generation of its own.
    pub fn with_outbox(options: Options, generation: u64) -> io::Result<Member> {
        let disk = Folder::open(&options.folder.join("outbox"))?;
        let shelf = Folder::open(&options.folder.join("tree"))?;
        let topics = options.session.topics.clone();
        Member::with_letters(options, move || {
            let (mut disk, mut shelf) = (disk, shelf);
            let now = Now { mono: Moment::START, wall_ms: 0 };
            let own = topics.management();
            let keyring = Keyring::default();
            let rules =
                Rules { topics, keyring, fleet_wins: true, operations: Vec::new(), boot: String::new() };
            let opening = Opening::read(&mut shelf, &rules.boot);
            let tree = Tree::open(&mut shelf, rules, opening, now);
            let outbox = Outbox::open(&mut disk, Limits { free_bytes: 0, ..Limits::default() }, generation);
            Desk::new(disk, shelf, Idle, outbox, tree, &own, now)
        })
    }

    pub fn with_letters<L: Letters>(
        options: Options,
        letters: impl FnOnce() -> L + Send + 'static,
    ) -> io::Result<Member> {
        let words = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&words);
        let tell = move |word| heard.lock().unwrap_or_else(PoisonError::into_inner).push(word);
        let thread = Thread::spawn(options, move |_nudge| letters(), tell)?;
        Ok(Member { thread, words })
    }

    /// Waits for room: no figures of a test are left out.
    pub fn show(&self, snapshot: Snapshot) {
        let mut left = Some(snapshot);
        while let Some(snapshot) = left {
            left = self.thread.show(snapshot);
            std::thread::yield_now();
        }
    }

    pub fn stop(self) {
        smol::block_on(self.thread.stop(async {
            Timer::after(Thread::patience()).await;
        }));
    }
}
