//! The text of an access map, as `makemap` reads it and sendmail's rulesets look it up.
//!
//! Promises: which lines are TLS rules, and which hosts or recipients their keys can match, is told as
//! sendmail has it; so is what can never match. Every part knows its place in the text. Other lines are left
//! alone. Must not: judge what a rule demands (see [`super::rhs`]).

use crate::policy::domain;
use crate::policy::network::{Network, parse_address};
use crate::policy::rule::Side;
use std::collections::HashMap;
use std::ops::Range;

/// The tags of TLS rules, in sendmail's spelling, with their sides.
pub const TAGS: [(&str, Side); 3] =
    [("TLS_Clt", Side::Client), ("TLS_Srv", Side::Server), ("TLS_Rcpt", Side::RecipientOutbound)];

/// The most bytes of a line that makemap takes, without the line feed. What is beyond it reads as a line of its own.
pub const MAX_LINE: usize = 1022;

/// The tag of a side, where it has one.
pub fn tag_of(side: Side) -> Option<&'static str> {
    TAGS.iter().find(|(_, other)| *other == side).map(|(tag, _)| *tag)
}

/// One line of the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line<'t> {
    /// Its number, from 1.
    pub number: usize,
    /// Where it stands in the text, without its line feed.
    pub span: Range<usize>,
    /// What it is.
    pub content: Content<'t>,
}

/// What a line is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content<'t> {
    /// Nothing but blanks.
    Blank,
    /// `# …`, without the sign.
    Comment(&'t str),
    /// A TLS rule.
    Rule(Rule<'t>),
    /// A line that makemap does not take: one that is meant for a TLS rule, or a line of whatever kind that is too
    /// long.
    Refused(Refused),
    /// Another entry: its key, in lower case where that differs, and its value.
    Other {
        /// The key as it is written.
        key: &'t str,
        /// The value as it is written.
        value: &'t str,
    },
}

/// Why makemap does not take a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It begins with a blank.
    LeadingBlank,
    /// It has no value.
    NoValue,
    /// It is longer than [`MAX_LINE`].
    TooLong,
}

/// A TLS rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule<'t> {
    /// The side that its tag stands for.
    pub side: Side,
    /// The key behind the tag, as it is written.
    pub key: &'t str,
    /// What it can match.
    pub matches: Matches,
    /// The right-hand side, as it is written.
    pub value: &'t str,
    /// Where the key behind the tag stands in the text.
    pub key_span: Range<usize>,
    /// Where the right-hand side begins in the text.
    pub value_start: usize,
    /// What separates the two.
    pub separator: &'t str,
}

/// What a key can match.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Matches {
    /// The bare tag: whatever nothing else matches.
    Default,
    /// A host and its subdomains; on the recipient's side a mail address, `user@` or a domain. Lower case.
    Name(String),
    /// Addresses.
    Network(Network),
    /// Addresses in brackets: hosts without a confirmed name, domain literals of mail addresses.
    Literal(Network),
    /// Nothing.
    Nothing(Dead),
}

/// Why a key can never match.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dead {
    /// `.example.com` (FEATURE(`access_db') without `lookupdotdomain`).
    LeadingDot,
    /// `*.example.com`, `*`
    Wildcard,
    /// `example.com.`, `192.0.2.`
    TrailingDot,
    /// `192.0.2.0/24`
    Cidr,
    /// `2001:db8::25`, `IPv6:2001:db8::25`: sendmail writes all groups out.
    Compressed,
    /// `IPv6:2001:0db8`, `010.0.0.1`: sendmail writes no leading zeros.
    LeadingZeros,
    /// `2001:db8:0:0:0:0:0:25`: sendmail writes `IPv6:` before it.
    NoIpv6Tag,
    /// `IPv6:0:0:0:0:0:ffff:c000:207`: sendmail writes such an address as IPv4.
    Mapped,
    /// An address on the recipients' side, where only `[address]` is one.
    NotInBrackets,
    /// `user@example.com` on a side of hosts.
    MailAddress,
    /// Not in A-labels.
    NotAscii,
    /// What no host and no mail address is called.
    NoName,
}

