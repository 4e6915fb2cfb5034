//! One SMTP session, as sendmail 8.17 tells of it.
//!
//! Seen of sendmail: it offers version 6 and everything; a list of macros that the milter negotiates takes the place
//! of that stage's own, and an empty one silences the stage; in the clear there is no TLS macro at all; after `accept`
//! to MAIL nothing more is told of that message; one whose recipients were all refused ends with an abort.

use std::collections::BTreeMap;
use std::io;
use std::time::Instant;

use super::script::{End, Message, Recipient, Script, refusal, strict_refusal};
use super::tally::Tally;
use super::wire::{Frame, Target, Wire, is_cut, string};

/// What sendmail 8.17 offers: its version, all actions, all steps that can be left out.
pub(crate) const OFFER: [u32; 3] = [6, 0x1ff, 0x1f_ffff];
/// The stages that can be left out, by their bits in the negotiation's answer.
pub(crate) const NO_CONNECT: u32 = 0x1;
pub(crate) const NO_HELO: u32 = 0x2;
const NO_MAIL: u32 = 0x4;
const NO_RCPT: u32 = 0x8;
const NO_BODY: u32 = 0x10;
const NO_HEADERS: u32 = 0x20;
const NO_END_OF_HEADERS: u32 = 0x40;
const NO_DATA: u32 = 0x200;

/// The stages of macros, by their numbers in the negotiation.
const AT_CONNECT: u32 = 0;
const AT_HELO: u32 = 1;
const AT_MAIL: u32 = 2;
const AT_RCPT: u32 = 3;

/// sendmail's own lists, for stages of which nothing was negotiated.
const DEFAULTS: [(u32, &str); 3] = [
    (AT_CONNECT, "j _ {daemon_name} {if_name}"),
    (AT_HELO, "{tls_version} {cipher} {cipher_bits} {cert_subject} {cert_issuer}"),
    (AT_MAIL, "i {auth_type} {auth_authen} {auth_ssf} {auth_author} {mail_mailer} {mail_host} {mail_addr}"),
];

/// Why a session did not get to its end.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The milter was gone.
    Cut(io::Error),
    /// It answered, and not what it should.
    Wrong(String),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        if is_cut(&error) { Self::Cut(error) } else { Self::Wrong(error.to_string()) }
    }
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

/// A session under way.
pub(crate) struct Session<'a> {
    wire: Wire,
    steps: u32,
    macros: BTreeMap<u32, Vec<String>>,
    tally: &'a mut Tally,
}

impl<'a> Session<'a> {
    /// Connects and negotiates.
    pub(crate) fn begin(target: &Target, tally: &'a mut Tally) -> Result<Self, Fault> {
        let wire = Wire::connect(target)?;
        let macros = DEFAULTS.iter().map(|(stage, list)| (*stage, names(list))).collect();
        let mut session = Self { wire, steps: 0, macros, tally };
        let offer: Vec<u8> = OFFER.iter().flat_map(|word| word.to_be_bytes()).collect();
        let reply = session.ask(b'O', &offer)?;
        session.negotiated(&reply).ok_or_else(|| Fault::Wrong(format!("to the negotiation: {reply:?}")))?;
        Ok(session)
    }

    fn negotiated(&mut self, reply: &Frame) -> Option<()> {
        let word = |at: usize| reply.payload.get(at..at + 4)?.try_into().ok().map(u32::from_be_bytes);
        if reply.kind != b'O' || word(0)? > 6 {
            return None;
        }
        self.steps = word(8)?;
        let mut at = 12;
        while let Some(stage) = word(at) {
            let list = reply.payload.get(at + 4..)?;
            let end = list.iter().position(|byte| *byte == 0)?;
            let list = std::str::from_utf8(list.get(..end)?).ok()?;
            self.macros.insert(stage, names(list));
            at += 4 + end + 1;
        }
        // What a milter asks for beyond that would change what sendmail does, and so what is done here.
        (self.steps & (NO_MAIL | NO_RCPT) == 0).then_some(())
    }

    /// Plays all of it, but for the negotiation.
    pub(crate) fn play(mut self, script: &Script) -> Result<(), Fault> {
        let host = script.host;
        if self.steps & NO_CONNECT == 0 {
            self.tell(b'C', AT_CONNECT, script, None);
            let name = [string(host.name()), vec![b'4', 0x80, 0], string(host.address())].concat();
            self.go_on(b'C', &name)?;
        }
        if self.steps & NO_HELO == 0 {
            self.tell(b'H', AT_HELO, script, None);
            self.go_on(b'H', &string(host.name()))?;
        }
        for message in &script.messages {
            if !self.message(script, message)? {
                return Ok(());
            }
        }
        self.wire.put(b'Q', b"");
        Ok(self.wire.flush()?)
    }

