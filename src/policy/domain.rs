//! Domain names: one form to compare in, and the way up to their parents.
//!
//! Promises: a key and a fact that name the same domain come out as the same bytes, lower-case A-labels
//! without a trailing dot (RFC 5890, UTS 46). Keys are checked strictly ([`key`]), so that a typo is seen;
//! facts are taken as they come ([`Normalised`]), for a name that is no name simply matches no key.

use std::borrow::Cow;

/// The longest name of the DNS in its text form (RFC 1035 section 2.3.4).
pub const MAX_LENGTH: usize = 253;

/// What is wrong with a key that should be a domain.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing there.
    #[error("an empty name")]
    Empty,
    /// `.example.com`
    #[error("a leading dot: a key covers its subdomains by itself")]
    LeadingDot,
    /// `*.example.com`
    #[error("a wildcard: a key covers its subdomains by itself")]
    Wildcard,
    /// `example.com.`
    #[error("a trailing dot")]
    TrailingDot,
    /// Longer than the DNS allows.
    #[error("longer than 253 characters")]
    TooLong,
    /// `a..b`, or a label of more than 63 characters.
    #[error("a label that is empty or longer than 63 characters")]
    BadLabel,
    /// A character that no host name has.
    #[error("the character {0:?}")]
    BadCharacter(char),
    /// `192.0.2.1-5`, `-`
    #[error("no domain: its last label has no letter")]
    NoLetter,
    /// A name that IDNA does not allow.
    #[error("not a valid internationalised domain name (UTS 46)")]
    BadIdna,
}

/// Checks a domain that is written in a policy, and gives its form for comparison.
/// Borrows where the text is in that form already.
pub fn key(text: &str) -> Result<Cow<'_, str>, NameError> {
    if text.is_empty() {
        return Err(NameError::Empty);
    }
    if text.starts_with("*.") {
        return Err(NameError::Wildcard);
    }
    if text.starts_with('.') {
        return Err(NameError::LeadingDot);
    }
    if text.ends_with('.') {
        return Err(NameError::TrailingDot);
    }
    let name = if text.is_ascii() {
        lower(text)
    } else {
        Cow::Owned(idna::domain_to_ascii(text).map_err(|_| NameError::BadIdna)?)
    };
    if let Some(bad) = name.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))) {
        return Err(NameError::BadCharacter(bad));
    }
    if name.len() > MAX_LENGTH {
        return Err(NameError::TooLong);
    }
    if name.split('.').any(|label| label.is_empty() || label.len() > 63) {
        return Err(NameError::BadLabel);
    }
    let top = name.rsplit('.').next().unwrap_or_default();
    if !top.bytes().any(|b| b.is_ascii_alphabetic()) {
        return Err(NameError::NoLetter);
    }
    Ok(name)
}

fn lower(text: &str) -> Cow<'_, str> {
    if text.bytes().any(|b| b.is_ascii_uppercase()) {
        Cow::Owned(text.to_ascii_lowercase())
    } else {
        Cow::Borrowed(text)
    }
}

/// A name as somebody told it, in the form for comparison. On the stack: the path of a decision does not
/// allocate for a name (but for one with U-labels, which IDNA has to convert).
pub struct Normalised {
    buffer: [u8; MAX_LENGTH],
    length: usize,
}

impl Normalised {
    /// Puts a name in the form for comparison: lower case, A-labels, no trailing dot. `None` for what can
    /// be no domain's name: too long, empty, or not convertible.
    pub fn of(text: &str) -> Option<Self> {
        let text = text.trim_end_matches('.');
        let converted;
        let ascii = if text.is_ascii() {
            text
        } else {
            converted = idna::domain_to_ascii(text).ok()?;
            converted.as_str()
        };
        let mut name = Self { buffer: [0; MAX_LENGTH], length: ascii.len() };
        let room = name.buffer.get_mut(..ascii.len())?;
        room.copy_from_slice(ascii.as_bytes());
        room.make_ascii_lowercase();
        (!ascii.is_empty()).then_some(name)
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        let bytes = self.buffer.get(..self.length).unwrap_or_default();
        // ASCII was copied in, so this never falls back.
        std::str::from_utf8(bytes).unwrap_or_default()
    }
}

