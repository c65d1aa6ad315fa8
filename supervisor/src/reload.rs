//! The configuration is followed while the daemon runs.
//!
//! Duty: notice that files have changed and are quiet again; say whether a reading brought something new.
//! Not here: what follows from it (`hearth-core` applies differences).
//! Invariant: a configuration with a fault replaces nothing, and each of its faults is told once.

use std::fs::OpenOptions;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hearth_config::{Faults, drop_in_folder};
use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor};
use smol::channel::Sender;
use smol::future::or;
use smol::{Async, Timer};

use crate::contents::Contents;
use crate::setup::Setup;

/// An editor, or somebody who copies a folder, writes several files: they are read when nothing has changed for so long.
const QUIET: Duration = Duration::from_millis(150);
/// And at the latest after so many changes: who writes for ever does not keep the others' changes out.
const MAX_CHANGES: u32 = 50;
/// Lines told of one refusal. A person mends the first ones first.
const MAX_TOLD: usize = 16;

/// What a reading of the files brought.
#[derive(Debug)]
pub(crate) enum News {
    Nothing,
    New(Box<Setup>),
}

/// What is remembered between two readings.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    /// The faults that were told last.
    told: String,
}

impl Reader {
    /// Reads the files again. Lines for a person come along; `asked` says that one waits for an answer.
    pub(crate) fn read(
        &mut self,
        setup: &Setup,
        contents: &mut Contents,
        asked: bool,
    ) -> (News, Vec<String>) {
        let new = match setup.load_again() {
            Ok(mut new) => {
                new.look_at_images(contents);
                new
            }
            Err(faults) => return (News::Nothing, self.refuse(&faults, asked)),
        };
        let mended = !std::mem::take(&mut self.told).is_empty();
        if new.device == setup.device && new.workloads == setup.workloads && new.wanted == setup.wanted {
            let same = asked || mended;
            let lines = same.then(|| "configuration: good, and nothing new".to_owned());
            return (News::Nothing, lines.into_iter().collect());
        }
        (News::New(Box::new(new)), Vec::new())
    }

    fn refuse(&mut self, faults: &Faults, asked: bool) -> Vec<String> {
        let text = faults.to_string();
        if text == self.told && !asked {
            return Vec::new();
        }
        let mut lines: Vec<String> =
            text.lines().take(MAX_TOLD).map(|line| format!("configuration refused: {line}")).collect();
        let more = text.lines().count().saturating_sub(MAX_TOLD);
        if more > 0 {
            lines.push(format!("configuration refused: {more} more faults"));
        }
        lines.push("configuration: the last good one stays".to_owned());
        self.told = text;
        lines
    }
}

/// Sends a word whenever the configuration's files may have changed, the first one when it has begun to look. Returns
/// only if they cannot be watched.
pub(crate) async fn watch(
    file: PathBuf,
    workloads: PathBuf,
    images: PathBuf,
    changed: Sender<()>,
) -> io::Result<()> {
    let inotify = Async::new(Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?)?;
    loop {
        let images = look_at(inotify.get_ref(), &file, &workloads, &images)?;
        // Full means that a word is on its way already.
        let _ = changed.try_send(());
        next_change(&inotify, images).await?;
        for _ in 0..MAX_CHANGES {
            let quiet = async {
                Timer::after(QUIET).await;
                Ok(true)
            };
            let more = async { next_change(&inotify, images).await.map(|()| false) };
            if or(more, quiet).await? {
                break;
            }
        }
    }
}

/// Watches the folders: a file that is replaced by renaming is another file. To watch one again changes nothing.
/// Gives what the folder of images is watched by, if it is there.
fn look_at(
    inotify: &Inotify,
    file: &Path,
    workloads: &Path,
    images: &Path,
) -> io::Result<Option<WatchDescriptor>> {
    let what = AddWatchFlags::IN_CLOSE_WRITE
        | AddWatchFlags::IN_CREATE
        | AddWatchFlags::IN_DELETE
        | AddWatchFlags::IN_MOVE
        | AddWatchFlags::IN_ONLYDIR;
    let beside = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    inotify.add_watch(beside, what)?;
    for folder in drop_in_folders(file, workloads) {
        // Gone again, or no folder.
        let _ = inotify.add_watch(&folder, what);
    }
    match inotify.add_watch(workloads, what) {
        // Reading tells a person that it is gone; when it is back, its parent may not be watched, but SIGHUP helps.
        Err(Errno::ENOENT | Errno::ENOTDIR) | Ok(_) => {}
        Err(errno) => return Err(errno.into()),
    }
    // None is no fault: images may be named by their paths.
    Ok(inotify.add_watch(images, what).ok())
}

fn drop_in_folders(file: &Path, workloads: &Path) -> Vec<PathBuf> {
    let entries = workloads.read_dir().into_iter().flatten().flatten().map(|entry| entry.path());
    let of_workloads = entries.filter(|path| path.extension().is_some_and(|end| end == "d"));
    of_workloads.chain([drop_in_folder(file)]).collect()
}

