//! The ring by itself, on a pipe: a request stays in the kernel until the test lets it end.

use std::io::{PipeReader, PipeWriter, Write};
use std::os::fd::AsRawFd;
use std::sync::mpsc;

use super::super::uring::Uring;
use super::*;
use crate::virtio::rings::GuestSlice;

const TAG: Tag = Tag { generation: 7, head: 3 };

/// `None`, and a word about it, where there is no io_uring.
fn pipe() -> Option<(Uring, PipeReader, PipeWriter)> {
    let (reader, writer) = io::pipe().unwrap();
    match Uring::new(reader.as_raw_fd()) {
        Ok(ring) => Some((ring, reader, writer)),
        Err(reason) => {
            eprintln!("skipped: {reason}");
            None
        }
    }
}

fn slices(ram: &GuestRam) -> impl Iterator<Item = GuestSlice<'_>> {
    use vm_memory::GuestMemoryBackend;
    [(DATA_AT, 3), (DATA_AT + 0x1000, 5)]
        .into_iter()
        .map(|(at, bytes)| ram.get_slices(GuestAddress(at), bytes).next().unwrap().unwrap())
}

fn content(ram: &GuestRam) -> Vec<u8> {
    let mut content = vec![0; 8];
    ram.read_slice(&mut content[..3], GuestAddress(DATA_AT)).unwrap();
    ram.read_slice(&mut content[3..], GuestAddress(DATA_AT + 0x1000)).unwrap();
    content
}

#[test]
fn a_request_that_ends_in_parts_is_one_request() {
    let Some((mut ring, _reader, mut writer)) = pipe() else { return };
    let ram = testing::ram();
    ring.read(TAG, 0, slices(&ram), &ram);
    ring.submit().unwrap();
    assert!(ring.finished().is_none());
    for part in [&b"he"[..], b"art", b"h!?"] {
        assert_eq!(ring.pending(), 1);
        writer.write_all(part).unwrap();
        ring.wait();
        let finished = ring.finished();
        ring.submit().unwrap();
        assert_eq!(finished.is_some(), ring.pending() == 0);
    }
    assert_eq!(ring.pending(), 0);
    assert_eq!(content(&ram), b"hearth!?");
}

#[test]
fn a_ring_does_nothing_but_what_a_disk_needs_whoever_asks() {
    let Some((mut ring, _reader, _writer)) = pipe() else { return };
    let (answer, change) = ring.overreach();
    assert_eq!(answer, -nix::libc::EACCES);
    assert_eq!(change.unwrap_err().raw_os_error(), Some(nix::libc::EACCES));
}

#[test]
fn the_event_tells_of_an_end() {
    let Some((mut ring, _reader, mut writer)) = pipe() else { return };
    let ram = testing::ram();
    ring.read(TAG, 0, slices(&ram), &ram);
    ring.submit().unwrap();
    assert_eq!(ring.event().read().unwrap_err().kind(), io::ErrorKind::WouldBlock);
    writer.write_all(b"hearth!?").unwrap();
    ring.wait();
    assert!(ring.event().read().unwrap() > 0);
    let (tag, result) = ring.finished().unwrap();
    assert_eq!((tag, result.is_ok()), (TAG, true));
}

#[test]
fn memory_that_only_a_request_uses_stays_mapped_for_it() {
    let Some((mut ring, _reader, mut writer)) = pipe() else { return };
    let ram = testing::ram();
    ring.read(TAG, 0, slices(&ram), &ram);
    ring.submit().unwrap();
    drop(ram);
    writer.write_all(b"hearth!?").unwrap();
    ring.wait();
    ring.finished().unwrap().1.expect("the kernel found the memory");
}

#[test]
fn a_ring_goes_only_when_nothing_is_under_way() {
    let Some((mut ring, _reader, mut writer)) = pipe() else { return };
    let ram = testing::ram();
    ring.read(TAG, 0, slices(&ram), &ram);
    ring.submit().unwrap();
    let (gone, is_gone) = mpsc::channel();
    let memory = ram.clone();
    let dropper = std::thread::spawn(move || {
        drop(ring);
        gone.send(content(&memory)).unwrap();
    });
    assert!(is_gone.try_recv().is_err());
    writer.write_all(b"hearth!?").unwrap();
    assert_eq!(is_gone.recv().unwrap(), b"hearth!?");
    dropper.join().unwrap();
}

#[test]
fn the_end_of_a_file_is_an_error_and_not_for_ever() {
    let Some((mut ring, _reader, writer)) = pipe() else { return };
    let ram = testing::ram();
    ring.read(TAG, 0, slices(&ram), &ram);
    ring.submit().unwrap();
    drop(writer);
    ring.wait();
    let (_, result) = ring.finished().unwrap();
    assert_eq!(result.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
}

#[test]
fn a_kernel_that_puts_off_is_asked_again_and_not_for_ever() {
    for kind in [io::ErrorKind::WouldBlock, io::ErrorKind::ResourceBusy] {
        let Some((mut ring, _reader, mut writer)) = pipe() else { return };
        let ram = testing::ram();
        writer.write_all(b"hearth!?").unwrap();
        ring.deny(kind, 999);
        ring.read(TAG, 0, slices(&ram), &ram);
        for _ in 0..999 {
            ring.submit().unwrap();
            assert!(ring.event().read().is_ok(), "whoever listens tries again");
        }
        ring.submit().unwrap();
        ring.wait();
        ring.finished().unwrap().1.unwrap();
        assert_eq!(content(&ram), b"hearth!?");
        // Each row is counted for itself, and has an end.
        ring.deny(kind, 1001);
        ring.sync(TAG);
        for _ in 0..1000 {
            ring.submit().unwrap();
        }
        assert_eq!(ring.submit().unwrap_err().kind(), kind);
        ring.submit().unwrap();
    }
}
