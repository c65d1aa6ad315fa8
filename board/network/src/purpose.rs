//! Which interface gets its address how.
//!
//! Duty: one decision out of the file and what the kernel says of a link. Pure.
//! Not here: carrying it out (`station`).
//! Invariant: an interface that the file does not name is touched only if it is wired.

use hearth_config::network::{Interface, Method, NetworkConfig, Static, Wired};

use crate::netlink::message::Link;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// The box's own, which only has to be up.
    Loopback,
    Dhcp,
    Static(Static),
    None,
}

pub(crate) fn of(link: &Link, is_radio: bool, config: &NetworkConfig) -> Purpose {
    if link.is_loopback {
        return Purpose::Loopback;
    }
    match named(link, config).map(|interface| interface.method) {
        Some(Method::Off) => Purpose::None,
        Some(Method::Static(fixed)) => Purpose::Static(fixed),
        // DHCP as it is spoken here is Ethernet's.
        Some(Method::Dhcp) if link.mac.is_some() => Purpose::Dhcp,
        Some(Method::Dhcp) => Purpose::None,
        None => {
            let wired = link.mac.is_some() && !link.is_software && !is_radio;
            if wired && config.wired == Wired::Dhcp { Purpose::Dhcp } else { Purpose::None }
        }
    }
}

/// What the file says of it.
pub(crate) fn named<'c>(link: &Link, config: &'c NetworkConfig) -> Option<&'c Interface> {
    config.interfaces.iter().find(|interface| interface.name == link.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(name: &str) -> Link {
        Link {
            number: 2,
            name: name.to_owned(),
            mac: Some([2; 6]),
            is_loopback: false,
            is_software: false,
            is_up: false,
            has_link: false,
        }
    }

    fn config(text: &str) -> NetworkConfig {
        NetworkConfig::parse("network.toml", text).unwrap()
    }

    #[test]
    fn what_is_wired_asks_for_an_address_and_nothing_else_is_touched() {
        let nothing = config("");
        assert_eq!(of(&link("eth0"), false, &nothing), Purpose::Dhcp);
        assert_eq!(of(&link("wlan0"), true, &nothing), Purpose::None);
        assert_eq!(of(&Link { is_software: true, ..link("tap0") }, false, &nothing), Purpose::None);
        assert_eq!(of(&Link { mac: None, ..link("can0") }, false, &nothing), Purpose::None);
        let loopback = Link { mac: None, is_loopback: true, ..link("lo") };
        assert_eq!(of(&loopback, false, &nothing), Purpose::Loopback);
        assert_eq!(of(&link("eth0"), false, &config("wired = \"off\"")), Purpose::None);
    }

    #[test]
    fn what_the_file_names_is_as_the_file_says() {
        let file = config(
            "[[interface]]\nname = \"eth0\"\nmethod = \"off\"\n[[interface]]\nname = \"wlan0\"\n\
             [[interface]]\nname = \"eth1\"\nmethod = \"static\"\naddress = \"10.0.0.5/24\"",
        );
        assert_eq!(of(&link("eth0"), false, &file), Purpose::None);
        assert_eq!(of(&link("wlan0"), true, &file), Purpose::Dhcp);
        assert!(matches!(of(&link("eth1"), false, &file), Purpose::Static(fixed) if fixed.prefix == 24));
        assert_eq!(of(&link("eth2"), false, &file), Purpose::Dhcp);
    }
}
