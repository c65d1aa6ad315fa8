//! `board fleet`: a box that is managed from afar.
//!
//! ```text
//! hearthctl fleet --> mosquitto <-- join <-- QEMU's network [a cable that is pulled] <-- hearthd on the board
//! mosquitto_sub ----/                                        relay <-- hearthctl status, which says how it really is
//! ```
//!
//! Duty: what a fleet does with a box, step by step, and after each whether the report at the broker says what the box
//! itself says. Not here: how a box obeys (`hearth-fleet`).
//! Invariant: nothing is waited for but what somebody says, with a deadline. Time is the board's, counted by
//! instructions: an hour without a link takes as long as the box has to do in it.

mod ear;
mod person;

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use thiserror::Error;

use self::{ear::Ear, person::Person};
use super::{BoardError, ScratchDisk, Started, Ways, build_with, qmp_socket, scratch_disk, start};
use crate::{
    arch::Arch,
    boards::{
        Board,
        broker::{self, Broker, BrokerError},
        door::{Door, Place},
        guest_files::GuestKernelChoice,
        image,
        monitor::Monitor,
        qemu::Pace,
        session::{Event, Session, SessionError},
    },
    programs::ProgramsError,
    verbs::doctor,
    workshop::Workshop,
};

/// For anything that a box should do or say, on a slow machine.
const PATIENCE: Duration = Duration::from_secs(300);
/// For an hour of the box's time, which a busy machine may take as long for.
const HOUR_PATIENCE: Duration = Duration::from_secs(900);
/// The names in its topics.
const GROUP: &str = "boards";
const NODE: &str = "box";
/// Seconds on the box's clock without a link.
const OUTAGE_S: u64 = 3600;
/// How often the cable is pulled while a command is on its way.
const FLAPS: u32 = 5;
/// What the box's own workload says of its clock.
const UP_FOR: &str = "clock | up for ";

