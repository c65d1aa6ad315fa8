//! Commands with output: who may, what they may ask for, and how they end.

use super::*;

/// A workload with a word on who may do what in it.
fn allowing(name: &str, remote: Remote) -> Standing {
    let state = "ready".to_owned();
    Standing {
        name: name.to_owned(),
        state,
        good: true,
        failed: false,
        reason: None,
        from_fleet: false,
        remote,
    }
}

fn with_streams() -> Box {
    let mut it = Box::new();
    it.rules.operations.extend([Kind::Exec, Kind::Console, Kind::FetchLogs, Kind::Cancel, Kind::Snapshot]);
    it.restart();
    let remote = Remote { exec: Some(Role::Operate), console: Some(Role::Release), fetch_logs: None };
    it.tell(News::Standings { standings: vec![allowing("web", remote)], conflicts: Vec::new() });
    it
}

#[test]
fn what_a_workload_allows_is_done_for_the_role_that_it_names_and_refusals_name_the_key() {
    let mut it = with_streams();
    let refusals = [
        ("console", "web", "web: console takes signatures by keys of release (its remote.console)"),
        (
            "fetch-logs",
            "web",
            "web: fetch-logs is off; remote.fetch_logs = \"operate\" or \"release\" in its configuration allows it",
        ),
        ("exec", "other", "there is no workload other"),
    ];
    for (op, workload, reason) in refusals {
        let payload = it.command(op, "a", &json!({ "workload": workload, "command": ["ps"] }));
        assert_eq!(it.refusal(op, "a", &payload), reason);
    }
    let ask = json!({ "workload": "web.1", "command": ["cat"], "input": "x", "max_kib": 1, "timeout_s": 9 });
    let payload = it.command("exec", "a", &ask);
    it.receive("cmd/exec/a", &payload);
    let Some(Order::Run { operation: Operation::Stream(stream), .. }) = it.order() else {
        panic!("no order")
    };
    let within = Duration::from_secs(9);
    let subject = Subject::Exec { command: vec!["cat".to_owned()], input: "x".to_owned(), within };
    let expected =
        Stream { target: "web.1".to_owned(), subject, most_bytes: 1024, role: Some(Role::Operate) };
    assert_eq!(*stream, expected);
    for (key, bad, reason) in [
        ("command", json!([]), "command: expected a list of 1 to 256 words"),
        ("command", json!(["a", 1]), "command: expected a list of 1 to 256 words"),
        ("input", json!("x".repeat(MAX_INPUT + 1)), "input: expected a text of at most 32768 bytes"),
        ("max_kib", json!(0), "max_kib: expected a number, 1 to 1024"),
        ("timeout_s", json!("1"), "timeout_s: expected a number, 1 to 3600"),
        ("workload", json!("a b"), "workload: expected the name of one"),
    ] {
        let mut ask = ask.clone();
        ask[key] = bad;
        let payload = it.command("exec", "b", &ask);
        it.answers();
        assert_eq!(it.refusal("exec", "b", &payload), reason);
    }
}

#[test]
fn the_end_of_a_stream_is_told_with_its_tally_and_again_when_asked_again() {
    let mut it = with_streams();
    let payload = it.command("exec", "a", &json!({ "workload": "web", "command": ["ps"] }));
    it.receive("cmd/exec/a", &payload);
    assert!(it.order().is_some());
    let same = it.command("rollback", "a", &json!({ "workload": "web" }));
    it.answers();
    assert_eq!(it.refusal("rollback", "a", &same), "a command exec of the same id is on its way");
    let none = it.command("cancel", "c", &json!({ "of": "b" }));
    assert_eq!(it.refusal("cancel", "c", &none), "of: no such command is on its way");
    let cancel = it.command("cancel", "c", &json!({ "of": "a" }));
    it.receive("cmd/cancel/c", &cancel);
    let operation = Operation::Cancel { of: "a".to_owned() };
    assert_eq!(it.order(), Some(Order::Run { id: "c".to_owned(), operation }));
    it.answers();
    let tally = Tally { chunks: 2, bytes: 30, dropped: 1, exit: Some(3) };
    let failure = Some("it ended with status 3".to_owned());
    it.tell(News::Ended { id: "a".to_owned(), outcome: Outcome::Streamed { failure, tally } });
    let message = it.tree.next_message().unwrap();
    let told: Value = serde_json::from_str(&message.payload).unwrap();
    let all = json!({ "state": "failed", "reason": "it ended with status 3", "chunks": 2, "bytes": 30,
        "dropped": 1, "exit": 3 });
    assert_eq!(told, all);
    it.restart();
    it.answers();
    it.receive("cmd/exec/a", &payload);
    assert_eq!((it.order(), it.tree.next_message().unwrap()), (None, message), "also for another daemon");
}

#[test]
fn operations_of_workloads_are_announced_when_one_allows_them_and_taken_back() {
    let mut it = with_streams();
    let told: Vec<_> = it.tree.announcements().map(|message| (message.place, message.payload)).collect();
    let places: Vec<_> = told.iter().map(|(place, _)| place.as_str()).collect();
    assert_eq!(places, ["cmd/exec", "cmd/console"], "what nobody may is not announced");
    assert!(told[0].1.contains(r#""workloads":{"web":"operate"}"#), "{}", told[0].1);
    it.tell(News::Standings { standings: vec![allowing("web", Remote::default())], conflicts: Vec::new() });
    let told: Vec<_> = it.tree.announcements().map(|message| (message.place, message.payload)).collect();
    assert_eq!(told, [("cmd/exec".to_owned(), String::new()), ("cmd/console".to_owned(), String::new())]);
}

#[test]
fn what_the_daemon_finds_not_allowed_any_more_is_rejected_and_counted() {
    let mut it = with_streams();
    let payload = it.command("exec", "a", &json!({ "workload": "web", "command": ["ps"] }));
    it.receive("cmd/exec/a", &payload);
    it.answers();
    let before = it.tree.counts.rejected_commands;
    it.tell(News::Ended { id: "a".to_owned(), outcome: Outcome::Rejected("no more".to_owned()) });
    assert_eq!(it.answers(), [("cmd/exec/a rejected".to_owned(), "no more".to_owned())]);
    assert_eq!(it.tree.counts.rejected_commands, before + 1);
}
