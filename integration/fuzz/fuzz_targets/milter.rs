//! Frames of the milter protocol against the whole session: in any order, of any length, with whatever macros, whole and
//! in pieces.
//!
//! Each frame is held against what the protocol and the design say of it: what is answered, when the connection ends, and
//! which records there are: one for a message that is settled at MAIL, one for each recipient that is judged, one at
//! the end of a transaction that would have been refused but named no recipient. Nothing but a rule in soft-fail
//! defers, nothing but one in enforce refuses, and observe changes nothing. How the bytes were cut changes nothing.
#![no_main]

use arbitrary::Arbitrary;
use encr_milter::milter::connection;
use encr_milter::policy::decide::Disposition;
use encr_milter::policy::rule::Mode;
use encr_milter_fuzz::memory;
use encr_milter_fuzz::policies::{self, Trial};
use encr_milter_fuzz::session::{IDLE, Outcome, converse};
use encr_milter_fuzz::text::Word;
use encr_milter_fuzz::wire;
use encr_milter_fuzz::world::Seen;
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
    Negotiate {
        version: u8,
        actions: u32,
        options: u32,
    },
    /// For MAIL, as sendmail tells them.
    Macros(Vec<(Macro, Word)>),
    /// For another command.
    OtherMacros(u8, Vec<(Macro, Word)>),
    Mail(Word, Vec<Word>),
    Rcpt(Word, Vec<Word>),
    EndOfMessage,
    Abort,
    Helo(Word),
    /// What we ask not to be sent: connect, data, headers, body, unknown commands.
    Unasked(u8, Vec<u8>),
    QuitNewConnection,
    Quit,
    /// Any command with any payload.
    Any(u8, Vec<u8>),
    /// A length that its frame does not have.
    Length(u32, Vec<u8>),
}

#[derive(Arbitrary, Debug)]
enum Macro {
    QueueId,
    Host,
    ClientAddr,
    ClientName,
    ClientResolve,
    TlsVersion,
    Cipher,
    CipherBits,
    Verify,
    CnSubject,
    CertSubject,
    CertIssuer,
    AuthType,
    AuthAuthen,
    AuthSsf,
    Other(Word),
}

impl Macro {
    fn name(&self) -> &[u8] {
        match self {
            Self::QueueId => b"i",
            Self::Host => b"j",
            Self::ClientAddr => b"{client_addr}",
            Self::ClientName => b"{client_name}",
            Self::ClientResolve => b"{client_resolve}",
            Self::TlsVersion => b"{tls_version}",
            Self::Cipher => b"{cipher}",
            Self::CipherBits => b"{cipher_bits}",
            Self::Verify => b"{verify}",
            Self::CnSubject => b"{cn_subject}",
            Self::CertSubject => b"{cert_subject}",
            Self::CertIssuer => b"{cert_issuer}",
            Self::AuthType => b"{auth_type}",
            Self::AuthAuthen => b"{auth_authen}",
            Self::AuthSsf => b"{auth_ssf}",
            Self::Other(word) => word.c_string(),
        }
    }
}

/// What a frame is to the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Negotiation,
    Silent,
    Mail,
    Rcpt,
    EndOfMessage,
    /// Ends what is under way, and is answered.
    Ends,
    /// The same, not answered.
    EndsSilently,
    Continue,
    Quit,
    /// What it is, and what comes behind it, is not reckoned here.
    Unclear,
}

fn strings<'w>(words: impl IntoIterator<Item = &'w [u8]>) -> Vec<u8> {
    words.into_iter().flat_map(|word| [word, b"\0"].concat()).collect()
}

fn macros(stage: u8, pairs: &[(Macro, Word)]) -> Vec<u8> {
    let words = strings(pairs.iter().flat_map(|(name, value)| [name.name(), value.c_string()]));
    [[stage].as_slice(), &words].concat()
}

fn arguments(first: &Word, more: &[Word]) -> Vec<u8> {
    strings([first.c_string()].into_iter().chain(more.iter().map(Word::c_string)))
}

