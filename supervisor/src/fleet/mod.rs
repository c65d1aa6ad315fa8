//! The box as a member of a fleet: the daemon's side of the thread that speaks with brokers.
//!
//! Duty: the thread with its settings, when it is shown how things stand, what people hear of it, its end.
//! Not here: what is said (`hearth-fleet`), the figures (`figures`).
//! Invariant: without `[fleet]` nothing of this runs; with it, the daemon waits for the thread only to stop it, and no
//! workload ever does.

mod desk;
mod figures;
mod foreseen;
mod streams;

use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use hearth_config::device::{self, DeviceConfig};
use hearth_core::{Moment, State};
use hearth_fleet::shell::{Identity, Options, Thread, Word};
use hearth_fleet::sign::KeyFault;
use hearth_fleet::sparkplug::Pauses;
use hearth_fleet::sparkplug::session::{Config, News};
use hearth_fleet::topics::{Id, Topics};
use hearth_fleet::tree;
use hearth_foresight::Outlook;
use smol::Timer;
use thiserror::Error;

use self::desk::Ends;
pub(crate) use self::desk::{Beginning, remote, share};
pub(crate) use self::streams::{Speaker, Streams, take_snapshot};
use crate::api::events::Events;
use crate::console::Console;
use crate::guests::{self, Guests};
use crate::setup::Setup;
use crate::wording;

/// Of the store, for what the session has to know after a restart.
const FOLDER: &str = "fleet";
/// Where a system says who it is.
const MACHINE_ID: &str = "/etc/machine-id";
/// Where the kernel gives a random one to whoever has none.
const RANDOM_ID: &str = "/proc/sys/kernel/random/uuid";
/// Digits of a name that is made: one in a million fleets of ten thousand boxes has two alike.
const NAME_DIGITS: usize = 12;

