//! Whether the milter is in sendmail's configuration: the filter, its place in the lists, its socket, F= and T=.

use super::finding::{Area, Findings};
use super::machine::Machine;
use super::{Known, Sendmail};
use crate::listener::Address;
use crate::policy::rule::Mode;
use crate::sendmail::cf::{DaemonPort, Filter, WhenDown};
use std::collections::BTreeSet;
use std::net::ToSocketAddrs;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

const AREA: Area = Area::Mta;
/// A client waits for us as long as sendmail does; SMTP clients give up after some minutes.
const LONG: Duration = Duration::from_mins(1);
/// As config/sendmail-milter.mc has it while rules only observe; [`ACTING`] comes before `T=` once they act.
const LINE: &str =
    "INPUT_MAIL_FILTER(`encr-milter', `S=local:/run/encr-milter/milter.sock, T=C:10s;S:10s;R:60s;E:2m')dnl";
const ACTING: &str = "F=T, ";
const MAKE: &str = "make -C /etc/mail && /etc/init.d/sendmail reload";

/// Examines it; hands back the filters that are ours.
pub(super) fn examine(known: &Known<'_>, sendmail: &Sendmail, findings: &mut Findings) -> Vec<Filter> {
    let cf = &sendmail.cf;
    let path = sendmail.path.display();
    for filter in cf.filters.iter().filter(|filter| filter.fault.is_some()) {
        let fault = filter.fault.as_deref().unwrap_or_default();
        findings.problem(
            AREA,
            "filter-fault",
            format!("{path}, line {}: mail filter {}: {fault}", filter.line, filter.name),
            &["mend its INPUT_MAIL_FILTER line in sendmail.mc", MAKE],
        );
    }
    let ours = ours(known, &cf.filters);
    if ours.is_empty() {
        let line = known.daemon.as_ref().and_then(|daemon| daemon.milter.listen.first());
        let line = line.map_or_else(
            || LINE.to_owned(),
            |address| LINE.replace("local:/run/encr-milter/milter.sock", &in_cf(address)),
        );
        let line =
            if act(known) == Some(true) { line.replace("T=C:", &format!("{ACTING}T=C:")) } else { line };
        let line = format!("{line}   (in sendmail.mc, before the MAILER lines)");
        let found = format!("no mail filter of {path} is encr-milter: no mail is judged");
        let mut remedy = vec![line.as_str(), MAKE];
        if act(known).is_none() {
            remedy.insert(
                1,
                "with F=T before T= where rules defer or refuse: what the policy says is not known",
            );
        }
        findings.problem(AREA, "attached", found, &remedy);
        return ours;
    }
    lists(sendmail, &ours, findings);
    for filter in &ours {
        agrees(known, filter, findings);
        when_down(known, filter, findings);
        timeouts(filter, findings);
    }
    macros(sendmail, findings);
    ours
}

/// An address as `S=` writes it.
fn in_cf(address: &Address) -> String {
    match address {
        Address::Unix(path) => format!("local:{}", path.display()),
        Address::Tcp { .. } => address.to_string(),
    }
}

/// The filters that lead to us: by their socket; where none does, by their name.
fn ours(known: &Known<'_>, filters: &[Filter]) -> Vec<Filter> {
    let by_socket: Vec<Filter> =
        filters.iter().filter(|filter| leads_to(known, filter) == Some(true)).cloned().collect();
    if !by_socket.is_empty() {
        return by_socket;
    }
    filters.iter().filter(|filter| filter.name.to_ascii_lowercase().contains("encr")).cloned().collect()
}

/// Where a filter's socket is, if it says so in a way that can be.
fn address(filter: &Filter) -> Option<Address> {
    filter.socket.as_deref()?.parse().ok()
}

/// Whether a filter's socket is one that the daemon's file listens on; nothing where either is not known.
fn leads_to(known: &Known<'_>, filter: &Filter) -> Option<bool> {
    let address = address(filter)?;
    let listen = &known.daemon.as_ref()?.milter.listen;
    Some(listen.iter().any(|own| same(&known.machine, own, &address)))
}

