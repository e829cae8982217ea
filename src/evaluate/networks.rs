//! Whether an address is in any of some networks.
//!
//! Networks that overlap or touch are joined once; then they are disjoint, and the one that can hold an address is found by a
//! binary search.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// Networks, both kinds sorted and disjoint.
#[derive(Debug)]
pub(super) struct Networks {
    v4: Box<[Ipv4Net]>,
    v6: Box<[Ipv6Net]>,
}

impl Networks {
    /// Joins networks.
    pub(super) fn new(networks: Vec<IpNet>) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for network in networks {
            match network {
                IpNet::V4(network) => v4.push(network),
                IpNet::V6(network) => v6.push(network),
            }
        }
        let (mut v4, mut v6) = (Ipv4Net::aggregate(&v4), Ipv6Net::aggregate(&v6));
        v4.sort_unstable_by_key(Ipv4Net::network);
        v6.sort_unstable_by_key(Ipv6Net::network);
        Self {
            v4: v4.into(),
            v6: v6.into(),
        }
    }

    /// Whether any holds the address.
    pub(super) fn contain(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => {
                let after = self.v4.partition_point(|network| network.network() <= address);
                self.v4[..after]
                    .last()
                    .is_some_and(|network| network.contains(&address))
            }
            IpAddr::V6(address) => {
                let after = self.v6.partition_point(|network| network.network() <= address);
                self.v6[..after]
                    .last()
                    .is_some_and(|network| network.contains(&address))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlapping_networks_are_found_like_any() {
        let networks = [
            "10.0.0.0/8",
            "10.1.0.0/16",
            "192.168.0.77/24",
            "0.0.0.0/32",
            "255.255.255.255/32",
            "::/1",
            "ff00::/8",
        ];
        let networks = Networks::new(networks.map(|network| network.parse().unwrap()).into());
        let check = |address: &str, expected| {
            assert_eq!(networks.contain(address.parse().unwrap()), expected, "{address}");
        };
        check("10.0.0.0", true);
        check("10.1.2.3", true);
        check("10.255.255.255", true);
        check("11.0.0.0", false);
        check("9.255.255.255", false);
        check("192.168.0.1", true);
        check("192.168.1.1", false);
        check("0.0.0.0", true);
        check("0.0.0.1", false);
        check("255.255.255.255", true);
        check("::", true);
        check("7fff::1", true);
        check("8000::", false);
        check("ff00::1", true);
    }

    #[test]
    fn no_network_holds_nothing() {
        let networks = Networks::new(Vec::new());
        assert!(!networks.contain("::1".parse().unwrap()) && !networks.contain("127.0.0.1".parse().unwrap()));
    }
}
