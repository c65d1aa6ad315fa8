//! When what can wait is done, in the loop.
//!
//! ```text
//! no windows --> told once, if there were some before
//! windows    --> looked at whenever one begins or ends, and each CLOCK_LOOK, since clocks are set --> told when it changes
//! ```
//!
//! Duty: windows of the week and the wall clock into words for the core. Not here: what waits (`hearth-core`), windows
//! themselves (`hearth-config`).
//! Invariant: a box that does not know the time is outside of all windows; one without windows never looks at a clock.

use std::time::Duration;

use hearth_config::device::Maintenance;
use hearth_core::{Event, Moment, Window};

use super::Daemon;
use crate::wall;

/// Clocks are set by people and by NTP at any time.
const CLOCK_LOOK: Duration = Duration::from_secs(30);

#[derive(Debug, Default)]
pub(super) struct Calendar {
    told: Window,
    due: Option<Moment>,
}

impl Calendar {
    /// When it looks next.
    pub(super) fn due(&self) -> Option<Moment> {
        self.due
    }

    fn look(&mut self, windows: &[Maintenance], now: Moment, unix_s: Option<u64>) -> Option<Event> {
        let (window, left) = window(windows, unix_s);
        self.due = (!windows.is_empty()).then(|| now.after(left.min(CLOCK_LOOK)));
        (std::mem::replace(&mut self.told, window) != window).then_some(Event::Maintenance(window))
    }
}

/// Whether it is time, and how long that stays so at least.
fn window(windows: &[Maintenance], unix_s: Option<u64>) -> (Window, Duration) {
    let Some(now) = unix_s.filter(|_| !windows.is_empty()) else {
        let window = if windows.is_empty() { Window::Always } else { Window::Shut { opens_s: None } };
        return (window, CLOCK_LOOK);
    };
    let opens = windows.iter().filter_map(|window| window.next(now)).min();
    let changes = windows.iter().filter_map(|window| window.end(now)).chain(opens).min();
    let left = Duration::from_secs(changes.map_or(0, |at| at.saturating_sub(now)).max(1));
    let open = windows.iter().any(|window| window.holds(now));
    (if open { Window::Open } else { Window::Shut { opens_s: opens } }, left)
}

impl Daemon {
    /// Before a configuration, so that what is new in it knows whether it has to wait; and whenever it is time.
    pub(super) fn keep_calendar(&mut self) {
        let (now, unix_s) = (self.now(), wall::is_plausible().then(|| wall::unix_ms() / 1000));
        if let Some(event) = self.calendar.look(&self.setup.device.maintenance, now, unix_s) {
            self.apply(event);
        }
    }

    pub(super) fn keep_calendar_if_due(&mut self) {
        let now = self.now();
        if self.calendar.due().is_some_and(|due| due <= now) {
            self.keep_calendar();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hearth_config::device::DeviceConfig;

    /// Sunday, 2026-11-22, 00:00 UTC.
    const SUNDAY: u64 = 1_795_305_600;
    const HOUR: u64 = 3600;

    fn windows() -> Vec<Maintenance> {
        let text = "[[maintenance]]\ndays = [\"sun\"]\nfrom = \"02:00\"\nto = \"04:00\"";
        DeviceConfig::parse("hearth.toml", text).unwrap().maintenance
    }

    #[test]
    fn the_core_is_told_when_a_window_opens_and_shuts_and_only_then() {
        let (windows, mut calendar) = (windows(), Calendar::default());
        let mut told = Vec::new();
        let (mut looks, mut now) = (0, Moment::START);
        while now < Moment::from_millis(6 * HOUR * 1000) {
            let event = calendar.look(&windows, now, Some(SUNDAY + now.as_millis() / 1000));
            told.extend(event.map(|event| (now.as_millis() / 1000 / HOUR, event)));
            now = calendar.due().expect("there are windows");
            looks += 1;
        }
        let shut = |opens| Event::Maintenance(Window::Shut { opens_s: Some(opens) });
        let next = SUNDAY + (7 * 24 + 2) * HOUR;
        let expected = [(0, shut(SUNDAY + 2 * HOUR)), (2, Event::Maintenance(Window::Open)), (4, shut(next))];
        assert_eq!(told, expected);
        assert_eq!(looks, 6 * HOUR / CLOCK_LOOK.as_secs());
    }

    #[test]
    fn without_windows_nobody_looks_and_without_a_clock_none_is_open() {
        let mut calendar = Calendar::default();
        assert_eq!(calendar.look(&[], Moment::START, Some(SUNDAY)), None);
        assert_eq!(calendar.due(), None);
        let told = calendar.look(&windows(), Moment::START, None);
        assert_eq!(told, Some(Event::Maintenance(Window::Shut { opens_s: None })));
        let told = calendar.look(&[], Moment::START, None);
        assert_eq!(told, Some(Event::Maintenance(Window::Always)), "they were taken out of the file");
    }
}
