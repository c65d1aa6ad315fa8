//! A guest that goes on with a balloon of another process.

use super::*;
use crate::virtio::state::ModelState;

impl Rig<Host> {
    fn moved(mut self) -> Self {
        let rings = self.device.rings();
        let mut device = BalloonDevice::new(Host::new(&self.ram, Some(PAGE)), SETTINGS).unwrap();
        device.activate(Activation {
            memory: self.ram.clone(),
            rings: self
                .queues
                .iter()
                .zip(&rings)
                .map(|(q, r)| Some(q.moved(self.features, r.as_ref())))
                .collect(),
            features: self.features,
            interrupt: self.interrupts.clone(),
        });
        device.restore(&self.device.save()).unwrap();
        self.device = device;
        self
    }
}

#[test]
fn its_size_stays_and_the_driver_hears_of_another_target() {
    let mut rig = Rig::new();
    rig.device.write_config(4, &77u32.to_le_bytes());
    let mut rig = rig.moved();
    rig.interrupts.take_changes();
    rig.device.relocated();
    assert_eq!((rig.config(), rig.interrupts.take_changes()), ([0, 77], 1));
    assert!(rig.device.restore(&ModelState::Plain).is_err());
}

#[test]
fn a_list_of_statistics_that_was_held_is_held_again() {
    let mut rig = Rig::new();
    rig.ram.write_slice(&[4, 0, 9, 0, 0, 0, 0, 0, 0, 0], GuestAddress(LIST_AT)).unwrap();
    let list = rig.queues[STATISTICS].offer(&[Buffer::readable(LIST_AT, 10)]);
    assert_eq!(rig.notify(STATISTICS), Ok(Backlog::Done));
    let mut rig = rig.moved();
    assert_eq!(rig.notify(STATISTICS), Ok(Backlog::Done));
    assert!(rig.device.statistics().is_some());
    assert_eq!(rig.device.ask_statistics(Instant::now()), Ok(Asked::Now));
    assert_eq!(rig.queues[STATISTICS].used(), [Used { head: list, written: 0 }]);
}

#[test]
fn a_list_that_is_half_done_is_done_again_and_completed_once() {
    let mut rig = Rig::new();
    let pages = u32::try_from(TURN_PAGES).unwrap() + 1;
    let list = rig.list(INFLATE, (0..pages).map(|n| n % 16));
    assert_eq!(rig.notify(INFLATE), Ok(Backlog::More));
    let mut rig = rig.moved();
    rig.work(INFLATE);
    assert_eq!(rig.queues[INFLATE].used(), [Used { head: list, written: 0 }]);
}
