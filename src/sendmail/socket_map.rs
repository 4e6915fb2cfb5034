//! sendmail's socket map: netstrings on the wire, and what `config/sendmail-outbound.mc` asks in them.
//!
//! A request is `name key`, an answer a word and a text: `OK value`, `NOTFOUND `, `TEMP text`, `TIMEOUT text`,
//! `PERM text`. The key has fields between the bytes that sendmail writes for `$|`; the same byte within a value
//! comes with [`QUOTE`] before it.
//!
//! Promises: whatever comes is a request, more to come, or a fault that says what is wrong; no value can be
//! taken for a separator. An answer comes out of sendmail's rulesets as it went in.

use crate::policy::facts::Told;
use crate::policy::reply::Reply;
use std::borrow::Cow;

/// `$|` on the wire.
const SEPARATOR: u8 = 0x9b;
/// What sendmail puts before a byte of a value that is one of its own.
const QUOTE: u8 = 0x7f;
/// The largest request. sendmail itself sends no more than some 1,030 bytes.
pub const MAX_REQUEST: usize = 64 * 1024;
/// So many digits has the length of the largest.
const MAX_DIGITS: usize = 5;
/// A quoted string is one token to sendmail, and a token has at most 256 bytes.
const MAX_TOKEN: usize = 200;

/// What is wrong with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The bytes are no netstring: nothing that follows could be understood.
    #[error("no netstring")]
    NotANetstring,
    /// Longer than is taken.
    #[error("a request of more than {MAX_REQUEST} bytes")]
    TooLarge,
}

/// Finds the next netstring: its content, and how many bytes it took; nothing where more has to come.
pub fn netstring(bytes: &[u8]) -> Result<Option<(&[u8], usize)>, Fault> {
    let digits = bytes.iter().take_while(|b| b.is_ascii_digit()).count();
    if digits > MAX_DIGITS {
        return Err(Fault::TooLarge);
    }
    let Some((head, rest)) = bytes.split_at_checked(digits) else { return Ok(None) };
    match rest.first() {
        None => return Ok(None),
        Some(b':') if digits > 0 => {}
        Some(_) => return Err(Fault::NotANetstring),
    }
    let length = head.iter().fold(0usize, |sum, digit| sum * 10 + usize::from(digit - b'0'));
    if length > MAX_REQUEST {
        return Err(Fault::TooLarge);
    }
    let start = digits + 1;
    match (bytes.get(start..start + length), bytes.get(start + length)) {
        (Some(content), Some(b',')) => Ok(Some((content, start + length + 1))),
        (Some(_), Some(_)) => Err(Fault::NotANetstring),
        _ => Ok(None),
    }
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request<'r> {
    /// One recipient; absent where the connection as a whole is asked about.
    pub recipient: Option<Cow<'r, [u8]>>,
    /// Whether the certificate's long names were sent, as far as there was room.
    pub has_names: bool,
    fields: Vec<Cow<'r, [u8]>>,
}

/// The fields of a key, in order; behind them the issuer and the subject where they were asked for, and [`END`].
const FIELDS: usize = 12;
const KIND: usize = 0;
const RECIPIENT: usize = 11;
const ISSUER: usize = 12;
const SUBJECT: usize = 13;
/// Ends a key. sendmail cuts a long one without a word: then it is missing, and the last field is not whole.
const END: &[u8] = b"end";

impl<'r> Request<'r> {
    /// Reads a request. `None` for one that is not of our snippet, or was cut before the names.
    pub fn parse(content: &'r [u8]) -> Option<Self> {
        let space = content.iter().position(|b| *b == b' ')?;
        let mut fields = split(content.get(space + 1..)?);
        // What was cut is not told; what stands before it is.
        let last = fields.pop()?;
        let is_cut = last.as_ref() != END;
        if fields.len() < FIELDS || fields.len() > SUBJECT + 1 {
            return None;
        }
        let recipient = match fields.get(KIND)?.as_ref() {
            b"server" => None,
            b"rcpt" => fields.get(RECIPIENT).cloned(),
            _ => return None,
        };
        let has_names = is_cut || fields.len() > FIELDS;
        Some(Self { recipient, has_names, fields })
    }