impl Dead {
    /// Why, in words.
    pub fn words(self) -> &'static str {
        match self {
            Self::LeadingDot => "no host's name begins with a dot",
            Self::Wildcard => "sendmail's keys have no wildcards",
            Self::TrailingDot => "sendmail looks names and prefixes up without a dot at the end",
            Self::Cidr => "sendmail knows no prefix lengths: it strips addresses at their dots and colons",
            Self::Compressed => {
                "sendmail writes every group of an IPv6 address out (unless UseCompressedIPv6Addresses is set)"
            }
            Self::LeadingZeros => "sendmail writes addresses without leading zeros",
            Self::NoIpv6Tag => "sendmail writes `IPv6:` before such an address",
            Self::Mapped => "sendmail writes an IPv4-mapped address as IPv4",
            Self::NotInBrackets => "no recipient's domain is an address without brackets",
            Self::MailAddress => "a host is looked up here, not a mail address",
            Self::NotAscii => "sendmail looks names up in A-labels (xn--…)",
            Self::NoName => "this is no name that sendmail looks up",
        }
    }
}

/// Reads the text line by line.
pub fn lines(text: &str) -> impl Iterator<Item = Line<'_>> {
    let mut start = 0;
    text.split_inclusive('\n').enumerate().map(move |(position, whole)| {
        let line = whole.strip_suffix('\n').unwrap_or(whole);
        let span = start..start + line.len();
        start += whole.len();
        Line { number: position + 1, content: content(line, span.start), span }
    })
}

/// What makemap takes for a blank (C's `isspace`).
fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\x0b' | '\x0c')
}

/// Where a line becomes too long for makemap.
pub fn too_long_from(line: &str) -> Option<usize> {
    if line.len() <= MAX_LINE {
        return None;
    }
    let mut taken = 0;
    let mut chars = line.char_indices();
    let beyond = chars.find(|(_, c)| {
        // A byte of Latin-1 has become this when the file was read; makemap counts one.
        taken += if *c == char::REPLACEMENT_CHARACTER { 1 } else { c.len_utf8() };
        taken > MAX_LINE
    });
    beyond.map(|(at, _)| at)
}

/// The tag that a key or a line begins with, if it is that of a TLS rule.
pub fn tag_at_start(text: &str) -> Option<(&'static str, Side)> {
    TAGS.into_iter().find(|(tag, _)| {
        let own = text.get(..tag.len()).is_some_and(|start| start.eq_ignore_ascii_case(tag));
        own && text.get(tag.len()..).is_some_and(|rest| rest.starts_with(':'))
    })
}

fn content(line: &str, start: usize) -> Content<'_> {
    if too_long_from(line).is_some() {
        return Content::Refused(Refused::TooLong);
    }
    if let Some(comment) = line.strip_prefix('#') {
        return Content::Comment(comment);
    }
    let trimmed = line.trim_start_matches(is_blank);
    if trimmed.is_empty() {
        return Content::Blank;
    }
    let end = trimmed.find(is_blank).unwrap_or(trimmed.len());
    let (whole_key, rest) = trimmed.split_at(end);
    let value = rest.trim_start_matches(is_blank);
    let separator = rest.strip_suffix(value).unwrap_or_default();
    let Some((tag, side)) = tag_at_start(whole_key) else {
        return Content::Other { key: whole_key, value };
    };
    if trimmed.len() < line.len() {
        return Content::Refused(Refused::LeadingBlank);
    }
    if value.is_empty() {
        return Content::Refused(Refused::NoValue);
    }
    let key_start = start + tag.len() + 1;
    let key = whole_key.get(tag.len() + 1..).unwrap_or_default();
    Content::Rule(Rule {
        side,
        key,
        matches: matches(side, key),
        value,
        key_span: key_start..key_start + key.len(),
        value_start: key_start + key.len() + separator.len(),
        separator,
    })
}

