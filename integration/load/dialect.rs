//! What sendmail 8.17 offers, what a milter makes of it, and the macros that sendmail then tells.
//!
//! Promises: a list that was negotiated stands in the place of sendmail's own; a macro that has no value is left out, and
//! with it the frame that would be empty. What one milter negotiates again and again is worked out once.

use std::rc::Rc;

use super::session::{Client, Mail, Out, Recipient};

/// What sendmail 8.17 offers: its version, all actions, all steps that can be left out.
pub(crate) const OFFER: [u32; 3] = [6, 0x1ff, 0x1f_ffff];

/// Steps that a milter can leave out, or leave unanswered, by their bits in its answer.
pub(crate) mod step {
    pub(crate) const NO_CONNECT: u32 = 0x1;
    pub(crate) const NO_HELO: u32 = 0x2;
    pub(crate) const NO_MAIL: u32 = 0x4;
    pub(crate) const NO_RCPT: u32 = 0x8;
    pub(crate) const NO_BODY: u32 = 0x10;
    pub(crate) const NO_HEADERS: u32 = 0x20;
    pub(crate) const NO_END_OF_HEADERS: u32 = 0x40;
    pub(crate) const NO_REPLY_HEADER: u32 = 0x80;
    pub(crate) const NO_DATA: u32 = 0x200;
    pub(crate) const SKIP: u32 = 0x400;
    pub(crate) const NO_REPLY_CONNECT: u32 = 0x1000;
    pub(crate) const NO_REPLY_HELO: u32 = 0x2000;
    pub(crate) const NO_REPLY_MAIL: u32 = 0x4000;
    pub(crate) const NO_REPLY_RCPT: u32 = 0x8000;
    pub(crate) const NO_REPLY_DATA: u32 = 0x1_0000;
    pub(crate) const NO_REPLY_END_OF_HEADERS: u32 = 0x4_0000;
    pub(crate) const NO_REPLY_BODY: u32 = 0x8_0000;
}

/// A stage of macros, by its number in the negotiation.
pub(crate) type Stage = usize;
pub(crate) const AT_CONNECT: Stage = 0;
pub(crate) const AT_HELO: Stage = 1;
pub(crate) const AT_MAIL: Stage = 2;
pub(crate) const AT_RCPT: Stage = 3;
pub(crate) const AT_END_OF_MESSAGE: Stage = 5;
const STAGES: usize = 7;

/// sendmail's own lists, for stages of which nothing was negotiated.
const DEFAULTS: [(Stage, &str); 5] = [
    (AT_CONNECT, "j _ {daemon_name} {if_name}"),
    (AT_HELO, "{tls_version} {cipher} {cipher_bits} {cert_subject} {cert_issuer}"),
    (AT_MAIL, "i {auth_type} {auth_authen} {auth_ssf} {auth_author} {mail_mailer} {mail_host} {mail_addr}"),
    (AT_RCPT, "{rcpt_mailer} {rcpt_host} {rcpt_addr}"),
    (AT_END_OF_MESSAGE, "{msg_id}"),
];

/// The macros that have a value here. sendmail knows more of them; none of those has one in these sessions.
const KNOWN: [&str; 22] = [
    "i",
    "j",
    "v",
    "_",
    "{if_name}",
    "{daemon_name}",
    "{client_name}",
    "{client_addr}",
    "{client_resolve}",
    "{mail_mailer}",
    "{mail_host}",
    "{mail_addr}",
    "{tls_version}",
    "{cipher}",
    "{cipher_bits}",
    "{verify}",
    "{cn_subject}",
    "{cert_subject}",
    "{cert_issuer}",
    "{rcpt_mailer}",
    "{rcpt_host}",
    "{rcpt_addr}",
];

/// What a milter negotiated.
#[derive(Debug)]
pub(crate) struct Dialect {
    steps: u32,
    macros: [Vec<&'static str>; STAGES],
}

impl Default for Dialect {
    fn default() -> Self {
        let mut macros: [Vec<&'static str>; STAGES] = Default::default();
        for (stage, list) in DEFAULTS {
            if let Some(names) = macros.get_mut(stage) {
                *names = known(list);
            }
        }
        Self { steps: 0, macros }
    }
}

fn known(list: &str) -> Vec<&'static str> {
    let asked = list.split_ascii_whitespace();
    asked.filter_map(|name| KNOWN.into_iter().find(|known| *known == name)).collect()
}

impl Dialect {
    /// Reads an answer to the negotiation.
    fn read(payload: &[u8]) -> Option<Self> {
        let word = |at: usize| payload.get(at..at + 4)?.try_into().ok().map(u32::from_be_bytes);
        if word(0)? > 6 {
            return None;
        }
        let mut dialect = Self { steps: word(8)?, ..Self::default() };
        let mut at = 12;
        while let Some(stage) = word(at) {
            let list = payload.get(at + 4..)?;
            let end = list.iter().position(|byte| *byte == 0)?;
            let names = known(std::str::from_utf8(list.get(..end)?).ok()?);
            *dialect.macros.get_mut(usize::try_from(stage).ok()?)? = names;
            at += 4 + end + 1;
        }
        // Without these there is nothing to hold an answer against.
        (dialect.steps & (step::NO_MAIL | step::NO_RCPT) == 0).then_some(dialect)
    }

