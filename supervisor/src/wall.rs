//! The wall clock, for labels.
//!
//! Duty: its reading, and moments of it as text in UTC. Not here: deadlines, which are monotonic.
//! Invariant: no decision looks at it, but when windows of maintenance begin and end.

use std::time::{SystemTime, UNIX_EPOCH};

use hearth_fleet::PLAUSIBLE_MS;

/// Of `2026-11-21T19:36:06.123Z`, until the year 10000.
pub(crate) const STAMP_BYTES: usize = 24;

/// Milliseconds since 1970; a clock before that reads as that.
pub(crate) fn unix_ms() -> u64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)
}

/// Whether somebody ever set it.
pub(crate) fn is_plausible() -> bool {
    unix_ms() >= PLAUSIBLE_MS
}

/// A time of the week: `Sun 02:00`.
pub(crate) fn of_week(unix_s: u64) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    let day = usize::try_from(unix_s / 86_400 % 7).unwrap_or_default();
    format!("{} {:02}:{:02}", DAYS[day], unix_s / 3600 % 24, unix_s / 60 % 60)
}

/// As in RFC 3339.
pub(crate) fn stamp(unix_ms: u64) -> String {
    let seconds = unix_ms / 1000;
    let (year, month, day) = date(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", unix_ms % 1000)
}

/// The same moment as a plain name: `20261121-193606`.
pub(crate) fn digits(unix_ms: u64) -> String {
    let stamp = stamp(unix_ms);
    let seconds = stamp.split_once('.').map_or(stamp.as_str(), |(seconds, _)| seconds);
    seconds
        .chars()
        .filter(|one| !matches!(one, '-' | ':'))
        .map(|one| if one == 'T' { '-' } else { one })
        .collect()
}

/// The civil date of a day since 1970-01-01: years are counted from March, so that the day that comes every four years
/// is the last one.
fn date(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_dates_leap_days_included() {
        let at = |seconds: u64| stamp(seconds * 1000 + 7);
        assert_eq!(at(0), "1970-01-01T00:00:00.007Z");
        assert_eq!(at(951_782_400), "2000-02-29T00:00:00.007Z");
        assert_eq!(at(1_795_289_766), "2026-11-21T19:36:06.007Z");
        assert_eq!(at(4_107_542_399), "2100-02-28T23:59:59.007Z");
        assert_eq!(at(4_107_542_400), "2100-03-01T00:00:00.007Z");
        assert_eq!(at(0).len(), STAMP_BYTES);
        assert_eq!([0, 1_795_312_800].map(of_week), ["Thu 00:00", "Sun 02:00"]);
        assert_eq!(digits(1_795_289_766_007), "20261121-193606");
    }
}
