//! `board plug`: power cuts.
//!
//! Duty: when the plug is pulled, and what the box had acknowledged by then. Not here: deciding, and knowing it again
//! (`tests/probe/hurt/plug.rs`).
//! Invariant: a board is killed without a word to it, and all that passes from one boot to the next is its disk.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use super::{BoardError, ScratchDisk, Started, Ways, scratch_disk, start};
use crate::boards::probe;
use crate::boards::qemu::Pace;
use crate::boards::session::Event;
use crate::boards::{Board, Kvm, image::BoardImage};
use crate::debian::packages::{self, Need};
use crate::verbs::doctor;
use crate::workshop::Workshop;

/// For a box to boot and say what it knows, on a slow machine.
const PATIENCE: Duration = Duration::from_secs(240);
/// The plug is pulled at most so long after the box has said what it knows; decisions take some 30 ms each.
const DECIDING_MS: u64 = 3000;
/// One in so many is pulled while the box boots, at most so long after power-on.
const EARLY: u64 = 4;
const BOOTING_MS: u64 = 12_000;

/// What is said of a boot.
enum Boot {
    /// Pulled, with the last decision.
    Cut {
        last: u64,
        early: bool,
    },
    Well,
}

struct Patient<'a> {
    board: Board,
    image: &'a BoardImage,
    disk: &'a ScratchDisk,
    host: Kvm,
}

pub(super) fn run(shop: &Workshop, board: Board, times: u32, seed: u64) -> Result<ExitCode, BoardError> {
    packages::require(shop, &[Need::Board(board.arch())])?;
    let image = probe::hurt_image(shop, board.arch())?;
    let disk = scratch_disk(shop)?;
    let patient = Patient { board, image: &image, disk: &disk, host: doctor::measure(shop)? };
    let mut dice = Dice(seed);
    let (mut last, mut early_ones) = (0, 0);
    for cut in 1..=times {
        let early = dice.roll(EARLY) == 0;
        match patient.boot(
            cut - 1,
            last,
            Some((early, dice.roll(if early { BOOTING_MS } else { DECIDING_MS }))),
        )? {
            Boot::Cut { last: decided, early } => {
                let when =
                    if early { "while it booted".to_owned() } else { format!("after decision {decided}") };
                println!("cut {cut} of {times}: {when}");
                last = decided;
                early_ones += u32::from(early);
            }
            Boot::Well => {
                return Err(BoardError::Lost { cuts: cut, words: "the box ended by itself".to_owned() });
            }
        }
    }
    match patient.boot(times, last, None)? {
        Boot::Well => {
            println!(
                "plug: {times} cuts, {early_ones} of them while the box booted, {last} decisions, none lost"
            );
            Ok(ExitCode::SUCCESS)
        }
        Boot::Cut { .. } => Err(BoardError::Lost { cuts: times, words: "the last boot was cut".to_owned() }),
    }
}

impl Patient<'_> {
    /// Boots after `cuts` cuts; `pull` says whether the plug is pulled early, and after how many milliseconds.
    fn boot(&self, cuts: u32, mut last: u64, pull: Option<(bool, u64)>) -> Result<Boot, BoardError> {
        let mut program = vec!["--beside".to_owned(), probe::PROGRAM.into(), "plug".into(), last.to_string()];
        program.extend(pull.is_none().then(|| "finish".to_owned()));
        let Started { mut session, .. } = start(
            self.board,
            self.image,
            Pace::Real,
            self.host,
            &program,
            Some(&self.disk.path),
            Ways::default(),
        )?;
        let on = Instant::now();
        let (mut known, mut well) = (false, false);
        let mut at = match pull {
            Some((true, ms)) => on + Duration::from_millis(ms),
            _ => on + PATIENCE,
        };
        loop {
            match session.next(Some(at))? {
                Event::Line(line) => {
                    if let Some(number) = line.strip_prefix("plug: decided ") {
                        last = number.parse().unwrap_or(last);
                    } else if line.starts_with("plug: decision ") {
                        known = true;
                        if let Some((false, ms)) = pull {
                            at = Instant::now() + Duration::from_millis(ms);
                        }
                    } else if line.starts_with("plug: LOST") {
                        return Err(BoardError::Lost { cuts, words: line });
                    }
                    well |= line == "plug: in full health";
                }
                // Dropping the session kills the board.
                Event::Deadline if pull.is_some_and(|(early, _)| early) || known => {
                    return Ok(Boot::Cut { last, early: !known });
                }
                Event::Deadline => {
                    let words = format!("the box says nothing for {} s", PATIENCE.as_secs());
                    return Err(BoardError::Lost { cuts, words });
                }
                Event::Ended(_) if well => return Ok(Boot::Well),
                Event::Ended(status) => {
                    return Err(BoardError::Lost { cuts, words: format!("the board ended: {status}") });
                }
            }
        }
    }
}

/// Numbers that the same seed repeats; nothing depends on how good they are.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        // Knuth's multiplier for 64 bits.
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides.max(1)
    }
}
