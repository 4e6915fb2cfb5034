//! What is known of one session, and the record of it.
//!
//! Promises: what the log does not say is not said: TLS of unknown strength has no number of bits, so that its verdict is
//! `unknown`; a name that was cut is absent.

use super::entry::{TlsEntry, Told};
use super::relay::{self, Client};
use super::scan::position;
use crate::policy::decide::Disposition;
use crate::policy::facts::{Direction, bare_address, parse_bits, text};
use crate::policy::record::Record;
use foldhash::fast::FixedState;
use jiff::Timestamp;
use std::borrow::Cow;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

/// `cert-subject=` and `cert-issuer=` are cut to so many bytes.
const NAME_CUT: usize = 256;
/// A common name within a subject.
const COMMON_NAME: &str = "/CN=";
/// `{verify}` where no certificate was asked for, or none came.
const NO_CERTIFICATE: [&str; 2] = ["NO", "NOT"];
/// `{auth_authen}` of somebody whose name the log does not tell.
const SOMEBODY: &str = "unknown";
/// So many ways to tell of a session are kept, each of so many bytes at the most.
const MAX_SUITES: usize = 256;
const MAX_TOLD: usize = 256;
/// The null sender, as the record writes it.
const NULL_SENDER: &str = "<>";

/// A TLS session, as its entries tell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tls {
    /// Version, `{verify}`, cipher, one below the other.
    words: Box<str>,
    /// From where to where in them.
    places: [(usize, usize); 3],
    bits: Option<u16>,
    names: Option<Box<Names>>,
}

/// What is told of sessions, where it is told in the same words: of ever so many there are a few.
#[derive(Debug, Default)]
pub(super) struct Suites(HashMap<Box<[u8]>, Arc<Tls>, FixedState>);

impl Suites {
    /// What this entry tells. The session that gets it may add to it, for itself.
    pub(super) fn tls(&mut self, entry: &TlsEntry<'_>) -> Arc<Tls> {
        if let Some(known) = self.0.get(entry.told) {
            return Arc::clone(known);
        }
        let tls = Arc::new(Tls::of(entry));
        if entry.told.len() <= MAX_TOLD {
            if self.0.len() >= MAX_SUITES {
                self.0.clear();
            }
            self.0.insert(entry.told.into(), Arc::clone(&tls));
        }
        tls
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Names {
    common: Option<Box<str>>,
    subject: Option<Box<str>>,
    issuer: Option<Box<str>>,
}

impl Tls {
    fn of(entry: &TlsEntry<'_>) -> Self {
        let [version, verify, cipher] = [entry.version, entry.verify, entry.cipher].map(text);
        let words = [version.as_ref(), verify.as_ref(), cipher.as_ref()].join("\n").into_boxed_str();
        let bits = std::str::from_utf8(entry.bits).ok().and_then(parse_bits);
        let mut ends = memchr::memchr_iter(b'\n', words.as_bytes()).chain([words.len()]);
        let mut start = 0;
        let places = std::array::from_fn(|_| {
            let end = ends.next().unwrap_or(words.len());
            let place = (start.min(end), end);
            start = end + 1;
            place
        });
        Self { words, places, bits, names: None }
    }

    /// Adds the names of the other side's certificate.
    pub(super) fn name(&mut self, subject: &[u8], issuer: &[u8]) {
        let whole = |name: &[u8]| (name.len() < NAME_CUT).then(|| text(name).into_owned().into_boxed_str());
        let (subject, issuer) = (whole(subject), whole(issuer));
        if self.verify().is_some_and(|verify| NO_CERTIFICATE.contains(&verify)) {
            return;
        }
        let common = subject.as_deref().and_then(common_name).map(Box::from);
        self.names = Some(Box::new(Names { common, subject, issuer }));
    }

    fn word(&self, place: usize) -> Option<&str> {
        let (start, end) = *self.places.get(place)?;
        self.words.get(start..end).filter(|word| !word.is_empty())
    }

    pub(super) fn verify(&self) -> Option<&str> {
        self.word(1)
    }
}

/// The common name in a subject, if there is one that can be told from the rest.
fn common_name(subject: &str) -> Option<&str> {
    if subject.is_empty() {
        return Some("");
    }
    let (_, name) = subject.split_once(COMMON_NAME)?;
    (!name.contains('/')).then_some(name)
}

/// What is known of how a session was encrypted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Known {
    /// Nothing.
    #[default]
    Nothing,
    /// It was not.
    Clear {
        /// `{verify}` of a session of ours.
        verify: Option<Box<str>>,
    },
    /// Its entry is there.
    Tls(Arc<Tls>),
    /// Only what a refusal tells.
    Told { verify: Option<Box<str>>, bits: Option<u16> },
}

impl Known {
    /// What a refusal tells. It says that there was TLS: with a number of bits, or by `{verify}`.
    pub(super) fn of(told: Told) -> Self {
        match told {
            Told { verify: None, bits: None | Some(0) } => Self::Nothing,
            Told { verify, bits } => Self::Told { verify: verify.map(Box::from), bits },
        }
    }
}

/// Who authenticated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Auth {
    who: Box<str>,
    ssf: Option<u16>,
}

