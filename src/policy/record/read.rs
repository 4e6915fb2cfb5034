//! A record from a line of JSON, at the speed that replaying months of them takes.
//!
//! Promises: what is read here is what serde reads of the same line, to the last field; a line that is written in any
//! other way than a program writes such records (an escape in a word, a field that is not known, or twice) is left to
//! serde, whose answer then counts. Words are borrowed from the line.

use super::{Bits, FailureRecord, Record, bits_of};
use crate::policy::stamp;
use jiff::Timestamp;
use serde::Deserialize;
use serde::de::value::{BorrowedStrDeserializer, Error};
use std::borrow::Cow;

impl<'a> Record<'a> {
    /// Becomes the record that somebody wrote, leniently read (see the fields). To be asked of a new one: it is big, and is
    /// filled where it lies.
    pub fn read_json(&mut self, line: &'a str) -> Result<(), serde_json::Error> {
        if plain(line, self).is_none() {
            *self = serde_json::from_str(line)?;
        }
        Ok(())
    }
}

/// Reads a record in which all is as it is written as a rule; nothing for any other.
fn plain<'a>(line: &'a str, record: &mut Record<'a>) -> Option<()> {
    // With neither an escape nor a control character a word ends at the next quote.
    if line.bytes().fold(0, |odd, byte| odd | u8::from(byte < b' ') | u8::from(byte == b'\\')) != 0 {
        return None;
    }
    let mut rest = Rest { line, at: 0 };
    let mut seen = 0u32;
    rest.take(b'{')?;
    loop {
        rest.blanks();
        let name = rest.word()?;
        rest.blanks();
        rest.take(b':')?;
        rest.blanks();
        let field = rest.field(name, record)?;
        // A field that is there twice is an error, and serde's to tell.
        if seen & (1 << field) != 0 {
            return None;
        }
        seen |= 1 << field;
        rest.blanks();
        match rest.next()? {
            b',' => {}
            b'}' => break,
            _ => return None,
        }
    }
    rest.blanks();
    (rest.at == line.len()).then_some(())
}

/// A time stamp as the daemon writes them; nothing for any other.
fn own_stamp(text: &str) -> Option<Timestamp> {
    stamp::utc(text.as_bytes().strip_suffix(b"Z")?)
}

/// What is still to be read of a line.
struct Rest<'a> {
    line: &'a str,
    at: usize,
}

impl<'a> Rest<'a> {
    fn peek(&self) -> Option<u8> {
        self.line.as_bytes().get(self.at).copied()
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    fn take(&mut self, byte: u8) -> Option<()> {
        (self.next()? == byte).then_some(())
    }

    fn blanks(&mut self) {
        while self.peek() == Some(b' ') {
            self.at += 1;
        }
    }

    /// A word in quotes.
    fn word(&mut self) -> Option<&'a str> {
        self.take(b'"')?;
        let start = self.at;
        let length = memchr::memchr(b'"', self.line.as_bytes().get(start..)?)?;
        self.at = start + length + 1;
        self.line.get(start..start + length)
    }

    /// A word; `null` is as if the field were not there.
    fn told(&mut self, field: &mut Option<Cow<'a, str>>) -> Option<()> {
        if !self.is_null() {
            *field = Some(Cow::Borrowed(self.word()?));
        }
        Some(())
    }

    fn is_null(&mut self) -> bool {
        let is = self.line.as_bytes().get(self.at..).is_some_and(|rest| rest.starts_with(b"null"));
        self.at += if is { b"null".len() } else { 0 };
        is
    }

    /// One of the words that a type has; what is none of them serde knows what to do with.
    fn one_of<T: Deserialize<'a>>(&mut self) -> Option<T> {
        T::deserialize(BorrowedStrDeserializer::<'a, Error>::new(self.word()?)).ok()
    }

