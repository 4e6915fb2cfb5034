//! sendmail's access map: its TLS rules come before us, and whom they refuse we never see.

use super::finding::{Area, Findings};
use super::machine::shown;
use super::{Known, Sendmail};
use crate::diagnostics::Sources;
use crate::policy::lookup::Key;
use crate::policy::network::{Network, parse_address};
use crate::policy::rule::Side;
use crate::sendmail::access_map::{Content, Matches, Rule, lines, tag_of};
use crate::sendmail::cf::Map;
use crate::sendmail::lint::lint;
use crate::sendmail::rhs::{self, Value};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

const AREA: Area = Area::Access;
/// As many lines, and as many rules, are named.
const NAMED: usize = 5;

pub(super) fn examine(known: &Known<'_>, sendmail: &Sendmail, findings: &mut Findings) {
    let Some(map) = sendmail.cf.map("access") else {
        findings.ok(AREA, "access-first", "sendmail has no access map: nothing comes before us");
        return;
    };
    let path = PathBuf::from(&map.place);
    let text = match known.machine.table(&path) {
        Ok(text) => text,
        Err(error) => {
            findings.not_looked(
                AREA,
                "access-first",
                format!("the access map's text, {}: {error}; whether TLS rules in the map come before us is not known", path.display()),
                &["run doctor as root, where it may not be read", &format!("makemap -u {} {} shows what is in the map", map.class, path.display())],
            );
            return;
        }
    };
    stale(known, map, &path, findings);
    first(known, sendmail, &path, &text, findings);
    features(&path, &text, findings);
    let mut sources = Sources::default();
    let file = sources.add(path.clone(), text.as_str().into());
    let linted = lint(&text, file);
    if linted.diagnostics.has_errors() {
        findings.warning(
            AREA,
            "access-lint",
            format!("{}: {} TLS rules do not do what they say", path.display(), linted.diagnostics.errors()),
            &[&format!("encr-milter access lint {}", path.display())],
        );
    }
}

/// Whether the text was changed after the map was made of it.
fn stale(known: &Known<'_>, map: &Map, path: &Path, findings: &mut Findings) {
    let made = match map.class.as_str() {
        "hash" | "btree" => "db",
        "cdb" => "cdb",
        "dbm" | "ndbm" => "pag",
        _ => return,
    };
    let made = PathBuf::from(format!("{}.{made}", path.display()));
    match (known.machine.modified(path), known.machine.modified(&made)) {
        (Some(text), Some(map)) if text > map => findings.warning(
            AREA,
            "access-made",
            format!(
                "{} was changed at {}, and the map was made of it at {}",
                path.display(),
                shown(text),
                shown(map)
            ),
            &["make -C /etc/mail"],
        ),
        (Some(_), None) => findings.warning(
            AREA,
            "access-made",
            format!("{} has not been made into a map", path.display()),
            &["make -C /etc/mail"],
        ),
        _ => {}
    }
}

/// Lines that ask for something of clients: sendmail refuses by them before, or without, asking us.
fn first(known: &Known<'_>, sendmail: &Sendmail, path: &Path, text: &str, findings: &mut Findings) {
    let demands: Vec<(usize, Rule<'_>)> = lines(text)
        .filter_map(|line| match line.content {
            Content::Rule(rule) if rule.side == Side::Client => Some((line.number, rule)),
            _ => None,
        })
        .filter(|(_, rule)| matches!(rhs::parse(rule.value), Value::Demand(_)))
        .collect();
    if demands.is_empty() {
        findings.ok(
            AREA,
            "access-first",
            format!("{} has no TLS rule that would come before us", path.display()),
        );
        return;
    }
    let tag = tag_of(Side::Client).unwrap_or_default();
    let shown: Vec<String> = demands
        .iter()
        .take(NAMED)
        .map(|(number, rule)| format!("{tag}:{} {} (line {number})", rule.key, rule.value.trim_end()))
        .collect();
    let more = demands.len().saturating_sub(NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let concerned = concerned(known, &demands);
    let ours = if concerned.is_empty() {
        String::new()
    } else {
        format!("; of the clients of {} those never come to us whom it refuses", concerned.join(", "))
    };
    let delayed = if sendmail.cf.delays_checks() {
        " (with delay_checks at RCPT, after our record of MAIL)"
    } else {
        ""
    };
    findings.warning(
        AREA,
        "access-first",
        format!("sendmail itself refuses by {}{more}{delayed}{ours}", shown.join(", ")),
        &[&format!(
            "right where a rule has ripened into a hard line; else: encr-milter access import {} takes them over, then take them out there",
            path.display()
        )],
    );
}

/// Our rules that have keys for clients of these lines.
fn concerned(known: &Known<'_>, demands: &[(usize, Rule<'_>)]) -> Vec<String> {
    let Some(policy) = &known.policy else { return Vec::new() };
    let keys = policy.index().side(Side::Client).iter();
    let met = keys.filter(|found| demands.iter().any(|(_, rule)| overlap(&rule.matches, found.key)));
    let names: BTreeSet<&str> =
        met.filter_map(|found| policy.rule(found.rule)).map(|rule| rule.name.as_str()).collect();
    let more = names.len().saturating_sub(NAMED);
    let mut shown: Vec<String> = names.into_iter().take(NAMED).map(|name| format!("rule {name}")).collect();
    if more > 0 {
        shown.push(format!("{more} more"));
    }
    shown
}

