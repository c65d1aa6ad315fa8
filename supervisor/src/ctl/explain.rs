//! One workload in full.
//!
//! Duty: what `hearthctl explain` and `hearthctl rollout status` print. Not here: asking, the sentences themselves
//! (`api`).

use super::text::{span, table};
use crate::api::types::{Explained, IncidentTold, ProbeTold, TelemetryTold, TransitionTold};

/// Moves that are shown, of those that are told.
const LAST_MOVES: usize = 12;

pub(super) fn of(explained: &Explained) -> String {
    let status = &explained.status;
    let mut text = format!("{} is {}\n", status.name, status.state);
    for line in &explained.why {
        text.push_str(&format!("  {line}\n"));
    }
    section(&mut text, "Telemetry", &explained.telemetry.iter().flat_map(telemetry).collect::<Vec<_>>());
    let learnt: Vec<Vec<String>> = explained.learnt.iter().map(|line| vec![line.clone()]).collect();
    section(&mut text, "Learnt", &learnt);
    section(&mut text, "Probes", &probes(explained));
    section(&mut text, "Faults", &incidents(explained));
    let skipped = explained.transitions.len().saturating_sub(LAST_MOVES);
    let heading = if skipped > 0 {
        format!("Last moves ({skipped} earlier ones with --json)")
    } else {
        "Last moves".to_owned()
    };
    section(&mut text, &heading, &moves(explained, skipped));
    text
}

pub(super) fn of_rollout(explained: &Explained) -> String {
    let status = &explained.status;
    let or_none = |version: &Option<String>| version.clone().unwrap_or_else(|| "none".to_owned());
    let row = |name: &str, value: String| vec![name.to_owned(), value];
    let mut text = table(&[
        row("rollout", status.rollout.to_string()),
        row("current", status.version.clone()),
        row("last good before", or_none(&explained.previous_version)),
        row("rejected", or_none(&explained.rejected_version)),
    ]);
    let replicas: Vec<Vec<String>> = status
        .replicas
        .iter()
        .map(|replica| vec![replica.name.clone(), replica.version.clone(), replica.state.to_string()])
        .collect();
    section(&mut text, "Replicas", &replicas);
    text
}

fn section(text: &mut String, heading: &str, rows: &[Vec<String>]) {
    if rows.is_empty() {
        return;
    }
    text.push_str(&format!("{heading}\n"));
    for line in table(rows).lines() {
        text.push_str(&format!("  {line}\n"));
    }
}

fn telemetry(told: &TelemetryTold) -> [Vec<String>; 2] {
    let TelemetryTold { clients, messages, bytes, refused, delayed, heard, missed, reaches_fleet } = told;
    let whither = if *reaches_fleet { "to the fleet" } else { "dropped: this box is in no fleet" };
    [
        vec![
            format!("{messages} messages, {bytes} bytes {whither}"),
            format!("{refused} refused"),
            format!("{delayed} waited"),
        ],
        vec![
            format!("{heard} commands heard"),
            format!("{missed} missed"),
            format!("{clients} clients connected"),
        ],
    ]
}

fn probes(explained: &Explained) -> Vec<Vec<String>> {
    let row = |probe: &ProbeTold| {
        let count = format!("{} of {} bad in a row", probe.bad_in_a_row, probe.failures);
        let every = format!("every {}", span(probe.period_ms));
        vec![
            probe.replica.clone(),
            format!("{} by {}", probe.role, probe.check),
            probe.finding.to_string(),
            count,
            every,
        ]
    };
    explained.probes.iter().map(row).collect()
}

fn incidents(explained: &Explained) -> Vec<Vec<String>> {
    let row = |incident: &IncidentTold| {
        let ago = span(explained.now_ms.saturating_sub(incident.opened_ms));
        let stage = match incident.verified_ms {
            Some(at) => {
                format!(
                    "counts as healed if it stays ready for {} more",
                    span(at.saturating_sub(explained.now_ms))
                )
            }
            None => "being healed".to_owned(),
        };
        let suspect = incident.suspect.as_ref();
        let suspect = suspect.map_or_else(String::new, |whom| format!(", likely because of {whom}"));
        let means = incident.means.as_ref().map_or_else(String::new, |means| format!("{means}; "));
        vec![
            incident.replica.clone(),
            format!("{ago} ago"),
            format!("{} ({}, {}){suspect}", incident.fault, incident.source, incident.severity),
            format!("{means}{stage}"),
        ]
    };
    explained.incidents.iter().map(row).collect()
}

