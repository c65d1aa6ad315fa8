//! The hardware's watchdog.
//!
//! ```text
//! Leased --the lease ends--> Starving --a new lease--> Leased
//!    \--the daemon leaves in order--> disarmed        \--the timeout passes--> the box is reset
//! ```
//!
//! Duty: pets, from a thread whose memory is locked and that allocates nothing, so that a box which swaps or is out of
//! memory is not reset while its daemon still decides. Not here: whether a pet is earned (`hearth-core`).
//! Invariants: without a lease of the core there is no pet. Only who says so disarms the hardware: a daemon that dies
//! leaves it counting.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use hearth_config::device::Watchdog as Config;
use hearth_core::Moment;
use rustix::mm::{MlockAllFlags, mlockall};
use thiserror::Error;

use crate::clock;

/// A lease lasts for so many of the core's periods: one that comes late is no reason to starve.
const LEASE_PERIODS: u32 = 2;
/// The thread looks so often within the hardware's timeout.
const LOOKS_IN_A_TIMEOUT: u32 = 6;
/// Bytes of the thread's stack. All of it is locked once it was touched.
const STACK_BYTES: usize = 64 << 10;
/// Whatever is written pets it, and this disarms it.
const PET: &[u8] = b"\0";
const DISARM: &[u8] = b"V";

#[derive(Debug, Error)]
pub(crate) enum WatchdogError {
    #[error("{}: cannot be opened, nothing resets a box that hangs", .0.display())]
    Open(PathBuf, #[source] io::Error),
    #[error("no thread for it")]
    Thread(#[source] io::Error),
}

/// What is petted, and set before. All spans are seconds.
pub(crate) trait Hardware: Send {
    fn timeout(&self) -> io::Result<u32>;
    fn pretimeout(&self) -> io::Result<u32>;
    /// What it made of it.
    fn set_timeout(&mut self, seconds: u32) -> io::Result<u32>;
    fn set_pretimeout(&mut self, seconds: u32) -> io::Result<u32>;
    /// Whether it was the one that reset the host.
    fn reset_the_host(&self) -> bool;
    fn pet(&mut self) -> io::Result<()>;
    fn disarm(&mut self) -> io::Result<()>;
}

impl Hardware for File {
    fn timeout(&self) -> io::Result<u32> {
        hearth_watchdog_ioctl::timeout(self)
    }

    fn pretimeout(&self) -> io::Result<u32> {
        hearth_watchdog_ioctl::pretimeout(self)
    }

    fn set_timeout(&mut self, seconds: u32) -> io::Result<u32> {
        hearth_watchdog_ioctl::set_timeout(self, seconds)
    }

    fn set_pretimeout(&mut self, seconds: u32) -> io::Result<u32> {
        hearth_watchdog_ioctl::set_pretimeout(self, seconds)
    }

    fn reset_the_host(&self) -> bool {
        let bits = hearth_watchdog_ioctl::boot_status(self).unwrap_or_default();
        bits & hearth_watchdog_ioctl::RESET_BY_WATCHDOG != 0
    }

    fn pet(&mut self) -> io::Result<()> {
        self.write_all(PET)
    }

    fn disarm(&mut self) -> io::Result<()> {
        self.write_all(DISARM)
    }
}

/// What the thread knows of time.
trait Pace: Send {
    fn now(&self) -> Moment;
    fn wait(&mut self, duration: Duration);
}

struct RealTime;

impl Pace for RealTime {
    fn now(&self) -> Moment {
        clock::now()
    }

    fn wait(&mut self, duration: Duration) {
        thread::park_timeout(duration);
    }
}

/// The daemon's side.
#[derive(Debug)]
pub(crate) struct Watchdog {
    shared: Arc<Shared>,
    lease: Duration,
    /// It says that it was the one that reset the host.
    pub(crate) reset_the_host: bool,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Milliseconds; pets are given before.
    leased_until: AtomicU64,
    leaving: AtomicBool,
    /// The hardware did not take the last pet.
    failing: AtomicBool,
}

/// What the hardware says of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Nature {
    timeout: Option<Duration>,
    pretimeout: Option<Duration>,
}

impl Watchdog {
    /// Opens the hardware, from which on it counts. Words for people come along.
    pub(crate) fn open(config: &Config) -> Result<(Watchdog, Vec<String>), WatchdogError> {
        let device = &config.device;
        let mut hardware = OpenOptions::new()
            .write(true)
            .open(device)
            .map_err(|error| WatchdogError::Open(device.clone(), error))?;
        let reset_the_host = hardware.reset_the_host();
        let (nature, mut words) = Nature::agreed(&mut hardware, Nature::of(Path::new("/"), device), config);
        // Pages as they are touched: the thread's are, from its first round on.
        if let Err(error) = mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT)
        {
            words.push(format!("watchdog: its memory cannot be locked, and may be swapped out: {error}"));
        }
        let timeout = nature.timeout.map_or(config.timeout, |timeout| timeout.min(config.timeout));
        let look = timeout / LOOKS_IN_A_TIMEOUT;
        let shared = Arc::new(Shared::default());
        let of_thread = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("watchdog".to_owned())
            .stack_size(STACK_BYTES)
            .spawn(move || care(hardware, RealTime, &of_thread, look))
            .map_err(WatchdogError::Thread)?;
        let lease = crate::wanted::pet_period(config) * LEASE_PERIODS;
        Ok((Watchdog { shared, lease, reset_the_host, thread: Some(thread) }, words))
    }

