//! What the fleet may do to a box, what it may not, and what a crash changes about that.

use std::time::Duration;

use hearth_disk::faulty::{Fate, Faulty, Unsynced};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::sign::testing::{Signer, ring, sealed, topics};

mod streams;

const WALL: u64 = 1_800_000_000_000;

fn at(seconds: u64) -> Now {
    Now { mono: Moment::START.after(Duration::from_secs(seconds)), wall_ms: WALL + seconds * 1000 }
}

struct Box {
    disk: Faulty,
    tree: Tree,
    rules: Rules,
    operate: Signer,
    release: Signer,
}

impl Box {
    fn new() -> Box {
        let (operate, release) = (Signer::new(), Signer::new());
        let rules = Rules {
            topics: topics(),
            keyring: ring(&operate, &release),
            fleet_wins: false,
            operations: vec![Kind::Reboot, Kind::RestartWorkload, Kind::Rollback, Kind::Trust],
            boot: "boot 1".to_owned(),
        };
        let mut disk = Faulty::default();
        let tree = Tree::open(&mut disk, rules.clone(), Opening::default(), at(0));
        Box { disk, tree, rules, operate, release }
    }

    /// Another daemon on the same disk.
    fn restart(&mut self) -> Option<u64> {
        let opening = Opening::read(&mut self.disk, &self.rules.boot);
        let version = opening.desired.as_ref().map(Desired::version);
        self.tree = Tree::open(&mut self.disk, self.rules.clone(), opening, at(0));
        version
    }

    fn desired(&self, version: u64, image: &str) -> Vec<u8> {
        let text = json!({
            "hearth": "desired", "for": ["plant/*"], "version": version, "from": "tomorrow",
            "workloads": { "web": { "image": image }, "old": null }
        });
        sealed(&text.to_string(), &[&self.operate]).to_json().into_bytes()
    }

    fn receive(&mut self, place: &str, payload: &[u8]) {
        self.tree.received(&mut self.disk, at(1), true, place, payload);
    }

    fn order(&mut self) -> Option<Order> {
        self.tree.next_order()
    }

    /// The desired state is there, and the daemon takes it.
    fn accept(&mut self, version: u64, image: &str) {
        let payload = self.desired(version, image);
        self.receive("desired", &payload);
        assert!(matches!(self.order(), Some(Order::Desired(desired)) if desired.version() == version));
        self.tell(News::Desired { version, outcome: Ok(vec!["web".to_owned()]) });
    }

    fn tell(&mut self, news: News) {
        self.tree.told(&mut self.disk, at(1), news);
    }

    fn report(&self) -> Value {
        serde_json::from_str(&self.tree.reported().payload).unwrap()
    }

    fn reason(&self) -> String {
        self.report()["rejected"]["reason"].as_str().unwrap_or_default().to_owned()
    }

    fn command(&self, op: &str, id: &str, more: &Value) -> Vec<u8> {
        let mut text =
            json!({ "hearth": "command", "for": ["plant/box-7"], "op": op, "id": id, "issued": WALL });
        let fields = text.as_object_mut().unwrap();
        fields.extend(more.as_object().unwrap().clone());
        sealed(&text.to_string(), &[&self.operate]).to_json().into_bytes()
    }

    /// State and reason of each answer.
    fn answers(&mut self) -> Vec<(String, String)> {
        std::iter::from_fn(|| self.tree.next_message())
            .map(|message| {
                let payload: Value = serde_json::from_str(&message.payload).unwrap();
                let field = |key: &str| payload[key].as_str().unwrap_or_default().to_owned();
                (format!("{} {}", message.place, field("state")), field("reason"))
            })
            .collect()
    }

    /// The reason why a command is rejected.
    fn refusal(&mut self, op: &str, id: &str, payload: &[u8]) -> String {
        self.receive(&format!("cmd/{op}/{id}"), payload);
        assert_eq!(self.order(), None);
        let mut answers = self.answers();
        assert_eq!(answers.len(), 1, "{answers:?}");
        let (state, reason) = answers.remove(0);
        assert_eq!(state, format!("cmd/{op}/{id} rejected"));
        reason
    }
}

