//! The head of a filter: from the number of a call to what becomes of it, by halving.
//!
//! Duty: of all numbers, the runs of those that are permitted, forbidden, or decided by their arguments; and the
//! comparisons that find the run of one. Not here: arguments; `seccompiler`'s program for those stands behind.
//!
//! Why that crate's own head does not do: it compares a number with each of the list in turn. When a thread goes behind
//! a filter, the kernel walks it for every call that there is, to keep those that are always permitted in a table; with
//! thirty lines that took a third of a millisecond for each thread of a machine, half of all that a jail may take.
//!
//! Invariant: what is on no list is in a run that is forbidden, and so is every call of another architecture's.

use seccompiler::{BpfProgram, sock_filter};

// `linux/filter.h`, `linux/seccomp.h`, `linux/audit.h`.
const LOAD: u16 = 0x20;
const IF_EQUAL: u16 = 0x15;
const IF_NOT_LESS: u16 = 0x35;
const RETURN: u16 = 0x06;
const PERMIT: u32 = 0x7fff_0000;
const KILL_PROCESS: u32 = 0x8000_0000;
const NUMBER_AT: u32 = 0;
const ARCHITECTURE_AT: u32 = 4;
#[cfg(target_arch = "x86_64")]
const OURS: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const OURS: u32 = 0xc000_00b7;

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Permitted,
    Forbidden,
    /// Its arguments decide.
    Judged,
}

/// Numbers from this one on, up to the next run's.
type Run = (u32, Verdict);

const fn instruction(code: u16, k: u32) -> sock_filter {
    sock_filter { code, jt: 0, jf: 0, k }
}

/// `calls`, in front of the program that judges arguments. `None`: there are more than one jump can pass over.
pub(super) fn with_head(mut calls: Vec<Run>, judge: BpfProgram) -> Option<BpfProgram> {
    calls.sort_unstable_by_key(|(number, _)| *number);
    let mut runs = vec![(0, Verdict::Forbidden)];
    for (number, verdict) in calls {
        begin(&mut runs, (number, verdict));
        begin(&mut runs, (number + 1, Verdict::Forbidden));
    }
    let mut head = vec![
        instruction(LOAD, ARCHITECTURE_AT),
        sock_filter { code: IF_EQUAL, jt: 1, jf: 0, k: OURS },
        instruction(RETURN, KILL_PROCESS),
        instruction(LOAD, NUMBER_AT),
    ];
    let tree = head.len();
    halve(&runs, &mut head)?;
    // Where each verdict is carried out, behind all comparisons; the judge last, without a jump.
    let end = head.len();
    let place = |verdict| {
        end + match verdict {
            Verdict::Permitted => 0,
            Verdict::Forbidden => 1,
            Verdict::Judged => 2,
        }
    };
    for at in tree..end {
        let instruction = head.get_mut(at)?;
        for way in [&mut instruction.jt, &mut instruction.jf] {
            if let Some(verdict) = MARKS.iter().find(|(mark, _)| mark == way).map(|(_, verdict)| *verdict) {
                *way = u8::try_from(place(verdict) - at - 1).ok().filter(|way| *way < FIRST_MARK)?;
            }
        }
    }
    head.extend([instruction(RETURN, PERMIT), instruction(RETURN, KILL_PROCESS)]);
    head.extend(judge);
    Some(head)
}

/// Ends the run before, where that is another one.
fn begin(runs: &mut Vec<Run>, (number, verdict): Run) {
    if let Some(last) = runs.last_mut()
        && last.0 == number
    {
        last.1 = verdict;
        // Which may be as the one before it.
        if let [.., before, last] = runs.as_slice()
            && before.1 == last.1
        {
            runs.pop();
        }
    } else if runs.last().is_none_or(|last| last.1 != verdict) {
        runs.push((number, verdict));
    }
}

/// Ways to a verdict whose place is not known yet; no comparison is that far from another.
const FIRST_MARK: u8 = 253;
const MARKS: [(u8, Verdict); 3] =
    [(FIRST_MARK, Verdict::Permitted), (254, Verdict::Forbidden), (255, Verdict::Judged)];

/// Comparisons that find the run which a number is in, of two or more.
fn halve(runs: &[Run], program: &mut BpfProgram) -> Option<()> {
    let (lower, upper) = runs.split_at(runs.len() / 2);
    let at = program.len();
    program.push(instruction(IF_NOT_LESS, upper.first()?.0));
    let jf = descend(lower, at, program)?;
    let jt = descend(upper, at, program)?;
    let comparison = program.get_mut(at)?;
    (comparison.jt, comparison.jf) = (jt, jf);
    Some(())
}

/// How far it is from the comparison at `at` to what finds the run among these.
fn descend(runs: &[Run], at: usize, program: &mut BpfProgram) -> Option<u8> {
    if let [(_, verdict)] = runs {
        return MARKS.iter().find(|(_, of)| of == verdict).map(|(mark, _)| *mark);
    }
    let way = u8::try_from(program.len() - at - 1).ok().filter(|way| *way < FIRST_MARK)?;
    halve(runs, program).map(|()| way)
}