    /// The core has granted a pet.
    pub(crate) fn grant(&self, now: Moment) {
        self.shared.leased_until.store(now.after(self.lease).as_millis(), Ordering::Release);
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }

    pub(crate) fn fails(&self) -> bool {
        self.shared.failing.load(Ordering::Acquire)
    }

    /// The daemon leaves in order, and nothing is left that has to be watched.
    pub(crate) fn disarm(&mut self) {
        self.shared.leaving.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // It ends with its next look; a hang of the hardware's driver is the hardware's to end.
            let _ = thread.join();
        }
    }
}

/// The thread. Nothing in it allocates.
fn care(mut hardware: impl Hardware, mut pace: impl Pace, shared: &Shared, look: Duration) {
    while !shared.leaving.load(Ordering::Acquire) {
        if pace.now().as_millis() < shared.leased_until.load(Ordering::Acquire) {
            // Tried again at the next look; the daemon tells it.
            shared.failing.store(hardware.pet().is_err(), Ordering::Release);
        }
        pace.wait(look);
    }
    // A driver that does not let itself be disarmed ends in a reset, which a last pet puts off.
    let _ = hardware.pet();
    let _ = hardware.disarm();
}

impl Nature {
    /// As the kernel's files have it; `root` is `/`, but for tests.
    fn of(root: &Path, device: &Path) -> Nature {
        let name = device.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        // The first has two names.
        let name = if name == "watchdog" { "watchdog0" } else { name };
        let seconds = |key: &str| {
            let text = fs::read_to_string(root.join("sys/class/watchdog").join(name).join(key)).ok()?;
            text.trim().parse().ok().filter(|seconds| *seconds > 0).map(Duration::from_secs)
        };
        Nature { timeout: seconds("timeout"), pretimeout: seconds("pretimeout") }
    }

    /// Has the hardware do what the box's file says, as far as it can, and tells people how far that is. `listed` is what
    /// is known of hardware that cannot be asked.
    fn agreed(hardware: &mut impl Hardware, listed: Nature, config: &Config) -> (Nature, Vec<String>) {
        let device = config.device.display();
        let seconds = |span: Duration| u32::try_from(span.as_secs()).unwrap_or(u32::MAX);
        let span = |seconds: u32| (seconds > 0).then(|| Duration::from_secs(seconds.into()));
        let (ours, mut words) = (config.timeout.as_secs(), Vec::new());
        let refused = hardware.set_timeout(seconds(config.timeout)).err();
        // Asked for again: some take another one than they say.
        let timeout = hardware.timeout().ok().and_then(span).or(listed.timeout);
        words.push(match (timeout, refused) {
            (Some(its), _) if its == config.timeout => format!("watchdog: {device} resets after {ours} s"),
            (Some(its), None) => {
                let its = its.as_secs();
                format!("watchdog: {device} resets after {its} s, the nearest that it can to the {ours} s of watchdog.timeout_s")
            }
            (Some(its), Some(error)) => {
                let its = its.as_secs();
                format!("watchdog: {device} resets after {its} s, not the {ours} s of watchdog.timeout_s: {error}")
            }
            (None, _) => format!("watchdog: {device} is petted, and does not say when it resets"),
        });
        if let Some(wanted) = config.pretimeout
            && let Err(error) = hardware.set_pretimeout(seconds(wanted))
        {
            let wanted = wanted.as_secs();
            words.push(format!("watchdog: {device} does not warn {wanted} s before, as watchdog.pretimeout_s wants it: {error}"));
        }
        let pretimeout = hardware.pretimeout().ok().and_then(span).or(listed.pretimeout);
        words.extend(pretimeout.map(|before| {
            format!("watchdog: {device} warns the kernel {} s before it resets", before.as_secs())
        }));
        (Nature { timeout, pretimeout }, words)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Receiver, Sender, channel};

