//! Memory, used and given back.

use std::thread;
use std::time::Duration;

use super::{GuestError, say, small_file};

/// Between two looks at what is free.
const PERIOD: Duration = Duration::from_millis(200);

/// Writes to each page of `mib` MiB, over and over.
pub(super) fn dirty(mib: u64) -> Result<(), GuestError> {
    let mut memory = vec![1_u8; usize::try_from(mib << 20).unwrap_or(0)];
    for round in 0_u8.. {
        memory.iter_mut().step_by(4096).for_each(|byte| *byte = round);
        std::hint::black_box(&mut memory);
        say("dirtied");
        thread::sleep(PERIOD);
        if round == u8::MAX {
            break;
        }
    }
    Ok(())
}

/// Touches `mib` MiB, frees them, and then tells what is free, over and over.
pub(super) fn use_and_free(mib: u64) -> Result<(), GuestError> {
    let bytes = usize::try_from(mib << 20).unwrap_or(0);
    // Not zeroes: the kernel would map one page of them for all.
    drop(std::hint::black_box(vec![0x5a_u8; bytes]));
    say("memory used");
    loop {
        let facts = small_file("/proc/meminfo")?;
        let fact = |name: &str| {
            let line = facts.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
            line.split_ascii_whitespace().next().unwrap_or("?").to_owned()
        };
        say(&format!("memory total {} free {}", fact("MemTotal:"), fact("MemFree:")));
        thread::sleep(PERIOD);
    }
}
