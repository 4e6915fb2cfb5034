//! The keys of exported lines: networks on sendmail's boundaries, names as they are.
//!
//! Promises: a key comes out as sendmail itself spells what it looks up. Must not: know what stands on the
//! right-hand side.

use crate::policy::network::Network;
use crate::sendmail::prefix::{Prefix, Prefixes};
use ipnet::IpNet;
use std::net::{IpAddr, Ipv4Addr};

/// The most lines that one network may need: a map is read by people too.
pub(super) const MAX_LINES: u64 = 4096;

/// What stands behind the tag. Ordered as it is listed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum LineKey {
    /// A host, a mail address, a domain.
    Name(String),
    /// Addresses in brackets.
    Literal(Prefix),
    /// Addresses.
    Network(Prefix),
    /// Nothing: the bare tag.
    Default,
}

impl LineKey {
    /// The whole key.
    pub(super) fn text(&self, tag: &str) -> String {
        match self {
            Self::Name(name) => format!("{tag}:{name}"),
            Self::Literal(prefix) => format!("{tag}:[{prefix}]"),
            Self::Network(prefix) => format!("{tag}:{prefix}"),
            Self::Default => format!("{tag}:"),
        }
    }
}

/// A network of the policy, to reckon with.
pub(super) fn net_of(network: Network) -> Option<IpNet> {
    // Its text is CIDR, or an address where it is one.
    let text = network.to_string();
    text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

/// The prefixes on sendmail's boundaries that hold a network; or how many there would be, where that is too many.
pub(super) fn prefixes(net: IpNet) -> Result<Vec<Prefix>, u64> {
    let prefixes = Prefixes::of(net);
    let count = prefixes.count();
    if count > MAX_LINES { Err(count) } else { Ok(prefixes.iter().collect()) }
}

/// What sendmail has for the address of whom it has none of: a program that speaks SMTP to `sendmail -bs`. Its key is
/// that of 0.0.0.0/8, where no host is.
pub(super) fn no_address() -> LineKey {
    LineKey::Network(Prefix { address: IpAddr::V4(Ipv4Addr::UNSPECIFIED), depth: 1 })
}

/// Whether two networks have an address in common.
pub(super) fn overlap(one: IpNet, other: IpNet) -> bool {
    one.contains(&other) || other.contains(&one)
}

/// Whether a name can be a line's key. A blank ends a key for makemap, and sendmail takes apart what it looks up:
/// comments, quotes and lists are gone by then. The domain `ipv6` cannot be told from all of IPv6.
pub(super) fn is_writable(name: &str, of_host: bool) -> bool {
    name.bytes().all(|b| (b'!'..=b'~').contains(&b) && !b"\"()<>\\,;".contains(&b))
        && !(of_host && name == "ipv6")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(network: &str) -> Vec<String> {
        let net = net_of(Network::parse(network).unwrap().unwrap().network).unwrap();
        prefixes(net).unwrap().into_iter().map(|prefix| LineKey::Network(prefix).text("T")).collect()
    }

    #[test]
    fn a_network_is_cut_at_sendmails_boundaries() {
        for (network, expected) in [
            ("192.0.2.7", &["T:192.0.2.7"][..]),
            ("192.0.2.0/24", &["T:192.0.2"]),
            ("192.0.4.0/22", &["T:192.0.4", "T:192.0.5", "T:192.0.6", "T:192.0.7"]),
            ("10.0.0.0/8", &["T:10"]),
            ("6.0.0.0/7", &["T:6", "T:7"]),
            ("2001:db8::/32", &["T:IPv6:2001:db8"]),
            ("2001:DB8::25", &["T:IPv6:2001:db8:0:0:0:0:0:25"]),
            ("2001:db8:0:ab00::/63", &["T:IPv6:2001:db8:0:ab00", "T:IPv6:2001:db8:0:ab01"]),
            ("::/0", &["T:IPv6"]),
        ] {
            assert_eq!(shown(network), expected, "{network}");
        }
        for (network, count, first, last) in [
            ("192.0.2.0/25", 128, "T:192.0.2.0", "T:192.0.2.127"),
            ("0.0.0.0/0", 256, "T:0", "T:255"),
            ("2001:db8:10::/44", 16, "T:IPv6:2001:db8:10", "T:IPv6:2001:db8:1f"),
            ("2001:d000::/20", 4096, "T:IPv6:2001:d000", "T:IPv6:2001:dfff"),
        ] {
            let lines = shown(network);
            assert_eq!((lines.len(), lines[0].as_str(), lines[count - 1].as_str()), (count, first, last));
        }
        assert_eq!(prefixes("2001:8000::/19".parse().unwrap()), Err(8192));
        assert_eq!(prefixes("8000::/1".parse().unwrap()), Err(32_768));
    }

    #[test]
    fn who_has_no_address_is_the_text_0() {
        assert_eq!(no_address().text("TLS_Clt"), "TLS_Clt:0");
    }

    #[test]
    fn a_literal_stands_in_brackets() {
        let of = |net: &str| LineKey::Literal(prefixes(net.parse().unwrap()).unwrap()[0]).text("TLS_Rcpt");
        assert_eq!(of("192.0.2.0/24"), "TLS_Rcpt:[192.0.2]");
        assert_eq!(of("2001:db8::/32"), "TLS_Rcpt:[IPv6:2001:db8]");
    }
}
