//! Devices whose driver broke a ring, on their way to whoever listens on the control socket.
//!
//! Duty: carry a device's name from the thread that met the fault to the event loop. Invariant: one place per
//! device, so a guest that breaks a ring again and again fills nothing.

use std::io;
use std::sync::{Mutex, PoisonError};

use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

/// Shared by all devices of a machine.
#[derive(Debug)]
pub(super) struct Alarm {
    devices: Mutex<Vec<String>>,
    event: EventFd,
}

impl Alarm {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { devices: Mutex::default(), event: EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)? })
    }

    /// From any thread.
    pub(super) fn raise(&self, device: &str) {
        let mut devices = self.devices.lock().unwrap_or_else(PoisonError::into_inner);
        if !devices.iter().any(|known| known == device) {
            devices.push(device.to_owned());
            // Fails only when the counter is full, and then it is readable already.
            let _ = self.event.write(1);
        }
    }

    /// Those that raised it since the last call.
    pub(super) fn take(&self) -> Vec<String> {
        let _ = self.event.read();
        std::mem::take(&mut *self.devices.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Readable while there is something to take.
    pub(super) const fn event(&self) -> &EventFd {
        &self.event
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_breaks_again_and_again_is_told_once_per_turn() {
        let alarm = Alarm::new().unwrap();
        for _ in 0..100 {
            alarm.raise("a");
        }
        alarm.raise("b");
        assert_eq!(alarm.take(), ["a", "b"]);
        assert!(alarm.take().is_empty());
        alarm.raise("a");
        assert!(alarm.event().read().is_ok());
        assert_eq!(alarm.take(), ["a"]);
    }
}
