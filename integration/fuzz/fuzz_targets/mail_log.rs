//! sendmail's mail log, line by line: any bytes will do. Every record is one line and can be judged; reading twice gives
//! the same, whatever ends the lines; memory does not grow with what is read.
#![no_main]

use encr_milter::policy::decide::decide;
use encr_milter::policy::record::Record;
use encr_milter::sendmail::mail_log::{Joiner, Options, Tally, is_syslog, stamp_of};
use encr_milter_fuzz::{TODAY, check, memory, now, policies};
use libfuzzer_sys::fuzz_target;

fn options(each: bool) -> Options {
    Options { recipients: each, deliveries: each, zone: jiff::tz::TimeZone::UTC, reference: now() }
}

fn join<'l>(lines: impl Iterator<Item = &'l [u8]>, each: bool) -> (Vec<Vec<u8>>, Tally) {
    let policy = &policies::any(6).policy;
    let mut records = Vec::new();
    let mut emit = |record: &Record<'_>| {
        let mut json = Vec::new();
        record.write_json(&mut json);
        let line = std::str::from_utf8(&json).expect("JSON is UTF-8").trim_end_matches('\n');
        assert!(!line.contains(check::breaks_a_line), "{line:?}");
        assert!(!record.to_string().contains(check::breaks_a_line), "{record}");
        let read: Record<'_> = serde_json::from_str(line).expect("a record is a record's input");
        // Time stamps are written in microseconds, whatever the log has.
        let mut again = Vec::new();
        read.write_json(&mut again);
        assert_eq!(String::from_utf8_lossy(&again).trim_end_matches('\n'), line);
        // What sendmail itself did may stand in it; a verdict is ours to give.
        assert!(record.ts.is_some() && record.verdict.is_none() && record.policy.is_none(), "{line}");
        let facts = record.facts();
        check::decision(&decide(policy, &facts, record.envelope(), TODAY));
        records.push(json);
    };
    let mut joiner = Joiner::new(options(each));
    for line in lines {
        joiner.line(line, &mut emit);
    }
    joiner.finish(&mut emit);
    let tally = joiner.tally().clone();
    (records, tally)
}

fuzz_target!(|log: &[u8]| {
    let lines = || log.split(|byte| *byte == b'\n');
    for line in lines() {
        if let Some((_, host)) = stamp_of(line, &options(false)) {
            assert!(is_syslog(line) && !host.is_empty(), "{line:?}");
        }
    }
    for each in [false, true] {
        let (records, tally) = memory::bounded(log.len(), 500, || join(lines(), each));
        assert_eq!(tally.lines, lines().count() as u64);
        assert_eq!((&records, &tally), (&join(lines(), each).0, &join(lines(), each).1));
        if !log.contains(&b'\r') {
            let crlf: Vec<Vec<u8>> = lines().map(|line| [line, b"\r"].concat()).collect();
            assert_eq!(
                join(crlf.iter().map(Vec::as_slice), each),
                (records, tally),
                "as Windows would send it"
            );
        }
    }
});
