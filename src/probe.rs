//! A look at an SMTP server's TLS, as a client would have it: EHLO, STARTTLS, EHLO again, QUIT.
//!
//! Promises: sends no mail and names nobody. A server that hangs, trickles, floods, closes or lies is answered with a
//! [`Fault`] that says so; what it said is shown escaped and cut. Few connections: one for what any client gets, and,
//! where wished, one for each version and strength that is not known from the others.
//! Must not: judge by a policy, or print. Who asked does.

pub mod fault;
pub mod meaning;
pub mod smtp;
pub mod target;
pub mod tls;

use fault::{Fault, Step};
use serde::Serialize;
use smtp::Conversation;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use tls::{Certificate, Objections, Offer, Session, Strength, VERSIONS};

/// How to look.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The name that EHLO gives.
    pub helo: String,
    /// How long each step may take.
    pub timeout: Duration,
    /// The certificates to trust, as PEM; the system's where there is none.
    pub ca: Option<PathBuf>,
    /// Whether to try each version and strength by a connection of its own.
    pub thorough: bool,
}

/// How far STARTTLS got.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Starttls {
    /// The conversation did not get there.
    #[default]
    NotAsked,
    /// EHLO does not name it.
    NotOffered,
    /// It is offered, and answered with a refusal.
    Refused,
    /// The handshake failed.
    Failed,
    /// There is a session.
    Works,
}

/// What came of looking at one host.
#[derive(Debug, Default, Serialize)]
pub struct Look {
    /// The host, as it was asked for; the name that the certificate is held against.
    pub host: String,
    /// Its preference among the hosts of a domain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preference: Option<u16>,
    /// The address that answered.
    pub address: Option<SocketAddr>,
    /// What it says first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub greeting: Option<String>,
    /// What it offers in the clear.
    pub extensions: Vec<String>,
    /// How far STARTTLS got.
    pub starttls: Starttls,
    /// What it answered to STARTTLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub starttls_reply: Option<String>,
    /// What any client of today gets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<Session>,
    /// Its certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<Certificate>,
    /// What it offers within TLS.
    pub extensions_within_tls: Vec<String>,
    /// What else it would accept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accepts: Option<Accepts>,
    /// What is odd.
    pub notes: Vec<String>,
    /// Why the look ended before its end.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "fault_record")]
    pub fault: Option<Fault>,
}

fn fault_record<S: serde::Serializer>(fault: &Option<Fault>, serializer: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Told {
        code: &'static str,
        message: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        next_step: Option<&'static str>,
    }
    let told = fault.as_ref().map(|fault| Told {
        code: fault.code(),
        message: fault.to_string(),
        next_step: fault.next_step(),
    });
    told.serialize(serializer)
}

/// What a server would accept, were it all that is offered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Accepts {
    /// Protocol versions, the oldest first.
    pub versions: Vec<Tried>,
    /// Strengths, the weakest first.
    pub strengths: Vec<Tried>,
    /// Why not all were tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended: Option<String>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Tried {
    /// What was offered.
    pub offered: &'static str,
    /// What came of it.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// What came of offering something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "outcome")]
pub enum Outcome {
    /// The server took it.
    Accepted {
        /// The version it chose.
        tls_version: String,
        /// The cipher it chose.
        cipher: String,
        /// Its bits.
        cipher_bits: u16,
    },
    /// The server did not.
    Declined {
        /// In OpenSSL's words.
        why: String,
    },
    /// This machine's OpenSSL has nothing of the kind: what the server would do is not known.
    NotTestable,
}

impl Outcome {
    fn of(session: &Session) -> Self {
        Self::Accepted {
            tls_version: session.tls_version.clone(),
            cipher: session.cipher.clone(),
            cipher_bits: session.cipher_bits,
        }
    }

    /// The bits, where the server took it.
    pub fn bits(&self) -> Option<u16> {
        match self {
            Self::Accepted { cipher_bits, .. } => Some(*cipher_bits),
            Self::Declined { .. } | Self::NotTestable => None,
        }
    }
}

impl Accepts {
    /// The fewest and the most bits of a session that came about.
    pub fn bits(&self) -> Option<(u16, u16)> {
        let all = || self.versions.iter().chain(&self.strengths).filter_map(|tried| tried.outcome.bits());
        Some((all().min()?, all().max()?))
    }

    /// The newest version of a session that came about.
    pub fn newest(&self) -> Option<&'static str> {
        self.versions.iter().rfind(|tried| tried.outcome.bits().is_some()).map(|tried| tried.offered)
    }
}

