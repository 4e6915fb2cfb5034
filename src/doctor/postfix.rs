//! Postfix in sendmail's place: is the milter among its own, what does it do while nobody answers, and does it tell of each
//! session what is so?

mod settings;

use super::Known;
use super::attached::{act, same};
use super::finding::{Area, Findings};
use super::strength::{self, NoCertificates};
use crate::listener::Address;
use crate::probe::target::Target;
use settings::{Milter, Parameters, defaulted, milters, overrides};
use std::path::Path;

const AREA: Area = Area::Mta;
const MAIN_CF: &str = "/etc/postfix/main.cf";
const MASTER_CF: &str = "/etc/postfix/master.cf";
const RELOAD: &str = "postfix reload";
/// What `v` must begin with: by it the daemon knows what Postfix's other macros mean.
const NAME: &str = "Postfix";
/// Macros by which is judged: a value of the administrator's own in their place is an untruth about every session.
const JUDGED: &[&str] = &[
    "client_addr",
    "client_name",
    "client_resolve",
    "tls_version",
    "cipher",
    "cipher_bits",
    "verify",
    "cn_subject",
    "cert_subject",
    "cert_issuer",
    "auth_type",
    "auth_authen",
    "auth_ssf",
];
/// Macro lists, which count for milters that ask for none.
const LISTS: &[&str] = &[
    "milter_connect_macros",
    "milter_helo_macros",
    "milter_mail_macros",
    "milter_rcpt_macros",
    "milter_data_macros",
    "milter_end_of_header_macros",
    "milter_end_of_data_macros",
    "milter_unknown_command_macros",
];

/// Where Postfix listens where nobody says otherwise.
pub(super) fn usual_target() -> Target {
    Target { host: "127.0.0.1".to_owned(), port: 25 }
}

pub(super) fn examine(known: &Known<'_>, findings: &mut Findings) {
    let unread = |findings: &mut Findings, why: String, remedy: &str| {
        let found = format!("{MAIN_CF} {why}; whether mail is judged is not known");
        findings.problem(AREA, "attached", found, &[remedy]);
    };
    let text = match known.machine.text(Path::new(MAIN_CF)) {
        Ok(text) => text,
        Err(error) => return unread(findings, format!("cannot be read: {error}"), "run doctor as root"),
    };
    let main = Parameters::parse(&text);
    if main.is_empty() {
        return unread(findings, "sets nothing".to_owned(), "postconf -n shows what Postfix makes of it");
    }
    let master = known.machine.text(Path::new(MASTER_CF)).unwrap_or_default();
    let ours = attached(known, &main, &master, findings);
    passed_by(known, &main, &master, findings);
    when_down(known, &main, &ours, findings);
    macros(&main, findings);
    strength::client_certificates(known, "Postfix", no_certificates(&main, &master).as_ref(), findings);
    match &known.settings.mta {
        Some(target) => strength::examine_one(known, target, findings),
        None if known.machine.is_live() => strength::examine_one(known, &usual_target(), findings),
        None => findings.not_looked(
            Area::Tls,
            "starttls",
            "a tree of files has no MTA to speak to",
            &["--mta HOST:PORT"],
        ),
    }
}

/// Whether a list has us in it.
fn ours(known: &Known<'_>, main: &Parameters, list: &str) -> Vec<Milter> {
    let Some(daemon) = &known.daemon else { return Vec::new() };
    let queue = main.get("queue_directory");
    let is_ours = |milter: &Milter| {
        milter.address.as_ref().is_some_and(|asked| {
            let mut own = daemon.milter.listen.iter();
            own.any(|own| same(&known.machine, own, asked) || is_below(own, asked, &queue))
        })
    };
    milters(list).into_iter().filter(is_ours).collect()
}

