//! The file of what was learnt.
//!
//! Duty: read once, written now and then, whole or not at all. Not here: what is in it (`hearth-foresight`).
//! Invariant: a file that cannot be used is put aside and told in one line; without one the box begins anew.

use std::path::Path;

use hearth_disk::{Disk, Folder};
use hearth_foresight::Foresight;

const FILE: &str = "foresight";
const ASIDE: &str = "foresight.bad";

/// What people have to know of it, if anything.
pub(super) fn take_up(folder: &Path, foresight: &mut Foresight) -> Option<String> {
    let mut disk = Folder::open(folder).ok()?;
    let path = folder.join(FILE);
    let fault = match disk.read(FILE) {
        Ok(None) => return None,
        Ok(Some(bytes)) => foresight.restore(&bytes).err()?.to_string(),
        Err(error) => error.to_string(),
    };
    let aside = disk.rename(FILE, ASIDE).map_or("it stays", |()| "it is now foresight.bad");
    Some(format!("foresight: {}: {fault}; begun anew, {aside}", path.display()))
}

pub(super) fn write(folder: &Path, foresight: &Foresight) -> Option<String> {
    let written = Folder::open(folder).and_then(|mut disk| disk.replace(FILE, &foresight.save()));
    let error = written.err()?;
    Some(format!("foresight: {}: what was learnt is not kept: {error}", folder.join(FILE).display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use hearth_foresight::{Event, Metric, Reading, Seconds};

    fn fed() -> Foresight {
        let mut foresight = Foresight::new(1);
        for second in 0..60_u8 {
            let host = Reading::NOTHING.with(Metric::Cpu, Some(f32::from(second)));
            let event = Event::Measured { at: Seconds(second.into()), host, workloads: Vec::new() };
            let _ = foresight.step(event);
        }
        foresight
    }

    #[test]
    fn what_was_learnt_is_there_for_the_next_daemon() {
        let folder = tempfile::tempdir().unwrap();
        let before = fed();
        assert_eq!(write(folder.path(), &before), None);
        let mut after = Foresight::new(1);
        assert_eq!(take_up(folder.path(), &mut after), None);
        assert_eq!(after.save(), before.save());
    }

    #[test]
    fn a_file_that_cannot_be_used_is_put_aside_and_told() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(take_up(folder.path(), &mut Foresight::new(1)), None, "none is no fault");
        std::fs::write(folder.path().join(FILE), "nonsense").unwrap();
        let words = take_up(folder.path(), &mut Foresight::new(1)).expect("a line");
        assert!(words.ends_with("; begun anew, it is now foresight.bad"), "{words}");
        assert_eq!(std::fs::read(folder.path().join(ASIDE)).unwrap(), b"nonsense");
        assert_eq!(take_up(folder.path(), &mut Foresight::new(1)), None);
    }
}
