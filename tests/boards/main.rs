//! Whole boxes in QEMU, driven as a person drives them: `cargo xtask board run`, its console, its power button.
#![forbid(unsafe_code)]