/// Whether sessions are shown to us: all of them, or but those of some services. Hands back the entries that are ours.
fn attached(known: &Known<'_>, main: &Parameters, master: &str, findings: &mut Findings) -> Vec<Milter> {
    let Some(daemon) = &known.daemon else {
        let found =
            "which milter of Postfix is ours is not known, for the daemon's file is not there to be read";
        findings.not_looked(AREA, "attached", found, &["see [daemon-file] above"]);
        return Vec::new();
    };
    let listen: Vec<String> = daemon.milter.listen.iter().map(in_postfix).collect();
    let action = if act(known) == Some(true) { "tempfail" } else { "accept" };
    let line = format!(
        "smtpd_milters = {{ {}, default_action={action}, connect_timeout=10s, command_timeout=60s }}   (in {MAIN_CF})",
        listen.first().map(String::as_str).unwrap_or_default()
    );
    let general = main.get("smtpd_milters");
    let found = ours(known, main, &general);
    if found.is_empty() {
        let said = if general.is_empty() {
            "has no smtpd_milters".to_owned()
        } else {
            format!("has smtpd_milters = {general}")
        };
        findings.problem(
            AREA,
            "attached",
            format!("Postfix {said}: no mail is judged by {}", listen.join(", ")),
            &[&line, RELOAD],
        );
    } else {
        findings.ok(AREA, "attached", format!("Postfix: smtpd_milters = {general}"));
    }
    for (service, list) in overrides(master, "smtpd_milters") {
        if ours(known, main, &list).is_empty() {
            let found = format!(
                "Postfix: service {service} in {MASTER_CF} has a list of its own, smtpd_milters={list}: its mail is not judged"
            );
            let remedy = "name the milter there as well, or take the -o line out";
            findings.warning(AREA, "attached", found, &[remedy, RELOAD]);
        }
    }
    found
}

/// What else takes mail past us, or brings us mail that we cannot judge.
fn passed_by(known: &Known<'_>, main: &Parameters, master: &str, findings: &mut Findings) {
    let maps = main.get("smtpd_milter_maps");
    if !maps.is_empty() {
        findings.warning(
            AREA,
            "attached",
            format!("Postfix: smtpd_milter_maps = {maps}: clients that are found there have a list of their own, and may not be judged"),
            &[&format!("look for DISABLE, and for lists without the milter: postmap -s {maps}")],
        );
    }
    let word = "no_milters";
    let lifts = |list: &str| list.split([',', ' ', '\t']).any(|part| part == word);
    let options = "receive_override_options";
    if lifts(&main.get(options)) {
        let found = format!("Postfix: {options} has {word} in {MAIN_CF}: no mail is judged");
        let remedy =
            format!("take {word} out there; it is for the port to which a content filter gives mail back");
        findings.problem(AREA, "attached", found, &[&remedy, RELOAD]);
    }
    // A port of this host alone is where a content filter gives mail back, which has been judged before.
    let is_inner =
        |service: &str| ["127.", "localhost:", "[::1]:", "::1:"].iter().any(|own| service.starts_with(own));
    for (service, list) in overrides(master, options) {
        if lifts(&list) && !is_inner(&service) {
            let found = format!(
                "Postfix: service {service} in {MASTER_CF} has {options} with {word}: its mail is not judged"
            );
            let remedy = format!("take {word} out there, unless a content filter gives mail back by it");
            findings.warning(AREA, "attached", found, &[&remedy, RELOAD]);
        }
    }
    if !ours(known, main, &main.get("non_smtpd_milters")).is_empty() {
        findings.warning(
            AREA,
            "attached",
            "Postfix: non_smtpd_milters has us in it: mail of this host itself comes by no session, and is let through without a record",
            &["take the milter out of non_smtpd_milters", RELOAD],
        );
    }
}

/// What becomes of mail while nobody answers: by the entry's own word, else by the general one.
fn when_down(known: &Known<'_>, main: &Parameters, ours: &[Milter], findings: &mut Findings) {
    let general = main.get("milter_default_action");
    let own = ours.first().and_then(|milter| milter.default_action.clone());
    let (name, action) = match own {
        Some(action) => ("default_action", action),
        None => ("milter_default_action", general),
    };
    let so = format!("{name} = {action}: while the daemon does not answer");
    match (action.as_str(), act(known)) {
        ("accept", Some(true)) => findings.warning(
            AREA,
            "when-down",
            format!("{so} mail passes unjudged, and rules defer or refuse"),
            &[&format!("{name} = tempfail"), RELOAD],
        ),
        ("accept", _) => {
            findings.ok(AREA, "when-down", format!("{so} mail passes, as is right while rules only observe"));
        }
        ("reject" | "quarantine", _) => {
            let what = if action == "reject" {
                "is refused for good, and lost to its senders"
            } else {
                "is taken unjudged, and put on hold"
            };
            let remedy = format!("{name} = tempfail");
            findings.warning(AREA, "when-down", format!("{so} mail {what}"), &[&remedy, RELOAD]);
        }
        ("tempfail" | "shutdown", _) => {
            findings.ok(AREA, "when-down", format!("{so} mail waits at its senders"));
        }
        _ => findings.problem(
            AREA,
            "when-down",
            format!("{name} = {action} is no word of Postfix's: it answers every session with an error"),
            &[&format!("{name} = tempfail"), RELOAD],
        ),
    }
}

