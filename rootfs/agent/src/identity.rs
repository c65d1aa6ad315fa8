//! What makes a copy somebody of its own.
//!
//! Duty: take an [`Identity`] on: random numbers first, then time, name, machine ID and addresses.
//! Not its duty: the vsock address, which the kernel asks the machine for by itself.
//! Invariant: every part is tried; one that fails is told and keeps none of the others back.

use crate::{entropy, interfaces};
use hearth_wire::{Identity, MAX_HOSTNAME};
use nix::{
    sys::time::TimeSpec,
    time::{ClockId, clock_settime},
    unistd::{gethostname, sethostname},
};
use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

/// machine-id(5).
const MACHINE_ID: &str = "/etc/machine-id";

/// Digits of the machine ID behind the name of a copy: enough to tell apart whatever runs in one network.
const DIGITS: usize = 8;

/// Takes it on. What could not be done is returned, in words.
pub(crate) fn take_on(identity: &Identity, name: &mut Name) -> Vec<String> {
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
    if let Some(name) = name.of(identity) {
        check("name", sethostname(name).map_err(io::Error::from));
    }
    if let Some(id) = identity.machine_id {
        check("machine ID", write_machine_id(Path::new(MACHINE_ID), id));
    }
    for (number, mac) in identity.macs.iter().enumerate() {
        let outcome = interfaces::set_address(number, *mac).map_err(io::Error::from);
        check(&format!("address of eth{number}"), outcome);
    }
    faults
}

/// What copies are called after: the guest's name before it was the first of them.
#[derive(Debug, Default)]
pub(crate) struct Name(Option<String>);

impl Name {
    /// The name that goes with `identity`, if it is a new one.
    fn of(&mut self, identity: &Identity) -> Option<String> {
        if !identity.hostname.is_empty() {
            return Some(identity.hostname.as_str().to_owned());
        }
        let id = identity.machine_id?;
        let root = match &mut self.0 {
            Some(root) => root,
            none => none.insert(gethostname().ok()?.into_string().ok()?),
        };
        Some(suffixed(root, id))
    }
}

/// As long as Linux takes it.
fn suffixed(root: &str, id: [u8; 16]) -> String {
    let digits = format!("{:032x}", u128::from_be_bytes(id));
    let room = MAX_HOSTNAME.saturating_sub(DIGITS + 1);
    let root: String = root.chars().filter(char::is_ascii).take(room).collect();
    format!("{root}-{}", digits.get(..DIGITS).unwrap_or_default())
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
    use hearth_wire::Seed;

    #[test]
    fn a_copy_is_called_after_its_template_and_not_after_another_copy() {
        let identity = |hostname: &str, machine_id| Identity {
            seed: Seed([0; 32]),
            wall_clock_ns: 0,
            hostname: hostname.try_into().unwrap(),
            machine_id,
            macs: std::iter::empty().collect(),
        };
        let mut name = Name(Some("shop".into()));
        assert_eq!(name.of(&identity("", Some([0xab; 16]))).unwrap(), "shop-abababab");
        assert_eq!(name.of(&identity("", Some([0xcd; 16]))).unwrap(), "shop-cdcdcdcd");
        assert_eq!(name.of(&identity("till-3", Some([0xcd; 16]))).unwrap(), "till-3");
        assert_eq!(name.of(&identity("", None)), None);
        assert_eq!(suffixed(&"x".repeat(64), [0; 16]).len(), MAX_HOSTNAME);
    }

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
