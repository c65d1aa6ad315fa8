//! The file `state`: everything about a machine but its memory.
//!
//! ```text
//! "HEARTHVM"  format: u32  length of the body: u32  CRC-32 of the body: u32  body (postcard)
//! ```
//!
//! Duty: what is in it, and whether bytes are such a file. Not its duty: whether the machine can go on here; the parts
//! say that ([`Part::restore`](super::Part::restore), `arch/*/saved.rs`).
//!
//! Invariant: reading takes no more memory than a small multiple of the bytes read, whatever they are: every list in
//! a state is of elements that take bytes of the file. Numbers are little endian.

use std::time::Duration;

use crc::{CRC_32_ISO_HDLC, Crc};
use serde::{Deserialize, Serialize};

use super::part::PartState;
use crate::arch::{ChipsetState, VcpuState};
use crate::memory::Run;

/// Raised when a field changes its place or meaning. Other formats are refused: a snapshot is made again in a second.
pub const FORMAT: u32 = 1;
const MAGIC: [u8; 8] = *b"HEARTHVM";
const HEADER: usize = 20;
/// Bytes of a state, at most: sixteen vCPUs and twenty devices have a third of a megabyte, the runs of a difference
/// as much again. It bounds what reading takes to some tens of megabytes.
pub const MAX_BYTES: usize = 1 << 20;
/// Runs of a difference, at most.
pub const MAX_RUNS: usize = 32 << 10;
/// Where the state was made for.
pub const ARCHITECTURE: &str = std::env::consts::ARCH;

const CRC: Crc<u32> = Crc::<u32>::new(&CRC_32_ISO_HDLC);

/// A snapshot's name among all snapshots of all boxes.
#[derive(Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Id(pub [u8; 16]);

impl Id {
    /// A name that no other snapshot has.
    pub fn draw() -> std::io::Result<Self> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).map_err(|error| std::io::Error::other(error.to_string()))?;
        Ok(Self(bytes))
    }
}

impl std::fmt::Display for Id {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl std::fmt::Debug for Id {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

/// What a person and a fleet want to know of a snapshot; the manifest says all of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// As in [`ARCHITECTURE`].
    pub architecture: String,
    /// Its own name.
    pub id: Id,
    /// The full snapshot that this one is a difference to.
    pub base: Option<Id>,
    /// The program that made it.
    pub program: String,
    /// Seconds since 1970, by the host's clock.
    pub taken_at: u64,
    /// Processors.
    pub vcpus: u8,
    /// What the processor can do, in one number.
    pub processor: u64,
    /// Bytes of guest memory, and of the file that holds it.
    pub memory_bytes: u64,
    /// Of all of the memory; see [`sum`](super::sum). Of a difference: of its own pages.
    pub memory_sum: u64,
    /// Disks, in the machine's order.
    pub disks: Vec<DiskState>,
}

/// A disk, as far as it can be told from others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskState {
    /// What the configuration calls it.
    pub id: String,
    /// Its size.
    pub bytes: u64,
    /// Whether the guest may write to it.
    pub read_only: bool,
    /// A sum of its first and last pages.
    pub sum: u64,
}

/// All of a machine but its memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineState {
    /// For people.
    pub about: About,
    /// How long the machine has run, without its pauses.
    pub ran: Duration,
    /// What vCPUs share.
    pub chipset: ChipsetState,
    /// Every vCPU.
    pub vcpus: Vec<VcpuState>,
    /// Every part, in the machine's order, by its name.
    pub parts: Vec<(String, PartState)>,
    /// Which memory a difference has; empty in a full snapshot, which has all.
    pub runs: Vec<Run>,
}

/// Why bytes are no state of this program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Something else.
    #[error("not the state of a machine")]
    Magic,
    /// Of another version.
    #[error("has format {0}, expected {FORMAT}: made by another version")]
    Format(u32),
    /// Cut short, or longer than it says.
    #[error("has {found} bytes, expected {expected}: cut short or not all of it")]
    Length {
        /// What its header says.
        expected: u64,
        /// What there is.
        found: u64,
    },
    /// Longer than any.
    #[error("has more than {MAX_BYTES} bytes, which no machine has")]
    TooLong,
    /// Altered.
    #[error("its checksum does not match: altered or damaged")]
    Checksum,
    /// The checksum is right and the content is not: of a program that is not this one, or made by hand.
    #[error("its content is none that this program writes")]
    Content,
    /// Of another architecture.
    #[error("is of another architecture, expected {ARCHITECTURE}")]
    Architecture,
}

/// The file of `state`.
#[must_use]
pub fn encode(state: &MachineState) -> Vec<u8> {
    // A vector takes all that it is given, and nothing in a state refuses to be written.
    let written = postcard::to_extend(&(&state.about.architecture, state), vec![0; HEADER]);
    let mut file = written.unwrap_or_else(|error| {
        log::error!("a machine's state cannot be written: {error}");
        vec![0; HEADER]
    });
    let body = file.get(HEADER..).unwrap_or_default();
    let (length, sum) = (u32::try_from(body.len()).unwrap_or(u32::MAX), CRC.checksum(body));
    let header = [&MAGIC[..], &FORMAT.to_le_bytes(), &length.to_le_bytes(), &sum.to_le_bytes()].concat();
    file.iter_mut().zip(header).for_each(|(to, from)| *to = from);
    file
}

/// The state in a file.
pub fn decode(file: &[u8]) -> Result<MachineState, Fault> {
    if file.len() > MAX_BYTES {
        return Err(Fault::TooLong);
    }
    let found = file.len() as u64;
    let cut = Fault::Length { expected: HEADER as u64, found };
    let (magic, rest) = file.split_first_chunk::<8>().ok_or(cut)?;
    if *magic != MAGIC {
        return Err(Fault::Magic);
    }
    let (format, rest) = rest.split_first_chunk::<4>().ok_or(cut)?;
    let format = u32::from_le_bytes(*format);
    if format != FORMAT {
        return Err(Fault::Format(format));
    }
    let (length, rest) = rest.split_first_chunk::<4>().ok_or(cut)?;
    let (sum, body) = rest.split_first_chunk::<4>().ok_or(cut)?;
    let expected = u64::from(u32::from_le_bytes(*length)).saturating_add(HEADER as u64);
    if expected != found {
        return Err(Fault::Length { expected, found });
    }
    if CRC.checksum(body) != u32::from_le_bytes(*sum) {
        return Err(Fault::Checksum);
    }
    // Before what only this architecture can read.
    let (architecture, rest): (&str, _) = postcard::take_from_bytes(body).map_err(|_| Fault::Content)?;
    if architecture != ARCHITECTURE {
        return Err(Fault::Architecture);
    }
    match postcard::take_from_bytes::<MachineState>(rest) {
        // It says so twice: what is before it, and what people are told.
        Ok((state, [])) if state.about.architecture == ARCHITECTURE => Ok(state),
        Ok(_) | Err(_) => Err(Fault::Content),
    }
}

#[cfg(test)]
mod tests;
