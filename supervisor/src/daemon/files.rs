//! The files of the box, in the loop.
//!
//! Duty: hears that they may have changed, and follows what is new. Not here: reading and checking them (`reload`), what
//! follows from it (`hearth-core`). Invariant: files with a fault change nothing.

use hearth_core::Event;
use smol::channel::{Receiver, bounded};

use super::Daemon;
use crate::clock;
use crate::reload::{self, News};
use crate::setup::Setup;

impl Daemon {
    /// Words that the configuration's files may have changed.
    pub(super) fn watch_files(&self) -> Receiver<()> {
        let (sender, changes) = bounded(1);
        let (file, paths) = (self.setup.file.clone(), &self.setup.device.paths);
        let (workloads, images) = (paths.workloads.clone(), paths.images.clone());
        let console = self.console.clone();
        let watching = async move {
            if let Err(error) = reload::watch(file, workloads, images, sender).await {
                console
                    .say(&format!("configuration: its files cannot be watched, SIGHUP reads them: {error}"));
            }
        };
        self.executor.spawn(watching).detach();
        changes
    }

    pub(super) fn reload(&mut self, asked: bool) {
        if self.asked_to_stop {
            return;
        }
        let (news, lines) = self.reader.read(&self.setup, &mut self.contents, asked);
        lines.iter().for_each(|line| self.console.say(line));
        if let News::New(new) = news {
            self.follow(*new);
        }
    }

    pub(super) fn follow(&mut self, new: Setup) {
        let wanted = new.wanted != self.setup.wanted;
        self.setup = new;
        self.pressure.set(self.setup.device.pressure);
        self.builds.learn(&self.setup);
        self.guests.follow(&self.setup);
        self.lookout.configure(&self.setup, clock::now());
        self.keep_calendar();
        self.console.widen(self.setup.names().iter().map(String::as_str));
        if wanted {
            self.apply(Event::Configured(Box::new(self.setup.wanted.clone())));
        }
    }
}