/// Looks at a host at these addresses, of which the first that answers counts.
pub fn look(host: &str, addresses: &[SocketAddr], settings: &Settings) -> Look {
    let mut look = Look { host: host.to_owned(), ..Look::default() };
    if let Err(fault) = converse(&mut look, addresses, settings) {
        look.fault = Some(fault);
    }
    let Some(address) = look.address else { return look };
    // A server that is merely old is not to be taken for one without TLS.
    if matches!(look.fault, Some(Fault::Handshake(_)))
        && let Ok(Some((session, certificate))) = attempt(address, host, Offer::Everything, settings)
    {
        look.notes.push(format!(
            "with the usual settings of this machine's OpenSSL there is no session ({}): what follows took old versions \
             and weak ciphers",
            look.fault.take().map(|fault| fault.to_string()).unwrap_or_default()
        ));
        look.starttls = Starttls::Works;
        (look.session, look.certificate) = (Some(session), certificate);
    }
    if settings.thorough && matches!(look.starttls, Starttls::Works | Starttls::Failed) {
        look.accepts = Some(accepts(&look, address, settings));
    }
    look.notes.extend(without_encryption(&look));
    look
}

/// The one conversation that any client would have.
fn converse(look: &mut Look, addresses: &[SocketAddr], settings: &Settings) -> Result<(), Fault> {
    let mut conversation = Conversation::open(addresses, settings.timeout)?;
    look.address = Some(conversation.peer);
    look.greeting = Some(conversation.greeting()?.shown());
    let hello = conversation.say(Step::Ehlo, &format!("EHLO {}", settings.helo))?;
    if !hello.is_positive() {
        // 500 or 502: a server from before 1995, or a proxy that acts as one. Others refuse us.
        if !matches!(hello.code, 500 | 502) {
            return Err(Fault::Refused(Step::Ehlo, hello.shown()));
        }
        look.notes.push(format!("it knows no EHLO, and so no STARTTLS: {}", hello.shown()));
        let hello = conversation.say(Step::Helo, &format!("HELO {}", settings.helo))?;
        if !hello.is_positive() {
            return Err(Fault::Refused(Step::Helo, hello.shown()));
        }
    }
    look.extensions = hello.extensions();
    look.starttls = Starttls::NotOffered;
    if !offers_starttls(&look.extensions) {
        if look.extensions.iter().any(|name| name.len() == 8 && name.bytes().all(|b| b == b'X')) {
            look.notes.push(
                "a firewall on the way seems to strike STARTTLS out (XXXXXXXX in its place): who is that?"
                    .to_owned(),
            );
        }
        conversation.quit();
        return Ok(());
    }
    let reply = conversation.say(Step::Starttls, "STARTTLS")?;
    look.starttls_reply = Some(reply.shown());
    if reply.code != 220 {
        look.starttls = Starttls::Refused;
        conversation.quit();
        return Ok(());
    }
    look.starttls = Starttls::Failed;
    let objections = Objections::default();
    let Some(ssl) = tls::client(Offer::Usual, &look.host, settings.ca.as_deref(), &objections)? else {
        return Ok(());
    };
    conversation.handshake(ssl)?;
    look.starttls = Starttls::Works;
    if let Some(ssl) = conversation.tls() {
        look.session = tls::session(ssl, Offer::Usual);
        look.certificate = tls::certificate(ssl, &objections);
    }
    // What was negotiated is known, and stays so; but a server that serves nobody within TLS takes no mail there.
    let reply = conversation.say(Step::EhloAgain, &format!("EHLO {}", settings.helo))?;
    if !reply.is_positive() {
        conversation.quit();
        return Err(Fault::Refused(Step::EhloAgain, reply.shown()));
    }
    look.extensions_within_tls = reply.extensions();
    if offers_starttls(&look.extensions_within_tls) {
        look.notes.push("it offers STARTTLS within TLS again (RFC 3207 section 4.2 forbids it)".to_owned());
    }
    conversation.quit();
    Ok(())
}

/// Encryption that is none: as the session that any client gets, or where a client asks for it.
fn without_encryption(look: &Look) -> Option<String> {
    let is_null = |tried: &Tried| tried.outcome.bits() == Some(0);
    if look.session.as_ref().is_some_and(|session| session.cipher_bits == 0) {
        return Some(
            "the cipher does not encrypt (NULL): everybody on the way can read what goes over it, and every demand of \
             bits refuses it"
                .to_owned(),
        );
    }
    let mut all = look.accepts.iter().flat_map(|accepts| accepts.versions.iter().chain(&accepts.strengths));
    all.any(is_null).then(|| {
        "it takes a cipher that does not encrypt (NULL) from a client that offers no other: its list of ciphers should \
         have no eNULL"
            .to_owned()
    })
}

