//! Which request is which question.
//!
//! Duty: one table of all routes, and what their queries and bodies may say. No input or output.
//! Not here: answering (`view`, `server`).
//! Invariant: what a request says beyond what is known here is refused, not ignored.

use hearth_core::MAX_REPLICAS;
use hearth_foresight::Metric;

use super::http::Method;
use super::types::{Demand, ExecWanted, Lesson, Scale, Served, SnapshotWanted};
use super::{Deed, Question, Reply};

/// What a request wants.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Call {
    /// Of the daemon's loop.
    Ask(Question),
    Events(EventsWanted),
    Logs {
        workload: String,
        wanted: LogsWanted,
    },
    Exec {
        /// Or of a replica.
        workload: String,
        wanted: ExecWanted,
    },
    Console {
        /// Or of a replica.
        workload: String,
        follow: bool,
    },
    Snapshot {
        workload: String,
        wanted: SnapshotWanted,
    },
    OpenApi,
    Metrics,
}

/// `/v1/events`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct EventsWanted {
    /// Only those with a higher number.
    pub(super) after: u64,
    /// Go on with what happens next.
    pub(super) follow: bool,
}

/// `/v1/workloads/NAME/logs`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LogsWanted {
    /// From the end.
    pub(super) lines: usize,
    /// Go on with what is written next.
    pub(super) follow: bool,
}

/// Lines of a log if nobody says how many.
const LINES: usize = 100;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Route {
    Status,
    Explain,
    Deed(Deed),
    Scale,
    Demand,
    Served,
    Forecast,
    Unlearn,
    Teach,
    Exec,
    Console,
    Snapshot,
    LeaveSafeMode,
    BeginAgain,
    Reboot,
    Events,
    Logs,
    OpenApi,
    Metrics,
}

/// All of them; a test compares them with the OpenAPI file.
const ROUTES: &[(Method, &str, Route)] = &[
    (Method::Get, "/v1/status", Route::Status),
    (Method::Get, "/v1/workloads/{name}", Route::Explain),
    (Method::Get, "/v1/workloads/{name}/logs", Route::Logs),
    (Method::Post, "/v1/workloads/{name}/restart", Route::Deed(Deed::Restart)),
    (Method::Post, "/v1/workloads/{name}/stop", Route::Deed(Deed::Stop)),
    (Method::Post, "/v1/workloads/{name}/start", Route::Deed(Deed::Start)),
    (Method::Post, "/v1/workloads/{name}/retry", Route::Deed(Deed::Retry)),
    (Method::Post, "/v1/workloads/{name}/heal", Route::Deed(Deed::Heal)),
    (Method::Post, "/v1/workloads/{name}/kill", Route::Deed(Deed::Kill)),
    (Method::Post, "/v1/workloads/{name}/undo", Route::Deed(Deed::Undo)),
    (Method::Post, "/v1/workloads/{name}/scale", Route::Scale),
    (Method::Post, "/v1/workloads/{name}/demand", Route::Demand),
    (Method::Post, "/v1/workloads/{name}/served", Route::Served),
    (Method::Get, "/v1/workloads/{name}/forecast", Route::Forecast),
    (Method::Post, "/v1/workloads/{name}/forecast/reset", Route::Unlearn),
    (Method::Post, "/v1/workloads/{name}/forecast/teach", Route::Teach),
    (Method::Get, "/v1/forecast", Route::Forecast),
    (Method::Post, "/v1/forecast/reset", Route::Unlearn),
    (Method::Post, "/v1/workloads/{name}/exec", Route::Exec),
    (Method::Get, "/v1/workloads/{name}/console", Route::Console),
    (Method::Post, "/v1/workloads/{name}/snapshot", Route::Snapshot),
    (Method::Post, "/v1/leave-safe-mode", Route::LeaveSafeMode),
    (Method::Post, "/v1/begin-again", Route::BeginAgain),
    (Method::Post, "/v1/reboot", Route::Reboot),
    (Method::Get, "/v1/events", Route::Events),
    (Method::Get, "/v1/openapi.json", Route::OpenApi),
    // Where scrapers look by themselves.
    (Method::Get, "/metrics", Route::Metrics),
];

