//! Images on the host, by each way that a request can take to them.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use tempfile::{NamedTempFile, TempDir};

use super::*;
use crate::virtio::testing::SEAM;

/// A file of so many sectors, each filled with its number and one.
fn image(sectors: u8) -> NamedTempFile {
    let file = NamedTempFile::new().unwrap();
    let content: Vec<u8> = (1..=sectors).flat_map(|number| [number; 512]).collect();
    fs::write(file.path(), content).unwrap();
    file
}

fn sector(file: &NamedTempFile, number: usize) -> [u8; 512] {
    fs::read(file.path()).unwrap()[number * 512..][..512].try_into().unwrap()
}

/// The event loop's own calls; what they leave to io_uring; and everything through io_uring.
fn by_every_way(file: &NamedTempFile, read_only: bool, test: impl Fn(&mut Rig<FileDisk>)) {
    let before = fs::read(file.path()).unwrap();
    let ways: [fn(&Path, bool) -> FileDisk; 3] = [
        |path, read_only| FileDisk::without_ring(path, read_only).unwrap(),
        |path, read_only| FileDisk::open(path, read_only).unwrap(),
        |path, read_only| {
            let mut disk = FileDisk::open(path, read_only).unwrap();
            disk.take_a_detour();
            disk
        },
    ];
    for way in ways {
        fs::write(file.path(), &before).unwrap();
        test(&mut Rig::new(way(file.path(), read_only), read_only));
    }
}

#[test]
fn a_file_keeps_what_was_written_and_hides_a_torn_last_sector() {
    let file = NamedTempFile::new().unwrap();
    fs::write(file.path(), vec![1; 4 * 512 + 100]).unwrap();
    by_every_way(&file, false, |rig| {
        assert_eq!(rig.device.disk().bytes(), 4 * 512);
        rig.fill(9, 512);
        assert_eq!(rig.request(OUT, 3, 512), OK);
        assert_eq!(rig.request(OUT, 4, 512), IO_ERROR);
        assert_eq!(rig.request(FLUSH, 0, 0), OK);
        let content = fs::read(file.path()).unwrap();
        assert_eq!(content[3 * 512..], [vec![9; 512], vec![1; 100]].concat());
        rig.fill(0, 512);
        assert_eq!(rig.request(IN, 3, 512), OK);
        assert_eq!(rig.data(512), [9; 512]);
        assert_eq!((rig.counter("read_bytes"), rig.counter("written_bytes")), (512, 512));
    });
}

#[test]
fn a_write_that_must_be_durable_arrives_too() {
    let file = image(8);
    by_every_way(&file, false, |rig| {
        rig.activate(!(1 << 9));
        rig.fill(9, 1024);
        assert_eq!(rig.request(OUT, 2, 1024), OK);
        assert_eq!(rig.range(WRITE_ZEROES, 5, 1, 0), OK);
        assert_eq!([1, 2, 3, 4, 5].map(|n| sector(&file, n)[511]), [2, 9, 9, 5, 0]);
    });
}

#[test]
fn data_in_many_pieces_goes_where_each_piece_is() {
    let file = image(8);
    by_every_way(&file, false, |rig| {
        // The third piece lies in two regions of memory.
        let pieces = [(DATA_AT, 100), (DATA_AT + 0x1000, 412), (SEAM - 200, 512)];
        let whole: Vec<u8> = (0..1024u16).map(|n| n.to_le_bytes()[0] ^ 0x55).collect();
        let mut left = whole.as_slice();
        let mut readable = vec![Buffer::readable(HEADER_AT, 16)];
        let mut writable = readable.clone();
        for (address, bytes) in pieces {
            rig.ram.write_slice(&left[..bytes], GuestAddress(address)).unwrap();
            left = &left[bytes..];
            readable.push(Buffer::readable(address, u32::try_from(bytes).unwrap()));
            writable.push(Buffer::writable(address, u32::try_from(bytes).unwrap()));
        }
        readable.push(Buffer::writable(STATUS_AT, 1));
        writable.push(Buffer::writable(STATUS_AT, 1));
        rig.header(OUT, 3);
        assert_eq!(rig.submit(&readable), OK);
        assert_eq!(fs::read(file.path()).unwrap()[3 * 512..5 * 512], whole);
        for (address, bytes) in pieces {
            rig.ram.write_slice(&vec![0; bytes], GuestAddress(address)).unwrap();
        }
        rig.header(IN, 3);
        assert_eq!(rig.submit(&writable), OK);
        let mut read = Vec::new();
        for (address, bytes) in pieces {
            let mut piece = vec![0; bytes];
            rig.ram.read_slice(&mut piece, GuestAddress(address)).unwrap();
            read.extend(piece);
        }
        assert_eq!(read, whole);
    });
}

