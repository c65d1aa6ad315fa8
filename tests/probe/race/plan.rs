//! Who takes part, and how often: a file of lines that `cargo xtask bench` writes.
//!
//! ```text
//! rounds 5
//! guest_mib 128
//! contender hearth-vmm
//! control /run/control.sock
//! word /usr/bin/hearth-vmm
//! word run
//! word /bench/vm.toml
//! worker hearth-vmm
//! word /usr/bin/hearth-vmm
//! ```

use std::path::{Path, PathBuf};

/// One monitor and how to start it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Contender {
    pub(crate) name: String,
    pub(crate) command: Vec<String>,
    /// Its control socket, if it speaks our language there.
    pub(crate) control: Option<PathBuf>,
}

/// A race.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Plan {
    /// Runs that count, for each contender; one more before them does not.
    pub(crate) rounds: u32,
    /// Memory of each guest.
    pub(crate) guest_mib: u64,
    pub(crate) contenders: Vec<Contender>,
    /// Those of the work race.
    pub(crate) workers: Vec<Contender>,
}

impl Contender {
    fn named(name: &str) -> Self {
        Self { name: name.to_owned(), ..Self::default() }
    }
}

impl Plan {
    /// Whoever was named last, whom what follows belongs to; workers come behind all others.
    fn last(&mut self) -> Option<&mut Contender> {
        self.workers.last_mut().or(self.contenders.last_mut())
    }
}

/// Why there is no race.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PlanError {
    #[error("{path}: {source}")]
    Read { path: String, source: std::io::Error },
    #[error(
        "{path}:{line}: expected `rounds N`, `guest_mib N`, `contender NAME`, `worker NAME`, `control PATH` or \
         `word TEXT`"
    )]
    Line { path: String, line: usize },
    #[error("contender {name}: {what}")]
    Contender { name: String, what: String },
}

pub(crate) fn read(path: &Path) -> Result<Plan, PlanError> {
    let name = path.display().to_string();
    let text =
        std::fs::read_to_string(path).map_err(|source| PlanError::Read { path: name.clone(), source })?;
    parse(&text).map_err(|line| PlanError::Line { path: name, line })
}

/// The plan, or the number of the line that is none.
fn parse(text: &str) -> Result<Plan, usize> {
    let mut plan = Plan::default();
    for (number, line) in (1..).zip(text.lines()) {
        let (key, value) = line.split_once(' ').ok_or(number)?;
        match key {
            "rounds" => plan.rounds = value.parse().map_err(|_| number)?,
            "guest_mib" => plan.guest_mib = value.parse().map_err(|_| number)?,
            "contender" => plan.contenders.push(Contender::named(value)),
            "worker" => plan.workers.push(Contender::named(value)),
            "control" => plan.last().ok_or(number)?.control = Some(value.into()),
            "word" => plan.last().ok_or(number)?.command.push(value.to_owned()),
            _ => return Err(number),
        }
    }
    Ok(plan)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_belong_to_the_contender_before_them() {
        let plan =
            parse("rounds 3\nguest_mib 64\ncontender a\nword x\nword y z\ncontender b\ncontrol c\nword w\n")
                .unwrap();
        assert_eq!((plan.rounds, plan.guest_mib), (3, 64));
        assert_eq!(plan.contenders[0].command, ["x", "y z"]);
        assert_eq!(plan.contenders[1].command, ["w"]);
        assert_eq!(
            (&plan.contenders[0].control, plan.contenders[1].control.as_deref()),
            (&None, Some("c".as_ref()))
        );
        assert_eq!(parse("rounds many\n"), Err(1));
        assert_eq!(parse("rounds 1\nword x\n"), Err(2));
    }
}
