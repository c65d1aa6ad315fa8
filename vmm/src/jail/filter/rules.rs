//! What a line of a list says: a system call, and under which conditions on its arguments it may be made.

use std::collections::BTreeMap;
use std::ffi::c_long;

use super::dispatch::Verdict;
use seccompiler::{BackendError, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompRule};

/// A condition on one argument, counted from 0. All but the lower half is looked at where it says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// It is this number.
    Is(u8, u32),
    /// It is zero, both halves of it.
    Nothing(u8),
    /// Of these bits, exactly these are set: (argument, mask, bits).
    Bits(u8, u32, u32),
    /// None of these bits is set.
    Without(u8, u32),
}

impl Rule {
    fn compiled(self) -> Result<SeccompCondition, BackendError> {
        let (lower, all) = (SeccompCmpArgLen::Dword, SeccompCmpArgLen::Qword);
        let (argument, length, operator, value) = match self {
            Self::Is(argument, value) => (argument, lower, SeccompCmpOp::Eq, value),
            Self::Nothing(argument) => (argument, all, SeccompCmpOp::Eq, 0),
            Self::Bits(argument, mask, bits) => (argument, lower, SeccompCmpOp::MaskedEq(mask.into()), bits),
            Self::Without(argument, mask) => (argument, lower, SeccompCmpOp::MaskedEq(mask.into()), 0),
        };
        SeccompCondition::new(argument, length, operator, value.into())
    }
}

/// A system call that a thread may make: if all conditions of any of its alternatives hold, or always, if there are
/// none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Its number.
    pub number: c_long,
    /// The alternatives.
    pub any_of: Vec<Vec<Rule>>,
}

impl Call {
    /// Whatever its arguments are.
    pub(super) const fn always(number: c_long) -> Self {
        Self { number, any_of: Vec::new() }
    }

    /// If one condition of these holds.
    pub(super) fn if_any(number: c_long, rules: impl IntoIterator<Item = Rule>) -> Self {
        Self { number, any_of: rules.into_iter().map(|rule| vec![rule]).collect() }
    }

    /// Also where the other one of the same number may.
    pub(super) fn or(&mut self, other: Self) {
        if self.any_of.is_empty() || other.any_of.is_empty() {
            self.any_of.clear();
        } else {
            self.any_of.extend(other.any_of);
        }
    }

    /// What its number alone says. `None`: no call has that number.
    pub(super) fn verdict(&self) -> Option<(u32, Verdict)> {
        let verdict = if self.any_of.is_empty() { Verdict::Permitted } else { Verdict::Judged };
        Some((u32::try_from(self.number).ok()?, verdict))
    }

    /// If all of these hold.
    pub(super) fn if_all(number: c_long, rules: impl IntoIterator<Item = Rule>) -> Self {
        Self { number, any_of: vec![rules.into_iter().collect()] }
    }
}

/// Those whose arguments decide, as the compiler of filters wants them.
pub(super) fn of_arguments(calls: Vec<Call>) -> Result<BTreeMap<i64, Vec<SeccompRule>>, BackendError> {
    let mut all = BTreeMap::new();
    for Call { number, any_of } in calls.into_iter().filter(|call| !call.any_of.is_empty()) {
        let rules: Result<Vec<_>, _> = any_of
            .into_iter()
            .map(|rules| {
                let conditions: Result<Vec<_>, _> = rules.into_iter().map(Rule::compiled).collect();
                SeccompRule::new(conditions?)
            })
            .collect();
        all.insert(number, rules?);
    }
    Ok(all)
}