async fn next_change(inotify: &Async<Inotify>, images: Option<WatchDescriptor>) -> io::Result<()> {
    loop {
        inotify.readable().await?;
        match inotify.get_ref().read_events() {
            Ok(events) if events.iter().any(|event| counts(event, images)) => return Ok(()),
            Ok(_) | Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Editors make files of other names first; and a folder may be written to by others.
fn counts(event: &InotifyEvent, images: Option<WatchDescriptor>) -> bool {
    let lost = AddWatchFlags::IN_Q_OVERFLOW | AddWatchFlags::IN_IGNORED | AddWatchFlags::IN_ISDIR;
    let toml =
        event.name.as_ref().is_some_and(|name| Path::new(name).extension().is_some_and(|end| end == "toml"));
    let image = Some(event.wd) == images;
    // A file that was only made is written to next.
    let made = event.mask.contains(AddWatchFlags::IN_CREATE);
    event.mask.intersects(lost) || ((toml || image) && !made)
}

/// Whether this process had a terminal at its start, and has none that works any more.
#[derive(Debug)]
pub(crate) struct Terminal {
    had: bool,
}

impl Terminal {
    pub(crate) fn of_this_process() -> Terminal {
        Terminal { had: Terminal::works() }
    }

    /// What SIGHUP means depends on it: a terminal that closes says so by that signal, too.
    pub(crate) fn is_gone(&self) -> bool {
        self.had && !Terminal::works()
    }

    fn works() -> bool {
        OpenOptions::new().read(true).open("/dev/tty").is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn site() -> (tempfile::TempDir, Setup) {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("workloads")).unwrap();
        fs::write(folder.path().join("hearth.toml"), "").unwrap();
        fs::write(folder.path().join("workloads/a.toml"), "kind = \"job\"\nimage = \"i\"").unwrap();
        let setup = Setup::load(&folder.path().join("hearth.toml")).unwrap();
        (folder, setup)
    }

    #[test]
    fn a_bad_file_replaces_nothing_and_its_faults_are_told_once_unless_somebody_asks() {
        let (folder, setup) = site();
        let mut reader = Reader::default();
        let mut contents = Contents::default();
        assert!(
            matches!(reader.read(&setup, &mut contents, false), (News::Nothing, lines) if lines.is_empty())
        );
        let file = folder.path().join("workloads/a.toml");
        fs::write(&file, "kind = \"job\"\nimge = \"i\"").unwrap();
        let mut told = |reader: &mut Reader, asked| {
            let (news, lines) = reader.read(&setup, &mut contents, asked);
            assert!(matches!(news, News::Nothing));
            lines.join("\n").replace(&folder.path().display().to_string(), "BOX")
        };
        let refusal = told(&mut reader, false);
        assert!(
            refusal.starts_with("configuration refused: BOX/workloads/a.toml:1:1: image: missing"),
            "{refusal}"
        );
        assert!(
            refusal.contains("\nconfiguration refused: BOX/workloads/a.toml:2:1: imge: unknown key"),
            "{refusal}"
        );
        assert!(refusal.ends_with("\nconfiguration: the last good one stays"), "{refusal}");
        assert_eq!(told(&mut reader, false), "");
        assert_eq!(told(&mut reader, true), refusal);
        fs::write(&file, "kind = \"job\"\nimage = \"i\"").unwrap();
        assert_eq!(told(&mut reader, false), "configuration: good, and nothing new");
        assert_eq!(told(&mut reader, false), "");
    }

    #[test]
    fn many_faults_are_counted_and_not_all_told() {
        let (folder, setup) = site();
        fs::write(
            folder.path().join("hearth.toml"),
            (0..40).map(|n| format!("z{n} = 1\n")).collect::<String>(),
        )
        .unwrap();
        let (_, lines) = Reader::default().read(&setup, &mut Contents::default(), false);
        assert_eq!(lines.len(), MAX_TOLD + 2);
        assert_eq!(lines[MAX_TOLD], "configuration refused: 24 more faults");
    }

    #[test]
    fn paths_stay_what_they_were_at_the_start() {
        let (folder, setup) = site();
        fs::write(folder.path().join("hearth.toml"), "paths.state = \"/elsewhere\"\nstop.agent_s = 3")
            .unwrap();
        let (News::New(new), _) = Reader::default().read(&setup, &mut Contents::default(), false) else {
            panic!("nothing new")
        };
        assert_eq!(new.device.paths, setup.device.paths);
        assert_eq!(new.device.stop.agent, Duration::from_secs(3));
    }

    #[test]
    fn a_change_of_a_file_is_noticed_however_it_is_made_and_others_are_not() {
        let (folder, setup) = site();
        let (sender, words) = smol::channel::bounded(1);
        let workloads = setup.device.paths.workloads.clone();
        let images = folder.path().join("images");
        fs::create_dir(&images).unwrap();
        smol::block_on(or(
            async {
                let watching = watch(setup.file.clone(), workloads.clone(), images.clone(), sender);
                panic!("not watched: {:?}", watching.await);
            },
            async {
                words.recv().await.unwrap();
                fs::write(workloads.join(".a.toml.swp"), "x").unwrap();
                fs::write(workloads.join("b.toml"), "x").unwrap();
                words.recv().await.unwrap();
                fs::write(folder.path().join("new"), "").unwrap();
                fs::rename(folder.path().join("new"), setup.file.as_path()).unwrap();
                words.recv().await.unwrap();
                fs::remove_file(workloads.join("b.toml")).unwrap();
                words.recv().await.unwrap();
                fs::create_dir(workloads.join("a.d")).unwrap();
                words.recv().await.unwrap();
                fs::write(workloads.join("a.d/x.toml"), "").unwrap();
                words.recv().await.unwrap();
                fs::write(images.join("demo.squashfs"), "").unwrap();
                words.recv().await.unwrap();
            },
        ));
    }
}
