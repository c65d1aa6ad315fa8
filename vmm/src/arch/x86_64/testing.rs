//! Kernels to load in tests: files with sound headers and no code worth running.

/// Where the files keep their code.
const CODE: usize = 0x1000;
/// Where they are loaded.
pub(super) const LOAD: u64 = 0x20_0000;

/// Overwrites a part of a file.
pub(super) fn bytes_into(file: &mut [u8], at: usize, bytes: &[u8]) {
    file[at..at + bytes.len()].copy_from_slice(bytes);
}

/// A kernel with two segments and a PVH note.
pub(crate) fn vmlinux() -> Vec<u8> {
    let mut file = vec![0x90; CODE + 0x2_0000];
    file[..CODE].fill(0);
    bytes_into(&mut file, 0, b"\x7fELF\x02\x01\x01");
    bytes_into(&mut file, 18, &62u16.to_le_bytes());
    bytes_into(&mut file, 24, &LOAD.to_le_bytes());
    bytes_into(&mut file, 32, &64u64.to_le_bytes());
    bytes_into(&mut file, 54, &56u16.to_le_bytes());
    bytes_into(&mut file, 56, &3u16.to_le_bytes());
    let segments: [(u32, [u64; 5]); 3] = [
        (1, [CODE as u64, 0, LOAD, 0x1_8123, 0x1_8123]),
        (1, [CODE as u64 + 0x1_9000, 0, LOAD + 0x10_0000, 0x7000, 0x9_0000]),
        (4, [0x200, 0, 0, 20, 20]),
    ];
    for (index, (kind, words)) in segments.into_iter().enumerate() {
        bytes_into(&mut file, 64 + index * 56, &kind.to_le_bytes());
        for (word, value) in words.into_iter().enumerate() {
            bytes_into(&mut file, 64 + index * 56 + 8 + word * 8, &value.to_le_bytes());
        }
    }
    let entry = u32::try_from(LOAD + 0x40).unwrap();
    for (index, word) in [4, 4, 18, u32::from_le_bytes(*b"Xen\0"), entry].into_iter().enumerate() {
        bytes_into(&mut file, 0x200 + index * 4, &word.to_le_bytes());
    }
    file
}

/// A bzImage of 128 KiB of code that takes 255 bytes of command line.
pub(super) fn bz_image(pref_address: u64, init_size: u32) -> Vec<u8> {
    let mut file = vec![0x90; CODE + 0x2_0000];
    file[..CODE].fill(0);
    bytes_into(&mut file, 0x1f1, &[7]);
    bytes_into(&mut file, 0x1f4, &0x2000u32.to_le_bytes());
    bytes_into(&mut file, 0x1fe, &0xaa55u16.to_le_bytes());
    bytes_into(&mut file, 0x202, b"HdrS");
    bytes_into(&mut file, 0x206, &0x20fu16.to_le_bytes());
    bytes_into(&mut file, 0x211, &[1]);
    bytes_into(&mut file, 0x22c, &0x7fff_ffffu32.to_le_bytes());
    bytes_into(&mut file, 0x236, &1u16.to_le_bytes());
    bytes_into(&mut file, 0x238, &255u32.to_le_bytes());
    bytes_into(&mut file, 0x258, &pref_address.to_le_bytes());
    bytes_into(&mut file, 0x260, &init_size.to_le_bytes());
    file
}
