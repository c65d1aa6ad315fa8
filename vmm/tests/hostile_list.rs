//! `HOSTILE.md` names tests; this one looks whether they are there, so that the page cannot rot.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test that meets the unexpected ends there")]

use std::fs;
use std::path::{Path, PathBuf};

/// The file and the function that a name such as `virtio/rings/tests::chain_loop_needs_reset` means.
fn parts(name: &str) -> Option<(PathBuf, &str)> {
    let (file, test) = name.split_once("::")?;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let path = match file.strip_prefix("vmm/") {
        Some(whole) => folder.join(whole),
        None => folder.join("src").join(file).with_extension("rs"),
    };
    Some((path, test))
}

#[test]
fn every_test_that_the_page_names_is_there() {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("HOSTILE.md")).unwrap();
    let rows = page.lines().filter(|line| line.starts_with('|'));
    let names: Vec<&str> = rows.flat_map(|row| row.split('`').skip(1).step_by(2)).collect();
    let tests: Vec<_> = names.iter().filter_map(|name| parts(name)).collect();
    assert!(tests.len() > 80, "{} tests were found on the page", tests.len());
    for (path, test) in tests {
        let source = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert!(source.contains(&format!("fn {test}(")), "{} has no test {test}", path.display());
    }
}