#[test]
fn requests_under_way_together_do_not_mix() {
    let file = image(64);
    by_every_way(&file, false, |rig| {
        for number in 0..20u64 {
            let at = DATA_AT + number * 512;
            rig.header(IN, number);
            let header: [u8; 16] = rig.ram.read_obj(GuestAddress(HEADER_AT)).unwrap();
            rig.ram.write_obj(header, GuestAddress(RANGE_AT + number * 16)).unwrap();
            rig.queue.offer(&[
                Buffer::readable(RANGE_AT + number * 16, 16),
                Buffer::writable(at, 512),
                Buffer::writable(STATUS_AT + number, 1),
            ]);
        }
        assert_eq!(rig.notify(), Backlog::Done);
        rig.device.quiesce().unwrap();
        assert_eq!(rig.heads().len(), 20);
        let expected: Vec<u8> = (1..=20).flat_map(|number| [number; 512]).collect();
        assert_eq!(rig.data(20 * 512), expected);
    });
}

#[test]
fn a_file_that_shrinks_under_the_guest_fails_reads_past_its_end() {
    let file = image(4);
    by_every_way(&file, true, |rig| {
        fs::write(file.path(), vec![1; 512]).unwrap();
        assert_eq!(rig.request(IN, 2, 1024), IO_ERROR);
        assert_eq!(rig.request(IN, 0, 1024), IO_ERROR, "half of it is there");
        assert_eq!(rig.request(IN, 0, 512), OK);
    });
}

#[test]
fn discarding_gives_storage_back_and_zeroing_makes_zeroes() {
    let file = NamedTempFile::new().unwrap();
    fs::write(file.path(), vec![7; 1 << 20]).unwrap();
    by_every_way(&file, false, |rig| {
        let blocks = || fs::metadata(file.path()).unwrap().blocks();
        let before = blocks();
        assert_ne!(rig.device.features() & (1 << 13), 0, "this file system punches holes");
        assert_eq!(rig.range(DISCARD, 256, 1024, 0), OK);
        assert!(blocks() <= before - 1024, "{before} blocks before");
        for (at, unmap) in [(1, 0), (3, UNMAP), (5, 0), (7, UNMAP)] {
            assert_eq!(rig.range(WRITE_ZEROES, at, 1, unmap), OK);
        }
        let content = fs::read(file.path()).unwrap();
        assert_eq!(content.len(), 1 << 20, "the size stays");
        assert_eq!([0, 1, 2, 3, 4, 5, 6, 7, 8].map(|n| content[n * 512]), [7, 0, 7, 0, 7, 0, 7, 0, 7]);
    });
}

#[test]
fn zeroes_are_written_where_the_file_system_has_no_way_to_make_them() {
    let Ok(file) = NamedTempFile::new_in("/dev/shm") else {
        eprintln!("skipped: no tmpfs");
        return;
    };
    fs::write(file.path(), vec![7; 5 << 20]).unwrap();
    by_every_way(&file, false, |rig| {
        assert_eq!(rig.range(WRITE_ZEROES, 1, 8192, 0), OK);
        assert_eq!(rig.range(WRITE_ZEROES, 8194, 1, 0), OK);
        let content = fs::read(file.path()).unwrap();
        assert!(content[..512].iter().all(|&byte| byte == 7));
        assert!(content[512..8193 * 512].iter().all(|&byte| byte == 0));
        assert_eq!([8193, 8194, 8195].map(|n| content[n * 512]), [7, 0, 7]);
    });
}

#[test]
fn a_read_only_image_offers_no_change() {
    let file = image(4);
    by_every_way(&file, true, |rig| {
        assert_eq!(rig.device.features() & (3 << 13), 0);
        assert_eq!(rig.request(OUT, 0, 512), IO_ERROR);
        assert_eq!(rig.range(DISCARD, 0, 1, 0), UNSUPPORTED);
        assert_eq!(rig.range(WRITE_ZEROES, 0, 1, 0), UNSUPPORTED);
        assert_eq!(sector(&file, 0), [1; 512]);
    });
}

#[test]
fn what_is_in_the_page_cache_takes_no_detour() {
    let file = image(8);
    let mut rig = Rig::new(FileDisk::open(file.path(), false).unwrap(), false);
    if rig.counter("io_uring") == 0 {
        eprintln!("skipped: no io_uring");
        return;
    }
    rig.begin(IN, 0, 4096);
    rig.begin(OUT, 0, 4096);
    assert_eq!((rig.heads().len(), rig.counter("through_io_uring")), (2, 0));
    assert_eq!(rig.request(FLUSH, 0, 0), OK);
    assert_eq!(rig.counter("through_io_uring"), 1, "storage is waited for elsewhere");
}

