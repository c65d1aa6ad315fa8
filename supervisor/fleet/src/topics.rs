//! Topics, and the names in them.
//!
//! Duty: which topics a box publishes on and subscribes to, and what a name in them may be. Not here: payloads.
//! Invariant: no name holds what means something in a topic, so nobody's name reaches into another one's topics.

use std::fmt;

use thiserror::Error;

/// `tck-id-topic-structure-namespace-a`.
const SPARKPLUG: &str = "spBv1.0";
/// Of everything that is not telemetry.
const MANAGEMENT: &str = "hearth/v1";
/// Behind the box's own place: what workloads say and hear, each below its name.
pub const GUESTS: &str = "workload";
/// The level below a workload's name that the fleet writes.
pub const GUEST_COMMANDS: &str = "cmd";
/// Bytes of one name: topics of four of them stay far below what brokers take.
pub const MAX_ID: usize = 96;

/// A group's, a box's, a device's or a host's name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(String);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("expected a name of 1 to {MAX_ID} bytes without + / # or control characters")]
pub struct BadId;

impl Id {
    /// `tck-id-topic-structure-namespace-valid-group-id`, `tck-id-topic-structure-namespace-valid-edge-node-id`,
    /// `tck-id-topic-structure-namespace-valid-device-id`.
    pub fn new(name: &str) -> Result<Id, BadId> {
        let good = |character: char| !matches!(character, '+' | '/' | '#') && !character.is_control();
        let is_good = (1..=MAX_ID).contains(&name.len()) && name.chars().all(good);
        if is_good { Ok(Id(name.to_owned())) } else { Err(BadId) }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// `tck-id-case-sensitivity-sparkplug-ids`: two that are alike so are no two names.
    #[must_use]
    pub fn folded(&self) -> String {
        self.0.to_lowercase()
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The topics of one box.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topics {
    group: Id,
    node: Id,
}

/// Whom a command is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inbound<'t> {
    NodeCommand,
    DeviceCommand(&'t str),
    HostState(&'t str),
    /// The rest behind the box's own place in the management tree.
    Management(&'t str),
    Foreign,
}

impl Topics {
    pub fn new(group: Id, node: Id) -> Topics {
        Topics { group, node }
    }

    pub fn group(&self) -> &Id {
        &self.group
    }

    pub fn node(&self) -> &Id {
        &self.node
    }

    fn sparkplug(&self, verb: &str) -> String {
        format!("{SPARKPLUG}/{}/{verb}/{}", self.group, self.node)
    }

    /// `tck-id-topics-nbirth-topic`.
    pub fn nbirth(&self) -> String {
        self.sparkplug("NBIRTH")
    }

    /// `tck-id-topics-ndeath-topic`.
    pub fn ndeath(&self) -> String {
        self.sparkplug("NDEATH")
    }

    /// `tck-id-topics-ndata-topic`.
    pub fn ndata(&self) -> String {
        self.sparkplug("NDATA")
    }

    /// `tck-id-topics-dbirth-topic`.
    pub fn dbirth(&self, device: &Id) -> String {
        format!("{}/{device}", self.sparkplug("DBIRTH"))
    }

    /// `tck-id-topics-ddeath-topic`.
    pub fn ddeath(&self, device: &Id) -> String {
        format!("{}/{device}", self.sparkplug("DDEATH"))
    }

    /// `tck-id-topics-ddata-topic`.
    pub fn ddata(&self, device: &Id) -> String {
        format!("{}/{device}", self.sparkplug("DDATA"))
    }

    /// `tck-id-message-flow-edge-node-ncmd-subscribe`, `tck-id-message-flow-device-dcmd-subscribe`.
    pub fn commands(&self) -> [String; 2] {
        [self.sparkplug("NCMD"), format!("{}/+", self.sparkplug("DCMD"))]
    }

    /// Where a host says whether it is there.
    pub fn host_state(host: &Id) -> String {
        format!("{SPARKPLUG}/STATE/{host}")
    }

    /// The box's own place in the management tree, without a slash behind it.
    pub fn management(&self) -> String {
        format!("{MANAGEMENT}/{}/{}", self.group, self.node)
    }

    /// What the fleet writes there.
    pub fn management_filters(&self) -> [String; 3] {
        let own = self.management();
        let guests = format!("{own}/{GUESTS}/+/{GUEST_COMMANDS}/#");
        [format!("{own}/desired"), format!("{own}/cmd/+/+"), guests]
    }

    pub fn inbound<'t>(&self, topic: &'t str) -> Inbound<'t> {
        let own = self.management();
        if let Some(rest) = topic.strip_prefix(&own).and_then(|rest| rest.strip_prefix('/')) {
            return Inbound::Management(rest);
        }
        let Some(rest) = topic.strip_prefix(SPARKPLUG).and_then(|rest| rest.strip_prefix('/')) else {
            return Inbound::Foreign;
        };
        if let Some(host) = rest.strip_prefix("STATE/") {
            return Inbound::HostState(host);
        }
        let ours = |words: &[&str]| words == [self.group.as_str(), self.node.as_str()];
        match rest.split('/').collect::<Vec<_>>().as_slice() {
            [group, "NCMD", node] if ours(&[group, node]) => Inbound::NodeCommand,
            [group, "DCMD", node, device] if ours(&[group, node]) => Inbound::DeviceCommand(device),
            _ => Inbound::Foreign,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topics() -> Topics {
        Topics::new(Id::new("plant").unwrap(), Id::new("box-7").unwrap())
    }

    #[test]
    fn names_that_reach_into_other_topics_are_refused() {
        let long = "a".repeat(MAX_ID + 1);
        for bad in ["", "a/b", "a+", "#", "a\nb", long.as_str()] {
            assert_eq!(Id::new(bad), Err(BadId), "{bad:?}");
        }
        assert_eq!(Id::new("Werk Süd").unwrap().folded(), "werk süd");
    }

    #[test]
    fn topics_have_the_form_that_hosts_look_for() {
        let (topics, web) = (topics(), Id::new("web.1").unwrap());
        assert_eq!(topics.nbirth(), "spBv1.0/plant/NBIRTH/box-7");
        assert_eq!(topics.ndeath(), "spBv1.0/plant/NDEATH/box-7");
        assert_eq!(topics.ndata(), "spBv1.0/plant/NDATA/box-7");
        assert_eq!(topics.dbirth(&web), "spBv1.0/plant/DBIRTH/box-7/web.1");
        assert_eq!(topics.ddeath(&web), "spBv1.0/plant/DDEATH/box-7/web.1");
        assert_eq!(topics.ddata(&web), "spBv1.0/plant/DDATA/box-7/web.1");
        assert_eq!(topics.commands(), ["spBv1.0/plant/NCMD/box-7", "spBv1.0/plant/DCMD/box-7/+"]);
        assert_eq!(Topics::host_state(&Id::new("scada").unwrap()), "spBv1.0/STATE/scada");
    }

    #[test]
    fn what_comes_in_is_told_apart_and_what_is_for_others_is_foreign() {
        let topics = topics();
        assert_eq!(topics.inbound("spBv1.0/plant/NCMD/box-7"), Inbound::NodeCommand);
        assert_eq!(topics.inbound("spBv1.0/plant/DCMD/box-7/web"), Inbound::DeviceCommand("web"));
        assert_eq!(topics.inbound("spBv1.0/STATE/scada"), Inbound::HostState("scada"));
        assert_eq!(topics.inbound("hearth/v1/plant/box-7/cmd/exec/1"), Inbound::Management("cmd/exec/1"));
        for foreign in [
            "spBv1.0/plant/NCMD/box-77",
            "spBv1.0/plant/NCMD/box-7/web",
            "spBv1.0/other/NCMD/box-7",
            "spBv1.0",
            "hearth/v1/plant/box-77/desired",
            "",
        ] {
            assert_eq!(topics.inbound(foreign), Inbound::Foreign, "{foreign}");
        }
    }
}
