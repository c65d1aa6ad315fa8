//! What gives way when there is no room.
//!
//! Duty: free room for one more file. Not here: files (`queue`).
//! Invariant: the oldest file of the lowest class goes first, nothing goes for what matters less, and each record that
//! goes is counted.

use hearth_disk::Disk;

use super::Outbox;
use super::kinds::Class;
use super::queue::Queue;

impl Outbox {
    /// Whether a file of `class` may be begun.
    pub(super) fn make_room(&mut self, disk: &mut dyn Disk, class: Class) -> bool {
        loop {
            let stored: u64 = self.queues.iter().map(Queue::stored_bytes).sum();
            let file = self.limits.segment_bytes;
            // Whoever cannot say how much there is will say so when it is written to.
            let free = disk.free().unwrap_or(u64::MAX);
            if stored.saturating_add(file) <= self.limits.most_bytes
                && free >= self.limits.free_bytes.saturating_add(file)
            {
                return true;
            }
            let lower = Class::ALL.into_iter().rev().take_while(|lower| *lower >= class);
            let Some(lowest) = lower.into_iter().find(|lower| self.queues[lower.place()].has_files()) else {
                return false;
            };
            let dropped = self.queues[lowest.place()].drop_oldest(disk);
            self.count_dropped(lowest, dropped);
        }
    }
}
