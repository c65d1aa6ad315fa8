//! Whether the box is short of memory or disk.
//!
//! | file | what |
//! |---|---|
//! | `gauge.rs` | from what is free to a level, without flutter |
//! | `stalls.rs` | a word from the kernel when work waits for memory |
//!
//! Duty: look, now and then and whenever the kernel says so, and tell changes. Not here: what is done about them
//! (`hearth-core`).
//! Invariant: what cannot be looked at is taken for calm, and nothing here waits for a disk but for its figures.

mod gauge;
mod stalls;

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use hearth_config::device::Pressure as Config;
use hearth_core::{Event, Resource};
use nix::sys::statvfs::statvfs;
use smol::Timer;
use smol::channel::{Receiver, Sender};
use smol::future::or;

use gauge::{Gauge, Room};

/// Between two looks that nobody asked for: disks fill in minutes, and four small reads in so long cost nothing.
const EVERY: Duration = Duration::from_secs(10);
/// Between two looks that the kernel asked for.
const AT_MOST: Duration = Duration::from_secs(1);
/// With so much free, a share of it is not asked for: a tenth of a large disk is no shortage.
const MEMORY_ENOUGH: u64 = 4 << 30;
const DISK_ENOUGH: u64 = 1 << 30;

/// What is looked at.
#[derive(Debug)]
pub(crate) struct Watch {
    /// Of the configuration in force.
    pub(crate) config: Rc<Cell<Config>>,
    /// Folders that have to take more.
    pub(crate) folders: Vec<PathBuf>,
}

/// Looks for as long as somebody listens.
pub(crate) async fn watch(watch: Watch, events: Sender<Event>) {
    let stalls = stalls::listen();
    let (mut memory, mut disk) = (Gauge::default(), Gauge::default());
    loop {
        let config = watch.config.get();
        let room = memory_room().unwrap_or(Room::PLENTY);
        let changes = [
            (Resource::Memory, memory.read(room, config.memory, MEMORY_ENOUGH)),
            (Resource::Disk, disk.read(least(&watch.folders), config.disk, DISK_ENOUGH)),
        ];
        for (resource, level) in changes {
            if let Some(level) = level
                && events.send(Event::Pressure { resource, level }).await.is_err()
            {
                return;
            }
        }
        Timer::after(AT_MOST).await;
        or(wait(EVERY - AT_MOST), word(stalls.as_ref())).await;
    }
}

async fn wait(span: Duration) {
    Timer::after(span).await;
}

async fn word(stalls: Option<&Receiver<()>>) {
    match stalls {
        Some(stalls) if stalls.recv().await.is_ok() => {}
        _ => smol::future::pending().await,
    }
}

/// Bytes of a folder's file system, and how many of them are free.
pub(crate) fn room(folder: &Path) -> Option<(u64, u64)> {
    disk_room(folder).map(|room| (room.all, room.free))
}

/// The folder that has least.
fn least(folders: &[PathBuf]) -> Room {
    let rooms = folders.iter().filter_map(|folder| disk_room(folder));
    rooms.min_by_key(|room| room.permille()).unwrap_or(Room::PLENTY)
}

fn disk_room(folder: &Path) -> Option<Room> {
    let of = statvfs(folder).ok()?;
    let bytes = |blocks: u64| blocks.saturating_mul(of.fragment_size());
    Some(Room { free: bytes(of.blocks_available()), all: bytes(of.blocks()) })
}

fn memory_room() -> Option<Room> {
    room_of(&fs::read_to_string("/proc/meminfo").ok()?)
}

fn room_of(meminfo: &str) -> Option<Room> {
    let kib = |name: &str| {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()
    };
    Some(Room { free: kib("MemAvailable")? << 10, all: kib("MemTotal")? << 10 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_says_of_memory_is_understood() {
        let text = "MemTotal:        1000 kB\nMemFree:          10 kB\nMemAvailable:    250 kB\n";
        assert_eq!(room_of(text), Some(Room { free: 250 << 10, all: 1000 << 10 }));
        assert_eq!(room_of("MemTotal: 1000 kB\n"), None);
        assert!(memory_room().is_some_and(|room| room.free > 0 && room.free < room.all));
    }

    #[test]
    fn of_several_disks_the_fullest_counts_and_a_missing_one_is_no_shortage() {
        let here = tempfile::tempdir().unwrap();
        let room = disk_room(here.path()).unwrap();
        assert!(room.all > 0 && room.free <= room.all);
        assert_eq!(least(&["/nonexistent".into()]), Room::PLENTY);
        let both = least(&[here.path().into(), "/proc".into()]);
        assert!(both.permille() <= room.permille());
    }
}