/// What a key behind the tag of a side can match.
pub(super) fn matches(side: Side, key: &str) -> Matches {
    if key.is_empty() {
        return Matches::Default;
    }
    if domain::is_plain(key) && key != EVERY_IPV6 {
        return Matches::Name(key.to_owned());
    }
    if !key.is_ascii() {
        return Matches::Nothing(Dead::NotAscii);
    }
    let lower = key.to_ascii_lowercase();
    if let Some(inner) = lower.strip_prefix('[') {
        return match inner.strip_suffix(']').map(network) {
            Some(Some(Ok(network))) => Matches::Literal(network),
            Some(Some(Err(dead))) => Matches::Nothing(dead),
            Some(None) | None => Matches::Nothing(Dead::NoName),
        };
    }
    // A mail address may end with one, and is looked up as a whole.
    let network = if lower.contains('@') { None } else { network(&lower) };
    match (network, side.is_host()) {
        (Some(Ok(network)), true) => return Matches::Network(network),
        (Some(Ok(_)), false) => return Matches::Nothing(Dead::NotInBrackets),
        (Some(Err(dead)), _) => return Matches::Nothing(dead),
        (None, _) => {}
    }
    let name = match lower.rsplit_once('@') {
        Some(_) if side.is_host() => return Matches::Nothing(Dead::MailAddress),
        // The address is looked up as a whole: `user@dom`, `user@`, `user+*@dom`.
        Some(("*", _)) => return Matches::Nothing(Dead::Wildcard),
        Some((local, _)) if !is_local_part(local) => return Matches::Nothing(Dead::NoName),
        Some((_, "")) => return Matches::Name(lower),
        // An address literal is a part of the text, in whatever spelling.
        Some((_, literal)) if literal.starts_with('[') && parse_address(literal).is_some() => {
            return Matches::Name(lower);
        }
        Some((_, name)) => name,
        None => lower.as_str(),
    };
    match domain::key(name) {
        Ok(_) => Matches::Name(lower),
        Err(domain::NameError::LeadingDot) => Matches::Nothing(Dead::LeadingDot),
        Err(domain::NameError::Wildcard | domain::NameError::BadCharacter('*')) => {
            Matches::Nothing(Dead::Wildcard)
        }
        Err(domain::NameError::TrailingDot) => Matches::Nothing(Dead::TrailingDot),
        Err(domain::NameError::BadCharacter('/')) => Matches::Nothing(Dead::Cidr),
        Err(_) => Matches::Nothing(Dead::NoName),
    }
}

/// A dot-string of RFC 5321, with at most 64 characters; quoted ones are beyond what a key can say.
fn is_local_part(local: &str) -> bool {
    let atext = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~.".contains(&b);
    (1..=64).contains(&local.len()) && local.bytes().all(atext)
}

/// The shortest prefix of sendmail's IPv6 addresses, that of all of them.
const EVERY_IPV6: &str = "ipv6";

/// An address or a prefix of one as sendmail spells it; `None` for what does not look like one.
fn network(key: &str) -> Option<Result<Network, Dead>> {
    if key == EVERY_IPV6 {
        return Some(Network::parse("::/0").and_then(Result::ok).map(|all| all.network).ok_or(Dead::NoName));
    }
    let (groups, tagged) = match key.strip_prefix("ipv6:") {
        Some(groups) => (groups, true),
        None => (key, false),
    };
    if tagged || groups.contains(':') {
        return Some(match Network::parse(key) {
            _ if groups.contains('/') => Err(Dead::Cidr),
            _ if groups.contains("::") || groups.ends_with(':') => Err(Dead::Compressed),
            _ if groups.split(':').any(|group| group.len() > 1 && group.starts_with('0')) => {
                Err(Dead::LeadingZeros)
            }
            Some(Ok(_)) if is_mapped(groups) => Err(Dead::Mapped),
            Some(Ok(written)) if tagged => Ok(written.network),
            Some(Ok(_)) => Err(Dead::NoIpv6Tag),
            _ => Err(Dead::NoName),
        });
    }
    let like_v4 = key.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'/'));
    (like_v4 && key.bytes().any(|b| b.is_ascii_digit())).then(|| match Network::parse(key) {
        _ if key.contains('/') => Err(Dead::Cidr),
        _ if key.ends_with('.') => Err(Dead::TrailingDot),
        _ if key.starts_with('.') => Err(Dead::LeadingDot),
        _ if key.split('.').any(|part| part.len() > 1 && part.starts_with('0')) => Err(Dead::LeadingZeros),
        Some(Ok(written)) => Ok(written.network),
        _ => Err(Dead::NoName),
    })
}

/// Whether an address, or what it begins with, lies within `::ffff:0:0/96`.
fn is_mapped(groups: &str) -> bool {
    groups == "0:0:0:0:0:ffff" || groups.starts_with("0:0:0:0:0:ffff:")
}

