//! What the fleet wants of a box, beside the box's own files.
//!
//! Duty: put both together. Not here: what a workload may say (`hearth-config`), whose word it was (`hearth-fleet`).
//! Invariant: whoever wins, a workload is said by one of them alone, as a whole; a fault in any of it leaves everything as
//! it was.

use hearth_config::workload::WorkloadConfig;
use hearth_config::{Fault, Faults};

/// What faults of its workloads call it.
const FILE: &str = "desired";
/// Workloads of both together: as many as files.
const MAX_WORKLOADS: usize = 256;

/// Nothing, for a box that is nobody's member.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// By name, as JSON; none: there is to be no such workload.
    pub workloads: Vec<(String, Option<String>)>,
    /// Where both name a workload, the fleet's word counts.
    pub wins: bool,
}

impl Share {
    /// All workloads by name, and those that both say something of.
    pub(crate) fn merge(
        &self,
        local: Vec<WorkloadConfig>,
    ) -> Result<(Vec<WorkloadConfig>, Vec<String>), Faults> {
        let (mut workloads, mut conflicts, mut faults) = (local, Vec::new(), Vec::new());
        for (name, text) in &self.workloads {
            let at_home = workloads.iter().position(|workload| workload.name.as_str() == name);
            if at_home.is_some() {
                conflicts.push(name.clone());
            }
            // Read in any case: a fault is one also where it changes nothing today.
            let read =
                text.as_ref().map(|text| WorkloadConfig::parse_json(name, &format!("{FILE}/{name}"), text));
            let new = match read.transpose() {
                Ok(new) => new,
                Err(more) => {
                    faults.extend(more.into_list());
                    continue;
                }
            };
            match at_home {
                Some(place) if self.wins => {
                    workloads.remove(place);
                    workloads.extend(new);
                }
                Some(_) => {}
                None => workloads.extend(new),
            }
        }
        if workloads.len() > MAX_WORKLOADS {
            let message = format!("expected at most {MAX_WORKLOADS} workloads, found {}", workloads.len());
            faults.push(Fault::of_file(FILE, message));
        }
        // Those of files alone stay in the order of their files.
        if !self.workloads.is_empty() {
            workloads.sort_by(|a, b| a.name.cmp(&b.name));
        }
        Faults::from_list(faults).map_or(Ok((workloads, conflicts)), Err)
    }

    /// Whether a workload is as the fleet says.
    pub(crate) fn decides(&self, name: &str, conflicts: &[String]) -> bool {
        let names = self.workloads.iter().any(|(of, _)| of == name);
        names && (self.wins || !conflicts.iter().any(|conflict| conflict == name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn local(names: &[&str]) -> Vec<WorkloadConfig> {
        let parse = |name: &&str| {
            WorkloadConfig::parse(&format!("{name}.toml"), "kind = \"job\"\nimage = \"local\"").unwrap()
        };
        names.iter().map(parse).collect()
    }

    fn share(wins: bool, workloads: &[(&str, Option<&str>)]) -> Share {
        let own = |(name, text): &(&str, Option<&str>)| ((*name).to_owned(), text.map(str::to_owned));
        Share { workloads: workloads.iter().map(own).collect(), wins }
    }

    const FLEETS: &str = r#"{ "kind": "service", "image": "fleet", "replicas": 3, "after": ["a"] }"#;

    #[test]
    fn both_are_put_together_and_precedence_decides_where_they_meet() {
        let wants = [("b", Some(FLEETS)), ("c", Some(FLEETS)), ("d", None), ("e", None)];
        for (wins, expected) in
            [(true, "a=local b=fleet c=fleet"), (false, "a=local b=local c=fleet d=local")]
        {
            let share = share(wins, &wants);
            let (merged, conflicts) = share.merge(local(&["a", "b", "d"])).unwrap();
            let told: Vec<_> =
                merged.iter().map(|one| format!("{}={}", one.name, one.image.display())).collect();
            assert_eq!((told.join(" ").as_str(), conflicts.join(" ").as_str()), (expected, "b d"));
            let decided = ["a", "b", "c"].map(|name| share.decides(name, &conflicts));
            assert_eq!(decided, [false, wins, true]);
        }
        let (alone, conflicts) = Share::default().merge(local(&["a"])).unwrap();
        assert_eq!((alone.len(), conflicts.len()), (1, 0));
    }

    #[test]
    fn faults_name_the_workload_and_key_and_are_told_together_also_where_the_box_wins() {
        let wants = [
            ("a", Some(r#"{ "kind": "job" }"#)),
            ("b", Some(r#"{ "kind": "job", "image": "i", "zz": 1 }"#)),
            ("C", Some("{}")),
        ];
        let faults = share(false, &wants).merge(local(&["a"])).unwrap_err().to_string();
        let lines: Vec<_> = faults.lines().collect();
        assert!(lines[0].starts_with("desired/a:1:1: image: missing"), "{faults}");
        assert!(lines[1].starts_with("desired/b:1:32: zz: unknown key"), "{faults}");
        assert!(lines[2].starts_with("desired/C: expected a name of 1 to 32 lower-case"), "{faults}");
    }
}