#[derive(Debug, Error)]
pub(crate) enum FleetError {
    #[error(transparent)]
    Broker(#[from] BrokerError),
    #[error(transparent)]
    Programs(#[from] ProgramsError),
    #[error(transparent)]
    Session(#[from] SessionError),
    #[error("{0}")]
    Person(#[from] person::PersonError),
    #[error("mosquitto_sub")]
    Ear(#[source] std::io::Error),
    #[error("the board's cable")]
    Cable(#[source] std::io::Error),
    #[error("{step}: {words}")]
    Failed { step: &'static str, words: String },
}

pub(super) fn run(shop: &Workshop, board: Board) -> Result<ExitCode, BoardError> {
    let programs = image::programs(shop, Arch::HOST).map_err(FleetError::from)?;
    let broker = Broker::start(shop, broker::ANY_PORT).map_err(FleetError::from)?;
    let person = Person::new(programs.path("hearthctl"), &broker).map_err(FleetError::from)?;
    let more = format!(
        "{}group = \"{GROUP}\"\n[fleet.outbox]\nfolder = \"/var/lib/hearth/outbox\"\nfree_mib = 8\n{}",
        broker.config(true, NODE),
        person.operator().map_err(FleetError::from)?.config()
    );
    let config = shop.path("tests/boards/fleet");
    let image = build_with(shop, board, GuestKernelChoice::Own, Some(&config), Some(&more))?;
    let disk = scratch_disk(shop)?;
    let place = Place::in_folder(person.folder());
    let door = Door::open(&place, None)?;
    let host = doctor::measure(shop)?;
    let ear = Ear::new(&broker).map_err(FleetError::Ear)?;
    let ways = Ways { door: Some(&door), broker: Some(&broker) };
    let Started { session, secrets: _secrets, .. } =
        start(board, &image, Pace::Counted, host, &[], Some(&disk.path), ways)?;
    let _kept: (ScratchDisk, Broker) = (disk, broker);
    let cable = Monitor::at(&qmp_socket());
    let mut campaign = Campaign { person, place, ear, cable, session, up_s: 0, step: "", steps: 0 };
    campaign.run()?;
    println!("fleet: {} steps held, 0 failed", campaign.steps);
    Ok(ExitCode::SUCCESS)
}

struct Campaign {
    person: Person,
    /// Where the box itself is asked.
    place: Place,
    ear: Ear,
    cable: Monitor,
    session: Session,
    /// The box's clock, as its workload last said.
    up_s: u64,
    step: &'static str,
    steps: u32,
}

impl Campaign {
    fn run(&mut self) -> Result<(), FleetError> {
        self.begin("a box is born, and its report says what it says");
        self.console("hearthd  | ready: 1 of 1 workloads")?;
        self.console("hearthd  | fleet: mqtt://10.0.2.100:1883 is connected")?;
        self.hear("its birth", |ear| ear.since(0, "NBIRTH/box") > 0)?;
        self.told("none", 0)?;
        self.held();

        self.begin("a desired state adds a workload");
        self.push(1, &service("echo", 1), "converged")?;
        self.told("converged", 1)?;
        self.held();

        self.begin("another one scales it");
        self.push(2, &service("echo", 3), "converged")?;
        self.hear("births of its replicas", |ear| {
            ear.since(0, "DBIRTH/box/web.1") > 0 && ear.since(0, "DBIRTH/box/web.2") > 0
        })?;
        self.told("converged", 2)?;
        self.held();

        self.begin("a bad version rolls itself back");
        let good = self.version_of_web()?;
        self.push(3, &service("none", 3), "Failed: web ")?;
        self.told("failed", 3)?;
        let (left, told) = (self.version_of_web()?, self.report()["workloads"]["web"].clone());
        self.expect(left == good, format!("{left} runs and not {good}"))?;
        let reason = told["reason"].as_str().unwrap_or_default();
        self.expect(reason.contains("was taken back"), format!("the report says {told}"))?;
        self.push(4, &service("echo", 3), "converged")?;
        self.told("converged", 4)?;
        self.held();

        self.begin("a guest without credentials tells the fleet something");
        let both = json!({ "web": service("echo", 3), "sensor": sensor() });
        self.push_all(5, &both, "converged")?;
        self.hear("what it told", |ear| ear.said("hearth/v1/boards/box/workload/sensor/t") == "hi")?;
        self.told("converged", 5)?;
        self.held();

        self.begin("a command is done once while the link flaps");
        let before = self.machines()?;
        let asked = self.person.ask("restart-workload", "clock")?;
        for flap in 0..FLAPS {
            self.pull_the_cable_for(u64::from(flap * 20))?;
        }
        let answer = self.person.answer(asked)?;
        self.expect(answer == "box: successful\n", format!("hearthctl says {answer:?}"))?;
        let after = self.machines()?;
        self.expect(after == before + 1, format!("{before} machines of it before, {after} after"))?;
        self.told("converged", 5)?;
        self.held();

        self.begin("an hour without a link");
        let (runs, said) = (self.all_machines()?, self.ear.heard());
        self.pull_the_cable_for(OUTAGE_S)?;
        self.hear("its birth anew", |ear| ear.since(said, "NBIRTH/box") > 0)?;
        // Its uptime alone is news every five minutes.
        let least = usize::try_from(OUTAGE_S / 300).unwrap_or(usize::MAX);
        self.hear("what it measured meanwhile", |ear| ear.historical(said) >= least)?;
        self.told("converged", 5)?;
        let left = self.all_machines()?;
        self.expect(left == runs, format!("machines before {runs}, after {left}"))?;
        self.held();

        self.begin("it leaves as it should");
        self.session.power_off()?;
        self.hear("its death", |ear| ear.since(said, "NDEATH/box") > 0)?;
        loop {
            match self.session.next(None)? {
                Event::Ended(status) if status.success() => break,
                Event::Ended(status) => return Err(self.failed(format!("the board ended: {status}"))),
                Event::Line(_) | Event::Deadline => {}
            }
        }
        self.held();
        Ok(())
    }

    fn begin(&mut self, step: &'static str) {
        self.step = step;
        println!("fleet: {step} ...");
    }

    fn held(&mut self) {
        self.steps += 1;
        println!("fleet: {}: held", self.step);
    }

    fn failed(&self, words: String) -> FleetError {
        FleetError::Failed { step: self.step, words }
    }

    fn expect(&self, good: bool, words: String) -> Result<(), FleetError> {
        if good { Ok(()) } else { Err(self.failed(words)) }
    }

    /// Follows the console until `good` of what was heard, or of a line.
    fn until(
        &mut self,
        what: &str,
        good: impl FnMut(&mut Campaign, Option<&str>) -> Result<bool, FleetError>,
    ) -> Result<(), FleetError> {
        self.until_within(PATIENCE, what, good)
    }

    fn until_within(
        &mut self,
        patience: Duration,
        what: &str,
        mut good: impl FnMut(&mut Campaign, Option<&str>) -> Result<bool, FleetError>,
    ) -> Result<(), FleetError> {
        let end = Instant::now() + patience;
        let mut line = None;
        while !good(self, line.as_deref())? {
            // What the broker passes on comes by another way than the console, which is never silent for long.
            match self.session.next(Some(end))? {
                Event::Line(text) => {
                    if let Some(words) = plain(&text).strip_prefix(UP_FOR) {
                        self.up_s =
                            words.split(' ').next().and_then(|word| word.parse().ok()).unwrap_or(self.up_s);
                    }
                    line = Some(text);
                }
                Event::Deadline => return Err(self.failed(format!("nothing was heard of {what}"))),
                Event::Ended(status) => return Err(self.failed(format!("the board ended: {status}"))),
            }
        }
        Ok(())
    }

    fn console(&mut self, start: &str) -> Result<(), FleetError> {
        self.until(&format!("the line {start:?}"), |_, line| {
            Ok(line.is_some_and(|line| plain(line) == plain(start)))
        })
    }

    fn hear(&mut self, what: &str, good: impl Fn(&Ear) -> bool) -> Result<(), FleetError> {
        self.until(what, |campaign, _| Ok(good(&campaign.ear)))
    }

    fn report(&self) -> Value {
        self.ear.last(&format!("hearth/v1/{GROUP}/{NODE}/reported"))
    }

    /// The report says this, and of its workloads what the box itself says of them.
    fn told(&mut self, state: &str, version: u64) -> Result<(), FleetError> {
        let person = self.person.clone();
        let socket = self.place.socket();
        let (mut really, mut report) = (Value::Null, Value::Null);
        let found = self.until("such a report", |campaign, _| {
            report = campaign.report();
            if report["state"] != state || report["version"] != version {
                return Ok(false);
            }
            really = person.really(&socket)?;
            Ok(alike(&really, &report["workloads"]))
        });
        found.map_err(|error| self.failed(format!("{error}; the report is {report}, and the box {really}")))
    }

    fn push(&mut self, version: u64, web: &Value, told: &str) -> Result<(), FleetError> {
        self.push_all(version, &json!({ "web": web }), told)
    }

    fn push_all(&mut self, version: u64, workloads: &Value, told: &str) -> Result<(), FleetError> {
        let said = self.person.push(version, workloads)?;
        self.expect(said.contains(told), format!("hearthctl says {said:?}"))
    }

    fn of(&self, workload: &str) -> Result<Value, FleetError> {
        let really = self.person.really(&self.place.socket())?;
        let all = really["workloads"].as_array().cloned().unwrap_or_default();
        let one = all.into_iter().find(|one| one["name"] == workload);
        one.ok_or_else(|| self.failed(format!("the box has no workload {workload}")))
    }

    fn version_of_web(&self) -> Result<Value, FleetError> {
        Ok(self.of("web")?["version"].take())
    }

    /// How many machines the box's own workload had so far.
    fn machines(&self) -> Result<u64, FleetError> {
        Ok(self.of("clock")?["replicas"][0]["run"].as_u64().unwrap_or(0))
    }

    fn all_machines(&self) -> Result<String, FleetError> {
        let runs = |one: &Value| {
            one["replicas"].as_array().into_iter().flatten().map(|one| one["run"].to_string()).collect()
        };
        let all: [Vec<String>; 2] = [runs(&self.of("clock")?), runs(&self.of("web")?)];
        Ok(all.concat().join(" "))
    }

    /// Until so much time passed on the box.
    fn pull_the_cable_for(&mut self, seconds: u64) -> Result<(), FleetError> {
        self.cable.plug_in(false).map_err(FleetError::Cable)?;
        let end = self.up_s + seconds;
        let passed =
            self.until_within(HOUR_PATIENCE, "time that passes", |campaign, _| Ok(campaign.up_s > end));
        self.cable.plug_in(true).map_err(FleetError::Cable)?;
        passed
    }
}

/// Both say the same of each workload.
fn alike(really: &Value, report: &Value) -> bool {
    let workloads = really["workloads"].as_array().map(Vec::as_slice).unwrap_or_default();
    let same = |one: &Value| {
        let told = &report[one["name"].as_str().unwrap_or_default()];
        told["state"] == one["state"]
    };
    !workloads.is_empty()
        && report.as_object().is_some_and(|told| told.len() == workloads.len())
        && workloads.iter().all(same)
}

fn service(program: &str, replicas: u32) -> Value {
    json!({
        "kind": "service", "image": "demo.squashfs", "command": [format!("/demo/{program}")], "replicas": replicas,
        "resources": { "memory_mib": 64 }, "rollout": { "window_s": 5 },
    })
}

/// Says "hi" on the topic "t" as a client of MQTT 3.1.1 does, and waits a moment for the answer.
fn sensor() -> Value {
    const CONNECT: &str = r"\020\014\000\004MQTT\004\002\000\074\000\000";
    const PUBLISH: &str = r"\062\007\000\001t\000\001hi";
    let say = format!("(printf '{CONNECT}{PUBLISH}'; sleep 1) | /bin/busybox nc 127.0.0.1 1883");
    json!({
        "kind": "job", "image": "demo.squashfs", "command": ["/bin/sh", "-c", say], "resources": { "memory_mib": 64 },
        "telemetry": { "topics": ["t"] },
    })
}

/// Without the blanks that line up the daemon's columns.
fn plain(line: &str) -> String {
    match line.split_once('|') {
        Some((speaker, words)) => format!("{} |{}", speaker.trim_end(), words.trim_end()),
        None => line.trim_end().to_owned(),
    }
}