/// The part of a name that somebody registered, by the public suffix list: `mx.a.partner.co.uk` belongs to
/// `partner.co.uk`. A name that is a public suffix itself, or has one label, is its own. Of a name in the form for
/// comparison.
pub fn registrable(name: &str) -> &str {
    psl::domain_str(name).unwrap_or(name)
}

/// The name itself, then each parent, down to the top label.
pub fn self_and_parents(name: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(name), |name| name.split_once('.').map(|(_, parent)| parent))
        .filter(|name| !name.is_empty())
}

/// The local part and the domain of a mail address, split at the last `@`. An address without one has no
/// domain. Angle brackets are not expected here (see [`super::facts::bare_address`]).
pub fn split_address(address: &str) -> (&str, Option<&str>) {
    match address.rsplit_once('@') {
        Some((local, domain)) if !domain.is_empty() => (local, Some(domain)),
        Some((local, _)) => (local, None),
        None => (address, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normalised(text: &str) -> Option<String> {
        Normalised::of(text).map(|name| name.as_str().to_owned())
    }

    #[test]
    fn a_host_belongs_to_what_somebody_registered() {
        for (name, domain) in [
            ("mx.a.partner.co.uk", "partner.co.uk"),
            ("mx.partner.example", "partner.example"),
            ("partner.example", "partner.example"),
            ("co.uk", "co.uk"),
            ("localhost", "localhost"),
        ] {
            assert_eq!(registrable(name), domain);
        }
    }

    #[test]
    fn keys_and_facts_come_to_the_same_form() {
        for (written, told) in [
            ("Partner.Example", "partner.example."),
            ("bücher.example", "xn--bcher-kva.EXAMPLE"),
            ("xn--bcher-kva.example", "BÜCHER.example"),
            ("_smtp.partner.example", "_SMTP.partner.example"),
        ] {
            assert_eq!(key(written).unwrap(), normalised(told).unwrap(), "{written} {told}");
        }
    }

    #[test]
    fn a_key_that_could_never_match_is_refused() {
        for (written, error) in [
            ("", NameError::Empty),
            (".example.com", NameError::LeadingDot),
            ("*.example.com", NameError::Wildcard),
            ("example.com.", NameError::TrailingDot),
            ("a..b", NameError::BadLabel),
            ("exam ple.com", NameError::BadCharacter(' ')),
            ("192.0.2.0/24", NameError::BadCharacter('/')),
            ("192.0.2.1-5", NameError::NoLetter),
            ("-", NameError::NoLetter),
        ] {
            assert_eq!(key(written), Err(error), "{written}");
        }
        assert_eq!(key(&"a".repeat(64)), Err(NameError::BadLabel));
        assert_eq!(key("a.".repeat(200).trim_end_matches('.')), Err(NameError::TooLong));
    }

    #[test]
    fn what_is_no_name_matches_nothing() {
        assert_eq!(normalised(""), None);
        assert_eq!(normalised("."), None);
        assert_eq!(normalised(&"a".repeat(254)), None);
        assert_eq!(normalised("[192.0.2.7]").as_deref(), Some("[192.0.2.7]"));
    }

    #[test]
    fn parents_go_down_to_the_top_label() {
        let names: Vec<_> = self_and_parents("a.b.example").collect();
        assert_eq!(names, ["a.b.example", "b.example", "example"]);
    }

    #[test]
    fn what_was_registered_is_told_by_the_public_suffix_list() {
        for (name, registered) in [
            ("mx1.mail.partner.example", "partner.example"),
            ("mx.partner.co.uk", "partner.co.uk"),
            ("co.uk", "co.uk"),
            ("localhost", "localhost"),
            ("", ""),
        ] {
            assert_eq!(registrable(name), registered);
        }
    }

    #[test]
    fn an_address_is_split_at_its_last_at() {
        assert_eq!(split_address("a@b"), ("a", Some("b")));
        assert_eq!(split_address("\"x@y\"@b"), ("\"x@y\"", Some("b")));
        assert_eq!(split_address("postmaster"), ("postmaster", None));
        assert_eq!(split_address("a@"), ("a", None));
    }
}
