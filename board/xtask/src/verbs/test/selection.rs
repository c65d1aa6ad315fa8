//! Which tests a filter means.
//!
//! Duty: what SPECIFICATION.md calls tests into arguments of cargo. Not here: running them.
//! Invariant: a word that is no package and no file of tests is a part of a test's name, so nothing is lost by a guess.
//!
//! ```text
//! bare_metal             every test of this file
//! daemon::exec           those of the file with this in their name
//! hearth-predictor       every test of this package
//! hearth-fleet::sign     those of the package with this in their name
//! anything_else          all with this in their name
//! ```

use serde_json::Value;

/// Where to look, as arguments, and what is in the names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Selection {
    pub(super) of: Vec<String>,
    pub(super) name: Option<String>,
}

impl Selection {
    /// All there are.
    pub(super) fn all() -> Self {
        Self { of: vec!["--workspace".to_owned()], name: None }
    }

    /// Of a workspace as `cargo metadata` tells it.
    pub(super) fn of(filter: &str, workspace: &Value) -> Self {
        let (first, rest) = match filter.split_once("::") {
            Some((first, rest)) => (first, Some(rest.to_owned()).filter(|rest| !rest.is_empty())),
            None => (filter, None),
        };
        let is = |of: &Value, key: &str, word: &str| of.get(key).and_then(Value::as_str) == Some(word);
        let packages = || workspace.get("packages").and_then(Value::as_array).into_iter().flatten();
        if packages().any(|package| is(package, "name", first)) {
            return Self { of: vec!["--package".to_owned(), first.to_owned()], name: rest };
        }
        let is_file_of_tests = |target: &&Value| {
            let kinds = target.get("kind").and_then(Value::as_array);
            // What needs a feature is started in ways of its own.
            is(target, "name", first)
                && kinds.is_some_and(|kinds| kinds.iter().any(|kind| kind == "test"))
                && target.get("required-features").is_none()
        };
        let targets = packages().filter_map(|package| package.get("targets").and_then(Value::as_array));
        if targets.flatten().any(|target| is_file_of_tests(&target)) {
            let of = ["--workspace", "--test", first].map(str::to_owned).to_vec();
            return Self { of, name: rest };
        }
        Self { name: Some(filter.to_owned()), ..Self::all() }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_filter_is_a_package_a_file_of_tests_or_a_part_of_a_name() {
        let workspace = json!({ "packages": [
            { "name": "hearth-fleet", "targets": [{ "name": "hearth_fleet", "kind": ["lib"] }] },
            { "name": "hearth-supervisor", "targets": [
                { "name": "hearthd", "kind": ["bin"] },
                { "name": "daemon", "kind": ["test"] },
                { "name": "boards", "kind": ["test"], "required-features": ["board"] },
            ] },
        ] });
        let means = |filter: &str| {
            let Selection { of, name } = Selection::of(filter, &workspace);
            of.into_iter().chain(name).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(means("hearth-fleet"), "--package hearth-fleet");
        assert_eq!(means("hearth-fleet::sign"), "--package hearth-fleet sign");
        assert_eq!(means("daemon"), "--workspace --test daemon");
        assert_eq!(means("daemon::exec"), "--workspace --test daemon exec");
        // A program is no file of tests, and one that needs a feature is not to be had like this.
        assert_eq!(means("hearthd"), "--workspace hearthd");
        assert_eq!(means("boards"), "--workspace boards");
        assert_eq!(means("virtio::rings"), "--workspace virtio::rings");
        assert_eq!(means("on_a_board::the_demo"), "--workspace on_a_board::the_demo");
    }
}
