//! The power button, as the kernel's input devices tell it, for whoever is PID 1: of a box, or of a guest.
//!
//! Duty: find input devices, and find the press of the power key among their events.
//! Not here: what a press leads to.
//! Invariant: a device that vanishes or errs is let go; no more than a bounded number is held.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test that meets the unexpected ends there"))]

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;

/// Where the kernel's `evdev` puts its devices.
const FOLDER: &str = "/dev/input";
/// A box has a handful; bounds descriptors.
const MAX_DEVICES: usize = 32;
/// `struct input_event` on a 64-bit machine: two words of time, type, code, value.
const EVENT_BYTES: usize = 24;
/// Events in one read; more come with the next.
const EVENTS_PER_READ: usize = 64;
/// From linux/input-event-codes.h.
const EV_KEY: u16 = 1;
const KEY_POWER: u16 = 116;
/// A key's value when it goes down; 0 is up, 2 a repeat.
const PRESSED: i32 = 1;

/// The input devices of this machine.
#[derive(Debug, Default)]
pub struct Buttons {
    devices: BTreeMap<PathBuf, File>,
}

impl Buttons {
    /// Takes in devices that came since the last look.
    pub fn look_around(&mut self) {
        // Without evdev there is no folder, and no button.
        let Ok(entries) = Path::new(FOLDER).read_dir() else { return };
        for path in entries.flatten().map(|entry| entry.path()) {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if !name.starts_with("event")
                || self.devices.contains_key(&path)
                || self.devices.len() >= MAX_DEVICES
            {
                continue;
            }
            let flags = (OFlag::O_NONBLOCK | OFlag::O_CLOEXEC).bits();
            if let Ok(device) = OpenOptions::new().read(true).custom_flags(flags).open(&path) {
                self.devices.insert(path, device);
            }
        }
    }

    /// What becomes readable when a key moves.
    pub fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.devices.values().map(AsFd::as_fd)
    }

    /// Whether the power key went down on any device since the last call.
    pub fn pressed(&mut self) -> bool {
        let mut pressed = false;
        self.devices.retain(|_, device| {
            let mut buffer = [0; EVENT_BYTES * EVENTS_PER_READ];
            match device.read(&mut buffer) {
                Ok(0) => false,
                Ok(length) => {
                    pressed |= power_key_went_down(&buffer[..length]);
                    true
                }
                Err(error) => matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted),
            }
        });
        pressed
    }
}

/// The kernel gives whole events; a torn one at the end is none.
fn power_key_went_down(events: &[u8]) -> bool {
    events.chunks_exact(EVENT_BYTES).any(|event| {
        let [.., t0, t1, c0, c1, v0, v1, v2, v3] = *event else { return false };
        u16::from_ne_bytes([t0, t1]) == EV_KEY
            && u16::from_ne_bytes([c0, c1]) == KEY_POWER
            && i32::from_ne_bytes([v0, v1, v2, v3]) == PRESSED
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: u16, code: u16, value: i32) -> Vec<u8> {
        let mut bytes = vec![0xee; 16];
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(code.to_ne_bytes());
        bytes.extend(value.to_ne_bytes());
        bytes
    }

    #[test]
    fn only_the_power_key_going_down_counts() {
        assert!(power_key_went_down(&event(EV_KEY, KEY_POWER, 1)));
        assert!(!power_key_went_down(&event(EV_KEY, KEY_POWER, 0)), "up");
        assert!(!power_key_went_down(&event(EV_KEY, KEY_POWER, 2)), "repeat");
        assert!(!power_key_went_down(&event(EV_KEY, 30, 1)), "the letter A");
        assert!(!power_key_went_down(&event(5, KEY_POWER, 1)), "a switch, not a key");
    }

    #[test]
    fn it_is_found_among_others_and_never_in_a_torn_event() {
        let mut events = [event(0, 0, 0), event(EV_KEY, KEY_POWER, 1), event(0, 0, 0)].concat();
        assert!(power_key_went_down(&events));
        events.drain(..EVENT_BYTES);
        assert!(!power_key_went_down(&events[..EVENT_BYTES - 1]));
        assert!(!power_key_went_down(&[]));
    }
}
