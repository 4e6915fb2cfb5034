//! Frames of sendmail's socket map against the whole outbound session: questions as the snippet asks them, with whatever in
//! their fields, and any other bytes, whole and in pieces.
//!
//! One answer to each netstring, in the words that the rulesets take apart; nothing but a rule in soft-fail defers and
//! nothing but one in enforce bounces; every refusal has its record; how the bytes were cut changes nothing.
#![no_main]

use arbitrary::Arbitrary;
use encr_milter::outbound;
use encr_milter::policy::decide::Disposition;
use encr_milter::policy::rule::Mode;
use encr_milter::sendmail::socket_map::netstring;
use encr_milter_fuzz::memory;
use encr_milter_fuzz::policies::{self, Trial};
use encr_milter_fuzz::session::{IDLE, Outcome, converse};
use encr_milter_fuzz::text::Word;
use encr_milter_fuzz::wire;
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
struct Input {
    policy: u8,
    waited: u32,
    frames: Vec<Frame>,
    pieces: Vec<u8>,
}

#[derive(Arbitrary, Debug)]
enum Frame {
    Question(Box<Question>),
    /// A netstring of anything.
    Netstring(Vec<u8>),
    /// No netstring, perhaps.
    Bytes(Vec<u8>),
}

/// As sendmail asks it: each value quoted.
#[derive(Arbitrary, Debug)]
struct Question {
    recipient: Option<Word>,
    host: Word,
    queue_id: Word,
    server_name: Word,
    server_addr: Word,
    verify: Word,
    version: Word,
    cipher: Word,
    bits: Word,
    auth_ssf: Word,
    cn: Word,
    /// Issuer and subject.
    names: Option<(Word, Word)>,
    /// A key that is too long is cut: so much of its end is missing.
    cut: u8,
}

impl Question {
    fn content(&self) -> Vec<u8> {
        let (kind, recipient) = match &self.recipient {
            Some(recipient) => (b"rcpt".as_slice(), recipient.c_string()),
            None => (b"server".as_slice(), b"".as_slice()),
        };
        let values = [
            &self.host,
            &self.queue_id,
            &self.server_name,
            &self.server_addr,
            &self.verify,
            &self.version,
            &self.cipher,
            &self.bits,
            &self.auth_ssf,
            &self.cn,
        ];
        let names = self.names.iter().flat_map(|(issuer, subject)| [issuer.c_string(), subject.c_string()]);
        let values = values.into_iter().map(Word::c_string).chain([recipient]).chain(names);
        let mut content = [b"encr_milter ".as_slice(), kind].concat();
        for value in values {
            content.push(0x9b);
            for byte in value {
                content.extend(matches!(byte, 0x7f | 0x9b).then_some(0x7f));
                content.push(*byte);
            }
        }
        content.extend_from_slice(b"\x9bend");
        let whole = content.len().min(60_000);
        content.truncate(whole.saturating_sub(usize::from(self.cut / 8)));
        content
    }

    fn is_whole(&self) -> bool {
        self.cut < 8
    }
}

impl Frame {
    fn bytes(&self) -> Vec<u8> {
        let framed = |content: &[u8]| [format!("{}:", content.len()).as_bytes(), content, b","].concat();
        match self {
            Self::Question(question) => framed(&question.content()),
            Self::Netstring(content) => framed(content),
            Self::Bytes(bytes) => bytes.clone(),
        }
    }
}

fn run(trial: &Trial, waited: u32, pieces: Vec<Vec<u8>>) -> Outcome {
    converse(trial, waited, pieces, async |wire, world, drain| {
        outbound::serve(wire, world, drain, IDLE).await
    })
}

/// What the answers are, taken apart as sendmail would.
fn answers(mut said: &[u8]) -> Vec<&str> {
    let mut answers = Vec::new();
    while !said.is_empty() {
        let (content, length) = netstring(said).expect("a netstring").expect("a whole one");
        answers.push(std::str::from_utf8(content).expect("ASCII"));
        said = &said[length..];
    }
    answers
}

/// Whether an answer refuses, and how.
fn refusal(answer: &str) -> Disposition {
    let Some(refusal) = answer.strip_prefix("OK ").filter(|rest| *rest != "names") else {
        assert!(
            ["OK names", "NOTFOUND ", "PERM not a question of sendmail-outbound.mc"].contains(&answer),
            "{answer}"
        );
        return Disposition::Accept;
    };
    assert!(
        refusal.bytes().all(|b| (b' '..=b'~').contains(&b)) && !refusal.contains(['(', ')', '\\']),
        "{answer}"
    );
    let (disposition, text) = if let Some(text) = refusal.strip_prefix("454:4.7.0:") {
        (Disposition::Tempfail, text)
    } else {
        let text = refusal.strip_prefix("550:5.7.10:").or_else(|| refusal.strip_prefix("554:5.7.0:"));
        (Disposition::Reject, text.unwrap_or_else(|| panic!("{answer}")))
    };
    // Quoted strings with a blank between them, none longer than sendmail's tokens may be.
    let inner =
        text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or_else(|| panic!("{answer}"));
    assert!(inner.split("\" \"").all(|piece| !piece.contains('"') && piece.len() <= 250), "{answer}");
    disposition
}

fuzz_target!(|input: Input| {
    let trial = policies::any(input.policy);
    let frames: Vec<Vec<u8>> = input.frames.iter().map(Frame::bytes).collect();
    let whole = frames.concat();
    let stepwise = memory::bounded(whole.len(), 200, || run(trial, input.waited, frames.clone()));
    let said = stepwise.said.borrow();
    let answers = answers(&said.bytes);

    let hardest = match trial.hardest {
        Mode::Observe => Disposition::Accept,
        Mode::SoftFail => Disposition::Tempfail,
        Mode::Enforce => Disposition::Reject,
    };
    let dispositions: Vec<Disposition> = answers.iter().map(|answer| refusal(answer)).collect();
    let rank = |disposition: &Disposition| *disposition as u8;
    assert!(dispositions.iter().all(|done| rank(done) <= rank(&hardest)), "{:?}: {answers:?}", trial.hardest);
    let refusals = |all: &[Disposition]| {
        all.iter().filter(|done| **done != Disposition::Accept).copied().collect::<Vec<_>>()
    };
    let recorded: Vec<Disposition> = stepwise.records.iter().map(|seen| seen.disposition).collect();
    assert_eq!(
        refusals(&recorded),
        refusals(&dispositions),
        "every refusal has its record, and nothing else has"
    );
    assert!(stepwise.records.len() <= answers.len(), "a question has one record at the most");
    for seen in &stepwise.records {
        assert!(seen.disposition == Disposition::Accept || seen.mode <= Some(trial.hardest));
    }

    // Up to the first bytes that are no netstring, each has its answer; a whole question of the snippet is understood.
    let clean = input.frames.iter().take_while(|frame| !matches!(frame, Frame::Bytes(_)));
    for (frame, answer) in clean.zip(answers.iter().map(Some).chain(std::iter::repeat(None))) {
        let answer = answer.expect("each netstring has an answer");
        if let Frame::Question(question) = frame {
            assert!(!question.is_whole() || !answer.starts_with("PERM"), "{answer}");
            assert!(question.names.is_none() || *answer != "OK names", "asked for what was told");
        }
    }

    let pieces = run(trial, input.waited, wire::cut(&whole, &input.pieces));
    assert_eq!(pieces.said.borrow().bytes, said.bytes, "how the bytes were cut");
    assert_eq!(pieces.records, stepwise.records, "how the bytes were cut");
    assert_eq!(pieces.ended, stepwise.ended, "how the bytes were cut");
});
