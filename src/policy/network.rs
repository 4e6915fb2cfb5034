//! Addresses and networks: in the standard's spellings and in sendmail's.
//!
//! Promises: an IPv4-mapped IPv6 address is the IPv4 address that it maps.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Deref;

/// A network, its host bits zero. An address is a network of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Network(IpNet);

impl Hash for Network {
    /// In one or two pieces; derived it would be four.
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self.0 {
            IpNet::V4(net) => {
                state.write_u64(u64::from(u32::from(net.addr())) << 8 | u64::from(net.prefix_len()));
            }
            IpNet::V6(net) => {
                state.write_u128(net.addr().into());
                state.write_u8(net.prefix_len());
            }
        }
    }
}

/// What is wrong with a key that looks like an address or a network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// `192.0.2.`
    #[error("a trailing dot: a prefix is written without it, or in CIDR notation")]
    TrailingDot,
    /// `2001:db8::/200`, `192.0.2.0/33`, `/x`
    #[error("a prefix length that does not fit the address")]
    BadPrefix,
    /// `192.0.2.256`, `IPv6:xyz`
    #[error("not an address")]
    BadAddress,
}

/// A network that was written, and whether bits were set behind its prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// The network.
    pub network: Network,
    /// `192.0.2.7/24`: it means 192.0.2.0/24, but was it meant?
    pub host_bits: bool,
}

impl Network {
    /// 127.0.0.0/8
    pub const LOOPBACK_V4: Self = Self(IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8)));
    /// `::1/128`
    pub const LOOPBACK_V6: Self = Self(IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128)));

    /// Parses a key: CIDR, an address, or sendmail's spellings: `IPv6:2001:db8:0:…`, `[192.0.2.7]`, and
    /// prefixes on its boundaries (`192.0.2`, `IPv6:2001:db8`). `None` for what does not look like one at
    /// all, and may be a domain.
    pub fn parse(text: &str) -> Option<Result<Written, NetworkError>> {
        let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
        if let Some(groups) = strip_ipv6_tag(bare) {
            return Some(parse_cidr(groups).or_else(|error| parse_v6_prefix(groups).ok_or(error)));
        }
        if bare.contains(':') {
            return Some(parse_cidr(bare));
        }
        let v4_like = bare.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'/'));
        if v4_like && bare.bytes().any(|b| b.is_ascii_digit()) {
            if bare.ends_with('.') {
                return Some(Err(NetworkError::TrailingDot));
            }
            return Some(parse_cidr(bare).or_else(|error| parse_v4_prefix(bare).ok_or(error)));
        }
        // `partner.example/24` is neither a domain nor a network: say that the address is at fault.
        bare.contains('/').then_some(Err(NetworkError::BadAddress))
    }

    /// Whether the address lies in the network.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address)
    }

    /// Whether every address of its family lies in it.
    pub fn is_everything(&self) -> bool {
        self.0.prefix_len() == 0
    }

    /// The network of so many bits around an address; none where it has not so many.
    pub(super) fn of_prefix(address: IpAddr, length: u8) -> Option<Self> {
        IpNet::new(address, length).ok().map(|net| Self(net.trunc()))
    }

    /// Its first address.
    pub(super) fn address(&self) -> IpAddr {
        self.0.addr()
    }

    /// The length of its prefix, in bits.
    pub(super) fn length(&self) -> u8 {
        self.0.prefix_len()
    }
}

impl fmt::Display for Network {
    /// CIDR; an address without its prefix length.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.prefix_len() == self.0.max_prefix_len() {
            write!(f, "{}", self.0.addr())
        } else {
            write!(f, "{}", self.0)
        }
    }
}

fn strip_ipv6_tag(text: &str) -> Option<&str> {
    let (tag, rest) = text.split_at_checked(5)?;
    tag.eq_ignore_ascii_case("IPv6:").then_some(rest)
}

