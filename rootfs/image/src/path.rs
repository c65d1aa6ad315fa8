//! Names inside an image.
//!
//! Duty: tell a name that stays inside the image from one that does not.
//! Invariant: a `TreePath` is one or more plain names joined by single slashes; it can neither leave the image
//! nor name the same place in two spellings.

use std::{fmt, str::FromStr};

/// Linux's `PATH_MAX` less the slash in front and the zero byte behind.
const MAX_PATH: usize = 4094;

/// Linux's `NAME_MAX`.
const MAX_NAME: usize = 255;

/// A path relative to the root of an image, such as `usr/bin/env`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TreePath(String);

/// Why a text is not a path inside an image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PathFault {
    #[error("{0:?}: expected a relative path inside the image, found an absolute one")]
    Absolute(String),
    #[error("{0:?}: expected plain names between single slashes, without `.` and `..`")]
    NotPlain(String),
    #[error("{0:?}: expected at most {MAX_PATH} bytes, {MAX_NAME} in each name")]
    TooLong(String),
}

impl TreePath {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The directory that holds this path; `None` for a name right under the root.
    pub fn parent(&self) -> Option<Self> {
        self.0.rsplit_once('/').map(|(parent, _)| Self(parent.to_owned()))
    }
}

impl FromStr for TreePath {
    type Err = PathFault;

    fn from_str(text: &str) -> Result<Self, PathFault> {
        if text.starts_with('/') {
            return Err(PathFault::Absolute(text.to_owned()));
        }
        let plain = |name: &str| !matches!(name, "" | "." | "..") && !name.contains('\0');
        if !text.split('/').all(plain) {
            return Err(PathFault::NotPlain(text.to_owned()));
        }
        if text.len() > MAX_PATH || text.split('/').any(|name| name.len() > MAX_NAME) {
            return Err(PathFault::TooLong(text.to_owned()));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for TreePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_stay_inside_are_paths() {
        for good in ["init", "usr/bin/[", "a/b/c", "...", "a b/ü"] {
            assert_eq!(good.parse::<TreePath>().expect(good).as_str(), good);
        }
        assert!(matches!("/init".parse::<TreePath>(), Err(PathFault::Absolute(_))));
        for bad in ["", ".", "..", "a/../b", "../a", "a/..", "./a", "a//b", "a/", "a\0b"] {
            assert!(matches!(bad.parse::<TreePath>(), Err(PathFault::NotPlain(_))), "{bad:?}");
        }
        let long = format!("a/{}", "n".repeat(MAX_NAME + 1));
        assert!(matches!(long.parse::<TreePath>(), Err(PathFault::TooLong(_))));
        let deep = vec!["abc"; 1100].join("/");
        assert!(matches!(deep.parse::<TreePath>(), Err(PathFault::TooLong(_))));
    }

    #[test]
    fn parents_end_at_the_root() {
        let path: TreePath = "usr/bin/env".parse().expect("plain");
        let parent = path.parent().expect("has one");
        assert_eq!(parent.as_str(), "usr/bin");
        assert_eq!(parent.parent().and_then(|usr| usr.parent()), None);
    }
}
