//! The file of what was learnt.
//!
//! Duty: read once, written now and then, whole or not at all. Not here: what is in it (`hearth-foresight`).
//! Invariants: a file that cannot be used is put aside and told in one line; without one the box begins anew. Nobody waits
//! for the disk but a thread of its own, of which there is one at a time.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::Duration;

use hearth_disk::{Disk, Folder};
use hearth_foresight::{Foresight, Learnt};

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

/// Under way.
#[derive(Debug)]
pub(super) struct Writing {
    folder: PathBuf,
    ended: Receiver<Option<String>>,
}

impl Writing {
    pub(super) fn begin(folder: &Path, learnt: Learnt) -> Writing {
        let (sender, ended) = sync_channel(1);
        let folder = folder.to_owned();
        let write = {
            let folder = folder.clone();
            // Whoever does not listen any more is on the way out.
            move || _ = sender.send(write(&folder, &learnt))
        };
        // Without a thread the channel ends without a word.
        let _ = thread::Builder::new().name("foresight".to_owned()).spawn(write);
        Writing { folder, ended }
    }

    /// What people have to know of its end, if it ends within so long; else what goes on.
    pub(super) fn wait(self, patience: Duration) -> Result<Option<String>, Writing> {
        match self.ended.recv_timeout(patience) {
            Ok(words) => Ok(words),
            Err(RecvTimeoutError::Disconnected) => Ok(Some(not_kept(&self.folder, "no thread for it"))),
            Err(RecvTimeoutError::Timeout) => Err(self),
        }
    }

    /// What people have to know if nobody waits for it any more.
    pub(super) fn left(self) -> String {
        not_kept(&self.folder, "the disk does not answer")
    }
}

fn write(folder: &Path, learnt: &Learnt) -> Option<String> {
    let written = Folder::open(folder).and_then(|mut disk| disk.replace(FILE, &learnt.bytes()));
    Some(not_kept(folder, &written.err()?.to_string()))
}

fn not_kept(folder: &Path, why: &str) -> String {
    format!("foresight: {}: what was learnt is not kept: {why}", folder.join(FILE).display())
}

#[cfg(test)]
mod tests {
    use super::*;
    use hearth_foresight::{Event, Metric, Reading, Seconds};

    /// For a few hundred bytes: only a failing test waits as long.
    const PATIENCE: Duration = Duration::from_secs(60);

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
        let writing = Writing::begin(folder.path(), before.learnt());
        assert_eq!(writing.wait(PATIENCE).expect("it ends"), None);
        let mut after = Foresight::new(1);
        assert_eq!(take_up(folder.path(), &mut after), None);
        assert_eq!(after.learnt().bytes(), before.learnt().bytes());
    }

    #[test]
    fn a_disk_that_does_not_take_it_is_told_and_one_that_does_not_answer_holds_nobody() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join(FILE)).unwrap();
        let writing = Writing::begin(folder.path(), fed().learnt());
        let words = writing.wait(PATIENCE).expect("it ends").expect("a line");
        assert!(words.contains("foresight: what was learnt is not kept: "), "{words}");

        let fifo = folder.path().join("foresight.new");
        std::fs::remove_file(&fifo).unwrap();
        // Opening it for writing waits for a reader.
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let writing = Writing::begin(folder.path(), fed().learnt());
        let writing = writing.wait(Duration::ZERO).expect_err("it goes on");
        assert!(writing.left().ends_with("the disk does not answer"));
        std::fs::read(&fifo).unwrap();
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
