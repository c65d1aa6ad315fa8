//! What the fleet wants, between the daemon's loop and the thread that hears it.
//!
//! Duty: folders and channels of the desk, what a daemon begins with, and how workloads stand in its words. Not here:
//! decisions (`hearth-fleet`), carrying them out (`daemon`).
//! Invariants: folders that cannot be used cost what they would have kept, and nothing else. The loop never waits for the
//! thread.

use std::collections::HashMap;
use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::Path;

use hearth_config::device::{self, DeviceConfig, Precedence};
use hearth_config::workload::{self, Signers};
use hearth_core::{Explanation, State};
use hearth_disk::{Disk, Folder};
use hearth_fleet::Now;
use hearth_fleet::desk::{Daemon, Desk};
use hearth_fleet::guest::{Post, Word};
use hearth_fleet::outbox::{Limits, Outbox, Trouble};
use hearth_fleet::sign::{KeyFault, Keyring, Role, RoleKeys};
use hearth_fleet::topics::Topics;
use hearth_fleet::tree::{Desired, Kind, News, Opening, Order, Remote, Rules, Standing, Tree};
use smol::channel::{Receiver, Sender, bounded};

use crate::api::view;
use crate::console::Console;
use crate::guests::FarEnd;
use crate::setup::Setup;
use crate::share::Share;
use crate::wall;

/// Of the store: what the fleet wants, beside what the session keeps.
const FOLDER: &str = "fleet/tree";
/// The kernel's number of this boot.
const BOOT_ID: &str = "proc/sys/kernel/random/boot_id";
/// Orders that wait for the loop; the desk keeps the others.
const MAX_ORDERS: usize = 4;
/// News that waits for the thread: an end for each order, and some looks at how things stand.
const MAX_NEWS: usize = 32;
/// Pieces of output that wait for it; who has more waits.
const MAX_PIECES: usize = 16;
/// News beyond which a look is left out: the next one comes.
const MAX_LOOKS: usize = 8;

/// What this daemon can do for a fleet.
const OPERATIONS: [Kind; 10] = [
    Kind::Reboot,
    Kind::RestartWorkload,
    Kind::Rollback,
    Kind::Snapshot,
    Kind::SetLogLevel,
    Kind::Exec,
    Kind::Console,
    Kind::FetchLogs,
    Kind::Cancel,
    Kind::Trust,
];

/// A folder that may be none.
#[derive(Debug)]
pub(crate) enum Place {
    Folder(Folder),
    Nowhere,
}

/// The loop's ends.
#[derive(Debug)]
pub(crate) struct Ends {
    pub(super) orders: Receiver<Order>,
    pub(super) news: Sender<News>,
    /// What streams tell, each in its order.
    pub(super) pieces: Sender<News>,
}

/// The thread's.
#[derive(Debug)]
pub(crate) struct FarEnds {
    orders: Sender<Order>,
    news: Receiver<News>,
    pieces: Receiver<News>,
    console: Console,
    guests: FarEnd,
}

/// What a daemon of a member begins with: its files, and the last that the fleet said.
#[derive(Debug, Default)]
pub(crate) struct Beginning(Opening);

impl Beginning {
    /// Also without a network, and before anything else.
    pub(crate) fn of(setup: Setup) -> (Setup, Beginning) {
        if setup.device.fleet.is_none() {
            return (setup, Beginning::default());
        }
        let mut shelf = Place::open(&setup.device.store.folder.join(FOLDER));
        let mut opening = Opening::read(&mut shelf, &boot_id());
        let Some(desired) = &opening.desired else { return (setup, Beginning(opening)) };
        match setup.sharing(share(desired, &setup.device)) {
            Ok(shared) => {
                opening.conflicts = shared.conflicts.clone();
                (shared, Beginning(opening))
            }
            Err(faults) => {
                // It was good when it was accepted: the program or the box's files are others now.
                opening.words = Some(faults.to_string().replace('\n', "; "));
                opening.desired = None;
                (setup, Beginning(opening))
            }
        }
    }

