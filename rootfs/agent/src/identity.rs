//! What makes a copy somebody of its own.
//!
//! Duty: take an [`Identity`] on: random numbers first, then time, name, machine ID and addresses.
//! Not its duty: the vsock address, which the kernel asks the machine for by itself.
//! Invariant: every part is tried; one that fails is told and keeps none of the others back.

use crate::{entropy, interfaces};
use hearth_wire::Identity;
use nix::{
    sys::time::TimeSpec,
    time::{ClockId, clock_settime},
    unistd::sethostname,
};
use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

/// machine-id(5).
const MACHINE_ID: &str = "/etc/machine-id";

/// Takes it on. What could not be done is returned, in words.
pub(crate) fn take_on(identity: &Identity) -> Vec<String> {
    let mut faults = Vec::new();
    let mut check = |what: &str, outcome: io::Result<()>| {
        if let Err(error) = outcome {
            faults.push(format!("a copy that keeps its {what}: {error}"));
        }
    };
    check("random numbers", entropy::stir(&identity.seed.0));
    if identity.wall_clock_ns > 0 {
        let now = TimeSpec::from_duration(Duration::from_nanos(identity.wall_clock_ns));
        check("clock", clock_settime(ClockId::CLOCK_REALTIME, now).map_err(io::Error::from));
    }
    if !identity.hostname.is_empty() {
        check("name", sethostname(identity.hostname.as_str()).map_err(io::Error::from));
    }
    check("machine ID", write_machine_id(Path::new(MACHINE_ID), identity.machine_id));
    for (number, mac) in identity.macs.iter().enumerate() {
        let outcome = interfaces::set_address(number, *mac).map_err(io::Error::from);
        check(&format!("address of eth{number}"), outcome);
    }
    faults
}

/// 32 digits and an end of line, put in place whole. A root without `/etc` has nobody who would look there.
fn write_machine_id(path: &Path, id: [u8; 16]) -> io::Result<()> {
    let new = PathBuf::from(format!("{}.new", path.display()));
    let text = format!("{:032x}\n", u128::from_be_bytes(id));
    match fs::write(&new, text).and_then(|()| fs::rename(&new, path)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_id_reads_as_systemd_wants_it() {
        let folder = std::env::temp_dir().join(format!("hearth-machine-id-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("machine-id");
        write_machine_id(&path, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 0xff]).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "000102030405060708090a0b0c0d0eff\n");
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
        fs::remove_dir_all(&folder).unwrap();
        write_machine_id(&path, [0; 16]).unwrap();
    }
}