/// Whether two addresses are one socket: the same path, or one that leads to the same file; the same port of an address
/// that the daemon listens on.
pub(super) fn same(machine: &Machine, own: &Address, asked: &Address) -> bool {
    match (own, asked) {
        (Address::Unix(a), Address::Unix(b)) => {
            let file = |path| machine.meta(path).map(|meta| (meta.dev(), meta.ino()));
            a == b || matches!((file(a), file(b)), (Ok(a), Ok(b)) if a == b)
        }
        (
            Address::Tcp { v6, port, host },
            Address::Tcp { v6: v6_asked, port: port_asked, host: host_asked },
        ) => {
            let addresses = |host: &str, v6: bool| -> BTreeSet<_> {
                let all = (host, *port).to_socket_addrs().into_iter().flatten();
                all.filter(|address| address.is_ipv6() == v6).map(|address| address.ip()).collect()
            };
            if port != port_asked || v6 != v6_asked {
                return false;
            }
            let own = addresses(host, *v6);
            host == host_asked
                || own.iter().any(std::net::IpAddr::is_unspecified)
                || !own.is_disjoint(&addresses(host_asked, *v6))
        }
        _ => false,
    }
}

/// Whether sessions are shown to it: the general list, and those of ports that have one of their own.
fn lists(sendmail: &Sendmail, ours: &[Filter], findings: &mut Findings) {
    let cf = &sendmail.cf;
    let is_ours = |name: &String| ours.iter().any(|filter| filter.name == *name);
    let general = cf.input_filters();
    let undefined = general.iter().find(|name| !cf.filters.iter().any(|filter| filter.name == **name));
    if let Some(name) = undefined {
        findings.problem(
            AREA,
            "filter-not-defined",
            format!("InputMailFilters names {name}, which no X line defines"),
            &["INPUT_MAIL_FILTER in sendmail.mc writes both; MAIL_FILTER only the X line", MAKE],
        );
    }
    let names: Vec<&str> = ours.iter().map(|filter| filter.name.as_str()).collect();
    let names = names.join(", ");
    let ports = cf.ports();
    let left_out: Vec<&DaemonPort> =
        ports.iter().filter(|port| !port.filters.as_ref().unwrap_or(&general).iter().any(is_ours)).collect();
    // What it cannot ask it does not ask, whatever list that stands in.
    let cannot: Vec<&Filter> = ours.iter().filter(|filter| address(filter).is_none()).collect();
    if !ours.is_empty() && cannot.len() == ours.len() {
        let found = format!("sendmail cannot ask {names}: its S= is no socket's address. No mail is judged");
        findings.problem(
            AREA,
            "attached",
            found,
            &["mend S= in its INPUT_MAIL_FILTER line of sendmail.mc", MAKE],
        );
        return;
    }
    if left_out.is_empty() {
        findings.ok(AREA, "attached", format!("every session is shown to {names}"));
        return;
    }
    let all = left_out.len() == ports.len();
    for port in left_out {
        let own = port.filters.is_some();
        let why = if own {
            "its DaemonPortOptions have a list of their own (InputMailFilters=), without it"
        } else {
            "InputMailFilters does not name it"
        };
        let remedy = if own {
            format!(
                "name {names} in the InputMailFilters= of that DAEMON_OPTIONS line, or take that part out"
            )
        } else {
            format!(
                "write INPUT_MAIL_FILTER(`{names}', …), not MAIL_FILTER; or define(`confINPUT_MAIL_FILTERS', `{names}')dnl"
            )
        };
        let found = format!("sessions of {port} are not shown to {names}: {why}. Their mail is not judged");
        // Those who submit mail have authenticated, and are exempt anyway.
        let submission = port.reach().is_some_and(|(_, number)| matches!(number, 587 | 465))
            || port.modifiers.contains('a');
        if submission && !all {
            findings.warning(AREA, "attached", found, &[&remedy, MAKE]);
        } else {
            findings.problem(AREA, "attached", found, &[&remedy, MAKE]);
        }
    }
}

