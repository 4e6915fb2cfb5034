//! The decision record: the one form in which a decision is written down, and read back.
//!
//! Promises: `explain`, `simulate` and the log speak this one schema, and a record fed back as input gives
//! the same decision. What clients supplied cannot forge a line or a field, neither as JSON nor as text.
//! Values that are not known are absent.

use super::decide::{Decision, Disposition, Envelope, Reason, Verdict};
use super::facts::{
    Direction, Facts, MAX_BITS, TlsFacts, TlsState, bare_address, parse_bits, says_no_tls, says_tls,
    told_address,
};
use super::lookup::Key;
use super::network::parse_address;
use super::rule::{Mode, Side};
use super::stamp::Stamp;
use super::text::has_odd;
use super::{Day, Fingerprint};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;
use std::fmt;
use std::io;
use std::net::IpAddr;

mod read;
mod write;
mod written;

pub use written::Written;

/// One verdict: what was known, what was decided, and why. Names are the JSON keys, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Record<'a> {
    /// When, RFC 3339 in UTC with microseconds.
    #[serde(serialize_with = "microseconds", skip_serializing_if = "Option::is_none")]
    pub ts: Option<jiff::Timestamp>,
    /// The MTA's own name, `{j}`.
    #[serde(borrow, deserialize_with = "word", skip_serializing_if = "Option::is_none")]
    pub host: Option<Cow<'a, str>>,
    /// The message's queue id.
    #[serde(borrow, deserialize_with = "word", skip_serializing_if = "Option::is_none")]
    pub queue_id: Option<Cow<'a, str>>,
    /// Which way the mail goes.
    #[serde(deserialize_with = "lenient")]
    pub direction: Direction,
    /// The SMTP client's name, `[address]` where it has none.
    #[serde(borrow, deserialize_with = "word", skip_serializing_if = "Option::is_none")]
    pub client_name: Option<Cow<'a, str>>,
    /// The SMTP client's address, in its standard form; `0` for a process of this host.
    #[serde(borrow, deserialize_with = "word", skip_serializing_if = "Option::is_none")]
    pub client_addr: Option<Cow<'a, str>>,
    /// Whether the name is confirmed: `OK`, `FAIL`, `FORGED`, `TEMP`.
    #[serde(borrow, deserialize_with = "word", skip_serializing_if = "Option::is_none")]
    pub client_resolve: Option<Cow<'a, str>>,
    /// The SMTP server's name, of mail that leaves.
    #[serde(borrow, deserialize_with = "word", skip_serializing_if = "Option::is_none")]
    pub server_name: Option<Cow<'a, str>>,
    /// The SMTP server's address.
    #[serde(borrow, deserialize_with = "word", skip_serializing_if = "Option::is_none")]
    pub server_addr: Option<Cow<'a, str>>,
    /// The envelope sender without angle brackets; `<>` for the null sender.
    #[serde(borrow, deserialize_with = "word", skip_serializing_if = "Option::is_none")]
    pub sender: Option<Cow<'a, str>>,
    /// The recipient that was judged, without angle brackets.
    #[serde(borrow, deserialize_with = "word", skip_serializing_if = "Option::is_none")]
    pub recipient: Option<Cow<'a, str>>,
    /// Who authenticated.
    #[serde(borrow, deserialize_with = "word", skip_serializing_if = "Option::is_none")]
    pub auth: Option<Cow<'a, str>>,
    /// `TLSv1.3`; absent in the clear.
    #[serde(borrow, deserialize_with = "word", skip_serializing_if = "Option::is_none")]
    pub tls_version: Option<Cow<'a, str>>,
    /// The cipher suite; absent in the clear.
    #[serde(borrow, deserialize_with = "word", skip_serializing_if = "Option::is_none")]
    pub cipher: Option<Cow<'a, str>>,
    /// Effective key bits; 0 in the clear; absent where the MTA did not tell.
    #[serde(deserialize_with = "lenient_bits", skip_serializing_if = "Option::is_none")]
    pub cipher_bits: Option<u16>,
    /// Key bits of a SASL security layer.
    #[serde(deserialize_with = "lenient_bits", skip_serializing_if = "Option::is_none")]
    pub auth_ssf: Option<u16>,
    /// How the peer's certificate fared: `OK`, `NO`, `NOT`, `FAIL`, …
    #[serde(borrow, deserialize_with = "word", skip_serializing_if = "Option::is_none")]
    pub verify: Option<Cow<'a, str>>,
    /// The certificate's common name, where one came.
    #[serde(borrow, deserialize_with = "word", skip_serializing_if = "Option::is_none")]
    pub cn_subject: Option<Cow<'a, str>>,
    /// The certificate's subject, where one came.
    #[serde(borrow, deserialize_with = "word", skip_serializing_if = "Option::is_none")]
    pub cert_subject: Option<Cow<'a, str>>,
    /// The certificate's issuer, where one came.
    #[serde(borrow, deserialize_with = "word", skip_serializing_if = "Option::is_none")]
    pub cert_issuer: Option<Cow<'a, str>>,
    /// How many seconds this message had been tried for, where a `max-delay` made that count.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub waited: Option<u32>,
    /// `pass`, `fail`, `exempt`, `no-rule`, `unknown`. Absent only in input that is yet to be judged.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
    /// The mode that decided.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// `accept`, `tempfail`, `reject`.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub disposition: Option<Disposition>,
    /// The rule that decided.
    #[serde(borrow, deserialize_with = "word", skip_serializing_if = "Option::is_none")]
    pub rule: Option<Cow<'a, str>>,
    /// The side on which its key was found.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub side: Option<Side>,
    /// The key.
    #[serde(borrow, deserialize_with = "word", skip_serializing_if = "Option::is_none")]
    pub key: Option<Cow<'a, str>>,
    /// Why, in sendmail's words.
    #[serde(borrow, deserialize_with = "word", skip_serializing_if = "Option::is_none")]
    pub reason: Option<Cow<'a, str>>,
    /// What the client was told, as it saw it.
    #[serde(borrow, deserialize_with = "word", skip_serializing_if = "Option::is_none")]
    pub reply: Option<Cow<'a, str>>,
    /// Every mode that was not met.
    #[serde(borrow, deserialize_with = "lenient", skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<FailureRecord<'a>>,
    /// The policy's fingerprint, 12 hex digits.
    #[serde(borrow, deserialize_with = "word", skip_serializing_if = "Option::is_none")]
    pub policy: Option<Cow<'a, str>>,
}

