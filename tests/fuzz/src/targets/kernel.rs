//! Kernels, initial RAM disks and command lines that are not what they say, for the loader.

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use hearth_vmm::arch;
use nix::sys::memfd::{MFdFlags, memfd_create};

use crate::wild::Wild;

/// Where the files keep their code.
const CODE: usize = 0x1000;
/// Bytes of code: more than what is mapped and not copied.
const CODE_BYTES: usize = 0x1_8000;
/// Where kernels are loaded.
const LOAD: u64 = 0x20_0000;

fn put(file: &mut [u8], at: usize, bytes: &[u8]) {
    if let Some(place) = at.checked_add(bytes.len()).and_then(|end| file.get_mut(at..end)) {
        place.copy_from_slice(bytes);
    }
}

fn field(sound: u64, wild: &mut Wild<'_>) -> u64 {
    match wild.byte() {
        0..=5 => wild.odd(),
        6..=9 => sound.wrapping_add(wild.below(0x4000)).wrapping_sub(0x2000),
        _ => sound,
    }
}

fn field32(sound: u32, wild: &mut Wild<'_>) -> u32 {
    u32::try_from(field(sound.into(), wild) & 0xffff_ffff).unwrap_or(0)
}

fn field16(sound: u16, wild: &mut Wild<'_>) -> u16 {
    u16::try_from(field(sound.into(), wild) & 0xffff).unwrap_or(0)
}

fn blank() -> Vec<u8> {
    let mut file = vec![0x90; CODE + CODE_BYTES];
    file[..CODE].fill(0);
    file
}

/// An ELF file with segments that may overlap or lie beyond its end, and a PVH note.
fn vmlinux(wild: &mut Wild<'_>) -> Vec<u8> {
    let mut file = blank();
    put(&mut file, 0, b"\x7fELF\x02\x01\x01");
    put(&mut file, 18, &field16(62, wild).to_le_bytes());
    put(&mut file, 24, &field(LOAD, wild).to_le_bytes());
    put(&mut file, 32, &field(64, wild).to_le_bytes());
    put(&mut file, 54, &field16(56, wild).to_le_bytes());
    put(&mut file, 56, &field16(3, wild).to_le_bytes());
    let code = CODE as u64;
    let segments = [
        (1, [code, 0, LOAD, 0x1_0000, 0x1_0000]),
        (1, [code + 0x1_0000, 0, LOAD + 0x10_0000, 0x7000, 0x9_0000]),
        (4, [0x200, 0, 0, 20, 20]),
    ];
    for (index, (kind, words)) in segments.into_iter().enumerate() {
        put(&mut file, 64 + index * 56, &field32(kind, wild).to_le_bytes());
        for (word, sound) in words.into_iter().enumerate() {
            put(&mut file, 64 + index * 56 + 8 + word * 8, &field(sound, wild).to_le_bytes());
        }
    }
    let note = [4, 4, 18, u32::from_le_bytes(*b"Xen\0"), 0x20_0040];
    for (index, sound) in note.into_iter().enumerate() {
        put(&mut file, 0x200 + index * 4, &field32(sound, wild).to_le_bytes());
    }
    file
}

/// A bzImage.
fn bz_image(wild: &mut Wild<'_>) -> Vec<u8> {
    let mut file = blank();
    put(&mut file, 0x1f1, &[field16(7, wild).to_le_bytes()[0]]);
    put(&mut file, 0x1f4, &field32(0x2000, wild).to_le_bytes());
    put(&mut file, 0x1fe, &field16(0xaa55, wild).to_le_bytes());
    put(&mut file, 0x202, b"HdrS");
    put(&mut file, 0x206, &field16(0x20f, wild).to_le_bytes());
    put(&mut file, 0x211, &[1]);
    put(&mut file, 0x22c, &field32(0x7fff_ffff, wild).to_le_bytes());
    put(&mut file, 0x236, &field16(1, wild).to_le_bytes());
    put(&mut file, 0x238, &field32(255, wild).to_le_bytes());
    put(&mut file, 0x258, &field(0x100_0000, wild).to_le_bytes());
    put(&mut file, 0x260, &field32(0x10_0000, wild).to_le_bytes());
    file
}

/// An Image of ARM64.
fn arm_image(wild: &mut Wild<'_>) -> Vec<u8> {
    let mut file = blank();
    put(&mut file, 8, &field(0, wild).to_le_bytes());
    put(&mut file, 16, &field(0x10_0000, wild).to_le_bytes());
    put(&mut file, 24, &field(0xa, wild).to_le_bytes());
    put(&mut file, 56, b"ARM\x64");
    put(&mut file, 60, &field32(0x40, wild).to_le_bytes());
    file
}

/// A file without a name, and the path that leads to it.
fn file(content: &[u8]) -> Option<(OwnedFd, PathBuf)> {
    let descriptor = memfd_create(c"fuzz", MFdFlags::MFD_CLOEXEC).ok()?;
    let file = File::from(descriptor);
    file.write_all_at(content, 0).ok()?;
    let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
    Some((file.into(), path))
}

/// The target.
pub fn run(data: &[u8]) {
    let mut wild = Wild::new(data);
    let mut kernel = match wild.byte() % 7 {
        0 => wild.bytes(5000),
        1..=3 => vmlinux(&mut wild),
        4 => arm_image(&mut wild),
        _ => bz_image(&mut wild),
    };
    if wild.one_in(6) {
        kernel.truncate(wild.index(kernel.len()));
    }
    for _ in 0..wild.index(4) {
        let (at, byte) = (wild.index(0x400), wild.byte());
        put(&mut kernel, at, &[byte]);
    }
    let Some((_kernel, path)) = file(&kernel) else { return };
    let examined = arch::examine_kernel(&path).is_ok();
    load(&path, examined, &mut wild);
}

/// Loads it with whatever goes with it. On ARM64 this takes an interrupt controller, which only a KVM has.
#[cfg(target_arch = "x86_64")]
fn load(path: &std::path::Path, examined: bool, wild: &mut Wild<'_>) {
    use hearth_vmm::arch::{BootFiles, Chipset, Entry, Fittings};
    use hearth_vmm::mapped_file::Mapped;
    use vm_memory::GuestMemoryBackend;

    const LEAST_MIB: usize = 4;
    let Some((_initrd, initrd)) = file(&vec![7; wild.index(300_000)]) else { return };
    let bytes = (LEAST_MIB + wild.index(36)) << 20;
    let Ok(memory) = hearth_vmm::memory::allocate(&arch::ram_ranges(bytes)) else { return };
    let cmdline = "x".repeat(if wild.one_in(8) { wild.index(5000) } else { 30 });
    let mapped = Mapped::default();
    let initrd = wild.one_in(2).then_some(initrd.as_path());
    let files = BootFiles { kernel: path, initrd, cmdline: &cmdline, mapped: &mapped };
    let slots: Vec<_> = (0..3).filter_map(arch::mmio_slot).collect();
    let fittings = Fittings { vcpus: 2, slots: &slots, serial: true, watchdog: true };
    if let Ok(entry) = arch::load(&memory, &files, &Chipset, &fittings) {
        assert!(examined, "what is loaded was examined");
        let (Entry::Pvh { address } | Entry::Linux64 { address }) = entry;
        assert!(memory.address_in_range(address), "a guest starts in its RAM");
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn load(_path: &std::path::Path, _examined: bool, _wild: &mut Wild<'_>) {}