pub(super) fn route(method: Method, path: &str, query: &str, body: &[u8]) -> Result<Call, Reply> {
    let mut allowed = None;
    for (wanted, template, route) in ROUTES {
        if let Some(workload) = matched(template, path) {
            if *wanted == method {
                return call(*route, workload.to_owned(), query, body);
            }
            allowed = Some(*wanted);
        }
    }
    Err(match allowed {
        Some(wanted) => {
            let message = format!("expected {} for {path}, found {}", wanted.name(), method.name());
            Reply::refused(405, "other-method", message)
        }
        None => {
            let message = format!("expected a path of /v1/openapi.json, found {path}");
            Reply::refused(404, "no-such-path", message)
        }
    })
}

/// What stands in the path for `{name}`; nothing where the template has none.
fn matched<'p>(template: &str, path: &'p str) -> Option<&'p str> {
    let mut name = "";
    let (mut wanted, mut found) = (template.split('/'), path.split('/'));
    loop {
        match (wanted.next(), found.next()) {
            (None, None) => return Some(name),
            (Some("{name}"), Some(part)) if !part.is_empty() => name = part,
            (Some(word), Some(part)) if word == part => {}
            _ => return None,
        }
    }
}

fn call(route: Route, workload: String, query: &str, body: &[u8]) -> Result<Call, Reply> {
    if !query.is_empty() && !matches!(route, Route::Events | Route::Logs | Route::Console) {
        return Err(bad(format!("expected no query, found {query}")));
    }
    let takes_body = matches!(
        route,
        Route::Scale | Route::Demand | Route::Served | Route::Teach | Route::Exec | Route::Snapshot
    );
    if !body.is_empty() && !takes_body {
        return Err(bad("expected no body".to_owned()));
    }
    Ok(match route {
        Route::Status => Call::Ask(Question::Status),
        Route::Explain => Call::Ask(Question::Explain { workload }),
        Route::Deed(deed) => Call::Ask(Question::Do { workload, deed }),
        Route::Scale => Call::Ask(Question::Do { workload, deed: Deed::Scale(scale(body)?) }),
        Route::Demand => Call::Ask(Question::Do { workload, deed: Deed::Demand(demand(body)?) }),
        Route::Served => Call::Ask(Question::Served { workload, served: served(body)? }),
        Route::Forecast => Call::Ask(Question::Forecast { workload: named(workload) }),
        Route::Unlearn => Call::Ask(Question::Unlearn { workload: named(workload) }),
        Route::Teach => Call::Ask(Question::Teach { workload, lesson: lesson(body)? }),
        Route::Exec => Call::Exec { workload, wanted: exec(body)? },
        Route::Console => Call::Console { workload, follow: console(query)? },
        Route::Snapshot => Call::Snapshot { workload, wanted: snapshot(body)? },
        Route::LeaveSafeMode => Call::Ask(Question::LeaveSafeMode),
        Route::BeginAgain => Call::Ask(Question::BeginAgain),
        Route::Reboot => Call::Ask(Question::Reboot),
        Route::Events => Call::Events(events(query)?),
        Route::Logs => Call::Logs { workload, wanted: logs(query)? },
        Route::OpenApi => Call::OpenApi,
        Route::Metrics => Call::Metrics,
    })
}

fn scale(body: &[u8]) -> Result<Option<u16>, Reply> {
    let expected = format!("expected {{\"replicas\": N}} with N from 0 to {MAX_REPLICAS} or null");
    match serde_json::from_slice::<Scale>(body) {
        Ok(Scale { replicas }) if replicas.is_none_or(|replicas| replicas <= MAX_REPLICAS) => Ok(replicas),
        Ok(Scale { replicas }) => {
            Err(bad(format!("{expected}, found {}", replicas.map(i64::from).unwrap_or_default())))
        }
        Err(error) => Err(bad(format!("{expected}: {error}"))),
    }
}

