//! A device between a driver that rings and a socket of the host, in a real event loop.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use event_manager::{EventManager, SubscriberId, SubscriberOps};
use vmm_sys_util::eventfd::EFD_NONBLOCK;

use super::super::registers as reg;
use super::*;
use crate::machine::BusDevice;
use crate::virtio::device::Activation;
use crate::virtio::rings::RingFault;
use crate::virtio::state::Rings;
use crate::virtio::testing;

const FROM_HOST: usize = 0;
const TO_HOST: usize = 1;

/// Writes to the host whenever the second queue has its turn, and leaves alone what the host writes.
struct Relay {
    stream: UnixStream,
    to_write: usize,
    turns: [usize; 2],
    held_until: Option<Instant>,
    /// For how long each of the next turns of a queue is held.
    holds: [VecDeque<Duration>; 2],
    /// Until when its last turn was, and whether a turn came before.
    promised: [Option<Instant>; 2],
    early: bool,
}

impl VirtioDevice for Relay {
    fn device_type(&self) -> u32 {
        42
    }
    fn features(&self) -> u64 {
        0
    }
    fn queue_max_sizes(&self) -> &'static [u16] {
        &[8, 8]
    }
    fn read_config(&self, _offset: u64, _data: &mut [u8]) {}
    fn activate(&mut self, _activation: Activation) {}
    fn notify(&mut self, queue: usize, now: Instant) -> Result<Backlog, RingFault> {
        self.turns[queue] += 1;
        self.early |= self.promised[queue].take().is_some_and(|time| now < time);
        if let Some(span) = self.holds[queue].pop_front() {
            self.promised[queue] = Some(now + span);
            return Ok(Backlog::Until(now + span));
        }
        if let Some(time) = self.held_until.filter(|&time| now < time) {
            return Ok(Backlog::Until(time));
        }
        while queue == TO_HOST && self.to_write > 0 {
            match self.stream.write(&vec![1; self.to_write]) {
                Ok(count) => self.to_write -= count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Backlog::HostFull),
                Err(error) => panic!("{error}"),
            }
        }
        Ok(Backlog::Done)
    }
    fn rings(&self) -> Rings {
        Rings::new()
    }

    fn reset(&mut self) {}
    fn counters(&self, _report: &mut dyn FnMut(&'static str, u64)) {}
}

struct House {
    transport: Arc<Transport<Relay>>,
    events: EventManager<Box<dyn MutEventSubscriber>>,
    doorbells: SubscriberId,
    host: UnixStream,
}

impl House {
    fn new() -> Self {
        let (ours, host) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        host.set_nonblocking(true).unwrap();
        let descriptor = Arc::new(OwnedFd::from(ours.try_clone().unwrap()));
        let relay = Relay {
            stream: ours,
            to_write: 0,
            turns: [0; 2],
            held_until: None,
            holds: Default::default(),
            promised: [None; 2],
            early: false,
        };
        let interrupt = EventFd::new(EFD_NONBLOCK).unwrap();
        let transport = Arc::new(Transport::new("relay", relay, testing::ram(), interrupt));
        let bells = (0..2).map(|_| EventFd::new(EFD_NONBLOCK).unwrap()).collect();
        let end = HostEnd { descriptor, readable: FROM_HOST, writable: TO_HOST };
        let mut events = EventManager::new().unwrap();
        let served: Box<dyn MutEventSubscriber> =
            Box::new(Doorbells::new(transport.clone(), bells).unwrap().with_host_end(end));
        let doorbells = events.add_subscriber(served);
        Self { transport, events, doorbells, host }
    }

    fn started() -> Self {
        let mut house = Self::new();
        house.start();
        house.turns();
        house.transport.model(|relay| relay.turns = [0; 2]);
        house
    }

    fn start(&self) {
        for (register, value) in [
            (reg::STATUS, 1u32),
            (reg::STATUS, 3),
            (reg::DRIVER_FEATURES_SEL, 1),
            (reg::DRIVER_FEATURES, 1),
            (reg::STATUS, 11),
            (reg::STATUS, 15),
        ] {
            self.transport.write(register, &value.to_le_bytes());
        }
    }

    /// Turns the event loop until it would sleep.
    fn turns(&mut self) -> [usize; 2] {
        for _ in 0..1000 {
            if self.events.run_with_timeout(0).unwrap() == 0 {
                return self.transport.model(|relay| relay.turns);
            }
        }
        panic!("the event loop does not come to rest");
    }

    /// Rings as the driver does, by way of the event that KVM would signal.
    fn doorbell(&self, queue: usize) {
        let bells = self.transport.bells.get().unwrap();
        bells[queue].write(1).unwrap();
    }

    fn pause_and_resume(&mut self) {
        let doorbells = self.events.remove_subscriber(self.doorbells).unwrap();
        self.doorbells = self.events.add_subscriber(doorbells);
    }

    /// Reads all that has arrived.
    fn drain(&mut self) -> usize {
        let mut buffer = vec![0; 1 << 20];
        let mut total = 0;
        while let Ok(count) = self.host.read(&mut buffer) {
            total += count;
        }
        total
    }
}

#[test]
fn every_queue_has_a_turn_once_the_driver_is_ready() {
    let mut house = House::new();
    assert_eq!(house.turns(), [0, 0]);
    house.start();
    assert_eq!(house.turns(), [1, 1], "and nobody rang");
}

#[test]
fn what_the_host_writes_gives_a_turn_and_unread_none_after_it() {
    let mut house = House::started();
    house.host.write_all(b"one").unwrap();
    assert_eq!(house.turns(), [1, 0]);
    assert_eq!(house.turns(), [1, 0], "left unread, and the loop sleeps");
    house.host.write_all(b"two").unwrap();
    assert_eq!(house.turns(), [2, 0]);
    house.pause_and_resume();
    assert_eq!(house.turns(), [3, 0], "what was unread is told again");
}

#[test]
fn a_full_host_gives_a_turn_when_it_has_room_again_and_only_then() {
    const TOTAL: usize = 3 << 20;
    // The second time with pauses, during which nothing is lost.
    for pauses in [false, true] {
        let mut house = House::started();
        house.transport.model(|relay| relay.to_write = TOTAL);
        house.doorbell(TO_HOST);
        let [_, turns] = house.turns();
        assert_eq!(house.turns(), [0, turns], "no turn without room");
        let mut total = 0;
        for _ in 0..1000 {
            if pauses {
                house.pause_and_resume();
            }
            total += house.drain();
            house.turns();
            if total == TOTAL {
                break;
            }
        }
        assert_eq!(total, TOTAL);
        let [_, done] = house.turns();
        house.drain();
        assert_eq!(house.turns(), [0, done], "room is not asked for when nobody waits for it");
    }
}

#[test]
fn a_queue_held_by_a_limit_has_its_turn_at_its_time_whoever_rings() {
    let mut house = House::started();
    // As long as the test may take.
    let until = Instant::now() + Duration::from_secs(3600);
    house.transport.model(|relay| relay.held_until = Some(until));
    house.doorbell(FROM_HOST);
    assert_eq!(house.turns(), [1, 0]);
    house.doorbell(FROM_HOST);
    house.host.write_all(b"more").unwrap();
    assert_eq!(house.turns(), [1, 0]);
    house.doorbell(TO_HOST);
    assert_eq!(house.turns(), [1, 1], "another queue is not held");
}

/// Long enough for a loop that spins to be seen at it, short enough to wait for.
const A_WHILE: Duration = Duration::from_millis(20);
/// Longer than any test.
const FOR_GOOD: Duration = Duration::from_secs(3600);
/// Milliseconds; more than any wait of these tests takes on a busy machine.
const TOO_LONG: i32 = 30_000;

impl House {
    /// Has the next turns of `queue` held for `spans`, and the first of them come. Nothing else happens here, however
    /// slow the machine is.
    fn hold(&mut self, queue: usize, spans: &[Duration]) {
        self.transport.model(|relay| relay.holds[queue].extend(spans));
        self.doorbell(queue);
        while self.transport.model(|relay| relay.holds[queue].len()) == spans.len() {
            self.events.run_with_timeout(0).unwrap();
        }
    }

    /// Sleeps in the event loop until `queue` has had `turns` turns; how often the loop woke for it.
    fn sleep_until(&mut self, queue: usize, turns: usize) -> usize {
        let mut woken = 0;
        while self.transport.model(|relay| relay.turns[queue]) < turns {
            let events = self.events.run_with_timeout(TOO_LONG).unwrap();
            assert!(events > 0, "nothing ever came");
            woken += events;
        }
        assert!(!self.transport.model(|relay| relay.early), "a turn before its time");
        woken
    }
}

#[test]
fn a_held_queue_sleeps_until_its_time_and_is_served_then_though_nobody_rings() {
    let mut house = House::started();
    house.hold(FROM_HOST, &[A_WHILE]);
    assert_eq!(house.sleep_until(FROM_HOST, 2), 2, "the timer, and the ring that follows from it");
    assert_eq!(house.turns(), [2, 0]);
}

#[test]
fn each_queue_is_held_for_itself_whichever_is_held_first() {
    for (late, early) in [(FROM_HOST, TO_HOST), (TO_HOST, FROM_HOST)] {
        for late_first in [true, false] {
            let mut house = House::started();
            // The second turn of the early one comes while the other is still held.
            if late_first {
                house.hold(late, &[FOR_GOOD]);
                house.hold(early, &[A_WHILE]);
            } else {
                house.hold(early, &[A_WHILE]);
                house.hold(late, &[FOR_GOOD]);
            }
            house.sleep_until(early, 2);
            let turns = house.turns();
            assert_eq!((turns[late], turns[early]), (1, 2));
        }
    }
}

#[test]
fn the_later_of_two_times_is_not_forgotten_over_the_earlier() {
    let mut house = House::started();
    house.hold(FROM_HOST, &[3 * A_WHILE]);
    house.hold(TO_HOST, &[A_WHILE]);
    house.sleep_until(TO_HOST, 2);
    house.sleep_until(FROM_HOST, 2);
    assert_eq!(house.turns(), [2, 2]);
}

#[test]
fn a_queue_that_is_held_again_sleeps_again() {
    let mut house = House::started();
    house.hold(FROM_HOST, &[A_WHILE; 4]);
    assert_eq!(house.sleep_until(FROM_HOST, 5), 8, "two for each time");
    assert_eq!(house.turns(), [5, 0]);
}

#[test]
fn a_time_that_is_over_already_brings_the_next_turn_and_does_not_hold_for_good() {
    let mut house = House::started();
    house.hold(FROM_HOST, &[Duration::ZERO]);
    house.sleep_until(FROM_HOST, 2);
    assert_eq!(house.turns(), [2, 0]);
}

#[test]
fn a_time_that_comes_during_a_pause_is_served_after_it() {
    let mut house = House::started();
    house.hold(FROM_HOST, &[A_WHILE]);
    let doorbells = house.events.remove_subscriber(house.doorbells).unwrap();
    let mut clock = TimerFd::new().unwrap();
    clock.reset(2 * A_WHILE, None).unwrap();
    clock.wait().unwrap();
    let before = house.turns();
    house.doorbells = house.events.add_subscriber(doorbells);
    house.sleep_until(FROM_HOST, 2);
    assert_eq!((before, house.turns()), ([1, 0], [2, 0]), "nobody works during a pause");
}

#[test]
fn a_reset_is_no_way_around_a_limit() {
    let mut house = House::started();
    house.hold(FROM_HOST, &[FOR_GOOD]);
    house.transport.write(reg::STATUS, &0u32.to_le_bytes());
    house.start();
    assert_eq!(house.turns(), [1, 1], "the other one has the turn that a start brings");
}

#[test]
fn a_time_that_comes_while_the_driver_is_away_leaves_the_queue_free() {
    let mut house = House::started();
    house.hold(FROM_HOST, &[A_WHILE]);
    house.transport.write(reg::STATUS, &0u32.to_le_bytes());
    let mut woken = 0;
    while woken < 2 {
        woken += house.events.run_with_timeout(TOO_LONG).unwrap();
    }
    assert_eq!(house.turns(), [1, 0], "no turn without a driver");
    house.start();
    assert_eq!(house.turns(), [2, 1]);
}
