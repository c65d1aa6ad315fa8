//! A day of a shop: its load comes and goes, and a machine dies in the thick of it.
//!
//! ```text
//! 07:40 quiet --07:55--> opens --08:05--> full ... 08:12 a monitor is killed ... --08:20--> empties --08:30--> quiet
//! ```
//!
//! Duty: the load (`shape`), whoever passes it on (`router`), what has to be true of the box by when. Not here: the box;
//! it is asked as a person asks it.
//! Invariant: nothing is believed but what a client sees: answers to requests, and the API's.

mod router;
mod shape;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use hearth_supervisor::api::client::{Client, read};
use hearth_supervisor::api::types::{BoxStatus, EventTold, WorkloadStatus};
use nix::sys::signal::Signal;
use nix::time::{ClockId, clock_gettime};
use serde_json::Value;

use self::router::{Machine, Router};
use self::shape::{Clock, Dice};
use crate::patient::{Patient, Trouble};

const WEB: &str = "web";
/// One replica serves so many in a second.
const SERVED: f64 = 1.0 / 0.8;
/// How long one may wait, as its file says.
const WAIT: Duration = Duration::from_millis(4000);
/// In the middle of the peak.
const FAULT: Clock = Clock::at(8, 12);
/// The last minute in which nobody expects anybody.
const CLOSED: Clock = Clock::at(7, 54);
/// The load is told so often, and the box looked at.
const TELL: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_secs(1);
/// For the last ones to be served.
const PATIENCE: Duration = Duration::from_secs(60);
/// The days before, of which the box is told.
const DIARY_DAYS: u64 = 7;

pub(crate) fn run() -> ExitCode {
    let mut day = match Day::begin() {
        Ok(day) => day,
        Err(trouble) => return cannot(&trouble),
    };
    match day.pass().and_then(|()| day.judge()) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(trouble) => cannot(&trouble),
    }
}

fn cannot(trouble: &Trouble) -> ExitCode {
    println!("day: cannot go on: {trouble}");
    ExitCode::FAILURE
}

struct Day {
    patient: Patient,
    router: Router,
    dice: Dice,
    /// Replicas that were ready, whenever that changed.
    ready: Vec<(Clock, usize)>,
    told: Vec<EventTold>,
    killed: Option<Killed>,
}

/// A machine that was.
struct Killed {
    machine: Machine,
    at: Clock,
    again: Option<Clock>,
}

impl Day {
    fn begin() -> Result<Day, Trouble> {
        let mut patient = Patient::default();
        patient.wait_until_well()?;
        let mut dice = Dice(1);
        let (midnight, now) = (unix() - unix() % 86_400, time_of_day());
        if now > shape::OPENS {
            return Err(Trouble(format!("it is {now} already, and the shop opened at {}", shape::OPENS)));
        }
        teach(&shape::diary(midnight, DIARY_DAYS, &mut dice))?;
        println!("day: {now}: the box was told of {DIARY_DAYS} days before");
        let _ = patient.events();
        let (router, ready, told) = (Router::new(), Vec::new(), Vec::new());
        Ok(Day { patient, router, dice, ready, told, killed: None })
    }

    /// Everybody who comes, and what the box does meanwhile.
    fn pass(&mut self) -> Result<(), Trouble> {
        let mut next = Instant::now() + self.pause(time_of_day());
        let (mut tell, mut look) = (Instant::now() + TELL, Instant::now());
        let mut end = None;
        loop {
            let (now, clock) = (Instant::now(), time_of_day());
            if now >= look {
                look = now + LOOK;
                self.look(clock)?;
            }
            if now >= tell {
                tell = now + TELL;
                self.tell();
            }
            if clock > shape::ENDS {
                let end = *end.get_or_insert(now + PATIENCE);
                if self.router.is_idle() || now > end {
                    return Ok(());
                }
                self.router.listen(look.min(tell));
            } else {
                if now >= next {
                    self.router.come();
                    next += self.pause(clock);
                }
                self.router.listen(next.min(look).min(tell));
            }
        }
    }

    fn pause(&mut self, clock: Clock) -> Duration {
        Duration::from_secs_f64(self.dice.next_arrival(shape::rate(clock)))
    }