fn demand(body: &[u8]) -> Result<u16, Reply> {
    let expected = format!("expected {{\"replicas\": N}} with N from 0 to {MAX_REPLICAS}");
    match serde_json::from_slice::<Demand>(body) {
        Ok(Demand { replicas }) if replicas <= MAX_REPLICAS => Ok(replicas),
        Ok(Demand { replicas }) => Err(bad(format!("{expected}, found {replicas}"))),
        Err(error) => Err(bad(format!("{expected}: {error}"))),
    }
}

/// A path without a name is the host's.
fn named(workload: String) -> Option<String> {
    (!workload.is_empty()).then_some(workload)
}

fn served(body: &[u8]) -> Result<Served, Reply> {
    let expected =
        "expected {\"requests\": N, \"busy_ms\": N, \"waiting\": N, \"errors\": N, \"replica\": \"NAME\"}";
    let served: Served = serde_json::from_slice(body).map_err(|error| bad(format!("{expected}: {error}")))?;
    if served.errors > served.requests {
        let Served { errors, requests, .. } = served;
        return Err(bad(format!("expected at most the {requests} of requests as errors, found {errors}")));
    }
    if served.errors > 0 && served.replica.is_none() {
        let errors = served.errors;
        return Err(bad(format!(
            "expected the replica whose {errors} requests went wrong: its version is judged by them"
        )));
    }
    Ok(served)
}

fn lesson(body: &[u8]) -> Result<Lesson, Reply> {
    let expected = "expected {\"metric\": \"NAME\", \"from_s\": N, \"values\": [N, ...]}";
    let lesson: Lesson = serde_json::from_slice(body).map_err(|error| bad(format!("{expected}: {error}")))?;
    match Metric::of_name(&lesson.metric) {
        Some(_) => Ok(lesson),
        None => Err(bad(format!("expected a metric as in the forecast, found \"{}\"", lesson.metric))),
    }
}

fn exec(body: &[u8]) -> Result<ExecWanted, Reply> {
    serde_json::from_slice(body)
        .map_err(|error| bad(format!("expected {{\"command\": [\"PROGRAM\", ...], ...}}: {error}")))
}

/// No body is as good as an empty one.
fn snapshot(body: &[u8]) -> Result<SnapshotWanted, Reply> {
    if body.is_empty() {
        return Ok(SnapshotWanted::default());
    }
    serde_json::from_slice(body).map_err(|error| bad(format!("expected {{\"name\": \"NAME\"}}: {error}")))
}

fn console(query: &str) -> Result<bool, Reply> {
    match query {
        "" | "follow=false" => Ok(false),
        "follow=true" => Ok(true),
        other => Err(bad(format!("expected follow=true, found {other}"))),
    }
}

fn events(query: &str) -> Result<EventsWanted, Reply> {
    let mut wanted = EventsWanted::default();
    for part in query.split('&').filter(|part| !part.is_empty()) {
        let parsed = match part.split_once('=') {
            Some(("after", number)) => number.parse().map(|after| wanted.after = after).is_ok(),
            Some(("follow", word)) => word.parse().map(|follow| wanted.follow = follow).is_ok(),
            _ => false,
        };
        if !parsed {
            return Err(bad(format!("expected after=NUMBER or follow=true, found {part}")));
        }
    }
    Ok(wanted)
}

fn logs(query: &str) -> Result<LogsWanted, Reply> {
    let mut wanted = LogsWanted { lines: LINES, follow: false };
    for part in query.split('&').filter(|part| !part.is_empty()) {
        let parsed = match part.split_once('=') {
            Some(("lines", number)) => number.parse().map(|lines| wanted.lines = lines).is_ok(),
            Some(("follow", word)) => word.parse().map(|follow| wanted.follow = follow).is_ok(),
            _ => false,
        };
        if !parsed {
            return Err(bad(format!("expected lines=NUMBER or follow=true, found {part}")));
        }
    }
    Ok(wanted)
}