fn parse_cidr(text: &str) -> Result<Written, NetworkError> {
    let (address, length) = match text.split_once('/') {
        Some((address, length)) => (address, Some(length)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().map_err(|_| NetworkError::BadAddress)?;
    let net = match length {
        None => IpNet::from(address),
        Some(length) => {
            let digits = !length.is_empty() && length.bytes().all(|b| b.is_ascii_digit());
            let length = digits.then(|| length.parse().ok()).flatten().ok_or(NetworkError::BadPrefix)?;
            IpNet::new(address, length).map_err(|_| NetworkError::BadPrefix)?
        }
    };
    // ::ffff:192.0.2.0/120 is 192.0.2.0/24: an MTA may tell either.
    let net = match net {
        IpNet::V6(v6) if v6.prefix_len() >= 96 => match v6.addr().to_ipv4_mapped() {
            Some(v4) => IpNet::new(v4.into(), v6.prefix_len() - 96).map_err(|_| NetworkError::BadPrefix)?,
            None => net,
        },
        _ => net,
    };
    let network = net.trunc();
    Ok(Written { network: Network(network), host_bits: network != net })
}

/// `192.0.2`, `10`: sendmail's access map takes an address apart at its dots.
fn parse_v4_prefix(text: &str) -> Option<Written> {
    let mut octets = [0u8; 4];
    let mut count = 0u8;
    for part in text.split('.') {
        // A leading zero would be octal to some, and never matches in sendmail's map.
        let plain = part == "0" || !part.starts_with('0');
        *octets.get_mut(usize::from(count))? = if plain { part.parse().ok()? } else { return None };
        count += 1;
    }
    let network = Network::of_prefix(Ipv4Addr::from(octets).into(), count * 8)?;
    Some(Written { network, host_bits: false })
}

/// `2001:db8:0` behind `IPv6:`: sendmail writes all eight groups out and loses one at a time.
fn parse_v6_prefix(text: &str) -> Option<Written> {
    let (groups, count) = v6_groups(text)?;
    let network = Network::of_prefix(Ipv6Addr::from(groups).into(), count * 16)?;
    Some(Written { network, host_bits: false })
}

/// Parses an address as an MTA tells it: `192.0.2.7`, `IPv6:2001:db8:0:0:0:0:0:25`, with or without brackets.
pub fn parse_address(text: &str) -> Option<IpAddr> {
    if let Some(plain) = plain_v4(text) {
        return Some(plain.into());
    }
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
    let bare = strip_ipv6_tag(bare).unwrap_or(bare);
    let address = plain_v6(bare).map(IpAddr::from).or_else(|| bare.parse().ok())?;
    Some(address.to_canonical())
}

/// `192.0.2.7`, as most addresses are, in one pass; nothing for whatever else.
fn plain_v4(text: &str) -> Option<Ipv4Addr> {
    let (mut address, mut octet, mut digits, mut dots) = (0u32, 0u32, 0, 0);
    for byte in text.bytes() {
        match byte {
            // A leading zero would be octal to some.
            b'0'..=b'9' if digits == 0 || (octet > 0 && digits < 3) => {
                octet = octet * 10 + u32::from(byte - b'0');
                digits += 1;
            }
            b'.' if digits > 0 && octet < 256 && dots < 3 => {
                address = (address << 8) | octet;
                (octet, digits) = (0, 0);
                dots += 1;
            }
            _ => return None,
        }
    }
    (digits > 0 && octet < 256 && dots == 3).then(|| Ipv4Addr::from((address << 8) | octet))
}

/// `2001:db8:0:0:0:0:0:25`, as sendmail writes it, with all of its groups; nothing for whatever else.
fn plain_v6(text: &str) -> Option<Ipv6Addr> {
    v6_groups(text).filter(|(_, count)| *count == 8).map(|(groups, _)| groups.into())
}

/// Groups between colons, up to eight, and how many there are, in one pass; nothing where one is left out.
fn v6_groups(text: &str) -> Option<([u16; 8], u8)> {
    let (mut groups, mut count, mut digits) = ([0; 8], 0u8, 0);
    for byte in text.bytes() {
        match byte {
            b':' if digits > 0 => {
                count += 1;
                digits = 0;
            }
            _ if digits < 4 => {
                let group = groups.get_mut(usize::from(count))?;
                *group = (*group << 4) | u16::try_from(char::from(byte).to_digit(16)?).ok()?;
                digits += 1;
            }
            _ => return None,
        }
    }
    (digits > 0).then_some((groups, count + 1))
}

/// The network that a client's address stands for where its neighbours are taken as one: /24 or /48.
pub fn neighbourhood(address: IpAddr) -> Option<Network> {
    Network::of_prefix(address, if address.is_ipv4() { 24 } else { 48 })
}

/// An address, or a network, as it is written; on the stack, for who writes one for each decision.
#[derive(Clone, Copy, Debug)]
pub struct AddressText {
    text: [u8; Self::MOST],
    length: usize,
}

impl AddressText {
    /// Of an IPv6 address that has an IPv4 address at its end, with brackets.
    const MOST: usize = 47;

    /// Empty where there is none.
    pub fn of(address: Option<IpAddr>) -> Self {
        let mut text = Self { text: [0; Self::MOST], length: 0 };
        match address {
            Some(IpAddr::V4(address)) => text.dotted(address),
            Some(IpAddr::V6(address)) => text.write(address),
            None => {}
        }
        text
    }

    /// Empty where there is none.
    pub fn of_network(network: Option<Network>) -> Self {
        let mut text = Self::of(None);
        match network {
            Some(Network(IpNet::V4(network))) if network.prefix_len() < network.max_prefix_len() => {
                text.dotted(network.addr());
                text.push(b'/');
                text.decimal(network.prefix_len());
            }
            Some(network) => text.write(network),
            None => {}
        }
        text
    }

    /// In brackets, as a host without a name is written; empty where there is none.
    pub fn in_brackets(address: &str) -> Self {
        let mut text = Self::of(None);
        if !address.is_empty() {
            text.write(format_args!("[{address}]"));
        }
        text
    }

    fn dotted(&mut self, address: Ipv4Addr) {
        for (place, octet) in address.octets().into_iter().enumerate() {
            if place > 0 {
                self.push(b'.');
            }
            self.decimal(octet);
        }
    }

    fn decimal(&mut self, number: u8) {
        if number >= 100 {
            self.push(b'0' + number / 100);
        }
        if number >= 10 {
            self.push(b'0' + number / 10 % 10);
        }
        self.push(b'0' + number % 10);
    }

    fn push(&mut self, byte: u8) {
        if let Some(place) = self.text.get_mut(self.length) {
            *place = byte;
            self.length += 1;
        }
    }

    fn write(&mut self, what: impl fmt::Display) {
        // No address is longer than the room for it.
        let _ = fmt::Write::write_fmt(self, format_args!("{what}"));
    }
}

impl fmt::Write for AddressText {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.bytes().for_each(|byte| self.push(byte));
        Ok(())
    }
}

impl Deref for AddressText {
    type Target = str;

    fn deref(&self) -> &str {
        self.text.get(..self.length).and_then(|text| std::str::from_utf8(text).ok()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(address: IpAddr) {
        assert_eq!(*AddressText::of(Some(address)), address.to_string());
        let brackets = AddressText::in_brackets(&address.to_string());
        assert_eq!(*brackets, format!("[{address}]"));
        for length in 0..=128 {
            if let Some(network) = Network::of_prefix(address, length) {
                assert_eq!(*AddressText::of_network(Some(network)), network.to_string());
            }
        }
    }

    #[test]
    fn nothing_is_written_as_nothing() {
        let all = [AddressText::of(None), AddressText::of_network(None), AddressText::in_brackets("")];
        assert_eq!(all.each_ref().map(|text| text.len()), [0; 3]);
        // The longest: nine groups' worth of colons, and dots.
        written("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff".parse().unwrap());
        written("::ffff:255.255.255.255".parse().unwrap());
    }

    fn parsed(text: &str) -> String {
        match Network::parse(text) {
            None => "not a network".to_owned(),
            Some(Ok(Written { network, host_bits })) => {
                format!("{network}{}", if host_bits { " (host bits)" } else { "" })
            }
            Some(Err(error)) => format!("error: {error}"),
        }
    }

    #[test]
    fn every_spelling_is_understood() {
        for (written, expected) in [
            ("192.0.2.0/24", "192.0.2.0/24"),
            ("192.0.2.7", "192.0.2.7"),
            ("192.0.2.7/24", "192.0.2.0/24 (host bits)"),
            ("[192.0.2.7]", "192.0.2.7"),
            ("192.0.2", "192.0.2.0/24"),
            ("10", "10.0.0.0/8"),
            ("2001:db8::/32", "2001:db8::/32"),
            ("IPv6:2001:db8:0:0:0:0:0:25", "2001:db8::25"),
            ("ipv6:2001:db8", "2001:db8::/32"),
            ("IPv6:2001:db8::/32", "2001:db8::/32"),
            ("::ffff:192.0.2.7", "192.0.2.7"),
            ("::ffff:192.0.2.0/120", "192.0.2.0/24"),
            ("192.0.2.", "error: a trailing dot: a prefix is written without it, or in CIDR notation"),
            ("010.0.0.1", "error: not an address"),
            ("010.0", "error: not an address"),
            ("192.0.2.0/33", "error: a prefix length that does not fit the address"),
            ("2001:db8::/+8", "error: a prefix length that does not fit the address"),
            ("192.0.2.256", "error: not an address"),
            ("1.2.3.4.5", "error: not an address"),
            ("IPv6:2001:db8:zz", "error: not an address"),
            ("partner.example/24", "error: not an address"),
            ("partner.example", "not a network"),
            ("3com.example", "not a network"),
        ] {
            assert_eq!(parsed(written), expected, "{written}");
        }
    }

    proptest! {
        #[test]
        fn addresses_are_written_as_the_standard_library_does(v4: [u8; 4], v6: [u8; 16]) {
            written(v4.into());
            written(v6.into());
        }

        #[test]
        fn a_plain_address_is_read_as_the_standard_library_reads_it(
            octets in prop::collection::vec(prop::sample::select(vec!["0", "7", "10", "255", "256", "01", "1000", "", "x", "+1"]), 0..6),
            any in any::<[u8; 4]>(),
        ) {
            let text = octets.join(".");
            prop_assert_eq!(plain_v4(&text), text.parse().ok(), "{}", text);
            let text = Ipv4Addr::from(any).to_string();
            prop_assert_eq!(plain_v4(&text), text.parse().ok(), "{}", text);
        }

        #[test]
        fn a_full_address_is_read_as_the_standard_library_reads_it(
            groups in prop::collection::vec(prop::sample::select(vec!["0", "db8", "2001", "FfFf", "0007", "00000", "", "g", "+1"]), 6..10),
            any in any::<[u16; 8]>(),
        ) {
            let text = groups.join(":");
            // It leaves those with `::` to the library.
            let expected = text.parse().ok().filter(|_| !text.contains("::"));
            prop_assert_eq!(plain_v6(&text), expected, "{}", text);
            let text = any.map(|group| format!("{group:x}")).join(":");
            prop_assert_eq!(plain_v6(&text), Some(any.into()), "{}", text);
        }
    }

    #[test]
    fn an_address_is_read_in_sendmails_spelling() {
        let expected: IpAddr = "2001:db8::25".parse().unwrap();
        assert_eq!(parse_address("IPv6:2001:db8:0:0:0:0:0:25"), Some(expected));
        assert_eq!(parse_address("IPv6:::ffff:192.0.2.7"), parse_address("192.0.2.7"));
        assert_eq!(parse_address("[192.0.2.7]"), parse_address("192.0.2.7"));
        assert_eq!(parse_address("0"), None);
        assert_eq!(parse_address("localhost"), None);
    }
}
