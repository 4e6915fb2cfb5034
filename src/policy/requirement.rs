//! What may be demanded of a connection, and whether it is met.
//!
//! Promises: the parts are held in the order of sendmail's `TLS_connection` and `TLS_req`, and a failure is
//! told in sendmail's words ([`Requirement::check`]), which are put together only where somebody reads them
//! ([`Unmet`]): holding allocates nothing. What follows from the answer is not said here (see [`super::decide`]).

use super::facts::{Facts, TlsState, UNVERIFIED, handshake_failure};
use super::text::Digits;
use std::borrow::Cow;
use std::fmt;

/// A TLS protocol version, oldest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TlsVersion(u8);

impl TlsVersion {
    /// The versions that a policy may ask for, oldest first.
    pub const NAMES: [&'static str; 4] = ["TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"];

    /// Parses what a policy file says: one of [`Self::NAMES`].
    pub fn from_policy(text: &str) -> Option<Self> {
        let position = Self::NAMES.iter().position(|name| *name == text)?;
        u8::try_from(position).ok().map(|minor| Self(minor + 2))
    }

    /// Parses what an MTA tells: OpenSSL's names, old ones and ones yet to come (`TLSv1.4`) included.
    /// `TLSv1.0` and the historical `TLSv1/SSLv3` are TLS 1.0.
    pub fn from_mta(text: &str) -> Option<Self> {
        match text {
            "SSLv2" => Some(Self(0)),
            "SSLv3" => Some(Self(1)),
            "TLSv1" | "TLSv1/SSLv3" => Some(Self(2)),
            _ => {
                let minor = text.strip_prefix("TLSv1.")?;
                let digits = minor.len() <= 2 && minor.bytes().all(|b| b.is_ascii_digit());
                let minor: u8 = if digits { minor.parse().ok()? } else { return None };
                Some(Self(minor + 2))
            }
        }
    }
}

impl fmt::Display for TlsVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => f.write_str("SSLv2"),
            1 => f.write_str("SSLv3"),
            2 => f.write_str("TLSv1"),
            n => write!(f, "TLSv1.{}", n - 2),
        }
    }
}

/// What of a certificate is held against a demand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attribute {
    /// `cn`, sendmail's `CN`: the common name, `{cn_subject}`.
    CommonName,
    /// `cert-subject`, sendmail's `CS`: the subject, `{cert_subject}`.
    Subject,
    /// `cert-issuer`, sendmail's `CI`: the issuer, `{cert_issuer}`.
    Issuer,
}

impl Attribute {
    /// Every attribute.
    pub const ALL: [Self; 3] = [Self::CommonName, Self::Subject, Self::Issuer];

    /// Its field in the policy file, its extension in sendmail's access map, the words of sendmail's
    /// refusal, and the macro that tells it.
    fn row(self) -> (&'static str, &'static str, &'static str, &'static str) {
        match self {
            Self::CommonName => ("cn", "CN", "CN", "{cn_subject}"),
            Self::Subject => ("cert-subject", "CS", "Cert Subject", "{cert_subject}"),
            Self::Issuer => ("cert-issuer", "CI", "Cert Issuer", "{cert_issuer}"),
        }
    }

    /// The field of the policy file.
    pub fn field(self) -> &'static str {
        self.row().0
    }

    /// The extension of a right-hand side in sendmail's access map.
    pub fn extension(self) -> &'static str {
        self.row().1
    }
}

/// What an attribute must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// The name of the other side, as sendmail's bare `CN` has it.
    OfPeer,
    /// This.
    Is(String),
    /// One of these, as sendmail's `CITag` has it of issuers. Of none: it can never be met.
    OneOf(Vec<String>),
}

/// One demand on a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateName {
    /// Of what.
    pub attribute: Attribute,
    /// What it must be.
    pub wanted: Wanted,
}

impl CertificateName {
    /// The demand as an extension of sendmail's access map: `CN`, `CN:name`, `CI:dn`. A choice has none of
    /// its own (`CITag` names further lines).
    pub fn extension(&self) -> Option<String> {
        let extension = self.attribute.extension();
        match &self.wanted {
            Wanted::OfPeer => Some(extension.to_owned()),
            Wanted::Is(name) => Some(format!("{extension}:{}", encode_xtext(name))),
            Wanted::OneOf(_) => None,
        }
    }
}

