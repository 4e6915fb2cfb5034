//! Keys that can never match, and what to write instead.
//!
//! Promises: what a hint proposes does match, as sendmail spells names and addresses; where nothing can be
//! proposed it says what a key may be. Must not: judge whether a key matches (see [`super::super::access_map`]).

use super::super::access_map::{Dead, tag_of};
use super::super::prefix::{Prefix, Prefixes};
use super::faults::{At, shown};
use crate::diagnostics::Diagnostic;
use crate::policy::rule::Side;
use ipnet::IpNet;
use std::net::{IpAddr, Ipv6Addr};

/// So many prefixes are spelt out for one network.
const SPELT_OUT: u64 = 4;

pub(super) fn never_matches(at: &At<'_>, dead: Dead) -> Diagnostic {
    let key = at.rule.key;
    Diagnostic::error("never-matches", format!("`{}` never matches: {}", shown(key), dead.words()))
        .at(at.key())
        .hint(hint(at.rule.side, key, dead))
}

fn hint(side: Side, key: &str, dead: Dead) -> String {
    let tag = tag_of(side).unwrap_or_default();
    if let Some(inner) = key.strip_prefix('[').and_then(|key| key.strip_suffix(']')) {
        let written = spelt(inner, dead);
        let brackets: Vec<_> = written.iter().flatten().map(|key| format!("`[{key}]`")).collect();
        return if brackets.is_empty() && dead == Dead::Mapped {
            "no key is all of IPv4: write a line for each first octet that is meant, as `[192]`".to_owned()
        } else if brackets.is_empty() {
            "in brackets stands an address; a name has none".to_owned()
        } else {
            format!("write {}", brackets.join(", "))
        };
    }
    match dead {
        Dead::Wildcard | Dead::LeadingDot if key.contains('@') => user_hint(tag, key),
        Dead::Wildcard | Dead::LeadingDot => {
            match key.rsplit_once(['*', '?']).map_or(key, |(_, rest)| rest) {
                rest if rest.trim_start_matches('.').is_empty() => {
                    format!("write `{tag}:` with nothing behind it for everyone without a rule")
                }
                rest => {
                    let name = rest.split_once('.').map_or(rest, |(_, name)| name).trim_start_matches('.');
                    let feature = if dead == Dead::LeadingDot {
                        " (with FEATURE(`lookupdotdomain') this key would match the subdomains alone)"
                    } else {
                        ""
                    };
                    format!("write `{}`: it covers the name and all its subdomains{feature}", shown(name))
                }
            }
        }
        Dead::TrailingDot => format!("write `{}`", shown(key.trim_end_matches('.'))),
        Dead::Cidr => cidr_hint(tag, key),
        Dead::Compressed | Dead::LeadingZeros | Dead::NoIpv6Tag => match spelt(key, dead) {
            Some(keys) => format!("write {}", list(&keys)),
            None => "write all groups out, without leading zeros: `IPv6:2001:db8:0:0:0:0:0:25`".to_owned(),
        },
        Dead::Mapped => match spelt(key, dead) {
            Some(keys) => format!("write {}", list(&keys)),
            None => format!(
                "no key is all of IPv4: write a line for each first octet that is meant, or `{tag}:` for everyone without a rule"
            ),
        },
        Dead::NotInBrackets => {
            format!("write `[{}]` for mail to an address, or the recipient's domain", shown(key))
        }
        Dead::MailAddress => {
            let host = key.rsplit_once('@').map_or(key, |(_, host)| host);
            let host = if host.is_empty() { "the host".to_owned() } else { format!("`{}`", shown(host)) };
            format!("write {host} here, or `TLS_Rcpt:{}` for deliveries to that recipient", shown(key))
        }
        Dead::NotAscii => {
            let (user, name) = key.rsplit_once('@').map_or(("", key), |(user, name)| (user, name));
            let at = if user.is_empty() { "" } else { "@" };
            match idna::domain_to_ascii(name.trim_start_matches(['*', '.'])) {
                // What was no UTF-8 has become U+FFFD: what it was nobody knows.
                Ok(name) if !name.is_empty() && user.is_ascii() => {
                    format!("write `{user}{at}{}`", shown(&name))
                }
                _ => "write the name in A-labels, as DNS has it".to_owned(),
            }
        }
        Dead::NoName if side.is_host() => {
            "a key is a host's name, a domain, an address, or the beginning of one up to a dot or colon"
                .to_owned()
        }
        Dead::NoName => "a key is `user@domain`, `user@`, a domain, or nothing".to_owned(),
    }
}

/// A pattern for whole mail addresses.
fn user_hint(tag: &str, key: &str) -> String {
    let (user, host) = key.rsplit_once('@').unwrap_or(("", key));
    let domain = host.trim_start_matches(['*', '.']);
    match (user, domain) {
        ("*", "") => format!("write `{tag}:` with nothing behind it for everyone without a rule"),
        ("*", domain) => {
            format!(
                "write `{}` for every user there: it covers the domain and all its subdomains",
                shown(domain)
            )
        }
        (user, _) => format!(
            "a user's line names the whole address; write a line for each, or `{}@` for that user at every domain",
            shown(user)
        ),
    }
}

