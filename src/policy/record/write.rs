//! A record as a line, of JSON and of text, at the speed that every message of a site takes.
//!
//! Promises: the JSON is what serde makes of the record by [`OneLine`], to the byte. Nothing is asked of the allocator but
//! room in the line.

use super::{OneLine, Record, Value, Verdict};
use crate::policy::decide::Disposition;
use crate::policy::facts::Direction;
use crate::policy::rule::{Mode, Side};
use crate::policy::stamp::Stamp;
use crate::policy::text::{Digits, has_odd};
use serde::Serialize;
use std::fmt;

impl Record<'_> {
    /// Appends the record as one line of JSON, with its line feed. Line separators of Unicode, control and
    /// bidirectional characters are escaped too, so that no viewer sees a line where there is none.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        let begin = out.len();
        let mut line = Json { out };
        if let Some(ts) = self.ts {
            line.plain(name!("ts"), &Stamp::of(ts));
        }
        line.text(name!("host"), self.host.as_deref());
        line.text(name!("queue_id"), self.queue_id.as_deref());
        line.word(name!("direction"), Some(self.direction.as_str()));
        line.text(name!("client_name"), self.client_name.as_deref());
        line.text(name!("client_addr"), self.client_addr.as_deref());
        line.text(name!("client_resolve"), self.client_resolve.as_deref());
        line.text(name!("server_name"), self.server_name.as_deref());
        line.text(name!("server_addr"), self.server_addr.as_deref());
        line.text(name!("sender"), self.sender.as_deref());
        line.text(name!("recipient"), self.recipient.as_deref());
        line.text(name!("auth"), self.auth.as_deref());
        line.text(name!("tls_version"), self.tls_version.as_deref());
        line.text(name!("cipher"), self.cipher.as_deref());
        line.number(name!("cipher_bits"), self.cipher_bits.map(u32::from));
        line.number(name!("auth_ssf"), self.auth_ssf.map(u32::from));
        line.text(name!("verify"), self.verify.as_deref());
        line.text(name!("cn_subject"), self.cn_subject.as_deref());
        line.text(name!("cert_subject"), self.cert_subject.as_deref());
        line.text(name!("cert_issuer"), self.cert_issuer.as_deref());
        line.number(name!("waited"), self.waited);
        line.word(name!("verdict"), self.verdict.map(Verdict::as_str));
        line.word(name!("mode"), self.mode.map(Mode::as_str));
        line.word(name!("disposition"), self.disposition.map(Disposition::as_str));
        line.text(name!("rule"), self.rule.as_deref());
        line.word(name!("side"), self.side.map(Side::as_str));
        line.text(name!("key"), self.key.as_deref());
        line.text(name!("reason"), self.reason.as_deref());
        line.text(name!("reply"), self.reply.as_deref());
        if !self.failures.is_empty() {
            line.out.extend_from_slice(b",\"failures\":");
            for (number, failure) in self.failures.iter().enumerate() {
                line.out.push(if number == 0 { b'[' } else { b',' });
                let begin = line.out.len();
                line.text(name!("rule"), Some(&failure.rule));
                line.word(name!("side"), Some(failure.side.as_str()));
                line.text(name!("key"), Some(&failure.key));
                line.word(name!("mode"), Some(failure.mode.as_str()));
                line.text(name!("reason"), Some(&failure.reason));
                line.end(begin);
            }
            line.out.push(b']');
        }
        line.text(name!("policy"), self.policy.as_deref());
        line.end(begin);
        line.out.push(b'\n');
    }

    /// Gives every field that is known by its name, in the order of the text form; every mode that was not met
    /// as a `failed` of its own.
    pub fn fields<E>(&self, mut take: impl FnMut(Label, &str) -> Result<(), E>) -> Result<(), E> {
        let ts = self.ts.map(Stamp::of);
        let [bits, ssf, waited] =
            [self.cipher_bits.map(u32::from), self.auth_ssf.map(u32::from), self.waited]
                .map(|number| number.map(Digits::of));
        let mut all = |fields: &[(Label, Option<&str>)]| -> Result<(), E> {
            fields.iter().try_for_each(|(name, value)| value.map_or(Ok(()), |value| take(*name, value)))
        };
        all(&[
            (label!("ts"), ts.as_deref()),
            (label!("queue_id"), self.queue_id.as_deref()),
            (label!("verdict"), self.verdict.map(Verdict::as_str)),
            (label!("mode"), self.mode.map(Mode::as_str)),
            (label!("disposition"), self.disposition.map(Disposition::as_str)),
            (label!("rule"), self.rule.as_deref()),
            (label!("side"), self.side.map(Side::as_str)),
            (label!("key"), self.key.as_deref()),
            (label!("reason"), self.reason.as_deref()),
            (label!("reply"), self.reply.as_deref()),
            (label!("direction"), Some(self.direction.as_str())),
            (label!("client_name"), self.client_name.as_deref()),
            (label!("client_addr"), self.client_addr.as_deref()),
            (label!("client_resolve"), self.client_resolve.as_deref()),
            (label!("server_name"), self.server_name.as_deref()),
            (label!("server_addr"), self.server_addr.as_deref()),
            (label!("sender"), self.sender.as_deref()),
            (label!("recipient"), self.recipient.as_deref()),
            (label!("auth"), self.auth.as_deref()),
            (label!("tls_version"), self.tls_version.as_deref()),
            (label!("cipher"), self.cipher.as_deref()),
            (label!("cipher_bits"), bits.as_ref().map(Digits::as_str)),
            (label!("auth_ssf"), ssf.as_ref().map(Digits::as_str)),
            (label!("verify"), self.verify.as_deref()),
            (label!("cn_subject"), self.cn_subject.as_deref()),
            (label!("cert_subject"), self.cert_subject.as_deref()),
            (label!("cert_issuer"), self.cert_issuer.as_deref()),
            (label!("waited"), waited.as_ref().map(Digits::as_str)),
        ])?;
        for failure in &self.failures {
            let told = failed(
                failure.mode.as_str(),
                &failure.rule,
                failure.side.as_str(),
                &failure.key,
                &failure.reason,
            );
            all(&[(FAILED, Some(&told))])?;
        }
        all(&[(label!("host"), self.host.as_deref()), (label!("policy"), self.policy.as_deref())])
    }

    /// One line in sendmail's manner: the queue id, then `key=value`, separated by commas. The time stamp
    /// is the log's own.
    pub fn write_text(&self, out: &mut impl fmt::Write) -> fmt::Result {
        let mut line = Text::begin(self.queue_id.as_deref(), out)?;
        self.fields(|label, value| {
            let stands_elsewhere = label == label!("ts") || label == label!("queue_id");
            let is_usual = label == label!("direction") && value == USUAL_DIRECTION;
            if stands_elsewhere || is_usual { Ok(()) } else { line.field(label, value) }
        })
    }
}