    /// What sendmail told.
    pub fn told(&self) -> Told<'_> {
        let field = |at: usize| self.fields.get(at).map(AsRef::as_ref);
        Told {
            host: field(1),
            queue_id: field(2),
            peer_name: field(3),
            peer_addr: field(4),
            verify: field(5),
            tls_version: field(6),
            cipher: field(7),
            cipher_bits: field(8),
            auth_ssf: field(9),
            cn_subject: field(10),
            cert_subject: field(SUBJECT),
            cert_issuer: field(ISSUER),
            ..Told::default()
        }
    }
}

/// Takes a key apart at its separators, and takes the quotes out of its values.
fn split(key: &[u8]) -> Vec<Cow<'_, [u8]>> {
    let mut fields = Vec::with_capacity(SUBJECT + 2);
    let mut start = 0;
    let mut at = 0;
    while let Some(&byte) = key.get(at) {
        match byte {
            QUOTE => at += 1,
            SEPARATOR => {
                fields.push(unquoted(key.get(start..at).unwrap_or_default()));
                start = at + 1;
            }
            _ => {}
        }
        at += 1;
    }
    fields.push(unquoted(key.get(start..).unwrap_or_default()));
    fields
}

fn unquoted(value: &[u8]) -> Cow<'_, [u8]> {
    if !value.contains(&QUOTE) {
        return Cow::Borrowed(value);
    }
    let mut out = Vec::with_capacity(value.len());
    let mut bytes = value.iter();
    while let Some(&byte) = bytes.next() {
        // One at the end quotes nothing, and is itself.
        out.push(if byte == QUOTE { bytes.next().copied().unwrap_or(QUOTE) } else { byte });
    }
    Cow::Owned(out)
}

/// What to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer<'a> {
    /// We have nothing to say: sendmail goes on as if it had not asked.
    NotFound,
    /// Ask again, with the certificate's names.
    Names,
    /// Refuse, with this.
    Refuse(&'a Reply),
    /// This is no question of our snippet.
    NotUnderstood,
}

impl Answer<'_> {
    /// Appends the answer as a netstring.
    pub fn write(&self, out: &mut Vec<u8>) {
        let text: Cow<'_, str> = match self {
            Self::NotFound => "NOTFOUND ".into(),
            Self::Names => "OK names".into(),
            // The rulesets take it apart again at the colons. Quoted, for what is not quoted loses its blanks at
            // commas, and its parentheses.
            Self::Refuse(reply) => {
                format!("OK {}:{}:{}", reply.code(), reply.status(), quoted(reply.text())).into()
            }
            Self::NotUnderstood => "PERM not a question of sendmail-outbound.mc".into(),
        };
        out.extend_from_slice(text.len().to_string().as_bytes());
        out.push(b':');
        out.extend_from_slice(text.as_bytes());
        out.push(b',');
    }
}