/// `a`, `b`
fn list(keys: &[String]) -> String {
    keys.iter().map(|key| format!("`{}`", shown(key))).collect::<Vec<_>>().join(", ")
}

/// Addresses as sendmail spells them.
fn spelt(key: &str, dead: Dead) -> Option<Vec<String>> {
    let groups = bare(key);
    match dead {
        Dead::Cidr => net_of(key).filter(|net| net.prefix_len() > 0).and_then(few),
        Dead::TrailingDot => Some(vec![key.trim_end_matches('.').to_owned()]),
        // `IPv6:2001:db8::` is meant for a network, and is an address.
        Dead::Compressed if groups.ends_with(':') => {
            let network = without_zeros(groups.trim_end_matches(':'), ':');
            (!network.is_empty() && !network.contains("::")).then(|| vec![format!("IPv6:{network}")])
        }
        Dead::Mapped => {
            let groups = groups.get("0:0:0:0:0:ffff".len()..)?.strip_prefix(':')?;
            if groups.contains('.') {
                return Some(vec![groups.to_owned()]);
            }
            let halves: Result<Vec<u16>, _> =
                groups.split(':').map(|group| u16::from_str_radix(group, 16)).collect();
            let octets: Vec<String> =
                halves.ok()?.into_iter().flat_map(u16::to_be_bytes).map(|octet| octet.to_string()).collect();
            Some(vec![octets.join(".")])
        }
        Dead::Compressed | Dead::LeadingZeros | Dead::NoIpv6Tag => {
            if let Ok(address) = groups.parse::<Ipv6Addr>() {
                return Some(vec![written_out(address)]);
            }
            if groups.contains("::") {
                return None;
            }
            let separator = if groups.contains(':') { ':' } else { '.' };
            let tag = if separator == ':' || groups.len() < key.len() { "IPv6:" } else { "" };
            Some(vec![format!("{tag}{}", without_zeros(groups, separator))])
        }
        _ => None,
    }
}

/// An address without its `IPv6:`.
fn bare(key: &str) -> &str {
    match key.split_at_checked(5) {
        Some((tag, groups)) if tag.eq_ignore_ascii_case("IPv6:") => groups,
        _ => key,
    }
}

fn without_zeros(groups: &str, separator: char) -> String {
    let plain = |group: &str| match group.trim_start_matches('0') {
        "" if !group.is_empty() => "0".to_owned(),
        group => group.to_owned(),
    };
    groups.split(separator).map(plain).collect::<Vec<_>>().join(&separator.to_string())
}

/// An address as `{client_addr}` has it.
fn written_out(address: Ipv6Addr) -> String {
    match address.to_ipv4_mapped() {
        Some(v4) => v4.to_string(),
        None => Prefix { address: IpAddr::V6(address), depth: 8 }.to_string(),
    }
}

fn cidr_hint(tag: &str, key: &str) -> String {
    let Some(net) = net_of(key) else {
        return "write the prefix up to a dot or colon: `192.0.2` for 192.0.2.0/24".to_owned();
    };
    if net.prefix_len() == 0 {
        return format!("write `{tag}:` with nothing behind it for everyone without a rule");
    }
    match few(net) {
        Some(keys) if keys.len() == 1 => format!("write {}", list(&keys)),
        Some(keys) => format!("write a line for each of {}", list(&keys)),
        None => {
            let prefixes = Prefixes::of(net);
            let ((first, last), count) = (prefixes.ends(), prefixes.count());
            format!("write a line for each of the {count} prefixes from `{first}` to `{last}`")
        }
    }
}

/// The network that a key in CIDR notation is meant for.
fn net_of(key: &str) -> Option<IpNet> {
    let (address, length) = bare(key).split_once('/')?;
    let address: IpAddr = match address.parse() {
        Ok(address) => address,
        // `192.0.2/24`
        Err(_) => {
            let missing = 3usize.checked_sub(address.matches('.').count())?;
            IpAddr::V4(format!("{address}{}", ".0".repeat(missing)).parse().ok()?)
        }
    };
    IpNet::new(address, length.parse().ok()?).ok()
}

