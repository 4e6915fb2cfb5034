//! What the MTA told, typed.
//!
//! The hard part of the whole: to be right about what was told, what was told to be absent, and what was
//! not told at all. sendmail leaves every TLS macro out where a session is in the clear, so absence alone
//! says nothing; but a macro that we asked for and that every SMTP session has (`{client_addr}`) has come,
//! or has not. Promises: nothing that an MTA or a client can write makes this fail; what makes no sense is
//! taken as not told, for a misconfiguration must never become an outage.

use super::domain::{self, NameBuffer};
use super::network::parse_address;
use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr};

/// More bits than any cipher has; what is beyond is not a key length, and taken as not told.
pub const MAX_BITS: u16 = 1024;

/// Which way the mail goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// To us: the peer is the SMTP client.
    #[default]
    Inbound,
    /// From us: the peer is the SMTP server.
    Outbound,
}

impl Direction {
    /// The word for it, as in the record.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
        }
    }
}

/// Whether there is TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsState {
    /// The MTA did not say.
    #[default]
    NotTold,
    /// It said that there is none.
    Plaintext,
    /// There is.
    Tls,
}

/// What is known of the TLS session. An absent value was not told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFacts<'a> {
    /// Whether there is one.
    pub state: TlsState,
    /// `{tls_version}`
    pub version: Option<Cow<'a, str>>,
    /// `{cipher}`
    pub cipher: Option<Cow<'a, str>>,
    /// `{cipher_bits}`, the effective key length; 0 in the clear.
    pub cipher_bits: Option<u16>,
    /// `{verify}`
    pub verify: Option<Cow<'a, str>>,
    /// `{cn_subject}`; present but empty where no certificate came.
    pub cn_subject: Option<Cow<'a, str>>,
    /// `{cert_subject}`; likewise.
    pub cert_subject: Option<Cow<'a, str>>,
    /// `{cert_issuer}`; likewise.
    pub cert_issuer: Option<Cow<'a, str>>,
}

impl<'a> TlsFacts<'a> {
    fn of(direction: Direction, told: &Told<'a>, tells: bool) -> Self {
        let [version, cipher, bits_told, verify] =
            [told.tls_version, told.cipher, told.cipher_bits, told.verify].map(present);
        let bits = bits_told.as_deref().and_then(parse_bits);
        let encrypted = version.is_some() || cipher.is_some() || bits.is_some_and(|bits| bits > 0);
        let state = match verify.as_deref() {
            _ if encrypted => TlsState::Tls,
            Some(verify) if says_tls(direction, verify) => TlsState::Tls,
            Some(_) => TlsState::Plaintext,
            // Something was told, and it makes no sense: neither TLS nor none.
            None if bits_told.is_some() && bits.is_none() => TlsState::NotTold,
            None if tells || bits.is_some() => TlsState::Plaintext,
            None => TlsState::NotTold,
        };
        let cipher_bits = match state {
            TlsState::Tls => bits,
            TlsState::Plaintext => Some(0),
            TlsState::NotTold => None,
        };
        Self {
            state,
            version,
            cipher,
            cipher_bits,
            verify,
            cn_subject: told.cn_subject.map(text),
            cert_subject: told.cert_subject.map(text),
            cert_issuer: told.cert_issuer.map(text),
        }
    }

    /// Whether `{verify}` says that the other side presented no certificate.
    pub fn no_certificate(&self) -> bool {
        let verify = self.verify.as_deref();
        verify.is_some_and(|verify| {
            says_no_tls(verify) || ["NO", "NOT"].iter().any(|word| word.eq_ignore_ascii_case(verify))
        })
    }
}