    fn look(&mut self, clock: Clock) -> Result<(), Trouble> {
        let Some(status) = self.patient.status() else { return Ok(()) };
        let ready = ready_of(&status);
        if self.ready.last().is_none_or(|(_, before)| *before != ready.len()) {
            let (rate, waiting) = (shape::rate(clock), self.router.waiting());
            println!(
                "day: {clock}: {} ready at {rate:.2} requests/s, {waiting} waiting{}",
                ready.len(),
                why()
            );
            self.ready.push((clock, ready.len()));
        }
        if clock > FAULT && self.killed.is_none() && ready.len() > 1 {
            self.strike(clock, &ready)?;
        }
        if let Some(killed) = &mut self.killed
            && killed.again.is_none()
            && ready.iter().any(|(name, run)| *name == killed.machine.0 && *run > killed.machine.1)
        {
            killed.again = Some(clock);
        }
        self.router.ready(ready);
        self.told.extend(self.patient.events());
        Ok(())
    }

    fn strike(&mut self, at: Clock, ready: &[Machine]) -> Result<(), Trouble> {
        let Some(machine) = ready.last().cloned() else { return Ok(()) };
        println!("day: {at}: the monitor of {} is killed", machine.0);
        self.patient.signal(self.patient.monitor(&machine.0)?, Signal::SIGKILL)?;
        self.killed = Some(Killed { machine, at, again: None });
        Ok(())
    }

    /// What is not heard is lost, as it would be for anybody who passes requests on.
    fn tell(&mut self) {
        let since = self.router.since();
        let (busy_ms, waiting) = (since.busy.as_millis(), self.router.waiting());
        let body = format!("{{\"requests\":{},\"busy_ms\":{busy_ms},\"waiting\":{waiting}}}", since.requests);
        if let Err(trouble) = post("served", &body) {
            println!("day: {}: {} requests are not heard of: {trouble}", time_of_day(), since.requests);
        }
    }

    /// How many of the findings do not hold.
    fn judge(&mut self) -> Result<usize, Trouble> {
        let mut findings = Findings::default();
        let needed = shape::whole(shape::BUSY / SERVED) as usize + 1;
        let before = self.ready.iter().take_while(|(clock, _)| *clock < CLOSED).last();
        findings.add(
            "one replica does while the shop is closed",
            before.is_some_and(|(_, ready)| *ready == 1),
            &before
                .map_or("nothing was seen".to_owned(), |(clock, ready)| format!("{ready} from {clock} on")),
        );
        let first = self.ready.iter().find(|(_, ready)| *ready >= needed).map(|(clock, _)| *clock);
        findings.add(
            "replicas rise before the peak",
            first.is_some_and(|first| CLOSED < first && first < shape::FULL),
            &first.map_or("never".to_owned(), |first| {
                format!("{needed} at {first}, the peak begins at {}", shape::FULL)
            }),
        );
        let second = self.ready.iter().find(|(clock, ready)| *clock > CLOSED && *ready > 1);
        let second = second.map(|(clock, _)| *clock);
        findings.add(
            "the first of them before one is too few",
            second.is_some_and(|second| shape::rate(second) < SERVED),
            &second.map_or("never".to_owned(), |second| {
                format!("2 at {second} with {:.2} requests/s, one serves {SERVED:.2}", shape::rate(second))
            }),
        );
        let last = self.ready.last().copied();
        findings.add(
            "replicas fall after it",
            last.is_some_and(|(clock, ready)| ready == 1 && clock > shape::EMPTIES),
            &last.map_or("never".to_owned(), |(clock, ready)| format!("{ready} from {clock} on")),
        );
        self.judge_fault(&mut findings);
        let total = &self.router.total;
        findings.add(
            "every request is answered",
            total.served == total.came,
            &format!("{} of {}, {} of them begun anew", total.served, total.came, total.again),
        );
        let late = total.waited.iter().filter(|waited| **waited > WAIT).count();
        let share = 100.0 * late as f64 / total.waited.len().max(1) as f64;
        println!("day: {share:.1} % of {} requests waited for more than {} ms", total.came, WAIT.as_millis());
        let starts = |warm: bool| {
            let begun = self.told.iter().filter(|event| event.kind == "running");
            begun.filter(|event| event.text.contains("warm snapshot") == warm).count()
        };
        println!("day: {} starts from the warm snapshot, {} cold ones", starts(true), starts(false));
        Ok(findings.close())
    }