    pub(crate) fn words(&self) -> Option<String> {
        let words = self.0.words.as_ref()?;
        Some(format!("ALARM: fleet: its desired state is not followed: {words}"))
    }
}

pub(crate) fn share(desired: &Desired, device: &DeviceConfig) -> Share {
    let own = |(name, text): (&str, Option<&str>)| (name.to_owned(), text.map(str::to_owned));
    let wins = device.fleet.as_ref().is_some_and(|fleet| fleet.precedence == Precedence::FleetWins);
    Share { workloads: desired.workloads().map(own).collect(), wins }
}

pub(super) fn ends(console: &Console, guests: FarEnd) -> (Ends, FarEnds) {
    let (orders, orders_out) = bounded(MAX_ORDERS);
    let (news_in, news) = bounded(MAX_NEWS);
    let (pieces_in, pieces) = bounded(MAX_PIECES);
    let near = Ends { orders: orders_out, news: news_in, pieces: pieces_in };
    (near, FarEnds { orders, news, pieces, console: console.clone(), guests })
}

pub(super) fn keyring(trust: &device::Trust) -> Result<Keyring, KeyFault> {
    Ok(Keyring {
        version: 0,
        operate: RoleKeys::new(&trust.operate, usize::from(trust.operate_threshold))?,
        release: RoleKeys::new(&trust.release, usize::from(trust.release_threshold))?,
    })
}

/// On the thread, where its disks may take their time.
pub(super) fn desk(
    fleet: &device::Fleet,
    store: &Path,
    topics: Topics,
    keyring: Keyring,
    beginning: Beginning,
    ends: FarEnds,
) -> Desk<Place, FarEnds> {
    let now = Now { mono: hearth_core::Moment::START, wall_ms: wall::unix_ms() };
    let (mut disk, mut shelf) = (Place::open(&fleet.outbox.folder), Place::open(&store.join(FOLDER)));
    let limits = Limits {
        most_bytes: fleet.outbox.mib << 20,
        free_bytes: fleet.outbox.free_mib << 20,
        ..Limits::default()
    };
    let outbox = Outbox::open(&mut disk, limits, RandomState::new().hash_one(&fleet.group));
    let own = topics.management();
    let rules = Rules {
        topics,
        keyring,
        fleet_wins: fleet.precedence == Precedence::FleetWins,
        operations: OPERATIONS.to_vec(),
        boot: boot_id(),
    };
    let tree = Tree::open(&mut shelf, rules, beginning.0, now);
    Desk::new(disk, shelf, ends, outbox, tree, &own, now)
}

impl Daemon for FarEnds {
    fn order(&mut self, order: Order) -> Result<(), Order> {
        self.orders.try_send(order).map_err(smol::channel::TrySendError::into_inner)
    }

    fn news(&mut self) -> Option<News> {
        self.news.try_recv().or_else(|_| self.pieces.try_recv()).ok()
    }

    fn tell(&mut self, trouble: Trouble) {
        let alarm = if matches!(trouble, Trouble::WorksAgain) { "" } else { "ALARM: " };
        self.console.say(&format!("{alarm}fleet: {}", crate::wording::one_line(&trouble)));
    }

    fn post(&mut self) -> Option<Post> {
        self.guests.posts.try_recv().ok()
    }

    fn guest(&mut self, word: Word) -> Result<(), Word> {
        self.guests.words.try_send(word).map_err(smol::channel::TrySendError::into_inner)
    }
}

impl Ends {
    /// An end is never left out.
    pub(super) fn tell(&self, news: News) {
        if !matches!(news, News::Standings { .. }) || self.news.len() < MAX_LOOKS {
            let _ = self.news.try_send(news);
        }
    }
}