#[test]
fn what_is_not_in_the_page_cache_is_read_all_the_same() {
    let file = image(200);
    by_every_way(&file, true, |rig| {
        file.as_file().sync_all().unwrap();
        posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED).unwrap();
        assert_eq!(rig.request(IN, 4, 100 * 512), OK);
        assert_eq!(rig.data(100 * 512), (5..=104).flat_map(|number| [number; 512]).collect::<Vec<u8>>());
    });
}

#[test]
fn a_call_that_takes_too_long_sends_the_next_requests_another_way() {
    let file = image(8);
    let mut rig = Rig::new(FileDisk::open(file.path(), false).unwrap(), false);
    if rig.counter("io_uring") == 0 {
        eprintln!("skipped: no io_uring");
        return;
    }
    let mut through = 0;
    let mut next = |rig: &mut Rig<FileDisk>, requests| {
        for _ in 0..requests {
            assert_eq!(rig.request(OUT, 0, 4096), OK);
        }
        let before = std::mem::replace(&mut through, rig.counter("through_io_uring"));
        through - before
    };
    rig.device.disk_mut().took(Duration::from_millis(20));
    assert_eq!(next(&mut rig, 1), 0);
    for detour in [64, 128, 256] {
        rig.device.disk_mut().took(Duration::from_millis(21));
        assert_eq!(next(&mut rig, detour), detour, "twice as many as before");
    }
    assert_eq!(next(&mut rig, 1), 0, "and then a call is tried again");
    for _ in 0..511 {
        rig.device.disk_mut().took(Duration::ZERO);
    }
    rig.device.disk_mut().took(Duration::from_millis(21));
    assert_eq!(next(&mut rig, 65), 64, "calls that were quick are remembered, too");
    for _ in 0..99 {
        rig.device.disk_mut().took(Duration::from_millis(21));
    }
    assert_eq!(rig.device.disk().detour(), 1 << 16, "and it has a bound");
}

#[test]
fn what_may_wait_long_for_storage_goes_through_io_uring_where_the_file_system_cannot_tell() {
    let file = NamedTempFile::new().unwrap();
    fs::write(file.path(), vec![7; 1 << 20]).unwrap();
    let mut disk = FileDisk::open(file.path(), false).unwrap();
    disk.cannot_tell();
    let mut rig = Rig::new(disk, false);
    if rig.counter("io_uring") == 0 {
        eprintln!("skipped: no io_uring");
        return;
    }
    let block = u32::try_from(fs::metadata(file.path()).unwrap().blksize()).unwrap();
    let mut through = 0;
    for (what, kind, sector, bytes, elsewhere) in [
        ("128 KiB of whole blocks", OUT, 0, 128 << 10, false),
        ("a large write", OUT, 0, (128 << 10) + block, true),
        ("a part of a block", OUT, 0, 512, true),
        ("a block that is two halves", OUT, 1, block, true),
        ("half a block, read", IN, 1, 512, false),
        ("a large read", IN, 0, (128 << 10) + 512, true),
    ] {
        assert_eq!(rig.request(kind, sector, bytes), OK, "{what}");
        through += u64::from(elsewhere);
        assert_eq!(rig.counter("through_io_uring"), through, "{what}");
    }
}

#[test]
fn zeroing_never_holds_the_event_loop_up() {
    for folder in ["/dev/shm".as_ref(), std::env::temp_dir().as_path()] {
        let Ok(file) = NamedTempFile::new_in(folder) else { continue };
        fs::write(file.path(), vec![7; 5 << 20]).unwrap();
        let mut rig = Rig::new(FileDisk::open(file.path(), false).unwrap(), false);
        if rig.counter("io_uring") == 0 {
            eprintln!("skipped: no io_uring");
            return;
        }
        // The first of its kind, and a driver that must be able to rely on each.
        assert_eq!(rig.range(WRITE_ZEROES, 1, 8192, 0), OK);
        assert_eq!(rig.counter("through_io_uring"), 1);
        rig.activate(!(1 << 9));
        assert_eq!(rig.range(WRITE_ZEROES, 8194, 2, UNMAP), OK);
        assert_eq!(rig.counter("through_io_uring"), 2);
        let content = fs::read(file.path()).unwrap();
        assert_eq!([0, 1, 8192, 8193, 8194, 8195, 8196].map(|n| content[n * 512]), [7, 0, 0, 7, 0, 0, 7]);
    }
}

#[test]
fn a_ring_that_is_lost_costs_no_request() {
    let file = image(16);
    let mut disk = FileDisk::open(file.path(), false).unwrap();
    disk.take_a_detour();
    let mut rig = Rig::new(disk, false);
    assert_eq!(rig.request(IN, 0, 512), OK);
    // Started, and not yet sent: as if the process were denied the next call.
    rig.device.disk_mut().deny_io_uring();
    rig.fill(9, 1024);
    assert_eq!(rig.request(OUT, 4, 1024), OK);
    assert_eq!(rig.counter("io_uring"), 0);
    assert_eq!([3, 4, 5, 6].map(|n| sector(&file, n)[0]), [4, 9, 9, 7]);
    assert_eq!(rig.request(FLUSH, 0, 0), OK);
    assert_eq!(rig.request(IN, 5, 512), OK);
    assert_eq!(rig.data(512), [9; 512]);
}

