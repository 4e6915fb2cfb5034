//! What a rule is: its modes, and what each of them demands.
//!
//! Promises: values only, made by the policy file's compiler and never changed afterwards. Whether a
//! requirement is met is answered here ([`Requirement::check`]), in sendmail's order and in sendmail's
//! words; what follows from the answer is not (see [`super::decide`]).

use super::Day;
use super::facts::{Facts, TlsState};
use super::network::Network;
use std::fmt;

/// How serious a requirement is. Ordered: `observe` < `soft-fail` < `enforce`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Logged, and nothing else: no reply is ever changed.
    Observe,
    /// Deferred (4xx): the sender's queue keeps the message and tries again.
    SoftFail,
    /// Refused (5xx): the sender gets the message back.
    Enforce,
}

impl Mode {
    /// All modes, the hardest first: the order in which failures are listed.
    pub const HARDEST_FIRST: [Self; 3] = [Self::Enforce, Self::SoftFail, Self::Observe];

    /// The word for it, as in the policy file and in the record.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Observe => "observe",
            Self::SoftFail => "soft-fail",
            Self::Enforce => "enforce",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Which identity a key is held against.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Side {
    /// The connecting host (inbound): sendmail's `TLS_Clt`.
    Client,
    /// The envelope sender (inbound).
    Sender,
    /// An envelope recipient (inbound).
    Recipient,
    /// The host we deliver to (outbound): sendmail's `TLS_Srv`.
    Server,
    /// The recipient of a delivery (outbound): sendmail's `TLS_Rcpt`.
    RecipientOutbound,
}

impl Side {
    /// Every side, inbound first.
    pub const ALL: [Self; 5] =
        [Self::Client, Self::Sender, Self::Recipient, Self::Server, Self::RecipientOutbound];

    /// The word for it, as in the policy file and in the record.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Sender => "sender",
            Self::Recipient => "recipient",
            Self::Server => "server",
            Self::RecipientOutbound => "recipient-outbound",
        }
    }

    /// Whether keys of this side are hosts (names and networks), not mail addresses.
    pub fn is_host(self) -> bool {
        matches!(self, Self::Client | Self::Server)
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

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

/// What a certificate's common name must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommonName {
    /// The name of the other side, as sendmail's bare `CN` has it.
    OfPeer,
    /// This name.
    Is(String),
}

/// What is demanded of a connection. All parts that are given must be met.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Requirement {
    /// The least number of effective key bits: `max(cipher_bits, auth_ssf)`.
    pub min_bits: Option<u16>,
    /// The oldest protocol version.
    pub min_version: Option<TlsVersion>,
    /// Whether the other side's certificate must have been verified.
    pub verify: bool,
    /// The certificate's common name.
    pub cn: Option<CommonName>,
    /// The certificate's subject, a distinguished name as in `{cert_subject}`.
    pub cert_subject: Option<String>,
    /// The certificate's issuer, a distinguished name as in `{cert_issuer}`.
    pub cert_issuer: Option<String>,
}

/// Whether a requirement is met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is.
    Met,
    /// It is not, for this reason, worded as sendmail words it.
    Failed(String),
    /// The MTA did not tell what would be needed to say.
    NotTold(&'static str),
}

impl Requirement {
    /// Whether nothing at all is demanded.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether all that meets `self` meets `other` too. Names are compared as they stand.
    pub fn implies(&self, other: &Self) -> bool {
        self.min_bits.unwrap_or(0) >= other.min_bits.unwrap_or(0)
            && self.min_version >= other.min_version
            && self.verify >= other.verify
            && (other.cn.is_none() || self.cn == other.cn)
            && (other.cert_subject.is_none() || self.cert_subject == other.cert_subject)
            && (other.cert_issuer.is_none() || self.cert_issuer == other.cert_issuer)
    }

    /// Holds the requirement against the facts, in the order of sendmail's `TLS_connection` and `TLS_req`:
    /// the handshake, the verification, the bits, then the names. A part that fails decides, even where
    /// another could not be answered. Allocates only for a failure.
    pub fn check(&self, facts: &Facts<'_>) -> Outcome {
        if let Some(reason) = failed_handshake(facts) {
            return Outcome::Failed(reason.to_owned());
        }
        let mut not_told = None;
        for part in
            [Self::verification, Self::bits, Self::version, Self::common_name, Self::subject, Self::issuer]
        {
            match part(self, facts) {
                Outcome::Met => {}
                Outcome::NotTold(what) => not_told = not_told.or(Some(what)),
                failed @ Outcome::Failed(_) => return failed,
            }
        }
        not_told.map_or(Outcome::Met, Outcome::NotTold)
    }

