//! `[control]`: where `encr-milter status` and `reload` find the daemon.

use super::{DEFAULT_LISTEN, DaemonFile, string};
use crate::diagnostics::Diagnostic;
use crate::listener::Address;
use crate::policy_file::walk::{Fields, Walk};
use std::path::{Path, PathBuf};

/// The socket's name, where nothing is said of it.
const NAME: &str = "control.sock";

/// Reads the section; without it, the socket lies beside the first unix socket of [milter]: that folder is the daemon's.
pub(super) fn read(walk: &mut Walk<'_>, fields: Option<&Fields<'_, '_>>, daemon: &mut DaemonFile) {
    daemon.control = None;
    let enabled = fields.and_then(|fields| Some((fields, fields.get("enabled")?)));
    let is_enabled = enabled.and_then(|(_, value)| walk.boolean(value, "enabled")).unwrap_or(true);
    let given = fields.and_then(|fields| Some((string(walk, fields, "listen")?, fields)));
    let Some((text, _)) = given else {
        if is_enabled {
            daemon.control = beside_milter(walk, fields, daemon);
        }
        return;
    };
    match text.value.parse() {
        Ok(Address::Unix(path)) => {
            let taken = Address::Unix(path.clone());
            if daemon.milter.listen.contains(&taken) || daemon.outbound.listen.contains(&taken) {
                let message = format!("`{taken}` is a socket of [milter] or [outbound]: each needs its own");
                walk.tell(Diagnostic::error("duplicate-listen", message).at(text.place));
            }
            daemon.control = is_enabled.then_some(path);
        }
        Ok(Address::Tcp { .. }) => walk.tell(
            Diagnostic::error(
                "bad-listen",
                "the control socket is a unix socket: its permissions say who may ask",
            )
            .at(text.place)
            .hint("listen = \"unix:/run/encr-milter/control.sock\""),
        ),
        Err(error) => {
            walk.tell(Diagnostic::error("bad-listen", format!("`{}`: {error}", text.value)).at(text.place));
        }
    }
}

fn beside_milter(
    walk: &mut Walk<'_>,
    fields: Option<&Fields<'_, '_>>,
    daemon: &DaemonFile,
) -> Option<PathBuf> {
    let milter = daemon.milter.listen.iter().find_map(|address| match address {
        Address::Unix(path) => Some(path.as_path()),
        Address::Tcp { .. } => None,
    });
    let path = milter.unwrap_or(Path::new(DEFAULT_LISTEN)).with_file_name(NAME);
    let address = format!("unix:{}", path.display()).parse::<Address>();
    if let Err(error) = address {
        let message = format!("no control socket at {}: {error}", path.display());
        let at = fields.map_or_else(|| walk.place(0..0), |fields| fields.place.clone());
        walk.tell(
            Diagnostic::warning("no-control", message)
                .at(at)
                .hint("give [control] a `listen` with a shorter path"),
        );
        return None;
    }
    Some(path)
}