/// Whether both sides mean the same socket.
fn agrees(known: &Known<'_>, filter: &Filter, findings: &mut Findings) {
    let Some(told) = filter.socket.as_deref() else { return };
    if let Err(error) = told.parse::<Address>() {
        let found = format!("filter {}: S={told}: {error}", filter.name);
        findings.problem(AREA, "socket-agreed", found, &["mend S= in sendmail.mc", MAKE]);
        return;
    }
    let Some(daemon) = &known.daemon else { return };
    let listen: Vec<String> = daemon.milter.listen.iter().map(ToString::to_string).collect();
    let listen = listen.join(", ");
    if leads_to(known, filter) == Some(true) {
        findings.ok(
            AREA,
            "socket-agreed",
            format!("sendmail asks at {told}, and the daemon's file says {listen}"),
        );
        return;
    }
    let mend = daemon
        .milter
        .listen
        .first()
        .map(|address| format!("S={} in sendmail.mc; then {MAKE}", in_cf(address)));
    findings.problem(
        AREA,
        "socket-agreed",
        format!("filter {} asks at {told}, but the daemon's file says {listen}", filter.name),
        &[
            &mend.unwrap_or_default(),
            &format!("or listen = [\"{told}\"] below [milter] of the daemon's file, and restart it"),
        ],
    );
}

/// Whether rules defer or refuse today; nothing where the policy is not known.
pub(super) fn act(known: &Known<'_>) -> Option<bool> {
    let rules = known.policy.as_ref()?.rules().iter();
    Some(rules.flat_map(|rule| rule.modes.in_force(known.today)).any(|(mode, _)| mode != Mode::Observe))
}

/// What becomes of mail while nobody answers.
fn when_down(known: &Known<'_>, filter: &Filter, findings: &mut Findings) {
    let enforces = act(known);
    let name = &filter.name;
    let flag = |flag: &str| format!("{flag} in the INPUT_MAIL_FILTER line of sendmail.mc; then {MAKE}");
    match (filter.when_down(), enforces) {
        (WhenDown::Pass, Some(true)) => findings.warning(
            AREA,
            "when-down",
            format!("filter {name} has no F=: while the daemon does not answer mail passes unjudged, and rules defer or refuse"),
            &[&flag("F=T")],
        ),
        (WhenDown::Pass, _) => findings.ok(
            AREA,
            "when-down",
            "no F=: while the daemon does not answer mail passes, as is right while rules only observe",
        ),
        (WhenDown::Defer, _) => {
            findings.ok(AREA, "when-down", "F=T: while the daemon does not answer mail is deferred (451)");
        }
        (WhenDown::Disconnect, _) => {
            findings.ok(AREA, "when-down", "F=4: while the daemon does not answer connections are closed (421)");
        }
        (WhenDown::Reject, _) => findings.warning(
            AREA,
            "when-down",
            format!("filter {name} has F=R: while the daemon does not answer mail is refused for good (554), and lost to its senders"),
            &[&flag("F=T in place of F=R")],
        ),
    }
}

fn timeouts(filter: &Filter, findings: &mut Findings) {
    let long: Vec<String> = ['C', 'S', 'R']
        .into_iter()
        .filter_map(|which| Some((which, filter.timeout(which)?)))
        .filter(|(_, time)| *time > LONG)
        .map(|(which, time)| format!("{which}:{}s", time.as_secs()))
        .collect();
    if long.is_empty() {
        findings.ok(
            AREA,
            "timeouts",
            format!("T={}", filter.timeouts.as_deref().unwrap_or("(sendmail's own)")),
        );
    } else {
        findings.warning(
            AREA,
            "timeouts",
            format!(
                "filter {}: {}: so long each session hangs while the daemon's machine is gone",
                filter.name,
                long.join(", ")
            ),
            &["T=C:10s;S:10s;R:60s;E:2m in the INPUT_MAIL_FILTER line of sendmail.mc"],
        );
    }
}

/// We ask for the macros that we need; lists of sendmail's own count for other milters only.
fn macros(sendmail: &Sendmail, findings: &mut Findings) {
    if sendmail.cf.macro_lists().is_empty() {
        return;
    }
    findings.ok(
        AREA,
        "macro-lists",
        "sendmail.cf has lists of macros (Milter.macros…): they are for other milters; encr-milter asks for its own",
    );
}