/// What is demanded of a connection. All parts that are given must be met, and with each of them that the
/// handshake did not fail.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Requirement {
    /// That the handshake did not fail, and nothing else: what sendmail demands of everyone, rule or no rule.
    pub handshake: bool,
    /// The least number of effective key bits: `max(cipher_bits, auth_ssf)`.
    pub min_bits: Option<u16>,
    /// The oldest protocol version.
    pub min_version: Option<TlsVersion>,
    /// Whether the other side's certificate must have been verified.
    pub verify: bool,
    /// The certificate's names, in the order in which they are held against it.
    pub certificate: Vec<CertificateName>,
}

/// What a threshold amounts to that no cipher has; nothing for one that a cipher has.
pub fn amounts_to(bits: u16) -> Option<&'static str> {
    match bits {
        0 | 1 | 112 | 128 | 256 => None,
        2..=111 => Some("amounts to 112: any encryption of today"),
        113..=127 => Some("amounts to 128"),
        129..=255 => Some("amounts to 256: AES-128, which TLS 1.3 makes mandatory, is refused"),
        257.. => Some("refuses everyone"),
    }
}

/// Whether a requirement is met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome<'a> {
    /// It is.
    Met,
    /// It is not, for this reason.
    Failed(Unmet<'a>),
    /// The MTA did not tell what would be needed to say.
    NotTold(&'static str),
}

/// What was not met, and by what: of most messages nobody reads it. Worded as sendmail words it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unmet<'a> {
    /// That for which there are words that are always the same.
    Words(&'static str),
    /// A certificate that is not verified, of which sendmail has nothing to say but what was demanded of it.
    Unverified(&'a Requirement),
    /// So many bits, and so many are needed.
    Bits(u16, u16),
    /// A version, nothing in the clear, and the oldest that would do.
    Version(Option<TlsVersion>, TlsVersion),
    /// An attribute of the certificate, and what it should be; nothing where several would do.
    Name(Attribute, &'a str, Option<&'a str>),
}

impl<'a> Unmet<'a> {
    /// The words, borrowed where there is nothing to put together.
    pub fn words(self) -> Cow<'a, str> {
        match self {
            Self::Words(words) => Cow::Borrowed(words),
            Self::Bits(bits, need) => Cow::Owned(too_weak(bits, need)),
            Self::Unverified(_) | Self::Version(..) | Self::Name(..) => Cow::Owned(self.to_string()),
        }
    }
}

/// What is said most often, put together in one piece.
fn too_weak(bits: u16, need: u16) -> String {
    [
        "encryption too weak ",
        Digits::of(bits.into()).as_str(),
        " less than ",
        Digits::of(need.into()).as_str(),
    ]
    .concat()
}

impl fmt::Display for Unmet<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Words(words) => f.write_str(words),
            // sendmail means to repeat the word here, and repeats the extensions.
            Self::Unverified(requirement) => {
                let words = format!("authentication failure {}", requirement.extensions());
                f.write_str(words.trim_end())
            }
            Self::Bits(bits, need) => f.write_str(&too_weak(*bits, *need)),
            Self::Version(None, need) => write!(f, "TLS version too old none less than {need}"),
            Self::Version(Some(version), need) => write!(f, "TLS version too old {version} less than {need}"),
            Self::Name(attribute, told, want) => {
                let (_, _, words, _) = attribute.row();
                match want {
                    Some(want) => write!(f, "{words} {told} does not match {want}"),
                    None => write!(f, "{words} {told} not acceptable"),
                }
            }
        }
    }
}

impl Requirement {
    /// Whether nothing at all is demanded.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether the certificate's subject or issuer has to be known.
    pub fn wants_names(&self) -> bool {
        self.certificate.iter().any(|name| name.attribute != Attribute::CommonName)
    }

    /// Whether all that meets `self` meets `other` too. Names are compared as they stand.
    pub fn implies(&self, other: &Self) -> bool {
        self.min_bits.unwrap_or(0) >= other.min_bits.unwrap_or(0)
            && self.min_version >= other.min_version
            && self.verify >= other.verify
            && other.certificate.iter().all(|name| self.certificate.contains(name))
    }