/// How all workloads stand. One that went back to the version before is well, and is not what the fleet wants.
pub(super) fn standings(core: &State, setup: &Setup) -> News {
    let wanted: HashMap<_, _> =
        setup.versions().map(|(workload, version)| (workload.name.as_str(), version)).collect();
    let standing = |story: Explanation| {
        let status = view::workload_status(core, &story);
        let wanted = wanted.get(status.name.as_str()).copied();
        let taken_back = wanted.filter(|version| story.rejected == Some(*version));
        let is_it = wanted.is_none_or(|version| version == story.current) && status.rollout == "steady";
        let of_a_replica =
            || status.replicas.iter().find_map(|one| one.fault.clone().or(one.waits_for.clone()));
        let good = status.good && is_it;
        let reason = match taken_back {
            Some(version) => {
                Some(format!("version {version} failed and was taken back, {} runs", story.current))
            }
            None if good => None,
            None => of_a_replica(),
        };
        Standing {
            remote: setup.workload(&status.name).map(remote).unwrap_or_default(),
            from_fleet: setup.share.decides(&status.name, &setup.conflicts),
            failed: status.state == "quarantined" || taken_back.is_some(),
            reason,
            state: status.state.into_owned(),
            good,
            name: status.name,
        }
    };
    let standings = core.ids().filter_map(|id| core.explain(id)).map(standing).collect();
    News::Standings { standings, conflicts: setup.conflicts.clone() }
}

/// Who of the fleet may do what in a workload, as its configuration says now.
pub(crate) fn remote(workload: &workload::WorkloadConfig) -> Remote {
    let role = |signers: Signers| match signers {
        Signers::Operate => Role::Operate,
        Signers::Release => Role::Release,
    };
    let workload::Remote { exec, console, fetch_logs } = workload.remote;
    Remote { exec: exec.map(role), console: console.map(role), fetch_logs: fetch_logs.map(role) }
}

fn boot_id() -> String {
    fs::read_to_string(Path::new("/").join(BOOT_ID)).unwrap_or_default().trim().to_owned()
}

impl Place {
    /// What is there and is no folder is put aside.
    fn open(path: &Path) -> Place {
        let aside = || {
            let mut name = path.as_os_str().to_owned();
            name.push(".bad");
            fs::rename(path, name)?;
            Folder::open(path)
        };
        Folder::open(path).or_else(|_| aside()).map_or(Place::Nowhere, Place::Folder)
    }

    fn folder(&mut self) -> io::Result<&mut Folder> {
        match self {
            Place::Folder(folder) => Ok(folder),
            Place::Nowhere => Err(io::Error::new(io::ErrorKind::NotFound, "its folder cannot be used")),
        }
    }
}

impl Disk for Place {
    fn read(&mut self, name: &str) -> io::Result<Option<Vec<u8>>> {
        self.folder()?.read(name)
    }

    fn create(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.folder()?.create(name, bytes)
    }

    fn append(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.folder()?.append(name, bytes)
    }

    fn sync(&mut self, name: &str) -> io::Result<()> {
        self.folder()?.sync(name)
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        self.folder()?.rename(from, to)
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        self.folder()?.remove(name)
    }

    fn list(&mut self) -> io::Result<Vec<(String, u64)>> {
        self.folder()?.list()
    }

    fn free(&mut self) -> io::Result<u64> {
        self.folder()?.free()
    }

    fn sync_folder(&mut self) -> io::Result<()> {
        self.folder()?.sync_folder()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_folder_is_put_aside_and_without_any_the_box_goes_on() {
        let site = tempfile::tempdir().unwrap();
        let path = site.path().join("outbox");
        fs::write(&path, "not a folder").unwrap();
        let mut place = Place::open(&path);
        place.replace("a", b"a").unwrap();
        assert_eq!(place.list().unwrap(), [("a".to_owned(), 1)]);
        assert_eq!(fs::read(site.path().join("outbox.bad")).unwrap(), b"not a folder");
        let mut nowhere = Place::open(Path::new("/proc/none/outbox"));
        assert!(nowhere.list().is_err());
        let outbox = Outbox::open(&mut nowhere, Limits::default(), 1);
        assert_eq!(outbox.figures().held, 0);
    }
}
