//! `network.toml`: the box's own addresses, read by `hearth-network`.
//!
//! Duty: which interface gets its address how. Not here: guests' cards (`vm`), nor whether an interface exists.
//! Invariant: a static address is one that a host can have, and its gateway is another one in its network.

use std::net::Ipv4Addr;
use std::path::Path;

use crate::fault::Faults;
use crate::reader::{self, Entry, Table};
use crate::vm::interface_name;

/// Interfaces in one file: more than any gateway has.
pub const MAX_INTERFACES: usize = 32;
/// The C library asks no more (resolv.conf(5)).
pub const MAX_NAME_SERVERS: usize = 3;
/// Letters of a domain (RFC 1035).
const MAX_DOMAIN_BYTES: usize = 253;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetworkConfig {
    pub wired: Wired,
    pub interfaces: Vec<Interface>,
}

/// What wired interfaces do that the file does not name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wired {
    #[default]
    Dhcp,
    Off,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    pub name: String,
    pub method: Method,
    pub name_servers: Vec<Ipv4Addr>,
    pub domain: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    Dhcp,
    Static(Static),
    Off,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Static {
    pub address: Ipv4Addr,
    pub prefix: u8,
    pub gateway: Option<Ipv4Addr>,
}

impl NetworkConfig {
    pub fn load(path: &Path) -> Result<NetworkConfig, Faults> {
        reader::load(path, shape)
    }

    /// A file that is not there says nothing.
    pub fn load_if_there(path: &Path) -> Result<NetworkConfig, Faults> {
        if path.exists() { NetworkConfig::load(path) } else { Ok(NetworkConfig::default()) }
    }

    pub fn parse(name: &str, text: &str) -> Result<NetworkConfig, Faults> {
        reader::parse(name, text, shape)
    }
}

