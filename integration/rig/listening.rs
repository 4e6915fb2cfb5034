//! Whether somebody listens. For TCP the kernel tells; to connect in order to find out would be a session more.
//! The kernel names a unix socket as it was bound, though, and it may have been given its name afterwards.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::net::UnixStream;

/// Whether a TCP socket listens at this address.
pub(crate) fn tcp(address: SocketAddr) -> bool {
    let table = if address.is_ipv4() { "/proc/net/tcp" } else { "/proc/net/tcp6" };
    let ours = format!("{}:{:04X}", as_the_kernel_writes(address.ip()), address.port());
    let table = fs::read_to_string(table).unwrap_or_default();
    let mut lines = table.lines().map(|line| line.split_ascii_whitespace().skip(1));
    lines.any(|mut columns| columns.next() == Some(&*ours) && columns.nth(1) == Some("0A"))
}

/// Whether somebody listens at a socket in sendmail's notation: `unix:/path`, `inet:port@address`.
pub(crate) fn milter(socket: &str) -> bool {
    let Some((kind, place)) = socket.split_once(':') else { return false };
    match (kind, place.split_once('@')) {
        ("unix" | "local", _) => UnixStream::connect(place).is_ok(),
        ("inet" | "inet6", Some((port, host))) => {
            let (port, host) = (port.parse(), host.trim_matches(['[', ']']).parse());
            port.is_ok_and(|port| host.is_ok_and(|host| tcp(SocketAddr::new(host, port))))
        }
        _ => false,
    }
}

/// In hexadecimal, every 32 bits of it in the machine's own byte order.
fn as_the_kernel_writes(address: IpAddr) -> String {
    let bytes = match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    let words = bytes.chunks_exact(4).filter_map(|word| word.try_into().ok()).map(u32::from_ne_bytes);
    words.map(|word| format!("{word:08X}")).collect::<Vec<_>>().concat()
}
