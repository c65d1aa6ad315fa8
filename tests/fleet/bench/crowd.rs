//! Many boxes that come at once: each with its own session and connection, all in this process, against one broker.

use std::collections::HashMap;
use std::error::Error;
use std::io::Read;
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use async_channel::{Sender, bounded};
use hearth_fleet::figures::Snapshot;
use hearth_fleet::letters::Memory;
use hearth_fleet::shell::{Inputs, run};
use hearth_fleet::sparkplug::Pauses;
use hearth_fleet::sparkplug::payload::Payload;
use hearth_fleet_tests::broker::Broker;
use hearth_fleet_tests::member::{figures, options};
use hearth_fleet_tests::observer::{self, MISSES_NOTHING};
use hearth_fleet_tests::wire::{Packet, Publish};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use prost::Message;
use tokio::task::LocalSet;

use crate::{line, resident_kib};

const REPLICAS: usize = 3;
const PROMISED: Duration = Duration::from_secs(60);
/// After that what is missing stays missing.
const PATIENCE: Duration = Duration::from_secs(120);
/// For descriptors that are not connections.
const SPARE: u64 = 200;

/// One box.
#[derive(Debug, Default)]
struct Known {
    next: u64,
    devices: usize,
    births: usize,
    born: bool,
}

/// What became of the crowd, at an observer's.
#[derive(Debug, Default)]
struct Seen {
    boxes: HashMap<String, Known>,
    /// Boxes of which all births were seen.
    born: usize,
    /// Births of nodes beyond the first.
    again: usize,
    data: usize,
    out_of_order: usize,
}

impl Seen {
    fn take(&mut self, publish: &Publish) {
        let words: Vec<&str> = publish.topic.split('/').collect();
        let (Some(verb), Some(node)) = (words.get(2), words.get(3)) else { return };
        let Ok(payload) = Payload::decode(publish.payload.as_slice()) else {
            self.out_of_order += 1;
            return;
        };
        let known = self.boxes.entry((*node).to_owned()).or_default();
        let good = match *verb {
            "NBIRTH" => {
                self.again += usize::from(known.births > 0);
                (known.next, known.devices, known.births) = (0, 0, known.births + 1);
                payload.seq == Some(0)
            }
            // It has no sequence.
            "NDEATH" => return,
            "DBIRTH" => {
                known.devices += 1;
                if known.devices == REPLICAS && !known.born {
                    known.born = true;
                    self.born += 1;
                }
                payload.seq == Some(known.next)
            }
            _ => {
                self.data += 1;
                known.devices == REPLICAS && payload.seq == Some(known.next)
            }
        };
        self.out_of_order += usize::from(!good);
        known.next = (payload.seq.unwrap_or(255) + 1) % 256;
    }

    fn counts(&self) -> Counts {
        Counts { born: self.born, again: self.again, data: self.data, out_of_order: self.out_of_order }
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    born: usize,
    again: usize,
    data: usize,
    out_of_order: usize,
}

/// Reads everything that the broker hands on.
fn observe(socket: &Path) -> std::io::Result<Receiver<Counts>> {
    let mut stream = observer::subscribe(socket)?;
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let (mut seen, mut pending, mut buffer) = (Seen::default(), Vec::<u8>::new(), vec![0; 1 << 18]);
        while let Ok(count @ 1..) = stream.read(&mut buffer) {
            pending.extend_from_slice(&buffer[..count]);
            let mut at = 0;
            while let Some((packet, length)) = Packet::first(&pending[at..]) {
                at += length;
                if let Packet::Publish(publish) = packet {
                    seen.take(&publish);
                }
            }
            pending.drain(..at);
            if sender.send(seen.counts()).is_err() {
                return;
            }
        }
    });
    Ok(receiver)
}

/// One box: how it is shown figures, and what ends it by being dropped.
struct Handle {
    figures: Sender<Snapshot>,
    _stop: Sender<()>,
    _nudge: Sender<()>,
}

pub(crate) fn measure(program: &Path, boxes: usize) -> Result<(), Box<dyn Error>> {
    let needed = u64::try_from(boxes)? + SPARE;
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < needed {
        // The broker inherits it.
        setrlimit(Resource::RLIMIT_NOFILE, needed.max(hard.min(needed)), hard.max(needed))?;
    }
    // Without a bound on what waits for the observer: mosquitto drops what is beyond a thousand messages, which would
    // look like boxes out of order.
    let broker = Broker::start(program, &format!("max_connections -1\n{MISSES_NOTHING}"))?;
    // No box waits for a disk that ten thousand share here and nowhere else.
    let folder = tempfile::tempdir_in("/dev/shm")?;
    let seen = observe(&broker.socket())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let crowd = LocalSet::new();
    let server = format!("unix:{}", broker.socket().display());
    let before = resident_kib("self");
    let began = Instant::now();
    let mut handles = Vec::with_capacity(boxes);
    for number in 0..boxes {
        let node = format!("box-{number:05}");
        let mut options = options(&node, std::slice::from_ref(&server), &folder.path().join(&node))?;
        options.session.pauses = Pauses::default();
        options.keep_alive = Duration::from_secs(30);
        let (figures, figures_in) = bounded(1);
        let (stop, stop_in) = bounded(1);
        let (nudge, nudge_in) = bounded(1);
        let inputs = Inputs { figures: figures_in, nudge: nudge_in, stop: stop_in };
        crowd.spawn_local(run(options, Memory::default(), inputs, |_| {}));
        handles.push(Handle { figures, _stop: stop, _nudge: nudge });
    }
    let mut last = Counts::default();
    let mut wait = |what: &dyn Fn(Counts) -> bool| {
        runtime.block_on(crowd.run_until(async {
            let until = Instant::now() + PATIENCE;
            while !what(last) && Instant::now() < until {
                tokio::time::sleep(Duration::from_millis(5)).await;
                last = seen.try_iter().last().unwrap_or(last);
            }
            last
        }))
    };
    for handle in &handles {
        handle.figures.try_send(figures(REPLICAS, 1))?;
    }
    let Counts { born, .. } = wait(&|counts| counts.born == boxes);
    let took = began.elapsed();
    let kept = born == boxes && took <= PROMISED;
    let is = format!("{:.1} s", took.as_secs_f64());
    line(
        &format!("births of {boxes} boxes with {REPLICAS} replicas each, {born} came"),
        "<= 60 s",
        &is,
        kept,
    );
    let each = resident_kib("self").saturating_sub(before) / boxes.max(1);
    println!(
        "memory: {each} KiB for each box, {} KiB of the broker",
        resident_kib(&broker.process().to_string())
    );
    for handle in &handles {
        // One that has not taken its first figures has no room for others.
        let _ = handle.figures.try_send(figures(REPLICAS, 2));
    }
    let expected = boxes * (1 + REPLICAS);
    let Counts { again, data, out_of_order, .. } = wait(&|counts| counts.data >= expected);
    println!("births of nodes beyond the first: {again}; messages with data: {data} of {expected}");
    line(
        &format!("messages out of order, of {data} with data"),
        "0",
        &out_of_order.to_string(),
        out_of_order == 0,
    );
    Ok(())
}
