//! Every processor that the kernel shows is used once.

use nix::sched::{CpuSet, sched_getcpu, sched_setaffinity};
use nix::unistd::Pid;

use super::{GuestError, io, say, small_file};

const CPUS: &str = "/sys/devices/system/cpu";

pub(super) fn run() -> Result<(), GuestError> {
    let online = small_file(&format!("{CPUS}/online"))?;
    let count = last_of(online.trim()).map_or(1, |last| last + 1);
    let mut ran = 0;
    let mut places = Vec::new();
    for cpu in 0..count {
        let mut set = CpuSet::new();
        let failed = |errno: nix::Error| io(format!("processor {cpu}"))(errno.into());
        set.set(cpu).map_err(failed)?;
        sched_setaffinity(Pid::from_raw(0), &set).map_err(failed)?;
        if sched_getcpu().map_err(failed)? == cpu {
            ran += 1;
        }
        let fact = |name: &str| {
            small_file(&format!("{CPUS}/cpu{cpu}/topology/{name}"))
                .map_or("?".to_owned(), |text| text.trim().to_owned())
        };
        places.push(format!("{}/{}", fact("physical_package_id"), fact("core_id")));
    }
    places.sort();
    places.dedup();
    say(&format!("processors {count} ran {ran} cores {}", places.len()));
    Ok(())
}

/// `0-3` is a list of four; a guest has no holes in it.
fn last_of(list: &str) -> Option<usize> {
    list.rsplit(['-', ',']).next()?.parse().ok()
}
