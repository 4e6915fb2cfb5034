//! Mail that leaves: is sendmail told to ask, does it ask where the daemon listens, and does somebody answer there?

use super::attached::same;
use super::finding::{Area, Findings};
use super::socket::tcp;
use super::{Known, Sendmail};
use crate::listener::Address;
use crate::sendmail::cf::Map;
use std::io;
use std::os::unix::net::UnixStream;

const AREA: Area = Area::Outbound;
const MAKE: &str = "make -C /etc/mail && /etc/init.d/sendmail reload";
/// sendmail's rulesets that must call ours, as config/sendmail-outbound.mc has it.
const CALLERS: [&str; 2] = ["Local_tls_server", "Local_tls_rcpt"];

pub(super) fn examine(known: &Known<'_>, sendmail: &Sendmail, findings: &mut Findings) {
    let Some(daemon) = &known.daemon else { return };
    let listen = &daemon.outbound.listen;
    let judged = known.policy.as_ref().is_some_and(crate::policy::Policy::is_outbound);
    let sockets = sendmail.cf.maps.iter().filter(|map| map.class == "socket");
    let leads = |map: &&Map| {
        place(map).is_some_and(|asked| listen.iter().any(|own| same(&known.machine, own, &asked)))
    };
    let Some(map) =
        sockets.clone().find(leads).or_else(|| sockets.clone().find(|map| map.name.contains("encr")))
    else {
        match (judged, listen.is_empty()) {
            (true, _) => findings.problem(
                AREA,
                "outbound-asked",
                "the policy has rules for mail that leaves, and sendmail.cf has no socket map that leads to us: nobody holds to them",
                &["put the lines of sendmail-outbound.mc at the end of sendmail.mc, and [outbound] listen into the daemon's file", MAKE],
            ),
            (false, false) => findings.warning(
                AREA,
                "outbound-asked",
                "the daemon listens for questions about mail that leaves, and sendmail.cf has no map that asks",
                &["put the lines of sendmail-outbound.mc at the end of sendmail.mc", MAKE],
            ),
            (false, true) => {}
        }
        return;
    };
    let Some(asked) = place(map) else {
        let found = format!("map {}: `{}` is no socket", map.name, map.place);
        return findings.problem(
            AREA,
            "outbound-asked",
            found,
            &["mend the K line of sendmail-outbound.mc", MAKE],
        );
    };
    called(sendmail, map, findings);
    if !map.flags.iter().any(|flag| flag == "-f") {
        findings.warning(
            AREA,
            "outbound-case",
            format!(
                "map {} has no -f: all that is asked comes in lower case, certificates' names among it",
                map.name
            ),
            &["write -f behind `socket`, as sendmail-outbound.mc has it", MAKE],
        );
    }
    if leads(&map) {
        findings.ok(AREA, "outbound-agreed", format!("sendmail asks at {asked}, where the daemon listens"));
    } else {
        let own: Vec<String> = listen.iter().map(ToString::to_string).collect();
        let own = if own.is_empty() {
            "listens nowhere ([outbound] has no `listen`)".to_owned()
        } else {
            format!("listens on {}", own.join(", "))
        };
        findings.problem(
            AREA,
            "outbound-agreed",
            format!("sendmail asks at {asked}, and by its file the daemon {own}"),
            &[&format!("listen = \"{asked}\" below [outbound] of the daemon's file, and restart it; or mend the K line")],
        );
    }
    answers(known, &asked, findings);
}

fn place(map: &Map) -> Option<Address> {
    map.place.parse().ok()
}

/// Whether both rulesets ask.
fn called(sendmail: &Sendmail, map: &Map, findings: &mut Findings) {
    let defined = sendmail.cf.rulesets.iter().any(|ruleset| {
        let looks_up = format!("$({} ", map.name);
        ruleset.rules.iter().any(|rule| rule.contains(&looks_up))
    });
    let calls = |name: &&str| {
        let ruleset = sendmail.cf.ruleset(name);
        ruleset.is_some_and(|ruleset| {
            ruleset.rules.iter().any(|rule| rule.to_ascii_lowercase().contains("$>encr_milter"))
        })
    };
    let missing: Vec<&str> = CALLERS.into_iter().filter(|name| !calls(name)).collect();
    if defined && missing.is_empty() {
        findings.ok(AREA, "outbound-asked", format!("sendmail's outbound rulesets ask map {}", map.name));
        return;
    }
    let what = if defined {
        format!("{} does not call it", missing.join(" and "))
    } else {
        "no ruleset looks anything up in it".to_owned()
    };
    findings.problem(
        AREA,
        "outbound-asked",
        format!("sendmail.cf has the map {}, but {what}: nobody asks about mail that leaves", map.name),
        &["put all lines of sendmail-outbound.mc at the end of sendmail.mc, behind the MAILER lines", MAKE],
    );
}

/// Whether somebody takes the connection; no question is asked.
fn answers(known: &Known<'_>, address: &Address, findings: &mut Findings) {
    let connected: io::Result<()> = match address {
        Address::Unix(path) => UnixStream::connect(known.machine.path(path)).map(drop),
        Address::Tcp { v6, port, host } => tcp(host, *port, *v6, known.settings.timeout).map(drop),
    };
    match connected {
        Ok(()) => findings.ok(AREA, "outbound-answers", format!("somebody listens on {address}")),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            findings.not_looked(AREA, "outbound-answers", format!("{address}: {error}"), &["run doctor as root"]);
        }
        Err(error) => findings.problem(
            AREA,
            "outbound-answers",
            format!("nobody listens on {address}: {error}; where the socket's file is missing, sendmail defers all mail that leaves"),
            &["systemctl restart encr-milter"],
        ),
    }
}