impl Auth {
    pub(super) fn of(who: &[u8], mechanism: &[u8], bits: &[u8]) -> Self {
        let who = text(if who.is_empty() { mechanism } else { who }).into_owned().into_boxed_str();
        Self { who, ssf: std::str::from_utf8(bits).ok().and_then(parse_bits) }
    }

    /// The log tells only that somebody did.
    pub(super) fn of_somebody() -> Self {
        Self { who: SOMEBODY.into(), ssf: None }
    }
}

/// All that an inbound record is made of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Inbound<'r> {
    pub(super) at: Timestamp,
    pub(super) host: &'r str,
    pub(super) queue_id: Option<&'r str>,
    /// Nothing for a process of this host.
    pub(super) client: Option<Client<'r>>,
    pub(super) sender: Option<&'r str>,
    pub(super) known: &'r Known,
    pub(super) auth: Option<&'r Auth>,
    /// What sendmail's own TLS rules did.
    pub(super) done: Option<Disposition>,
}

impl Inbound<'_> {
    /// Gives the record; false for a process of this host, which has none.
    pub(super) fn tell(self, recipient: Option<&str>, emit: &mut impl FnMut(&Record<'_>)) -> bool {
        let Some(client) = self.client else { return false };
        let mut record = Record {
            ts: Some(self.at),
            host: Some(Cow::Borrowed(self.host)),
            queue_id: self.queue_id.map(Cow::Borrowed),
            direction: Direction::Inbound,
            client_name: Some(text(client.name)),
            client_addr: Some(standard(client.address, client.ip)),
            client_resolve: Some(Cow::Borrowed(client.resolve)),
            sender: self.sender.map(|sender| match bare_address(sender) {
                "" => Cow::Borrowed(NULL_SENDER),
                address => Cow::Borrowed(address),
            }),
            recipient: recipient.map(|recipient| Cow::Borrowed(bare_address(recipient))),
            auth: self.auth.map(|auth| Cow::Borrowed(&*auth.who)),
            auth_ssf: self.auth.and_then(|auth| auth.ssf),
            disposition: self.done,
            ..Record::default()
        };
        encryption(&mut record, self.known);
        // Given from where it was made: it is too long to be moved for each message.
        emit(&record);
        true
    }
}

/// All that an outbound record is made of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outbound<'r> {
    pub(super) at: Timestamp,
    pub(super) host: &'r str,
    pub(super) queue_id: &'r str,
    /// Nothing where it was cut.
    pub(super) server: Option<&'r [u8]>,
    pub(super) address: &'r [u8],
    pub(super) known: &'r Known,
    /// What sendmail's own TLS rules did.
    pub(super) done: Option<Disposition>,
}

impl<'r> Outbound<'r> {
    pub(super) fn record(self, recipient: Option<&'r [u8]>) -> Record<'r> {
        let mut record = Record {
            ts: Some(self.at),
            host: Some(Cow::Borrowed(self.host)),
            queue_id: Some(Cow::Borrowed(self.queue_id)),
            direction: Direction::Outbound,
            server_name: self.server.map(text),
            // Of a long one the end may be missing.
            server_addr: relay::address(self.address).map(|(address, ip)| standard(address, ip)),
            recipient: recipient.map(text),
            disposition: self.done,
            ..Record::default()
        };
        encryption(&mut record, self.known);
        record
    }
}

fn encryption<'r>(record: &mut Record<'r>, known: &'r Known) {
    let borrow = |text: &'r Option<Box<str>>| text.as_deref().map(Cow::Borrowed);
    match known {
        Known::Nothing => {}
        Known::Clear { verify } => {
            record.cipher_bits = Some(0);
            record.verify = borrow(verify);
        }
        Known::Told { verify, bits } => {
            record.cipher_bits = *bits;
            record.verify = borrow(verify);
        }
        Known::Tls(tls) => {
            let word = |place| tls.word(place).map(Cow::Borrowed);
            record.tls_version = word(0);
            record.verify = word(1);
            record.cipher = word(2);
            record.cipher_bits = tls.bits;
            if let Some(names) = tls.names.as_deref() {
                record.cn_subject = borrow(&names.common);
                record.cert_subject = borrow(&names.subject);
                record.cert_issuer = borrow(&names.issuer);
            }
        }
    }
}

/// An address in its standard form.
fn standard(address: &str, ip: IpAddr) -> Cow<'_, str> {
    // `::ffff:192.0.2.7` is an address of version 4.
    if ip.is_ipv6() || position(b':', address.as_bytes()).is_some() {
        return Cow::Owned(ip.to_string());
    }
    Cow::Borrowed(address)
}
