//! What the outbox costs on a real disk: `cargo xtask bench outbox [-- FOLDER]`.
//!
//! Prints each figure beside what was promised, whatever it says. Times are those of this machine and of the disk that
//! FOLDER is on (default: the folder of this build); bytes are the same everywhere.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hearth_core::Moment;
use hearth_disk::Folder;
use hearth_fleet::outbox::{Class, Limits, MAX_FLYING, Outbox, Stamp};

/// A report of some metrics, when there is little to say.
const RECORD: usize = 100;
/// Of 64 MiB, with each record's frame, and some room for the last file.
const RECORDS: u64 = 560_000;
/// A box whose ten workloads say a quarter KiB every ten seconds, without a link.
const STEADY: usize = 250;
const PERIOD: Duration = Duration::from_secs(10);
const WEEK: u64 = 7 * 24 * 360;

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    // Cargo says --bench to whoever it runs.
    let folder = std::env::args().skip(1).find(|word| !word.starts_with('-'));
    let folder = folder.map_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")), PathBuf::from);
    let folder = folder.join(format!("hearth-outbox-{}", std::process::id()));
    let measured = fill(&folder).and_then(|()| start(&folder)).and_then(|()| wear(&folder));
    fs::remove_dir_all(&folder)?;
    measured
}

fn limits() -> Limits {
    Limits { free_bytes: 0, most_bytes: 80 << 20, ..Limits::default() }
}

fn stamp(unix_ms: u64) -> Stamp {
    Stamp { unix_ms, trusted: true }
}

/// A record that compresses as badly as telemetry, and whose number is in it.
fn body(number: u64, bytes: usize) -> Vec<u8> {
    let mut body = number.to_le_bytes().to_vec();
    let mut word = number;
    while body.len() < bytes {
        word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        body.push(word.to_le_bytes()[7]);
    }
    body
}

fn fill(folder: &Path) -> Outcome<()> {
    let mut disk = Folder::open(&folder.join("full"))?;
    let mut outbox = Outbox::open(&mut disk, limits(), 1);
    let bodies: Vec<Vec<u8>> = (0..1000).map(|number| body(number, RECORD)).collect();
    let began = Instant::now();
    for number in 0..RECORDS {
        let body = &bodies[usize::try_from(number % 1000)?];
        outbox.append(&mut disk, Moment::START, stamp(number), Class::Telemetry, body).ok_or("too large")?;
    }
    outbox.close(&mut disk, Moment::START);
    let rate = RECORDS as f64 / began.elapsed().as_secs_f64();
    println!("{rate:>10.0} records/s    appended in batches, each synced        (at least 50000)");
    let mut answers = 0_u32;
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(1) {
        outbox.append(&mut disk, Moment::START, stamp(0), Class::Answer, b"done").ok_or("too large")?;
        answers += 1;
    }
    let each = began.elapsed().as_secs_f64() * 1e3 / f64::from(answers);
    println!("{each:>10.3} ms           for an answer until it is kept");
    Ok(())
}

fn start(folder: &Path) -> Outcome<()> {
    let mut disk = Folder::open(&folder.join("full"))?;
    let began = Instant::now();
    let mut outbox = Outbox::open(&mut disk, limits(), 2);
    let opened = began.elapsed().as_secs_f64() * 1e3;
    let first = outbox.take(&mut disk, Moment::START, stamp(0), 1);
    let taken = began.elapsed().as_secs_f64() * 1e3;
    let mib = outbox.figures().stored_bytes >> 20;
    println!("{opened:>10.3} ms           to start with {mib} MiB                    (at most 200)");
    println!("{taken:>10.3} ms           until the first record is at hand");
    let mut arrived = first.len() as u64;
    first.iter().for_each(|one| outbox.acknowledge(&mut disk, Moment::START, one.id));
    let began = Instant::now();
    loop {
        let taken = outbox.take(&mut disk, Moment::START, stamp(0), MAX_FLYING);
        if taken.is_empty() {
            break;
        }
        arrived += taken.len() as u64;
        taken.iter().for_each(|one| outbox.acknowledge(&mut disk, Moment::START, one.id));
    }
    let rate = arrived as f64 / began.elapsed().as_secs_f64();
    println!("{rate:>10.0} records/s    read back and acknowledged");
    if arrived < RECORDS {
        return Err(format!("only {arrived} of {RECORDS} came back").into());
    }
    Ok(())
}

/// A week without a link, and the way out.
fn wear(folder: &Path) -> Outcome<()> {
    let mut disk = Folder::open(&folder.join("week"))?;
    let mut outbox = Outbox::open(&mut disk, limits(), 1);
    let before = blocks_written();
    let mut now = Moment::START;
    for number in 0..WEEK {
        now = now.after(PERIOD);
        let record = body(number, STEADY);
        outbox
            .append(&mut disk, now, stamp(now.as_millis()), Class::Telemetry, &record)
            .ok_or("too large")?;
        outbox.turn(&mut disk, now);
    }
    loop {
        let taken = outbox.take(&mut disk, now, stamp(now.as_millis()), MAX_FLYING);
        if taken.is_empty() {
            break;
        }
        taken.iter().for_each(|one| outbox.acknowledge(&mut disk, now, one.id));
    }
    let figures = outbox.figures();
    let accepted = figures.accepted_bytes as f64;
    let files = figures.written_bytes as f64 / accepted;
    println!(
        "{files:>10.3}              bytes of files per byte of telemetry, a week without a link (at most 1.3)"
    );
    match (before, blocks_written()) {
        (Some(before), Some(after)) if after > before => {
            let blocks = (after - before) as f64 / accepted;
            println!(
                "{blocks:>10.3}              the same in whole blocks, as the kernel counts them   (at most 1.3)"
            );
        }
        _ => println!(
            "         -              the same in whole blocks: the kernel does not count them on this disk"
        ),
    }
    Ok(())
}

/// Bytes that this process made the kernel write, in whole pages.
fn blocks_written() -> Option<u64> {
    let text = fs::read_to_string("/proc/self/io").ok()?;
    text.lines().find_map(|line| line.strip_prefix("write_bytes: "))?.parse().ok()
}
