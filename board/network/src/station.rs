//! The loop: links, answers and deadlines in; addresses, routes, name servers and words out.
//!
//! Duty: one [`Seat`] for each interface that is ours, and carrying out what its client says. Not here: decisions
//! (`purpose`, `dhcp`). Invariant: an interface that is not ours is never changed; of one that is, every IPv4 address
//! is what its seat says.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use hearth_config::network::{NetworkConfig, Static};
use hearth_core::Moment;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::time::{ClockId, clock_gettime};
use thiserror::Error;

use crate::dhcp::client::{Action, Client, Event, Identity, Loss};
use crate::dhcp::lease::Lease;
use crate::netlink::message::{Link, Request, Told};
use crate::netlink::socket::{Ear, Netlink, NetlinkError, News};
use crate::port::Port;
use crate::purpose::{self, Purpose};
use crate::resolv::{Names, ResolvConf};
use crate::say;

/// The first interface's way out is preferred to the second's, and each to none.
const PRIORITY: u32 = 100;
const RADIOS: &str = "/sys/class/net";

#[derive(Debug, Error)]
pub(crate) enum StationError {
    #[error("cannot hear of links: {0}")]
    Ear(NetlinkError),
    #[error("cannot ask for links: {0}")]
    Links(NetlinkError),
    #[error("nothing can be waited for: {}", .0.desc())]
    Poll(Errno),
}

/// What one interface is to this program.
#[derive(Debug)]
struct Seat {
    name: String,
    has_link: bool,
    /// That it went away was told.
    lost: bool,
    part: Part,
}

#[derive(Debug)]
enum Part {
    /// Not ours.
    None,
    Loopback,
    Static(Static),
    Dhcp {
        client: Box<Client>,
        port: Port,
        lease: Option<Lease>,
    },
}

#[derive(Debug)]
pub(crate) struct Station {
    config: NetworkConfig,
    host_name: Option<String>,
    netlink: Netlink,
    ear: Ear,
    resolv: ResolvConf,
    /// By the kernel's numbers.
    seats: BTreeMap<u32, Seat>,
}

impl Station {
    pub(crate) fn open(config: NetworkConfig, resolv: &Path) -> Result<Station, StationError> {
        // Listening comes before looking: no link is missed in between.
        let ear = Ear::open().map_err(StationError::Ear)?;
        let netlink = Netlink::open().map_err(StationError::Links)?;
        let resolv = ResolvConf::at(resolv);
        Ok(Station { config, host_name: host_name(), netlink, ear, resolv, seats: BTreeMap::new() })
    }

    /// Looks after the interfaces until nothing can be heard of them any more.
    pub(crate) fn run(mut self) -> StationError {
        if let Err(error) = self.look_around() {
            return error;
        }
        self.tell_names();
        loop {
            if let Err(error) = self.turn() {
                return error;
            }
        }
    }

    fn turn(&mut self) -> Result<(), StationError> {
        self.wait()?;
        match self.ear.hear().map_err(StationError::Ear)? {
            News::Told(told) => {
                for one in told {
                    match one {
                        Told::Link(link) => self.see(&link),
                        Told::LinkGone(number) => self.forget(number),
                        Told::Address { .. } | Told::Answer { .. } | Told::Done { .. } => {}
                    }
                }
            }
            News::Missed => self.look_around()?,
            News::Nothing => {}
        }
        let numbers: Vec<u32> = self.seats.keys().copied().collect();
        for number in numbers {
            let heard = match self.seats.get(&number).map(|seat| &seat.part) {
                Some(Part::Dhcp { port, .. }) => port.answers(),
                _ => continue,
            };
            for answer in heard {
                self.step(number, Event::Heard(answer));
            }
            self.step(number, Event::Tick);
        }
        Ok(())
    }