/// What the milter is told must be what is so. The lists of macros do not matter: we ask for our own.
fn macros(main: &Parameters, findings: &mut Findings) {
    let v = main.get("milter_macro_v");
    if v.split_ascii_whitespace().next() != Some(NAME) {
        let by = if main.own("milter_macro_v").is_some() { "milter_macro_v" } else { "mail_name" };
        findings.warning(
            AREA,
            "macro-values",
            format!(
                "Postfix calls itself `{v}` ({by}): the daemon then takes its macros for sendmail's, and what it says of certificates is \
                 read wrongly; mail of this host itself is judged where non_smtpd_milters has us"
            ),
            &[&format!("take {by} out of {MAIN_CF}"), RELOAD],
        );
    }
    let untrue: Vec<String> = defaulted(&main.get("milter_macro_defaults"))
        .into_iter()
        .filter(|name| JUDGED.contains(&name.as_str()))
        .collect();
    if !untrue.is_empty() {
        findings.problem(
            AREA,
            "macro-values",
            format!(
                "Postfix: milter_macro_defaults has a value for {}: where a session has none, the daemon is told that, and mail in the \
                 clear may pass for TLS",
                untrue.join(", ")
            ),
            &[&format!("take it out of milter_macro_defaults in {MAIN_CF}"), RELOAD],
        );
    }
    let lists: Vec<&str> = LISTS.iter().copied().filter(|name| main.own(name).is_some()).collect();
    if !lists.is_empty() {
        findings.ok(
            AREA,
            "macro-lists",
            format!(
                "main.cf has {}: that is for other milters; encr-milter asks for its own",
                lists.join(", ")
            ),
        );
    }
}

/// Why Postfix would tell of no client's certificate. A service may ask for one where main.cf does not.
fn no_certificates(main: &Parameters, master: &str) -> Option<NoCertificates> {
    let asks = |name: &str| {
        main.get(name) == "yes" || overrides(master, name).iter().any(|(_, value)| value == "yes")
    };
    let is_set = |name: &str| !main.get(name).is_empty();
    if !asks("smtpd_tls_ask_ccert") && !asks("smtpd_tls_req_ccert") {
        Some(NoCertificates {
            why: "asks no client for one (smtpd_tls_ask_ccert)",
            remedy: "smtpd_tls_ask_ccert = yes, and smtpd_tls_CAfile, in main.cf",
        })
    } else if !is_set("smtpd_tls_CAfile")
        && !is_set("smtpd_tls_CApath")
        && main.get("tls_append_default_CA") != "yes"
    {
        Some(NoCertificates {
            why: "trusts no authority (smtpd_tls_CAfile, smtpd_tls_CApath)",
            remedy: "smtpd_tls_CAfile = FILE in main.cf",
        })
    } else {
        None
    }
}

/// A milter's address as Postfix writes it: `inet:host:port`, `unix:path`.
fn in_postfix(address: &Address) -> String {
    match address {
        Address::Unix(path) => format!("unix:{}", path.display()),
        Address::Tcp { port, host, .. } => format!("inet:{host}:{port}"),
    }
}

/// A relative path, or one of a service in a chroot, is below Postfix's queue.
fn is_below(own: &Address, asked: &Address, queue: &str) -> bool {
    let (Address::Unix(own), Address::Unix(asked)) = (own, asked) else { return false };
    let inside = asked.strip_prefix("/").unwrap_or(asked);
    *own == Path::new(queue).join(inside)
}
