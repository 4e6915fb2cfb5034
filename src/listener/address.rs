//! Where to listen, in sendmail's notation.
//!
//! Promises: whatever is taken can be bound, as far as its length goes.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// The longest path that a unix socket's address holds (`sun_path`, less its NUL).
pub(super) const MAX_UNIX_PATH: usize = 107;
/// The longest name of a socket's place while it is made: a dot and a process id.
pub(super) const MAX_BESIDE: usize = 8;

/// Whether a path, and that of the place beside it where the socket is made, fit into an address.
fn fits(path: &Path) -> bool {
    let folder = path.parent().map_or(0, |folder| folder.as_os_str().len());
    path.as_os_str().len() <= MAX_UNIX_PATH && folder + 1 + MAX_BESIDE <= MAX_UNIX_PATH
}

/// Where to listen, in sendmail's notation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// `unix:/path`, `local:/path`, `/path`
    Unix(PathBuf),
    /// `inet:port@host`, `inet6:port@host`
    Tcp {
        /// Whether it is `inet6`.
        v6: bool,
        /// The port.
        port: u16,
        /// A name or an address.
        host: String,
    },
}

/// What is wrong with an address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// `inet:8891`
    #[error("no host: write inet:{0}@127.0.0.1, or the address that the MTA is to connect to")]
    NoHost(String),
    /// `inet:abc@…`
    #[error("`{0}` is no port (1 to 65535)")]
    BadPort(String),
    /// `unix:run/x`
    #[error("a unix socket needs an absolute path")]
    RelativePath,
    /// Longer than an address holds.
    #[error(
        "the path is too long: a socket's address holds {MAX_UNIX_PATH} bytes, and a process id must fit beside it"
    )]
    PathTooLong,
    /// Anything else.
    #[error("not an address: write unix:/path, inet:port@host or inet6:port@host, as in sendmail's S=")]
    Unknown,
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let unix = text.strip_prefix("unix:").or_else(|| text.strip_prefix("local:"));
        if let Some(path) = unix.or_else(|| text.starts_with('/').then_some(text)) {
            return match path {
                _ if !path.starts_with('/') => Err(AddressError::RelativePath),
                _ if !fits(Path::new(path)) => Err(AddressError::PathTooLong),
                _ => Ok(Self::Unix(PathBuf::from(path))),
            };
        }
        let (v6, rest) = match (text.strip_prefix("inet6:"), text.strip_prefix("inet:")) {
            (Some(rest), _) => (true, rest),
            (None, Some(rest)) => (false, rest),
            (None, None) => return Err(AddressError::Unknown),
        };
        let (port_text, host) = rest.split_once('@').ok_or_else(|| AddressError::NoHost(rest.to_owned()))?;
        let port = port_text.parse().ok().filter(|port| *port > 0);
        let port = port.ok_or_else(|| AddressError::BadPort(port_text.to_owned()))?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if host.is_empty() {
            return Err(AddressError::NoHost(port_text.to_owned()));
        }
        Ok(Self::Tcp { v6, port, host: host.to_owned() })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp { v6, port, host } => write!(f, "inet{}:{port}@{host}", if *v6 { "6" } else { "" }),
        }
    }
}