/// One mode that was not met.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailureRecord<'a> {
    /// The rule.
    #[serde(borrow)]
    pub rule: Cow<'a, str>,
    /// The side on which its key was found.
    pub side: Side,
    /// The key.
    #[serde(borrow)]
    pub key: Cow<'a, str>,
    /// The mode, as the policy has it.
    pub mode: Mode,
    /// Why, in sendmail's words.
    #[serde(borrow)]
    pub reason: Cow<'a, str>,
}

/// Always six digits, so that time stamps sort as text.
fn microseconds<S: Serializer>(ts: &Option<jiff::Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
    match ts {
        Some(ts) => serializer.serialize_str(&Stamp::of(*ts)),
        None => serializer.serialize_none(),
    }
}

/// The null sender, as the record writes it.
const NULL_SENDER: &str = "<>";

/// A word that is borrowed from the input where it stands there as it is: serde by itself copies what is optional.
fn word<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Cow<'de, str>>, D::Error> {
    #[derive(Deserialize)]
    struct Word<'a>(#[serde(borrow)] Cow<'a, str>);
    Ok(Option::<Word<'_>>::deserialize(deserializer)?.map(|word| word.0))
}

/// A value from whoever wrote the input: null, or a word of a later version, is as if it were not there.
fn lenient<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(deserializer: D) -> Result<T, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Lenient<T> {
        Known(T),
        Other(serde::de::IgnoredAny),
    }
    Ok(match Lenient::deserialize(deserializer)? {
        Lenient::Known(value) => value,
        Lenient::Other(_) => T::default(),
    })
}

/// Stands for a number of bits that was told and is none. No decision has it, and none is written.
const NO_BITS: u16 = u16::MAX;

/// A number of bits as somebody wrote it: a number or a string.
#[derive(Deserialize)]
#[serde(untagged)]
enum Bits<'a> {
    Number(u64),
    Text(#[serde(borrow)] Cow<'a, str>),
}

/// A number of bits from whoever wrote the input; what makes no sense is [`NO_BITS`].
fn lenient_bits<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u16>, D::Error> {
    let told: Option<Bits<'_>> = lenient(deserializer)?;
    Ok(told.map(bits_of))
}

fn bits_of(told: Bits<'_>) -> u16 {
    match told {
        Bits::Number(bits) => u16::try_from(bits).ok().filter(|&bits| bits <= MAX_BITS).unwrap_or(NO_BITS),
        // As sendmail reckons: a macro that is there and empty is 0.
        Bits::Text(text) if text.is_empty() => 0,
        Bits::Text(text) => parse_bits(&text).unwrap_or(NO_BITS),
    }
}

