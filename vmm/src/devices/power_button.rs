//! The power button: how the host asks a kernel, rather than a program in the guest, to shut down.
//!
//! Duty: one press is one interrupt. What the interrupt means stands in the firmware tables, and there it
//! becomes KEY_POWER of an input device: on x86_64 ACPI's Generic Event Device notifies a control method
//! power button (ACPI 6.5, 5.6.9 and 4.8.2.2.1.2), on ARM64 a `gpio-keys` node names the interrupt as its key. The
//! latter is why there is no GPIO controller: a key that is nothing but an interrupt is pressed and released by
//! its driver, without registers to read at each press.
//!
//! Not its duty: whether anybody in the guest listens. That cannot be seen from outside.

use std::io;

use vmm_sys_util::eventfd::EventFd;

/// The button of one machine.
#[derive(Debug)]
pub struct PowerButton {
    interrupt: EventFd,
}

impl PowerButton {
    /// A button on the line that `interrupt` pulses.
    #[must_use]
    pub const fn new(interrupt: EventFd) -> Self {
        Self { interrupt }
    }

    /// Presses it, once. Never waits.
    pub fn press(&self) -> io::Result<()> {
        self.interrupt.write(1)
    }
}

#[cfg(test)]
mod tests {
    use vmm_sys_util::eventfd::EFD_NONBLOCK;

    use super::*;

    #[test]
    fn a_press_is_an_interrupt() {
        let interrupt = EventFd::new(EFD_NONBLOCK).unwrap();
        let button = PowerButton::new(interrupt.try_clone().unwrap());
        assert!(interrupt.read().is_err());
        button.press().unwrap();
        assert_eq!(interrupt.read().unwrap(), 1);
    }
}
