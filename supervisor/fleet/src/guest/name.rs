//! Names of topics that a guest may use, and filters over them.
//!
//! Duty: which names are good, and which filter takes which name. Not here: whose they are.
//! Invariant: a good name stays below the place that it is put behind: it has no empty level, no dots for others, nothing
//! that a broker gives a meaning of its own. No text of a guest's panics; that is why the client library's own matching,
//! which cuts a text at its second byte, is not used.

use crate::topics::GUEST_COMMANDS;

/// Bytes of a name; with the box's own place before it a topic stays far below what brokers take.
const MAX_NAME: usize = 192;
/// Levels of a name. Brokers keep a tree of them.
const MAX_LEVELS: usize = 12;
/// Bytes of a filter: the longest name, and some.
pub const MAX_FILTER: usize = 200;

/// Whether a guest may publish under this name.
pub(super) fn is_good(name: &str) -> bool {
    let level = |level: &str| {
        let good = |character: char| !matches!(character, '+' | '#' | '$') && !character.is_control();
        !matches!(level, "" | "." | "..") && level.chars().all(good)
    };
    (1..=MAX_NAME).contains(&name.len())
        && name.split('/').count() <= MAX_LEVELS
        && name.split('/').all(level)
        // Those are the fleet's.
        && name.split('/').next() != Some(GUEST_COMMANDS)
}

/// A filter of MQTT's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter(String);

impl Filter {
    /// `[MQTT-4.7.1-2]`, `[MQTT-4.7.1-3]`: `#` is a whole level and the last, `+` is a whole level.
    pub fn new(text: &str) -> Option<Filter> {
        let last = text.split('/').count().saturating_sub(1);
        let level = |(place, level): (usize, &str)| match level {
            "#" => place == last,
            "+" => true,
            other => !other.contains(['+', '#', '$']) && !other.chars().any(char::is_control),
        };
        let good = (1..=MAX_FILTER).contains(&text.len()) && last < MAX_LEVELS;
        (good && text.split('/').enumerate().all(level)).then(|| Filter(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// `[MQTT-4.7.1-2]`: `a/#` takes `a`, too.
    pub fn takes(&self, name: &str) -> bool {
        let (mut filter, mut name) = (self.0.split('/'), name.split('/'));
        loop {
            match (filter.next(), name.next()) {
                (Some("#"), _) | (None, None) => return true,
                (Some("+"), Some(_)) => {}
                (Some(wanted), Some(found)) if wanted == found => {}
                _ => return false,
            }
        }
    }

    /// Whether it can take anything that the fleet says to a guest.
    #[cfg(feature = "mqtt")]
    pub(super) fn is_for_commands(&self) -> bool {
        matches!(self.0.split('/').next(), Some("#" | "+" | GUEST_COMMANDS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_that_leave_their_place_or_mean_something_else_are_not_good() {
        for good in ["a", "a/b", "temperature/Süd 1", "a.b/..c", "cmds/x", "x/cmd"] {
            assert!(is_good(good), "{good}");
        }
        let (long, deep) = ("a".repeat(MAX_NAME + 1), ["a"; MAX_LEVELS + 1].join("/"));
        for bad in [
            "", "/", "/a", "a/", "a//b", ".", "..", "../x", "a/../b", "a/./b", "a+", "+", "#", "a/#", "$SYS",
            "a/$b", "a\0", "a\nb", "a\u{85}", "cmd", "cmd/x", &long, &deep,
        ] {
            assert!(!is_good(bad), "{bad:?}");
        }
    }

    #[test]
    fn filters_take_what_mqtt_says_that_they_take() {
        let takes = |filter: &str, name: &str| Filter::new(filter).expect("good").takes(name);
        for (filter, name) in
            [("#", "a/b"), ("a/#", "a"), ("a/#", "a/b/c"), ("+/b", "a/b"), ("a/+/c", "a/b/c"), ("ü/b", "ü/b")]
        {
            assert!(takes(filter, name), "{filter} {name}");
        }
        for (filter, name) in
            [("a", "a/b"), ("a/b", "a"), ("+", "a/b"), ("a/+", "a"), ("b/#", "a"), ("a/+/c", "a/b/d")]
        {
            assert!(!takes(filter, name), "{filter} {name}");
        }
        for bad in ["", "a/#/b", "a#", "a+/b", "$SYS/#", "a\0"] {
            assert_eq!(Filter::new(bad), None, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn whatever_a_guest_calls_something_it_stays_in_its_place(name in "\\PC{0,8}|[a+#$./\u{0}ü]{0,8}") {
            if is_good(&name) {
                let topic = format!("own/{name}");
                prop_assert!(Filter::new("own/#").is_some_and(|filter| filter.takes(&topic)));
                prop_assert!(!topic.contains("//") && !topic.split('/').any(|level| level == ".."));
                prop_assert!(!Filter::new("own/cmd/#").is_some_and(|filter| filter.takes(&topic)));
            }
            if let Some(filter) = Filter::new(&name) {
                filter.takes(&name);
            }
        }
    }
}