impl fmt::Display for Record<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_text(f)
    }
}

/// A name as it stands in the line, behind what comes before it; all in one, so that it is copied at once.
macro_rules! name {
    ($name:literal) => {
        concat!(",\"", $name, "\":")
    };
}
use name;

/// A field's name as it stands in a line of text, with what is around it; all in one, so that it is copied at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Label(&'static str);

macro_rules! label {
    ($name:expr) => {
        $crate::policy::record::write::Label::new(concat!(", ", $name, "="))
    };
}
pub(super) use label;

impl Label {
    pub(super) const fn new(label: &'static str) -> Self {
        Self(label)
    }

    /// The name alone.
    pub fn name(self) -> &'static str {
        self.0.get(", ".len()..self.0.len() - "=".len()).unwrap_or_default()
    }
}

/// A mode that was not met; there may be several.
pub(super) const FAILED: Label = label!("failed");

/// Such a one, in words.
pub(super) fn failed(mode: &str, rule: &str, side: &str, key: &str, reason: &str) -> String {
    format!("{mode} {rule} {side} {key}: {reason}")
}

/// The direction that is not told in a line of text.
pub(super) const USUAL_DIRECTION: &str = Direction::Inbound.as_str();

/// A line of text that is being written.
pub(super) struct Text<'o, W> {
    out: &'o mut W,
    is_first: bool,
}

impl<'o, W: fmt::Write> Text<'o, W> {
    pub(super) fn begin(queue_id: Option<&str>, out: &'o mut W) -> Result<Self, fmt::Error> {
        Value(queue_id.unwrap_or("NOQUEUE")).write(out)?;
        out.write_char(':')?;
        Ok(Self { out, is_first: true })
    }

    #[inline]
    pub(super) fn field(&mut self, Label(label): Label, value: &str) -> fmt::Result {
        let from = usize::from(std::mem::take(&mut self.is_first)) * ",".len();
        self.out.write_str(label.get(from..).unwrap_or(label))?;
        Value(value).write(self.out)
    }
}

/// An object that is being written. Each name has a comma before it, of which the first becomes a brace at the end.
struct Json<'o> {
    out: &'o mut Vec<u8>,
}