impl Frame {
    fn kind(&self) -> Kind {
        match self {
            Self::Negotiate { .. } => Kind::Negotiation,
            Self::Macros(_) | Self::OtherMacros(..) => Kind::Silent,
            Self::Mail(..) => Kind::Mail,
            Self::Rcpt(..) => Kind::Rcpt,
            Self::EndOfMessage => Kind::EndOfMessage,
            Self::Abort | Self::QuitNewConnection => Kind::EndsSilently,
            Self::Helo(_) => Kind::Ends,
            Self::Unasked(which, _) if which % 6 == 0 => Kind::Ends,
            Self::Unasked(..) => Kind::Continue,
            Self::Quit => Kind::Quit,
            Self::Any(..) | Self::Length(..) => Kind::Unclear,
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let (kind, payload) = match self {
            Self::Negotiate { version, actions, options } => {
                let parts = [u32::from(*version), *actions, *options];
                (b'O', parts.iter().flat_map(|part| part.to_be_bytes()).collect())
            }
            Self::Macros(pairs) => (b'D', macros(b'M', pairs)),
            Self::OtherMacros(stage, pairs) => (b'D', macros(*stage, pairs)),
            Self::Mail(first, more) => (b'M', arguments(first, more)),
            Self::Rcpt(first, more) => (b'R', arguments(first, more)),
            Self::EndOfMessage => (b'E', Vec::new()),
            Self::Abort => (b'A', Vec::new()),
            Self::Helo(word) => (b'H', arguments(word, &[])),
            Self::Unasked(which, payload) => (b"CTLNBU"[usize::from(which % 6)], payload.clone()),
            Self::QuitNewConnection => (b'K', Vec::new()),
            Self::Quit => (b'Q', Vec::new()),
            Self::Any(kind, payload) => (*kind, payload.clone()),
            Self::Length(length, rest) => return [&length.to_be_bytes(), rest.as_slice()].concat(),
        };
        let length = u32::try_from(payload.len() + 1).expect("an input has no such length");
        [&length.to_be_bytes(), [kind].as_slice(), &payload].concat()
    }
}

fn run(trial: &Trial, waited: u32, pieces: Vec<Vec<u8>>) -> Outcome {
    converse(trial, waited, pieces, async |wire, world, drain| {
        connection::serve(wire, world, drain, IDLE).await
    })
}

/// Replies, taken apart as an MTA would.
fn replies(mut said: &[u8]) -> Vec<(u8, &[u8])> {
    let mut replies = Vec::new();
    while !said.is_empty() {
        let (length, rest) = said.split_first_chunk().expect("a length");
        let length = u32::from_be_bytes(*length) as usize;
        let (frame, rest) = rest.split_at_checked(length).expect("a whole frame");
        let (kind, payload) = frame.split_first().expect("a kind");
        replies.push((*kind, payload));
        said = rest;
    }
    replies
}

/// A transaction whose fate is open.
#[derive(Clone, Copy, Debug, Default)]
struct Open {
    named_recipient: bool,
}

/// What is known of a session from outside.
struct Model {
    open: Option<Open>,
}

impl Model {
    /// A transaction ends: at most one record, of one that would have been refused and named nobody. Gives the others.
    fn end<'s>(&mut self, records: &'s [Seen]) -> &'s [Seen] {
        let open = self.open.take();
        match records.split_first() {
            Some((first, others)) if !first.recipient && first.disposition != Disposition::Accept => {
                assert!(open.is_some_and(|open| !open.named_recipient), "{first:?} of {open:?}");
                others
            }
            _ => records,
        }
    }

    fn frame(&mut self, kind: Kind, replies: &[(u8, &[u8])], records: &[Seen]) {
        let only = || {
            assert_eq!(replies.len(), 1, "{kind:?}: {replies:?}");
            replies[0]
        };
        match kind {
            Kind::Negotiation => {
                assert_eq!(only().0, b'O');
                assert_eq!(records, []);
            }
            Kind::Silent => assert!(replies.is_empty() && records.is_empty(), "{replies:?} {records:?}"),
            Kind::Continue => {
                assert_eq!(only(), (b'c', b"".as_slice()));
                assert_eq!(records, []);
            }
            Kind::Mail => {
                let own = self.end(records);
                match only() {
                    (b'a', b"") => {
                        assert!(
                            matches!(own, [seen] if !seen.recipient && seen.disposition == Disposition::Accept),
                            "{own:?}"
                        );
                    }
                    (b'c', b"") => {
                        assert_eq!(own, []);
                        self.open = Some(Open::default());
                    }
                    // Refusals are given at RCPT.
                    other => panic!("at MAIL: {other:?}"),
                }
            }
            Kind::Rcpt => {
                let reply = only();
                let Some(open) = &mut self.open else {
                    assert_eq!(reply, (b'c', b"".as_slice()));
                    assert_eq!(records, []);
                    return;
                };
                open.named_recipient = true;
                let [seen] = records else {
                    panic!("a recipient that is judged has one record: {records:?}")
                };
                assert!(seen.recipient);
                match (&seen.reply, reply) {
                    (None, (b'c', b"")) => assert_eq!(seen.disposition, Disposition::Accept),
                    (Some(text), (b'y', payload)) => assert_eq!([text.as_bytes(), b"\0"].concat(), payload),
                    (recorded, said) => panic!("recorded {recorded:?}, said {said:?}"),
                }
            }
            Kind::EndOfMessage => {
                assert_eq!(only(), (b'a', b"".as_slice()));
                assert_eq!(self.end(records), []);
            }
            Kind::Ends => {
                assert_eq!(only(), (b'c', b"".as_slice()));
                assert_eq!(self.end(records), []);
            }
            Kind::EndsSilently => {
                assert!(replies.is_empty());
                assert_eq!(self.end(records), []);
            }
            Kind::Quit => panic!("the connection goes on behind QUIT"),
            Kind::Unclear => {}
        }
    }
}

