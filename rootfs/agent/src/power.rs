//! The end of the guest.
//!
//! Duty: stop everything else, save what is on disks, and leave.
//! Invariant: never returns, because PID 1 must not end.

use crate::lifecycle::Ending;
use nix::{
    sys::{
        reboot::{RebootMode, reboot},
        signal::{Signal, kill},
        termios::tcdrain,
    },
    unistd::{Pid, pause, sync},
};
use std::io::{Write, stderr};

pub(crate) fn end(ending: Ending) -> ! {
    // Everybody but PID 1 itself. There may be nobody left.
    let _ = kill(Pid::from_raw(-1), Signal::SIGKILL);
    sync();
    // The last line may still be in the serial port's buffer. There may be no terminal at all.
    let _ = tcdrain(stderr());
    let mode = match ending {
        Ending::PowerOff => RebootMode::RB_POWER_OFF,
        Ending::Reboot => RebootMode::RB_AUTOBOOT,
    };
    let Err(errno) = reboot(mode);
    say(&format!("the kernel refuses to end the guest: {}", errno.desc()));
    loop {
        pause();
    }
}

/// For faults that leave nothing to go on with: says so straight to the console, and powers off.
pub(crate) fn emergency(fault: &str) -> ! {
    say(&format!("fatal: {fault}"));
    end(Ending::PowerOff)
}

fn say(text: &str) {
    // A console that is gone must not stop the end.
    let _ = writeln!(stderr(), "hearth-agent: {text}");
}
