//! A line of JSON: a decision record, or something else.
//!
//! Promises: records of older and newer versions are read leniently; the other events of a daemon that logs JSON are
//! told from records without being parsed.

use crate::policy::record::Record;
use memchr::memmem;

/// The daemon's name in syslog.
const NAME: &[u8] = b"encr-milter";

/// No JSON, or not whole.
#[derive(Debug)]
pub(super) struct Broken;

/// Reads a line that begins with `{` into a new record: a decision record, or the part of one that can be judged. False
/// where it is something else, an event of the daemon's log or another program's object.
pub(super) fn read<'a>(line: &'a [u8], record: &mut Record<'a>) -> Result<bool, Broken> {
    if is_event(line) {
        return Ok(false);
    }
    // Checked at once, not word by word.
    let line = std::str::from_utf8(line).map_err(|_| Broken)?;
    record.read_json(line).map_err(|_| Broken)?;
    Ok(can_be_judged(record))
}

/// Whether the line is one of the daemon's log, `{"ts":"…","level":…`.
fn is_event(line: &[u8]) -> bool {
    let ts = line.strip_prefix(br#"{"ts":""#);
    let behind = ts.and_then(|ts| Some(ts.split_at_checked(memchr::memchr(b'"', ts)?)?.1));
    behind.is_some_and(|behind| behind.starts_with(br#"","level":"#))
}

/// Whether it says anything that a policy is held against.
fn can_be_judged(record: &Record<'_>) -> bool {
    let told = [
        &record.client_name,
        &record.client_addr,
        &record.server_name,
        &record.server_addr,
        &record.sender,
        &record.recipient,
        &record.auth,
        &record.tls_version,
        &record.cipher,
        &record.verify,
    ];
    record.verdict.is_some() || record.cipher_bits.is_some() || told.iter().any(|told| told.is_some())
}

/// The object in a line that syslog wrote for the daemon: `… encr-milter[PID]: {…}`. Only directly behind the
/// daemon's own name: other programs log what clients sent, and that may look like anything.
pub(super) fn in_syslog(line: &[u8]) -> Option<&[u8]> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.last() != Some(&b'}') {
        return None;
    }
    if line.first() == Some(&b'<')
        && let Some(content) = rfc5424(line)
    {
        return Some(content);
    }
    let colon = memmem::find(line, b": ")?;
    let (before, behind) = line.split_at_checked(colon)?;
    let tag = before.rsplit(|b| *b == b' ').next()?;
    let name = tag.split(|b| *b == b'[').next()?;
    let object = behind.get(2..)?;
    (name == NAME && object.starts_with(b"{")).then_some(object)
}

/// The object in RFC 5424's order: `<30>1 TIME HOST encr-milter PID - - {…}`.
fn rfc5424(line: &[u8]) -> Option<&[u8]> {
    let mut words = line.splitn(8, |byte| *byte == b' ');
    let is_version_1 = words.next()?.ends_with(b">1");
    let is_own = words.nth(2)? == NAME;
    let has_no_data = words.nth(2)? == b"-";
    let object = words.next()?;
    let object = object.strip_prefix("\u{feff}".as_bytes()).unwrap_or(object);
    (is_version_1 && is_own && has_no_data && object.starts_with(b"{")).then_some(object)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_told_from_other_objects() {
        let kind = |line: &str| match read(line.as_bytes(), &mut Record::default()) {
            Ok(true) => "decision",
            Ok(false) => "other",
            Err(Broken) => "broken",
        };
        for (line, expected) in [
            (
                r#"{"ts":"2026-11-18T11:06:40.123456Z","direction":"inbound","client_addr":"192.0.2.7"}"#,
                "decision",
            ),
            (r#"{"client_addr":"192.0.2.7"}"#, "decision"),
            (r#"{"verdict":"no-rule","later_field":{"a":[1]}}"#, "decision"),
            (r#"{"cipher_bits":"128"}"#, "decision"),
            (
                r#"{"ts":"2026-11-18T11:06:40.123456Z","level":"info","message":"listening","sender":"x"}"#,
                "other",
            ),
            (r#"{"__CURSOR":"s=1","MESSAGE":"hello"}"#, "other"),
            ("{}", "other"),
            (r#"{"client_addr":"192.0."#, "broken"),
            ("{ rubbish }", "broken"),
            (r#"{"ts":"#, "broken"),
        ] {
            assert_eq!(kind(line), expected, "{line}");
        }
        assert!(read(b"{\"sender\":\"\xff\"}", &mut Record::default()).is_err());
    }

    #[test]
    fn in_syslog_only_the_daemons_own_word_counts() {
        let object = br#"{"client_addr":"192.0.2.7"}"#;
        for (prefix, is) in [
            ("Nov 22 02:07:29 mta encr-milter[77]: ", true),
            ("2026-11-22T02:07:29.015527+00:00 mta encr-milter[77]: ", true),
            ("2026-11-22T02:07:29.015527+00:00 mta encr-milter: ", true),
            ("Nov 22 02:07:29 mta sm-mta[77]: 4AM: from=<a>, msgid=encr-milter[77]: ", false),
            ("<30>1 2026-11-22T02:07:29.015527Z mta encr-milter 77 - - ", true),
            ("<30>1 2026-11-22T02:07:29.015527Z mta encr-milter 77 - - \u{feff}", true),
            ("<22>1 2026-11-22T02:07:29.015527Z mta sm-mta 77 - - ", false),
            ("<22>1 2026-11-22T02:07:29.015527Z mta sm-mta 77 - - encr-milter 77 - - ", false),
            ("Nov 22 02:07:29 mta sm-mta[77]: ", false),
            ("Nov 22 02:07:29 mta encr-milter[77]: x ", false),
        ] {
            let line = [prefix.as_bytes(), object].concat();
            assert_eq!(in_syslog(&line), is.then_some(object.as_slice()), "{prefix}");
        }
        assert_eq!(in_syslog(b"}"), None);
    }
}
