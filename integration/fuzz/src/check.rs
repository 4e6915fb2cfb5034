//! What must hold of every decision, reply, record and diagnostic.

use encr_milter::diagnostics::{Diagnostics, Sources};
use encr_milter::policy::Policy;
use encr_milter::policy::decide::{Decision, Disposition, Verdict, decide};
use encr_milter::policy::record::Record;
use encr_milter::policy::reply::Reply;
use encr_milter::policy::rule::Mode;

/// A character that could end a line, hide one, or turn its direction where somebody reads it.
pub fn breaks_a_line(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// What sendmail passes on unharmed, and what the design asks for.
pub fn reply(reply: &Reply, disposition: Disposition) {
    let (wire, shown) = (reply.wire(), reply.to_string());
    assert!(wire.bytes().all(|b| (b' '..=b'~').contains(&b) && b != b'(' && b != b')'), "{wire}");
    assert!(wire.len() <= 980, "{} bytes: {wire}", wire.len());
    assert!(shown.len() <= 512, "{} bytes: {shown}", shown.len());
    // Every `%` is doubled, and nothing else is.
    assert_eq!(wire.replace("%%", ""), wire.replace('%', ""), "a lone %: {wire}");
    assert_eq!(wire.replace("%%", "%"), shown);
    let expected: &[(u16, &str)] = match disposition {
        Disposition::Tempfail => &[(454, "4.7.0")],
        Disposition::Reject => &[(550, "5.7.10"), (554, "5.7.0")],
        Disposition::Accept => &[],
    };
    assert!(expected.contains(&(reply.code(), reply.status())), "{disposition:?}: {wire}");
    assert!(wire.starts_with(&format!("{} {} ", reply.code(), reply.status())), "{wire}");
}

/// The one total function, and what follows from it.
pub fn decision(decision: &Decision<'_>) {
    let expected = match (decision.verdict, decision.mode) {
        (Verdict::Fail, Some(Mode::Enforce)) => Disposition::Reject,
        (Verdict::Fail, Some(Mode::SoftFail)) => Disposition::Tempfail,
        _ => Disposition::Accept,
    };
    assert_eq!(decision.disposition, expected);
    assert_eq!(
        decision.reply().is_some(),
        expected != Disposition::Accept,
        "a refusal has a reply, and nothing else has"
    );
    if let Some(said) = decision.reply() {
        reply(&said, decision.disposition);
    }
    if decision.verdict == Verdict::Fail {
        assert!(decision.failures().next().is_some(), "what failed is told");
    }
}

/// One line, in JSON and as text, that a reader takes for what was written; and fed back, the same decision. Gives the
/// line.
pub fn record(record: &Record<'_>, policy: &Policy) -> Vec<u8> {
    let mut json = Vec::new();
    record.write_json(&mut json);
    let line = std::str::from_utf8(&json).expect("JSON is UTF-8");
    let line = line.strip_suffix('\n').expect("a line has an end");
    assert!(!line.contains(breaks_a_line), "{line:?}");
    let text = record.to_string();
    assert!(!text.contains(breaks_a_line), "{text:?}");

    let read: Record<'_> = serde_json::from_str(line).expect("a record is a record's input");
    assert_eq!(&read, record, "{line}");
    let facts = read.facts();
    let again = decide(policy, &facts, read.envelope(), read.day(jiff::Timestamp::UNIX_EPOCH));
    decision(&again);
    let ts = read.ts.unwrap_or(crate::now());
    let again = Record::new(ts, &facts, read.envelope(), &again, policy.fingerprint());
    let mut second = Vec::new();
    again.write_json(&mut second);
    assert_eq!(String::from_utf8_lossy(&second), String::from_utf8_lossy(&json), "fed back");
    json
}

/// What is wrong with files can be told: drawn, as lines, as JSON, and with a place that is there.
pub fn diagnostics(diagnostics: &Diagnostics, sources: &Sources) {
    for diagnostic in diagnostics.iter() {
        assert!(!diagnostic.message.is_empty() && !diagnostic.code.is_empty());
        assert!(
            diagnostic.code.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'),
            "{}",
            diagnostic.code
        );
        if let Some(place) = &diagnostic.place {
            let text = &sources.get(place.file).expect("a place is in a file").text;
            assert!(
                place.span.start <= text.len(),
                "[{}] at {:?} of {}",
                diagnostic.code,
                place.span,
                text.len()
            );
        }
    }
    let shown = diagnostics.iter().count();
    for colour in [false, true] {
        let drawn = diagnostics.render(sources, colour);
        assert!(diagnostics.iter().all(|diagnostic| drawn.contains(diagnostic.code)), "{drawn}");
    }
    // A log line that is made of them is escaped where it is written.
    assert_eq!(diagnostics.lines(sources).count(), shown);
    let records = serde_json::to_string(&diagnostics.records(sources)).expect("JSON");
    let back: Vec<serde_json::Value> = serde_json::from_str(&records).expect("JSON");
    assert_eq!(back.len(), shown);
    assert_eq!(diagnostics.has_errors(), diagnostics.errors() > 0);
}