    fn wait(&self) -> Result<(), StationError> {
        let mut watched = vec![PollFd::new(self.ear.as_fd(), PollFlags::POLLIN)];
        let mut deadline: Option<Moment> = None;
        for seat in self.seats.values() {
            if let Part::Dhcp { client, port, .. } = &seat.part {
                watched.push(PollFd::new(port.socket().as_fd(), PollFlags::POLLIN));
                deadline = [deadline, client.next_deadline()].into_iter().flatten().min();
            }
        }
        // A millisecond more: time is cut to milliseconds on both sides.
        let left = deadline.map(|at| at.since(now()) + Duration::from_millis(1));
        let timeout =
            left.map_or(PollTimeout::NONE, |left| PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX));
        match poll(&mut watched, timeout) {
            Ok(_) | Err(Errno::EINTR | Errno::EAGAIN) => Ok(()),
            Err(error) => Err(StationError::Poll(error)),
        }
    }

    fn look_around(&mut self) -> Result<(), StationError> {
        let links = self.netlink.links().map_err(StationError::Links)?;
        let gone = |number: &&u32| !links.iter().any(|link| link.number == **number);
        for number in self.seats.keys().filter(gone).copied().collect::<Vec<_>>() {
            self.forget(number);
        }
        for link in links {
            self.see(&link);
        }
        Ok(())
    }

    fn see(&mut self, link: &Link) {
        if self.seats.get(&link.number).is_some_and(|seat| seat.name != link.name) {
            self.forget(link.number);
        }
        if !self.seats.contains_key(&link.number) {
            let part = self.part(link);
            let seat = Seat { name: link.name.clone(), has_link: false, lost: false, part };
            if !matches!(seat.part, Part::None) && !link.is_up {
                self.carry_out(&link.name, "cannot be switched on", &Request::Up { link: link.number });
            }
            self.seats.insert(link.number, seat);
            self.put_static(link.number, true);
        }
        self.take_link(link);
    }

    fn take_link(&mut self, link: &Link) {
        let Some(seat) = self.seats.get_mut(&link.number) else { return };
        if seat.has_link == link.has_link {
            return;
        }
        seat.has_link = link.has_link;
        // At the start, and where there is nothing to lose, a link is no news.
        let has_address = match &seat.part {
            Part::None | Part::Loopback => return,
            Part::Static(_) => true,
            Part::Dhcp { lease, .. } => lease.is_some(),
        };
        if link.has_link && seat.lost {
            seat.lost = false;
            say(&format!("{}: link is back", link.name));
        } else if !link.has_link && has_address {
            seat.lost = true;
            say(&format!("{}: no link", link.name));
        }
        if link.has_link {
            // Routes do not outlive an interface that was switched off.
            self.put_static(link.number, false);
        }
        let event = if link.has_link { Event::LinkUp } else { Event::LinkDown };
        self.step(link.number, event);
    }

    fn part(&self, link: &Link) -> Part {
        match purpose::of(link, is_radio(&link.name), &self.config) {
            Purpose::None => Part::None,
            Purpose::Loopback => Part::Loopback,
            Purpose::Static(fixed) => Part::Static(fixed),
            Purpose::Dhcp => {
                let identity =
                    Identity { mac: link.mac.unwrap_or_default(), host_name: self.host_name.clone() };
                match Port::open(&link.name) {
                    Ok(port) => {
                        let client = Box::new(Client::new(identity, seed(link.number)));
                        Part::Dhcp { client, port, lease: None }
                    }
                    Err(error) => {
                        say(&format!("{}: cannot ask for an address: {error}", link.name));
                        Part::None
                    }
                }
            }
        }
    }

    fn forget(&mut self, number: u32) {
        let Some(seat) = self.seats.remove(&number) else { return };
        if !matches!(seat.part, Part::None) {
            say(&format!("{}: is gone", seat.name));
            self.tell_names();
        }
    }

    fn step(&mut self, number: u32, event: Event) {
        let Some(Seat { name, part: Part::Dhcp { client, port, lease }, .. }) = self.seats.get_mut(&number)
        else {
            return;
        };
        let name = name.clone();
        let mut changes = Vec::new();
        for action in client.step(now(), event) {
            match action {
                Action::Ask(question, to) => port.ask(&question, to),
                Action::Hold(new, left) => {
                    let told = Lease { times: None, ..new.clone() };
                    let news = lease.as_ref().is_none_or(|old| Lease { times: None, ..old.clone() } != told);
                    *lease = Some(new.clone());
                    changes.push((Some((new, left)), news.then(String::new)));
                }
                Action::Drop(old, loss) => {
                    *lease = None;
                    let why = match loss {
                        Loss::Ended => "is lost: no server gave it more time",
                        Loss::Refused => "is given up: its server says that it is not this box's",
                    };
                    changes.push((None, Some(format!("{}/{} {why}", old.address, old.prefix))));
                }
                Action::Spurn(fault, server) => {
                    let server = server.map_or_else(|| "a server".to_owned(), |server| server.to_string());
                    say(&format!("{name}: what {server} offers is not taken: {fault}"));
                }
                Action::Silence => say(&format!("{name}: no DHCP server answers, asking on")),
            }
        }
        for (held, words) in changes {
            let told = match held {
                Some((lease, left)) => {
                    let done = self.put_lease(number, &name, &lease, left);
                    words.filter(|_| done).map(|_| of_lease(&lease))
                }
                None => {
                    self.clear(number, &name, None);
                    words
                }
            };
            self.tell_names();
            // Last: whoever reads it finds all of it done.
            if let Some(told) = told {
                say(&format!("{name}: {told}"));
            }
        }
    }

    fn put_lease(&mut self, number: u32, name: &str, lease: &Lease, left: Option<Duration>) -> bool {
        // The kernel takes the address away at the end of its time, even if this program is dead by then.
        let seconds = left.map(|left| u32::try_from(left.as_secs()).unwrap_or(u32::MAX - 1));
        self.put(number, name, of_network(lease), seconds)
    }

    /// Does nothing for an interface whose address is not in the file.
    fn put_static(&mut self, number: u32, news: bool) {
        let Some(Seat { name, part: Part::Static(fixed), .. }) = self.seats.get(&number) else { return };
        let (name, fixed) = (name.clone(), *fixed);
        if self.put(number, &name, fixed, None) && news {
            say(&format!("{name}: {}, static{}", shown(fixed), way_out(fixed)));
        }
    }

    /// Makes this the one address of the interface.
    fn put(&mut self, link: u32, name: &str, fixed: Static, seconds: Option<u32>) -> bool {
        let Static { address, prefix, gateway } = fixed;
        self.clear(link, name, Some((address, prefix)));
        let request = Request::Address { link, address, prefix, seconds };
        let mut done = self.carry_out(name, "its address cannot be set", &request);
        if let Some(gateway) = gateway.filter(|_| done) {
            let priority = PRIORITY.saturating_add(link);
            let route = Request::Default { link, gateway, source: address, priority };
            done &= self.carry_out(name, "its gateway cannot be set", &route);
        }
        done
    }

    /// Takes all addresses away but this one.
    fn clear(&mut self, link: u32, name: &str, keep: Option<(Ipv4Addr, u8)>) {
        let told = match self.netlink.ask(&Request::Addresses) {
            Ok(told) => told,
            Err(error) => return say(&format!("{name}: its addresses cannot be listed: {error}")),
        };
        for one in told {
            if let Told::Address { link: of, address, prefix } = one
                && of == link
                && keep != Some((address, prefix))
            {
                let request = Request::NoAddress { link, address, prefix };
                self.carry_out(name, "an address cannot be taken away", &request);
            }
        }
    }

    fn carry_out(&mut self, name: &str, failure: &str, request: &Request) -> bool {
        match self.netlink.ask(request) {
            Ok(_) => true,
            Err(error) => {
                say(&format!("{name}: {failure}: {error}"));
                false
            }
        }
    }

    fn tell_names(&self) {
        let mut names = Names::default();
        for interface in &self.config.interfaces {
            if self.seats.values().any(|seat| seat.name == interface.name) {
                names.add(&interface.name_servers, interface.domain.as_deref());
            }
        }
        for seat in self.seats.values() {
            if let Part::Dhcp { lease: Some(lease), .. } = &seat.part {
                names.add(&lease.name_servers, lease.domain.as_deref());
            }
        }
        if let Err(error) = self.resolv.tell(&names) {
            say(&format!("name servers cannot be told: {error}"));
        }
    }
}

