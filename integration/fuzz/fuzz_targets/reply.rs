//! Refusals: whatever stands in a rule's name, a reason, a contact, the reply is one line of printable ASCII with a code and
//! a status of one class, at a length that sendmail passes on, and without what sendmail would not pass on.
#![no_main]

use arbitrary::Arbitrary;
use encr_milter::policy::decide::Disposition;
use encr_milter::policy::reply::{Refusal, Reply};
use encr_milter::policy::requirement::{Requirement, TlsVersion};
use encr_milter::sendmail::socket_map::{Answer, netstring};
use encr_milter_fuzz::check;
use encr_milter_fuzz::text::Word;
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
struct Input {
    soft: bool,
    plaintext: bool,
    min_bits: Option<u16>,
    min_version: u8,
    verify: bool,
    reason: Word,
    rule: Word,
    contact: Option<Word>,
}

fuzz_target!(|input: Input| {
    let text = |word: &Word| String::from_utf8_lossy(&word.0).into_owned();
    let (reason, rule, contact) = (text(&input.reason), text(&input.rule), input.contact.as_ref().map(text));
    let requirement = Requirement {
        min_bits: input.min_bits,
        min_version: TlsVersion::NAMES
            .get(usize::from(input.min_version))
            .and_then(|name| TlsVersion::from_policy(name)),
        verify: input.verify,
        ..Requirement::default()
    };
    let refusal = Refusal {
        reason: &reason,
        requirement: &requirement,
        plaintext: input.plaintext,
        rule: &rule,
        contact: contact.as_deref(),
    };
    let (reply, disposition) = if input.soft {
        (Reply::tempfail(refusal), Disposition::Tempfail)
    } else {
        (Reply::reject(refusal), Disposition::Reject)
    };
    check::reply(&reply, disposition);
    assert_eq!(reply.status() == "5.7.10", input.plaintext && !input.soft);

    // Over the socket map: one netstring, its text in quoted strings that sendmail takes.
    let mut out = Vec::new();
    Answer::Refuse(&reply).write(&mut out);
    let (content, length) = netstring(&out).expect("a netstring").expect("a whole one");
    assert_eq!(length, out.len());
    let answer = std::str::from_utf8(content).expect("ASCII");
    let quoted = answer
        .strip_prefix(&format!("OK {}:{}:\"", reply.code(), reply.status()))
        .and_then(|rest| rest.strip_suffix('"'))
        .unwrap_or_else(|| panic!("{answer}"));
    // A quoted string of more than 254 bytes breaks the ruleset off, and mail is delivered.
    assert!(
        quoted.split("\" \"").all(|piece| piece.len() <= 254 && !piece.contains(['"', '\\'])),
        "{answer}"
    );
    let joined = quoted.replace("\" \"", "");
    assert_eq!(joined, reply.text().replace('"', "'").replace('\\', "/"), "nothing is lost");
});
