//! Slips of the tag: lines that look like TLS rules, and that sendmail never looks up as such.
//!
//! Promises: every tag that sendmail has is let pass, and so is what is not near to one; what is near is
//! told with the tag that it is near to. The TLS rules themselves do not come here.

use super::super::access_map::{Line, TAGS};
use super::super::rhs::{self, Value};
use super::faults::shown;
use crate::diagnostics::{Diagnostic, FileId, Place};

/// sendmail's tags that a slip of a TLS rule's tag could be near to. All others are far from them.
const NEAR: [&str; 8] = [
    "TLS_Clt",
    "TLS_Srv",
    "TLS_Rcpt",
    "TLS_Clt_Features",
    "TLS_Srv_Features",
    "Clt_Features",
    "Srv_Features",
    "Try_TLS",
];

/// What stands behind `TLS_` where a tag was guessed, and the tag.
const GUESSES: [(&str, &[&str]); 3] = [
    ("TLS_Clt", &["clt", "client", "clients", "clnt", "cli", "cl", "c"]),
    ("TLS_Srv", &["srv", "server", "servers", "serv", "svr", "srvr", "sv", "s"]),
    ("TLS_Rcpt", &["rcpt", "recipient", "recipients", "rcp", "rcpts", "recpt", "rec", "rctp", "r", "to"]),
];

/// No slip is longer.
const LONGEST: usize = 24;

pub(super) fn slip(file: FileId, text: &str, line: &Line<'_>, key: &str, value: &str) -> Option<Diagnostic> {
    // Most lines of most maps end here.
    if !key.get(..key.len().min(LONGEST)).unwrap_or(key).bytes().any(|b| b == b'l' || b == b'L') {
        return None;
    }
    let whole = text.get(line.span.clone()).unwrap_or_default();
    let start = line.span.start + whole.find(key)?;
    match key.split_once(':') {
        Some((tag, _)) => {
            let meant = meant(tag)?;
            let place = Place { file, span: start..start + tag.len() + 1 };
            let diagnostic = if tag.starts_with('\u{feff}') {
                Diagnostic::error(
                    "unknown-tag",
                    "a byte order mark stands before the tag: sendmail never looks this line up",
                )
                .hint("save the file as UTF-8 without a byte order mark")
            } else {
                Diagnostic::error(
                    "unknown-tag",
                    format!("`{}:` is no tag of sendmail's: it never looks this line up", shown(tag)),
                )
                .hint(format!("did you mean `{meant}:`?"))
            };
            Some(diagnostic.at(place))
        }
        None => {
            let (meant, rest) = without_colon(key, value)?;
            Some(
                Diagnostic::error(
                    "unknown-tag",
                    format!("no colon behind the tag: sendmail takes `{}` for a host's name", shown(key)),
                )
                .at(Place { file, span: start..start + key.len() })
                .hint(format!("write `{meant}:{}` without a blank, then a tab and the value", shown(rest))),
            )
        }
    }
}

/// The tag that was perhaps meant by what is none.
fn meant(tag: &str) -> Option<&'static str> {
    let known = NEAR.iter().any(|known| known.eq_ignore_ascii_case(tag));
    if known || tag.len() > LONGEST {
        return None;
    }
    guess(tag).or_else(|| {
        let lower = tag.to_ascii_lowercase().replace('-', "_");
        // Short words are near to everything.
        let far = if lower.len() < 7 { 1 } else { 2 };
        NEAR.iter()
            .map(|known| (strsim::damerau_levenshtein(&lower, &known.to_ascii_lowercase()), *known))
            .filter(|(distance, known)| *distance <= far && known.starts_with("TLS"))
            .min()
            .map(|(_, known)| known)
    })
}

fn guess(tag: &str) -> Option<&'static str> {
    let plain: String =
        tag.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect();
    let rest = plain.strip_prefix("tls")?;
    GUESSES.iter().find(|(_, words)| words.contains(&rest)).map(|(tag, _)| *tag)
}

/// A tag without its colon, and what was perhaps meant as the key.
fn without_colon<'t>(key: &'t str, value: &'t str) -> Option<(&'static str, &'t str)> {
    let mut words = value.split_ascii_whitespace();
    let (first, second) = (words.next().unwrap_or_default(), words.next());
    // `TLS_Clt partner.example ENCR:112`, `TLS_Clt : partner.example ENCR:112`, `TLS_Clt ENCR:112`.
    let behind = match second {
        Some(second) if first == ":" => second,
        Some(_) => first.trim_start_matches(':'),
        None => "",
    };
    for (tag, _) in TAGS {
        let Some((start, rest)) = key.split_at_checked(tag.len()) else { continue };
        if start.eq_ignore_ascii_case(tag) {
            let rest = rest.trim_start_matches(|c: char| !c.is_ascii_alphanumeric() && c != '[');
            return Some((tag, if rest.is_empty() { behind } else { rest }));
        }
    }
    // A host may be called `tls-server`: only a demand gives it away.
    let demands = value.split_ascii_whitespace().any(|word| matches!(rhs::parse(word), Value::Demand(_)));
    guess(key).filter(|_| demands).map(|tag| (tag, behind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sendmails_own_tags_and_strange_ones_pass() {
        let own = "Connect From To GreetPause ClientRate ClientConn Spam AuthInfo CERTIssuer CERTSubject QGRP Srv_Features Clt_Features Try_TLS TLS_Clt_Features TLS_Srv_Features tls_srv_features IPv6 CA TLS_CA TLSA TLS_Fingerprint List-Help SRV CLT";
        for tag in own.split(' ') {
            assert_eq!(meant(tag), None, "{tag}");
        }
        for (key, value) in
            [("tls.example", "RELAY"), ("tls-server", "RELAY"), ("client", "OK"), ("localhost", "RELAY")]
        {
            assert_eq!(without_colon(key, value), None, "{key}");
        }
    }

    #[test]
    fn a_slip_is_near_to_a_tag() {
        for (tag, expected) in [
            ("TLS_Cln", "TLS_Clt"),
            ("TLS_Client", "TLS_Clt"),
            ("TLS-Clt", "TLS_Clt"),
            ("tlsclt", "TLS_Clt"),
            ("TSL_Clt", "TLS_Clt"),
            ("\u{feff}TLS_Clt", "TLS_Clt"),
            ("TLS_Server", "TLS_Srv"),
            ("TLS_Svr", "TLS_Srv"),
            ("TLS_Rcp", "TLS_Rcpt"),
            ("TLS_Rctp", "TLS_Rcpt"),
            ("TLS_Srv_Feature", "TLS_Srv_Features"),
        ] {
            assert_eq!(meant(tag), Some(expected), "{tag}");
        }
        for (key, value, expected) in [
            ("TLS_Clt", "partner.example ENCR:112", ("TLS_Clt", "partner.example")),
            ("TLS_Clt", ": partner.example ENCR:112", ("TLS_Clt", "partner.example")),
            ("TLS_Clt", ":partner.example ENCR:112", ("TLS_Clt", "partner.example")),
            ("TLS_Srv", "ENCR:112", ("TLS_Srv", "")),
            ("tls_rcpt.partner.example", "ENCR:112", ("TLS_Rcpt", "partner.example")),
            ("TLS_Clt=partner.example", "OK", ("TLS_Clt", "partner.example")),
            ("TLSClient", "partner.example VERIFY", ("TLS_Clt", "partner.example")),
        ] {
            assert_eq!(without_colon(key, value), Some(expected), "{key}");
        }
    }
}