/// A text as quoted strings, each short enough to be a token of sendmail's. sendmail puts them together as they
/// are: the blank between two stands in the first.
fn quoted(text: &str) -> String {
    let mut out = String::from('"');
    let mut length = 0;
    for word in text.split_inclusive(' ') {
        if length > 0 && length + word.len() > MAX_TOKEN {
            out.push_str("\" \"");
            length = 0;
        }
        // Neither can stand within a quoted string unharmed.
        out.extend(word.chars().map(|c| match c {
            '"' => '\'',
            '\\' => '/',
            c => c,
        }));
        length += word.len();
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::reply::Refusal;
    use crate::policy::requirement::Requirement;

    #[test]
    fn a_netstring_may_come_in_any_pieces() {
        let whole = b"5:a,b:c,3:xyz,";
        for cut in 0..8 {
            assert_eq!(netstring(&whole[..cut]), Ok(None), "{cut}");
        }
        assert_eq!(netstring(whole), Ok(Some((b"a,b:c".as_slice(), 8))));
        assert_eq!(netstring(&whole[8..]), Ok(Some((b"xyz".as_slice(), 6))));
        assert_eq!(netstring(b"0:,"), Ok(Some((b"".as_slice(), 3))));
        for bad in [b":a,".as_slice(), b"x", b"1:ab", b"-1:", b" 1:a,", b"1 :a,"] {
            assert_eq!(netstring(bad), Err(Fault::NotANetstring), "{bad:?}");
        }
        assert_eq!(netstring(b"999999:"), Err(Fault::TooLarge));
        assert_eq!(netstring(b"99999:"), Err(Fault::TooLarge));
        assert_eq!(netstring(b"00005"), Ok(None));
    }

    fn key(fields: &[&[u8]]) -> Vec<u8> {
        [b"encr_milter ".as_slice(), &fields.join(&SEPARATOR)].concat()
    }

    const SERVER: [&[u8]; 13] = [
        b"server",
        b"mail.example.org",
        b"4AM1",
        b"mx.partner.example",
        b"192.0.2.7",
        b"OK",
        b"TLSv1.3",
        b"TLS_AES_128_GCM_SHA256",
        b"128",
        b"",
        b"Rig+20CA",
        b"",
        b"end",
    ];

    #[test]
    fn a_request_is_what_the_snippet_asks() {
        let content = key(&SERVER);
        let request = Request::parse(&content).unwrap();
        let told = request.told();
        assert_eq!((&request.recipient, request.has_names), (&None, false));
        assert_eq!(
            (told.peer_name, told.cipher_bits),
            (Some(b"mx.partner.example".as_slice()), Some(b"128".as_slice()))
        );
        assert_eq!((told.cn_subject, told.cert_subject), (Some(b"Rig+20CA".as_slice()), None));

        let mut fields = SERVER;
        (fields[0], fields[11]) = (b"rcpt", b"a b@x\x7f\x9by\x7f\x7f");
        let content = key(&[&fields[..12], &[b"/CN=i", b"", b"end"]].concat());
        let request = Request::parse(&content).unwrap();
        assert_eq!(request.recipient.as_deref(), Some(b"a b@x\x9by\x7f".as_slice()));
        let told = request.told();
        assert_eq!((told.cert_issuer, told.cert_subject), (Some(b"/CN=i".as_slice()), Some(b"".as_slice())));
        assert!(request.has_names);
    }

    #[test]
    fn what_was_cut_is_not_told() {
        let names: [&[u8]; 3] = [b"/CN=issuer", b"/CN=subject", b"end"];
        let whole = key(&[&SERVER[..12], &names].concat());
        let cut = |behind: usize| whole[..whole.len() - behind].to_vec();
        for (content, issuer, subject) in
            [(cut(1), true, true), (cut(4), true, false), (cut(8), true, false), (cut(20), false, false)]
        {
            let request = Request::parse(&content).unwrap();
            assert!(request.has_names, "asked again for ever");
            let told = request.told();
            assert_eq!((told.cert_issuer.is_some(), told.cert_subject.is_some()), (issuer, subject));
        }
        // A recipient that was cut is another one.
        let short = key(&SERVER);
        assert_eq!(Request::parse(&short[..short.len() - 4]), None);
    }

    #[test]
    fn what_the_snippet_does_not_ask_is_not_understood() {
        let mut other = SERVER;
        other[0] = b"client";
        for content in [
            b"".to_vec(),
            b"encr_milter".to_vec(),
            b"encr_milter x".to_vec(),
            key(&SERVER[..12]),
            key(&other),
        ] {
            assert_eq!(Request::parse(&content), None, "{content:?}");
        }
    }

    #[test]
    fn an_answer_is_quoted_in_pieces_that_sendmail_takes() {
        let requirement = Requirement::default();
        let long = "x".repeat(150);
        let reason = format!("a \"b\" c\\d {long}");
        let contact = "https://mail.example.org/tls ".repeat(6);
        let refusal = Refusal {
            reason: &reason,
            requirement: &requirement,
            plaintext: false,
            rule: "partner",
            contact: Some(&contact),
        };
        let mut out = Vec::new();
        Answer::Refuse(&Reply::tempfail(refusal)).write(&mut out);
        let (content, length) = netstring(&out).unwrap().unwrap();
        assert_eq!(length, out.len());
        let text = std::str::from_utf8(content).unwrap();
        assert!(text.starts_with("OK 454:4.7.0:\"a 'b' c/d x"), "{text}");
        assert!(text.split('"').all(|piece| piece.len() <= MAX_TOKEN), "{text}");
        assert!(text.ends_with('"') && text.matches('"').count().is_multiple_of(2), "{text}");

        let mut out = Vec::new();
        Answer::NotFound.write(&mut out);
        Answer::Names.write(&mut out);
        assert_eq!(out, b"9:NOTFOUND ,8:OK names,");
    }
}