#[derive(Debug, Error)]
pub(crate) enum FleetError {
    #[error("{0}: expected a name for topics")]
    Name(String),
    #[error("{}: the password cannot be read", .0.display())]
    Password(std::path::PathBuf, #[source] io::Error),
    #[error("trust")]
    Keys(#[from] KeyFault),
    #[error("its thread cannot be started")]
    Thread(#[source] io::Error),
}

#[derive(Debug)]
pub(crate) struct Fleet {
    thread: Thread,
    period: Duration,
    next: Instant,
    ends: Ends,
    pub(crate) streams: Streams,
    guests: Guests,
}

impl Fleet {
    /// `None`: the box is nobody's member, or cannot be one and says why. Its workloads run all the same.
    pub(crate) fn join(
        device: &DeviceConfig,
        console: &Console,
        beginning: Beginning,
        guests: &Guests,
    ) -> Option<Fleet> {
        let config = device.fleet.as_ref()?;
        if let Some(words) = beginning.words() {
            console.say(&words);
        }
        let (near_guests, far_guests) = guests::ends();
        let (near, far) = desk::ends(console, far_guests);
        let joined = options(config, &device.store.folder.join(FOLDER)).and_then(|options| {
            let (fleet, store) = (config.clone(), device.store.folder.clone());
            let (keyring, topics) = (desk::keyring(&config.trust)?, options.session.topics.clone());
            let (console, servers) = (console.clone(), config.servers.clone());
            let tell = move |word| {
                if let Some(line) = line(&word, &servers) {
                    console.say(&line);
                }
            };
            Thread::spawn(options, move |_| desk::desk(&fleet, &store, topics, keyring, beginning, far), tell)
                .map_err(FleetError::Thread)
        });
        match joined {
            Ok(thread) => {
                guests.join(near_guests, thread.nudger());
                let (period, next, streams) = (config.period, Instant::now(), Streams::default());
                Some(Fleet { thread, period, next, ends: near, streams, guests: guests.clone() })
            }
            Err(error) => {
                console.say(&format!("ALARM: fleet: {}", wording::one_line(&error)));
                None
            }
        }
    }

    /// Until the fleet should be shown how things stand.
    pub(crate) async fn is_due(fleet: Option<&Fleet>) {
        match fleet {
            Some(fleet) => {
                Timer::at(fleet.next).await;
            }
            None => smol::future::pending().await,
        }
    }

    pub(crate) fn show(
        &mut self,
        core: &State,
        now: Moment,
        events: &Events,
        setup: &Setup,
        outlooks: &[Outlook],
    ) {
        // Not from the last time: a daemon that stood still does not catch up.
        self.next = Instant::now() + self.period;
        // Before the first figures, which are what a connection begins with: who may do what is known by then.
        self.look(core, setup);
        if self.thread.has_room() {
            let mut snapshot = figures::snapshot(core, now, events, &self.guests, &setup.device);
            // Last: a box with too many figures for a birth does without these.
            snapshot.node.extend(foreseen::figures(outlooks));
            self.thread.show(snapshot);
        }
    }

    /// How its workloads stand.
    pub(crate) fn look(&self, core: &State, setup: &Setup) {
        self.tell(desk::standings(core, setup));
    }

    /// For what takes its time.
    pub(crate) fn speaker(&self) -> Speaker {
        Speaker { news: self.ends.pieces.clone(), nudge: self.thread.nudger() }
    }

    pub(crate) fn tell(&self, news: tree::News) {
        self.ends.tell(news);
        self.thread.nudge();
    }

    pub(crate) async fn next_order(&self) -> tree::Order {
        match self.ends.orders.recv().await {
            Ok(order) => order,
            // Its thread is gone.
            Err(_) => smol::future::pending().await,
        }
    }

    /// The fleet hears that the box goes.
    pub(crate) async fn leave(fleet: Option<Fleet>) {
        if let Some(fleet) = fleet {
            fleet.streams.leave();
            fleet
                .thread
                .stop(async {
                    Timer::after(Thread::patience()).await;
                })
                .await;
        }
    }
}

fn options(config: &device::Fleet, folder: &Path) -> Result<Options, FleetError> {
    let id = |name: &str| Id::new(name).map_err(|_| FleetError::Name(name.to_owned()));
    let group = id(&config.group)?;
    let node = match &config.node {
        Some(node) => id(node)?,
        None => id(&own_name(Path::new(MACHINE_ID), folder))?,
    };
    let credentials = match (&config.username, &config.password_file) {
        (Some(user), Some(file)) => {
            let text = fs::read_to_string(file).map_err(|error| FleetError::Password(file.clone(), error))?;
            Some((user.clone(), text.lines().next().unwrap_or_default().to_owned()))
        }
        (Some(user), None) => Some((user.clone(), String::new())),
        (None, _) => None,
    };
    let identity = config.certificate.clone().zip(config.key.clone());
    Ok(Options {
        // The reader takes no others.
        servers: config.servers.iter().filter_map(|server| server.parse().ok()).collect(),
        client_id: format!("{group}.{node}"),
        credentials,
        ca: config.ca.clone(),
        identity: identity.map(|(certificate, key)| Identity { certificate, key }),
        keep_alive: config.keep_alive,
        connect_within: config.connect,
        session: Config {
            topics: Topics::new(group, node),
            servers: config.servers.len(),
            primary_host: config.primary_host.as_deref().map(id).transpose()?,
            pauses: Pauses::default(),
            history_per_s: config.history_per_s,
        },
        folder: folder.to_owned(),
    })
}

/// The same after every restart. Of the machine's ID only a digest leaves the box: programs on it may use that as a
/// secret.
fn own_name(machine_id: &Path, folder: &Path) -> String {
    let kept = folder.join("node");
    let source = fs::read_to_string(machine_id).ok().filter(|text| !text.trim().is_empty());
    let source = source.or_else(|| fs::read_to_string(&kept).ok()).unwrap_or_else(|| {
        let made = fs::read_to_string(RANDOM_ID).unwrap_or_default();
        // One that cannot be kept is told by the session, which keeps its own things there.
        let _ = fs::create_dir_all(folder).and_then(|()| fs::write(&kept, &made));
        made
    });
    // FNV-1a, so that it stays the same over versions of this program.
    let digest = source.trim().bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let digits = format!("{digest:016x}");
    format!("hearth-{}", &digits[..NAME_DIGITS])
}

/// What people are told; hosts may ask for births as often as they like without filling anybody's screen.
fn line(word: &Word, servers: &[String]) -> Option<String> {
    let of = |server: &usize| servers.get(*server).map_or("its broker", String::as_str);
    let text = match word {
        Word::Session(News::Online { server }) => format!("fleet: {} is connected", of(server)),
        Word::Session(News::Unreachable { server, why }) => {
            format!("fleet: {} cannot be reached, and is tried on: {why}", of(server))
        }
        Word::Session(News::Lost { server, why }) => format!("fleet: {} is lost: {why}", of(server)),
        Word::Session(News::HostOffline { server }) => {
            format!("fleet: at {} the primary host is gone", of(server))
        }
        Word::Session(News::Poisoned { server }) => {
            format!("ALARM: fleet: {} keeps a message for this box that is too large to take", of(server))
        }
        Word::Session(News::Rebirth) => return None,
        Word::Tls(why) => format!("ALARM: fleet: no TLS: {why}"),
        Word::Memo(why) => format!("ALARM: fleet: {why}"),
    };
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_box_without_a_name_has_one_that_stays() {
        let folder = tempfile::tempdir().unwrap();
        let id = folder.path().join("machine-id");
        let kept = folder.path().join("fleet");
        fs::write(&id, "0123456789abcdef0123456789abcdef\n").unwrap();
        assert_eq!(own_name(&id, &kept), "hearth-01527c9731f0");
        let none = folder.path().join("none");
        let made = own_name(&none, &kept);
        assert_eq!(own_name(&none, &kept), made);
        assert_ne!(made, own_name(&none, &folder.path().join("other")));
        assert!(Id::new(&made).is_ok() && made.len() == 7 + NAME_DIGITS, "{made}");
    }

    #[test]
    fn a_file_says_all_that_the_thread_needs() {
        let folder = tempfile::tempdir().unwrap();
        let password = folder.path().join("password");
        fs::write(&password, "secret\nrest\n").unwrap();
        let text = format!(
            "[fleet]\nservers = [\"mqtts://a\", \"mqtt://b:7\"]\ngroup = \"g\"\nnode = \"n\"\nca = \"/ca\"\n\
             certificate = \"/c\"\nkey = \"/k\"\nusername = \"u\"\npassword_file = \"{}\"\nprimary_host = \"h\"\n",
            password.display()
        );
        let config = DeviceConfig::parse("hearth.toml", &text).unwrap().fleet.unwrap();
        let options = options(&config, folder.path()).unwrap();
        assert_eq!(options.credentials, Some(("u".to_owned(), "secret".to_owned())));
        assert_eq!(options.servers.len(), 2);
        assert_eq!((options.client_id.as_str(), options.session.servers), ("g.n", 2));
        assert_eq!(options.session.primary_host, Id::new("h").ok());
        fs::remove_file(&password).unwrap();
        let error = super::options(&config, folder.path()).unwrap_err();
        assert!(error.to_string().ends_with("password: the password cannot be read"), "{error}");
    }
}
