//! The workload of the boot race: says that it runs, and stays.
//!
//! A program of its own, because every byte of an initramfs is copied at each boot: what is raced is a monitor and a
//! kernel, not the unpacking of tests.
#![forbid(unsafe_code)]

use std::io::Write;

fn main() {
    let _ = std::io::stdout().write_all(b"READY\n");
    // The stopwatch looks at the monitor now, and then ends it.
    loop {
        std::thread::park();
    }
}
