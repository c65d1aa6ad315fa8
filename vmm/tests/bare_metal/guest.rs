//! Writes test guests: a handful of 32-bit instructions in an ELF file with a PVH note.

use std::path::Path;

/// Machine code that runs from the PVH entry on: 32-bit, flat, paging and interrupts off.
pub(crate) struct Guest {
    code: Vec<u8>,
    load_address: u64,
}

const SERIAL_PORT: u16 = 0x3f8;

impl Guest {
    pub(crate) fn new() -> Self {
        Self { code: Vec::new(), load_address: 0x10_0000 }
    }

    /// Loads the code somewhere else than at 1 MiB.
    pub(crate) fn at(mut self, address: u64) -> Self {
        self.load_address = address;
        self
    }

    fn emit(mut self, bytes: &[u8]) -> Self {
        self.code.extend_from_slice(bytes);
        self
    }

    fn select_port(self, port: u16) -> Self {
        self.emit(&[0x66, 0xba]).emit(&port.to_le_bytes()) // mov dx, port
    }

    pub(crate) fn out(self, port: u16, value: u8) -> Self {
        self.select_port(port).emit(&[0xb0, value, 0xee]) // mov al, value; out dx, al
    }

    pub(crate) fn print(self, text: &str) -> Self {
        text.bytes().fold(self, |guest, byte| guest.out(SERIAL_PORT, byte))
    }

    /// Prints through `emerg_wr` of the console at `registers`: one store for each byte, no driver.
    pub(crate) fn print_in_emergency(self, registers: u32, text: &str) -> Self {
        text.bytes().fold(self, |guest, byte| guest.store_byte(registers + 0x108, byte))
    }

    pub(crate) fn repeat_print(self, byte: u8, times: u32) -> Self {
        self.select_port(SERIAL_PORT)
            .emit(&[0xb0, byte]) // mov al, byte
            .emit(&[0xb9]) // mov ecx, times
            .emit(&times.to_le_bytes())
            .emit(&[0xee, 0x49, 0x75, 0xfc]) // 1: out dx, al; dec ecx; jnz 1b
    }

    /// Prints four bytes of memory, those that are no ASCII as `?`.
    pub(crate) fn print_word_at(self, address: u32) -> Self {
        let load = self.emit(&[0xa1]).emit(&address.to_le_bytes()).select_port(SERIAL_PORT); // mov eax, [..]
        (0..4).fold(load, |guest, _| {
            guest.emit(&[
                0x84, 0xc0, // test al, al
                0x79, 0x02, // jns 1f
                0xb0, b'?', // mov al, '?'
                0xee, // 1: out dx, al
                0xc1, 0xe8, 0x08, // shr eax, 8
            ])
        })
    }

    /// Stores a word.
    pub(crate) fn store(self, address: u32, value: u32) -> Self {
        self.emit(&[0xc7, 0x05]).emit(&address.to_le_bytes()).emit(&value.to_le_bytes()) // mov dword ptr [..], value
    }

    /// Reads half a word in memory until it is `value`.
    pub(crate) fn wait_for_half(self, address: u32, value: u16) -> Self {
        self.emit(&[0x66, 0x81, 0x3d]) // 1: cmp word ptr [..], value
            .emit(&address.to_le_bytes())
            .emit(&value.to_le_bytes())
            .emit(&[0x75, 0xf5]) // jne 1b
    }

    /// Stores a byte.
    pub(crate) fn store_byte(self, address: u32, value: u8) -> Self {
        self.emit(&[0xc6, 0x05]).emit(&address.to_le_bytes()).emit(&[value]) // mov byte ptr [..], value
    }

    /// Does all of it again, for ever.
    pub(crate) fn again_and_again(self) -> Self {
        let back = i32::try_from(self.code.len() + 5).unwrap();
        self.emit(&[0xe9]).emit(&(-back).to_le_bytes()) // jmp
    }

    /// Writes to a port where nothing is, for ever: every write is an exit that can be counted.
    pub(crate) fn knock(self) -> Self {
        self.select_port(0x80).emit(&[0xee, 0xeb, 0xfd]) // 1: out dx, al; jmp 1b
    }

    /// The same, so many times.
    pub(crate) fn knock_times(self, times: u32) -> Self {
        self.select_port(0x80).emit(&[0xb9]).emit(&times.to_le_bytes()).emit(&[0xee, 0x49, 0x75, 0xfc])
    }

    /// Prints what the serial port receives, until it has received `last`.
    pub(crate) fn echo_until(self, last: u8) -> Self {
        self.emit(&[
            0x66, 0xba, 0xfd, 0x03, // 1: mov dx, 0x3fd
            0xec, // 2: in al, dx
            0xa8, 0x01, // test al, 1
            0x74, 0xfb, // jz 2b
            0x66, 0xba, 0xf8, 0x03, // mov dx, 0x3f8
            0xec, // in al, dx
            0xee, // out dx, al
            0x3c, last, // cmp al, last
            0x75, 0xed, // jne 1b
        ])
    }

    /// Sleeps with interrupts off: for ever.
    pub(crate) fn halt(self) -> Self {
        self.emit(&[0xf4, 0xeb, 0xfd]) // 1: hlt; jmp 1b
    }

    pub(crate) fn spin(self) -> Self {
        self.emit(&[0xeb, 0xfe]) // 1: jmp 1b
    }

    pub(crate) fn undefined_instruction(self) -> Self {
        self.emit(&[0x0f, 0x0b]) // ud2
    }

    /// The ELF file: header, a segment with the code, and the note that makes it a PVH kernel.
    pub(crate) fn write(&self, path: &Path) {
        const NOTE_AT: u64 = 64 + 2 * 56;
        let entry = u32::try_from(self.load_address).unwrap();
        let mut note = Vec::new();
        for word in [4u32, 4, 18] {
            note.extend(word.to_le_bytes()); // name size, descriptor size, XEN_ELFNOTE_PHYS32_ENTRY
        }
        note.extend(b"Xen\0");
        note.extend(entry.to_le_bytes());
        let code_at = NOTE_AT + note.len() as u64;

        let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
        file.extend([2, 0, 62, 0, 1, 0, 0, 0]); // executable, x86_64, version 1
        for word in [self.load_address, 64, 0] {
            file.extend(word.to_le_bytes()); // entry, program headers, section headers
        }
        file.extend([0, 0, 0, 0, 64, 0, 56, 0, 2, 0, 0, 0, 0, 0, 0, 0]);
        for (kind, at, bytes) in [(1u32, code_at, self.code.len() as u64), (4, NOTE_AT, note.len() as u64)] {
            file.extend(kind.to_le_bytes());
            file.extend(7u32.to_le_bytes());
            for word in [at, self.load_address, self.load_address, bytes, bytes, 4] {
                file.extend(word.to_le_bytes());
            }
        }
        file.extend(note);
        file.extend(&self.code);
        std::fs::write(path, file).unwrap();
    }
}