    fn judge_fault(&self, findings: &mut Findings) {
        let Some(killed) = &self.killed else {
            findings.add("a fault under load", false, "none was inflicted");
            return;
        };
        let of_it = |event: &&EventTold| event.replica.as_deref() == Some(&killed.machine.0);
        let failed = self.told.iter().filter(of_it).find(|event| event.kind == "failed");
        findings.add(
            "a fault under load is detected, and told",
            failed.is_some(),
            &failed.map_or("nothing was told".to_owned(), |event| event.text.clone()),
        );
        let cure = self.told.iter().filter(of_it).find(|event| event.kind == "restart");
        findings.add(
            "its cure is explained",
            cure.is_some(),
            &cure.map_or("nothing was told".to_owned(), |event| event.text.clone()),
        );
        findings.add(
            "it is healed",
            killed.again.is_some(),
            &killed
                .again
                .map_or("never".to_owned(), |again| format!("killed at {}, ready at {again}", killed.at)),
        );
    }
}

#[derive(Default)]
struct Findings {
    held: usize,
    failed: usize,
}

impl Findings {
    fn add(&mut self, what: &str, holds: bool, how: &str) {
        println!("day: {what}: {}: {how}", if holds { "held" } else { "FAILED" });
        if holds {
            self.held += 1;
        } else {
            self.failed += 1;
        }
    }

    fn close(self) -> usize {
        println!("day: {} held, {} failed", self.held, self.failed);
        self.failed
    }
}

fn ready_of(status: &BoxStatus) -> Vec<Machine> {
    let web = status.workloads.iter().find(|workload| workload.name == WEB);
    let replicas = web.map_or(&[][..], |web: &WorkloadStatus| &web.replicas);
    let ready = replicas.iter().filter(|replica| replica.state == "ready");
    ready.map(|replica| (replica.name.clone(), replica.run)).collect()
}

/// What the box says of its number of replicas.
fn why() -> String {
    let told = connect().and_then(|mut client| {
        let failed = |error| Trouble::of("forecast", &error);
        read::<Value>(&client.get("/v1/workloads/web/forecast").map_err(failed)?).map_err(failed)
    });
    let advice = told.map(|view| view["advice"].clone()).unwrap_or_default();
    match (advice["replicas"].as_u64(), advice["why"].as_str()) {
        (Some(replicas), Some(why)) => format!("; advice {replicas}: {why}"),
        _ => String::new(),
    }
}

fn teach(diary: &str) -> Result<(), Trouble> {
    // What `hearthctl forecast web --teach` does with a file, at the box's pace of a sample in a minute.
    const PER_REQUEST: usize = 600;
    let samples: Vec<(&str, &str)> = diary.lines().skip(1).filter_map(|line| line.split_once(',')).collect();
    for piece in samples.chunks(PER_REQUEST) {
        let values: Vec<&str> = piece.iter().map(|(_, value)| *value).collect();
        let from = piece.first().map_or("0", |(at, _)| at);
        let body = format!("{{\"metric\":\"requests\",\"from_s\":{from},\"values\":[{}]}}", values.join(","));
        post("forecast/teach", &body)?;
    }
    Ok(())
}

fn connect() -> Result<Client, Trouble> {
    Client::connect(&Patient::state().join("api.sock")).map_err(|error| Trouble::of("api.sock", &error))
}

fn post(deed: &str, body: &str) -> Result<Value, Trouble> {
    let failed = |error| Trouble::of(deed, &error);
    let answer = connect()?.post(&format!("/v1/workloads/{WEB}/{deed}"), body.as_bytes()).map_err(failed)?;
    read(&answer).map_err(failed)
}

fn unix() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_REALTIME).map_or(Duration::ZERO, Duration::from);
    now.as_secs()
}

fn time_of_day() -> Clock {
    let now = clock_gettime(ClockId::CLOCK_REALTIME).map_or(Duration::ZERO, Duration::from);
    Clock(now.as_secs_f64() % 86_400.0)
}
