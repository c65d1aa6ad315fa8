//! What a monitor costs besides its guest's RAM.

use std::io;

/// Private memory of process `pid` in KiB, without mappings at least as large as the guest.
///
/// Every monitor maps the guest's RAM in one piece; what else it maps is far smaller.
pub(crate) fn private_kib(pid: u32, guest_mib: u64) -> io::Result<u64> {
    Ok(sum(&std::fs::read_to_string(format!("/proc/{pid}/smaps"))?, guest_mib * 1024))
}

fn sum(smaps: &str, guest_kib: u64) -> u64 {
    let (mut total, mut counts) = (0, true);
    for line in smaps.lines() {
        let mut words = line.split_ascii_whitespace();
        let (Some(key), Some(value)) = (words.next(), words.next()) else { continue };
        let Ok(kib) = value.parse::<u64>() else { continue };
        match key {
            "Size:" => counts = kib < guest_kib,
            "Private_Clean:" | "Private_Dirty:" if counts => total += kib,
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
Private_Clean:       100 kB
Private_Dirty:         8 kB
7f00-7f01 rw-p 00000000 00:00 0
Size:             131072 kB
Private_Clean:         0 kB
Private_Dirty:     60000 kB
7fff-8000 rw-p 00000000 00:00 0 [stack]
Size:                132 kB
Private_Clean:         0 kB
Private_Dirty:        12 kB
";
        assert_eq!(sum(smaps, 128 * 1024), 120);
    }
}
