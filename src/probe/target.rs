//! What to look at: a host and a port, or the hosts of a mail domain.
//!
//! Promises: an IPv6 address with and without a port is told apart by its brackets; a domain's hosts come as RFC 5321
//! section 5.1 has it: by preference, the domain itself where it has none, nobody where it says so (RFC 7505).

use super::fault::Fault;
use crate::policy::domain;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::RData;
use std::fmt;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::str::FromStr;
use std::time::Duration;

/// SMTP's port.
pub const DEFAULT_PORT: u16 = 25;

/// A host and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// A name in A-labels, or an address.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// Why a text is no target.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// `unix:/path`, `inet:8891@host`
    #[error("an SMTP server is reached by TCP: write HOST, HOST:PORT or [ADDRESS]:PORT")]
    NotTcp,
    /// `host:abc`
    #[error("`{0}` is no port (1 to 65535)")]
    BadPort(String),
    /// Anything else.
    #[error(
        "`{0}` is no host: write a name, an IPv4 address, or an IPv6 address (in brackets before a port)"
    )]
    BadHost(String),
}

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        let text = text.trim();
        let socket_kinds = ["unix:", "local:", "inet:", "inet6:"];
        if text.starts_with('/') || socket_kinds.iter().any(|kind| text.starts_with(kind)) {
            return Err(TargetError::NotTcp);
        }
        let port = |port: &str| {
            port.parse().ok().filter(|port| *port > 0).ok_or_else(|| TargetError::BadPort(port.to_owned()))
        };
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self { host: address.to_string(), port: DEFAULT_PORT });
        }
        let bad_host = || TargetError::BadHost(text.to_owned());
        if let Some(rest) = text.strip_prefix('[') {
            let (inner, after) = rest.split_once(']').ok_or_else(bad_host)?;
            let inner = inner.strip_prefix("IPv6:").unwrap_or(inner);
            let address: IpAddr = inner.parse().map_err(|_| bad_host())?;
            let port = match after.strip_prefix(':') {
                Some(number) => port(number)?,
                None if after.is_empty() => DEFAULT_PORT,
                None => return Err(bad_host()),
            };
            return Ok(Self { host: address.to_string(), port });
        }
        let (host, port) = match text.split_once(':') {
            Some((host, number)) => (host, port(number)?),
            None => (text, DEFAULT_PORT),
        };
        let host = host.strip_suffix('.').unwrap_or(host);
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(Self { host: address.to_string(), port });
        }
        // A name that a policy could not have as a key is none that a host has.
        let host = domain::key(host).map_err(|_| bad_host())?;
        Ok(Self { host: host.into_owned(), port })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Which addresses to use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Family {
    /// Both, in the system's order.
    #[default]
    Any,
    /// IPv4 alone.
    V4,
    /// IPv6 alone.
    V6,
}

impl Family {
    fn has(self, address: &SocketAddr) -> bool {
        match self {
            Self::Any => true,
            Self::V4 => address.is_ipv4(),
            Self::V6 => address.is_ipv6(),
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::Any => "",
            Self::V4 => " of IPv4",
            Self::V6 => " of IPv6",
        }
    }
}

impl Target {
    /// Its addresses, as the system's resolver has them.
    pub fn addresses(&self, family: Family) -> Result<Vec<SocketAddr>, Fault> {
        let none = |cause: String| Fault::NoAddress(self.host.clone(), family.words(), cause);
        let all =
            (self.host.as_str(), self.port).to_socket_addrs().map_err(|error| none(error.to_string()))?;
        let mut found: Vec<SocketAddr> = Vec::new();
        for address in all.filter(|address| family.has(address)) {
            if !found.contains(&address) {
                found.push(address);
            }
        }
        if found.is_empty() { Err(none("nothing was found".to_owned())) } else { Ok(found) }
    }
}

/// The hosts of a mail domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hosts {
    /// With their preferences, the best first.
    Mx(Vec<(u16, String)>),
    /// It has no MX: the domain itself is the host.
    Itself,
    /// It says that it takes no mail (`MX 0 .`).
    Nobody,
}

/// Why the hosts of a domain are not known.
#[derive(Debug, thiserror::Error)]
#[error("the MX records of {domain} cannot be looked up: {cause}")]
pub struct LookupError {
    domain: String,
    cause: String,
}

