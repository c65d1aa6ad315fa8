//! Which boot this is, and why it came about.
//!
//! Duty: what the last note and the hardware's evidence say about this boot. Not here: what follows (`hearth-core`).
//! Invariant: a boot counts as failed exactly if it neither settled nor was ended in order; a daemon that begins
//! again within one boot counts nothing.

use std::fs;
use std::path::Path;

use hearth_core::{Boot, BootReason};

use super::ledger::BootNote;

/// In a watchdog's `bootstatus`: it was the one that reset the box (`WDIOF_CARDRESET`).
const RESET_BY_WATCHDOG: u32 = 0x20;

/// What the kernel knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Evidence {
    /// Its number for this boot; empty if it does not say.
    pub(super) id: String,
    pub(super) watchdog: bool,
    pub(super) panic: bool,
}

impl Evidence {
    /// `root` is `/`, but for tests.
    pub(super) fn gather(root: &Path) -> Evidence {
        let id = fs::read_to_string(root.join("proc/sys/kernel/random/boot_id")).unwrap_or_default();
        Evidence {
            id: id.trim().to_owned(),
            watchdog: entries(&root.join("sys/class/watchdog")).any(|device| {
                let status = fs::read_to_string(device.join("bootstatus")).unwrap_or_default();
                status.trim().parse::<u32>().is_ok_and(|bits| bits & RESET_BY_WATCHDOG != 0)
            }),
            // The kernel's last words of the boot before.
            panic: entries(&root.join("sys/fs/pstore")).any(|file| {
                file.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"dmesg-"))
            }),
        }
    }
}

fn entries(folder: &Path) -> impl Iterator<Item = std::path::PathBuf> {
    folder.read_dir().into_iter().flatten().flatten().map(|entry| entry.path())
}

/// What is to be told to the core, and noted for the next daemon.
pub(super) fn weigh(before: Option<BootNote>, evidence: &Evidence) -> (Boot, BootNote) {
    let id = evidence.id.clone();
    let mut note = match before {
        Some(note) if note.id == id && !id.is_empty() => {
            let boot = Boot {
                reason: note.came_up,
                first_daemon: note.stopped,
                failed_boots: if note.settled { 0 } else { note.failed_boots },
            };
            return (boot, BootNote { stopped: false, ..note });
        }
        Some(before) => BootNote {
            failed_boots: if before.settled { 0 } else { before.failed_boots.saturating_add(1) },
            came_up: before.next.unwrap_or_else(|| because(evidence)),
            ..BootNote::default()
        },
        None => BootNote { came_up: because(evidence), ..BootNote::default() },
    };
    note.id = id;
    (Boot { reason: note.came_up, first_daemon: true, failed_boots: note.failed_boots }, note)
}

fn because(evidence: &Evidence) -> BootReason {
    match evidence {
        // A panic that nobody handled is ended by the watchdog.
        Evidence { panic: true, .. } => BootReason::Panic,
        Evidence { watchdog: true, .. } => BootReason::Watchdog,
        _ => BootReason::PowerOn,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evidence(id: &str) -> Evidence {
        Evidence { id: id.to_owned(), ..Evidence::default() }
    }

    #[test]
    fn boots_that_never_settle_are_counted_and_one_that_does_begins_anew() {
        let (boot, mut note) = weigh(None, &evidence("a"));
        assert_eq!((boot.reason, boot.first_daemon, boot.failed_boots), (BootReason::PowerOn, true, 0));
        for (id, failed) in [("b", 1), ("c", 2), ("d", 3)] {
            let (boot, next) = weigh(Some(note), &evidence(id));
            assert_eq!((boot.first_daemon, boot.failed_boots), (true, failed));
            note = next;
        }
        note.settled = true;
        assert_eq!(weigh(Some(note), &evidence("e")).0.failed_boots, 0);
    }

    #[test]
    fn a_daemon_that_begins_again_within_a_boot_is_not_the_first_and_counts_nothing() {
        let (_, note) = weigh(Some(BootNote { id: "a".into(), ..BootNote::default() }), &evidence("b"));
        let (boot, again) = weigh(Some(note.clone()), &evidence("b"));
        assert_eq!((boot.first_daemon, boot.failed_boots), (false, 1));
        assert_eq!(again, note);
        let stopped = BootNote { stopped: true, settled: true, ..note };
        let (boot, next) = weigh(Some(stopped), &evidence("b"));
        assert_eq!(
            (boot.first_daemon, boot.failed_boots),
            (true, 0),
            "after a stop in order all begins anew"
        );
        assert!(!next.stopped);
    }

    #[test]
    fn who_made_the_box_boot_has_the_last_word_on_why() {
        let fired = Evidence { watchdog: true, ..evidence("b") };
        let next = Some(BootReason::Healing);
        let (boot, note) = weigh(Some(BootNote { next, ..BootNote::default() }), &fired);
        assert_eq!((boot.reason, note.next), (BootReason::Healing, None));
        assert_eq!(weigh(Some(BootNote::default()), &fired).0.reason, BootReason::Watchdog);
        assert_eq!(weigh(None, &Evidence { panic: true, ..fired }).0.reason, BootReason::Panic);
        let (boot, _) = weigh(Some(note), &evidence("b"));
        assert_eq!(boot.reason, BootReason::Healing, "a second daemon of the same boot knows as well");
    }

    #[test]
    fn a_kernel_that_does_not_number_its_boots_makes_each_daemon_the_first() {
        let (_, note) = weigh(None, &evidence(""));
        assert!(weigh(Some(note), &evidence("")).0.first_daemon);
    }

    #[test]
    fn evidence_is_found_where_the_kernel_leaves_it() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(Evidence::gather(root.path()), Evidence::default());
        let put = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        put("proc/sys/kernel/random/boot_id", "abc\n");
        put("sys/class/watchdog/watchdog0/bootstatus", "0\n");
        assert_eq!(Evidence::gather(root.path()), evidence("abc"));
        put("sys/class/watchdog/watchdog1/bootstatus", "33\n");
        put("sys/fs/pstore/dmesg-erst-1", "Oops");
        assert_eq!(Evidence::gather(root.path()), Evidence { id: "abc".into(), watchdog: true, panic: true });
    }
}