fn key_text(key: Key<'_>) -> Cow<'_, str> {
    match key {
        Key::Name(name) => Cow::Borrowed(name),
        Key::Any => Cow::Borrowed("*"),
        Key::Network(_) | Key::Literal(_) => Cow::Owned(key.to_string()),
    }
}

fn borrow<'a>(text: &'a Option<Cow<'_, str>>) -> Option<Cow<'a, str>> {
    text.as_deref().map(Cow::Borrowed)
}

impl<'a> Record<'a> {
    /// The record of a decision.
    pub fn new(
        ts: jiff::Timestamp,
        facts: &'a Facts<'_>,
        envelope: Envelope<'a>,
        decision: &'a Decision<'_>,
        policy: &'a Fingerprint,
    ) -> Self {
        let name = borrow(&facts.peer_name);
        let addr = match (facts.peer_ip, borrow(&facts.peer_addr)) {
            // As it was told: of one IPv4 address there is no other form that is taken for one.
            (Some(IpAddr::V4(_)), Some(told)) if told.bytes().all(|b| b == b'.' || b.is_ascii_digit()) => {
                Some(told)
            }
            (Some(ip), _) => Some(Cow::Owned(ip.to_string())),
            (None, told) => told,
        };
        let resolve = borrow(&facts.peer_resolve);
        let (client, server) = match facts.direction {
            Direction::Inbound => ((name, addr, resolve), (None, None)),
            Direction::Outbound => ((None, None, None), (name, addr)),
        };
        // Where no certificate came, `verify` says so, and three empty names say no more.
        let none_came = facts.tls.state != TlsState::NotTold && facts.tls.no_certificate();
        let named =
            |name: &'a Option<Cow<'_, str>>| borrow(name).filter(|name| !(none_came && name.is_empty()));
        Self {
            ts: Some(ts),
            host: borrow(&facts.host),
            queue_id: borrow(&facts.queue_id),
            direction: facts.direction,
            client_name: client.0,
            client_addr: client.1,
            client_resolve: client.2,
            server_name: server.0,
            server_addr: server.1,
            sender: envelope.sender.map(|sender| match bare_address(sender) {
                "" => Cow::Borrowed(NULL_SENDER),
                address => Cow::Borrowed(address),
            }),
            recipient: envelope
                .recipient
                .map(|recipient| Cow::Borrowed(told_address(facts.direction, recipient))),
            auth: borrow(&facts.auth),
            tls_version: borrow(&facts.tls.version),
            cipher: borrow(&facts.tls.cipher),
            cipher_bits: facts.tls.cipher_bits,
            auth_ssf: facts.auth_ssf,
            verify: borrow(&facts.tls.verify),
            cn_subject: named(&facts.tls.cn_subject),
            cert_subject: named(&facts.tls.cert_subject),
            cert_issuer: named(&facts.tls.cert_issuer),
            waited: envelope.waited,
            verdict: Some(decision.verdict),
            mode: decision.mode,
            disposition: Some(decision.disposition),
            rule: decision.rule.map(|rule| Cow::Borrowed(rule.name.as_str())),
            side: decision.side,
            key: decision.key.map(key_text),
            reason: decision.reason.map(Reason::words),
            reply: decision.reply().map(|reply| Cow::Owned(reply.into_line())),
            failures: decision
                .failures()
                .map(|failure| FailureRecord {
                    rule: Cow::Borrowed(&failure.rule.name),
                    side: failure.side,
                    key: key_text(failure.key),
                    mode: failure.mode,
                    reason: failure.reason.words(),
                })
                .collect(),
            policy: Some(Cow::Borrowed(policy.as_str())),
        }
    }

    /// The facts that a record holds, to be judged again.
    pub fn facts(&self) -> Facts<'_> {
        let (name, addr, resolve) = match self.direction {
            Direction::Inbound => (&self.client_name, &self.client_addr, &self.client_resolve),
            Direction::Outbound => (&self.server_name, &self.server_addr, &None),
        };
        let bits = |told: Option<u16>| told.filter(|bits| *bits != NO_BITS);
        let present = |value: &'_ Option<Cow<'a, str>>| value.as_deref().is_some_and(|text| !text.is_empty());
        let any = present(&self.tls_version)
            || present(&self.cipher)
            || bits(self.cipher_bits).is_some_and(|bits| bits > 0)
            || self.verify.as_deref().is_some_and(|verify| says_tls(self.direction, verify));
        let state = match (self.cipher_bits, self.verify.as_deref()) {
            _ if any => TlsState::Tls,
            (Some(NO_BITS), _) => TlsState::NotTold,
            (Some(_), _) => TlsState::Plaintext,
            // Who says that there is no TLS need not say that it has no bits.
            (None, Some(verify)) if says_no_tls(verify) => TlsState::Plaintext,
            (None, _) => TlsState::NotTold,
        };
        let non_empty = |value: &'_ Option<Cow<'a, str>>| value.as_deref().is_some_and(str::is_empty);
        let told = |value| if non_empty(value) { None } else { borrow(value) };
        Facts {
            direction: self.direction,
            host: borrow(&self.host),
            queue_id: borrow(&self.queue_id),
            peer_name: told(name),
            peer_addr: told(addr),
            peer_ip: addr.as_deref().and_then(parse_address),
            peer_resolve: told(resolve),
            auth: told(&self.auth),
            auth_ssf: bits(self.auth_ssf),
            tls: TlsFacts {
                state,
                version: told(&self.tls_version),
                cipher: told(&self.cipher),
                cipher_bits: bits(self.cipher_bits),
                // An empty one was told: sendmail has words for it.
                verify: borrow(&self.verify),
                cn_subject: borrow(&self.cn_subject),
                cert_subject: borrow(&self.cert_subject),
                cert_issuer: borrow(&self.cert_issuer),
            },
        }
    }

    /// Who writes to whom.
    pub fn envelope(&self) -> Envelope<'_> {
        Envelope { sender: self.sender.as_deref(), recipient: self.recipient.as_deref(), waited: self.waited }
    }

    /// The day by which the record is judged: its own, or `now`'s where it has no time stamp.
    pub fn day(&self, now: jiff::Timestamp) -> Day {
        Day::of_unix_seconds(self.ts.unwrap_or(now).as_second())
    }
}