    fn verification(&self, facts: &Facts<'_>) -> Outcome {
        if !self.verify {
            return Outcome::Met;
        }
        let verify = match (facts.tls.verify.as_deref(), facts.tls.state) {
            (Some(verify), _) => verify,
            (None, TlsState::Plaintext) => "",
            (None, _) => return Outcome::NotTold("{verify}"),
        };
        Outcome::Failed(match verify {
            // sendmail's class TlsVerified.
            "OK" | "TRUSTED" => return Outcome::Met,
            "" => "authentication required".to_owned(),
            "FAIL" => "authentication failed".to_owned(),
            "NO" => "not authenticated".to_owned(),
            "NOT" => "no authentication requested".to_owned(),
            "NONE" => "other side does not support STARTTLS".to_owned(),
            "CLEAR" => "STARTTLS disabled locally".to_owned(),
            other => format!("authentication failure {other}"),
        })
    }

    fn bits(&self, facts: &Facts<'_>) -> Outcome {
        let Some(need) = self.min_bits else { return Outcome::Met };
        if facts.auth_ssf.unwrap_or(0) >= need {
            return Outcome::Met;
        }
        match facts.effective_bits() {
            None => Outcome::NotTold("{cipher_bits}"),
            Some(bits) if bits >= need => Outcome::Met,
            Some(bits) => Outcome::Failed(format!("encryption too weak {bits} less than {need}")),
        }
    }

    fn version(&self, facts: &Facts<'_>) -> Outcome {
        let Some(need) = self.min_version else { return Outcome::Met };
        let version = match (facts.tls.state, facts.tls.version.as_deref()) {
            (TlsState::Plaintext, _) => {
                return Outcome::Failed(format!("TLS version too old none less than {need}"));
            }
            (TlsState::Tls, Some(text)) => TlsVersion::from_mta(text),
            _ => None,
        };
        match version {
            None => Outcome::NotTold("{tls_version}"),
            Some(version) if version >= need => Outcome::Met,
            Some(version) => Outcome::Failed(format!("TLS version too old {version} less than {need}")),
        }
    }

    fn common_name(&self, facts: &Facts<'_>) -> Outcome {
        let want = match &self.cn {
            None => return Outcome::Met,
            Some(CommonName::Is(name)) => name.as_str(),
            Some(CommonName::OfPeer) => match facts.peer_name.as_deref() {
                Some(name) => name.strip_suffix('.').unwrap_or(name),
                None => return Outcome::NotTold("the name of the other side"),
            },
        };
        Self::certificate_name(facts, facts.tls.cn_subject.as_deref(), want, "CN", "{cn_subject}")
    }

    fn subject(&self, facts: &Facts<'_>) -> Outcome {
        self.cert_subject.as_deref().map_or(Outcome::Met, |want| {
            let told = facts.tls.cert_subject.as_deref();
            Self::certificate_name(facts, told, want, "Cert Subject", "{cert_subject}")
        })
    }

    fn issuer(&self, facts: &Facts<'_>) -> Outcome {
        self.cert_issuer.as_deref().map_or(Outcome::Met, |want| {
            let told = facts.tls.cert_issuer.as_deref();
            Self::certificate_name(facts, told, want, "Cert Issuer", "{cert_issuer}")
        })
    }

    fn certificate_name(
        facts: &Facts<'_>,
        told: Option<&str>,
        want: &str,
        what: &str,
        macro_name: &'static str,
    ) -> Outcome {
        let told = match (told, facts.tls.state) {
            (Some(told), _) => told,
            (None, TlsState::Plaintext) => "",
            // `{verify}` says that no certificate came: then its names are empty, not unknown.
            (None, TlsState::Tls) if facts.tls.no_certificate() => "",
            (None, _) => return Outcome::NotTold(macro_name),
        };
        if !told.is_empty() && same_name(told, want) {
            Outcome::Met
        } else {
            Outcome::Failed(format!("{what} {told} does not match {want}"))
        }
    }
}

