//! What a monitor costs besides its guest's RAM.

use std::io;

use crate::family;

/// Memory of process `pid` and its own in KiB, without what is the guest's RAM: a page that two of them have is one.
///
/// That is the proportional share, as one monitor of a kind runs at a time. "Private" would leave out what is in both
/// processes of one, which nobody else has.
///
/// Every monitor maps that in one piece; what else it maps is far smaller. Ours maps the kernel and the initrd over
/// parts of it, which makes pieces of the one; but all of them are left out of core dumps, and nothing else is.
pub(crate) fn private_kib(pid: u32, guest_mib: u64) -> io::Result<u64> {
    family::of(pid).into_iter().try_fold(0, |all, one| {
        Ok(all + sum(&std::fs::read_to_string(format!("/proc/{one}/smaps"))?, guest_mib * 1024))
    })
}

fn sum(smaps: &str, guest_kib: u64) -> u64 {
    let (mut total, mut size, mut share) = (0, 0, 0);
    for line in smaps.lines() {
        let mut words = line.split_ascii_whitespace();
        let Some(key) = words.next() else { continue };
        let kib = |value: Option<&str>| value.and_then(|value| value.parse::<u64>().ok()).unwrap_or(0);
        match key {
            "Size:" => (size, share) = (kib(words.next()), 0),
            "Pss:" => share = kib(words.next()),
            // The last line of a mapping; "dd" is "do not dump".
            "VmFlags:" if size < guest_kib && !words.any(|flag| flag == "dd") => total += share,
            _ => {}
        }
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guest_memory_is_left_out() {
        let smaps = "\
00400000-00500000 r-xp 00000000 00:02 12 /usr/bin/monitor
Size:               1024 kB
Pss:                 108 kB
Private_Dirty:         8 kB
VmFlags: rd ex mr mw me
7f00-7f01 rw-p 00000000 00:00 0
Size:             100000 kB
Pss:               60000 kB
Private_Dirty:     60000 kB
VmFlags: rd wr mr mw me nr dd nh
7f01-7f02 rw-p 00000000 00:02 13 /guest/kernel
Size:              31072 kB
Pss:                7000 kB
Private_Dirty:      7000 kB
VmFlags: rd wr mr mw me nr dd
7f04-7f08 rw-p 00000000 00:00 0
Size:             131072 kB
Pss:               50000 kB
Private_Dirty:     50000 kB
VmFlags: rd wr mr mw me
7fff-8000 rw-p 00000000 00:00 0 [stack]
Size:                132 kB
Pss:                  12 kB
Private_Dirty:        12 kB
VmFlags: rd wr mr mw me gd ac
";
        assert_eq!(sum(smaps, 128 * 1024), 120);
    }
}