/// Whether there may be clients of both.
fn overlap(line: &Matches, key: Key<'_>) -> bool {
    let below =
        |a: &str, b: &str| a.strip_suffix(b).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    let networks = |a: Network, b: Network| {
        let first = |network: Network| network.to_string().split('/').next().and_then(parse_address);
        first(b).is_some_and(|address| a.contains(address))
            || first(a).is_some_and(|address| b.contains(address))
    };
    if matches!(line, Matches::Nothing(_)) {
        return false;
    }
    match (line, key) {
        (Matches::Default, _) | (_, Key::Any) => true,
        (Matches::Name(a), Key::Name(b)) => below(a, b) || below(b, a),
        (Matches::Network(a), Key::Network(b)) | (Matches::Literal(a), Key::Literal(b) | Key::Network(b)) => {
            networks(*a, b)
        }
        // A host has a name and an address: which go together is not known here.
        _ => false,
    }
}

/// `Srv_Features:… S`: clients whom sendmail does not offer STARTTLS.
fn features(path: &Path, text: &str, findings: &mut Findings) {
    let without: Vec<String> = lines(text)
        .filter_map(|line| match line.content {
            Content::Other { key, value } => Some((line.number, key, value)),
            _ => None,
        })
        .filter(|(_, key, value)| {
            key.to_ascii_lowercase().starts_with("srv_features:")
                && value.split_ascii_whitespace().any(|word| word == "S")
        })
        .map(|(number, key, _)| format!("{key} (line {number})"))
        .collect();
    if !without.is_empty() {
        findings.warning(
            AREA,
            "starttls-withheld",
            format!(
                "{}: these clients are not offered STARTTLS, and come in the clear: {}",
                path.display(),
                without.join(", ")
            ),
            &["take the S out, or exempt them in the policy"],
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_keys_that_have_clients_in_common() {
        let network = |text: &str| Network::parse(text).unwrap().unwrap().network;
        let name = |text: &str| Matches::Name(text.to_owned());
        for (line, key, expected) in [
            (name("partner.example"), Key::Name("partner.example"), true),
            (name("partner.example"), Key::Name("mx.partner.example"), true),
            (name("mx.partner.example"), Key::Name("partner.example"), true),
            (name("partner.example"), Key::Name("notpartner.example"), false),
            (name("partner.example"), Key::Any, true),
            (Matches::Default, Key::Name("partner.example"), true),
            (Matches::Network(network("192.0.2.0/24")), Key::Network(network("192.0.2.7")), true),
            (Matches::Network(network("192.0.2.7")), Key::Network(network("192.0.0.0/16")), true),
            (Matches::Network(network("192.0.2.0/24")), Key::Network(network("198.51.100.0/24")), false),
            (Matches::Nothing(crate::sendmail::access_map::Dead::Cidr), Key::Any, false),
        ] {
            assert_eq!(overlap(&line, key), expected, "{line:?} {key:?}");
        }
    }
}
