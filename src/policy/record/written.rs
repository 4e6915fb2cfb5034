//! A record's line of JSON, as this program writes it, made into its line of text without a record in between: a log of text
//! costs half of what reading the record back would.
//!
//! Promises: the text is that of the record, to the byte. A line that is any other than what [`Record::write_json`] writes of
//! usual values (it has an escape) is left to whoever reads it.
//!
//! [`Record::write_json`]: super::Record::write_json

use super::write::{FAILED, Text, USUAL_DIRECTION, failed, label};
use std::fmt;

/// What stands before each of the words of a mode that was not met.
const FAILURE: [&str; 5] = ["{\"rule\":\"", ",\"side\":\"", ",\"key\":\"", ",\"mode\":\"", ",\"reason\":\""];

macro_rules! written {
    ($($before:ident)*; failures; $($behind:ident)*) => {
        /// A line that was taken apart: what each field holds, where it is there.
        #[derive(Default)]
        pub struct Written<'l> {
            /// When it was.
            pub ts: &'l str,
            $($before: Option<&'l str>,)*
            failures: Vec<[&'l str; FAILURE.len()]>,
            $($behind: Option<&'l str>,)*
        }

        impl<'l> Written<'l> {
            /// Finds the fields of a line (without its line feed).
            pub fn of(line: &'l str) -> Option<Self> {
                // So a word ends at the next quote.
                if memchr::memchr(b'\\', line.as_bytes()).is_some() {
                    return None;
                }
                let (ts, mut rest) = word(line.strip_prefix("{\"ts\":\"")?)?;
                let mut all = Self { ts, ..Self::default() };
                // A name that is known when this is compiled is compared without a call.
                $(if let Some(behind) = rest.strip_prefix(concat!(",\"", stringify!($before), "\":")) {
                    (all.$before, rest) = value(behind)?;
                })*
                if let Some(behind) = rest.strip_prefix(",\"failures\":[") {
                    rest = failures(behind, &mut all.failures)?;
                }
                $(if let Some(behind) = rest.strip_prefix(concat!(",\"", stringify!($behind), "\":")) {
                    (all.$behind, rest) = value(behind)?;
                })*
                (rest == "}").then_some(all)
            }
        }
    };
}

written! {
    host queue_id direction client_name client_addr client_resolve server_name server_addr sender recipient auth
    tls_version cipher cipher_bits auth_ssf verify cn_subject cert_subject cert_issuer waited
    verdict mode disposition rule side key reason reply; failures; policy
}

impl Written<'_> {
    /// As [`Record::write_text`](super::Record::write_text) does.
    pub fn write_text(&self, out: &mut impl fmt::Write) -> fmt::Result {
        let mut line = Text::begin(self.queue_id, out)?;
        macro_rules! tell {
            ($($name:ident)*) => {
                $(if let Some(value) = self.$name {
                    line.field(label!(stringify!($name)), value)?;
                })*
            };
        }
        tell!(verdict mode disposition rule side key reason reply);
        if let Some(direction) = self.direction
            && direction != USUAL_DIRECTION
        {
            line.field(label!("direction"), direction)?;
        }
        tell!(client_name client_addr client_resolve server_name server_addr sender recipient auth);
        tell!(tls_version cipher cipher_bits auth_ssf verify cn_subject cert_subject cert_issuer waited);
        for [rule, side, key, mode, reason] in &self.failures {
            line.field(FAILED, &failed(mode, rule, side, key, reason))?;
        }
        tell!(host policy);
        Ok(())
    }
}

/// A word or a number, and what is behind it.
fn value(text: &str) -> Option<(Option<&str>, &str)> {
    let (held, rest) = match text.strip_prefix('"') {
        Some(text) => word(text)?,
        None => text.split_at_checked(text.bytes().position(|byte| !byte.is_ascii_digit())?)?,
    };
    Some((Some(held), rest))
}

/// A word up to its quote, and what is behind that.
fn word(text: &str) -> Option<(&str, &str)> {
    let end = memchr::memchr(b'"', text.as_bytes())?;
    Some((text.get(..end)?, text.get(end + 1..)?))
}

/// Finds every mode that was not met; what is behind them.
fn failures<'l>(list: &'l str, found: &mut Vec<[&'l str; FAILURE.len()]>) -> Option<&'l str> {
    let mut rest = list;
    loop {
        let mut words = [""; FAILURE.len()];
        for (before, held) in FAILURE.iter().zip(&mut words) {
            (*held, rest) = word(rest.strip_prefix(before)?)?;
        }
        found.push(words);
        match rest.strip_prefix("},") {
            Some(next) => rest = next,
            None => return rest.strip_prefix("}]"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::record::Record;

    const LINES: [&str; 4] = [
        r#"{"ts":"2026-11-22T02:07:29.015527Z","host":"mail.here.example","queue_id":"6AM27Tre020552","direction":"inbound","client_name":"inbound","client_addr":"2001:db8::7","client_resolve":"OK","sender":"a=b@partner.example","recipient":"dést@here.example","auth":"","tls_version":"TLSv1.3","cipher":"TLS_AES_256_GCM_SHA384","cipher_bits":256,"auth_ssf":0,"verify":"OK","cn_subject":"mx 1","cert_subject":"/CN=mx,1","cert_issuer":"/CN=Rig+20CA","waited":7,"verdict":"pass","mode":"enforce","disposition":"accept","rule":"partner","side":"client","key":"partner.example","reason":"x","reply":"454 4.7.0 later","policy":"0123456789ab"}"#,
        r#"{"ts":"2026-11-22T02:07:29.000000Z","direction":"outbound","server_name":"mx.far.example","verdict":"no-rule","disposition":"accept","policy":"0123456789ab"}"#,
        r#"{"ts":"2026-11-22T02:07:29.000000Z","direction":"inbound"}"#,
        r#"{"ts":"2026-11-22T02:07:29.000000Z","direction":"outbound","cipher_bits":0,"waited":300,"verdict":"fail","failures":[{"rule":"far","side":"recipient-outbound","key":"[far]","mode":"soft-fail","reason":"encryption too weak 0 less than 168"},{"rule":"far, 2","side":"server","key":"*","mode":"observe","reason":""}],"policy":"0123456789ab"}"#,
    ];

    #[test]
    fn what_is_written_as_a_rule_is_told_without_being_read() {
        for line in LINES {
            let written = Written::of(line).expect(line);
            assert_eq!(written.ts, &line[7..34], "{line}");
            let mut text = String::new();
            written.write_text(&mut text).unwrap();
            assert_eq!(text, serde_json::from_str::<Record<'_>>(line).unwrap().to_string());
        }
    }

    #[test]
    fn whatever_else_is_left_to_who_reads_it() {
        for (from, to) in [
            (r#""ts""#, r#""later":1,"ts""#),
            (r#""direction""#, r#""failures":[],"direction""#),
            (r#"bound","#, r#"b\u006fund","#),
            ("29.0", r#"29.0","ts":"0"#),
            ("{", "{ "),
            ("{", "{{"),
            ("}", "}}"),
            ("}", ","),
            (r#""}"#, ""),
            (r#""direction":"#, r#""direction":null,"direction":"#),
            (r#""},{"#, r#""},,{"#),
            (r#""},{"#, r#"","more":""},{"#),
            (r#","policy""#, ""),
            (r#""}],"#, r#""}]"#),
        ] {
            let odd = LINES.map(|line| line.replacen(from, to, 1));
            assert_ne!(odd, LINES.map(str::to_owned), "{from} is in none");
            for odd in odd.iter().filter(|odd| !LINES.contains(&odd.as_str())) {
                assert!(Written::of(odd).is_none(), "{odd}");
            }
        }
        for line in LINES {
            for (end, _) in line.char_indices() {
                assert!(Written::of(&line[..end]).is_none(), "{}", &line[..end]);
            }
        }
        assert!(Written::of("").is_none() && Written::of("{}").is_none());
    }
}
