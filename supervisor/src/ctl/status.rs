//! The box, and one workload, as tables.
//!
//! Duty: what `hearthctl status` prints. Not here: asking.

use super::text::{span, table};
use crate::api::types::{BoxStatus, ReplicaStatus, WorkloadStatus};

pub(super) const HEADING: [&str; 7] = ["NAME", "KIND", "STATE", "READY", "RESTARTS", "VERSION", "SINCE"];

pub(super) fn of_box(status: &BoxStatus) -> String {
    let BoxStatus { version, phase, ready, of, .. } = status;
    let mut text = format!("hearthd {version}, {phase}: {ready} of {of} workloads are as they should be\n");
    if !status.workloads.is_empty() {
        let mut rows = vec![HEADING.map(str::to_owned).to_vec()];
        rows.extend(status.workloads.iter().flat_map(|workload| rows_of(workload, status.now_ms)));
        text.push_str(&table(&rows));
    }
    text
}

pub(super) fn of_workload(workload: &WorkloadStatus, now_ms: u64) -> String {
    let mut rows = vec![HEADING.map(str::to_owned).to_vec()];
    rows.extend(rows_of(workload, now_ms));
    table(&rows)
}

/// One row for the workload; below it its replicas, where one row does not say all.
pub(super) fn rows_of(workload: &WorkloadStatus, now_ms: u64) -> Vec<Vec<String>> {
    let only = match workload.replicas.as_slice() {
        [only] => Some(only),
        _ => None,
    };
    let version = match workload.rollout.as_ref() {
        "steady" => workload.version.clone(),
        rollout => format!("{} ({rollout})", workload.version),
    };
    let mut rows = vec![vec![
        workload.name.clone(),
        workload.kind.to_string(),
        workload.state.to_string(),
        format!("{}/{}", workload.replicas_ready, workload.replicas_wanted),
        format!("{}/{}", workload.restarts_in_window, workload.restarts_allowed),
        version,
        only.map(|replica| since(replica, now_ms)).unwrap_or_default(),
    ]];
    if only.is_none() {
        rows.extend(workload.replicas.iter().map(|replica| {
            let (name, state) = (format!("  {}", replica.name), replica.state.to_string());
            let blank = String::new;
            vec![name, blank(), state, blank(), blank(), replica.version.clone(), since(replica, now_ms)]
        }));
    }
    rows
}

/// How long it has been where it is, and what there is to say about that.
fn since(replica: &ReplicaStatus, now_ms: u64) -> String {
    let mut text = replica.since_ms.map(|at| span(now_ms.saturating_sub(at))).unwrap_or_default();
    if let Some(what) = &replica.waits_for {
        text.push_str(&format!(", waits for {what}"));
    }
    if let Some(fault) = &replica.fault {
        text.push_str(&format!(", after: {fault}"));
    }
    if replica.state == "backing-off"
        && let Some(at) = replica.next_ms
    {
        text.push_str(&format!(", starts in {}", span(at.saturating_sub(now_ms))));
    }
    text
}

/// A workload with one replica, all well.
#[cfg(test)]
pub(super) fn example(name: &str) -> WorkloadStatus {
    tests::workload(name, "ready", vec![tests::replica(name, "ready", 0)])
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn replica(name: &str, state: &'static str, since_ms: u64) -> ReplicaStatus {
        ReplicaStatus {
            name: name.to_owned(),
            slot: 0,
            run: 1,
            version: "01234567".to_owned(),
            state: state.into(),
            since_ms: Some(since_ms),
            next_ms: None,
            waits_for: None,
            fault: None,
        }
    }

    pub(super) fn workload(name: &str, state: &'static str, replicas: Vec<ReplicaStatus>) -> WorkloadStatus {
        WorkloadStatus {
            name: name.to_owned(),
            kind: "service".into(),
            state: state.into(),
            good: state == "ready",
            replicas_wanted: replicas.len(),
            replicas_ready: replicas.iter().filter(|replica| replica.state == "ready").count(),
            scale: None,
            version: "01234567".to_owned(),
            rollout: "steady".into(),
            restarts_in_window: 1,
            restarts_allowed: 10,
            replicas,
        }
    }

    #[test]
    fn one_replica_is_one_row_and_more_have_rows_of_their_own() {
        let failed = ReplicaStatus {
            next_ms: Some(13_000),
            fault: Some("exit 3".to_owned()),
            ..replica("web.1", "backing-off", 9_000)
        };
        let status = BoxStatus {
            version: "0.1.0".to_owned(),
            phase: "up".into(),
            now_ms: 10_000,
            ready: 1,
            of: 2,
            workloads: vec![
                workload("clock", "ready", vec![replica("clock", "ready", 400)]),
                workload("web", "partly-ready", vec![replica("web", "ready", 2_000), failed]),
            ],
        };
        let expected = "\
hearthd 0.1.0, up: 1 of 2 workloads are as they should be
NAME     KIND     STATE         READY  RESTARTS  VERSION   SINCE
clock    service  ready         1/1    1/10      01234567  9.6 s
web      service  partly-ready  1/2    1/10      01234567
  web             ready                          01234567  8.0 s
  web.1           backing-off                    01234567  1.0 s, after: exit 3, starts in 3.0 s
";
        assert_eq!(of_box(&status), expected);
    }
}
