//! Who serves a machine's devices in the event loop, and who of them rests.
//!
//! ```text
//!             leave_rings                rest
//!   all serve ───────────▶ rings are left ───▶ nobody serves
//!       ▲                      │ work               │ work
//!       └──────────────────────┴────────────────────┘
//! ```
//!
//! Duty: take those out of the loop who are to rest, and put them back. Not its duty: when (`life.rs`).
//!
//! Invariant: from the first moment of a pause on no request is taken off a ring, so what devices have under way only gets
//! less, however much a guest has queued: no guest can put a pause off. Bells that ring meanwhile keep what they were
//! rung for.

use event_manager::{MutEventSubscriber, SubscriberId, SubscriberOps};

use super::Loop;

type Subscriber = Box<dyn MutEventSubscriber>;

/// Some who come and go together.
#[derive(Default)]
struct Watch {
    on_duty: Vec<SubscriberId>,
    resting: Vec<Subscriber>,
}

impl Watch {
    fn begin(&mut self, events: &mut Loop, subscriber: Subscriber) {
        self.on_duty.push(events.add_subscriber(subscriber));
    }

    fn rest(&mut self, events: &mut Loop) {
        let left = self.on_duty.drain(..).filter_map(|id| events.remove_subscriber(id).ok());
        self.resting.extend(left);
    }

    fn work(&mut self, events: &mut Loop) {
        let back = self.resting.drain(..).map(|subscriber| events.add_subscriber(subscriber));
        self.on_duty.extend(back);
    }
}

/// All who serve devices.
#[derive(Default)]
pub(super) struct Duty {
    /// Those who take off rings what guests put there.
    rings: Watch,
    others: Watch,
}

impl Duty {
    /// Puts `subscriber` into the loop.
    pub(super) fn serve(&mut self, events: &mut Loop, subscriber: Subscriber) {
        self.others.begin(events, subscriber);
    }

    /// The same for one who takes requests off rings.
    pub(super) fn serve_rings(&mut self, events: &mut Loop, subscriber: Subscriber) {
        self.rings.begin(events, subscriber);
    }

    /// Whether all serve.
    pub(super) const fn is_whole(&self) -> bool {
        self.rings.resting.is_empty() && self.others.resting.is_empty()
    }

    /// A pause is wanted: only what has begun goes on.
    pub(super) fn leave_rings(&mut self, events: &mut Loop) {
        self.rings.rest(events);
    }

    /// Nothing goes on any more.
    pub(super) fn rest(&mut self, events: &mut Loop) {
        self.rings.rest(events);
        self.others.rest(events);
    }

    /// Everybody goes on, from wherever they are.
    pub(super) fn work(&mut self, events: &mut Loop) {
        self.others.work(events);
        self.rings.work(events);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use event_manager::{EventOps, EventSet, Events};
    use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

    use super::*;

    /// Notes down in `served` what its bell was rung for.
    struct Servant {
        bell: Arc<EventFd>,
        served: Arc<EventFd>,
    }

    impl MutEventSubscriber for Servant {
        fn process(&mut self, _events: Events, _ops: &mut EventOps<'_>) {
            self.served.write(self.bell.read().unwrap()).unwrap();
        }

        fn init(&mut self, ops: &mut EventOps<'_>) {
            ops.add(Events::new(&*self.bell, EventSet::IN)).unwrap();
        }
    }

    struct House {
        events: Loop,
        duty: Duty,
        /// At a ring, and elsewhere.
        bells: [Arc<EventFd>; 2],
        served: [Arc<EventFd>; 2],
    }

    impl House {
        fn new() -> Self {
            let event = || Arc::new(EventFd::new(EFD_NONBLOCK).unwrap());
            let (bells, served) = ([event(), event()], [event(), event()]);
            let (mut events, mut duty) = (Loop::new().unwrap(), Duty::default());
            let servant =
                |which: usize| Servant { bell: bells[which].clone(), served: served[which].clone() };
            duty.serve_rings(&mut events, Box::new(servant(0)));
            duty.serve(&mut events, Box::new(servant(1)));
            Self { events, duty, bells, served }
        }

        /// Rings everywhere; how often was served for it, at the ring and elsewhere.
        fn ring(&mut self) -> [u64; 2] {
            self.bells.iter().for_each(|bell| bell.write(1).unwrap());
            self.served()
        }

        fn served(&mut self) -> [u64; 2] {
            while self.events.run_with_timeout(0).unwrap() > 0 {}
            [&self.served[0], &self.served[1]].map(|served| served.read().unwrap_or(0))
        }
    }

    #[test]
    fn a_pause_leaves_rings_at_once_and_the_rest_when_it_has_come_about_and_no_bell_is_forgotten() {
        let mut house = House::new();
        assert_eq!((house.ring(), house.duty.is_whole()), ([1, 1], true));
        house.duty.leave_rings(&mut house.events);
        assert_eq!((house.ring(), house.duty.is_whole()), ([0, 1], false));
        house.duty.rest(&mut house.events);
        assert_eq!((house.ring(), house.ring()), ([0, 0], [0, 0]));
        house.duty.work(&mut house.events);
        assert_eq!((house.served(), house.duty.is_whole()), ([3, 2], true));
        assert_eq!(house.ring(), [1, 1]);
    }

    #[test]
    fn a_pause_that_does_not_come_about_is_undone() {
        let mut house = House::new();
        house.duty.leave_rings(&mut house.events);
        assert_eq!(house.ring(), [0, 1]);
        house.duty.work(&mut house.events);
        assert_eq!((house.served(), house.duty.is_whole()), ([1, 0], true));
        // And none serves twice.
        house.duty.work(&mut house.events);
        assert_eq!(house.ring(), [1, 1]);
    }
}
