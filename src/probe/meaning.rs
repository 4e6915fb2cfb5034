//! What a session amounts to: the thresholds that it would meet, and the most that could be demanded of it.
//!
//! Pure. Promises: met is what [`Requirement::check`] says is met, in sendmail's notation and in ours.

use super::tls::verify;
use super::{Look, Starttls};
use crate::policy::facts::Direction;
use crate::policy::record::Record;
use crate::policy::requirement::{Outcome, Requirement, TlsVersion, amounts_to};
use serde::Serialize;

/// The numbers that people write behind `ENCR:`.
pub const THRESHOLDS: [u16; 5] = [0, 112, 128, 168, 256];

/// A threshold, and whether it would be met.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Threshold {
    /// The bits that are demanded.
    pub bits: u16,
    /// Whether the session has them.
    pub met: bool,
    /// In sendmail's words, where it is not met.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What the number means.
    pub means: &'static str,
}

/// The most that could be demanded today.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Demand {
    /// A line of sendmail's access map.
    pub sendmail: String,
    /// A requirement of a policy.
    pub policy: String,
}

/// What a number means. Of a session that did not come about not even the first holds: sendmail defers mail there.
fn means(bits: u16, starttls: Starttls) -> &'static str {
    match bits {
        0 if starttls == Starttls::Failed => {
            "nothing is demanded; but sendmail defers mail where a handshake fails"
        }
        0 => "nothing is demanded: in the clear will do",
        112 => "any encryption of today",
        128 => "what is meant by strong encryption today",
        256 => "AES-256 or ChaCha20 only",
        other => amounts_to(other).unwrap_or_default(),
    }
}

/// What an MTA would tell of a delivery there, as a record. Nothing where no conversation came about.
pub fn record(look: &Look) -> Option<Record<'_>> {
    let address = look.address?;
    let session = look.session.as_ref();
    let certificate = look.certificate.as_ref();
    let word = match (session, look.starttls) {
        (Some(_), _) => verify(certificate),
        (None, Starttls::NotOffered) => "NONE",
        (None, Starttls::Refused) => "TEMP",
        (None, Starttls::Failed) => "SOFTWARE",
        (None, _) => return None,
    };
    let text = |value: &'_ str| Some(value.to_owned().into());
    Some(Record {
        direction: Direction::Outbound,
        server_name: text(&look.host),
        server_addr: text(&address.ip().to_string()),
        tls_version: session.and_then(|session| text(&session.tls_version)),
        cipher: session.and_then(|session| text(&session.cipher)),
        cipher_bits: Some(session.map_or(0, |session| session.cipher_bits)),
        verify: text(word),
        cn_subject: certificate.and_then(|certificate| text(certificate.cn.as_deref()?)),
        cert_subject: certificate.and_then(|certificate| text(&certificate.subject)),
        cert_issuer: certificate.and_then(|certificate| text(&certificate.issuer)),
        ..Record::default()
    })
}

/// Each threshold, held against what was negotiated.
pub fn thresholds(look: &Look) -> Vec<Threshold> {
    let Some(record) = record(look) else { return Vec::new() };
    let facts = record.facts();
    let held = THRESHOLDS.map(|bits| {
        let demanded = Requirement { min_bits: Some(bits), ..Requirement::default() };
        let reason = match demanded.check(&facts) {
            Outcome::Met => None,
            Outcome::Failed(unmet) => Some(unmet.to_string()),
            Outcome::NotTold(what) => Some(format!("not known: {what}")),
        };
        Threshold { bits, met: reason.is_none(), reason, means: means(bits, look.starttls) }
    });
    held.into()
}

/// The most of what is usually demanded that was met: bits, version, a certificate that verifies, and its name.
pub fn most(look: &Look) -> Option<Demand> {
    let session = look.session.as_ref()?;
    let bits =
        THRESHOLDS.into_iter().filter(|bits| amounts_to(*bits).is_none() && *bits <= session.cipher_bits);
    let bits = bits.max().filter(|bits| *bits > 0)?;
    let verified = verify(look.certificate.as_ref()) == "OK";
    let version = TlsVersion::from_mta(&session.tls_version);
    let mut parts = vec![format!("min-bits = {bits}")];
    parts.extend(version.map(|version| format!("min-version = \"{version}\"")));
    parts.extend(verified.then(|| "verify = true".to_owned()));
    let what = if verified { "VERIFY" } else { "ENCR" };
    Some(Demand {
        sendmail: format!("TLS_Srv:{}\t{what}:{bits}", look.host),
        policy: format!("server = [\"{}\"], observe = {{ {} }}", look.host, parts.join(", ")),
    })
}