/// serde_json's compact form, with every character escaped that could break a line or turn its direction.
#[derive(Clone, Copy, Debug)]
pub struct OneLine;

impl serde_json::ser::Formatter for OneLine {
    fn write_string_fragment<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        if fragment.bytes().all(|b| (b' '..0x7f).contains(&b)) {
            return writer.write_all(fragment.as_bytes());
        }
        let mut units = [0u16; 2];
        let mut utf8 = [0u8; 4];
        for c in fragment.chars() {
            if is_unsafe(c) {
                for unit in c.encode_utf16(&mut units) {
                    write!(writer, "\\u{unit:04x}")?;
                }
            } else {
                writer.write_all(c.encode_utf8(&mut utf8).as_bytes())?;
            }
        }
        Ok(())
    }
}

/// Characters that must not reach a log as they are: controls, line and paragraph separators, and those
/// that turn the direction of what follows.
pub fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// Text that somebody sent, for a table or a sentence: unsafe characters as `\u{…}`.
pub fn plain(text: &str) -> Cow<'_, str> {
    if !text.contains(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if is_unsafe(c) { out.extend(c.escape_unicode()) } else { out.push(c) }
    }
    Cow::Owned(out)
}

/// A value in a `key=value` line: bare where nothing in it could be taken for the line's own, else quoted
/// with its quotes, backslashes and unsafe characters escaped.
pub struct Value<'a>(pub &'a str);

impl Value<'_> {
    /// Writes it.
    pub fn write(&self, out: &mut impl fmt::Write) -> fmt::Result {
        if !self.0.is_empty() && !has_odd(self.0.as_bytes(), b'!', b"\"\\,=") {
            return out.write_str(self.0);
        }
        out.write_char('"')?;
        if !has_odd(self.0.as_bytes(), b' ', b"\"\\") {
            out.write_str(self.0)?;
            return out.write_char('"');
        }
        for c in self.0.chars() {
            match c {
                '"' | '\\' => write!(out, "\\{c}")?,
                '\n' => out.write_str("\\n")?,
                '\r' => out.write_str("\\r")?,
                '\t' => out.write_str("\\t")?,
                c if is_unsafe(c) => write!(out, "\\u{{{:x}}}", u32::from(c))?,
                c => out.write_char(c)?,
            }
        }
        out.write_char('"')
    }
}

