//! Waiting for one of several servers: the queue M/M/n.
//!
//! Duty: the chance that a request waits, and waits longer than some time. Not here: how many servers to have.
//! Invariants: chances lie in 0 to 1; a queue that is overloaded waits for ever, with chance 1; cost is one step for
//! each server, and there are at most [`MOST_SERVERS`].

/// Servers beyond this are never advised: a box does not run as many VMs.
pub const MOST_SERVERS: u16 = 256;

/// What arrives, and how long one request takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Traffic {
    /// Requests in a second.
    pub arrivals: f32,
    /// Seconds that one request keeps one server busy.
    pub service: f32,
}

impl Traffic {
    /// Servers kept busy on average. What is no number is no traffic; endless traffic is what the servers' limit
    /// allows and more.
    pub fn offered(self) -> f32 {
        let offered = self.arrivals.max(0.0) * self.service.max(0.0);
        if offered.is_nan() { 0.0 } else { offered.min(f32::from(MOST_SERVERS) * 4.0) }
    }

    /// The chance that a request waits for longer than `wait` seconds with `servers` servers.
    pub fn late(self, servers: u16, wait: f32) -> f32 {
        late_from(self, servers, wait, blocked(self.offered(), servers))
    }

    /// The least number of servers with which at most `share` of all requests wait for longer than `wait`.
    pub fn servers(self, wait: f32, share: f32) -> u16 {
        let offered = self.offered();
        let mut blocked = 1.0;
        for servers in 1..=MOST_SERVERS {
            blocked = next_blocked(blocked, offered, servers);
            if late_from(self, servers, wait, blocked) <= share {
                return servers;
            }
        }
        MOST_SERVERS
    }
}

/// Erlang B: the chance that all servers are busy where nobody waits.
fn blocked(offered: f32, servers: u16) -> f32 {
    let mut blocked = 1.0;
    for servers in 1..=servers.min(MOST_SERVERS) {
        blocked = next_blocked(blocked, offered, servers);
    }
    blocked
}

/// One server more.
fn next_blocked(blocked: f32, offered: f32, servers: u16) -> f32 {
    let busy = offered * blocked;
    busy / (f32::from(servers) + busy)
}

fn late_from(traffic: Traffic, servers: u16, wait: f32, blocked: f32) -> f32 {
    let offered = traffic.offered();
    let spare = f32::from(servers) - offered;
    if offered <= 0.0 {
        return 0.0;
    }
    if spare <= 0.0 {
        return 1.0;
    }
    // Erlang C: the chance to wait at all.
    let waits = blocked / (1.0 - offered / f32::from(servers) * (1.0 - blocked));
    // Servers become free at this rate once a request waits.
    let rate = (spare / traffic.service.max(f32::MIN_POSITIVE)).min(f32::MAX);
    let late = waits * libm::expf(-rate * wait.max(0.0));
    if late.is_nan() { 1.0 } else { late.clamp(0.0, 1.0) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_formula_gives_what_tables_give() {
        // Ten erlangs, fourteen agents, 180 s of talk: 17.41 % wait, 7.17 % longer than 40 s.
        let traffic = Traffic { arrivals: 10.0 / 180.0, service: 180.0 };
        assert!((traffic.late(14, 0.0) - 0.1741).abs() < 1e-3, "{}", traffic.late(14, 0.0));
        assert!((traffic.late(14, 40.0) - 0.1741 * (-4.0f32 * 40.0 / 180.0).exp()).abs() < 1e-3);
        // One server is M/M/1: the chance to wait is the load.
        assert!((Traffic { arrivals: 0.6, service: 1.0 }.late(1, 0.0) - 0.6).abs() < 1e-6);
    }

    #[test]
    fn an_overloaded_queue_is_always_late() {
        let traffic = Traffic { arrivals: 10.0, service: 1.0 };
        assert!(traffic.late(10, 1e9) >= 1.0);
        assert!(traffic.servers(1.0, 0.01) > 10);
    }

    proptest! {
        #[test]
        fn chances_are_chances_and_more_servers_are_never_worse(
            arrivals in any::<f32>(), service in any::<f32>(), wait in any::<f32>(),
        ) {
            let traffic = Traffic { arrivals, service };
            let mut before = 1.0;
            for servers in 1..40 {
                let late = traffic.late(servers, wait);
                prop_assert!((0.0..=1.0).contains(&late));
                prop_assert!(late <= before + 1e-5, "{late} after {before} with {servers}");
                before = late;
            }
            prop_assert!((1..=MOST_SERVERS).contains(&traffic.servers(wait, 0.01)));
        }

        #[test]
        fn the_least_number_is_enough_and_one_less_is_not(
            arrivals in 0.1f32..100.0, service in 0.01f32..1.0, wait in 0.0f32..1.0,
        ) {
            let traffic = Traffic { arrivals, service };
            let servers = traffic.servers(wait, 0.05);
            prop_assert!(traffic.late(servers, wait) <= 0.05);
            prop_assert!(servers == 1 || traffic.late(servers - 1, wait) > 0.05);
        }
    }
}