fn shape(table: &mut Table<'_>) -> NetworkConfig {
    let wired = table.entry("wired").choice(&[("dhcp", Wired::Dhcp), ("off", Wired::Off)]);
    let interfaces = table.sections("interface", MAX_INTERFACES, interface);
    for (index, one) in interfaces.iter().enumerate() {
        if let Some(before) = interfaces.iter().take(index).position(|other| other.name == one.name) {
            let message = format!("expected each interface once, found {:?} twice", one.name);
            let key = |index: usize| format!("interface[{index}].name");
            table.contradiction(&key(index), &key(before), message);
        }
    }
    NetworkConfig { wired: wired.unwrap_or_default(), interfaces }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Word {
    Dhcp,
    Static,
    Off,
}

fn interface(table: &mut Table<'_>) -> Interface {
    let name = interface_name(&table.required("name", "the name of an interface"));
    let word = table.entry("method");
    let words = [("dhcp", Word::Dhcp), ("static", Word::Static), ("off", Word::Off)];
    let word = word.choice(&words).unwrap_or(Word::Dhcp);
    let method = match word {
        Word::Static => Method::Static(fixed(table)),
        Word::Dhcp | Word::Off => {
            for key in ["address", "gateway"] {
                let entry = table.entry(key);
                if entry.is_there() {
                    entry.fault("expected only for the method \"static\"");
                }
            }
            if word == Word::Dhcp { Method::Dhcp } else { Method::Off }
        }
    };
    Interface {
        name,
        method,
        name_servers: name_servers(&table.entry("dns")),
        domain: table.entry("domain").text_as("the name of a domain", domain),
    }
}

fn fixed(table: &mut Table<'_>) -> Static {
    let entry = table.entry("address");
    if !entry.is_there() {
        entry.fault("missing, expected an address like \"192.168.7.10/24\"");
    }
    let (address, prefix) = entry
        .text_as("an address of one host and its prefix, like \"192.168.7.10/24\"", with_prefix)
        .unwrap_or((Ipv4Addr::UNSPECIFIED, 0));
    let entry = table.entry("gateway");
    let gateway = host(&entry);
    if let Some(gateway) = gateway.filter(|_| prefix > 0) {
        if gateway == address {
            entry.fault("expected another host's address, found its own");
        } else if !inside(gateway, address, prefix) {
            entry.fault(format!("expected an address in the network of {address}/{prefix}, found {gateway}"));
        }
    }
    Static { address, prefix, gateway }
}

fn name_servers(entry: &Entry<'_>) -> Vec<Ipv4Addr> {
    let items = entry.items("an array of addresses", MAX_NAME_SERVERS).unwrap_or_default();
    items.iter().filter_map(host).collect()
}

fn host(entry: &Entry<'_>) -> Option<Ipv4Addr> {
    entry.text_as("the address of one host", |text| text.parse().ok().filter(is_host))
}

/// An address that one host can have.
fn is_host(address: &Ipv4Addr) -> bool {
    let first = address.octets()[0];
    first != 0 && first < 224 && !address.is_loopback()
}

fn with_prefix(text: &str) -> Option<(Ipv4Addr, u8)> {
    let (address, prefix) = text.split_once('/')?;
    let address: Ipv4Addr = address.parse().ok().filter(is_host)?;
    // `parse` alone would take a plus sign.
    let digits = prefix.bytes().all(|byte| byte.is_ascii_digit());
    let prefix: u8 = prefix.parse().ok().filter(|prefix| digits && (1..=32).contains(prefix))?;
    let hosts = u32::MAX.checked_shr(prefix.into()).unwrap_or(0);
    let host = address.to_bits() & hosts;
    // Of two addresses or one (RFC 3021) each is a host's.
    (prefix >= 31 || (host != 0 && host != hosts)).then_some((address, prefix))
}

fn inside(one: Ipv4Addr, other: Ipv4Addr, prefix: u8) -> bool {
    let differ = one.to_bits() ^ other.to_bits();
    differ.checked_shr(32 - u32::from(prefix.min(32))).unwrap_or(0) == 0
}

fn domain(text: &str) -> Option<String> {
    let good = |label: &str| {
        !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    (text.len() <= MAX_DOMAIN_BYTES && text.split('.').all(good)).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(text: &str) -> Vec<String> {
        let faults = NetworkConfig::parse("network.toml", text).unwrap_err();
        faults.iter().map(ToString::to_string).collect()
    }

    fn interface(text: &str) -> String {
        format!("[[interface]]\nname = \"eth0\"\n{text}\n")
    }

    #[test]
    fn nothing_said_is_dhcp_on_all_that_is_wired() {
        assert_eq!(NetworkConfig::parse("x", "").unwrap(), NetworkConfig::default());
        let there = NetworkConfig::load_if_there(Path::new("/nonexistent/network.toml")).unwrap();
        assert_eq!((there.wired, there.interfaces.len()), (Wired::Dhcp, 0));
        let dhcp = NetworkConfig::parse("x", &interface("")).unwrap();
        assert_eq!(dhcp.interfaces[0].method, Method::Dhcp);
    }

    #[test]
    fn addresses_that_no_host_can_have_are_told() {
        for bad in [
            "10.0.0.0/8",
            "10.255.255.255/8",
            "10.0.0.1",
            "10.0.0.1/33",
            "10.0.0.1/+8",
            "224.0.0.1/8",
            "127.0.0.1/8",
        ] {
            let told = faults(&interface(&format!("method = \"static\"\naddress = \"{bad}\"")));
            let expected = format!(
                "network.toml:4:1: interface[0].address: expected an address of one host and its prefix, \
                 like \"192.168.7.10/24\", found \"{bad}\""
            );
            assert_eq!(told, [expected]);
        }
        let point = interface("method = \"static\"\naddress = \"10.0.0.0/31\"\ngateway = \"10.0.0.1\"");
        assert!(NetworkConfig::parse("x", &point).is_ok());
    }

    #[test]
    fn a_gateway_is_another_host_of_the_network() {
        let with = |gateway: &str| {
            let text = format!("method = \"static\"\naddress = \"10.0.0.5/24\"\ngateway = \"{gateway}\"");
            faults(&interface(&text)).join("\n")
        };
        assert!(
            with("10.0.1.1").ends_with("expected an address in the network of 10.0.0.5/24, found 10.0.1.1")
        );
        assert!(with("10.0.0.5").ends_with("expected another host's address, found its own"));
    }

    #[test]
    fn what_does_not_go_together_is_told() {
        let told = faults(&interface("method = \"off\"\naddress = \"10.0.0.5/24\""));
        assert_eq!(told, ["network.toml:4:1: interface[0].address: expected only for the method \"static\""]);
        assert!(
            faults(&interface("method = \"static\""))[0].contains("interface[0].address: missing, expected")
        );
        let twice = faults(&format!("{}{}", interface(""), interface("")));
        assert_eq!(
            twice,
            ["network.toml:5:1: interface[1].name: expected each interface once, found \"eth0\" twice"]
        );
        assert!(faults("[[interface]]\n")[0].contains("interface[0].name: missing"));
    }
}
