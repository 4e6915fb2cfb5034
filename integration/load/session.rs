//! One SMTP session, as sendmail 8.17 tells of it: what is said, and what must be answered. Without a socket.
//!
//! Seen of sendmail: it offers version 6 and everything; a list of macros that the milter negotiates takes the place
//! of that stage's own, and an empty one silences the stage; in the clear there is no TLS macro at all; after `accept`
//! to MAIL nothing more is told of that message, its end neither; one whose recipients were all refused ends with an
//! abort. Each frame is a write of its own. QUIT is the last word, and is not waited for; QUIT_NC it never says.

use super::dialect::{
    AT_CONNECT, AT_END_OF_MESSAGE, AT_HELO, AT_MAIL, AT_RCPT, Dialect, Dialects, OFFER, Stage, step,
};
use super::script::End;
use super::tally::Tally;
use super::wire::frame_of;
use std::rc::Rc;

/// Who connects, and the messages that it brings.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    pub(crate) name: String,
    pub(crate) address: String,
    pub(crate) mails: Vec<Mail>,
}

/// A message, and what becomes of it.
#[derive(Clone, Debug)]
pub(crate) struct Mail {
    pub(crate) id: String,
    /// Without angle brackets.
    pub(crate) sender: String,
    /// Bits of its TLS session; 0 in the clear.
    pub(crate) bits: u32,
    /// The refusal that is due, at RCPT; nothing where the message itself may pass.
    pub(crate) refusal: Option<String>,
    pub(crate) recipients: Vec<Recipient>,
    pub(crate) end: End,
}

/// A recipient, and what must be said to it if it is asked about.
#[derive(Clone, Debug)]
pub(crate) struct Recipient {
    /// Without angle brackets.
    pub(crate) address: String,
    pub(crate) refusal: Option<String>,
}

/// What was said to a message or a recipient, in the words of the decision's record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) id: String,
    /// Nothing where it was said of the whole message.
    pub(crate) recipient: Option<String>,
    /// The refusal; nothing where it was let through.
    pub(crate) reply: Option<String>,
}

/// Frames to be sent, and where each of them ends.
#[derive(Debug, Default)]
pub(crate) struct Out {
    pub(crate) bytes: Vec<u8>,
    pub(crate) ends: Vec<usize>,
}

impl Out {
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    pub(crate) fn put(&mut self, kind: u8, pieces: &[&[u8]]) {
        frame_of(&mut self.bytes, kind, pieces);
        self.ends.push(self.bytes.len());
    }
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// The frames are to be sent, and an answer comes to the last of them.
    Ask,
    /// The frames are to be sent, and the connection closed.
    Over,
}

/// What an answer is due to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    Negotiation,
    Connect,
    Helo,
    Mail,
    Rcpt,
    Data,
    Header,
    EndOfHeaders,
    Body,
    EndOfMessage,
}

/// A session under way.
#[derive(Debug)]
pub(crate) struct Session {
    client: Client,
    dialect: Rc<Dialect>,
    asked: Asked,
    mail: usize,
    recipient: usize,
    /// Whether a recipient of this message was taken.
    taken: bool,
}

impl Session {
    /// Begins to negotiate.
    pub(crate) fn begin(client: Client, dialects: &Dialects, out: &mut Out) -> Self {
        let [version, actions, steps] = OFFER.map(u32::to_be_bytes);
        out.put(b'O', &[&version, &actions, &steps]);
        let dialect = dialects.last();
        Self { client, dialect, asked: Asked::Negotiation, mail: 0, recipient: 0, taken: false }
    }

    pub(crate) fn asked(&self) -> Asked {
        self.asked
    }

