//! The configuration fragments of the guest kernel.
//!
//! Duty: read them, join them, and compare them with what Kconfig made of them. Not here: the build.
//! Invariant: an option that was asked for and is not in the final configuration is named, never overlooked;
//! Kconfig itself drops options with unmet dependencies without a word.

use std::{
    collections::BTreeMap,
    fmt, fs, io,
    path::{Path, PathBuf},
};

use thiserror::Error;

use crate::arch::Arch;

#[derive(Debug, Error)]
pub(crate) enum FragmentError {
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{}:{line}: expected CONFIG_NAME=value or '# CONFIG_NAME is not set', found {found:?}", path.display())]
    Syntax { path: PathBuf, line: usize, found: String },
    #[error("the kernel's configuration lost what the fragments ask for: {}", join(lost))]
    Lost { lost: Vec<Lost> },
}

/// One option that came out different.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lost {
    option: String,
    asked: String,
    got: String,
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={} (is {})", self.option, self.asked, self.got)
    }
}

fn join(lost: &[Lost]) -> String {
    lost.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// What "is not set" and absence both mean.
const OFF: &str = "n";

/// Options and the values asked for; a later fragment overrides an earlier one.
#[derive(Debug, Default)]
pub(crate) struct Fragment {
    options: BTreeMap<String, String>,
}

impl Fragment {
    /// `common.config` and `ARCH.config` in `folder`.
    pub(crate) fn load(folder: &Path, arch: Arch) -> Result<Self, FragmentError> {
        let mut all = Self::default();
        for name in ["common".to_owned(), arch.to_string()] {
            let path = folder.join(format!("{name}.config"));
            let text = fs::read_to_string(&path)
                .map_err(|source| FragmentError::Read { path: path.clone(), source })?;
            all.absorb(&path, &text)?;
        }
        Ok(all)
    }

    /// The fragment as Kconfig reads it, without comments: those may change without a new kernel.
    pub(crate) fn text(&self) -> String {
        let line = |(option, value): (&String, &String)| match value.as_str() {
            OFF => format!("# {option} is not set\n"),
            value => format!("{option}={value}\n"),
        };
        self.options.iter().map(line).collect()
    }

    /// Compares with the configuration that Kconfig wrote.
    pub(crate) fn check(&self, config: &str) -> Result<(), FragmentError> {
        let actual: BTreeMap<_, _> = config.lines().filter_map(parse).collect();
        let lost: Vec<_> = self
            .options
            .iter()
            .filter_map(|(option, asked)| {
                let got = actual.get(option.as_str()).copied().unwrap_or(OFF);
                let lost = || Lost { option: option.clone(), asked: asked.clone(), got: got.to_owned() };
                (got != asked).then(lost)
            })
            .collect();
        if lost.is_empty() { Ok(()) } else { Err(FragmentError::Lost { lost }) }
    }

    fn absorb(&mut self, path: &Path, text: &str) -> Result<(), FragmentError> {
        for (number, line) in text.lines().enumerate() {
            if let Some((option, value)) = parse(line) {
                self.options.insert(option.to_owned(), value.to_owned());
            } else if !line.trim().is_empty() && !line.starts_with('#') {
                let (path, line) = (path.to_owned(), line.to_owned());
                return Err(FragmentError::Syntax { path, line: number + 1, found: line });
            }
        }
        Ok(())
    }
}

fn parse(line: &str) -> Option<(&str, &str)> {
    if let Some(option) = line.strip_prefix("# ").and_then(|rest| rest.strip_suffix(" is not set")) {
        return option.starts_with("CONFIG_").then_some((option, OFF));
    }
    let (option, value) = line.split_once('=')?;
    let named = option.starts_with("CONFIG_") && !option.contains(char::is_whitespace);
    (named && !value.is_empty()).then_some((option, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fragment(text: &str) -> Fragment {
        let mut fragment = Fragment::default();
        fragment.absorb(Path::new("test.config"), text).unwrap();
        fragment
    }

    #[test]
    fn a_dropped_option_is_named_with_what_it_became() {
        let asked = fragment("# why\nCONFIG_A=y\nCONFIG_B=16\n# CONFIG_C is not set\n");
        let error = asked.check("CONFIG_B=8\nCONFIG_C=y\n").unwrap_err();
        let text = error.to_string();
        assert!(
            text.ends_with("fragments ask for: CONFIG_A=y (is n), CONFIG_B=16 (is 8), CONFIG_C=n (is y)"),
            "{text}"
        );
    }

    #[test]
    fn absent_and_not_set_are_the_same() {
        let asked = fragment("CONFIG_A=\"text\"\n# CONFIG_B is not set\n# CONFIG_C is not set\n");
        asked.check("CONFIG_A=\"text\"\n# CONFIG_B is not set\n").unwrap();
    }

    #[test]
    fn a_line_that_is_neither_option_nor_comment_is_refused_with_its_place() {
        let mut fragment = Fragment::default();
        let error = fragment.absorb(Path::new("x.config"), "CONFIG_A=y\nCONFIG_B\n").unwrap_err();
        assert!(error.to_string().starts_with("x.config:2: expected"), "{error}");
    }

    #[test]
    fn comments_are_not_part_of_what_kconfig_reads() {
        assert_eq!(fragment("# why\nCONFIG_A=y\n").text(), fragment("# why not\nCONFIG_A=y\n").text());
    }

    #[test]
    fn the_projects_own_fragments_parse() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../rootfs/kernel");
        for arch in Arch::ALL {
            let text = Fragment::load(&folder, arch).unwrap().text();
            assert!(text.contains("CONFIG_VIRTIO_MMIO=y\n"));
            assert!(text.contains("# CONFIG_PCI is not set\n"));
        }
    }
}