fn now() -> Moment {
    // Leases go on while the box sleeps.
    Moment::since_start(clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from))
}

/// Whether the interface is one of radio.
fn is_radio(name: &str) -> bool {
    let folder = Path::new(RADIOS).join(name);
    folder.join("phy80211").exists() || folder.join("wireless").exists()
}

/// The box's name, if it has one that a server could take.
fn host_name() -> Option<String> {
    let name = nix::unistd::gethostname().ok()?.into_string().ok()?;
    let good = !name.is_empty()
        && name.len() <= 63
        && name != "localhost"
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    good.then_some(name)
}

/// Numbers that others on the wire cannot guess. Without the kernel's, the clock has to do.
fn seed(link: u32) -> u64 {
    getrandom::u64().unwrap_or_else(|_| now().as_millis() ^ u64::from(link) << 48)
}

fn of_network(lease: &Lease) -> Static {
    Static { address: lease.address, prefix: lease.prefix, gateway: lease.gateway }
}

fn of_lease(lease: &Lease) -> String {
    let fixed = of_network(lease);
    let time = lease.times.map_or_else(|| "ever".to_owned(), |times| words(times.end));
    format!("{} from {} for {time}{}", shown(fixed), lease.server, way_out(fixed))
}

fn shown(fixed: Static) -> String {
    format!("{}/{}", fixed.address, fixed.prefix)
}

fn way_out(fixed: Static) -> String {
    let mut text = String::new();
    if let Some(gateway) = fixed.gateway {
        let _ = write!(text, ", gateway {gateway}");
    }
    text
}

/// "24 h", "90 s": in the unit in which it is a number that people can read.
fn words(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..259_200 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_in_a_unit_that_people_read() {
        let told = [30, 119, 120, 3600, 86_400, 604_800].map(|s| words(Duration::from_secs(s)));
        assert_eq!(told, ["30 s", "119 s", "2 min", "60 min", "24 h", "7 d"]);
    }
}