#[test]
fn a_vcpu_that_resets_leaves_what_a_lost_ring_was_to_do_to_the_event_loop() {
    let file = image(8);
    let mut disk = FileDisk::open(file.path(), false).unwrap();
    if disk.event().is_none() {
        eprintln!("skipped: no io_uring");
        return;
    }
    disk.take_a_detour();
    disk.deny_io_uring();
    let mut rig = Rig::new(disk, false);
    rig.fill(9, 512);
    let write = rig.buffers(OUT, 4, 512);
    rig.queue.offer(&write);
    // The turn ends there, and nothing of it is sent.
    rig.queue.make_available(99);
    assert!(rig.device.notify(0, Instant::now()).is_err());
    rig.device.reset();
    rig.device.drain(Thread::Vcpu);
    assert_eq!((rig.device.under_way(), rig.counter("io_uring")), (1, 1), "a vCPU does not do it itself");
    assert!(rig.device.disk().event().unwrap().read().is_ok(), "the event loop hears of it");
    rig.device.drain(Thread::EventLoop);
    assert_eq!((rig.device.under_way(), rig.counter("io_uring")), (0, 0));
    assert_eq!(sector(&file, 4), [9; 512]);
}

#[test]
fn an_image_is_written_by_one_machine_and_read_by_many() {
    let file = image(4);
    let path = file.path();
    let name = path.display();
    let reader = FileDisk::open(path, true).unwrap();
    let another = FileDisk::open(path, true).unwrap();
    let refusal = FileDisk::open(path, false).unwrap_err();
    assert_eq!(
        refusal.to_string(),
        format!("{name}: is in use by another disk, expected one that nobody else uses")
    );
    drop((reader, another));
    let writer = FileDisk::open(path, false).unwrap();
    assert!(matches!(FileDisk::open(path, false), Err(OpenError::InUse { .. })));
    let refusal = FileDisk::open(path, true).unwrap_err();
    assert_eq!(
        refusal.to_string(),
        format!("{name}: is in use by another disk, expected one that nobody writes")
    );
    drop(writer);
    FileDisk::open(path, false).unwrap();
}

#[test]
fn opening_an_image_changes_nothing_about_it() {
    let file = NamedTempFile::new().unwrap();
    fs::write(file.path(), vec![7; 10_000]).unwrap();
    let look = || {
        let found = fs::metadata(file.path()).unwrap();
        (found.len(), found.blocks(), fs::read(file.path()).unwrap())
    };
    let before = look();
    drop(FileDisk::open(file.path(), false).unwrap());
    assert_eq!(look(), before);
}

#[test]
fn a_header_of_another_format_is_bytes_of_the_disk_and_names_no_other_file() {
    // QCOW2, version 3, whose backing file is named at byte 112.
    let header = [&b"QFI\xfb\0\0\0\x03\0\0\0\0\0\0\0\x70\0\0\0\x0b"[..], &[0; 92], b"/etc/passwd"].concat();
    let bytes = [&header[..], &vec![1; 512 - header.len()]].concat();
    let file = image(4);
    by_every_way(&file, false, |rig| {
        rig.ram.write_slice(&bytes, GuestAddress(DATA_AT)).unwrap();
        assert_eq!(rig.request(OUT, 0, 512), OK);
    });
    // The next life of the machine.
    by_every_way(&file, true, |rig| {
        assert_eq!(rig.device.disk().bytes(), 4 * 512);
        assert_eq!((rig.request(IN, 0, 512), rig.data(512)), (OK, bytes.clone()));
    });
}

#[test]
fn what_is_no_disk_is_refused_in_one_line() {
    let refusal = FileDisk::open(Path::new("/nonexistent/disk.img"), true).unwrap_err();
    assert_eq!(refusal.to_string(), "/nonexistent/disk.img: cannot be opened");
    let refusal = FileDisk::open(Path::new("/dev/null"), true).unwrap_err();
    assert_eq!(refusal.to_string(), "/dev/null: not a disk image, expected a file or a block device");
    let folder = TempDir::new().unwrap();
    let pipe: PathBuf = folder.path().join("fifo");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let refusal = FileDisk::open(&pipe, true).unwrap_err();
    assert!(refusal.to_string().ends_with("not a disk image, expected a file or a block device"));
    let file = NamedTempFile::new().unwrap();
    let refusal = FileDisk::open(file.path(), true).unwrap_err();
    assert!(refusal.to_string().ends_with(": has 0 bytes, expected at least 512"));
}
