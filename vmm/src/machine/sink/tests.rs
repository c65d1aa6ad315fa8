//! Sinks with their limits in made-up time, on files, on pipes, and in an event loop.

use std::fs;
use std::io::Read;

use event_manager::{EventManager, SubscriberOps};
use proptest::prelude::*;

use super::target::BoundedFile;
use super::*;
use crate::jail::Printer;
use crate::rate::Bucket;
use crate::stdio::Stream;

type Loop = EventManager<Box<dyn MutEventSubscriber>>;

fn output_with(bytes: usize) -> Output {
    let output = Output::new().unwrap();
    output.push(&vec![b'x'; bytes]);
    output
}

fn sink(target: Target, limit: Limit, output: &Output) -> Sink {
    Sink::new("console", target, limit, output.clone()).unwrap()
}

fn bytes_per_second(rate: u64, burst: u64) -> Limit {
    Limit::new(Some(Bucket::new(rate, burst)), None)
}

/// A pipe with a sink at its one end.
fn pipe() -> (std::io::PipeReader, Target) {
    let (reader, writer) = std::io::pipe().unwrap();
    (reader, Target::Stream(Stream::of(writer).unwrap()))
}

fn written(output: &Output) -> usize {
    OUTPUT_BUFFER - output.waiting()
}

#[test]
fn a_flood_leaves_at_the_rate_of_its_limit() {
    let (start, output) = (Instant::now(), output_with(OUTPUT_BUFFER));
    let mut sink = sink(Target::Nowhere, bytes_per_second(1000, 500), &output);
    let mut now = start;
    while now < start + Duration::from_secs(20) {
        let Next::Time(time) = sink.drain(now) else { panic!("a flood that the limit does not hold") };
        let allowed = 500 + (now - start).as_millis();
        assert!(written(&output) as u128 <= allowed, "{} of {allowed}", written(&output));
        assert!(time > now);
        now = time;
    }
    assert!(written(&output) >= 19_500, "only {}", written(&output));
}

#[test]
fn operations_are_chunks_that_leave() {
    let (now, output) = (Instant::now(), output_with(OUTPUT_BUFFER));
    let mut sink = sink(Target::Nowhere, Limit::new(None, Some(Bucket::new(1, 3))), &output);
    assert_eq!(sink.drain(now), Next::Time(now + Duration::from_secs(1)));
    assert_eq!(written(&output), 3 * CHUNK);
}

#[test]
fn a_reader_that_stops_is_waited_for_without_waiting() {
    let (mut reader, target) = pipe();
    let output = output_with(OUTPUT_BUFFER);
    let mut sink = sink(target, Limit::default(), &output);
    let mut offered = OUTPUT_BUFFER;
    while sink.drain(Instant::now()) != Next::Room {
        offered += output.room();
        output.push(&vec![b'x'; output.room()]);
    }
    let mut room = vec![0; 2 * CHUNK];
    reader.read_exact(&mut room).unwrap();
    while sink.drain(Instant::now()) == Next::Again {}
    sink.pending.clear();
    drop(sink);
    output.take(usize::MAX, &mut room);
    let mut rest = Vec::new();
    reader.read_to_end(&mut rest).unwrap();
    assert!(offered - (room.len() + rest.len()) <= CHUNK, "what is pending is all that may be missing");
}

#[test]
fn a_reader_that_is_gone_costs_the_guest_nothing() {
    let (reader, target) = pipe();
    drop(reader);
    let output = output_with(OUTPUT_BUFFER);
    let mut sink = sink(target, Limit::default(), &output);
    assert_eq!(sink.drain(Instant::now()), Next::Filling);
    assert_eq!(output.waiting(), 0);
}

#[test]
fn a_turn_ends_although_the_guest_goes_on_printing() {
    let output = output_with(OUTPUT_BUFFER);
    let mut sink = sink(Target::Nowhere, Limit::default(), &output);
    // As if the guest had printed a chunk since the turn began.
    sink.pending = vec![b'y'; CHUNK];
    assert_eq!(sink.drain(Instant::now()), Next::Again);
    assert_eq!(output.waiting(), CHUNK);
    assert_eq!(sink.drain(Instant::now()), Next::Filling);
}

#[test]
fn what_is_left_at_the_end_is_counted_as_lost() {
    let output = output_with(1000);
    let mut sink = sink(Target::Nowhere, bytes_per_second(1, 100), &output);
    sink.finish(LastWords::IN_PEACE);
    let lost = output.account().dropped;
    assert!((898..=900).contains(&lost), "a hundred at once, one or two in the second of patience: {lost}");
}

#[test]
fn in_a_loop_the_limit_s_timer_and_the_reader_bring_the_next_turn_also_after_a_pause() {
    let (mut reader, target) = pipe();
    let output = output_with(100);
    let sink = sink(target, bytes_per_second(10_000, 10), &output);
    let mut events = Loop::new().unwrap();
    let id = events.add_subscriber(Box::new(sink));
    let turns = |events: &mut Loop, until: usize| {
        while output.waiting() > until {
            assert!(events.run_with_timeout(10_000).unwrap() > 0, "nothing brings the next turn");
        }
    };
    turns(&mut events, 50);
    let subscriber = events.remove_subscriber(id).unwrap();
    events.add_subscriber(subscriber);
    turns(&mut events, 0);
    drop(events);
    let mut text = Vec::new();
    reader.read_to_end(&mut text).unwrap();
    assert_eq!(text.len(), 100);
}