/// sendmail refuses a session whose handshake failed, with a rule and without one; in these words.
fn failed_handshake(facts: &Facts<'_>) -> Option<&'static str> {
    match facts.tls.verify.as_deref()? {
        "SOFTWARE" => Some("TLS handshake failed."),
        "PROTOCOL" => Some("STARTTLS failed."),
        "CONFIG" => Some("STARTTLS temporarily not possible."),
        "DANE_FAIL" => Some("DANE check failed."),
        _ => None,
    }
}

/// Compares two names of certificates as sendmail does, in any case, and further whether either is written
/// in sendmail's xtext (`Rig+20CA`) or plainly (`Rig CA`).
fn same_name(told: &str, want: &str) -> bool {
    told.eq_ignore_ascii_case(want) || decode_xtext(told).eq_ignore_ascii_case(&decode_xtext(want))
}

/// Decodes `+XX` (RFC 3461 section 4). What is no such sequence stays as it is.
fn decode_xtext(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        if let (b'+', [high, low, after @ ..]) = (first, tail)
            && let (Some(high), Some(low)) = ((*high as char).to_digit(16), (*low as char).to_digit(16))
            && let Ok(byte) = u8::try_from(high * 16 + low)
        {
            out.push(byte);
            rest = after;
        } else {
            out.push(*first);
            rest = tail;
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
        parts.extend(self.cn.as_ref().map(|cn| match cn {
            CommonName::OfPeer => "cn of the peer".to_owned(),
            CommonName::Is(name) => format!("cn {name:?}"),
        }));
        parts.extend(self.cert_subject.as_ref().map(|dn| format!("cert-subject {dn:?}")));
        parts.extend(self.cert_issuer.as_ref().map(|dn| format!("cert-issuer {dn:?}")));
        if parts.is_empty() {
            return f.write_str("nothing");
        }
        f.write_str(&parts.join(", "))
    }
}

/// One mode of a rule: what it demands, from which day on, and of which share of the failures it acts on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModeEntry {
    /// What is demanded.
    pub requirement: Requirement,
    /// In force from that day, 00:00 UTC.
    pub from: Option<Day>,
    /// Soft-fail only: the share that is deferred, in percent; the rest is observed.
    pub percent: Option<u8>,
}

impl ModeEntry {
    /// Whether the mode is in force on that day.
    pub fn in_force(&self, day: Day) -> bool {
        self.from.is_none_or(|from| from <= day)
    }
}

impl fmt::Display for ModeEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.requirement)?;
        if let Some(percent) = self.percent {
            write!(f, ", percent {percent}")?;
        }
        if let Some(from) = self.from {
            write!(f, ", from {from}")?;
        }
        Ok(())
    }
}

/// An exemption of a rule's keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exemption {
    /// Why.
    pub reason: Option<String>,
    /// Whose it is to end it.
    pub owner: Option<String>,
    /// The last day on which it holds, to its end in UTC.
    pub until: Option<Day>,
}

impl Exemption {
    /// Whether the exemption holds on that day. Past its `until` it is as if it were not there.
    pub fn holds(&self, day: Day) -> bool {
        self.until.is_none_or(|until| day <= until)
    }
}

impl fmt::Display for Exemption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason.as_deref().unwrap_or("no reason given"))?;
        if let Some(owner) = &self.owner {
            write!(f, ", owner {owner}")?;
        }
        if let Some(until) = self.until {
            write!(f, ", until {until}")?;
        }
        Ok(())
    }
}

/// What a rule demands in each mode.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Modes {
    /// `observe`
    pub observe: Option<ModeEntry>,
    /// `soft-fail`
    pub soft_fail: Option<ModeEntry>,
    /// `enforce`
    pub enforce: Option<ModeEntry>,
}

impl Modes {
    /// The entry of a mode.
    pub fn get(&self, mode: Mode) -> Option<&ModeEntry> {
        match mode {
            Mode::Observe => self.observe.as_ref(),
            Mode::SoftFail => self.soft_fail.as_ref(),
            Mode::Enforce => self.enforce.as_ref(),
        }
    }

    /// The entries that are in force on a day, the hardest mode first.
    pub fn in_force(&self, day: Day) -> impl Iterator<Item = (Mode, &ModeEntry)> {
        Mode::HARDEST_FIRST
            .into_iter()
            .filter_map(|mode| self.get(mode).map(|entry| (mode, entry)))
            .filter(move |(_, entry)| entry.in_force(day))
    }
}

/// A named entry of the policy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// Unique in the policy; in every log line, reply and metric.
    pub name: String,
    /// Free text.
    pub comment: Option<String>,
    /// Whether, why and how long its keys are exempt.
    pub exemption: Option<Exemption>,
    /// What it demands.
    pub modes: Modes,
}

impl Rule {
    /// Whether the rule says anything on that day. One that does not (its exemption has lapsed, its modes
    /// are still to come) is as if it were not there, so that it does not shadow a less specific key.
    pub fn in_force(&self, day: Day) -> bool {
        self.exemption.as_ref().is_some_and(|exemption| exemption.holds(day))
            || self.modes.in_force(day).next().is_some()
    }
}

/// Who is never judged, whatever the rules say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exempt {
    /// Clients that have authenticated (SMTP AUTH).
    pub authenticated: bool,
    /// Clients (or servers) in these networks.
    pub networks: Vec<Network>,
    /// Recipients: a local part at whatever domain, or a full address. In lower case.
    pub recipients: Vec<String>,
}

impl Default for Exempt {
    fn default() -> Self {
        Self {
            authenticated: true,
            networks: vec![Network::LOOPBACK_V4, Network::LOOPBACK_V6],
            recipients: vec!["postmaster".to_owned()],
        }
    }
}

#[cfg(test)]
mod tests;
