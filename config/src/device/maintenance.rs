//! `[[maintenance]]`: when what can wait is done.
//!
//! Duty: windows of the week, in UTC, and whether a moment is in one. Not here: clocks, what waits (`hearth-core`).
//! Invariant: a window that ends at or before its beginning ends the next day.

use crate::reader::{Entry, Table};

pub const MAX_WINDOWS: usize = 16;
const MINUTES_PER_DAY: u64 = 24 * 60;
const DAYS: [(&str, u8); 7] =
    [("mon", 0), ("tue", 1), ("wed", 2), ("thu", 3), ("fri", 4), ("sat", 5), ("sun", 6)];
/// The first of January 1970 was a Thursday.
const FIRST_DAY: u64 = 3;

/// Comes back each week.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Maintenance {
    /// From Monday, in ascending order: those on which it begins.
    days: Vec<u8>,
    /// Minutes of the day.
    from: u64,
    minutes: u64,
}

impl Maintenance {
    /// The last beginning that is not after this second since 1970, if there is one.
    fn last_begin(&self, unix_s: u64) -> Option<u64> {
        self.begins(unix_s / 86_400).into_iter().rev().find(|begin| *begin <= unix_s)
    }

    fn begins(&self, day: u64) -> Vec<u64> {
        // A week before and after holds each of its days.
        let days = day.saturating_sub(8)..=day + 8;
        let on = |day: &u64| self.days.iter().any(|wanted| u64::from(*wanted) == (day + FIRST_DAY) % 7);
        days.filter(on).map(|day| day * 86_400 + self.from * 60).collect()
    }

    pub fn holds(&self, unix_s: u64) -> bool {
        self.end(unix_s).is_some()
    }

    /// Of the one that holds at a second since 1970.
    pub fn end(&self, unix_s: u64) -> Option<u64> {
        self.last_begin(unix_s).map(|begin| begin + self.minutes * 60).filter(|end| unix_s < *end)
    }

    /// The first beginning after a second since 1970.
    pub fn next(&self, unix_s: u64) -> Option<u64> {
        self.begins(unix_s / 86_400).into_iter().find(|begin| *begin > unix_s)
    }
}

pub(super) fn list(table: &mut Table<'_>) -> Vec<Maintenance> {
    table.sections("maintenance", MAX_WINDOWS, window)
}

fn window(table: &mut Table<'_>) -> Maintenance {
    let days = table.entry("days");
    let mut on: Vec<u8> = Vec::new();
    for item in days.items("an array of days, such as [\"sat\", \"sun\"]", DAYS.len()).unwrap_or_default() {
        match item.choice(&DAYS) {
            Some(day) if on.contains(&day) => item.fault("expected each day once"),
            Some(day) => on.push(day),
            None => {}
        }
    }
    if days.is_there() && on.is_empty() {
        days.fault("expected at least one day; left out, it is every day");
    }
    if on.is_empty() {
        on = DAYS.iter().map(|(_, day)| *day).collect();
    }
    on.sort_unstable();
    let from = time(&table.required("from", "a time of the day in UTC, such as \"02:00\"")).unwrap_or(0);
    let to = time(&table.required("to", "a time of the day in UTC, such as \"04:00\"")).unwrap_or(0);
    let minutes = (to + MINUTES_PER_DAY - from) % MINUTES_PER_DAY;
    Maintenance { days: on, from, minutes: if minutes == 0 { MINUTES_PER_DAY } else { minutes } }
}

/// Minutes of the day.
fn time(entry: &Entry<'_>) -> Option<u64> {
    entry.text_as("a time of the day in UTC from \"00:00\" to \"23:59\"", |text| {
        let (hours, minutes) = text.split_once(':')?;
        let number = |text: &str, most: u64| {
            let digits = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse().ok().filter(|number: &u64| digits && *number < most)
        };
        Some(number(hours, 24)? * 60 + number(minutes, 60)?)
    })
}

#[cfg(test)]
mod tests {
    use crate::device::DeviceConfig;

    /// Sunday, 2026-11-22, 00:00 UTC.
    const SUNDAY: u64 = 1_795_305_600;

    fn window(text: &str) -> super::Maintenance {
        let device = DeviceConfig::parse("hearth.toml", &format!("[[maintenance]]\n{text}")).unwrap();
        device.maintenance[0].clone()
    }

    fn faults(text: &str) -> String {
        let text = format!("[[maintenance]]\n{text}");
        DeviceConfig::parse("hearth.toml", &text).unwrap_err().to_string()
    }

    #[test]
    fn a_window_holds_from_its_beginning_to_its_end_on_its_days() {
        let sunday = window("days = [\"sun\"]\nfrom = \"02:00\"\nto = \"04:00\"");
        let hour = 3600;
        let inside = |at: u64| sunday.holds(SUNDAY + at);
        assert_eq!([2 * hour - 1, 2 * hour, 4 * hour - 1, 4 * hour].map(inside), [false, true, true, false]);
        assert!(!inside(24 * hour + 3 * hour), "Monday");
        assert!(inside(7 * 24 * hour + 3 * hour), "the next Sunday");
        assert_eq!(sunday.next(SUNDAY), Some(SUNDAY + 2 * hour));
        assert_eq!(sunday.next(SUNDAY + 2 * hour), Some(SUNDAY + (7 * 24 + 2) * hour));
    }

    #[test]
    fn one_may_go_over_midnight_or_round_the_clock() {
        let night = window("days = [\"sat\"]\nfrom = \"23:30\"\nto = \"01:00\"");
        assert!(night.holds(SUNDAY) && night.holds(SUNDAY - 1800) && night.holds(SUNDAY + 3599));
        assert!(!night.holds(SUNDAY - 1801) && !night.holds(SUNDAY + 3600));
        let always = window("from = \"06:00\"\nto = \"06:00\"");
        assert!((0..48).all(|hour| always.holds(SUNDAY + hour * 3600)));
    }

    #[test]
    fn what_is_no_window_is_told_with_its_key() {
        for (text, told) in [
            ("from = \"2:00\"\nto = \"04:00\"", "maintenance[0].from: expected a time of the day in UTC"),
            ("from = \"24:00\"\nto = \"04:00\"", "maintenance[0].from: expected a time of the day in UTC"),
            ("from = \"02:00\"", "maintenance[0].to: missing, expected a time of the day in UTC"),
            ("days = [\"sunday\"]\nfrom = \"02:00\"\nto = \"04:00\"", "maintenance[0].days[0]: expected"),
            ("days = []\nfrom = \"02:00\"\nto = \"04:00\"", "expected at least one day"),
            ("days = [\"sun\", \"sun\"]\nfrom = \"02:00\"\nto = \"04:00\"", "expected each day once"),
        ] {
            let faults = faults(text);
            assert!(faults.contains(told), "{faults}");
        }
    }
}