/// The lines that `CITag:tag` names: the issuers below `tag:`, each with its value.
#[derive(Debug, Default)]
pub struct IssuerTags<'t>(HashMap<String, Vec<(&'t str, &'t str)>>);

impl<'t> IssuerTags<'t> {
    /// Collects the lines of these tags (in lower case).
    pub fn collect(text: &'t str, mut wanted: Vec<String>) -> Self {
        let mut found: HashMap<String, Vec<(&str, &str)>> = HashMap::new();
        wanted.sort_unstable();
        wanted.dedup();
        if wanted.is_empty() {
            return Self(found);
        }
        for line in lines(text) {
            let Content::Other { key, value } = line.content else { continue };
            let Some((tag, issuer)) = key.split_once(':') else { continue };
            let tag = tag.to_ascii_lowercase();
            let taken = wanted.binary_search(&tag).is_ok() && !value.is_empty();
            let entries = if taken { found.entry(tag).or_default() } else { continue };
            // makemap keeps the first of two.
            if !entries.iter().any(|(other, _)| other.eq_ignore_ascii_case(issuer)) {
                entries.push((issuer, value.trim_end()));
            }
        }
        Self(found)
    }

    /// Whether the key is one of theirs.
    pub fn has(&self, key: &str) -> bool {
        let tag = key.split_once(':').map(|(tag, _)| tag.to_ascii_lowercase());
        !self.0.is_empty() && tag.is_some_and(|tag| self.0.contains_key(&tag))
    }