    pub(crate) fn has(&self, step: u32) -> bool {
        self.steps & step == step
    }

    /// Puts a stage's macros; none where there is nothing to tell.
    pub(crate) fn tell(
        &self,
        command: u8,
        stage: Stage,
        (client, mail, recipient): (&Client, Option<&Mail>, Option<&Recipient>),
        out: &mut Out,
    ) {
        let Some(names) = self.macros.get(stage).filter(|names| !names.is_empty()) else { return };
        let begin = out.bytes.len();
        out.bytes.extend([0, 0, 0, 0, b'D', command]);
        let empty = out.bytes.len();
        for name in names {
            let undo = out.bytes.len();
            out.bytes.extend_from_slice(name.as_bytes());
            out.bytes.push(0);
            if value(name, client, mail, recipient, &mut out.bytes).is_some() {
                out.bytes.push(0);
            } else {
                out.bytes.truncate(undo);
            }
        }
        if out.bytes.len() == empty {
            out.bytes.truncate(begin);
            return;
        }
        let length = u32::try_from(out.bytes.len() - begin - 4).unwrap_or(u32::MAX);
        if let Some(head) = out.bytes.get_mut(begin..begin + 4) {
            head.copy_from_slice(&length.to_be_bytes());
        }
        out.ends.push(out.bytes.len());
    }
}

/// Puts what sendmail has for a macro; nothing where it has none.
fn value(
    name: &str,
    client: &Client,
    mail: Option<&Mail>,
    recipient: Option<&Recipient>,
    out: &mut Vec<u8>,
) -> Option<()> {
    let bits = mail.map_or(0, |mail| mail.bits);
    let tls = |value: &'static str| (bits > 0).then_some(value);
    let mut put = |pieces: &[&str]| {
        for piece in pieces {
            out.extend_from_slice(piece.as_bytes());
        }
        Some(())
    };
    let one = match name {
        "i" => mail?.id.as_str(),
        "j" | "{if_name}" => "mail.rig.example",
        "v" => "8.17.1.9",
        "_" => return put(&[&client.name, " [", &client.address, "]"]),
        "{client_name}" => &client.name,
        "{client_addr}" => &client.address,
        "{client_resolve}" => "OK",
        "{daemon_name}" => "MTA",
        "{mail_mailer}" => mail.map(|_| "esmtp")?,
        "{mail_host}" => return put(&[mail?.sender.split_once('@')?.1, "."]),
        "{mail_addr}" => mail?.sender.as_str(),
        "{rcpt_mailer}" => recipient.map(|_| "local")?,
        "{rcpt_host}" => recipient?.address.split_once('@')?.1,
        "{rcpt_addr}" => recipient?.address.as_str(),
        "{tls_version}" => tls(if bits == 112 { "TLSv1.2" } else { "TLSv1.3" })?,
        "{cipher}" => tls(match bits {
            112 => "DES-CBC3-SHA",
            128 => "TLS_AES_128_GCM_SHA256",
            _ => "TLS_AES_256_GCM_SHA384",
        })?,
        "{cipher_bits}" => match bits {
            0 => return None,
            112 => "112",
            128 => "128",
            256 => "256",
            other => return put(&[&other.to_string()]),
        },
        "{verify}" => tls("NOT")?,
        "{cn_subject}" | "{cert_subject}" | "{cert_issuer}" => tls("")?,
        _ => return None,
    };
    put(&[one])
}

/// The dialects of the milters that are talked to.
#[derive(Debug, Default)]
pub(crate) struct Dialects {
    last: Option<(Vec<u8>, Rc<Dialect>)>,
}

impl Dialects {
    /// That of the last answer: what a session begins with.
    pub(crate) fn last(&self) -> Rc<Dialect> {
        self.last.as_ref().map_or_else(Rc::default, |(_, dialect)| Rc::clone(dialect))
    }

    /// That of an answer to the negotiation; nothing where it is none.
    pub(crate) fn of(&mut self, payload: &[u8]) -> Option<Rc<Dialect>> {
        match &self.last {
            Some((bytes, dialect)) if bytes == payload => Some(Rc::clone(dialect)),
            _ => {
                let dialect = Rc::new(Dialect::read(payload)?);
                self.last = Some((payload.to_vec(), Rc::clone(&dialect)));
                Some(dialect)
            }
        }
    }
}
