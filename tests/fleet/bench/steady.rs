//! Bytes of telemetry of a box on which nothing happens but what always does.

use std::error::Error;
use std::path::Path;

use hearth_fleet::figures::{Device, Figure, Snapshot, Value};
use hearth_fleet::topics::Id;
use hearth_fleet_tests::broker::Broker;
use hearth_fleet_tests::member::{Member, options};
use hearth_fleet_tests::tap::{Said, Tap};
use hearth_fleet_tests::wire::Packet;

use crate::line;

const WORKLOADS: usize = 10;
/// A look each ten seconds, for an hour.
const LOOKS: u32 = 360;
const LOOKS_PER_MINUTE: u32 = 6;
const PROMISED_PER_MINUTE: usize = 1536;
/// PINGREQ and PINGRESP each half minute, which no look of this hour in seconds takes the time for.
const PINGS_PER_MINUTE: usize = 2 * (2 + 2);

/// A stream that its seed gives again.
struct Dice(u64);

impl Dice {
    /// Evenly between -1 and 1.
    #[expect(clippy::cast_precision_loss, reason = "noise")]
    fn swing(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as f64 / f64::from(1 << 30) - 1.0
    }
}

/// As the daemon draws it, bands included: memory that breathes, load that jitters, now and then a restart.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "figures far inside their types")]
fn look(dice: &mut Dice, number: u32, memory: &mut [f64], load: &mut f64, free: &mut f64) -> Snapshot {
    const MIB: f64 = 1_048_576.0;
    *load = 0.9 * *load + 0.1 * (0.8 + 1.5 * dice.swing());
    *free = (*free + 4.0 * dice.swing()).clamp(200.0, 900.0);
    let bytes = |mib: f64| Value::Whole((mib * MIB) as u64);
    let restarts = u64::from(number / 30);
    // While it comes up again it says so, for a look.
    let is_up = number == 0 || !number.is_multiple_of(30);
    let mut node = vec![
        Figure::exact("Properties/Version", Value::Text("0.1.0".into())),
        Figure::wide("Host/Uptime", Value::Whole(u64::from(number) * 10), 300.0, 0),
        Figure::exact("Host/Clock plausible", Value::Flag(true)),
        Figure::exact("Host/Memory total", bytes(2048.0)),
        Figure::wide("Host/Memory available", bytes(*free), 32.0 * MIB, 10),
        Figure::exact("Host/Disk total", bytes(32_768.0)),
        Figure::wide("Host/Disk free", bytes(20_000.0 - f64::from(number)), 256.0 * MIB, 10),
        Figure::wide("Host/Load", Value::Real(*load as f32), 0.5, 25),
        Figure::wide("Daemon/Memory", bytes(12.0 + dice.swing() / 4.0), MIB, 10),
        Figure::exact("Box/Phase", Value::Text("running".into())),
        Figure::exact("Workloads/All", Value::Whole(10)),
        Figure::exact("Workloads/Good", Value::Whole(9 + u64::from(is_up))),
        Figure::exact("Healing/Restarts", Value::Whole(restarts)),
        Figure::exact("Healing/Process restarts", Value::Whole(0)),
        Figure::exact("Healing/Healed", Value::Whole(restarts - u64::from(!is_up))),
        Figure::exact("Healing/Quarantines", Value::Whole(0)),
        Figure::exact("Healing/Rollbacks", Value::Whole(0)),
        Figure::exact("Healing/Box", Value::Whole(0)),
    ];
    let mut devices = Vec::new();
    for (place, memory) in memory.iter_mut().enumerate() {
        *memory = (*memory + dice.swing()).clamp(24.0, 128.0);
        let name = format!("workload-{place}");
        let restarted = if place == 3 { restarts } else { 0 };
        let is_up = is_up || place != 3;
        let state = || Value::Text(if is_up { "ready" } else { "starting" }.into());
        node.extend([
            Figure::exact(format!("Workloads/{name}/State"), state()),
            Figure::exact(format!("Workloads/{name}/Ready"), Value::Whole(u64::from(is_up))),
            Figure::exact(format!("Workloads/{name}/Wanted"), Value::Whole(1)),
            Figure::exact(format!("Workloads/{name}/Restarts"), Value::Whole(restarted)),
        ]);
        if let Ok(id) = Id::new(&name) {
            let figures = vec![
                Figure::exact("State", state()),
                Figure::exact("Version", Value::Text("0123456789abcdef".into())),
                Figure::exact("Machine", Value::Whole(1 + restarted)),
                Figure::wide("Memory", bytes(*memory), 2.0 * MIB, 10),
            ];
            devices.push(Device { id, figures });
        }
    }
    Snapshot { node, devices }
}

pub(crate) fn measure(program: &Path) -> Result<(), Box<dyn Error>> {
    let broker = Broker::start(program, "")?;
    let tap = Tap::new(broker.socket())?;
    let folder = tempfile::tempdir()?;
    let mut options = options("hearth-0123456789ab", &[tap.server()], folder.path())?;
    // In an hour of a few seconds it would ping as in an hour.
    options.keep_alive = std::time::Duration::from_secs(3600);
    let member = Member::start(options)?;
    let (mut dice, mut memory, mut load, mut free) = (Dice(1), [64.0; WORKLOADS], 0.8, 700.0);
    let mut show = |number| member.show(look(&mut dice, number, &mut memory, &mut load, &mut free));
    show(0);
    let of = |said: &[Said], verb: &str| {
        let is =
            |one: &&Said| matches!(&one.packet, Packet::Publish(publish) if publish.topic.contains(verb));
        said.iter().filter(is).map(|one| one.bytes).collect::<Vec<usize>>()
    };
    tap.wait(|said| (of(said, "BIRTH/").len() > WORKLOADS).then_some(())).ok_or("no births")?;
    for number in 1..=LOOKS {
        show(number);
    }
    member.stop();
    let said = tap.said();
    let (births, data) = (of(&said, "BIRTH/"), of(&said, "DATA/"));
    let minutes = usize::try_from(LOOKS / LOOKS_PER_MINUTE)?;
    let per_minute = data.iter().sum::<usize>() / minutes + PINGS_PER_MINUTE;
    println!(
        "births of {WORKLOADS} workloads: {} messages, {} bytes",
        births.len(),
        births.iter().sum::<usize>()
    );
    println!("an hour of looks: {} messages", data.len());
    let kept = per_minute <= PROMISED_PER_MINUTE;
    line("steady telemetry, 10 workloads, 10 s", "<= 1536 B/min", &format!("{per_minute} B/min"), kept);
    Ok(())
}