    /// Takes an answer, and puts what comes next.
    pub(crate) fn answered(
        &mut self,
        (kind, payload): (u8, &[u8]),
        dialects: &mut Dialects,
        out: &mut Out,
        tally: &mut Tally,
    ) -> Result<Step, String> {
        match (self.asked, kind) {
            (Asked::Negotiation, b'O') => {
                self.dialect = dialects.of(payload).ok_or_else(|| self.wrong(kind, payload))?;
                self.go_on(Asked::Connect, out, tally)
            }
            (Asked::Mail, b'a') if self.mail().is_some_and(|mail| mail.refusal.is_none()) => {
                if let Some(mail) = self.mail() {
                    tally.told(&mail.id, None, None);
                }
                // Nothing more is told of it.
                self.ended(false, out, tally)
            }
            (Asked::Rcpt, b'c' | b'y') => self.recipient_answered(kind, payload, out, tally),
            // Either lets the message through.
            (Asked::EndOfMessage, b'a' | b'c') => self.ended(false, out, tally),
            (Asked::Body, b's') if self.dialect.has(step::SKIP) => {
                self.go_on(Asked::EndOfMessage, out, tally)
            }
            (
                Asked::Connect
                | Asked::Helo
                | Asked::Mail
                | Asked::Data
                | Asked::Header
                | Asked::EndOfHeaders
                | Asked::Body,
                b'c',
            ) => self.continued(out, tally),
            _ => Err(self.wrong(kind, payload)),
        }
    }

    fn mail(&self) -> Option<&Mail> {
        self.client.mails.get(self.mail)
    }

    /// After `continue`, or where none is sent.
    fn continued(&mut self, out: &mut Out, tally: &mut Tally) -> Result<Step, String> {
        let next = match self.asked {
            Asked::Negotiation => Asked::Connect,
            Asked::Connect => Asked::Helo,
            Asked::Helo => Asked::Mail,
            Asked::Mail => return self.recipients(out, tally),
            Asked::Rcpt => return self.recipient_answered(b'c', b"", out, tally),
            Asked::Data => Asked::Header,
            Asked::Header => Asked::EndOfHeaders,
            Asked::EndOfHeaders => Asked::Body,
            Asked::Body => Asked::EndOfMessage,
            Asked::EndOfMessage => return self.ended(false, out, tally),
        };
        self.go_on(next, out, tally)
    }

    /// Puts the stage, if the milter wants it; if it wants it and answers nothing, or does not want it, the next.
    fn go_on(&mut self, stage: Asked, out: &mut Out, tally: &mut Tally) -> Result<Step, String> {
        self.asked = stage;
        let dialect = Rc::clone(&self.dialect);
        let (left_out, unanswered) = match stage {
            Asked::Negotiation | Asked::EndOfMessage => (0, 0),
            Asked::Connect => (step::NO_CONNECT, step::NO_REPLY_CONNECT),
            Asked::Helo => (step::NO_HELO, step::NO_REPLY_HELO),
            Asked::Mail => (step::NO_MAIL, step::NO_REPLY_MAIL),
            Asked::Rcpt => (step::NO_RCPT, step::NO_REPLY_RCPT),
            Asked::Data => (step::NO_DATA, step::NO_REPLY_DATA),
            Asked::Header => (step::NO_HEADERS, step::NO_REPLY_HEADER),
            Asked::EndOfHeaders => (step::NO_END_OF_HEADERS, step::NO_REPLY_END_OF_HEADERS),
            Asked::Body => (step::NO_BODY, step::NO_REPLY_BODY),
        };
        if stage == Asked::Mail && self.mail().is_none() {
            out.put(b'Q', &[]);
            return Ok(Step::Over);
        }
        if dialect.has(left_out) && left_out != 0 {
            return self.continued(out, tally);
        }
        self.put(stage, &dialect, out);
        if stage == Asked::Mail {
            tally.messages += 1;
        }
        if dialect.has(unanswered) && unanswered != 0 { self.continued(out, tally) } else { Ok(Step::Ask) }
    }