    /// Time that the test turns: each wait takes the next moment, and the last one makes the thread leave.
    struct Turned<'s> {
        now: Moment,
        moments: std::vec::IntoIter<u64>,
        shared: &'s Shared,
    }

    impl Pace for Turned<'_> {
        fn now(&self) -> Moment {
            self.now
        }

        fn wait(&mut self, _: Duration) {
            match self.moments.next() {
                Some(next) => self.now = Moment::from_millis(next),
                None => self.shared.leaving.store(true, Ordering::Release),
            }
        }
    }

    #[derive(Debug, PartialEq, Eq)]
    enum Deed {
        Pet,
        Disarm,
    }

    #[derive(Clone)]
    struct Fake {
        deeds: Sender<Deed>,
        broken: bool,
        /// It takes timeouts in steps of so many seconds; 0: it takes none.
        step: u32,
        set: (u32, u32),
    }

    impl Fake {
        fn new() -> (Fake, Receiver<Deed>) {
            let (deeds, done) = channel();
            (Fake { deeds, broken: false, step: 1, set: (60, 0) }, done)
        }
    }

    impl Hardware for Fake {
        fn timeout(&self) -> io::Result<u32> {
            Ok(self.set.0)
        }

        fn pretimeout(&self) -> io::Result<u32> {
            Ok(self.set.1)
        }

        fn set_timeout(&mut self, seconds: u32) -> io::Result<u32> {
            if self.step == 0 {
                return Err(io::ErrorKind::Unsupported.into());
            }
            self.set = (seconds.next_multiple_of(self.step), 0);
            Ok(self.set.0)
        }

        fn set_pretimeout(&mut self, seconds: u32) -> io::Result<u32> {
            if self.step == 0 {
                return Err(io::ErrorKind::Unsupported.into());
            }
            self.set.1 = seconds;
            Ok(seconds)
        }

        fn reset_the_host(&self) -> bool {
            self.broken
        }

        fn pet(&mut self) -> io::Result<()> {
            let _ = self.deeds.send(Deed::Pet);
            if self.broken { Err(io::ErrorKind::BrokenPipe.into()) } else { Ok(()) }
        }

        fn disarm(&mut self) -> io::Result<()> {
            let _ = self.deeds.send(Deed::Disarm);
            Ok(())
        }
    }

    fn cared(leased_until: u64, looks: Vec<u64>, broken: bool) -> (Receiver<Deed>, Shared) {
        let shared = Shared { leased_until: AtomicU64::new(leased_until), ..Shared::default() };
        let (fake, done) = Fake::new();
        let pace = Turned { now: Moment::START, moments: looks.into_iter(), shared: &shared };
        care(Fake { broken, ..fake }, pace, &shared, Duration::from_secs(5));
        (done, shared)
    }

    #[test]
    fn it_is_petted_while_the_lease_lasts_and_not_a_moment_longer() {
        let (done, _) = cared(20_000, vec![5000, 19_999, 20_000, 25_000], false);
        let before_leaving: Vec<Deed> = done.try_iter().collect();
        assert_eq!(before_leaving, [Deed::Pet, Deed::Pet, Deed::Pet, Deed::Pet, Deed::Disarm]);
    }

    #[test]
    fn without_a_lease_only_leaving_in_order_pets_it() {
        let (done, _) = cared(0, vec![5000, 10_000], false);
        assert_eq!(done.try_iter().collect::<Vec<_>>(), [Deed::Pet, Deed::Disarm]);
    }

    #[test]
    fn hardware_that_takes_no_pets_is_known_to_fail() {
        assert!(cared(20_000, vec![5000], true).1.failing.load(Ordering::Acquire));
        assert!(!cared(20_000, vec![5000], false).1.failing.load(Ordering::Acquire));
    }

    #[test]
    fn a_round_of_the_thread_allocates_nothing() {
        let file = tempfile::tempfile().unwrap();
        let shared = Shared { leased_until: AtomicU64::new(u64::MAX), ..Shared::default() };
        let moments = (0..100).collect::<Vec<u64>>().into_iter();
        let pace = Turned { now: Moment::START, moments, shared: &shared };
        let info = allocation_counter::measure(|| care(file, pace, &shared, Duration::from_secs(5)));
        assert_eq!(info.count_total, 0);
    }

    #[test]
    fn a_device_gets_pets_after_a_grant_and_its_last_byte_disarms_it() {
        let folder = tempfile::tempdir().unwrap();
        let device = folder.path().join("watchdog7");
        fs::write(&device, "").unwrap();
        let second = Duration::from_secs(1);
        let config = Config {
            device: device.clone(),
            timeout: 30 * second,
            pretimeout: None,
            patience: second,
            reboot: false,
        };
        let (mut watchdog, words) = Watchdog::open(&config).unwrap();
        assert!(words[0].ends_with("watchdog7 is petted, and does not say when it resets"), "{words:?}");
        watchdog.grant(clock::now());
        watchdog.disarm();
        assert!(!watchdog.fails());
        let written = fs::read(&device).unwrap();
        assert!(written.starts_with(PET) && written.ends_with(DISARM), "{written:?}");
        let missing = Config { device: folder.path().join("none"), ..config };
        assert!(matches!(Watchdog::open(&missing), Err(WatchdogError::Open(..))));
    }

    #[test]
    fn what_the_hardware_says_of_itself_is_read_and_told() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("sys/class/watchdog/watchdog0");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("timeout"), "60\n").unwrap();
        fs::write(folder.join("pretimeout"), "0\n").unwrap();
        let device = PathBuf::from("/dev/watchdog");
        let nature = Nature::of(root.path(), &device);
        assert_eq!(nature, Nature { timeout: Some(Duration::from_secs(60)), pretimeout: None });
        assert_eq!(Nature::of(root.path(), Path::new("/dev/watchdog1")), Nature::default());
    }

    #[test]
    fn what_the_box_wants_is_set_as_far_as_the_hardware_goes_and_told() {
        let second = Duration::from_secs(1);
        let agreed = |step: u32, timeout: u32, pretimeout: Option<Duration>| {
            let (fake, _done) = Fake::new();
            let mut fake = Fake { step, ..fake };
            let device = PathBuf::from("/dev/watchdog");
            let config =
                Config { device, timeout: timeout * second, pretimeout, patience: second, reboot: false };
            let (nature, words) = Nature::agreed(&mut fake, Nature::default(), &config);
            (
                nature.timeout.unwrap().as_secs(),
                nature.pretimeout.map(|before| before.as_secs()),
                words.join("\n"),
            )
        };
        let (timeout, before, words) = agreed(1, 30, Some(10 * second));
        assert_eq!((timeout, before), (30, Some(10)), "the second setting is not undone by the first");
        let expected = "watchdog: /dev/watchdog resets after 30 s\n\
                        watchdog: /dev/watchdog warns the kernel 10 s before it resets";
        assert_eq!(words, expected);
        let (timeout, before, words) = agreed(60, 90, None);
        assert_eq!((timeout, before), (120, None));
        assert!(
            words.ends_with("after 120 s, the nearest that it can to the 90 s of watchdog.timeout_s"),
            "{words}"
        );
        let (timeout, before, words) = agreed(0, 30, Some(10 * second));
        assert_eq!((timeout, before), (60, None));
        assert!(words.contains("after 60 s, not the 30 s of watchdog.timeout_s: unsupported"), "{words}");
        assert!(
            words.contains("does not warn 10 s before, as watchdog.pretimeout_s wants it: unsupported"),
            "{words}"
        );
    }
}