    /// One message. False where the session ended with it.
    fn message(&mut self, script: &Script, message: &Message) -> Result<bool, Fault> {
        let refused = refusal(script.host, message.bits);
        self.tell(b'M', AT_MAIL, script, Some(message));
        let sender = format!("<a@{}>", script.host.name());
        let mail = self.ask(b'M', &string(&sender))?;
        self.tally.messages += 1;
        match (mail.kind, &refused) {
            // Nothing more is told of it.
            (b'a', None) => {
                self.tally.told(Told { id: message.id.clone(), recipient: None, reply: None });
                return self.end(message.end);
            }
            (b'c', _) => {}
            _ => return Err(wrong(script, message, "MAIL", &mail)),
        }
        if message.recipients.is_empty() && refused.is_some() {
            self.tally.unnamed(&message.id, refused.as_deref());
        }
        let mut taken = false;
        for (number, recipient) in message.recipients.iter().enumerate() {
            let address = recipient.address(number);
            self.tell(b'R', AT_RCPT, script, Some(message));
            let reply = self.ask(b'R', &string(&format!("<{address}>")))?;
            let right = match recipient {
                Recipient::Postmaster => None,
                Recipient::Anyone => refused.clone(),
                // Asked about, though nothing is against the message as a whole: recipients are judged.
                Recipient::Strict => strict_refusal(message.bits),
            };
            let said = match reply.kind {
                b'c' => None,
                b'y' => Some(
                    String::from_utf8_lossy(reply.payload.strip_suffix(&[0]).unwrap_or_default())
                        .into_owned(),
                ),
                _ => return Err(wrong(script, message, &address, &reply)),
            };
            if said != right {
                return Err(wrong(script, message, &address, &reply));
            }
            taken |= said.is_none();
            self.tally.told(Told { id: message.id.clone(), recipient: Some(address), reply: said });
        }
        match message.end {
            End::Whole if taken => {
                self.content()?;
                let reply = self.ask(b'E', b"")?;
                // Either lets the message through.
                if !matches!(reply.kind, b'a' | b'c') {
                    return Err(wrong(script, message, "end of message", &reply));
                }
                Ok(true)
            }
            End::Whole => self.end(End::Reset),
            end => self.end(end),
        }
    }

    /// Header and body, as far as the milter wants them.
    fn content(&mut self) -> Result<(), Fault> {
        if self.steps & NO_DATA == 0 {
            self.go_on(b'T', b"")?;
        }
        if self.steps & NO_HEADERS == 0 {
            self.go_on(b'L', b"Subject\0load\0")?;
        }
        if self.steps & NO_END_OF_HEADERS == 0 {
            self.go_on(b'N', b"")?;
        }
        if self.steps & NO_BODY == 0 {
            self.go_on(b'B', b"load\r\n")?;
        }
        Ok(())
    }

    /// The end of a message that is not sent. False where the session ends with it.
    fn end(&mut self, end: End) -> Result<bool, Fault> {
        match end {
            End::Whole | End::Reset => self.wire.put(b'A', b""),
            End::Quit => self.wire.put(b'Q', b""),
            End::Cut => return Ok(false),
        }
        self.wire.flush()?;
        Ok(end != End::Quit)
    }

    /// Puts a stage's macros before the command that comes; as sendmail, none where there is nothing to tell.
    fn tell(&mut self, command: u8, stage: u32, script: &Script, message: Option<&Message>) {
        let Some(names) = self.macros.get(&stage) else { return };
        let mut payload = vec![command];
        for name in names {
            if let Some(value) = value(name, script, message) {
                payload.extend([string(name), string(&value)].concat());
            }
        }
        if payload.len() > 1 {
            self.wire.put(b'D', &payload);
        }
    }

    fn ask(&mut self, command: u8, payload: &[u8]) -> Result<Frame, Fault> {
        let asked = Instant::now();
        let reply = self.wire.ask(command, payload)?;
        self.tally.latency.note(asked.elapsed());
        Ok(reply)
    }

    fn go_on(&mut self, command: u8, payload: &[u8]) -> Result<(), Fault> {
        let reply = self.ask(command, payload)?;
        let fault = || Fault::Wrong(format!("to {}: {reply:?}", char::from(command)));
        (reply.kind == b'c').then_some(()).ok_or_else(fault)
    }
}

fn names(list: &str) -> Vec<String> {
    list.split_ascii_whitespace().map(str::to_owned).collect()
}

/// What sendmail has for a macro; nothing where it has none.
fn value(name: &str, script: &Script, message: Option<&Message>) -> Option<String> {
    let host = script.host;
    let bits = message.map_or(0, |message| message.bits);
    let tls = |value: &str| (bits > 0).then(|| value.to_owned());
    match name {
        "i" => message.map(|message| message.id.clone()),
        "j" | "{if_name}" => Some("mail.rig.example".to_owned()),
        "_" => Some(format!("{} [{}]", host.name(), host.address())),
        "{client_name}" => Some(host.name().to_owned()),
        "{client_addr}" => Some(host.address().to_owned()),
        "{client_resolve}" => Some("OK".to_owned()),
        "{daemon_name}" => Some("MTA".to_owned()),
        "{mail_mailer}" => Some("esmtp".to_owned()),
        "{mail_host}" => Some(format!("{}.", host.name())),
        "{mail_addr}" => Some(format!("a@{}", host.name())),
        "{tls_version}" => tls("TLSv1.3"),
        "{cipher}" => tls(if bits == 112 { "DES-CBC3-SHA" } else { "TLS_AES_GCM" }),
        "{cipher_bits}" => tls(&bits.to_string()),
        "{verify}" => tls("NOT"),
        "{cn_subject}" | "{cert_subject}" | "{cert_issuer}" => tls(""),
        _ => None,
    }
}

fn wrong(script: &Script, message: &Message, at: &str, reply: &Frame) -> Fault {
    let said = String::from_utf8_lossy(&reply.payload);
    Fault::Wrong(format!(
        "{at}: {} {said:?} was answered in {:?}, {message:?}",
        char::from(reply.kind),
        script.host
    ))
}