fn bad(message: String) -> Reply {
    Reply::refused(400, "bad-request", message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::types::Refused;

    fn get(path: &str, query: &str) -> Result<Call, Reply> {
        route(Method::Get, path, query, b"")
    }

    fn told(refused: Result<Call, Reply>) -> (u16, String) {
        let reply = refused.unwrap_err();
        (reply.status, serde_json::from_slice::<Refused>(&reply.body).unwrap().message)
    }

    #[test]
    fn paths_lead_to_questions_and_names_come_along() {
        assert_eq!(get("/v1/status", ""), Ok(Call::Ask(Question::Status)));
        let restart = route(Method::Post, "/v1/workloads/web/restart", "", b"");
        let question = Question::Do { workload: "web".to_owned(), deed: Deed::Restart };
        assert_eq!(restart, Ok(Call::Ask(question)));
        for path in
            ["/", "", "/v1", "/v1/workloads/", "/v1/workloads/web/", "/v1/workloads//restart", "/v2/status"]
        {
            assert_eq!(get(path, "").unwrap_err().status, 404, "{path}");
        }
    }

    #[test]
    fn another_method_is_told_the_right_one() {
        let (status, message) = told(get("/v1/workloads/web/stop", ""));
        assert_eq!((status, message.as_str()), (405, "expected POST for /v1/workloads/web/stop, found GET"));
    }

    #[test]
    fn a_scale_is_a_number_that_can_be_or_null_and_nothing_else() {
        let scale = |body: &str| route(Method::Post, "/v1/workloads/web/scale", "", body.as_bytes());
        let of = |replicas| {
            Ok(Call::Ask(Question::Do { workload: "web".to_owned(), deed: Deed::Scale(replicas) }))
        };
        assert_eq!(scale("{\"replicas\": 3}"), of(Some(3)));
        assert_eq!(scale("{\"replicas\": null}"), of(None));
        for body in ["", "{}", "3", "{\"replicas\": 65}", "{\"replicas\": -1}", "{\"replicas\": 1, \"x\": 2}"]
        {
            let (status, message) = told(scale(body));
            assert_eq!(status, 400, "{body}");
            assert!(
                message.starts_with("expected {\"replicas\": N} with N from 0 to 64 or null"),
                "{message}"
            );
        }
    }

    #[test]
    fn errors_count_for_a_version_so_their_replica_is_named() {
        let served = |body: &str| route(Method::Post, "/v1/workloads/web/served", "", body.as_bytes());
        let (status, message) = told(served("{\"requests\": 9, \"errors\": 3}"));
        assert_eq!(status, 400);
        assert_eq!(
            message,
            "expected the replica whose 3 requests went wrong: its version is judged by them"
        );
        assert!(served("{\"requests\": 9, \"errors\": 3, \"replica\": \"web.1\"}").is_ok());
        assert!(served("{\"requests\": 9}").is_ok());
    }

    #[test]
    fn queries_and_bodies_that_mean_nothing_are_refused() {
        let wanted = EventsWanted { after: 12, follow: true };
        assert_eq!(get("/v1/events", "follow=true&after=12"), Ok(Call::Events(wanted)));
        assert_eq!(
            told(get("/v1/events", "folow=true")).1,
            "expected after=NUMBER or follow=true, found folow=true"
        );
        let wanted = LogsWanted { lines: 5, follow: true };
        let logs = Call::Logs { workload: "web".to_owned(), wanted };
        assert_eq!(get("/v1/workloads/web/logs", "lines=5&follow=true"), Ok(logs));
        assert_eq!(get("/v1/workloads/web/logs", "after=5").unwrap_err().status, 400);
        assert_eq!(get("/v1/events", "after=-1").unwrap_err().status, 400);
        assert_eq!(get("/v1/status", "x=1").unwrap_err().status, 400);
        assert_eq!(route(Method::Get, "/v1/status", "", b"{}").unwrap_err().status, 400);
    }

    #[test]
    fn the_openapi_file_has_these_routes_and_no_others() {
        let file: serde_json::Value = serde_json::from_str(include_str!("../../api/openapi.json")).unwrap();
        let mut written = Vec::new();
        for (path, methods) in file["paths"].as_object().unwrap() {
            written.extend(methods.as_object().unwrap().keys().map(|method| format!("{method} {path}")));
        }
        let mut there: Vec<String> = ROUTES
            .iter()
            .map(|(method, path, _)| format!("{} {path}", method.name().to_lowercase()))
            .collect();
        written.sort();
        there.sort();
        assert_eq!(written, there);
    }
}