/// All that is known of a connection at one moment of it. An absent value was not told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts<'a> {
    /// Which way the mail goes, and so who the peer is.
    pub direction: Direction,
    /// `{j}`: the MTA's own name.
    pub host: Option<Cow<'a, str>>,
    /// `i`: the message's queue id.
    pub queue_id: Option<Cow<'a, str>>,
    /// `{client_name}`, `{server_name}`: `[address]` where there is no name.
    pub peer_name: Option<Cow<'a, str>>,
    /// `{client_addr}`, `{server_addr}`, as told.
    pub peer_addr: Option<Cow<'a, str>>,
    /// The same, if it is an address.
    pub peer_ip: Option<IpAddr>,
    /// `{client_resolve}`: the name counts only where this is OK.
    pub peer_resolve: Option<Cow<'a, str>>,
    /// Who authenticated (SMTP AUTH): `{auth_authen}`, or the mechanism where that is empty.
    pub auth: Option<Cow<'a, str>>,
    /// `{auth_ssf}`: key bits of a SASL security layer.
    pub auth_ssf: Option<u16>,
    /// The TLS session.
    pub tls: TlsFacts<'a>,
}

/// The strings that an MTA told of a connection, raw. Which macro is which is known to the milter and to the
/// socket map alone.
#[derive(Clone, Copy, Debug, Default)]
pub struct Told<'a> {
    /// `{j}`
    pub host: Option<&'a [u8]>,
    /// `i`
    pub queue_id: Option<&'a [u8]>,
    /// `v`: which MTA it is; sendmail tells a version, others a name before it.
    pub mta: Option<&'a [u8]>,
    /// `{client_name}`, `{server_name}`
    pub peer_name: Option<&'a [u8]>,
    /// `{client_addr}`, `{server_addr}`
    pub peer_addr: Option<&'a [u8]>,
    /// `{client_resolve}`
    pub peer_resolve: Option<&'a [u8]>,
    /// `{auth_type}` of a client
    pub auth_type: Option<&'a [u8]>,
    /// `{auth_authen}` of a client
    pub auth_authen: Option<&'a [u8]>,
    /// `{auth_ssf}`
    pub auth_ssf: Option<&'a [u8]>,
    /// `{tls_version}`
    pub tls_version: Option<&'a [u8]>,
    /// `{cipher}`
    pub cipher: Option<&'a [u8]>,
    /// `{cipher_bits}`
    pub cipher_bits: Option<&'a [u8]>,
    /// `{verify}`
    pub verify: Option<&'a [u8]>,
    /// `{cn_subject}`
    pub cn_subject: Option<&'a [u8]>,
    /// `{cert_subject}`
    pub cert_subject: Option<&'a [u8]>,
    /// `{cert_issuer}`
    pub cert_issuer: Option<&'a [u8]>,
}

impl<'a> Facts<'a> {
    /// Makes facts of what an MTA told at MAIL. Allocates only where bytes are no UTF-8.
    pub fn inbound(told: &Told<'a>) -> Self {
        // A macro that every session has: where it has come, those that have not say that there is no TLS.
        let tells = told.peer_addr.is_some_and(|addr| !addr.is_empty());
        Self::of(Direction::Inbound, told, tells)
    }

    /// Makes facts of what an MTA told of a delivery, all of it at once.
    pub fn outbound(told: &Told<'a>) -> Self {
        Self::of(Direction::Outbound, told, true)
    }

    /// `tells`: whether the MTA tells us things at all, so that what is missing is not there.
    fn of(direction: Direction, told: &Told<'a>, tells: bool) -> Self {
        let peer_addr = present(told.peer_addr);
        Self {
            direction,
            host: present(told.host),
            queue_id: present(told.queue_id),
            peer_name: present(told.peer_name),
            peer_ip: peer_addr.as_deref().and_then(parse_address),
            peer_addr,
            peer_resolve: present(told.peer_resolve),
            auth: present(told.auth_authen).or_else(|| present(told.auth_type)),
            auth_ssf: present(told.auth_ssf).as_deref().and_then(parse_bits),
            tls: TlsFacts::of(direction, told, tells),
        }
    }

