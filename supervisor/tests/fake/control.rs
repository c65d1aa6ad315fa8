//! The stand-in's control socket: snapshots, and nothing else.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread;

use hearth_wire::control::{Answer, Order, Refusal, Reply, decode_request, encode_reply};
use hearth_wire::{Decoder, MAX_FRAME};

/// Takes requests in a thread of its own, for as long as the process lives.
pub(crate) fn take_requests(socket: Option<PathBuf>, snapshots: Option<PathBuf>) {
    let Some((socket, snapshots)) = socket.zip(snapshots) else { return };
    let Ok(listener) = UnixListener::bind(socket) else { return };
    thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            answer(client, &snapshots);
        }
    });
}

/// `None`: it was something else, and is hung up on.
fn answer(mut client: UnixStream, snapshots: &Path) -> Option<()> {
    let mut decoder = Decoder::new();
    let mut buffer = [0; 256];
    let request = loop {
        let length = client.read(&mut buffer).ok().filter(|length| *length > 0)?;
        assert!(decoder.push(&buffer[..length]).is_empty(), "requests are small");
        if let Some(payload) = decoder.pop_payload().expect("good frames") {
            break decode_request(payload).ok()?;
        }
    };
    let Order::Snapshot { name, .. } = request.order else { return None };
    let folder = snapshots.join(name.as_str());
    let made = fs::create_dir(&folder).and_then(|()| fs::write(folder.join("memory"), [1; 10_000]));
    let answer = match made {
        Ok(()) if name.as_str() != "refused" => Answer::Done,
        _ => Answer::Refused { code: Refusal::Failed, text: "no room" },
    };
    let mut frame = [0; MAX_FRAME];
    client.write_all(encode_reply(&Reply::Answer { id: request.id, answer }, &mut frame).ok()?).ok()
}
