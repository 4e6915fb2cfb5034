//! Addresses and networks as sendmail spells and strips them: at the dots of IPv4, at the colons of IPv6.
//!
//! Promises: the prefixes of a network hold its addresses, all of them and no others; each comes out as sendmail
//! itself spells what it looks up. Must not: know of lines and tags.

use ipnet::IpNet;
use std::fmt;
use std::net::IpAddr;

/// An address cut at one of sendmail's boundaries: so many octets, or groups of IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Prefix {
    pub(super) address: IpAddr,
    pub(super) depth: u8,
}

impl fmt::Display for Prefix {
    /// As sendmail spells it: every group written out, without leading zeros.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let depth = usize::from(self.depth);
        match self.address {
            IpAddr::V4(address) => {
                let octets: Vec<String> = address.octets().iter().take(depth).map(u8::to_string).collect();
                f.write_str(&octets.join("."))
            }
            IpAddr::V6(address) => {
                f.write_str("IPv6")?;
                address.segments().into_iter().take(depth).try_for_each(|group| write!(f, ":{group:x}"))
            }
        }
    }
}

/// The prefixes on sendmail's boundaries that make up a network.
#[derive(Clone, Copy, Debug)]
pub(super) struct Prefixes {
    net: IpNet,
    depth: u8,
    step: u8,
}

impl Prefixes {
    pub(super) fn of(net: IpNet) -> Self {
        let (step, least) = if net.addr().is_ipv4() { (8, 1) } else { (16, 0) };
        // There is no key for all of IPv4: the first octet is the least that sendmail looks up.
        let depth = net.prefix_len().div_ceil(step).max(least);
        Self { net: net.trunc(), depth, step }
    }

    /// How many there are.
    pub(super) fn count(&self) -> u64 {
        1u64 << (self.depth * self.step - self.net.prefix_len()).min(63)
    }

    /// All of them, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = Prefix> + use<> {
        let depth = self.depth;
        let subnets = self.net.subnets(self.depth * self.step).ok();
        subnets.into_iter().flatten().map(move |subnet| Prefix { address: subnet.addr(), depth })
    }

    /// The first and the last.
    pub(super) fn ends(&self) -> (Prefix, Prefix) {
        let at = |address| Prefix { address, depth: self.depth };
        (at(self.net.network()), at(self.net.broadcast()))
    }
}