    /// `max(cipher_bits, auth_ssf)`, as sendmail reckons; nothing where the MTA did not tell.
    pub fn effective_bits(&self) -> Option<u16> {
        let bits = match self.tls.state {
            TlsState::Plaintext => 0,
            TlsState::Tls | TlsState::NotTold => self.tls.cipher_bits?,
        };
        Some(bits.max(self.auth_ssf.unwrap_or(0)))
    }

    /// The peer's name, if it may be believed: a client's only where the MTA confirmed it (forward and
    /// back); a server's is the one that we looked up ourselves.
    pub fn confirmed_name(&self) -> Option<&str> {
        let confirmed = self.direction == Direction::Outbound || self.peer_resolve.as_deref() == Some("OK");
        self.peer_name.as_deref().filter(|name| confirmed && !name.starts_with('['))
    }

    /// The part of the peer's name that somebody registered, if the name may be believed.
    pub fn peer_domain(&self) -> Option<String> {
        let mut buffer = NameBuffer::default();
        Some(domain::registrable(buffer.normalised(self.confirmed_name()?)?).to_owned())
    }

    /// The peer's address to look up: sendmail tells `0` of a client on its standard input (`-bs`), which
    /// is a process of this host.
    pub fn lookup_ip(&self) -> Option<IpAddr> {
        match self.peer_addr.as_deref() {
            Some("0") => Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            _ => self.peer_ip,
        }
    }

    /// Whether the MTA told anything that says whom and what we are to judge.
    pub fn told_anything(&self) -> bool {
        self.peer_addr.is_some() || self.peer_name.is_some() || self.tls.state != TlsState::NotTold
    }
}

/// A value that has come and is not empty: sendmail leaves a macro out where others send it empty.
fn present(told: Option<&[u8]>) -> Option<Cow<'_, str>> {
    told.filter(|bytes| !bytes.is_empty()).map(text)
}

/// Bytes as text. What is no UTF-8 is written `\xNN`: it can be read in the log, and matches no key.
pub fn text(bytes: &[u8]) -> Cow<'_, str> {
    use std::fmt::Write;
    if let Ok(text) = std::str::from_utf8(bytes) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(bytes.len() + 8);
    for chunk in bytes.utf8_chunks() {
        out.push_str(chunk.valid());
        for byte in chunk.invalid() {
            // Writing to a String cannot fail.
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    Cow::Owned(out)
}

/// Whether a value of `{verify}` says that there is no TLS: the other side did not offer it, or we did not
/// want it.
pub fn says_no_tls(verify: &str) -> bool {
    ["NONE", "CLEAR"].iter().any(|word| word.eq_ignore_ascii_case(verify))
}

/// Whether a value of `{verify}` says that there is TLS, or a handshake that failed. Of a client's session any
/// word but those of [`says_no_tls`] does. Of our own only those that a handshake ends with: a server that puts
/// STARTTLS off (`TEMP`) is spoken to in the clear.
pub fn says_tls(direction: Direction, verify: &str) -> bool {
    match direction {
        Direction::Inbound => !verify.is_empty() && !says_no_tls(verify),
        Direction::Outbound => {
            let ended = ["OK", "TRUSTED", "FAIL", "NO", "NOT"];
            ended.iter().any(|word| word.eq_ignore_ascii_case(verify)) || handshake_failure(verify).is_some()
        }
    }
}

/// Our own word in the place of `{verify}`, for a session of which is known that no certificate was verified, and not
/// why. sendmail always knows.
pub const UNVERIFIED: &str = "UNVERIFIED";

/// What sendmail says of a handshake that failed, by the value of `{verify}`; it compares in any case.
pub fn handshake_failure(verify: &str) -> Option<&'static str> {
    const WORDS: [(&str, &str); 4] = [
        ("SOFTWARE", "TLS handshake failed."),
        ("PROTOCOL", "STARTTLS failed."),
        ("CONFIG", "STARTTLS temporarily not possible."),
        ("DANE_FAIL", "DANE check failed."),
    ];
    WORDS.iter().find(|(word, _)| word.eq_ignore_ascii_case(verify)).map(|(_, words)| *words)
}