#[test]
fn in_a_loop_a_reader_that_reads_again_gets_the_rest_also_after_a_pause() {
    let (mut reader, target) = pipe();
    let output = output_with(OUTPUT_BUFFER);
    let mut events = Loop::new().unwrap();
    let id = events.add_subscriber(Box::new(sink(target, Limit::default(), &output)));
    while events.run_with_timeout(0).unwrap() > 0 {
        output.push(&vec![b'x'; output.room()]);
    }
    let subscriber = events.remove_subscriber(id).unwrap();
    events.add_subscriber(subscriber);
    let waiting = output.waiting();
    reader.read_exact(&mut vec![0; 4 * CHUNK]).unwrap();
    assert!(events.run_with_timeout(10_000).unwrap() > 0, "room brings a turn");
    assert!(output.waiting() < waiting);
}

/// A folder with a bounded file in it.
fn bounded(max: u64) -> (tempfile::TempDir, std::path::PathBuf, BoundedFile) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("guest.log");
    let file = fs::OpenOptions::new().create(true).append(true).open(&path).unwrap();
    let file = BoundedFile::new(file, &path, Printer::Serial, 0, max);
    (folder, path, file)
}

#[test]
fn a_full_file_is_kept_once_beside_the_new_one() {
    let (folder, path, file) = bounded(1000);
    let mut target = Target::File(file);
    for byte in b'a'..=b'e' {
        assert_eq!(target.write(&[byte; 600]).unwrap(), 600);
    }
    assert_eq!(fs::read(&path).unwrap(), [b'e'; 600]);
    assert_eq!(fs::read(folder.path().join("guest.log.1")).unwrap(), [b'd'; 600]);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
}

#[test]
fn a_file_that_cannot_be_put_aside_is_emptied() {
    let (folder, path, file) = bounded(1000);
    fs::create_dir(folder.path().join("guest.log.1")).unwrap();
    let mut target = Target::File(file);
    target.write(&[b'a'; 600]).unwrap();
    target.write(&[b'b'; 600]).unwrap();
    assert_eq!(fs::read(&path).unwrap(), [b'b'; 600]);
}

#[test]
fn a_file_from_an_earlier_life_counts_and_a_link_is_followed_to_it() {
    let folder = tempfile::tempdir().unwrap();
    let (real, link) = (folder.path().join("real.log"), folder.path().join("link.log"));
    fs::write(&real, "old").unwrap();
    fs::File::options().write(true).open(&real).unwrap().set_len(target::FILE_BYTES - 1).unwrap();
    std::os::unix::fs::symlink(&real, &link).unwrap();
    let mut target = Target::open(Printer::Serial, &Destination::File(link.clone())).unwrap();
    target.write(b"new").unwrap();
    assert_eq!(fs::read(&link).unwrap(), b"new");
    assert!(link.is_symlink(), "what a link stands for is put aside, not the link");
    assert_eq!(fs::metadata(folder.path().join("real.log.1")).unwrap().len(), target::FILE_BYTES - 1);
}

#[test]
fn a_device_or_pipe_is_never_cut() {
    let target = Target::open(Printer::Serial, &Destination::File("/dev/null".into())).unwrap();
    assert!(matches!(target, Target::Stream(_)));
}

proptest! {
    /// However it is written: no file above its bound, and the two together are the end of what was written.
    #[test]
    fn files_stay_bounded_and_end_with_the_newest_bytes(
        chunks in prop::collection::vec((1usize..200, any::<u8>()), 1..60)
    ) {
        let (folder, path, file) = bounded(500);
        let mut target = Target::File(file);
        let mut all = Vec::new();
        for (bytes, value) in chunks {
            let chunk = vec![value; bytes];
            target.write(&chunk).unwrap();
            all.extend(chunk);
        }
        let mut kept = fs::read(folder.path().join("guest.log.1")).unwrap_or_default();
        let new = fs::read(&path).unwrap();
        prop_assert!(kept.len() <= 500 && new.len() <= 500);
        kept.extend(new);
        prop_assert!(all.ends_with(&kept));
        prop_assert!(kept.len() >= all.len().min(301), "{} of {}", kept.len(), all.len());
    }
}

#[test]
fn what_is_no_older_output_is_not_replaced_by_a_full_file() {
    let folder = tempfile::tempdir().unwrap();
    let (path, old) = (folder.path().join("log"), folder.path().join("log.1"));
    let long = fs::File::create(&old).unwrap();
    long.set_len(target::FILE_BYTES + 1).unwrap();
    let open = || fs::OpenOptions::new().create(true).append(true).open(&path).unwrap();
    let mut target = Target::File(BoundedFile::new(open(), &path, Printer::Serial, 0, 10));
    for _ in 0..3 {
        assert_eq!(target.write(b"12345678").unwrap(), 8);
    }
    assert_eq!(old.metadata().unwrap().len(), target::FILE_BYTES + 1, "somebody's disk");
    assert_eq!(fs::read(&path).unwrap(), b"12345678", "the bound holds all the same");
    fs::remove_file(&old).unwrap();
    std::os::unix::fs::symlink("elsewhere", &old).unwrap();
    assert_eq!(target.write(b"12345678").unwrap(), 8);
    assert!(old.is_symlink());
}