    fn known<T: Deserialize<'a>>(&mut self, field: &mut Option<T>) -> Option<()> {
        if !self.is_null() {
            *field = Some(self.one_of()?);
        }
        Some(())
    }

    /// A number of a few digits.
    fn number(&mut self) -> Option<u32> {
        let rest = self.line.as_bytes().get(self.at..)?;
        let length = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let digits = rest.get(..length).filter(|digits| match digits {
            [] => false,
            [b'0'] => true,
            [first, ..] => *first != b'0' && length <= 9,
        })?;
        self.at += length;
        Some(digits.iter().fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0')))
    }

    fn bits(&mut self, field: &mut Option<u16>) -> Option<()> {
        if !self.is_null() {
            *field = Some(bits_of(match self.peek()? {
                b'"' => Bits::Text(Cow::Borrowed(self.word()?)),
                _ => Bits::Number(u64::from(self.number()?)),
            }));
        }
        Some(())
    }

    /// Reads the value of a field into the record; the field's place among all of them. Nothing for a field that is not
    /// known.
    fn field(&mut self, name: &str, record: &mut Record<'a>) -> Option<u32> {
        let (place, word) = match name.as_bytes() {
            b"ts" => {
                if !self.is_null() {
                    let text = self.word()?;
                    record.ts = Some(own_stamp(text).map_or_else(|| text.parse().ok(), Some)?);
                }
                return Some(0);
            }
            b"direction" => {
                if !self.is_null() {
                    record.direction = self.one_of()?;
                }
                return Some(1);
            }
            b"failures" => {
                if !self.is_null() {
                    record.failures = self.failures()?;
                }
                return Some(2);
            }
            b"waited" => {
                if !self.is_null() {
                    record.waited = Some(self.number()?);
                }
                return Some(3);
            }
            b"cipher_bits" => return self.bits(&mut record.cipher_bits).map(|()| 4),
            b"auth_ssf" => return self.bits(&mut record.auth_ssf).map(|()| 5),
            b"verdict" => return self.known(&mut record.verdict).map(|()| 6),
            b"mode" => return self.known(&mut record.mode).map(|()| 7),
            b"disposition" => return self.known(&mut record.disposition).map(|()| 8),
            b"side" => return self.known(&mut record.side).map(|()| 9),
            b"host" => (10, &mut record.host),
            b"queue_id" => (11, &mut record.queue_id),
            b"client_name" => (12, &mut record.client_name),
            b"client_addr" => (13, &mut record.client_addr),
            b"client_resolve" => (14, &mut record.client_resolve),
            b"server_name" => (15, &mut record.server_name),
            b"server_addr" => (16, &mut record.server_addr),
            b"sender" => (17, &mut record.sender),
            b"recipient" => (18, &mut record.recipient),
            b"auth" => (19, &mut record.auth),
            b"tls_version" => (20, &mut record.tls_version),
            b"cipher" => (21, &mut record.cipher),
            b"verify" => (22, &mut record.verify),
            b"cn_subject" => (23, &mut record.cn_subject),
            b"cert_subject" => (24, &mut record.cert_subject),
            b"cert_issuer" => (25, &mut record.cert_issuer),
            b"rule" => (26, &mut record.rule),
            b"key" => (27, &mut record.key),
            b"reason" => (28, &mut record.reason),
            b"reply" => (29, &mut record.reply),
            b"policy" => (30, &mut record.policy),
            _ => return None,
        };
        self.told(word).map(|()| place)
    }

    /// Every mode that was not met, each written as the daemon writes it.
    fn failures(&mut self) -> Option<Vec<FailureRecord<'a>>> {
        let mut failures = Vec::new();
        self.take(b'[')?;
        self.blanks();
        if self.peek()? == b']' {
            self.at += 1;
            return Some(failures);
        }
        loop {
            failures.push(FailureRecord {
                rule: Cow::Borrowed(self.behind(b'{', "rule")?.word()?),
                side: self.behind(b',', "side")?.one_of()?,
                key: Cow::Borrowed(self.behind(b',', "key")?.word()?),
                mode: self.behind(b',', "mode")?.one_of()?,
                reason: Cow::Borrowed(self.behind(b',', "reason")?.word()?),
            });
            self.blanks();
            self.take(b'}')?;
            self.blanks();
            match self.next()? {
                b',' => self.blanks(),
                b']' => return Some(failures),
                _ => return None,
            }
        }
    }

    /// To the value of the next field, which must have this name.
    fn behind(&mut self, separator: u8, name: &str) -> Option<&mut Self> {
        self.blanks();
        self.take(separator)?;
        self.blanks();
        (self.word()? == name).then_some(())?;
        self.blanks();
        self.take(b':')?;
        self.blanks();
        Some(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// As the daemon writes them.
    const OWN: [&str; 3] = [
        r#"{"ts":"2026-11-22T02:07:29.015527Z","host":"mail.here.example","queue_id":"6AM27Tre020552","direction":"inbound","client_name":"mx.partner.example","client_addr":"192.0.2.7","client_resolve":"OK","sender":"a@partner.example","recipient":"b@here.example","auth":"user","tls_version":"TLSv1.3","cipher":"TLS_AES_256_GCM_SHA384","cipher_bits":256,"auth_ssf":0,"verify":"OK","cn_subject":"mx","cert_subject":"/CN=mx","cert_issuer":"/CN=Rig+20CA","verdict":"pass","mode":"enforce","disposition":"accept","rule":"partner","side":"client","key":"partner.example","policy":"0123456789ab"}"#,
        r#"{"ts":"2026-11-22T02:07:29.000000Z","direction":"outbound","server_name":"mx.dést.example","server_addr":"2001:db8::25","sender":"<>","cipher_bits":0,"waited":300,"verdict":"fail","mode":"soft-fail","disposition":"tempfail","rule":"far","side":"recipient-outbound","key":"far.example","reason":"encryption too weak 0 less than 168","reply":"454 4.7.0 encryption needed, rule far","failures":[{"rule":"far","side":"recipient-outbound","key":"far.example","mode":"soft-fail","reason":"encryption too weak 0 less than 168"},{"rule":"far","side":"server","key":"*","mode":"observe","reason":"x"}],"policy":"0123456789ab"}"#,
        r#"{ "direction": "inbound", "client_addr": null, "cipher_bits": "128", "auth_ssf": "", "failures": [ ], "verdict": null }"#,
    ];

    fn read(line: &str) -> Result<Record<'_>, String> {
        let mut record = Record::default();
        record.read_json(line).map_err(|error| error.to_string())?;
        Ok(record)
    }

    fn check(line: &str) {
        let by_serde = serde_json::from_str::<Record<'_>>(line).map_err(|error| error.to_string());
        assert_eq!(read(line), by_serde, "{line}");
    }

    #[test]
    fn what_the_daemon_writes_is_read_without_serde() {
        for line in OWN {
            assert!(plain(line, &mut Record::default()).is_some(), "{line}");
            check(line);
        }
        let record = read(OWN[0]).unwrap();
        let mut again = Vec::new();
        record.write_json(&mut again);
        assert_eq!(std::str::from_utf8(&again).unwrap().trim_end(), OWN[0]);
    }

    #[test]
    fn any_byte_may_be_missing_or_another() {
        for line in OWN {
            for (at, _) in line.char_indices() {
                check(&line[..at]);
                for other in ['"', '\\', ' ', '0', ',', ':', '}', ']', '\n', '\u{7f}', 'é'] {
                    let (head, tail) = line.split_at(at);
                    check(&format!("{head}{other}{tail}"));
                    check(&format!("{head}{other}{}", tail.chars().skip(1).collect::<String>()));
                }
                check(&line.chars().filter(|c| *c != line[at..].chars().next().unwrap()).collect::<String>());
            }
        }
    }

    fn value() -> impl Strategy<Value = String> {
        const ODD: &[&str] = &[
            "null",
            "0",
            "00",
            "128",
            "1024",
            "1025",
            "70000",
            "4294967295",
            "999999999999",
            "-1",
            "1.0",
            "1e2",
            "true",
            "[]",
            "{}",
            "[{}]",
            "[null]",
            r#""""#,
            r#""128""#,
            r#""12 8""#,
            r#""later""#,
            r#""inbound""#,
            r#""Outbound""#,
            r#""pass""#,
            r#""no-rule""#,
            r#""soft-fail""#,
            r#""reject""#,
            r#""recipient-outbound""#,
            r#""a\"b""#,
            r#""\u0041""#,
            "\"a\tb\"",
            r#""2026-11-22T02:07:29Z""#,
            r#""2026-11-22T02:07:29.5+01:00""#,
            r#""2026-02-30T00:00:00.000000Z""#,
            r#""2026-11-22T02:07:60.000000Z""#,
            r#""9999-12-31T00:00:00.000000Z""#,
            r#""2026-11-22 02:07:29.015527Z""#,
            r#""-000001-11-22T02:07:29.015527Z""#,
            r#"[{"rule":"a","side":"client","key":"b","mode":"observe","reason":"c"}]"#,
            r#"[{"rule":"a","side":"client","key":"b","mode":"observe","reason":"c","more":1}]"#,
            r#"[{"side":"client","rule":"a","key":"b","mode":"observe","reason":"c"},{}]"#,
            r#"[{"rule":"a","side":"none","key":"b","mode":"observe","reason":"c"}]"#,
        ];
        prop_oneof![
            6 => prop::sample::select(ODD).prop_map(str::to_owned),
            2 => "\"[ -~é]{0,12}\"",
            1 => "[0-9]{1,6}",
        ]
    }

    fn name() -> impl Strategy<Value = &'static str> {
        prop::sample::select(vec![
            "ts",
            "host",
            "queue_id",
            "direction",
            "client_name",
            "client_addr",
            "client_resolve",
            "server_name",
            "server_addr",
            "sender",
            "recipient",
            "auth",
            "tls_version",
            "cipher",
            "cipher_bits",
            "auth_ssf",
            "verify",
            "cn_subject",
            "cert_subject",
            "cert_issuer",
            "waited",
            "verdict",
            "mode",
            "disposition",
            "rule",
            "side",
            "key",
            "reason",
            "reply",
            "failures",
            "policy",
            "later",
            "Ts",
            "cipher_bits ",
        ])
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]
        #[test]
        fn whatever_the_fields_hold_serde_reads_the_same(
            fields in prop::collection::vec((name(), value()), 0..8),
            blanks in prop::sample::select(vec!["", " ", "  ", "\t"]),
            end in prop::sample::select(vec!["}", "} ", "}\r", "", "},", "}}"]),
        ) {
            let fields: Vec<String> = fields
                .iter()
                .map(|(name, value)| format!("{blanks}\"{name}\"{blanks}:{blanks}{value}{blanks}"))
                .collect();
            check(&format!("{{{}{end}", fields.join(",")));
        }
    }
}