/// A number of key bits, if it is one that makes sense.
pub fn parse_bits(text: &str) -> Option<u16> {
    let digits = (1..=5).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    let bits: u16 = if digits { text.parse().ok()? } else { return None };
    (bits <= MAX_BITS).then_some(bits)
}

/// An address of MAIL or RCPT without its angle brackets. The null sender `<>` comes out empty; an
/// old source route (`<@a,@b:user@dom>`, RFC 5321 appendix C) is left out. What comes out has nothing more
/// to take off, however often a client has put it on: a record fed back names the same address.
pub fn bare_address(argument: &str) -> &str {
    // Most have nothing around them, or nothing any more.
    let is_bare = |text: &[u8]| match text {
        [first, .., last] => first.is_ascii_alphanumeric() && last.is_ascii_alphanumeric(),
        _ => false,
    };
    let mut address = argument;
    while !is_bare(address.as_bytes()) {
        let bare = address.trim();
        let bare = bare.strip_prefix('<').unwrap_or(bare);
        let bare = bare.strip_suffix('>').unwrap_or(bare);
        let routed = bare.starts_with('@').then(|| bare.split_once(':')).flatten();
        let bare = routed.map_or(bare, |(_, address)| address);
        if bare.len() == address.len() {
            return bare;
        }
        address = bare;
    }
    address
}

/// An address as it was told, without what is around it.
pub fn told_address(direction: Direction, address: &str) -> &str {
    match direction {
        Direction::Inbound => bare_address(address),
        Direction::Outbound => delivery_address(address),
    }
}

/// The address of a delivery without its angle brackets, where a person wrote them: an MTA tells it bare, quotes and
/// comments taken off, so that nothing in it may be read as either again.
fn delivery_address(address: &str) -> &str {
    address.strip_prefix('<').and_then(|address| address.strip_suffix('>')).unwrap_or(address)
}