impl Json<'_> {
    /// Ends the object that began there.
    fn end(&mut self, begin: usize) {
        match self.out.get_mut(begin) {
            Some(comma) => *comma = b'{',
            None => self.out.push(b'{'),
        }
        self.out.push(b'}');
    }

    /// A word in which nothing needs an escape.
    #[inline]
    fn plain(&mut self, name: &'static str, word: &str) {
        self.out.reserve(name.len() + word.len() + 2);
        self.out.extend_from_slice(name.as_bytes());
        self.out.push(b'"');
        self.out.extend_from_slice(word.as_bytes());
        self.out.push(b'"');
    }

    #[inline]
    fn word(&mut self, name: &'static str, word: Option<&'static str>) {
        if let Some(word) = word {
            self.plain(name, word);
        }
    }

    #[inline]
    fn text(&mut self, name: &'static str, text: Option<&str>) {
        let Some(text) = text else { return };
        if has_odd(text.as_bytes(), b' ', b"\"\\") {
            self.escaped(name, text);
        } else {
            self.plain(name, text);
        }
    }

    #[cold]
    fn escaped(&mut self, name: &'static str, text: &str) {
        self.out.extend_from_slice(name.as_bytes());
        // A string into memory: cannot fail.
        let _ = text.serialize(&mut serde_json::Serializer::with_formatter(&mut *self.out, OneLine));
    }

    #[inline]
    fn number(&mut self, name: &'static str, number: Option<u32>) {
        if let Some(number) = number {
            self.out.extend_from_slice(name.as_bytes());
            self.out.extend_from_slice(Digits::of(number).as_str().as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::record::{FailureRecord, Written, is_unsafe};
    use proptest::prelude::*;
    use serde_json::Value;
    use std::borrow::Cow;

    fn serdes(record: &Record<'_>) -> String {
        let mut line = Vec::new();
        record.serialize(&mut serde_json::Serializer::with_formatter(&mut line, OneLine)).unwrap();
        line.push(b'\n');
        String::from_utf8(line).unwrap()
    }

    fn ours(record: &Record<'_>) -> String {
        let mut line = Vec::new();
        record.write_json(&mut line);
        String::from_utf8(line).unwrap()
    }

    fn text() -> impl Strategy<Value = Option<Cow<'static, str>>> {
        prop_oneof![
            Just(None),
            "[ -~]{0,20}".prop_map(|text| Some(text.into())),
            proptest::collection::vec(any::<char>(), 0..8)
                .prop_map(|chars| Some(String::from_iter(chars).into())),
            Just(Some("\u{202e}\u{feff}\u{2028}\n\"\\".into())),
        ]
    }

    prop_compose! {
        fn record()(
            texts in proptest::collection::vec(text(), 18),
            ts in proptest::option::of(-377_705_000_000_000_000i64..253_402_207_000_000_000),
            bits in any::<(Option<u16>, Option<u16>, Option<u32>)>(),
            outbound in any::<bool>(),
            words in any::<[Option<bool>; 4]>(),
            failures in proptest::collection::vec((text(), text(), text(), any::<bool>()), 0..3),
        ) -> Record<'static> {
            let mut texts = texts.into_iter();
            let mut next = || texts.next().flatten();
            let failure = |(rule, key, reason, first): (Option<_>, Option<_>, Option<_>, bool)| FailureRecord {
                rule: rule.unwrap_or_default(),
                side: if first { Side::Client } else { Side::RecipientOutbound },
                key: key.unwrap_or_default(),
                mode: if first { Mode::SoftFail } else { Mode::Observe },
                reason: reason.unwrap_or_default(),
            };
            Record {
                ts: ts.map(|ts| jiff::Timestamp::from_microsecond(ts).unwrap()),
                host: next(),
                queue_id: next(),
                direction: if outbound { Direction::Outbound } else { Direction::Inbound },
                client_name: next(),
                client_addr: next(),
                client_resolve: next(),
                server_name: next(),
                server_addr: next(),
                sender: next(),
                recipient: next(),
                auth: next(),
                tls_version: next(),
                cipher: next(),
                cipher_bits: bits.0,
                auth_ssf: bits.1,
                verify: next(),
                cn_subject: next(),
                cert_subject: next(),
                cert_issuer: next(),
                waited: bits.2,
                verdict: words[0].map(|first| if first { Verdict::NoRule } else { Verdict::Pass }),
                mode: words[1].map(|first| if first { Mode::SoftFail } else { Mode::Enforce }),
                disposition: words[2].map(|first| if first { Disposition::Tempfail } else { Disposition::Accept }),
                rule: next(),
                side: words[3].map(|first| if first { Side::RecipientOutbound } else { Side::Sender }),
                key: next(),
                reason: None,
                reply: None,
                failures: failures.into_iter().map(failure).collect(),
                policy: None,
            }
        }
    }

    proptest! {
        #[test]
        fn serde_writes_the_same(record in record()) {
            prop_assert_eq!(ours(&record), serdes(&record));
            let text = record.to_string();
            prop_assert_eq!(text.lines().count(), 1);
        }

        #[test]
        fn what_is_written_tells_what_the_record_does(record in record()) {
            // What needs no escape, which is nearly all that is ever written.
            let usual = |text: &str| !text.contains(|c| matches!(c, '"' | '\\') || is_unsafe(c));
            let mut fields: serde_json::Map<String, Value> = serde_json::from_str(&ours(&record)).unwrap();
            fields.retain(|_, value| match value {
                Value::String(text) => usual(text),
                Value::Array(failures) => {
                    failures.retain(|failure| failure.as_object().unwrap().values().all(|v| usual(v.as_str().unwrap())));
                    !failures.is_empty()
                }
                _ => true,
            });
            fields.entry("ts").or_insert_with(|| "2026-11-22T02:07:29.015527Z".into());
            let line = serde_json::to_string(&fields).unwrap();
            let record: Record<'_> = serde_json::from_str(&line).unwrap();
            let line = ours(&record);
            let mut text = String::new();
            Written::of(line.trim_end()).expect(&line).write_text(&mut text).unwrap();
            prop_assert_eq!(text, record.to_string());
        }
    }
}
