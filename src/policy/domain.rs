//! Domain names: one form to compare in, and the way up to their parents.
//!
//! Promises: a key and a fact that name the same domain come out as the same bytes, lower-case A-labels
//! without a trailing dot (RFC 5890, UTS 46). Keys are checked strictly ([`key`]), so that a typo is seen;
//! facts are taken as they come ([`NameBuffer`]), for a name that is no name simply matches no key.

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

/// The longest label (RFC 1035 section 2.3.4).
const MAX_LABEL: usize = 63;

const LETTER: u8 = 1;
const DIGIT: u8 = 2;
const DOT: u8 = 4;
const OTHER: u8 = 8;

/// What a byte is to a domain in the form for comparison.
const CLASSES: [u8; 256] = {
    let mut classes = [OTHER; 256];
    let mut rest: &mut [u8] = &mut classes;
    let mut byte = 0_u8;
    while let [class, behind @ ..] = rest {
        *class = match byte {
            b'a'..=b'z' => LETTER,
            b'0'..=b'9' | b'-' | b'_' => DIGIT,
            b'.' => DOT,
            _ => OTHER,
        };
        byte = byte.wrapping_add(1);
        rest = behind;
    }
    classes
};

/// Whether a text is a domain in the form for comparison and no longer than a label may be, as almost all are that are
/// written in a policy: [`key`] takes it as it is. In one pass, without a branch for what a byte is: of the time that a
/// million keys take this was a third.
pub fn is_plain(text: &str) -> bool {
    let (mut all, mut pairs, mut label, mut before) = (0, 0, 0, DOT);
    for byte in text.bytes() {
        let class = CLASSES.get(usize::from(byte)).copied().unwrap_or(OTHER);
        all |= class;
        // Two dots, or one at the beginning.
        pairs |= class & before & DOT;
        label = if class == DOT { 0 } else { label | class };
        before = class;
    }
    all & OTHER == 0 && pairs == 0 && label & LETTER != 0 && text.len() <= MAX_LABEL
}

/// Checks a domain that is written in a policy, and gives its form for comparison.
/// Borrows where the text is in that form already.
pub fn key(text: &str) -> Result<Cow<'_, str>, NameError> {
    if is_plain(text) { Ok(Cow::Borrowed(text)) } else { checked(text) }
}

fn checked(text: &str) -> Result<Cow<'_, str>, NameError> {
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
    if name.split('.').any(|label| label.is_empty() || label.len() > MAX_LABEL) {
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

/// Room for a name as somebody told it, in the form for comparison. On the stack: the path of a decision does not
/// allocate for a name (but for one with U-labels, which IDNA has to convert). Not needed for a name that is in that form
/// as it was told, as nearly all are.
pub struct NameBuffer([u8; MAX_LENGTH]);

impl Default for NameBuffer {
    fn default() -> Self {
        Self([0; MAX_LENGTH])
    }
}

impl NameBuffer {
    /// The form for comparison: lower case, A-labels, no trailing dot. `None` for what can be no domain's name: too
    /// long, empty, or not convertible.
    pub fn normalised<'n>(&'n mut self, text: &'n str) -> Option<&'n str> {
        let text = text.trim_end_matches('.');
        // All bytes are looked at: to stop at the first would take longer.
        let other =
            text.bytes().fold(false, |other, byte| other | !byte.is_ascii() | byte.is_ascii_uppercase());
        if !other {
            return Some(text).filter(|text| (1..=MAX_LENGTH).contains(&text.len()));
        }
        let converted;
        let ascii = if text.is_ascii() {
            text
        } else {
            converted = idna::domain_to_ascii(text).ok()?;
            converted.as_str()
        };
        let name = self.0.get_mut(..ascii.len()).filter(|name| !name.is_empty())?;
        name.copy_from_slice(ascii.as_bytes());
        name.make_ascii_lowercase();
        std::str::from_utf8(name).ok()
    }
}

/// The part of a name that somebody registered, by the public suffix list: `mx.a.partner.co.uk` belongs to
/// `partner.co.uk`. A name that is a public suffix itself, or has one label, is its own. Of a name in the form for
/// comparison.
pub fn registrable(name: &str) -> &str {
    psl::domain_str(name).unwrap_or(name)
}

/// What stands behind the first dot. Labels are short: a loop is done before a search has begun.
fn parent(name: &str) -> Option<&str> {
    let dot = name.bytes().position(|byte| byte == b'.')?;
    name.get(dot + 1..)
}

/// The name itself, then each parent, down to the top label.
pub fn self_and_parents(name: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(name), |name| parent(name)).filter(|name| !name.is_empty())
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
        NameBuffer::default().normalised(text).map(str::to_owned)
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
    fn what_is_plain_is_what_is_taken_as_it_is() {
        let label = "x".repeat(MAX_LABEL);
        for text in [
            "a",
            "a.b",
            "1.a",
            "a.1",
            "a.1b",
            "-._",
            "_a.b-",
            "a..b",
            ".a",
            "a.",
            "a.b.",
            "*",
            "*.a",
            "A.b",
            "a.B",
            "a b",
            "a@b",
            "192.0.2.1",
            "10",
            "a/b",
            "[a]",
            "a:b",
            "b\u{fc}cher.example",
            "a\r",
            "a#b",
            "",
            &label,
            &format!("{label}x"),
        ] {
            assert_eq!(is_plain(text), matches!(checked(text), Ok(Cow::Borrowed(_))), "{text}");
        }
        // What is longer has to be looked at label by label.
        let long = format!("a.{label}");
        assert_eq!((is_plain(&long), key(&long)), (false, Ok(Cow::Borrowed(long.as_str()))));
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
