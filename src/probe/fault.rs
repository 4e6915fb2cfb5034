//! What can go wrong while a server is looked at, in words for an administrator and with a code for a script.
//!
//! Promises: what the server said is in it escaped and cut; each says in which step it happened.

use openssl::error::ErrorStack;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

/// A step of the conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The first line that a server says.
    Greeting,
    /// EHLO.
    Ehlo,
    /// HELO, of a server that knows no EHLO.
    Helo,
    /// STARTTLS.
    Starttls,
    /// The TLS handshake.
    Handshake,
    /// EHLO once more, within TLS.
    EhloAgain,
    /// MAIL, where a message is begun and taken back.
    Mail,
    /// RSET.
    Rset,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Greeting => "the greeting",
            Self::Ehlo => "EHLO",
            Self::Helo => "HELO",
            Self::Starttls => "STARTTLS",
            Self::Handshake => "the TLS handshake",
            Self::EhloAgain => "EHLO within TLS",
            Self::Mail => "MAIL",
            Self::Rset => "RSET",
        })
    }
}

/// Why a look ended before its end.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// No address.
    #[error("{0} has no address{1}: {2}")]
    NoAddress(String, &'static str, String),
    /// No address of it answers.
    #[error("no connection: {all}", all = list(.0))]
    Unreachable(Vec<(SocketAddr, io::Error)>),
    /// An answer did not come, or not to its end.
    #[error("no whole answer at {0} within {secs} s", secs = .1.as_secs())]
    TimedOut(Step, Duration),
    /// The server ended the connection.
    #[error("the server closed the connection at {0}")]
    Closed(Step),
    /// The connection broke.
    #[error("the connection broke at {0}: {1}")]
    Broken(Step, io::Error),
    /// It serves nobody, or not us.
    #[error("the server refuses at {0}: {1}")]
    Refused(Step, String),
    /// What it said is no reply of SMTP.
    #[error("what the server said at {0} is no SMTP reply: {1}")]
    NotSmtp(Step, String),
    /// It said more than a reply may have.
    #[error("the server said more at {0} than a reply may have ({1} bytes, or a line of {2})")]
    TooMuch(Step, usize, usize),
    /// It said something after its 220 to STARTTLS, in the clear.
    #[error(
        "the server said something in the clear behind its 220 to STARTTLS: {0}; a client that takes such bytes for a \
         part of the TLS session can be lied to by anybody on the way"
    )]
    Injected(String),
    /// The handshake failed.
    #[error("the TLS handshake failed: {0}")]
    Handshake(String),
    /// Our own side of TLS.
    #[error("cannot set up TLS: {0}")]
    Setup(#[from] ErrorStack),
}

/// What kind of fault it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Nobody was reached, or nobody who serves us.
    NotReached,
    /// What was reached does not keep to the protocol.
    Protocol,
    /// It is ours.
    Own,
}

impl Fault {
    /// A stable word for it.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoAddress(..) => "no-address",
            Self::Unreachable(_) => "unreachable",
            Self::TimedOut(..) => "timed-out",
            Self::Closed(_) => "closed",
            Self::Broken(..) => "broken",
            Self::Refused(..) => "refused",
            Self::NotSmtp(..) => "not-smtp",
            Self::TooMuch(..) => "too-much",
            Self::Injected(_) => "injected",
            Self::Handshake(_) => "handshake",
            Self::Setup(_) => "setup",
        }
    }

    /// What kind it is.
    pub fn kind(&self) -> Kind {
        match self {
            Self::NoAddress(..)
            | Self::Unreachable(_)
            | Self::TimedOut(..)
            | Self::Closed(_)
            | Self::Broken(..)
            | Self::Refused(..) => Kind::NotReached,
            Self::NotSmtp(..) | Self::TooMuch(..) | Self::Injected(_) | Self::Handshake(_) => Kind::Protocol,
            Self::Setup(_) => Kind::Own,
        }
    }

    /// What to look at next.
    pub fn next_step(&self) -> Option<&'static str> {
        Some(match self {
            Self::NoAddress(..) => "is the name right? `--mx` looks for the hosts of a mail domain",
            Self::Unreachable(_) => {
                "is it the right port, and may this host reach it? Many networks let nobody out to port 25"
            }
            Self::TimedOut(Step::Greeting, _) => {
                "a port that speaks TLS from its first byte (465) waits for us: STARTTLS belongs to 25 and 587; some \
                 servers greet late on purpose: `--timeout 300`"
            }
            // With TLSv1.3 a server that demands a certificate of us says so only now.
            Self::Closed(Step::EhloAgain) | Self::Broken(Step::EhloAgain, _) => {
                "perhaps it demands a certificate of its clients; its log tells"
            }
            Self::TimedOut(..) => "try again with a longer `--timeout`",
            Self::Refused(..) => {
                "it may know this host's address, or the name that we gave, for no mail server's: `--helo`, or ask \
                 from your mail server"
            }
            Self::NotSmtp(..) => "is this an SMTP server's port?",
            Self::Closed(_) | Self::Broken(..) => "try again; a firewall between the two may cut connections",
            Self::Handshake(_) | Self::TooMuch(..) | Self::Injected(_) | Self::Setup(_) => return None,
        })
    }
}

fn list(tried: &[(SocketAddr, io::Error)]) -> String {
    tried.iter().map(|(address, error)| format!("{address}: {error}")).collect::<Vec<_>>().join("; ")
}
