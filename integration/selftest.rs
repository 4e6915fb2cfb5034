//! The rig tests itself: a case that holds is made wrong in one place, and must fail for that reason.

use crate::rig::case::play::play;
use crate::rig::case::schema::Case;
use crate::rig::{Result, Rig};

/// A case that holds.
const RIGHT: &str = r#"
about = "A case that holds."
policy = '''
version = 1
[exempt]
networks = []
[[rule]]
name = "partner"
client = ["partner.example"]
soft-fail = { min-bits = 128 }
'''
steps = [
    { connect = "127.0.0.2" },
    { ehlo = "mx.partner.example" },
    { mail = "<anna@partner.example>" },
    { rcpt = "<bob@rig.example>", reply = "454 4.7.0 encryption needed, STARTTLS with at least 128 bits, rule partner" },
    { say = "QUIT", starts = "221" },
]
records = [{ disposition = "tempfail", cipher_bits = 0, failures = [{ mode = "soft-fail" }], absent = ["cipher"] }]
[log-counts]
"no such words" = 0
"#;

/// What is changed in it, into what, and what is then said of it.
const WRONG: &[(&str, &str, &str, &str)] = &[
    ("reply-text", "at least 128 bits, rule", "at least 129 bits, rule", "step 4, RCPT TO:<bob@rig.example>"),
    ("reply-code", "reply = \"454", "reply = \"450", "expected  450"),
    (
        "reply-left-out",
        ", reply = \"454 4.7.0 encryption needed, STARTTLS with at least 128 bits, rule partner\"",
        "",
        "expected  250 2.1.5",
    ),
    (
        "record-value",
        "disposition = \"tempfail\"",
        "disposition = \"reject\"",
        "disposition: expected \"reject\"",
    ),
    ("record-number", "cipher_bits = 0", "cipher_bits = 128", "cipher_bits: expected 128"),
    ("record-inside", "mode = \"soft-fail\"", "mode = \"enforce\"", "failures: expected"),
    ("record-field-missing", "cipher_bits = 0", "cipher = \"AES\"", "cipher: expected \"AES\", is absent"),
    ("record-field-present", "absent = [\"cipher\"]", "absent = [\"reply\"]", "reply: expected absent"),
    ("record-missing", "records = [{", "records = [{}, {", "expected 2 records, there are 1"),
    (
        "record-too-many",
        "{ say = \"QUIT\", starts = \"221\" }",
        "{ rcpt = \"<eve@rig.example>\", starts = \"454\" }",
        "expected 1 records, there are 2",
    ),
    ("log-count", "\"no such words\" = 0", "\"no such words\" = 1", "expected 1 log lines"),
    ("exit-code", "about =", "exit = 3\nabout =", "expected exit code 3"),
    ("unknown-word", "ehlo =", "helo =", "unknown field `helo`"),
    ("two-verbs", "{ ehlo =", "{ mail = \"<>\", ehlo =", "exactly one verb"),
];

pub(crate) type Test = Box<dyn FnOnce(&Rig) -> Result<()> + Send>;

/// All self-tests, by name.
pub(crate) fn all() -> Vec<(String, Test)> {
    let right: Test = Box::new(|rig| attempt(rig, "rig", RIGHT));
    let empty: Test = Box::new(|_| expects_nothing());
    let wrong = WRONG.iter().map(|(name, from, to, says)| {
        let test: Test = Box::new(|rig| fails(rig, name, from, to, says));
        (format!("rig-sees-{name}"), test)
    });
    [
        ("rig-passes-what-holds".to_owned(), right),
        ("rig-refuses-a-case-without-expectation".to_owned(), empty),
    ]
    .into_iter()
    .chain(wrong)
    .collect()
}

fn attempt(rig: &Rig, tag: &str, text: &str) -> Result<()> {
    play(rig, tag, &Case::parse(text)?)
}

fn fails(rig: &Rig, name: &str, from: &str, to: &str, says: &str) -> Result<()> {
    if RIGHT.matches(from).count() != 1 {
        return Err(format!("{from:?} is not there exactly once"));
    }
    match attempt(rig, &format!("rig-{name}"), &RIGHT.replacen(from, to, 1)) {
        Err(fault) if fault.contains(says) => Ok(()),
        Err(fault) => Err(format!("expected a fault with {says:?}, it is: {fault}")),
        Ok(()) => Err("a wrong case has passed".to_owned()),
    }
}

fn expects_nothing() -> Result<()> {
    match Case::parse("about = 'nothing'\nsteps = [{ connect = '127.0.0.2' }]\nrecords = []") {
        Err(fault) if fault.contains("expects nothing") => Ok(()),
        other => Err(format!("a case that expects nothing: {other:?}")),
    }
}