    /// The issuers below a tag, each with its value.
    pub fn get(&self, tag: &str) -> &[(&'t str, &'t str)] {
        self.0.get(&tag.to_ascii_lowercase()).map(Vec::as_slice).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(line: &str) -> Rule<'_> {
        match content(line, 0) {
            Content::Rule(rule) => rule,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn a_line_is_taken_apart_as_makemap_does() {
        let line = rule("tls_clt:Partner.example \t ENCR:168 # no comment");
        assert_eq!((line.side, line.key), (Side::Client, "Partner.example"));
        assert_eq!((line.value, line.separator), ("ENCR:168 # no comment", " \t "));
        assert_eq!((line.key_span, line.value_start), (8..23, 26));
        // With a blank behind the tag the rule is everyone's, and what was meant as its key is its value.
        let slip = rule("TLS_Clt: partner.example ENCR:168");
        assert_eq!((slip.matches, slip.value), (Matches::Default, "partner.example ENCR:168"));
        for (line, expected) in [
            ("", Content::Blank),
            (" \r", Content::Blank),
            ("# x", Content::Comment(" x")),
            (" TLS_Srv:a OK", Content::Refused(Refused::LeadingBlank)),
            ("TLS_Srv:a \r", Content::Refused(Refused::NoValue)),
            ("TLS_Clt a OK", Content::Other { key: "TLS_Clt", value: "a OK" }),
            ("Connect:192.0.2.7\tREJECT", Content::Other { key: "Connect:192.0.2.7", value: "REJECT" }),
        ] {
            assert_eq!(content(line, 0), expected, "{line:?}");
        }
    }

    #[test]
    fn a_line_that_makemap_finds_too_long_is_refused_whatever_it_is() {
        for start in ["TLS_Clt:a.example\tENCR:128 (", "# ", "Connect:x\tOK ", " "] {
            let fits = format!("{start}{}", "x".repeat(MAX_LINE - start.len()));
            assert_ne!(content(&fits, 0), Content::Refused(Refused::TooLong), "{start}");
            // The end of a DOS line counts too.
            for long in [format!("{fits}x"), format!("{fits}\r")] {
                assert_eq!(content(&long, 0), Content::Refused(Refused::TooLong), "{start}");
                assert_eq!(too_long_from(&long), Some(MAX_LINE));
            }
        }
        assert_eq!(too_long_from(&"\u{fffd}".repeat(MAX_LINE)), None);
        assert_eq!(too_long_from(&"\u{fffd}".repeat(MAX_LINE + 1)), Some(3 * MAX_LINE));
        assert_eq!(too_long_from(&"\u{fc}".repeat(MAX_LINE)), Some(MAX_LINE));
    }

    #[test]
    fn lines_know_their_places() {
        let text = "# one\r\n\nTLS_Clt:a.example\tOK\nlast OK";
        let places: Vec<_> = lines(text).map(|line| (line.number, &text[line.span])).collect();
        assert_eq!(places, [(1, "# one\r"), (2, ""), (3, "TLS_Clt:a.example\tOK"), (4, "last OK")]);
    }

    #[test]
    fn a_key_matches_what_sendmail_lets_it_match() {
        let shown = |side, key: &str| match matches(side, key) {
            Matches::Default => "default".to_owned(),
            Matches::Name(name) => name,
            Matches::Network(network) => format!("net {network}"),
            Matches::Literal(network) => format!("literal {network}"),
            Matches::Nothing(dead) => format!("{dead:?}"),
        };
        for (key, expected) in [
            ("", "default"),
            ("MX.Partner.example", "mx.partner.example"),
            ("com", "com"),
            ("192.0.2.7", "net 192.0.2.7"),
            ("192.0.2", "net 192.0.2.0/24"),
            ("10", "net 10.0.0.0/8"),
            ("IPv6:2001:DB8:0:0:0:0:0:25", "net 2001:db8::25"),
            ("IPv6:2001:db8", "net 2001:db8::/32"),
            ("IPv6", "net ::/0"),
            ("IPv6:0:0:0:0:0", "net ::/80"),
            ("IPv6:0:0:0:0:0:FFFF", "Mapped"),
            ("IPv6:0:0:0:0:0:ffff:c000", "Mapped"),
            ("IPv6:0:0:0:0:0:ffff:c000:207", "Mapped"),
            ("IPv6:0:0:0:0:0:ffff:192.0.2.7", "Mapped"),
            ("[IPv6:0:0:0:0:0:ffff]", "Mapped"),
            ("IPv6:0:0:0:0:0:fff0", "net ::fff0:0:0/96"),
            ("[192.0.2]", "literal 192.0.2.0/24"),
            ("[IPv6:2001:db8]", "literal 2001:db8::/32"),
            (".example.com", "LeadingDot"),
            ("*.example.com", "Wildcard"),
            ("*", "Wildcard"),
            ("example.com.", "TrailingDot"),
            ("192.0.2.", "TrailingDot"),
            ("192.0.2.0/24", "Cidr"),
            ("IPv6:2001:db8::/32", "Cidr"),
            ("IPv6:2001:db8::25", "Compressed"),
            ("2001:db8::25", "Compressed"),
            ("IPv6:2001:0db8", "LeadingZeros"),
            ("010.0.0.1", "LeadingZeros"),
            ("2001:db8:0:0:0:0:0:25", "NoIpv6Tag"),
            ("192.0.2.256", "NoName"),
            ("user@partner.example", "MailAddress"),
            ("b\u{fc}cher.example", "NotAscii"),
            ("a b", "NoName"),
        ] {
            assert_eq!(shown(Side::Client, key), expected, "{key}");
        }
        for (key, expected) in [
            ("User@Partner.example", "user@partner.example"),
            ("user@", "user@"),
            ("user+*@partner.example", "user+*@partner.example"),
            ("partner.example", "partner.example"),
            ("[192.0.2.7]", "literal 192.0.2.7"),
            ("192.0.2.7", "NotInBrackets"),
            ("User@[192.0.2.7]", "user@[192.0.2.7]"),
            ("user@[IPv6:2001:DB8:0:0:0:0:0:25]", "user@[ipv6:2001:db8:0:0:0:0:0:25]"),
            ("user@[192.0.2]", "NoName"),
            ("user@192.0.2.7", "NoName"),
            ("*@partner.example", "Wildcard"),
            ("*@", "Wildcard"),
            ("@partner.example", "NoName"),
            ("user@*.example", "Wildcard"),
        ] {
            assert_eq!(shown(Side::RecipientOutbound, key), expected, "{key}");
        }
    }

    #[test]
    fn issuers_are_found_below_their_tag() {
        let text = "ca:/O=Rig+20CA OK\nCA:/o=rig+20ca REJECT\nother:/O=x OK\nca:/O=Two\tOK \n";
        let tags = IssuerTags::collect(text, vec!["ca".into()]);
        assert_eq!(tags.get("CA"), [("/O=Rig+20CA", "OK"), ("/O=Two", "OK")]);
        assert!(tags.get("other").is_empty());
    }
}
