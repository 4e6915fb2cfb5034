//! A decision record as somebody feeds it back: any JSON, an object a line. What can be judged is judged, keeps the promises,
//! and what is written of that, read again, is the same to the letter.
#![no_main]

use encr_milter::policy::decide::decide;
use encr_milter::policy::record::Record;
use encr_milter_fuzz::{check, memory, now, policies};
use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((policy, line)) = input.split_first() else { return };
    let policy = &policies::any(*policy).policy;
    let by_serde = memory::bounded(line.len(), 500, || serde_json::from_slice::<Record<'_>>(line));
    // The quick reader says the same.
    if let Ok(text) = std::str::from_utf8(line) {
        let mut read = Record::default();
        let outcome = memory::bounded(line.len(), 500, || read.read_json(text));
        assert_eq!(outcome.is_ok().then_some(&read), by_serde.as_ref().ok());
    }
    let Ok(record) = by_serde else { return };
    let facts = record.facts();
    // What is judged again keeps its own time stamp, as far as it is written.
    let ts = record.ts.unwrap_or(now());
    let ts = Timestamp::from_microsecond(ts.as_microsecond()).expect("a time stamp");
    let decision = decide(policy, &facts, record.envelope(), record.day(now()));
    check::decision(&decision);
    check::record(&Record::new(ts, &facts, record.envelope(), &decision, policy.fingerprint()), policy);
});