fn moves(explained: &Explained, skipped: usize) -> Vec<Vec<String>> {
    let row = |told: &TransitionTold| {
        vec![
            format!("{} ago", span(explained.now_ms.saturating_sub(told.at_ms))),
            format!("{} #{}", told.replica, told.run),
            format!("{} -> {}", told.from, told.to),
            told.why.clone(),
        ]
    };
    explained.transitions.iter().skip(skipped).map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::types::WorkloadStatus;

    fn explained(moves: u64) -> Explained {
        let told = |number: u64| TransitionTold {
            at_ms: number * 1000,
            replica: "web".to_owned(),
            run: 2,
            from: "starting".into(),
            to: "ready".into(),
            why: "its agent said so".to_owned(),
        };
        Explained {
            now_ms: 60_000,
            status: WorkloadStatus {
                name: "web".to_owned(),
                kind: "service".into(),
                state: "ready".into(),
                good: true,
                replicas_wanted: 1,
                replicas_ready: 1,
                scale: None,
                version: "01234567".to_owned(),
                rollout: "steady".into(),
                restarts_in_window: 1,
                restarts_allowed: 10,
                replicas: Vec::new(),
            },
            why: vec!["a service".to_owned()],
            previous_version: None,
            rejected_version: Some("89abcdef".to_owned()),
            telemetry: None,
            learnt: vec!["faults of workload: a cold restart (92 % x 3.0 s)".to_owned()],
            probes: vec![ProbeTold {
                replica: "web".to_owned(),
                role: "liveness".into(),
                check: "heartbeat".to_owned(),
                finding: "unknown".into(),
                bad_in_a_row: 0,
                failures: 30,
                period_ms: 1000,
            }],
            incidents: vec![IncidentTold {
                replica: "web".to_owned(),
                opened_ms: 50_000,
                fault: "the guest panicked".to_owned(),
                source: "guest-kernel".into(),
                severity: "high".into(),
                means: Some("a cold restart, the cheapest that is left".to_owned()),
                suspect: Some("the guest of db (61 %: strange 2.0 s after the first)".to_owned()),
                verified_ms: Some(80_000),
            }],
            transitions: (1..=moves).map(told).collect(),
        }
    }

    #[test]
    fn an_explanation_reads_from_the_state_to_what_led_there() {
        let expected = "\
web is ready
  a service
Learnt
  faults of workload: a cold restart (92 % x 3.0 s)
Probes
  web  liveness by heartbeat  unknown  0 of 30 bad in a row  every 1.0 s
Faults
  web  10.0 s ago  the guest panicked (guest-kernel, high), likely because of the guest of db (61 %: strange 2.0 s after the first)  a cold restart, the cheapest that is left; counts as healed if it stays ready for 20.0 s more
Last moves
  59.0 s ago  web #2  starting -> ready  its agent said so
";
        assert_eq!(of(&explained(1)), expected);
    }

    #[test]
    fn what_it_told_the_fleet_is_counted() {
        let (messages, bytes, refused, delayed) = (12, 345, 6, 7);
        let told = TelemetryTold {
            clients: 1,
            messages,
            bytes,
            refused,
            delayed,
            heard: 8,
            missed: 9,
            reaches_fleet: true,
        };
        let text = of(&Explained { telemetry: Some(told), ..explained(0) });
        let expected = "\
Telemetry
  12 messages, 345 bytes to the fleet  6 refused  7 waited
  8 commands heard                     9 missed   1 clients connected
";
        assert!(text.contains(expected), "{text}");
        let alone = TelemetryTold { reaches_fleet: false, ..told };
        let text = of(&Explained { telemetry: Some(alone), ..explained(0) });
        assert!(text.contains("345 bytes dropped: this box is in no fleet"), "{text}");
    }

    #[test]
    fn only_the_last_moves_are_shown_and_the_others_are_counted() {
        let text = of(&explained(20));
        assert!(text.contains("Last moves (8 earlier ones with --json)\n  51.0 s ago"), "{text}");
        assert_eq!(text.matches("starting -> ready").count(), LAST_MOVES);
    }

    #[test]
    fn a_rollout_names_its_versions() {
        let text = of_rollout(&explained(0));
        assert!(text.contains("last good before  none\nrejected          89abcdef\n"), "{text}");
    }
}