impl fmt::Display for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Policy;
    use crate::policy::decide::decide;
    use crate::policy::facts::Told;

    const TS: jiff::Timestamp = jiff::Timestamp::constant(1_795_000_000, 123_456_000);

    fn json(told: &Told<'_>, envelope: Envelope<'_>) -> String {
        let policy = Policy::default();
        let facts = Facts::inbound(told);
        let decision = decide(&policy, &facts, envelope, Day(0));
        let mut out = Vec::new();
        Record::new(TS, &facts, envelope, &decision, policy.fingerprint()).write_json(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_is_not_known_is_absent() {
        let told = Told { peer_addr: Some(b"IPv6:2001:db8:0:0:0:0:0:25"), ..Told::default() };
        let envelope = Envelope { sender: Some("<>"), recipient: None, ..Envelope::default() };
        assert_eq!(
            json(&told, envelope),
            concat!(
                r#"{"ts":"2026-11-18T11:06:40.123456Z","direction":"inbound","client_addr":"2001:db8::25","#,
                r#""sender":"<>","cipher_bits":0,"verdict":"no-rule","disposition":"accept","policy":"POLICY"}"#,
                "\n"
            )
            .replace("POLICY", Policy::default().fingerprint().as_str())
        );
    }

    #[test]
    fn nothing_that_a_client_sends_breaks_the_line() {
        let sender = "<a\"\n\r\u{85}\u{2028}\u{202e}\u{7f}, verdict=pass\\@x>";
        let told =
            Told { peer_addr: Some(b"192.0.2.7"), queue_id: Some(b"A\nB: verdict=pass"), ..Told::default() };
        let envelope = Envelope { sender: Some(sender), recipient: Some("<r>"), ..Envelope::default() };
        let line = json(&told, envelope);
        assert_eq!(line.trim_end_matches('\n').lines().count(), 1);
        assert!(line.trim_end_matches('\n').chars().all(|c| !is_unsafe(c)), "{line}");
        let back: Record<'_> = serde_json::from_str(&line).unwrap();
        assert_eq!(back.sender.as_deref(), Some(bare_address(sender)));
        let text = back.to_string();
        assert!(text.chars().all(|c| !is_unsafe(c)), "{text}");
        assert!(text.starts_with("\"A\\nB: verdict=pass\": verdict=no-rule"), "{text}");
        assert!(
            text.contains(r#"sender="a\"\n\r\u{85}\u{2028}\u{202e}\u{7f}, verdict=pass\\@x","#),
            "{text}"
        );
    }

    #[test]
    fn a_record_gives_back_its_facts() {
        for told in [
            Told { peer_addr: Some(b"192.0.2.7"), ..Told::default() },
            Told {
                peer_addr: Some(b"192.0.2.7"),
                peer_name: Some(b"mx.partner.example"),
                peer_resolve: Some(b"OK"),
                tls_version: Some(b"TLSv1.3"),
                cipher: Some(b"TLS_AES_256_GCM_SHA384"),
                cipher_bits: Some(b"256"),
                verify: Some(b"FAIL"),
                cn_subject: Some(b""),
                cert_issuer: Some(b"/CN=Rig+20CA"),
                auth_authen: Some(b"user"),
                ..Told::default()
            },
            Told { peer_addr: Some(b"0"), cipher: Some(b"X"), cipher_bits: Some(b"many"), ..Told::default() },
            Told::default(),
        ] {
            let facts = Facts::inbound(&told);
            let line = json(&told, Envelope::default());
            let record: Record<'_> = serde_json::from_str(&line).unwrap();
            let mut back = record.facts();
            // The record has the address in its standard form.
            back.peer_addr.clone_from(&facts.peer_addr);
            assert_eq!(back, facts, "{line}");
        }
    }

    #[test]
    fn input_from_others_is_read_leniently() {
        let line = r#"{"client_addr":"192.0.2.7","cipher_bits":"128","cipher":"X","auth_ssf":-1,"extra":{},"recipient":null}"#;
        let record: Record<'_> = serde_json::from_str(line).unwrap();
        assert_eq!((record.cipher_bits, record.auth_ssf), (Some(128), None));
        assert!(matches!(record.client_addr, Some(Cow::Borrowed("192.0.2.7"))), "copied");
        let later =
            r#"{"direction":null,"failures":null,"verdict":"later","mode":7,"client_addr":"192.0.2.7"}"#;
        let record: Record<'_> = serde_json::from_str(later).unwrap();
        assert_eq!((record.direction, record.verdict, record.mode), (Direction::Inbound, None, None));
        let absurd: Record<'_> = serde_json::from_str(r#"{"cipher_bits":100000,"cipher":"X"}"#).unwrap();
        assert_eq!(absurd.facts().effective_bits(), None);
    }
}
