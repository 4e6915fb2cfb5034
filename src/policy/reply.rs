//! A refusal, in words that sendmail passes on unharmed.
//!
//! Promises: one line; printable ASCII only; no parentheses (outbound, sendmail takes them for comments);
//! code and enhanced status of one class; within RFC 5321's 512 octets, and with room for the
//! `<address>... ` of a usual length that sendmail puts before it. On the wire a `%` is doubled: at a lone one sendmail throws the reply away
//! and answers `550 5.7.1 Command rejected`, which turns a deferral into a bounce.

use super::requirement::Requirement;
use super::text::{Digits, has_odd};
use std::fmt;

/// The longest text of a contact that a policy may give: it is never cut.
pub const MAX_CONTACT: usize = 200;
/// The longest name of a rule, in characters.
pub const MAX_RULE_NAME: usize = 64;
/// Room for the reason; names of certificates in it are the client's, and may be long.
const MAX_REASON: usize = 180;
/// Most replies are shorter.
const USUAL: usize = 160;

/// An SMTP reply (RFC 5321 section 4.2) with its enhanced status code (RFC 3463).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    code: u16,
    status: &'static str,
    /// The two, and what follows.
    line: String,
}

/// What a refusal is made of.
#[derive(Clone, Copy, Debug)]
pub struct Refusal<'a> {
    /// Why, in sendmail's words.
    pub reason: &'a str,
    /// What was demanded.
    pub requirement: &'a Requirement,
    /// Whether there was no encryption at all.
    pub plaintext: bool,
    /// The rule's name.
    pub rule: &'a str,
    /// Where help is to be had.
    pub contact: Option<&'a str>,
}

impl Reply {
    /// The reply of a deferral.
    pub fn tempfail(refusal: Refusal<'_>) -> Self {
        Self::of(454, "4.7.0", refusal)
    }

    /// The reply of a refusal for good: `5.7.10` (encryption needed, RFC 7505's registry) where there was
    /// none, `5.7.0` where it was too weak.
    pub fn reject(refusal: Refusal<'_>) -> Self {
        let (code, status) = if refusal.plaintext { (550, "5.7.10") } else { (554, "5.7.0") };
        Self::of(code, status, refusal)
    }

    fn of(code: u16, status: &'static str, refusal: Refusal<'_>) -> Self {
        let mut line = String::with_capacity(USUAL);
        line.extend([Digits::of(code.into()).as_str(), " ", status, " "]);
        words(&mut line, refusal);
        Self { code, status, line }
    }

    /// The code, `454`.
    pub fn code(&self) -> u16 {
        self.code
    }

    /// The enhanced status code, `4.7.0`.
    pub fn status(&self) -> &'static str {
        self.status
    }

    /// What follows the two.
    pub fn text(&self) -> &str {
        // Three digits, and a blank after each of the two.
        self.line.get(3 + 1 + self.status.len() + 1..).unwrap_or_default()
    }

    /// The whole, as [`fmt::Display`] shows it.
    pub fn into_line(self) -> String {
        self.line
    }

    /// The line for the milter protocol: what sendmail makes of it is what [`fmt::Display`] shows.
    pub fn wire(&self) -> String {
        self.line.replace('%', "%%")
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.line)
    }
}

fn words(line: &mut String, refusal: Refusal<'_>) {
    if refusal.plaintext {
        line.push_str("encryption needed, STARTTLS");
        needed(line, refusal.requirement);
    } else {
        // sendmail ends some of its sentences; ours goes on.
        clean(line, refusal.reason.trim_end_matches('.'), MAX_REASON);
    }
    line.push_str(", rule ");
    clean(line, refusal.rule, MAX_RULE_NAME);
    if let Some(contact) = refusal.contact {
        line.push_str(", see ");
        clean(line, contact, MAX_CONTACT);
    }
}

/// ` with at least 168 bits`: what one who came in the clear has to bring.
fn needed(line: &mut String, requirement: &Requirement) {
    let mut before = " with ";
    let mut part = |part: &[&str]| {
        line.push_str(before);
        line.extend(part.iter().copied());
        before = " and ";
    };
    if let Some(bits) = requirement.min_bits.filter(|&bits| bits > 0) {
        part(&["at least ", Digits::of(bits.into()).as_str(), " bits"]);
    }
    if let Some(version) = requirement.min_version {
        part(&[&version.to_string(), " or newer"]);
    }
    if requirement.verify || !requirement.certificate.is_empty() {
        part(&["a certificate that we can verify"]);
    }
}

/// Text that sendmail and every client can carry: printable ASCII, no parentheses, cut to a length.
fn clean(line: &mut String, text: &str, max: usize) {
    if text.len() <= max && !has_odd(text.as_bytes(), b' ', b"()") {
        line.push_str(text);
        return;
    }
    let begin = line.len();
    line.extend(text.chars().take(max).map(|c| match c {
        '(' => '[',
        ')' => ']',
        ' '..='~' => c,
        _ => '?',
    }));
    if text.chars().nth(max).is_some() {
        line.truncate(begin + max - 3);
        line.push_str("...");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal<'a>(reason: &'a str, requirement: &'a Requirement, plaintext: bool) -> Refusal<'a> {
        Refusal {
            reason,
            requirement,
            plaintext,
            rule: "partner",
            contact: Some("https://mail.example.org/tls"),
        }
    }

    #[test]
    fn replies_are_those_of_the_design() {
        let need = Requirement { min_bits: Some(168), ..Requirement::default() };
        let weak = "encryption too weak 128 less than 168";
        assert_eq!(
            Reply::tempfail(refusal(weak, &need, false)).to_string(),
            "454 4.7.0 encryption too weak 128 less than 168, rule partner, see https://mail.example.org/tls"
        );
        assert_eq!(
            Reply::reject(refusal(weak, &need, false)).to_string(),
            "554 5.7.0 encryption too weak 128 less than 168, rule partner, see https://mail.example.org/tls"
        );
        assert_eq!(
            Reply::reject(refusal("", &need, true)).to_string(),
            "550 5.7.10 encryption needed, STARTTLS with at least 168 bits, rule partner, see https://mail.example.org/tls"
        );
    }

    #[test]
    fn nothing_of_the_clients_goes_through_unescaped() {
        let need = Requirement::default();
        let reason = format!("CN a(b)\r\n250 \u{e9}%s{} does not match x", "y".repeat(2000));
        let reply = Reply::tempfail(refusal(&reason, &need, false));
        assert!(reply.to_string().starts_with("454 4.7.0 CN a[b]??250 ?%s"));
        assert!(reply.wire().contains("?%%s") && reply.wire().len() <= 980);
        assert!(reply.to_string().len() <= 512);
        assert!(reply.to_string().ends_with("..., rule partner, see https://mail.example.org/tls"));
    }

    #[test]
    fn one_in_the_clear_is_told_all_that_is_needed() {
        let need = Requirement {
            min_bits: Some(128),
            min_version: crate::policy::requirement::TlsVersion::from_policy("TLSv1.2"),
            verify: true,
            ..Requirement::default()
        };
        let said = |need: &Requirement| {
            let mut line = String::new();
            needed(&mut line, need);
            line
        };
        assert_eq!(
            said(&need),
            " with at least 128 bits and TLSv1.2 or newer and a certificate that we can verify"
        );
        assert_eq!(said(&Requirement::default()), "");
    }
}