    /// A stage's macros, as sendmail none where there is nothing to tell, and its command.
    fn put(&self, stage: Asked, dialect: &Dialect, out: &mut Out) {
        let client = &self.client;
        let mail = self.mail();
        let recipient = mail.and_then(|mail| mail.recipients.get(self.recipient));
        let tell = |command: u8, at: Stage, out: &mut Out| {
            dialect.tell(command, at, (client, mail, recipient), out);
        };
        match stage {
            Asked::Negotiation => {}
            Asked::Connect => {
                tell(b'C', AT_CONNECT, out);
                // A family, a port of which nothing is told, an address.
                out.put(b'C', &[client.name.as_bytes(), b"\x004\x80\x00", client.address.as_bytes(), b"\0"]);
            }
            Asked::Helo => {
                tell(b'H', AT_HELO, out);
                out.put(b'H', &[client.name.as_bytes(), b"\0"]);
            }
            Asked::Mail => {
                tell(b'M', AT_MAIL, out);
                let sender = mail.map_or("", |mail| mail.sender.as_str());
                out.put(b'M', &[b"<", sender.as_bytes(), b">\0"]);
            }
            Asked::Rcpt => {
                tell(b'R', AT_RCPT, out);
                let address = recipient.map_or("", |recipient| recipient.address.as_str());
                out.put(b'R', &[b"<", address.as_bytes(), b">\0"]);
            }
            Asked::Data => out.put(b'T', &[]),
            Asked::Header => out.put(b'L', &[b"Subject\0load\0"]),
            Asked::EndOfHeaders => out.put(b'N', &[]),
            Asked::Body => out.put(b'B', &[b"load\r\n"]),
            Asked::EndOfMessage => {
                tell(b'E', AT_END_OF_MESSAGE, out);
                out.put(b'E', &[]);
            }
        }
    }

    /// The first recipient, after MAIL.
    fn recipients(&mut self, out: &mut Out, tally: &mut Tally) -> Result<Step, String> {
        (self.recipient, self.taken) = (0, false);
        if let Some(mail) = self.mail()
            && mail.recipients.is_empty()
        {
            if mail.refusal.is_some() {
                // It has its record at its end.
                tally.told(&mail.id, None, mail.refusal.as_deref());
            }
            return self.all_named(out, tally);
        }
        self.go_on(Asked::Rcpt, out, tally)
    }

    fn recipient_answered(
        &mut self,
        kind: u8,
        payload: &[u8],
        out: &mut Out,
        tally: &mut Tally,
    ) -> Result<Step, String> {
        let named = self.mail().and_then(|mail| Some((mail, mail.recipients.get(self.recipient)?)));
        let (mail, recipient) = named.ok_or_else(|| self.wrong(kind, payload))?;
        let said = (kind == b'y').then(|| payload.strip_suffix(&[0]).unwrap_or_default());
        if said != recipient.refusal.as_deref().map(str::as_bytes) {
            return Err(self.wrong(kind, payload));
        }
        tally.told(&mail.id, Some(&recipient.address), recipient.refusal.as_deref());
        let is_last = self.recipient + 1 == mail.recipients.len();
        self.taken |= said.is_none();
        if is_last {
            return self.all_named(out, tally);
        }
        self.recipient += 1;
        self.go_on(Asked::Rcpt, out, tally)
    }

    /// All recipients were named.
    fn all_named(&mut self, out: &mut Out, tally: &mut Tally) -> Result<Step, String> {
        let whole = self.mail().is_some_and(|mail| mail.end == End::Whole);
        if whole && self.taken { self.go_on(Asked::Data, out, tally) } else { self.ended(true, out, tally) }
    }

    /// The end of a message; `open` is one in the midst of which the milter is.
    fn ended(&mut self, open: bool, out: &mut Out, tally: &mut Tally) -> Result<Step, String> {
        let end = self.mail().map_or(End::Quit, |mail| mail.end);
        self.mail += 1;
        match end {
            End::Cut => return Ok(Step::Over),
            End::Quit => self.mail = self.client.mails.len(),
            End::Whole | End::Reset if open => out.put(b'A', &[]),
            End::Whole | End::Reset => {}
        }
        self.go_on(Asked::Mail, out, tally)
    }

    fn wrong(&self, kind: u8, payload: &[u8]) -> String {
        let said = String::from_utf8_lossy(payload);
        format!(
            "to {:?}: {} {said:?} was answered to {} [{}], {:?}, recipient {}",
            self.asked,
            char::from(kind),
            self.client.name,
            self.client.address,
            self.mail(),
            self.recipient
        )
    }
}
