//! A running machine, written down because somebody asked for it.
//!
//! Duty: where it goes, ask the monitor, tell its size. Not here: writing it (the monitor), snapshots that machines are
//! started from (the core asks for those).
//! Invariant: one at a time. The folder has its name when all of it is there; whoever asked for it removes it.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use hearth_wire::control::{Order, SnapshotKind, SnapshotName};

use super::Reply;
use super::events::Note;
use super::server::{Caller, Door, Place, busy, reach};
use super::types::{SnapshotTaken, SnapshotWanted};
use crate::monitor::{self, MonitorError};
use crate::setup::{control_socket, snapshots_folder, vm_folder};
use crate::wall;

/// Each takes the disk for itself.
const AT_ONCE: usize = 1;
/// A GiB at ten MiB a second.
const PATIENCE: Duration = Duration::from_secs(120);
/// Bytes of what the file system counts as one block (`st_blocks`).
const BLOCK: u64 = 512;

pub(crate) async fn take(door: &Door, caller: &Caller, workload: String, wanted: SnapshotWanted) -> Reply {
    let name = wanted.name.unwrap_or_else(|| wall::digits(wall::unix_ms()));
    let Some(label) = SnapshotName::new(&name) else {
        let most = SnapshotName::MAX;
        let message = format!(
            "expected a name of 1 to {most} letters, digits, dots, dashes or underscores, no dot first"
        );
        return Reply::refused(400, "bad-request", message);
    };
    let Some(_place) = Place::take(&door.places.snapshots, AT_ONCE) else {
        return busy("expected one snapshot at a time".to_owned());
    };
    let reached = match reach(door, workload).await {
        Ok(reached) => reached,
        Err(reply) => return reply,
    };
    let place = snapshots_folder(&door.state, &reached.replica);
    let folder = place.join(&name);
    if let Err(error) = DirBuilder::new().mode(0o700).recursive(true).create(&place) {
        return Reply::refused(503, "no-room", format!("{}: {error}", place.display()));
    }
    if folder.exists() {
        return Reply::refused(409, "exists", format!("expected a new name, there is {}", folder.display()));
    }
    let order = Order::Snapshot { name: label, kind: SnapshotKind::Full };
    let socket = control_socket(&vm_folder(&door.state, &reached.replica));
    if let Err(error) = monitor::ask(&socket, order, PATIENCE, |_| {}).await {
        let status = if matches!(error, MonitorError::Refused(_)) { 409 } else { 503 };
        return Reply::refused(status, "no-snapshot", crate::wording::one_line(&error));
    }
    let who = caller.name();
    let text = format!("{}: {who} had a snapshot written, {}", reached.replica, folder.display());
    door.tell(&Note {
        kind: "snapshot",
        workload: &reached.workload,
        replica: &reached.replica,
        text: &text,
    });
    let bytes = smol::unblock({
        let folder = folder.clone();
        move || size(&folder)
    });
    let bytes = bytes.await.unwrap_or_default();
    Reply::json(201, &SnapshotTaken { replica: reached.replica, name, folder: shown(folder), bytes })
}

/// What its files take of the disk: pages that nobody wrote to take nothing.
fn size(folder: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        bytes += entry?.metadata()?.blocks() * BLOCK;
    }
    Ok(bytes)
}

fn shown(path: PathBuf) -> String {
    path.into_os_string().into_string().unwrap_or_else(|path| path.to_string_lossy().into_owned())
}
