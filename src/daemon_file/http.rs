//! `[http]`: where metrics and the state of health are asked for.

use super::{DaemonFile, Sockets};
use crate::diagnostics::Diagnostic;
use crate::listener::Address;
use crate::policy_file::walk::{Fields, Walk};
use std::net::{IpAddr, SocketAddr};

const SAMPLE: &str = "listen = \"127.0.0.1:9354\", or \"[::1]:9354\"";

pub(super) fn read(walk: &mut Walk<'_>, fields: &Fields<'_, '_>, daemon: &mut DaemonFile) {
    let Some(value) = fields.get("listen") else {
        let diagnostic = Diagnostic::warning("no-listen", "[http] without `listen`: nobody could ask");
        walk.tell(diagnostic.at(fields.place.clone()).hint(SAMPLE));
        return;
    };
    if value.get_ref().as_array().is_some_and(|list| list.is_empty()) {
        let at = walk.place(value.span());
        walk.tell(Diagnostic::error("no-listen", "`listen` is empty: nobody could ask").at(at).hint(SAMPLE));
    }
    for text in walk.strings(value, "listen") {
        let written = text.value.as_ref();
        let diagnostic = match written.parse::<SocketAddr>() {
            Err(_) => {
                let message = format!("`{written}` is no address with a port");
                Diagnostic::error("bad-listen", message).hint(SAMPLE)
            }
            Ok(address) if address.port() == 0 => {
                Diagnostic::error("bad-listen", format!("`{written}` has no port")).hint(SAMPLE)
            }
            Ok(address) if daemon.http.contains(&address) => {
                Diagnostic::error("duplicate-listen", format!("`{written}` is listened on twice"))
            }
            Ok(address) if [&daemon.milter, &daemon.outbound].into_iter().any(|of| has(of, address)) => {
                let message = format!("`{written}` is a socket of an MTA's: each needs its own");
                Diagnostic::error("duplicate-listen", message)
            }
            Ok(address) => {
                daemon.http.push(address);
                if !address.ip().is_unspecified() {
                    continue;
                }
                let message =
                    "whoever reaches this machine may read the names of rules, and how much mail there is";
                let hint =
                    "listen on 127.0.0.1, or on the address by which Prometheus comes, behind a firewall";
                Diagnostic::warning("open-http", message).hint(hint)
            }
        };
        walk.tell(diagnostic.at(text.place));
    }
}

/// Whether these sockets take that address already.
fn has(sockets: &Sockets, address: SocketAddr) -> bool {
    sockets.listen.iter().any(|listen| match listen {
        Address::Tcp { port, host, .. } => {
            let host = if host == "localhost" { Ok(IpAddr::from([127, 0, 0, 1])) } else { host.parse() };
            *port == address.port() && host == Ok(address.ip())
        }
        Address::Unix(_) => false,
    })
}
