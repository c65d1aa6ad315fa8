//! Devices whose driver broke a ring, on their way to whoever listens on the control socket.
//!
//! Duty: carry a device's name from the thread that met the fault to the event loop. Invariant: one place per
//! device, and one telling of it per [`Pace`], so a guest that breaks a ring again and again fills nothing.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use super::pace::Pace;

/// Shared by all devices of a machine.
#[derive(Debug)]
pub(super) struct Alarm {
    devices: Mutex<BTreeMap<String, Pace>>,
    event: EventFd,
}

impl Alarm {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { devices: Mutex::default(), event: EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)? })
    }

    /// From any thread.
    pub(super) fn raise(&self, device: &str) {
        if self.devices().entry(device.to_owned()).or_default().note() {
            // Fails only when the counter is full, and then it is readable already.
            let _ = self.event.write(1);
        }
    }

    /// Those that raised it since they were told last, if that is long enough ago.
    pub(super) fn take(&self, now: Instant) -> Vec<String> {
        let _ = self.event.read();
        let mut devices = self.devices();
        devices.iter_mut().filter_map(|(name, pace)| pace.take(now).then(|| name.clone())).collect()
    }

    /// When there is something to take again.
    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        self.devices().values().filter_map(|pace| pace.due(now)).min()
    }

    fn devices(&self) -> MutexGuard<'_, BTreeMap<String, Pace>> {
        self.devices.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Readable when there is something new to take.
    pub(super) const fn event(&self) -> &EventFd {
        &self.event
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_breaks_again_and_again_is_told_now_and_then_and_others_beside_it() {
        let alarm = Alarm::new().unwrap();
        let start = Instant::now();
        for _ in 0..100 {
            alarm.raise("a");
        }
        alarm.raise("b");
        assert_eq!(alarm.take(start), ["a", "b"]);
        assert!(alarm.take(start).is_empty());
        assert_eq!(alarm.due(start), None);
        alarm.raise("a");
        assert!(alarm.event().read().is_ok());
        assert!(alarm.take(start).is_empty(), "it was told just now");
        let due = alarm.due(start).unwrap();
        alarm.raise("c");
        assert_eq!(alarm.take(start), ["c"]);
        assert_eq!(alarm.take(due), ["a"]);
    }
}