    /// Holds the requirement against the facts, in the order of sendmail's `TLS_connection` and `TLS_req`:
    /// the handshake, the verification, the bits, then the names. A part that fails decides, even where
    /// another could not be answered. Allocates nothing.
    pub fn check<'a>(&'a self, facts: &'a Facts<'_>) -> Outcome<'a> {
        if let Some(reason) = failed_handshake(facts) {
            return Outcome::Failed(Unmet::Words(reason));
        }
        let parts = [self.verification(facts), self.bits(facts), self.version(facts)];
        let names = self.certificate.iter().map(|name| name.check(facts));
        let mut not_told = None;
        for outcome in parts.into_iter().chain(names) {
            match outcome {
                Outcome::Met => {}
                Outcome::NotTold(what) => not_told = not_told.or(Some(what)),
                failed @ Outcome::Failed(_) => return failed,
            }
        }
        not_told.map_or(Outcome::Met, Outcome::NotTold)
    }

    fn verification<'a>(&'a self, facts: &'a Facts<'_>) -> Outcome<'a> {
        if !self.verify {
            return Outcome::Met;
        }
        let verify = match (facts.tls.verify.as_deref(), facts.tls.state) {
            (Some(verify), _) => verify,
            (None, TlsState::Plaintext) => "",
            (None, _) => return Outcome::NotTold("{verify}"),
        };
        // sendmail's class TlsVerified.
        if ["OK", "TRUSTED"].iter().any(|word| word.eq_ignore_ascii_case(verify)) {
            return Outcome::Met;
        }
        Outcome::Failed(match NOT_VERIFIED.iter().find(|(word, _)| word.eq_ignore_ascii_case(verify)) {
            Some((_, words)) => Unmet::Words(words),
            None => Unmet::Unverified(self),
        })
    }

    /// The demands on the certificate as sendmail's access map writes them: `CN:name++CI:dn`.
    pub fn extensions(&self) -> String {
        let extensions: Vec<String> =
            self.certificate.iter().filter_map(CertificateName::extension).collect();
        extensions.join("++")
    }

    fn bits<'a>(&'a self, facts: &'a Facts<'_>) -> Outcome<'a> {
        let Some(need) = self.min_bits else { return Outcome::Met };
        if facts.auth_ssf.unwrap_or(0) >= need {
            return Outcome::Met;
        }
        match facts.effective_bits() {
            None => Outcome::NotTold("{cipher_bits}"),
            Some(bits) if bits >= need => Outcome::Met,
            Some(bits) => Outcome::Failed(Unmet::Bits(bits, need)),
        }
    }

    fn version<'a>(&'a self, facts: &'a Facts<'_>) -> Outcome<'a> {
        let Some(need) = self.min_version else { return Outcome::Met };
        let version = match (facts.tls.state, facts.tls.version.as_deref()) {
            (TlsState::Plaintext, _) => {
                return Outcome::Failed(Unmet::Version(None, need));
            }
            (TlsState::Tls, Some(text)) => TlsVersion::from_mta(text),
            _ => None,
        };
        match version {
            None => Outcome::NotTold("{tls_version}"),
            Some(version) if version >= need => Outcome::Met,
            Some(version) => Outcome::Failed(Unmet::Version(Some(version), need)),
        }
    }
}

impl CertificateName {
    fn check<'a>(&'a self, facts: &'a Facts<'_>) -> Outcome<'a> {
        let (_, _, _, told_by) = self.attribute.row();
        let told = match self.attribute {
            Attribute::CommonName => facts.tls.cn_subject.as_deref(),
            Attribute::Subject => facts.tls.cert_subject.as_deref(),
            Attribute::Issuer => facts.tls.cert_issuer.as_deref(),
        };
        let told = match (told, facts.tls.state) {
            (Some(told), _) => told,
            (None, TlsState::Plaintext) => "",
            // `{verify}` says that no certificate came: then its names are empty, not unknown.
            (None, TlsState::Tls) if facts.tls.no_certificate() => "",
            (None, _) => return Outcome::NotTold(told_by),
        };
        let is = |want: &str| !told.is_empty() && same_name(told, want);
        let want = match &self.wanted {
            Wanted::OneOf(names) if names.iter().any(|name| is(name)) => return Outcome::Met,
            Wanted::OneOf(_) => return Outcome::Failed(Unmet::Name(self.attribute, told, None)),
            Wanted::Is(name) => name.as_str(),
            Wanted::OfPeer => match facts.peer_name.as_deref() {
                Some(name) => name.strip_suffix('.').unwrap_or(name),
                None => return Outcome::NotTold("the name of the other side"),
            },
        };
        if is(want) { Outcome::Met } else { Outcome::Failed(Unmet::Name(self.attribute, told, Some(want))) }
    }
}