/// Asks the DNS for the hosts of a domain: the resolver that is given, or the system's.
pub fn mx(domain: &str, resolver: Option<SocketAddr>, timeout: Duration) -> Result<Hosts, LookupError> {
    let failed = |cause: String| LookupError { domain: domain.to_owned(), cause };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| failed(error.to_string()))?;
    runtime.block_on(async {
        // Every try of the library's own has its own time; all of them together have this.
        let look = tokio::time::timeout(timeout, ask(domain, resolver)).await;
        look.map_err(|_| failed(format!("no answer within {} s", timeout.as_secs())))?.map_err(failed)
    })
}

async fn ask(domain: &str, resolver: Option<SocketAddr>) -> Result<Hosts, String> {
    let builder = match resolver {
        None => TokioResolver::builder_tokio(),
        Some(address) => {
            let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
                connection.port = address.port();
                connection
            });
            let server = NameServerConfig::new(address.ip(), true, connections.into());
            let config = ResolverConfig::from_name_servers(vec![server]);
            Ok(TokioResolver::builder_with_config(config, TokioRuntimeProvider::default()))
        }
    };
    let resolver =
        builder.and_then(hickory_resolver::ResolverBuilder::build).map_err(|error| error.to_string())?;
    // The dot at its end: no search list of this machine is put behind it.
    let lookup = match resolver.mx_lookup(format!("{domain}.")).await {
        Ok(lookup) => lookup,
        Err(error) if error.is_nx_domain() => return Err("there is no such domain".to_owned()),
        Err(error) if error.is_no_records_found() => return Ok(Hosts::Itself),
        Err(error) => return Err(error.to_string()),
    };
    let mut hosts: Vec<(u16, String)> = lookup
        .answers()
        .iter()
        .filter_map(|record| match &record.data {
            RData::MX(mx) => Some((mx.preference, mx.exchange.to_ascii())),
            _ => None,
        })
        .collect();
    if hosts.is_empty() {
        return Ok(Hosts::Itself);
    }
    hosts.sort();
    hosts.retain(|(_, host)| host != ".");
    if hosts.is_empty() { Ok(Hosts::Nobody) } else { Ok(Hosts::Mx(hosts)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_ports_and_brackets() {
        for (text, expected) in [
            ("mx.partner.example", "mx.partner.example:25"),
            ("MX.Partner.example.", "mx.partner.example:25"),
            ("mx.partner.example:587", "mx.partner.example:587"),
            ("b\u{fc}cher.example", "xn--bcher-kva.example:25"),
            ("192.0.2.7", "192.0.2.7:25"),
            ("192.0.2.7:26", "192.0.2.7:26"),
            ("2001:db8::1", "[2001:db8::1]:25"),
            ("[2001:db8::1]", "[2001:db8::1]:25"),
            ("[2001:db8::1]:26", "[2001:db8::1]:26"),
            ("[IPv6:2001:db8::1]:26", "[2001:db8::1]:26"),
            ("[192.0.2.7]:26", "192.0.2.7:26"),
            ("localhost:2525", "localhost:2525"),
        ] {
            assert_eq!(
                text.parse::<Target>().map(|target| target.to_string()).as_deref(),
                Ok(expected),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_no_target_is_told() {
        for text in ["unix:/run/x", "/run/x", "inet:25@mx.example", "inet6:25@::1"] {
            assert_eq!(text.parse::<Target>(), Err(TargetError::NotTcp), "{text}");
        }
        for (text, port) in
            [("mx.example:", ""), ("mx.example:0", "0"), ("mx.example:65536", "65536"), ("[::1]:x", "x")]
        {
            assert_eq!(text.parse::<Target>(), Err(TargetError::BadPort(port.to_owned())), "{text}");
        }
        for text in ["", "[::1", "[::1]25", "[mx.example]:25", "a b", "*.example", "user@mx.example"] {
            assert_eq!(text.parse::<Target>(), Err(TargetError::BadHost(text.to_owned())), "{text}");
        }
    }

    #[test]
    fn an_address_has_itself_and_the_family_is_kept_to() {
        let target: Target = "192.0.2.7:26".parse().unwrap();
        assert_eq!(target.addresses(Family::V4).unwrap(), ["192.0.2.7:26".parse().unwrap()]);
        let none = target.addresses(Family::V6).unwrap_err();
        assert_eq!(none.to_string(), "192.0.2.7 has no address of IPv6: nothing was found");
    }
}
