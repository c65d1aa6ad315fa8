//! The daemon's words for people.
//!
//! Duty: one line per announcement; the decisive ones are an interface and stay as they are.
//! Not here: when something is announced (`hearth-core`), where it is printed (`console`).

use std::error::Error;
use std::fmt;
use std::time::Duration;

use hearth_core::{Announcement, WorkloadId};

/// A duration as people read it: "412 ms", "3.2 s".
#[derive(Clone, Copy, Debug)]
pub struct Took(pub Duration);

impl fmt::Display for Took {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_millis();
        if millis < 1000 { write!(f, "{millis} ms") } else { write!(f, "{:.1} s", self.0.as_secs_f64()) }
    }
}

/// The error and what is behind it on one line.
pub fn one_line(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// The line for an announcement. `guest_ready` is what the guest said of itself, if it did.
pub fn announce<'n>(
    announcement: &Announcement,
    name: impl Fn(WorkloadId) -> &'n str,
    guest_ready: impl Fn(WorkloadId) -> Option<Duration>,
) -> String {
    match announcement {
        Announcement::Running { id } => match guest_ready(*id) {
            Some(took) => format!("{}: running, guest ready in {}", name(*id), Took(took)),
            None => format!("{}: running", name(*id)),
        },
        Announcement::Done { id } => format!("{}: done: exit 0", name(*id)),
        Announcement::Failed { id, failure } => format!("{}: failed: {failure}", name(*id)),
        Announcement::RestartIn { id, attempt, delay } => {
            format!("{}: restart {attempt} in {}", name(*id), Took(*delay))
        }
        Announcement::Blocked { id, on } => {
            format!("{}: does not start, {} did not get there", name(*id), name(*on))
        }
        Announcement::Stubborn { id, means } => format!("{}: does not stop, {means} follows", name(*id)),
        Announcement::Lost { id } => {
            format!("{}: its monitor survives SIGKILL and is left behind", name(*id))
        }
        Announcement::Ready { ready, of } => format!("ready: {ready} of {of} workloads"),
        Announcement::NotReady { ready, of } => format!("not ready: {ready} of {of} workloads"),
        Announcement::Stopping => "stopping".to_owned(),
        Announcement::Stopped => "stopped".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hearth_core::{Failure, Kind, Plan, RestartPolicy, Wanted, WorkloadEnd};

    #[test]
    fn durations_read_like_a_person_says_them() {
        let shown = |millis| Took(Duration::from_millis(millis)).to_string();
        assert_eq!(
            [shown(0), shown(412), shown(999), shown(1000), shown(3249)],
            ["0 ms", "412 ms", "999 ms", "1.0 s", "3.2 s"]
        );
    }

    #[test]
    fn the_decisive_lines_stay_as_they_are() {
        let want = Wanted { name: "hello", kind: Kind::Job, restart: RestartPolicy::Never, after: vec![] };
        let id = Plan::new(&[want]).unwrap().ids().next().unwrap();
        let said = |announcement| announce(&announcement, |_| "hello", |_| Some(Duration::from_millis(312)));
        assert_eq!(said(Announcement::Running { id }), "hello: running, guest ready in 312 ms");
        assert_eq!(said(Announcement::Done { id }), "hello: done: exit 0");
        let failure = Failure::Workload(WorkloadEnd::Code(3));
        assert_eq!(said(Announcement::Failed { id, failure }), "hello: failed: exit 3");
        assert_eq!(said(Announcement::Ready { ready: 3, of: 3 }), "ready: 3 of 3 workloads");
        assert_eq!(said(Announcement::NotReady { ready: 1, of: 3 }), "not ready: 1 of 3 workloads");
        assert_eq!(said(Announcement::Stopping), "stopping");
        assert_eq!(said(Announcement::Stopped), "stopped");
    }
}
