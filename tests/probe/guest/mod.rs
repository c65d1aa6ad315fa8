//! What guests do: the half of a trial or benchmark that runs in a microVM.
//!
//! Duty: use one device the way a workload would, and say on standard output what came of it. Not here: whether
//! that is right; the other half compares. Invariant: every line that counts begins with `guest: `.

mod disk;
mod memory;
mod processors;
pub(crate) mod service;
mod stream;
pub(crate) mod victim;
pub(crate) mod work;

pub(crate) use self::disk::block as block_of_disk;
pub(crate) use self::stream::answer;

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::thread;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use nix::unistd::gethostname;

use crate::pattern;

/// Why a guest could not do its part.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GuestError {
    #[error("{0}")]
    Usage(&'static str),
    #[error("{what}: {source}")]
    Io { what: String, source: io::Error },
}

fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> GuestError {
    let what = what.into();
    |source| GuestError::Io { what, source }
}

/// Between two numbers.
const COUNT_PERIOD: Duration = Duration::from_millis(20);
/// Between two looks at the clock.
const CLOCK_PERIOD: Duration = Duration::from_millis(50);

pub(crate) fn run(words: &[&str]) -> Result<(), GuestError> {
    match words {
        ["processors"] => processors::run(),
        ["disk", device, bytes, seed] => disk::fill_and_check(device, number(bytes)?, number(seed)?),
        ["read", device, bytes] => disk::read(device, number(bytes)?),
        ["pace", device, bytes] => disk::pace(device, number(bytes)?),
        ["pace-direct", device, bytes] => disk::pace_direct(device, number(bytes)?),
        ["stream", "tcp", address, bytes, seed] => stream::tcp(address, number(bytes)?, number(seed)?),
        ["stream", "vsock", port, bytes, seed] => {
            let port = u32::try_from(number(port)?).map_err(|_| GuestError::Usage("a port has 32 bits"))?;
            stream::vsock(port, number(bytes)?, number(seed)?)
        }
        ["serve", ms] => service::run(Duration::from_millis(number(ms)?)),
        ["call", port] => {
            let port = u32::try_from(number(port)?).map_err(|_| GuestError::Usage("a port has 32 bits"))?;
            stream::call(port)
        }
        ["work"] => work::run(),
        ["random", bytes] => random(number(bytes)?),
        ["print", bytes, seed] => print(number(bytes)?, number(seed)?),
        ["clock"] => clock(),
        ["count"] => count(),
        ["who"] => who(CLOCK_PERIOD),
        ["who", ms] => who(Duration::from_millis(number(ms)?)),
        ["victim"] => victim::run(),
        ["ask-victim"] => victim::ask(),
        ["dirty", mib] => memory::dirty(number(mib)?),
        ["memory", mib] => memory::use_and_free(number(mib)?),
        _ => Err(GuestError::Usage("no such verb of a guest")),
    }
}

fn number(text: &str) -> Result<u64, GuestError> {
    text.parse().map_err(|_| GuestError::Usage("expected a number"))
}

/// One line that the other half reads.
fn say(line: &str) {
    say_line(&format!("guest: {line}"));
}

fn say_line(line: &str) {
    let mut out = io::stdout().lock();
    // Nobody is left to tell when the console is gone.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// Two reads of the hardware's entropy: their checksums, which are to differ.
fn random(bytes: u64) -> Result<(), GuestError> {
    let mut source = File::open("/dev/hwrng").map_err(io("/dev/hwrng"))?;
    let mut once = || pattern::receive(&mut source, bytes).map_err(io("/dev/hwrng"));
    let (first, second) = (once()?, once()?);
    say(&format!("random {first:016x} {second:016x}"));
    Ok(())
}

/// 64 letters.
pub(crate) fn text_line(pattern: &mut pattern::Pattern) -> String {
    let mut line = [0; 64];
    pattern.fill(&mut line);
    line.iter().map(|byte| char::from(b'a' + byte % 26)).collect()
}

/// Text that the host knows, as lines of 64 letters, straight to the console: what goes through the agent is its to
/// drop where the console is slow.
fn print(bytes: u64, seed: u64) -> Result<(), GuestError> {
    const CONSOLE: &str = "/dev/console";
    let mut pattern = pattern::Pattern::new(seed);
    let mut out = OpenOptions::new().write(true).open(CONSOLE).map_err(io(CONSOLE))?;
    let mut left = bytes;
    while left > 0 {
        writeln!(out, "{}", text_line(&mut pattern)).map_err(io(CONSOLE))?;
        left = left.saturating_sub(64);
    }
    say("printed");
    Ok(())
}

/// Wall clock and time since boot, over and over.
fn clock() -> Result<(), GuestError> {
    loop {
        let now = |clock| clock_gettime(clock).map_err(|errno| io("clock")(errno.into()));
        let (wall, boot) = (now(ClockId::CLOCK_REALTIME)?, now(ClockId::CLOCK_BOOTTIME)?);
        let nanos = |time: nix::sys::time::TimeSpec| Duration::from(time).as_nanos();
        say(&format!("clock {} {}", nanos(wall), nanos(boot)));
        thread::sleep(CLOCK_PERIOD);
    }
}

/// Numbers in a row, each with a sum of all so far, straight to the console, beside the clocks.
fn count() -> Result<(), GuestError> {
    const CONSOLE: &str = "/dev/console";
    let mut out = OpenOptions::new().write(true).open(CONSOLE).map_err(io(CONSOLE))?;
    let mut sum = 0u64;
    for number in 0u64.. {
        sum = pattern::add(sum, number);
        let now = |clock| clock_gettime(clock).map_err(|errno| io("clock")(errno.into()));
        let (wall, monotonic) = (now(ClockId::CLOCK_REALTIME)?, now(ClockId::CLOCK_MONOTONIC)?);
        let nanos = |time: nix::sys::time::TimeSpec| Duration::from(time).as_nanos();
        let line = format!("guest: count {number} {sum:016x} {} {}\n", nanos(wall), nanos(monotonic));
        out.write_all(line.as_bytes()).map_err(io(CONSOLE))?;
        thread::sleep(COUNT_PERIOD);
    }
    Ok(())
}

/// Random numbers of the kernel, name, machine ID, wall clock: who the guest is, over and over.
fn who(period: Duration) -> Result<(), GuestError> {
    loop {
        let mut random = [0u8; 16];
        getrandom::fill(&mut random).map_err(|error| io("getrandom")(io::Error::other(error)))?;
        let random = u128::from_ne_bytes(random);
        let hostname = gethostname().map_err(|errno| io("gethostname")(errno.into()))?;
        let machine_id = small_file("/etc/machine-id").unwrap_or_else(|_| "-".to_owned());
        let wall = clock_gettime(ClockId::CLOCK_REALTIME).map_err(|errno| io("clock")(errno.into()))?;
        say(&format!(
            "who {random:032x} {} {} {}",
            hostname.display(),
            machine_id.trim_end(),
            Duration::from(wall).as_nanos()
        ));
        thread::sleep(period);
    }
}

/// All of a small file, such as those of /proc and /sys.
fn small_file(path: &str) -> Result<String, GuestError> {
    let mut text = String::new();
    File::open(path).and_then(|file| file.take(1 << 16).read_to_string(&mut text)).map_err(io(path))?;
    Ok(text)
}