/// Its prefixes, where they are few.
fn few(net: IpNet) -> Option<Vec<String>> {
    let prefixes = Prefixes::of(net);
    (prefixes.count() <= SPELT_OUT).then(|| prefixes.iter().map(|prefix| prefix.to_string()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hint_says_what_matches() {
        for (key, dead, expected) in [
            (".example.com", Dead::LeadingDot, "write `example.com`: it covers"),
            ("*.example.com", Dead::Wildcard, "write `example.com`: it covers"),
            ("mx*.example.com", Dead::Wildcard, "write `example.com`: it covers"),
            ("*", Dead::Wildcard, "write `TLS_Clt:` with nothing"),
            ("example.com.", Dead::TrailingDot, "write `example.com`"),
            ("192.0.2.", Dead::TrailingDot, "write `192.0.2`"),
            ("192.0.2.0/24", Dead::Cidr, "write `192.0.2`"),
            ("192.0.2/24", Dead::Cidr, "write `192.0.2`"),
            ("192.0.2.7/32", Dead::Cidr, "write `192.0.2.7`"),
            ("10.0.0.0/8", Dead::Cidr, "write `10`"),
            ("192.0.2.129/31", Dead::Cidr, "write a line for each of `192.0.2.128`, `192.0.2.129`"),
            (
                "192.0.4.0/22",
                Dead::Cidr,
                "write a line for each of `192.0.4`, `192.0.5`, `192.0.6`, `192.0.7`",
            ),
            (
                "172.16.0.0/12",
                Dead::Cidr,
                "write a line for each of the 16 prefixes from `172.16` to `172.31`",
            ),
            ("0.0.0.0/0", Dead::Cidr, "write `TLS_Clt:` with nothing"),
            ("192.0.2.0/33", Dead::Cidr, "write the prefix up to"),
            ("partner.example/24", Dead::Cidr, "write the prefix up to"),
            ("IPv6:2001:db8::/32", Dead::Cidr, "write `IPv6:2001:db8`"),
            ("2001:db8::/47", Dead::Cidr, "write a line for each of `IPv6:2001:db8:0`, `IPv6:2001:db8:1`"),
            (
                "fe80::/10",
                Dead::Cidr,
                "write a line for each of the 64 prefixes from `IPv6:fe80` to `IPv6:febf`",
            ),
            ("2001:db8::25", Dead::Compressed, "write `IPv6:2001:db8:0:0:0:0:0:25`"),
            ("::ffff:192.0.2.7", Dead::Compressed, "write `192.0.2.7`"),
            ("IPv6:2001:db8::", Dead::Compressed, "write `IPv6:2001:db8`"),
            ("IPv6:2001:0db8", Dead::LeadingZeros, "write `IPv6:2001:db8`"),
            ("010.0.0.1", Dead::LeadingZeros, "write `10.0.0.1`"),
            ("2001:db8:0:0:0:0:0:25", Dead::NoIpv6Tag, "write `IPv6:2001:db8:0:0:0:0:0:25`"),
            ("IPv6:0:0:0:0:0:FFFF:c000:207", Dead::Mapped, "write `192.0.2.7`"),
            ("IPv6:0:0:0:0:0:ffff:a00", Dead::Mapped, "write `10.0`"),
            ("IPv6:0:0:0:0:0:ffff:192.0.2.7", Dead::Mapped, "write `192.0.2.7`"),
            ("IPv6:0:0:0:0:0:ffff", Dead::Mapped, "no key is all of IPv4: write a line for each"),
            ("[IPv6:0:0:0:0:0:ffff:c000:207]", Dead::Mapped, "write `[192.0.2.7]`"),
            ("[IPv6:0:0:0:0:0:ffff]", Dead::Mapped, "no key is all of IPv4: write a line for each"),
            ("[2001:db8::25]", Dead::Compressed, "write `[IPv6:2001:db8:0:0:0:0:0:25]`"),
            ("[192.0.2.0/24]", Dead::Cidr, "write `[192.0.2]`"),
            ("[mx.example]", Dead::NoName, "in brackets stands an address"),
            ("joe@b.example", Dead::MailAddress, "write `b.example` here, or `TLS_Rcpt:joe@b.example`"),
            ("bücher.example", Dead::NotAscii, "write `xn--bcher-kva.example`"),
            ("b\u{fffd}cher.example", Dead::NotAscii, "write the name in A-labels"),
            ("a..b", Dead::NoName, "a key is a host's name"),
        ] {
            let hint = hint(Side::Client, key, dead);
            assert!(hint.starts_with(expected), "{key}: {hint}");
        }
        for (key, dead, expected) in [
            ("*@a.example", Dead::Wildcard, "write `a.example` for every user there"),
            ("*@*.a.example", Dead::Wildcard, "write `a.example` for every user there"),
            ("*@", Dead::Wildcard, "write `TLS_Rcpt:` with nothing"),
            (
                "u@*.a.example",
                Dead::Wildcard,
                "a user's line names the whole address; write a line for each, or `u@`",
            ),
            (
                "u@.a.example",
                Dead::LeadingDot,
                "a user's line names the whole address; write a line for each, or `u@`",
            ),
            ("*.a.example", Dead::Wildcard, "write `a.example`: it covers"),
        ] {
            let hint = hint(Side::RecipientOutbound, key, dead);
            assert!(hint.starts_with(expected), "{key}: {hint}");
        }
    }
}
