//! The other side of a session, as an entry names it in `relay=`.
//!
//! A client: `name [address]`, `[address]` where it has no name, ` (may be forged)` behind a name that is not
//! confirmed, `user@` (from the ident protocol) before it; a process of this host: `root@localhost`. A server:
//! `name. [address]`, its name cut to forty bytes in the middle. Promises: a client's name is given as sendmail
//! tells it to a milter (`{client_name}`).

use super::scan::last_position;
use crate::policy::network::parse_address;
use std::net::IpAddr;

/// Behind a name that does not lead back to the address.
const FORGED: &[u8] = b" (may be forged)";
/// `STARTTLS=…, relay=` is cut to so many bytes.
pub(super) const TLS_CUT: usize = 100;
/// What is left out of the middle of a text.
const LEFT_OUT: &[u8] = b"...";
/// A server's name is cut to so many bytes.
const SERVER_CUT: usize = 40;

/// A client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Client<'l> {
    /// `{client_name}`
    pub(super) name: &'l [u8],
    /// `{client_addr}`
    pub(super) address: &'l str,
    /// The same, read.
    pub(super) ip: IpAddr,
    /// `{client_resolve}`. Where DNS was down (`TEMP`) the log does not say so.
    pub(super) resolve: &'static str,
}

impl<'l> Client<'l> {
    /// Reads `relay=` of a session; nothing for a process of this host.
    pub(super) fn of(relay: &'l [u8]) -> Option<Self> {
        let (named, forged) = match relay.strip_suffix(FORGED) {
            Some(named) => (named, true),
            None => (relay, false),
        };
        let open = last_position(b'[', named)?;
        let (name, literal) = named.split_at_checked(open)?;
        let address = literal.strip_prefix(b"[")?.strip_suffix(b"]")?;
        let (address, ip) = self::address(address)?;
        // `IDENT:user@name`: what the client's own host says of its user.
        let name = name.strip_suffix(b" ").unwrap_or(name);
        let name = last_position(b'@', name).and_then(|at| name.get(at + 1..)).unwrap_or(name);
        Some(match (name, forged) {
            ([] | [b'[', ..], _) => Self { name: literal, address, ip, resolve: "FAIL" },
            (_, true) => Self { name: literal, address, ip, resolve: "FORGED" },
            (name, false) => Self { name, address, ip, resolve: "OK" },
        })
    }
}

/// Whether two entries name the same client. One of them may be cut.
pub(super) fn same_client(cut: &[u8], relay: &[u8]) -> bool {
    cut == relay
        || match (Client::of(cut), Client::of(relay)) {
            (Some(one), Some(other)) => one.address == other.address,
            _ => cut.len() == TLS_CUT && relay.starts_with(cut),
        }
}

/// A server's name without the trailing dot, and its address; nothing for the address where there was no session.
pub(super) fn server(relay: &[u8]) -> (&[u8], Option<&[u8]>) {
    let split = || {
        let (name, literal) = relay.split_at_checked(last_position(b'[', relay)?)?;
        let name = name.strip_suffix(b" ")?;
        let address = literal.strip_prefix(b"[")?;
        Some((name, address.strip_suffix(b"]").unwrap_or(address)))
    };
    match split() {
        Some((name, address)) => (without_dot(name), Some(address)),
        None => (without_dot(relay), None),
    }
}

/// `mx.partner.example.` is the name of a host; `{server_name}` has no dot.
pub(super) fn without_dot(name: &[u8]) -> &[u8] {
    name.strip_suffix(b".").unwrap_or(name)
}

/// Whether the name, as it stands in a `to=` entry, may have lost its middle.
pub(super) fn is_cut(name: &[u8]) -> bool {
    name.len() + 1 >= SERVER_CUT && memchr::memmem::find(name, LEFT_OUT).is_some()
}

/// Whether a name is the whole one of what stands in a `to=` entry.
pub(super) fn is_same_server(shown: &[u8], whole: &[u8]) -> bool {
    if !is_cut(shown) {
        return shown.eq_ignore_ascii_case(whole);
    }
    let ends = || {
        let (head, tail) = shown.split_at_checked(memchr::memmem::find(shown, LEFT_OUT)?)?;
        Some((head, tail.get(LEFT_OUT.len()..)?))
    };
    ends().is_some_and(|(head, tail)| {
        whole.len() > head.len() + tail.len() && whole.starts_with(head) && whole.ends_with(tail)
    })
}

/// An address in sendmail's spelling: its text, and what it says.
pub(super) fn address(text: &[u8]) -> Option<(&str, IpAddr)> {
    let text = std::str::from_utf8(text).ok()?;
    Some((text, parse_address(text)?))
}