/// A bare address as the MTA itself will take it, to compare: without comments, without blanks outside of
/// quotes (RFC 5322 section 3.2.2), without quotes and escapes (RFC 5321 section 4.1.2: they change no
/// mailbox). `user@partner.example(x)` is mail of partner.example, and `"user"` is user.
pub fn plain_address(address: &str) -> Cow<'_, str> {
    // All of it is looked at, so that many bytes can be at once.
    let is_odd = |byte| matches!(byte, b'(' | b' ' | b'\t' | b'"' | b'\\');
    if !address.bytes().fold(false, |odd, byte| odd | is_odd(byte)) {
        return Cow::Borrowed(address);
    }
    let mut out = String::with_capacity(address.len());
    let (mut quoted, mut depth, mut escaped) = (false, 0usize, false);
    for c in address.chars() {
        let plain = std::mem::take(&mut escaped);
        match c {
            '\\' if !plain => {
                escaped = true;
                continue;
            }
            '"' if !plain && depth == 0 => {
                quoted = !quoted;
                continue;
            }
            '(' if !plain && !quoted => depth += 1,
            ')' if !plain && !quoted && depth > 0 => {
                depth -= 1;
                continue;
            }
            ' ' | '\t' if !quoted && !plain => continue,
            _ => {}
        }
        if depth == 0 {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_blanks_are_no_part_of_an_address() {
        for (written, meant) in [
            ("user@partner.example", "user@partner.example"),
            ("user@partner.example(x)", "user@partner.example"),
            ("user@partner.example(@other.example (nested) )", "user@partner.example"),
            ("(a)user (b) @ partner . example", "user@partner.example"),
            ("\"a (b) c\"@partner.example", "a (b) c@partner.example"),
            ("\"a\\\"(b\"@partner.example", "a\"(b@partner.example"),
            ("\"user\"@partner.example", "user@partner.example"),
            ("us\\er@partner.example", "user@partner.example"),
            ("user@partner.example)", "user@partner.example)"),
        ] {
            assert_eq!(plain_address(written), meant, "{written}");
        }
    }

    fn told() -> Told<'static> {
        Told {
            peer_addr: Some(b"192.0.2.7"),
            peer_name: Some(b"mx.partner.example"),
            peer_resolve: Some(b"OK"),
            ..Told::default()
        }
    }

    #[test]
    fn absent_tls_macros_are_plaintext_only_beside_an_address() {
        assert_eq!(Facts::inbound(&told()).tls.state, TlsState::Plaintext);
        assert_eq!(Facts::inbound(&told()).effective_bits(), Some(0));
        let nothing = Facts::inbound(&Told::default());
        assert_eq!((nothing.tls.state, nothing.effective_bits()), (TlsState::NotTold, None));
        assert!(!nothing.told_anything());
    }

    #[test]
    fn an_empty_macro_is_an_absent_one() {
        let empty = Told { tls_version: Some(b""), cipher_bits: Some(b""), verify: Some(b""), ..told() };
        assert_eq!(Facts::inbound(&empty).tls.state, TlsState::Plaintext);
        let silent = Told { peer_addr: Some(b""), ..Told::default() };
        assert_eq!(Facts::inbound(&silent).tls.state, TlsState::NotTold);
    }

    #[test]
    fn bits_that_are_no_bits_are_not_told() {
        for bits in ["abc", "-1", "+5", "99999999999999999999", "1025", " 128", "12.8", "٣"] {
            let odd = Told { cipher_bits: Some(bits.as_bytes()), cipher: Some(b"X"), ..told() };
            let facts = Facts::inbound(&odd);
            assert_eq!((facts.tls.state, facts.effective_bits()), (TlsState::Tls, None), "{bits}");
            let alone = Told { cipher_bits: Some(bits.as_bytes()), ..told() };
            assert_eq!(Facts::inbound(&alone).effective_bits(), None, "{bits}");
        }
        let null_cipher = Told { cipher_bits: Some(b"0"), cipher: Some(b"NULL-SHA256"), ..told() };
        let facts = Facts::inbound(&null_cipher);
        assert_eq!((facts.tls.state, facts.effective_bits()), (TlsState::Tls, Some(0)));
    }

    #[test]
    fn only_a_confirmed_name_is_a_name() {
        for (name, resolve, confirmed) in [
            ("mx.partner.example", Some("OK"), true),
            ("mx.partner.example", Some("FORGED"), false),
            ("mx.partner.example", Some("TEMP"), false),
            ("mx.partner.example", None, false),
            ("[192.0.2.7]", Some("OK"), false),
        ] {
            let told =
                Told { peer_name: Some(name.as_bytes()), peer_resolve: resolve.map(str::as_bytes), ..told() };
            assert_eq!(Facts::inbound(&told).confirmed_name().is_some(), confirmed, "{name} {resolve:?}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_can_be_read_and_match_nothing() {
        assert_eq!(text(b"a\xffb\xc3\xa9"), "a\\xffb\u{e9}");
    }

    #[test]
    fn standard_input_is_this_host() {
        let local = Told { peer_addr: Some(b"0"), peer_name: Some(b"localhost"), ..Told::default() };
        let facts = Facts::inbound(&local);
        assert_eq!(facts.lookup_ip(), Some(IpAddr::V4(Ipv4Addr::LOCALHOST)));
        assert_eq!(facts.peer_addr.as_deref(), Some("0"));
    }

    #[test]
    fn addresses_lose_their_brackets_and_routes() {
        for (argument, bare) in [
            ("<a@b>", "a@b"),
            ("<>", ""),
            ("a@b", "a@b"),
            ("<@x,@y:a@b>", "a@b"),
            (" <a@b> ", "a@b"),
            ("<postmaster>", "postmaster"),
            ("<<a@b>>", "a@b"),
            ("<@x:@y: < a@b>>", "a@b"),
            ("<@a>", "@a"),
        ] {
            assert_eq!(bare_address(argument), bare, "{argument}");
        }
    }
}
