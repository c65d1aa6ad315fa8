//! A key on the keyboard of a board that may have lost an interrupt.
//!
//! Duty: what keeps QEMU's emulation of SVM from standing still. Not here: when a board is emulated.
//! Invariant: whoever is nudged sees an interrupt of its keyboard, and nothing else.
//!
//! QEMU keeps a processor's pending interrupts in one word. Its main loop sets the local APIC's bit there under a lock,
//! and the helpers of VMRUN and of leaving the guest clear the virtual interrupt's without it: when both come together,
//! the APIC's is lost until the APIC is looked at again. Mostly that is soon. But where a guest waits for its console
//! with interrupts off, it waits for a monitor on the same processor, which only the lost interrupt could give it. Seen
//! at QEMU 7.2 once in some hundred snapshots: the board's timer stood in the APIC's request register for ten minutes,
//! and one key brought everything on its way again.

use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use super::monitor::Monitor;

/// Guests' watchdogs and probes allow for several seconds.
const EVERY: Duration = Duration::from_secs(1);

/// Dropped, there are no more keys.
#[derive(Debug)]
pub(crate) struct Nudges {
    _end: Sender<()>,
}

impl Nudges {
    pub(crate) fn at(monitor: Monitor) -> Nudges {
        let (end, ended) = mpsc::channel();
        thread::spawn(move || {
            while ended.recv_timeout(EVERY) == Err(RecvTimeoutError::Timeout) {
                // A board that is off has no keyboard; whoever reads its console knows.
                let _ = monitor.press_a_key();
            }
        });
        Nudges { _end: end }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn a_board_gets_a_key_that_types_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("qmp");
        let qemu = UnixListener::bind(&socket).unwrap();
        let _nudges = Nudges::at(Monitor::at(&socket));
        let (mut stream, _) = qemu.accept().unwrap();
        let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
        stream.write_all(b"{\"QMP\": {}}\n").unwrap();
        assert!(lines.next().unwrap().unwrap().contains("qmp_capabilities"));
        stream.write_all(b"{\"return\": {}}\n").unwrap();
        let asked = lines.next().unwrap().unwrap();
        assert!(asked.contains("send-key") && asked.contains("\"ctrl\""), "{asked}");
    }
}