/// What sendmail says of a certificate that is not verified, by `{verify}`.
const NOT_VERIFIED: [(&str, &str); 7] = [
    ("", "authentication required"),
    ("FAIL", "authentication failed"),
    ("NO", "not authenticated"),
    (UNVERIFIED, "not authenticated"),
    ("NOT", "no authentication requested"),
    ("NONE", "other side does not support STARTTLS"),
    ("CLEAR", "STARTTLS disabled locally"),
];

/// sendmail refuses a session whose handshake failed, with a rule and without one; in these words.
pub fn failed_handshake(facts: &Facts<'_>) -> Option<&'static str> {
    handshake_failure(facts.tls.verify.as_deref()?)
}

/// Compares two names of certificates as sendmail does, in any case, and further whether either is written
/// in sendmail's xtext (`Rig+20CA`) or plainly (`Rig CA`).
fn same_name(told: &str, want: &str) -> bool {
    let lower = |text| decode_xtext(text).map(|byte| byte.to_ascii_lowercase());
    told.eq_ignore_ascii_case(want) || lower(told).eq(lower(want))
}

/// Decodes `+XX` (RFC 3461 section 4). What is no such sequence stays as it is.
fn decode_xtext(text: &str) -> impl Iterator<Item = u8> + '_ {
    let mut rest = text.as_bytes();
    std::iter::from_fn(move || {
        let (first, tail) = rest.split_first()?;
        if let (b'+', [high, low, after @ ..]) = (first, tail)
            && let (Some(high), Some(low)) = ((*high as char).to_digit(16), (*low as char).to_digit(16))
            && let Ok(byte) = u8::try_from(high * 16 + low)
        {
            rest = after;
            return Some(byte);
        }
        rest = tail;
        Some(*first)
    })
}

/// Writes what sendmail's macros write as `+XX`: blanks, control and non-ASCII bytes, `<>()"\\` and `+` itself
/// (RFC 3461 section 4). A name that has none of them but `+` is taken as encoded already.
pub fn encode_xtext(text: &str) -> String {
    use fmt::Write;
    let encoded = |b: u8| !(b'!'..=b'~').contains(&b) || b"<>()\"\\".contains(&b);
    if !text.bytes().any(encoded) {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len() + 8);
    for byte in text.bytes() {
        if encoded(byte) || byte == b'+' {
            // Writing to a String cannot fail.
            let _ = write!(out, "+{byte:02X}");
        } else {
            out.push(char::from(byte));
        }
    }
    out
}

impl fmt::Display for Requirement {
    /// What is demanded, as the policy file spells it: `min-bits 128, verify`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        parts.extend(self.min_bits.map(|bits| format!("min-bits {bits}")));
        parts.extend(self.min_version.map(|version| format!("min-version {version}")));
        parts.extend(self.verify.then(|| "verify".to_owned()));
        parts.extend(self.certificate.iter().map(|name| {
            let field = name.attribute.field();
            match &name.wanted {
                Wanted::OfPeer => format!("{field} of the peer"),
                Wanted::Is(text) => format!("{field} {text:?}"),
                Wanted::OneOf(names) => format!("{field} one of {names:?}"),
            }
        }));
        if parts.is_empty() && self.handshake {
            return f.write_str("handshake");
        }
        if parts.is_empty() {
            return f.write_str("nothing");
        }
        f.write_str(&parts.join(", "))
    }
}

#[cfg(test)]
mod tests;