fuzz_target!(|input: Input| {
    let trial = policies::any(input.policy);
    let frames: Vec<Vec<u8>> = input.frames.iter().map(Frame::bytes).collect();
    let whole = frames.concat();
    let Outcome { said, records, ended } =
        memory::bounded(whole.len(), 200, || run(trial, input.waited, frames));
    let said = said.borrow();

    let mut model = Model { open: None };
    for (number, frame) in input.frames.iter().enumerate() {
        let kind = frame.kind();
        if kind == Kind::Unclear {
            break;
        }
        let before =
            said.before.get(number).copied().unwrap_or_else(|| panic!("ended before {frame:?}: {ended:?}"));
        let Some(after) = said.before.get(number + 1) else {
            // Only these end a connection: a QUIT, an MTA too old.
            let too_old = matches!(frame, Frame::Negotiate { version: 0 | 1, .. }) && ended.is_err();
            assert!(too_old || (kind == Kind::Quit && ended.is_ok()), "{frame:?}: {ended:?}");
            assert_eq!(said.bytes.len(), before.0, "nothing is said at the end");
            assert_eq!(model.end(&records[before.1..]), []);
            break;
        };
        model.frame(kind, &replies(&said.bytes[before.0..after.0]), &records[before.1..after.1]);
    }

    let hardest = trial.hardest;
    for seen in &records {
        match seen.disposition {
            Disposition::Accept => assert_eq!(seen.reply, None),
            Disposition::Tempfail => assert!(hardest >= Mode::SoftFail && seen.mode == Some(Mode::SoftFail)),
            Disposition::Reject => assert!(hardest == Mode::Enforce && seen.mode == Some(Mode::Enforce)),
        }
    }
    for (kind, payload) in replies(&said.bytes) {
        match kind {
            b'a' | b'c' => assert_eq!(payload, b""),
            b'O' => assert!(payload.len() >= 12),
            b'y' if payload.starts_with(b"454 4.7.0 ") => assert!(hardest >= Mode::SoftFail),
            b'y' if payload.starts_with(b"55") => assert_eq!(hardest, Mode::Enforce),
            _ => panic!("said {kind}: {payload:?}"),
        }
    }

    let pieces = run(trial, input.waited, wire::cut(&whole, &input.pieces));
    assert_eq!(pieces.said.borrow().bytes, said.bytes, "how the bytes were cut");
    assert_eq!(pieces.records, records, "how the bytes were cut");
    assert_eq!(pieces.ended, ended, "how the bytes were cut");
});