#[test]
fn a_desired_state_is_followed_kept_and_reported() {
    let mut it = Box::new();
    assert_eq!((it.report()["version"].clone(), it.report()["state"].clone()), (json!(0), json!("none")));
    let payload = it.desired(7, "a");
    it.receive("desired", &payload);
    let Some(Order::Desired(desired)) = it.order() else { panic!("no order") };
    let workloads: Vec<_> = desired.workloads().collect();
    assert_eq!(workloads, [("old", None), ("web", Some(r#"{"image":"a"}"#))]);
    assert_eq!(it.report()["version"], json!(0), "nothing is reported before it is so");
    it.tell(News::Desired { version: 7, outcome: Ok(vec!["web".to_owned()]) });
    assert_eq!(it.report()["version"], json!(7));
    assert_eq!((&it.report()["state"], &it.report()["conflicts"]), (&json!("accepted"), &json!(["web"])));
    it.receive("desired", &payload);
    assert_eq!(it.order(), None, "the same is nothing new");
    assert_eq!(it.restart(), Some(7));
    it.receive("desired", &payload);
    assert_eq!((it.order(), it.report()["version"].clone()), (None, json!(7)));
    assert!(it.tree.current.as_ref().unwrap().text().contains("tomorrow"), "nothing unknown is lost");
}

#[test]
fn older_versions_other_words_under_one_version_and_the_unsigned_change_nothing() {
    let mut it = Box::new();
    it.accept(7, "a");
    for restarted in [false, true] {
        if restarted {
            it.restart();
        }
        let cases = [
            (it.desired(6, "a"), "version 6 is older than 7, which was accepted before"),
            (it.desired(7, "b"), "version 7 was accepted before, and said something else"),
            (b"{}".to_vec(), "expected an envelope: a JSON object with document and signatures"),
            (vec![b'['; 100_000], "expected an envelope: a JSON object with document and signatures"),
        ];
        for (payload, reason) in cases {
            it.receive("desired", &payload);
            assert_eq!(it.order(), None);
            assert_eq!(it.report()["version"], json!(7));
            // A daemon that begins anew may have been told before.
            assert!(it.reason() == reason || restarted, "{} is not {reason}", it.reason());
        }
    }
    let stranger = Box::new().desired(9, "x");
    it.receive("desired", &stranger);
    assert_eq!(it.reason(), "expected 1 signatures by keys of operate, found 0");
    let malformed = r#"{"hearth":"desired","for":["*"],"version":9,"workloads":{"web":3}}"#;
    let payload = sealed(malformed, &[&it.operate]).to_json().into_bytes();
    it.receive("desired", &payload);
    assert_eq!(it.reason(), "workloads.web: expected an object, or null for none");
    assert_eq!(it.report()["counts"]["rejected_desired"].as_u64(), Some(it.tree.counts.rejected_desired));
    it.accept(8, "b");
    assert_eq!(it.report()["rejected"], Value::Null);
}

#[test]
fn what_the_daemon_cannot_take_is_rejected_with_its_faults_and_the_last_one_stays() {
    let mut it = Box::new();
    it.accept(1, "a");
    let payload = it.desired(2, "b");
    it.receive("desired", &payload);
    it.order();
    let faults: Vec<_> = (0..20).map(|number| format!("web: fault {number}")).collect();
    it.tell(News::Desired { version: 2, outcome: Err(faults) });
    assert_eq!(
        (it.report()["version"].clone(), it.report()["rejected"]["version"].clone()),
        (json!(1), json!(2))
    );
    assert!(
        it.reason().starts_with("web: fault 0; ") && it.reason().ends_with("; 12 more"),
        "{}",
        it.reason()
    );
    it.receive("desired", &payload);
    assert_eq!(it.order(), None, "it is not tried at every connection");
    assert_eq!(it.restart(), Some(1));
    it.receive("desired", &payload);
    assert_eq!(it.order(), None, "nor by every daemon");
}

#[test]
fn convergence_is_what_the_workloads_of_the_document_say() {
    let mut it = Box::new();
    it.accept(1, "a");
    let standing = |state: &str, good, failed| Standing {
        name: "web".to_owned(),
        state: state.to_owned(),
        good,
        failed,
        reason: None,
        from_fleet: true,
        remote: Remote::default(),
    };
    for (one, state) in [
        (standing("starting", false, false), "accepted"),
        (standing("ready", true, false), "converged"),
        (standing("quarantined", false, true), "failed"),
    ] {
        it.tell(News::Standings { standings: vec![one], conflicts: Vec::new() });
        assert_eq!(it.report()["state"], json!(state));
    }
    assert_eq!(it.report()["workloads"]["web"]["from"], json!("fleet"));
}

#[test]
fn reports_keep_a_pause_and_only_changes_are_told() {
    let mut it = Box::new();
    assert!(it.tree.report(at(0)).is_some());
    assert!(it.tree.report(at(10)).is_none());
    it.accept(1, "a");
    assert!(it.tree.report(at(1)).is_none());
    assert_eq!(it.tree.deadline(at(1).mono), Some(at(2).mono));
    assert!(it.tree.report(at(2)).is_some());
}

#[test]
fn a_command_runs_through_its_states() {
    let mut it = Box::new();
    let payload = it.command("restart-workload", "x1", &json!({ "workload": "web" }));
    it.receive("cmd/restart-workload/x1", &payload);
    let operation = Operation::RestartWorkload { workload: "web".to_owned() };
    assert_eq!(it.order(), Some(Order::Run { id: "x1".to_owned(), operation }));
    let told = |it: &mut Box, state: &str, reason: &str| {
        let place = format!("cmd/restart-workload/x1 {state}");
        assert_eq!(it.answers(), [(place, reason.to_owned())]);
    };
    told(&mut it, "executing", "");
    it.receive("cmd/restart-workload/x1", &payload);
    told(&mut it, "executing", "");
    it.receive("cmd/restart-workload/x1", br#"{"state":"executing"}"#);
    assert_eq!(it.answers(), [], "that was us");
    it.tell(News::Ended { id: "x1".to_owned(), outcome: Outcome::Failed("no such workload".to_owned()) });
    told(&mut it, "failed", "no such workload");
    it.receive("cmd/restart-workload/x1", b"");
    it.receive("cmd/restart-workload/x1", &payload);
    told(&mut it, "failed", "no such workload");
    assert_eq!(it.order(), None);
}

#[test]
fn a_command_that_may_not_be_is_rejected_and_says_why() {
    let mut it = Box::new();
    it.accept(3, "a");
    let web = json!({ "workload": "web" });
    let with = |key: &str, value: u64| {
        let mut all = web.clone();
        all[key] = json!(value);
        all
    };
    let good = |it: &Box, more: &Value| it.command("rollback", "y", more);
    let refusals = [
        (good(&it, &with("expires", WALL + 1000)), "it is expired"),
        (good(&it, &with("expected_version", 2)), "expected version 2 of the desired state, found 3"),
        (good(&it, &json!({})), "workload: expected the name of one"),
        (good(&it, &json!({ "workload": "a/b" })), "workload: expected the name of one"),
        (good(&it, &json!({ "workload": "web", "issued": "now" })), "issued: expected a number"),
        (it.command("rollback", "z", &web), "op, id: expected those of its topic"),
        (it.command("reboot", "y", &web), "op, id: expected those of its topic"),
        (Box::new().command("rollback", "y", &web), "expected 1 signatures by keys of operate, found 0"),
        (b"nonsense".to_vec(), "expected an envelope: a JSON object with document and signatures"),
    ];
    for (payload, reason) in refusals {
        assert_eq!(it.refusal("rollback", "y", &payload), reason);
    }
    let unsigned = Box::new().command("exec", "y", &web);
    assert_eq!(it.refusal("exec", "y", &unsigned), "expected it to be signed by keys of operate or release");
    let update = it.command("update", "y", &web);
    assert_eq!(it.refusal("update", "y", &update), "expected 1 signatures by keys of release, found 0");
    let snapshot = it.command("snapshot", "y", &web);
    assert_eq!(it.refusal("snapshot", "y", &snapshot), "snapshot is not supported");
    let expires = it.command("rollback", "y", &with("expires", WALL + 60_000));
    it.tree.received(&mut it.disk, at(1), false, "cmd/rollback/y", &expires);
    assert_eq!(it.answers()[0].1, "it expires, and the box's clock was never set");
    it.receive("cmd/rollback/y", &expires);
    assert!(it.order().is_some(), "and with a clock it is good");
    it.disk.meet(1, Fate::Fails);
    let unkept = it.command("rollback", "w", &web);
    it.answers();
    assert_eq!(it.refusal("rollback", "w", &unkept), "it cannot be remembered: input/output error");
}

#[test]
fn a_command_begins_at_most_once_over_power_cuts_at_every_operation() {
    let ways = [Unsynced::Lost, Unsynced::Kept, Unsynced::Half, Unsynced::Zeros];
    let ways: Vec<_> = ways.into_iter().chain((0..20).map(Unsynced::Mixed)).collect();
    let mut begun_ever = 0;
    for number in 1..=12 {
        for way in &ways {
            let mut it = Box::new();
            let payload = it.command("rollback", "x", &json!({ "workload": "web" }));
            it.disk.meet(number, Fate::PowerCut);
            let mut begun = 0;
            it.receive("cmd/rollback/x", &payload);
            begun += u32::from(it.order().is_some());
            it.tell(News::Ended { id: "x".to_owned(), outcome: Outcome::Done });
            it.disk = it.disk.after_power_cut(*way);
            for _ in 0..3 {
                it.restart();
                // It lies at the broker still.
                it.receive("cmd/rollback/x", &payload);
                begun += u32::from(it.order().is_some());
                assert!(begun <= 1, "cut at {number}, {way:?}");
            }
            begun_ever += begun;
            assert_ne!(it.answers(), [], "and its end is told");
        }
    }
    assert!(begun_ever > 200, "{begun_ever}");
}

#[test]
fn a_reboot_is_successful_when_the_box_booted_and_everything_else_that_was_cut_off_failed() {
    let mut it = Box::new();
    for (op, id, more) in [("reboot", "r", json!({})), ("rollback", "b", json!({ "workload": "web" }))] {
        let payload = it.command(op, id, &more);
        it.receive(&format!("cmd/{op}/{id}"), &payload);
    }
    it.rules.boot = "boot 2".to_owned();
    it.answers();
    it.restart();
    let answers = it.answers();
    assert_eq!(answers[0], ("cmd/reboot/r successful".to_owned(), String::new()));
    assert_eq!(answers[1].0, "cmd/rollback/b failed");
    it.restart();
    assert_eq!(it.answers(), [], "once");
    let payload = it.command("reboot", "r2", &json!({}));
    it.receive("cmd/reboot/r2", &payload);
    it.answers();
    it.restart();
    assert_eq!(it.answers()[0].0, "cmd/reboot/r2 failed", "only the daemon began again");
}

#[test]
fn records_are_bounded_and_what_they_forgot_is_too_old() {
    let mut it = Box::new();
    let payload = |it: &Box, number: u64| {
        it.command("rollback", &number.to_string(), &json!({ "workload": "web", "issued": WALL + number }))
    };
    let first = payload(&it, 0);
    for number in 0..200 {
        let payload = payload(&it, number);
        it.receive(&format!("cmd/rollback/{number}"), &payload);
        assert!(it.order().is_some());
        it.tell(News::Ended { id: number.to_string(), outcome: Outcome::Done });
    }
    assert!(it.tree.kept.executions.len() <= 128);
    it.answers();
    assert_eq!(it.refusal("rollback", "0", &first), "it is older than all commands that are remembered");
    let many: Vec<_> = (1000..1009).map(|number| (number, payload(&it, number))).collect();
    for (number, payload) in &many[..8] {
        it.receive(&format!("cmd/rollback/{number}"), payload);
        it.order();
    }
    it.answers();
    assert_eq!(it.refusal("rollback", "1008", &many[8].1), "8 commands are on their way already");
}

#[test]
fn a_flood_of_nonsense_is_counted_and_answered_for_a_while_only() {
    let mut it = Box::new();
    for number in 0..1000 {
        it.receive(&format!("cmd/rollback/{number}"), b"x");
        it.receive("what/is/this", b"x");
        it.receive("cmd/rollback/a b", b"x");
    }
    assert!(it.answers().len() < 20);
    assert_eq!(it.report()["counts"]["rejected_commands"], json!(1000));
    assert_eq!(it.report()["counts"]["foreign"], json!(2000));
}

#[test]
fn a_flood_of_desired_states_is_looked_at_now_and_then_and_wears_no_disk_out() {
    let mut it = Box::new();
    let before = it.disk.operations;
    for version in 1..1000 {
        it.receive("desired", format!("nonsense {version}").as_bytes());
    }
    assert_eq!(it.report()["counts"]["rejected_desired"], json!(8));
    assert_eq!(it.report()["counts"]["passed_over"], json!(990));
    assert!(it.disk.operations - before < 150, "{}", it.disk.operations - before);
    // The last one counts, in its time.
    let good = it.desired(1, "a");
    it.receive("desired", &good);
    it.tree.tick(&mut it.disk, at(5));
    assert_eq!(it.order(), None);
    assert_eq!(it.tree.deadline(at(5).mono), Some(at(6).mono));
    it.tree.tick(&mut it.disk, at(6));
    assert!(matches!(it.order(), Some(Order::Desired(desired)) if desired.version() == 1));
}

#[test]
fn what_was_too_large_to_be_taken_is_told() {
    let mut it = Box::new();
    it.tree.oversized();
    assert_eq!(it.report()["counts"]["oversized"], json!(1));
    assert!(it.reason().contains("larger than it takes"));
}

#[test]
fn a_desired_state_with_which_the_daemon_ends_again_and_again_gives_way() {
    let mut it = Box::new();
    it.accept(1, "good");
    it.tree.tick(&mut it.disk, at(100));
    it.accept(2, "bad");
    // Each of them ends before the minute is over.
    for version in [2, 2, 1, 1, 1, 1] {
        assert_eq!(it.restart(), Some(version));
        assert_eq!(it.report()["version"], json!(version));
    }
    assert_eq!(it.restart(), None, "nothing is left to go back to");
    assert!(it.reason().contains("ended 3 times"));
    it.rules.boot = "boot 2".to_owned();
    assert_eq!(it.restart(), Some(1), "another boot, another chance");
    let bad = it.desired(2, "bad");
    it.receive("desired", &bad);
    assert_eq!(it.order(), None, "what lies at the broker does not bring it back");
    it.accept(3, "better");
    assert_eq!(it.restart(), Some(3));
}

#[test]
fn a_daemon_that_lives_on_has_nothing_counted_against_its_desired_state() {
    let mut it = Box::new();
    it.accept(1, "good");
    for _ in 0..20 {
        it.tree.tick(&mut it.disk, at(100));
        assert_eq!(it.restart(), Some(1));
        it.tree.close(&mut it.disk);
        assert_eq!(it.restart(), Some(1));
    }
    for boot in 0..20 {
        it.rules.boot = boot.to_string();
        assert_eq!(it.restart(), Some(1), "a power cut is no fault of it");
    }
}

#[test]
fn a_message_that_ends_the_daemon_is_left_alone_after_some_tries() {
    let mut it = Box::new();
    let payload = it.desired(5, "x");
    let mut tried = 0;
    for _ in 0..10 {
        it.receive("desired", &payload);
        tried += u32::from(it.order().is_some());
        // The daemon dies with the order in its hands.
        it.restart();
    }
    assert_eq!(tried, u32::from(MAX_TRIES));
}

#[test]
fn keys_change_by_a_command_and_stay_changed_until_somebody_at_the_box_says_otherwise() {
    let mut it = Box::new();
    let next = Signer::new();
    let text = json!({
        "hearth": "trust", "for": ["*"], "version": 1,
        "operate": { "keys": [next.word()], "threshold": 1 }
    });
    let by = |signer: &Signer| sealed(&text.to_string(), &[signer]).to_json().into_bytes();
    assert!(it.refusal("trust", "1", &by(&next)).contains("signatures"));
    let rotation = by(&it.release);
    it.receive("cmd/trust/2", &rotation);
    assert_eq!(it.answers()[0].0, "cmd/trust/2 successful");
    it.restart();
    let old = it.desired(1, "a");
    it.receive("desired", &old);
    assert_eq!(it.order(), None);
    it.operate = next;
    it.accept(2, "a");
    assert_eq!(it.report()["keys"], json!(1));
    let other = Signer::new();
    it.rules.keyring = ring(&other, &it.release);
    it.restart();
    assert_eq!(it.report()["keys"], json!(0));
    it.operate = other;
    it.accept(3, "a");
}

#[test]
fn capabilities_name_what_there_is_and_who_may() {
    let it = Box::new();
    let told = it.tree.capabilities();
    let places: Vec<_> = told.iter().map(|message| message.place.as_str()).collect();
    assert_eq!(places, ["cmd/reboot", "cmd/restart-workload", "cmd/rollback", "cmd/trust"]);
    assert!(told[1].payload.contains(r#""arguments":["workload"]"#) && told[3].payload.contains("release"));
}

#[test]
fn whatever_lies_in_its_files_a_tree_opens() {
    let mut it = Box::new();
    it.accept(4, "a");
    for name in ["tree", "desired"] {
        it.disk.damage(name, 20);
    }
    assert_eq!(it.restart(), None);
    it.accept(5, "a");
    assert_eq!(it.restart(), Some(5));
}

proptest! {
    #[test]
    fn arbitrary_bytes_are_survived_and_order_nothing(
        place in "(desired|cmd/[a-z-]{0,20}/[a-z0-9 ]{0,5}|cmd/reboot/x|[ -~]{0,30})",
        payload in prop::collection::vec(any::<u8>(), 0..200),
        json in r#"\{"document":"[a-z{}:,0-9]{0,30}","signatures":\[("[a-z \\n]{0,40}")?\]\}"#,
    ) {
        let mut it = Box::new();
        it.receive(&place, &payload);
        it.receive(&place, json.as_bytes());
        prop_assert_eq!(it.order(), None);
    }
}