fn offers_starttls(extensions: &[String]) -> bool {
    let first = |line: &String| line.split_ascii_whitespace().next().map(str::to_ascii_uppercase);
    extensions.iter().any(|line| first(line).as_deref() == Some("STARTTLS"))
}

type Negotiated = (Session, Option<Certificate>);

/// One more connection, with another offer. Nothing where this OpenSSL cannot make it.
fn attempt(
    address: SocketAddr,
    host: &str,
    offer: Offer,
    settings: &Settings,
) -> Result<Option<Negotiated>, Fault> {
    let objections = Objections::default();
    let Some(ssl) = tls::client(offer, host, settings.ca.as_deref(), &objections)? else { return Ok(None) };
    let mut conversation = Conversation::open(&[address], settings.timeout)?;
    conversation.greeting()?;
    for (step, line) in
        [(Step::Ehlo, format!("EHLO {}", settings.helo)), (Step::Starttls, "STARTTLS".to_owned())]
    {
        let reply = conversation.say(step, &line)?;
        if !reply.is_positive() {
            return Err(Fault::Refused(step, reply.shown()));
        }
    }
    conversation.handshake(ssl)?;
    let negotiated = conversation
        .tls()
        .and_then(|ssl| Some((tls::session(ssl, offer)?, tls::certificate(ssl, &objections))));
    conversation.quit();
    Ok(negotiated)
}

/// Tries what is not known yet. Ends where the server has had enough of us.
fn accepts(look: &Look, address: SocketAddr, settings: &Settings) -> Accepts {
    let mut accepts = Accepts::default();
    let mut known: Vec<Session> = look.session.iter().cloned().collect();
    let try_one = |known: &[Session], offer, is_it: &dyn Fn(&Session) -> bool| {
        if let Some(session) = known.iter().find(|session| is_it(session)) {
            return Ok((Outcome::of(session), None));
        }
        match attempt(address, &look.host, offer, settings) {
            Ok(Some((session, _))) => Ok((Outcome::of(&session), Some(session))),
            // A server that does not want it may say so by an alert, or by closing.
            Err(Fault::Handshake(why)) => Ok((Outcome::Declined { why }, None)),
            Ok(None) | Err(Fault::Setup(_)) => Ok((Outcome::NotTestable, None)),
            Err(fault) => Err(fault.to_string()),
        }
    };
    for (name, version) in VERSIONS {
        match try_one(&known, Offer::Version(version), &|session| session.tls_version == name) {
            Ok((outcome, session)) => {
                known.extend(session);
                accepts.versions.push(Tried { offered: name, outcome });
            }
            Err(why) => return Accepts { ended: Some(why), ..accepts },
        }
    }
    for strength in Strength::ALL {
        match try_one(&known, Offer::Strength(strength), &|session| strength.has(session.cipher_bits)) {
            Ok((outcome, session)) => {
                known.extend(session);
                accepts.strengths.push(Tried { offered: strength.as_str(), outcome });
            }
            Err(why) => return Accepts { ended: Some(why), ..accepts },
        }
    }
    accepts
}

/// What came of a message that was begun and taken back.
#[derive(Debug)]
pub struct Begun {
    /// The session in which it was begun; nothing in the clear.
    pub session: Option<Session>,
    /// What was answered to MAIL.
    pub mail: smtp::Reply,
}

/// Begins a message with the best session that is to be had, and takes it back before a recipient is named.
pub fn begin_and_take_back(
    host: &str,
    addresses: &[SocketAddr],
    sender: &str,
    settings: &Settings,
) -> Result<Begun, Fault> {
    let mut conversation = Conversation::open(addresses, settings.timeout)?;
    conversation.greeting()?;
    let ehlo = format!("EHLO {}", settings.helo);
    let hello = conversation.say(Step::Ehlo, &ehlo)?;
    if !hello.is_positive() {
        return Err(Fault::Refused(Step::Ehlo, hello.shown()));
    }
    let mut session = None;
    if offers_starttls(&hello.extensions()) && conversation.say(Step::Starttls, "STARTTLS")?.code == 220 {
        let objections = Objections::default();
        if let Some(ssl) = tls::client(Offer::Everything, host, None, &objections)? {
            conversation.handshake(ssl)?;
        }
        session = conversation.tls().and_then(|ssl| tls::session(ssl, Offer::Everything));
        conversation.say(Step::EhloAgain, &ehlo)?;
    }
    let mail = conversation.say(Step::Mail, &format!("MAIL FROM:<{sender}>"))?;
    if mail.is_positive() {
        conversation.say(Step::Rset, "RSET")?;
    }
    conversation.quit();
    Ok(Begun { session, mail })
}
